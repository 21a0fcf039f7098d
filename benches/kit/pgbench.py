"""pgbench, and what it says."""

import glob
import os
import re
import subprocess
from dataclasses import dataclass

# Of all transactions, this share is logged: enough for one in a hundred, and little work for pgbench.
SAMPLED = 0.2
GRACE_SECONDS = 60


@dataclass
class Done:
    transactions: int
    tps: float
    latencies_ms: list

    def figures(self):
        p50, p99 = percentile(self.latencies_ms, 0.5), percentile(self.latencies_ms, 0.99)
        known = {"p50_ms": p50, "p99_ms": p99, "tail": p99 / p50} if p50 and p99 else {}
        return {"tps": self.tps} | known


def pgbench(workload, endpoint, run):
    """Runs it once.

    Raises `RuntimeError` with what it said where it failed."""
    place = run.postgres.place
    log = os.path.join(place, "latencies")
    for left in glob.glob(log + ".*"):
        os.remove(left)
    host = endpoint.socket_directory if workload.get("unix") else endpoint.host
    command = [os.path.join(run.postgres.bin, "pgbench"), "-h", host, "-p", str(endpoint.port), "-U", run.postgres.user, "-n"]
    command += ["-M", workload.get("protocol", "simple"), "-c", str(workload["clients"]), "-T", str(max(1, round(run.seconds)))]
    command += ["--log", f"--log-prefix={log}", f"--sampling-rate={SAMPLED}"]
    command += script(workload, place) + (["-C"] if workload.get("reconnect") else []) + ["postgres"]
    mode = {"PGSSLMODE": "require" if workload.get("tls") else "disable", "PGPASSWORD": run.postgres.password}
    try:
        limit = run.seconds + GRACE_SECONDS
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=os.environ | mode, cwd=place)
    except subprocess.TimeoutExpired:
        raise RuntimeError("pgbench did not end") from None
    failed = re.search(r"number of failed transactions: ([1-9]\d*)", done.stdout)
    tps = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or failed or not tps or "aborted" in done.stderr:
        lines = done.stderr.splitlines()
        said = [line for line in lines if "error" in line.lower()] or lines
        none = "no transaction was done: to connect took all the time"
        raise RuntimeError("pgbench: " + (failed[0] if failed else said[0] if done.returncode and said else none))
    count = re.search(r"transactions actually processed: (\d+)", done.stdout)
    return Done(transactions=int(count[1]), tps=float(tps[1]), latencies_ms=sorted(latencies(log)))


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
