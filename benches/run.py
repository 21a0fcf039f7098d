#!/usr/bin/env python3
"""Sidepool beside PostgreSQL alone, a bare relay, and whichever peers are installed.

    benches/run.py [--quick] [--rounds N] [--seconds S] [--only NAME,…] [--peers NAME,…]
                   [--minutes M] [--slices] [--no-build] [--out DIRECTORY] [--list]

Candidates take turns within each round, so that a machine that grows slow grows slow for all of them; figures are medians
over the rounds, and what counts are the ratios. Workloads are in benches/workloads, peers in benches/peers. It starts a
PostgreSQL of its own in a temporary directory, speaks to loopback and Unix sockets only, ends what it started by process
id, and stops by itself: after 25 minutes at most, after 3 with --quick (to build comes before); what it had no time for it
names. Wants initdb and pgbench; takes perf (for syscalls) and openssl (for TLS) where they are there. Writes table.md,
plot.svg and figures.json.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import time

# The repository stays as it is.
sys.dont_write_bytecode = True

from kit import peers, report, session, workloads

# Some seconds less than is promised, for PostgreSQL's start and end.
BUDGET_MINUTES = 24.5
QUICK_BUDGET_MINUTES = 2.7
# The relay is an example: `cargo build` alone leaves it out.
BUILDS = (["cargo", "build", "--release", "--quiet"], ["cargo", "build", "--release", "--quiet", "--example", "relay"])


def main():
    wishes = arguments()
    chosen = workloads.load(wishes.only, wishes.quick)
    if wishes.list:
        return print("\n".join(f"{workload['name']:<30} {workload['title']}" for workload in chosen))
    os.chdir(peers.REPOSITORY)
    if not wishes.no_build:
        for command in BUILDS:
            subprocess.run(command, check=True)
    raise_open_files()
    candidates, missing = peers.find(wishes.peers)
    for line in missing:
        print(f"({line})")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    deadline = time.monotonic() + wishes.minutes * 60
    found = session.measure(chosen, candidates, wishes.rounds, wishes.seconds, 0.25 if wishes.quick else 1.0, deadline, wishes.slices)
    found.machine["missing"] = missing
    report.write(found, wishes.out)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: text.split(",")
    parser.add_argument("--quick", action="store_true", help="one short round of fewer workloads")
    parser.add_argument("--rounds", type=int, help="default 3, with --quick 1")
    parser.add_argument("--seconds", type=float, help="of each run; default 3, with --quick 1")
    parser.add_argument("--only", type=names, help="workloads, by the beginnings of their names")
    parser.add_argument("--peers", type=names, help="candidates beside direct; default: all that are there")
    parser.add_argument("--minutes", type=float, help="begin nothing that would not be over by then; default 24.5, with --quick 2.7")
    parser.add_argument("--slices", action="store_true", help="candidates take turns every 100 ms: CPU only, to tell close ones apart")
    parser.add_argument("--out", default="target/bench", help="where the results go (target/bench)")
    parser.add_argument("--no-build", action="store_true", help="take target/release as it is")
    parser.add_argument("--list", action="store_true", help="name the workloads and end")
    wishes = parser.parse_args()
    wishes.rounds = wishes.rounds or (1 if wishes.quick else 3)
    wishes.minutes = wishes.minutes or (QUICK_BUDGET_MINUTES if wishes.quick else BUDGET_MINUTES)
    wishes.seconds = wishes.seconds or (1 if wishes.quick else 3)
    return wishes


def raise_open_files():
    """Poolers inherit it. Each client is one descriptor here and one there."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
