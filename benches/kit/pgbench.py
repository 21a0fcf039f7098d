"""pgbench, and what it says."""

import glob
import os
import re
import subprocess
import time
from dataclasses import dataclass

from .machine import sockets

# Of all transactions, this share is logged: enough for one in a hundred, and little work for pgbench.
SAMPLED = 0.2
GRACE_SECONDS = 60
# How often it is looked whether all clients have connected.
LOOK_SECONDS = 0.002
TPS = r"^tps = ([\d.]+)"


@dataclass
class Done:
    transactions: int
    tps: float
    latencies_ms: list

    def figures(self):
        p50, p99 = percentile(self.latencies_ms, 0.5), percentile(self.latencies_ms, 0.99)
        known = {"p50_ms": p50, "p99_ms": p99, "tail": p99 / p50} if p50 and p99 else {}
        return {"tps": self.tps} | known


def pgbench(workload, endpoint, run, begun):
    """Runs it once. `begun` is called when its clients have logged in: that is not part of a transaction, but where each
    transaction has a login of its own, and there it is called at the start.

    Raises `RuntimeError` with what it said where it failed."""
    log = os.path.join(run.postgres.place, "latencies")
    for left in glob.glob(log + ".*"):
        os.remove(left)
    if workload.get("reconnect"):
        begun()
    child = begin(workload, endpoint, run, run.seconds, "--log", f"--log-prefix={log}", f"--sampling-rate={SAMPLED}")
    try:
        if not workload.get("reconnect") and logged_in(child, workload["clients"], time.monotonic() + GRACE_SECONDS):
            begun()
        said = ended(child, run.seconds + GRACE_SECONDS)
    finally:
        child.kill()
        child.wait()
    tps = float(re.search(TPS, said, re.MULTILINE)[1])
    return Done(transactions=count_in(said), tps=tps, latencies_ms=sorted(latencies(log)))


def begin(workload, endpoint, run, seconds, *options):
    """Starts it, for whoever sees to its end."""
    place = run.postgres.place
    host = endpoint.socket_directory if workload.get("unix") else endpoint.host
    command = [os.path.join(run.postgres.bin, "pgbench"), "-h", host, "-p", str(endpoint.port), "-U", run.postgres.user, "-n"]
    command += ["-M", workload.get("protocol", "simple"), "-c", str(workload["clients"]), "-T", str(max(1, round(seconds))), *options]
    command += script(workload, place) + (["-C"] if workload.get("reconnect") else []) + ["postgres"]
    mode = {"PGSSLMODE": "require" if workload.get("tls") else "disable", "PGPASSWORD": run.postgres.password}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | mode, cwd=place)


def ended(child, seconds):
    """What it said when it has. Raises `RuntimeError` where it failed, or did not within so many seconds."""
    try:
        said, complained = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise RuntimeError("pgbench did not end") from None
    failed = re.search(r"number of failed transactions: ([1-9]\d*)", said)
    if child.returncode or failed or not re.search(TPS, said, re.MULTILINE) or "aborted" in complained:
        lines = complained.splitlines()
        errors = [line for line in lines if "error" in line.lower()] or lines
        none = "no transaction was done: to connect took all the time"
        raise RuntimeError("pgbench: " + (failed[0] if failed else errors[0] if child.returncode and errors else none))
    return said


def transactions_of(child, seconds):
    """How many it has done, when it has ended."""
    return count_in(ended(child, seconds))


def count_in(said):
    return int(re.search(r"transactions actually processed: (\d+)", said)[1])


def logged_in(child, clients, deadline):
    """Waits until they have, `False` if it ended before. pgbench connects one client after the other, and begins with the
    transactions when all have: where the last socket is there, all logins but one are over."""
    while child.poll() is None and time.monotonic() < deadline:
        try:
            if sockets(child.pid) >= clients:
                return True
        except OSError:
            break
        time.sleep(LOOK_SECONDS)
    return False


def script(workload, place):
    if "builtin" in workload:
        return ["-b", workload["builtin"]]
    path = os.path.join(place, "script.sql")
    with open(path, "w") as out:
        out.write(workload["script"])
    variables = [word for name, value in workload.get("variables", {}).items() for word in ("-D", f"{name}={value}")]
    return ["-f", path, *variables]


def latencies(log):
    for path in glob.glob(log + ".*"):
        with open(path) as lines:
            for line in lines:
                yield int(line.split()[2]) / 1000


def percentile(values, share):
    """The value that this share of the sorted ones stays below; `None` where there are none."""
    return values[max(0, int(len(values) * share) - 1)] if values else None
