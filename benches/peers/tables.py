"""Medians over rounds, and ratios to a baseline within each round, as Markdown."""

import statistics

KNOWN = {"rate": ("calls/s", 0), "p50_ms": ("p50 ms", 2), "p99_ms": ("p99 ms", 2), "cpu_us": ("CPU µs a call", 1),
         "memory_idle_mib": ("MiB idle", 0), "memory_mib": ("MiB after", 0), "bytes_each": ("bytes each", 0),
         "top_rate": ("top calls/s", 0)}
RATIOS = ("rate", "p99_ms", "cpu_us")


def show(rows, baseline):
    """The machine, a table for each mode, and one for each kind of mode of which there are several."""
    for machine in (row["machine"] for row in rows if "machine" in row):
        print(f"\n{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, {machine['date']}, commit {machine['commit']}; "
              f"load before it began: {machine['load']:.1f}; one fdatasync of 600 bytes more: {machine['fdatasync_us']} µs")
    rows = [row for row in rows if "mode" in row]
    for mode in unique(row["mode"] for row in rows):
        of_mode = [row for row in rows if row["mode"] == mode]
        if mode == "records":
            growing_log(of_mode)
        else:
            table(mode, of_mode, baseline)
    for kind in unique(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind and "cpu_us" in row]
        if len({row["number"] for row in of_kind}) > 2:
            growth(kind, of_kind)


def table(mode, rows, baseline):
    columns = [key for key in KNOWN if any(key in row for row in rows)]
    beside = {row["round"]: row for row in rows if row["proxy"] == baseline}
    heads, ends = ["proxy"], ["---"]
    for key in columns:
        heads.append(KNOWN[key][0])
        if key in RATIOS:
            heads.append("x")
        if key == "cpu_us":
            heads.append("least to most")
    heads += ["cores busy", "errors"]
    ends += ["---:"] * (len(heads) - 1)
    print(f"\n### {mode}\n\nRounds: {len({row['round'] for row in rows})}. Figures are medians; x is the median of the ratios to {baseline} "
          f"within a round.\n\n| {' | '.join(heads)} |\n|{'|'.join(ends)}|")
    for proxy in unique(row["proxy"] for row in rows):
        of_proxy = [row for row in rows if row["proxy"] == proxy]
        cells = [proxy]
        for key in columns:
            values = [row[key] for row in of_proxy if key in row]
            cells.append(number(median(values), KNOWN[key][1]))
            if key in RATIOS:
                cells.append(number(median([row[key] / beside[row["round"]][key] for row in of_proxy
                                            if beside.get(row["round"], {}).get(key)]), 2))
            if key == "cpu_us":
                cells.append(f"{min(values):.1f} to {max(values):.1f}" if values else "")
        each = [median(shares) for shares in zip(*(row["cores"] for row in of_proxy if "cores" in row))]
        cells += [" ".join(f"{share:.0%}" for share in each), str(sum(row["errors"] for row in of_proxy))]
        print(f"| {' | '.join(cells)} |")
    for row in rows:
        if "memory_over_time_mib" in row:
            print(f"\n{row['proxy']}, MiB over time: {' '.join(f'{mib:.0f}' for mib in row['memory_over_time_mib'])}")


def growth(kind, rows):
    proxies = unique(row["proxy"] for row in rows)
    print(f"\n### CPU µs a call, by {kind}\n\n| {kind} | {' | '.join(proxies)} |\n|{'---:|' * (len(proxies) + 1)}")
    for size in sorted({row["number"] for row in rows}):
        cells = [number(median([row["cpu_us"] for row in rows if row["proxy"] == proxy and row["number"] == size]), 1)
                 for proxy in proxies]
        print(f"| {size:,} | {' | '.join(cells)} |")


def growing_log(rows):
    """At most twenty lines for each gate and round; the last one always."""
    print("\n### records\n\n| proxy | round | records | calls/s | p99 ms | CPU µs a call | MiB |\n|---|---:|---:|---:|---:|---:|---:|")
    for proxy, turn in unique((row["proxy"], row["round"]) for row in rows):
        of_log = [row for row in rows if (row["proxy"], row["round"]) == (proxy, turn)]
        step = -(-len(of_log) // 20)
        for row in of_log[::-step][::-1]:
            print(f"| {proxy} | {turn} | {row['records']:,} | {row['rate']:.0f} | {row['p99_ms']:.2f} | {row['cpu_us']:.1f} "
                  f"| {row['memory_mib']:.0f} |")


def unique(values):
    return list(dict.fromkeys(values))


def median(values):
    return statistics.median(values) if values else None


def number(value, digits):
    return "" if value is None else f"{value:.{digits}f}"
