"""Processes: started, waited for, measured, and ended whatever happens."""

import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A run that did not come about, or did not hold what it must."""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def raise_open_files():
    """Thousands of connections need as many files, in each process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Process:
    """A process in a session of its own, so that its children are found and ended with it."""

    def __init__(self, command, *, run_dir, name, cpus=None, environment=None):
        self.name = name
        self.errors = os.path.join(run_dir, f"{name}.err")
        # Where it ran before, only the last run's words are of use.
        with open(self.errors, "wb") as errors, open(os.path.join(run_dir, f"{name}.out"), "wb") as out:
            self.popen = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=errors, cwd=run_dir,
                start_new_session=True, env={**os.environ, **(environment or {})},
                preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None)

    def alive(self):
        return self.popen.poll() is None

    def until_listening(self, port, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.alive():
                break
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        with open(self.errors, errors="replace") as file:
            raise Failed(f"{self.name} does not listen: {file.read()[-600:].strip()}")

    def members(self):
        """Its process IDs: all of its session."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                fields = stat(entry)
                if fields and int(fields[3]) == self.popen.pid:
                    found.append(int(entry))
        return found

    def end(self, seconds=30):
        """Asks, then makes it; its session with it."""
        if self.alive():
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self.popen.wait()


def stat(pid):
    """The fields of /proc/PID/stat after the name, which may hold blanks: field 3 of proc(5) is the first."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None


def cpu_seconds(processes):
    """User and kernel time of all of them. What the kernel's own threads do for them (flushing, say) is nobody's."""
    total = 0
    for process in processes:
        for pid in process.members():
            fields = stat(pid)
            total += int(fields[11]) + int(fields[12]) if fields else 0
    return total / TICKS


def memory_mib(processes):
    """Resident, each shared page by its share (PSS), so that workers are not counted twice."""
    total = 0
    for process in processes:
        for pid in process.members():
            try:
                with open(f"/proc/{pid}/smaps_rollup") as file:
                    total += int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M)[1])
            except (OSError, TypeError):
                pass
    return total / 1024


def cores():
    """Busy and total ticks of each core so far."""
    found = []
    with open("/proc/stat") as file:
        for line in file:
            if re.match(r"cpu\d", line):
                ticks = [int(word) for word in line.split()[1:9]]
                found.append((sum(ticks) - ticks[3] - ticks[4], sum(ticks)))
    return found


def busy(before, after):
    """The share of its time that each core was busy."""
    return [round((b[0] - a[0]) / max(b[1] - a[1], 1), 2) for a, b in zip(before, after)]


class Watch:
    """Samples of memory while something else goes on."""

    def __init__(self, processes, every):
        self.samples, self.over = [], threading.Event()

        def sample():
            while not self.over.wait(every):
                self.samples.append(round(memory_mib(processes), 1))

        self.thread = threading.Thread(target=sample, daemon=True)
        self.thread.start()

    def end(self):
        self.over.set()
        self.thread.join()
        return self.samples
