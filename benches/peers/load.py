"""Load and what it saw: wrk for HTTP/1.1, h2load for HTTP/2, `beside load` for a fixed rate; and single calls."""

import json
import os
import re
import socket
import ssl
import subprocess

from process import Failed

HERE = os.path.dirname(os.path.abspath(__file__))


def run(command, seconds, cpus):
    """The load's own CPU time is not counted; it is the same work for every proxy."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds + 120,
                          preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None)
    if done.returncode:
        raise Failed(f"{command[0]}: exit code {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}")
    return done.stdout


def wrk(place, requests, connections, seconds, *options, cpus=None):
    """`options` as turns.lua takes them."""
    url = f"{'https' if place.face == 'tls' else 'http'}://127.0.0.1:{place.port}"
    text = run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency",
                "-s", f"{HERE}/turns.lua", url, "--", requests, *options], seconds, cpus)
    number = lambda pattern: int(found[1]) if (found := re.search(pattern, text)) else 0
    latency = lambda share: in_ms(found[1]) if (found := re.search(rf"^\s+{share}%\s+([\d.]+\w+)\s*$", text, re.M)) else 0.0
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    broken = [int(count) for count in broken.groups()] if broken else [0] * 4
    count = number(r"(\d+) requests in")
    if "Latency Distribution" not in text or "Requests/sec" not in text:
        raise Failed(f"wrk says {text[-300:]!r}")
    return {"requests": count, "errors": number(r"Non-2xx or 3xx responses: (\d+)") + sum(broken),
            "rate": float(re.search(r"Requests/sec:\s+(\S+)", text)[1]), "p50_ms": latency(50), "p99_ms": latency(99)}


def in_ms(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}[unit]


def h2load(place, paths, token, connections, streams, seconds, cpus=None):
    """One token, since h2load sends the same fields with each call."""
    log = os.path.join(place.dir, "h2load.log")
    if os.path.exists(log):
        os.remove(log)
    urls = place.write("h2load.urls", "".join(f"http://127.0.0.1:{place.port}{path}\n" for path in paths))
    text = run(["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", f"--log-file={log}",
                "-H", f"authorization: Bearer {token}", "-i", urls], seconds, cpus)
    waits, errors = [], 0
    with open(log) as lines:
        for line in lines:
            _, status, micros = line.split()
            waits.append(int(micros) / 1e3)
            errors += status != "200"
    waits.sort()
    at = lambda share: waits[round((len(waits) - 1) * share)] if waits else 0.0
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    # What is under way when the time is over counts as failed with some versions; what was answered is in the log.
    return {"requests": len(waits), "errors": errors + int(failed[3]), "rate": len(waits) / seconds,
            "p50_ms": at(0.5), "p99_ms": at(0.99)}


def paced(place, requests, connections, seconds, rate=0.0, cpus=None):
    """At `rate` calls a second; 0 is one call after another on each connection."""
    seen = json.loads(run([place.beside, "load", "--target", f"127.0.0.1:{place.port}", "--connections", connections,
                           "--seconds", seconds, "--rate", rate, "--requests", requests], seconds, cpus))
    return {"requests": seen["requests"] + seen["errors"], "errors": seen["errors"], "rate": seen["rate"],
            "p50_ms": seen["p50_us"] / 1e3, "p99_ms": seen["p99_us"] / 1e3}


def status(place, path, token):
    """The status of one call."""
    if place.face == "h2":
        log = os.path.join(place.dir, "h2load.one")
        if os.path.exists(log):
            os.remove(log)
        run(["h2load", "-n1", "-c1", f"--log-file={log}", "-H", f"authorization: Bearer {token}",
             f"http://127.0.0.1:{place.port}{path}"], 10, None)
        with open(log) as lines:
            return int(lines.read().split()[1])
    with connect(place) as stream:
        return one(stream, place, path, token)


def connect(place):
    stream = socket.create_connection(("127.0.0.1", place.port), 10)
    if place.face == "tls":
        context = ssl.create_default_context(cafile=place.key("cert.pem"))
        stream = context.wrap_socket(stream, server_hostname="localhost")
    return stream


def one(stream, place, path, token):
    """One call on a connection that stays open; its answer is read as far as its body's length says."""
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{place.port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        more = stream.recv(65536)
        if not more:
            raise Failed(f"no answer from port {place.port}")
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    while length and len(body) < int(length[1]):
        body += stream.recv(65536)
    return int(head.split()[1])
