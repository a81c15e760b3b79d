#!/usr/bin/env python3
"""Portcullis beside other proxies, on this machine.

    benches/peers/run.py --rounds 3 --modes keepalive64,keepalive256 nginx envoy+jwt portcullis
    benches/peers/run.py --table target/peers/20261123-141500.jsonl

`make peers` installs and builds what this needs. benches/README.md says what is measured, and how.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.environ.get("CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "portcullis")
VENV = os.path.join(CACHE, "peers", "venv")

if os.path.realpath(sys.prefix) != os.path.realpath(VENV):
    if not os.path.exists(f"{VENV}/bin/python"):
        sys.exit("`make peers` installs what is missing, and runs this")
    os.execv(f"{VENV}/bin/python", [f"{VENV}/bin/python", *sys.argv])

import load  # noqa: E402
import material  # noqa: E402
import modes  # noqa: E402
import tables  # noqa: E402
from gate import REFUSES, Gate  # noqa: E402
from process import Failed, Process, free_port, memory_mib, raise_open_files  # noqa: E402
from proxies import PROXIES, Place, Proxy, environment, upstream  # noqa: E402

GATES = {"portcullis": "fsync", "portcullis-os": "os"}
KNOWN = [*PROXIES, *GATES]


def main():
    options = arguments()
    if options.table:
        with open(options.table) as file:
            return tables.show([json.loads(line) for line in file], options.baseline)
    asked = modes.parse(options.modes)
    raise_open_files()
    keys = os.path.join(CACHE, "peers", "material")
    material.prepare(keys)
    os.makedirs(options.results, exist_ok=True)
    results = os.path.join(options.results, time.strftime("%Y%m%d-%H%M%S.jsonl"))
    # On the disk that the repository is on: in memory every sync would be free.
    work = tempfile.mkdtemp(prefix="run-", dir=options.results)
    rows, failures = [{"machine": machine(work)}], 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with open(results, "w") as out:
        tell(out, rows[0])
        behind = Place(work, free_port(), 0, keys, options.beside, 1)
        server = Process(upstream(behind)[0], run_dir=work, name="upstream")
        try:
            server.until_listening(behind.port)
            for turn in range(options.rounds):
                for mode in asked:
                    for name in in_turn(options.proxies, turn):
                        try:
                            found = measure(name, mode, behind, server, options, keys, work)
                        except Exception as why:  # The other runs are not lost by it.
                            failures += 1
                            tell(out, {"failed": repr(why), "proxy": name, "in": mode.name, "round": turn})
                            print(f"{turn} {mode.name:14} {name:13} FAILED: {why or repr(why)}", flush=True)
                            continue
                        for row in found:
                            row = {"round": turn, "mode": mode.name, "kind": mode.kind, "number": mode.number,
                                   "proxy": name, **row}
                            rows.append(row)
                            tell(out, row)
                            print(line(row), flush=True)
        finally:
            server.end()
            shutil.rmtree(work, ignore_errors=True)
    tables.show(rows, options.baseline)
    print(f"\n{results}" + (f"; {failures} runs failed" if failures else ""))
    return 1 if failures else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.path.join(REPOSITORY, "target")
    parser.add_argument("proxies", nargs="*", default=KNOWN, metavar="PROXY", help=f"of {' '.join(KNOWN)}; all by default")
    parser.add_argument("--modes", default="main", help=f"kinds with numbers, words, groups: {' '.join(modes.GROUPS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--warm", type=int, default=1, help="seconds of load before it")
    parser.add_argument("--rows", type=int, default=1000, help="of the gate's policy")
    parser.add_argument("--soak", type=int, default=600, help="seconds of the mode `soak`")
    parser.add_argument("--records", type=int, default=20_000_000, help="where the mode `records` ends")
    parser.add_argument("--baseline", default="nginx", help="what ratios are to")
    parser.add_argument("--results", default=os.path.join(target, "peers"), help="directory of rows, and of the logs while it runs")
    parser.add_argument("--portcullis", default=os.path.join(target, "release", "portcullis"))
    parser.add_argument("--beside", default=os.path.join(target, "peers", "beside"))
    parser.add_argument("--table", metavar="FILE", help="only print the tables of these rows")
    options = parser.parse_args()
    unknown = [name for name in options.proxies if name not in KNOWN]
    if unknown:
        parser.error(f"no proxy {' '.join(unknown)}; there are {' '.join(KNOWN)}")
    # Proxies run in directories of their own.
    for path in ("results", "portcullis", "beside"):
        setattr(options, path, os.path.abspath(getattr(options, path)))
    missing = [path for path in (options.portcullis, options.beside) if not os.path.exists(path)]
    if missing and not options.table:
        parser.error(f"{' '.join(missing)} missing; `make peers` builds it")
    return options


def in_turn(names, turn):
    """Another order in each round, so that what the machine does meanwhile falls on another proxy."""
    first = turn % len(names)
    order = [*names[first:], *names[:first]]
    return order if turn % 2 == 0 else order[::-1]


def measure(name, mode, behind, server, options, keys, work):
    """One run: started, asked whether it does what it says, loaded, ended; and held to its log if it has one."""
    proxy = PROXIES.get(name) or Proxy(None, REFUSES)
    if mode.face not in proxy.faces or (mode.of_the_gate and name not in GATES):
        return []
    mine, others = modes.cores_of(mode)
    for pid in server.members():
        os.sched_setaffinity(pid, others or range(os.cpu_count()))
    run_dir = tempfile.mkdtemp(prefix=f"{name}-", dir=work)
    place = Place(run_dir, free_port(), behind.port, keys, options.beside, mode.workers or os.cpu_count(), mode.face)
    gate, processes = None, []
    try:
        if name in GATES:
            gate = Gate(options.portcullis, place, GATES[name], mode.rows or options.rows)
            commands, variables = [gate.command()], gate.environment
        else:
            commands, variables = proxy.start(place), environment(place)
        for number, command in enumerate(commands):
            processes.append(Process(command, run_dir=run_dir, name=f"{name}.{number}", cpus=mine, environment=variables))
        processes[-1].until_listening(place.port)
        run = modes.Run(place, processes, material.read(keys, "tokens").split("\n"), options, gate, others)
        probe(run, proxy.refuses)
        idle = round(memory_mib(processes), 1)
        mode.measure(run, mode)
        if gate:
            figures = gate.settled()
            if code := processes[0].end():
                raise Failed(f"the gate ended with exit code {code}")
            run.rows[-1]["log"] = gate.check(figures, run.answered, run.cut)
        return [{"memory_idle_mib": idle, **row} for row in run.rows]
    finally:
        for process in processes:
            process.end(5)
        shutil.rmtree(run_dir, ignore_errors=True)


def probe(run, refuses):
    """A proxy that lets the wrong call through is not measured."""
    good, bad = material.read(run.place.keys, "good.jwt"), material.read(run.place.keys, "bad.jwt")
    deadline, status = time.monotonic() + 10, None
    while status != 200 and time.monotonic() < deadline:
        try:
            status = load.status(run.place, material.path(0), good)
            run.answered += 1
        except OSError:
            # It listens, but its certificate, or the service that it asks, is not there yet.
            time.sleep(0.1)
    asked = [("a good token", status, 200)]
    if refuses:
        asked.append(("a bad signature", load.status(run.place, material.path(0), bad), refuses[0]))
        asked.append(("a path that nobody may ask for", load.status(run.place, "/elsewhere", good), refuses[1]))
        run.answered += 2
    for what, got, expected in asked:
        if got != expected:
            raise Failed(f"{what} was answered {got}, not {expected}")


def machine(work):
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    version = lambda *command: subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY).stdout.strip()
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "date": time.strftime("%Y-%m-%d"),
            "commit": version("git", "rev-parse", "--short", "HEAD"), "load": os.getloadavg()[0],
            "fdatasync_us": fdatasync_us(work)}


def fdatasync_us(folder, times=200):
    """The median time to append 600 bytes to a file and sync them."""
    took = []
    with open(os.path.join(folder, "sync"), "ab", buffering=0) as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(b"x" * 600)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1e6)
    return round(statistics.median(took))


def tell(out, row):
    out.write(json.dumps(row) + "\n")
    out.flush()


def line(row):
    parts = [f"{row['round']} {row['mode']:14} {row['proxy']:13}"]
    for key, (name, digits) in tables.KNOWN.items():
        if key in row:
            parts.append(f"{row[key]:.{digits}f} {name}")
    if row["errors"]:
        parts.append(f"{row['errors']} ERRORS")
    return "  ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
