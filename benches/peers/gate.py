"""Portcullis with everything on, and what must hold of its log after each run."""

import json
import os
import re
import subprocess
import time
import urllib.request

import material
from process import Failed, free_port

REFUSES = (401, 403)


class Gate:
    """One gate on a log of its own, as `portcullis init` makes it; its settings come by the environment, so that what is on by
    default stays on: outcomes, tree, a signature for each commit, the verification of the log while it grows."""

    def __init__(self, binary, place, durability, rows):
        self.binary, self.place = binary, place
        self.site = os.path.join(place.dir, "gate")
        self.config = os.path.join(self.site, "portcullis.toml")
        self.run("init", self.site, "--origin", "bench.example.com/peers",
                 "--upstream", f"http://127.0.0.1:{place.upstream}")
        self.health = free_port()
        self.environment = {f"PORTCULLIS__{name}": str(value) for name, value in {
            "SERVER__LISTEN": f"127.0.0.1:{place.port}",
            "SERVER__WORKERS": place.workers,
            "ADMIN__LISTEN": "127.0.0.1:0",
            "HEALTH__LISTEN": f"127.0.0.1:{self.health}",
            "LOG__DURABILITY": durability,
            "POLICY__FILES": place.write("policy.csv", material.policy(rows)),
            "ISSUER__0__ISSUER": material.ISSUER,
            "ISSUER__0__AUDIENCE": material.AUDIENCE,
            "ISSUER__0__JWKS_FILE": place.key("jwks.json"),
            # All the load comes from one address, which is one client as far as the gate can see.
            "LIMITS__CONNECTIONS": 16000,
            "LIMITS__CONNECTIONS_PER_ADDRESS": 16000,
            "LIMITS__IN_FLIGHT": 16384,
            "LOGGING__LEVEL": "error",
        }.items()}
        if place.face == "tls":
            self.environment["PORTCULLIS__SERVER__TLS__CERT"] = place.key("cert.pem")
            self.environment["PORTCULLIS__SERVER__TLS__KEY"] = place.key("key.pem")

    def run(self, *words):
        done = subprocess.run([self.binary, *words], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"portcullis {' '.join(words)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def command(self):
        return [self.binary, "serve", "--config", self.config]

    def figures(self):
        """Sums over /metrics by name, and by name and label values."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        found = {}
        for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? (\S+)$", text, re.M):
            found[name] = found.get(name, 0) + float(value)
        return found

    def settled(self, seconds=60):
        """The figures, once no call is under way any more: a load that ends leaves calls behind that are still decided."""
        deadline, before = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            now = self.figures()
            counted = now.get("portcullis_decisions_total", 0)
            if counted == before and now.get("portcullis_log_waiting", 0) == now.get("portcullis_in_flight", 0) == 0:
                return now
            before = counted
            time.sleep(0.1)
        raise Failed("the gate does not come to rest")

    def check(self, figures, answered, cut):
        """Holds the log of a gate that has ended against the gate's own figures, and those against the load's.

        `answered` is how many answers the load has seen, `cut` how many calls it may have left without waiting for them.
        """
        verdict = subprocess.run([self.binary, "audit", "verify", "--config", self.config, "--json"],
                                 capture_output=True, text=True)
        if verdict.returncode:
            raise Failed(f"audit verify: exit code {verdict.returncode}: {verdict.stdout}{verdict.stderr}")
        stored, counted = self.stored()
        total = lambda name: int(figures.get(f"portcullis_{name}_total", 0))
        decided, unrecorded, shed = total("decisions"), total("unrecorded"), total("shed")
        collapsed = total("collapsed_denials")
        # The gate answers what it decides, and what it sheds. What it could not record in time it answered with 503; that
        # record may still have come later. Of the calls that the load left, some were decided and not yet on their way to
        # the log; nobody got an answer to them, and no service saw them.
        recorded = stored.get("decision", 0) + collapsed
        if not max(decided - unrecorded - cut, answered - unrecorded - shed) <= recorded <= decided:
            raise Failed(f"the load saw {answered} answers, "
                         f"{recorded} decisions are on the log (of these {collapsed} counted), {decided} were made, "
                         f"{unrecorded} could not be recorded in time")
        if counted != collapsed:
            raise Failed(f"summaries on the log count {counted} denials, the gate {collapsed}")
        if not answered <= decided + shed <= answered + cut:
            raise Failed(f"the load saw {answered} answers and left up to {cut} calls; the gate made {decided} decisions "
                         f"and shed {shed} calls")
        return {"records": json.loads(verdict.stdout).get("records"), "decided": decided, "collapsed": collapsed,
                "unrecorded": unrecorded, "shed": shed, "outcomes": stored.get("outcome", 0)}

    def stored(self):
        """How many records of each kind there are, and how many denials the summaries among them count."""
        listing = subprocess.Popen([self.binary, "audit", "list", "--config", self.config, "--json",
                                    "--health-checks", "include", "--limit", str(2**62)], stdout=subprocess.PIPE)
        kinds, counted = {}, 0
        for line in listing.stdout:
            # The fields before it have no quotes in them, so the first is the record's own.
            kind = line.split(b'"kind":"', 1)[1].split(b'"', 1)[0].decode()
            kinds[kind] = kinds.get(kind, 0) + 1
            if kind == "summary" and (b'"event":"collapsed"' in line or b'"event":"folded"' in line):
                counted += json.loads(line)["count"]
        if listing.wait():
            raise Failed(f"audit list: exit code {listing.returncode}")
        return kinds, counted
