"""One run of the kit: who does what, when."""

import statistics
import subprocess
import time
from dataclasses import dataclass, field

from . import slices
from .kinds import KINDS, Run
from .machine import Others
from .postgres import Postgres
from .workloads import variant

SCALE = 10
# Of the machine's time that others may use before a round is called noisy.
OTHERS_MAX = 0.05
STOLEN_MAX = 0.02


@dataclass
class Result:
    """One candidate in one workload."""

    rounds: list = field(default_factory=list)
    why_not: str | None = None
    # Rounds that there was no time for.
    unrun: int = 0

    def median(self, figure):
        values = [figures[figure] for figures in self.rounds if figures.get(figure) is not None]
        return statistics.median(values) if values else None

    def spread(self, figure):
        """Between the best and the worst round, as a share of the median."""
        values = [figures[figure] for figures in self.rounds if figures.get(figure) is not None]
        return (max(values) - min(values)) / statistics.median(values) if len(values) > 1 and statistics.median(values) else None


@dataclass
class Found:
    """Everything that was measured."""

    workloads: list = field(default_factory=list)
    # By workload's name, then by candidate's.
    results: dict = field(default_factory=dict)
    # Of each measurement: (workload, candidate, share of others, share stolen).
    noise: list = field(default_factory=list)
    rounds: int = 0
    seconds: float = 0
    machine: dict = field(default_factory=dict)
    # Candidates take turns within a round, where the workload can be cut.
    sliced: bool = False

    def noisy(self):
        return [entry for entry in self.noise if entry[2] > OTHERS_MAX or entry[3] > STOLEN_MAX]

    def unrun(self):
        """Workloads that there was not the time for, or not for all rounds: (name, rounds left out)."""
        left_out = lambda name: max((result.unrun for result in self.results[name].values()), default=0)
        return [(workload["name"], left_out(workload["name"])) for workload in self.workloads if left_out(workload["name"])]


def measure(chosen, candidates, rounds, seconds, share, deadline, sliced=False):
    found = Found(workloads=[], rounds=rounds, seconds=seconds, sliced=sliced)
    postgres, running = Postgres(), {}
    try:
        postgres.start(SCALE)
        found.machine = {"postgres": postgres.sql("show server_version"), "candidates": {c.name: getattr(c, "version", None) for c in candidates}}
        run = Run(postgres, seconds, share)
        for workload in chosen:
            results = {candidate.name: Result(why_not=why_not(candidate, workload, postgres)) for candidate in candidates}
            found.workloads.append(workload)
            found.results[workload["name"]] = results
            rounds_of(workload, candidates, results, run, running, found, deadline)
            say(workload, results)
    finally:
        for endpoint in running.values():
            endpoint.stop()
        postgres.stop()
    return found


def rounds_of(workload, candidates, results, run, running, found, deadline):
    """As many rounds as there is time for: one is begun only if it would be over in time, were it as long as the last."""
    wanted = workload.get("rounds", found.rounds)
    taking_part = [candidate for candidate in candidates if not results[candidate.name].why_not]
    longest = len(taking_part) * workload.get("seconds", run.seconds)
    for at in range(wanted):
        start = time.monotonic()
        # Each comes first in its turn: what ran before leaves its traces in the caches.
        order = candidates[at % len(candidates) :] + candidates[: at % len(candidates)]
        if start + longest > deadline:
            for candidate in taking_part:
                results[candidate.name].unrun = wanted - at
            return
        if found.sliced and slices.fits(workload):
            all_at_once(workload, order, results, run, running, found)
        else:
            for candidate in order:
                one(workload, candidate, results[candidate.name], run, running, found)
        longest = time.monotonic() - start


def why_not(candidate, workload, postgres):
    if workload.get("tls") and not postgres.certificate():
        return "no openssl here to make a certificate"
    return candidate.why_not(workload.get("needs", ()))


def all_at_once(workload, candidates, results, run, running, found):
    """One round of slices. What the machine has beside the poolers (PostgreSQL alone) takes no part."""
    endpoints = {}
    for candidate in candidates:
        result = results[candidate.name]
        try:
            endpoint = None if result.why_not else started(workload, candidate, run, running)
            if endpoint and endpoint.pid:
                endpoints[candidate.name] = endpoint
        except (OSError, RuntimeError) as error:
            result.why_not = in_brief(error)
    others = Others()
    try:
        for name, figures in slices.one_round(workload, endpoints, run).items():
            results[name].rounds.append(figures)
        found.noise.append((workload["name"], "all", *others.share()))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        for name in endpoints:
            results[name].why_not = in_brief(error)


def started(workload, candidate, run, running):
    key = (candidate.name, variant(workload))
    if workload.get("fresh") and key in running:
        running.pop(key).stop()
    if key not in running:
        running[key] = candidate.start(run.postgres, variant(workload))
    return running[key]


def in_brief(error):
    return str(error).strip().splitlines()[0][:160]


def one(workload, candidate, result, run, running, found):
    if result.why_not:
        return
    try:
        endpoint = started(workload, candidate, run, running)
        others = Others()
        figures = KINDS[workload["kind"]](workload, endpoint, run)
        found.noise.append((workload["name"], candidate.name, *others.share()))
        result.rounds.append(figures)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        result.why_not = in_brief(error)


def say(workload, results):
    """That something happens."""
    done = ", ".join(name if result.rounds else f"({name})" for name, result in results.items())
    print(f"{workload['name']}: {done}", flush=True)
