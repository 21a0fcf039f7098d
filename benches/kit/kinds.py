"""What a workload does. Each kind is a function (workload, endpoint, run) -> figures, listed at the end."""

import os
import resource
import subprocess
import time
import urllib.request
from dataclasses import dataclass

from . import burst, wire
from .machine import Syscalls, Usage, peak_kib, rss_kib, threads_named
from .pgbench import percentile, pgbench
from .postgres import Postgres

# Between the end of what was done and a look at what is left of it.
SETTLE_SECONDS = 12
# What a pooler has open besides its clients, at most.
OTHER_FILES = 500


@dataclass
class Run:
    """What all workloads of one run share."""

    postgres: Postgres
    seconds: float
    # Of clients that do nothing beside others: a quick run takes this share.
    share: float


def transactions(workload, endpoint, run):
    """pgbench, with what it costs the pooler once its clients have logged in."""
    calls, before = Syscalls(endpoint.pid, os.path.join(run.postgres.place, "perf")), []

    def begun():
        calls.begin()
        before.append(usage(endpoint))

    try:
        done = pgbench(workload, endpoint, run, begun)
        cost = costs(endpoint, before[0] if before else None, done.transactions)
    finally:
        counted = calls.stop()
    return done.figures() | cost | ({"syscalls": counted / done.transactions} if counted is not None else {})


def usage(endpoint):
    return Usage.of(endpoint.pid) if endpoint.pid else None


def costs(endpoint, before, units):
    """What each of so many units cost."""
    if before is None:
        return {}
    now = usage(endpoint)
    wanted, forced = now.wanted - before.wanted, now.forced - before.forced
    return {"cpu_us": now.cpu_since(before) * 1e6 / units, "wanted": wanted / units, "forced": forced / units}


def logins(workload, endpoint, run):
    """One client at a time comes, waits for ReadyForQuery and leaves."""
    postgres, count = run.postgres, 0
    password = postgres.password if workload.get("scram") else None
    wire.Client(endpoint, postgres.user, password).leave()
    before, start = usage(endpoint), time.monotonic()
    while time.monotonic() < start + run.seconds:
        wire.Client(endpoint, postgres.user, password).leave()
        count += 1
    return {"tps": count / (time.monotonic() - start)} | costs(endpoint, before, count)


def idle(workload, endpoint, run):
    """Memory of clients that have nothing to do: after their login, after a query, after a prepared statement."""
    tls = wire.client_tls() if workload.get("tls") else None
    wanted = workload["clients"]
    count = min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES)
    come = lambda: wire.Client(endpoint, run.postgres.user, tls=tls)
    # The first ones find tables to be made, and servers to be opened.
    warm = [come() for _ in range(50)]
    for client in warm:
        client.ask(wire.query("select 1"))
    before = rss_kib(endpoint.pid)
    clients = [come() for _ in range(count)]
    figures = {"clients": count, "login_kib": (rss_kib(endpoint.pid) - before) / count}
    resident_as = {"query_kib": "resident_mib", "prepared_kib": "prepared_mib"}
    for name, request in (("query_kib", wire.query("select 1")), ("prepared_kib", wire.prepared("s1", "select 2"))):
        if name == "prepared_kib" and workload.get("tls"):
            continue
        try:
            for client in clients:
                client.ask(request)
        except OSError:
            # Such as "prepared statement already exists", from a pooler that does not share them.
            continue
        figures[name] = (rss_kib(endpoint.pid) - before) / count
        # Those that there are no files for would take no less than the others.
        figures[resident_as[name]] = (rss_kib(endpoint.pid) + (wanted - count) * figures[name]) / 1024
    leave(clients + warm)
    return figures


def leave(clients):
    for client in clients:
        client.socket.close()


def growth(workload, endpoint, run):
    """pgbench beside so many clients that do nothing."""
    idlers = [wire.Client(endpoint, run.postgres.user) for _ in range(int(workload["idle"] * run.share))]
    try:
        return transactions(workload, endpoint, run) | {"clients": len(idlers) + workload["clients"]}
    finally:
        leave(idlers)


def copy(workload, endpoint, run):
    """COPY by psql, over and over: MB per second, and CPU ms per MB."""
    rows, text = workload["rows"], workload["text"]
    place = os.path.join(run.postgres.place, "copy.txt")
    if not os.path.exists(place):
        with open(place, "w") as out:
            out.writelines(f"{row}\t{'x' * 84}\n" for row in range(rows))
        os.chmod(place, 0o644)
    size = os.path.getsize(place) / 1e6
    psql = [os.path.join(run.postgres.bin, "psql"), "-h", endpoint.host, "-p", str(endpoint.port), "-U", run.postgres.user]
    psql += ["-qX", "-v", "ON_ERROR_STOP=1", "-c", text, "postgres"]
    run.postgres.sql("truncate copied")
    if workload.get("reads"):
        run.postgres.sql(f"copy copied from '{place}'")
    before, start, moved = usage(endpoint), time.monotonic(), 0
    while time.monotonic() < start + run.seconds:
        with open(place) as source:
            subprocess.run(psql, stdin=source, stdout=subprocess.DEVNULL, check=True, timeout=120)
        moved += size
    took = time.monotonic() - start
    cost = {"cpu_ms_per_mb": usage(endpoint).cpu_since(before) * 1e3 / moved} if before else {}
    return {"mb_per_second": moved / took} | cost


def burst_of_clients(workload, endpoint, run):
    return burst.burst(endpoint, run.postgres.user, workload["clients"])


def memory_returns(workload, endpoint, run):
    """What a process keeps that has had much to do: after each of its clients has read rows of 1 MiB, slowly, and after a
    burst of others has come and gone. Against what it had when its clients and servers were there and had done little."""
    clients = [wire.Client(endpoint, run.postgres.user) for _ in range(workload["clients"])]
    ask = lambda request: [client.ask(request) for client in clients]
    ask(wire.query("select 1"))
    before = rss_kib(endpoint.pid)
    figures = {"clients": workload["clients"], "before_mib": before / 1024}
    for client in clients:
        client.socket.sendall(wire.query(f"select repeat('x', 1 << 20) from generate_series(1, {workload['rows']})"))
    # Until then nobody reads: what the pooler holds for each is as much as it ever is.
    time.sleep(1)
    for client in clients:
        client.until_ready()
    figures["rows_kept_mib"] = (settled_kib(endpoint.pid) - before) / 1024
    figures |= {name: value for name, value in burst.burst(endpoint, run.postgres.user, workload["burst"]).items() if name == "served"}
    figures["burst_kept_mib"] = (settled_kib(endpoint.pid) - before) / 1024
    figures["peak_mib"] = peak_kib(endpoint.pid) / 1024
    leave(clients)
    return figures


def settled_kib(pid):
    """Resident memory some seconds later: an allocator may take its time."""
    time.sleep(SETTLE_SECONDS)
    return rss_kib(pid)


def scrape(workload, endpoint, run):
    """What the metrics cost, beside so many clients that do nothing; and what those cost when nobody asks."""
    clients = [wire.Client(endpoint, run.postgres.user) for _ in range(workload["clients"])]
    time.sleep(2)
    before, start = usage(endpoint), time.monotonic()
    time.sleep(workload["seconds"])
    idle = usage(endpoint).cpu_since(before) / (time.monotonic() - start)
    before, took = usage(endpoint), []
    for _ in range(workload["scrapes"]):
        start = time.monotonic()
        with urllib.request.urlopen(endpoint.metrics_url, timeout=10) as answer:
            if b"# TYPE" not in answer.read():
                raise RuntimeError("these are no metrics")
        took.append((time.monotonic() - start) * 1000)
    after, aside = usage(endpoint), threads_named(endpoint.pid, endpoint.metrics_thread)
    leave(clients)
    took.sort()
    figures = {"clients": workload["clients"], "idle_cpu_share": 100 * idle}
    figures |= {"scrape_p50_ms": percentile(took, 0.5), "scrape_p99_ms": percentile(took, 0.99)}
    each = lambda without: 1000 * after.cpu_since(before, without) / workload["scrapes"]
    return figures | {"scraped_cpu_ms": each(()), "worker_cpu_ms": each(aside)}


KINDS = {
    "transactions": transactions,
    "logins": logins,
    "idle": idle,
    "growth": growth,
    "copy": copy,
    "burst": burst_of_clients,
    "memory-returns": memory_returns,
    "scrape": scrape,
}
