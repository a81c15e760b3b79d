"""What is asked of a proxy: each mode is a kind with a number, `keepalive64`, or a word, `down64k`."""

import os
import re
from dataclasses import dataclass, field

import load
import material
from process import Failed, Watch, busy, cores, cpu_seconds, memory_mib

AT_ONCE = 64
STREAMS = 64


@dataclass
class Mode:
    name: str
    kind: str
    number: int
    measure: object
    face: str = "http"
    # Of the gate's policy, where it is not the usual one.
    rows: int = None
    # The proxy's, where they are not all of the machine's; then it has so many cores to itself.
    workers: int = None
    # Whether it asks for something that only the gate has.
    of_the_gate: bool = False


@dataclass
class Run:
    """A proxy that is up, and how it is to be measured."""
    place: object
    processes: list
    tokens: list
    options: object
    gate: object = None
    # Where load may run, if not everywhere.
    cpus: set = None
    answered: int = 0
    cut: int = 0
    rows: list = field(default_factory=list)

    def count(self, seen, under_way):
        self.answered += seen["requests"]
        self.cut += under_way
        return seen

    def metered(self, loading, under_way):
        """What the load saw, and what the proxy's processes took meanwhile."""
        cpu, busy_before = cpu_seconds(self.processes), cores()
        seen = self.count(loading(), under_way)
        cpu, busy_now = cpu_seconds(self.processes) - cpu, cores()
        if not seen["requests"]:
            raise Failed("not one call was answered")
        if seen["errors"] > seen["requests"] * 0.01:
            raise Failed(f"{seen['errors']} of {seen['requests']} calls failed: that would measure something else")
        self.rows.append({**seen, "cpu_us": cpu * 1e6 / seen["requests"], "cores": busy(busy_before, busy_now),
                          "memory_mib": round(memory_mib(self.processes), 1)})
        return self.rows[-1]


def wrk(run, connections, requests, *options, seconds=None, warm=True):
    loading = lambda time: load.wrk(run.place, requests, connections, time, *options, cpus=run.cpus)
    if warm and run.options.warm:
        run.count(loading(run.options.warm), connections)
    return run.metered(lambda: loading(seconds or run.options.seconds), connections)


def keepalive(run, mode):
    wrk(run, mode.number, run.place.key("many"))


def close(run, mode):
    wrk(run, mode.number, run.place.key("many"), "close")


def unseen(run, mode):
    """Tokens in turn, more than are remembered; without warming up, since that would show some of them."""
    wrk(run, mode.number, run.place.key("unseen"), warm=False)


def at_64(run, mode):
    wrk(run, AT_ONCE, run.place.key("many"))


def down(run, mode):
    wrk(run, AT_ONCE, run.place.key(mode.name.removeprefix("down")))


def up(run, mode):
    wrk(run, AT_ONCE, run.place.key("post"), mode.number << 10)


def h2(run, mode, streams=1):
    paths = [material.path(number) for number in range(material.PATHS)]
    loading = lambda seconds: load.h2load(run.place, paths, run.tokens[0], mode.number, streams, seconds, run.cpus)
    if run.options.warm:
        run.count(loading(run.options.warm), mode.number * streams)
    run.metered(lambda: loading(run.options.seconds), mode.number * streams)


def h2_busy(run, mode):
    h2(run, mode, STREAMS)


def paced(run, mode):
    """First as fast as it goes, then at 70 % of that."""
    loading = lambda seconds, rate: load.paced(run.place, run.place.key("many"), mode.number, seconds, rate, run.cpus)
    top = run.count(loading(run.options.seconds, 0.0), mode.number)["rate"]
    run.metered(lambda: loading(run.options.seconds, 0.7 * top), mode.number)["top_rate"] = top


def idle(run, mode):
    """Connections that have made one call and stay open; what each costs in memory."""
    before = memory_mib(run.processes)
    streams = []
    try:
        for number in range(mode.number):
            streams.append(load.connect(run.place))
            token = run.tokens[number % len(run.tokens)]
            if load.one(streams[-1], run.place, material.path(number), token) != 200:
                raise Failed("a call on an idle connection was refused")
        run.answered += mode.number
        after = memory_mib(run.processes)
    finally:
        for stream in streams:
            stream.close()
    run.rows.append({"requests": mode.number, "errors": 0, "memory_mib": round(after, 1),
                     "bytes_each": round((after - before) * 2**20 / mode.number)})


def soak(run, mode):
    """At full load for long; memory at twenty moments of it."""
    watch = Watch(run.processes, run.options.soak / 20)
    try:
        row = wrk(run, AT_ONCE, run.place.key("many"), seconds=run.options.soak)
    finally:
        samples = watch.end()
    row["memory_over_time_mib"] = samples


def records(run, mode):
    """The same load in slices, on one log that grows."""
    warm = True
    while True:
        row = wrk(run, AT_ONCE, run.place.key("many"), warm=warm)
        row["records"] = int(run.gate.settled()["portcullis_log_size"])
        if row["records"] >= run.options.records:
            return
        warm = False


KINDS = {
    "keepalive": dict(measure=keepalive), "close": dict(measure=close), "unseen": dict(measure=unseen),
    "tls": dict(measure=keepalive, face="tls"), "h2each": dict(measure=h2, face="h2"),
    "h2busy": dict(measure=h2_busy, face="h2"), "paced": dict(measure=paced), "idle": dict(measure=idle),
    "rows": dict(measure=at_64, of_the_gate=True), "cores": dict(measure=at_64),
}
WORDS = {
    "down64k": dict(measure=down), "down1m": dict(measure=down), "up64k": dict(measure=up, number=64),
    "up1m": dict(measure=up, number=1024), "soak": dict(measure=soak),
    "records": dict(measure=records, of_the_gate=True),
}
GROUPS = {
    "main": "keepalive64,keepalive256,keepalive1",
    "connections": ",".join(f"keepalive{2**power}" for power in range(13)),
    "front": "tls64,h2each64,h2busy1,h2busy2,close64",
    "bodies": "down64k,down1m,up64k,up1m",
    "policy": "rows10,rows100,rows1000,rows10000,rows100000",
    "cores": "cores1,cores2",
    "memory": "idle1000,soak",
    "all": "main,keepalive2,keepalive4,keepalive8,keepalive1024,front,bodies,unseen64,paced64,idle1000,policy,cores",
}


def parse(words):
    """Modes by name, groups taken apart, each once."""
    found = {}
    for word in words.split(","):
        if word in GROUPS:
            found.update((mode.name, mode) for mode in parse(GROUPS[word]))
        else:
            found[word] = one(word)
    return list(found.values())


def one(word):
    if word in WORDS:
        return Mode(name=word, kind=word, **{"number": AT_ONCE, **WORDS[word]})
    parts = re.fullmatch(r"([a-z0-9]*[a-z])([1-9]\d*)", word)
    if not parts or parts[1] not in KINDS:
        kinds = " ".join(f"{kind}N" for kind in KINDS)
        raise SystemExit(f"no mode {word!r}; there are {kinds} {' '.join(WORDS)}, and in groups {' '.join(GROUPS)}")
    mode = Mode(name=word, kind=parts[1], number=int(parts[2]), **KINDS[parts[1]])
    if mode.kind == "rows":
        mode.rows = mode.number
    if mode.kind == "cores":
        mode.workers = min(mode.number, os.cpu_count())
    return mode


def cores_of(mode):
    """The cores of the proxy and those of load and upstream. Where none are left, they share."""
    if not mode.workers:
        return None, None
    mine, all_of_them = set(range(mode.workers)), set(range(os.cpu_count()))
    return mine, (all_of_them - mine) or all_of_them
