"""Several candidates within one round, a slice of 100 ms each in turn.

A round of one candidate after the other takes seconds for each, and in that time a shared machine changes more than two poolers
differ: rounds lie tens of per cent apart. Here whatever the machine does it does to all of them alike. What is told is what a
transaction costs; throughput and times are not, since pgbench's clock goes on while it is stopped.
"""

import random
import signal
import statistics
import subprocess
import time

from .kinds import costs, usage
from .pgbench import GRACE_SECONDS, begin, logged_in, transactions_of

SLICE_SECONDS = 0.1
# For what is on its way to come to its end, before the next one's slice.
PAUSE_SECONDS = 0.004


def fits(workload):
    """Whether it can be cut: not where clients come and go."""
    return workload["kind"] == "transactions" and not workload.get("reconnect")


def one_round(workload, endpoints, run):
    """What a transaction costs each of the endpoints, by their names.

    Raises `RuntimeError` with what pgbench said where it failed."""
    children, before, figures = {}, {}, {}
    try:
        for name, endpoint in shuffled(endpoints.items()):
            children[name] = begin(workload, endpoint, run, run.seconds)
            if not logged_in(children[name], workload["clients"], time.monotonic() + GRACE_SECONDS):
                transactions_of(children[name], 0)
            before[name] = usage(endpoint)
            children[name].send_signal(signal.SIGSTOP)
        # When the last of them has had its time: else the first to go on would have the rest of it for itself.
        end = time.monotonic() + run.seconds
        while time.monotonic() < end:
            for _, child in shuffled(children.items()):
                child.send_signal(signal.SIGCONT)
                time.sleep(SLICE_SECONDS)
                child.send_signal(signal.SIGSTOP)
                time.sleep(PAUSE_SECONDS)
        for name, child in children.items():
            child.send_signal(signal.SIGCONT)
            count = transactions_of(child, run.seconds + GRACE_SECONDS)
            figures[name] = costs(endpoints[name], before[name], count)
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    return figures


def shuffled(entries):
    entries = list(entries)
    return random.sample(entries, len(entries))


def told(workload, results, figure="cpu_us"):
    """The ratios of the rounds, which say how far their mean is to be believed."""
    own, lines = results.get("sidepool"), []
    for name, result in results.items():
        if name == "sidepool" or not own or len(own.rounds) != len(result.rounds) or len(own.rounds) < 2:
            continue
        ratios = [mine[figure] / theirs[figure] for mine, theirs in zip(own.rounds, result.rounds)]
        error = statistics.stdev(ratios) / len(ratios) ** 0.5
        lines.append(
            f"{workload['title']}: CPU of sidepool / {name} in {len(ratios)} rounds {statistics.mean(ratios):.3f} "
            f"± {error:.3f} (standard error), from {min(ratios):.3f} to {max(ratios):.3f}."
        )
    return lines
