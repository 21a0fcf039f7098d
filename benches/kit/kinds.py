"""What a workload does. Each kind is a function (workload, endpoint, run) -> figures, listed at the end."""

import os
import subprocess
import time
from dataclasses import dataclass

from . import burst, wire
from .machine import Syscalls, Usage, rss_kib
from .pgbench import pgbench
from .postgres import Postgres


@dataclass
class Run:
    """What all workloads of one run share."""

    postgres: Postgres
    seconds: float
    # Of clients that do nothing beside others: a quick run takes this share.
    share: float


def transactions(workload, endpoint, run):
    """pgbench, with what it costs the pooler."""
    before = Usage.of(endpoint.pid) if endpoint.pid else None
    calls = Syscalls(endpoint.pid, os.path.join(run.postgres.place, "perf")) if endpoint.pid else None
    try:
        done = pgbench(workload, endpoint, run)
        cost = costs(endpoint, before, done.transactions)
    finally:
        counted = calls.stop() if calls else None
    return done.figures() | cost | ({"syscalls": counted / done.transactions} if counted is not None else {})


def costs(endpoint, before, units):
    """What each of so many units cost."""
    if before is None:
        return {}
    used = Usage.of(endpoint.pid).since(before)
    return {"cpu_us": used.cpu * 1e6 / units, "wanted": used.wanted / units, "forced": used.forced / units}


def logins(workload, endpoint, run):
    """One client at a time comes, waits for ReadyForQuery and leaves."""
    postgres, count = run.postgres, 0
    password = postgres.password if workload.get("scram") else None
    wire.Client(endpoint, postgres.user, password).leave()
    before, start = Usage.of(endpoint.pid) if endpoint.pid else None, time.monotonic()
    while time.monotonic() < start + run.seconds:
        wire.Client(endpoint, postgres.user, password).leave()
        count += 1
    return {"tps": count / (time.monotonic() - start)} | costs(endpoint, before, count)


def idle(workload, endpoint, run):
    """Memory of clients that have nothing to do: after their login, after a query, after a prepared statement."""
    tls = wire.client_tls() if workload.get("tls") else None
    count = workload["clients"]
    come = lambda: wire.Client(endpoint, run.postgres.user, tls=tls)
    # The first ones find tables to be made, and servers to be opened.
    warm = [come() for _ in range(50)]
    for client in warm:
        client.ask(wire.query("select 1"))
    before = rss_kib(endpoint.pid)
    clients = [come() for _ in range(count)]
    figures = {"clients": count, "login_kib": (rss_kib(endpoint.pid) - before) / count}
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
    figures["resident_mib"] = rss_kib(endpoint.pid) / 1024
    for client in clients + warm:
        client.socket.close()
    return figures


def growth(workload, endpoint, run):
    """pgbench beside so many clients that do nothing."""
    idlers = [wire.Client(endpoint, run.postgres.user) for _ in range(int(workload["idle"] * run.share))]
    try:
        return transactions(workload, endpoint, run) | {"clients": len(idlers) + workload["clients"]}
    finally:
        for client in idlers:
            client.socket.close()


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
    before, start, moved = Usage.of(endpoint.pid) if endpoint.pid else None, time.monotonic(), 0
    while time.monotonic() < start + run.seconds:
        with open(place) as source:
            subprocess.run(psql, stdin=source, stdout=subprocess.DEVNULL, check=True, timeout=120)
        moved += size
    took = time.monotonic() - start
    used = Usage.of(endpoint.pid).since(before) if before else None
    return {"mb_per_second": moved / took} | ({"cpu_ms_per_mb": used.cpu * 1e3 / moved} if used else {})


def burst_of_clients(workload, endpoint, run):
    return burst.burst(endpoint, run.postgres.user, workload["clients"])


KINDS = {
    "transactions": transactions,
    "logins": logins,
    "idle": idle,
    "growth": growth,
    "copy": copy,
    "burst": burst_of_clients,
}
