"""What was found: as a table on the screen and in table.md, as a picture, and whole in figures.json."""

import json
import os
import platform
import sys

from . import bars, slices, svg
from .machine import CPUS
from .session import OTHERS_MAX, STOLEN_MAX

# Figure, heading, digits; in this order, where a workload has them.
FIGURES = [
    ("clients", "clients", 0),
    ("tps", "per second", 0),
    ("p50_ms", "p50 ms", 3),
    ("p99_ms", "p99 ms", 3),
    ("tail", "p99/p50", 2),
    ("cpu_us", "CPU µs", 2),
    ("syscalls", "syscalls", 2),
    ("wanted", "sleeps", 3),
    ("forced", "preempted", 3),
    ("mb_per_second", "MB/s", 0),
    ("cpu_ms_per_mb", "CPU ms/MB", 3),
    ("login_kib", "KiB, logged in", 2),
    ("query_kib", "after a query", 2),
    ("prepared_kib", "after a prepared", 2),
    ("resident_mib", "MiB resident", 1),
    ("prepared_mib", "after prepared ones", 1),
    ("before_mib", "MiB before", 1),
    ("peak_mib", "at most", 1),
    ("rows_kept_mib", "kept after rows", 1),
    ("burst_kept_mib", "kept after a burst", 1),
    ("idle_cpu_share", "% of a core, idle", 3),
    ("scrape_p50_ms", "scrape p50 ms", 1),
    ("scrape_p99_ms", "scrape p99 ms", 1),
    ("scraped_cpu_ms", "CPU ms for each", 2),
    ("worker_cpu_ms", "of a data worker's", 2),
    ("served", "% served", 1),
    ("all_ms", "all served ms", 0),
]
# Whose spread between rounds says most about a workload's figures.
SPREAD_OF = ("cpu_us", "cpu_ms_per_mb", "login_kib", "p99_ms", "tps")
SPREAD_MAX = 0.10


def write(found, directory):
    text = "\n\n".join([heading(found), *(section(found, workload) for workload in found.workloads), bars.table(found), verdict(found)])
    os.makedirs(directory, exist_ok=True)
    for name, content in (("table.md", text + "\n"), ("plot.svg", svg.plot(found)), ("figures.json", as_json(found))):
        with open(os.path.join(directory, name), "w") as out:
            out.write(content)
    print("\n" + text + f"\n\nWritten to {directory}: table.md, plot.svg, figures.json.")
    sys.stdout.flush()


def heading(found):
    versions = ", ".join(f"{name} (1.{version})" if version else name for name, version in found.machine["candidates"].items())
    rounds = f"{found.rounds} {'round' if found.rounds == 1 else 'rounds'} of {found.seconds:g} s"
    turns = f"taking turns{f' of {slices.SLICE_SECONDS * 1000:.0f} ms' if found.sliced else ''}"
    return f"PostgreSQL {found.machine['postgres']}, {CPUS} cores, Linux {platform.release()}; {versions}; {rounds}, {turns}; a pool of 20."


def section(found, workload):
    results = found.results[workload["name"]]
    figures = [figure for figure in FIGURES if any(result.median(figure[0]) is not None for result in results.values())]
    rows = [[f"**{workload['title']}**", *(title for _, title, _ in figures), "spread"]]
    for name, result in results.items():
        if result.rounds:
            spread = next((result.spread(figure) for figure in SPREAD_OF if result.median(figure) is not None), None)
            cells = [number(result.median(figure), digits) for figure, _, digits in figures]
            note = "" if not result.unrun else f"{len(result.rounds)} of {len(result.rounds) + result.unrun} rounds"
            rows.append([name, *cells, note or ("" if spread is None else f"{spread:.0%}")])
        elif result.unrun:
            rows.append([name, "n/a: not run, the time was up", *[""] * len(figures)])
        elif result.why_not and result.why_not != "no pooler":
            rows.append([name, f"n/a: {result.why_not}", *[""] * len(figures)])
    own = results.get("sidepool")
    for name, result in results.items():
        if own and own.rounds and result.rounds and name != "sidepool":
            rows.append([f"sidepool / {name}", *(ratio(own.median(figure), result.median(figure)) for figure, _, _ in figures), ""])
    return markdown(rows)


def markdown(rows):
    """Aligned, so that it can be read as it is. A last cell that explains may be as long as it likes."""
    columns = range(len(rows[0]))
    long = lambda row: row[1].startswith("n/a")
    widths = [max(len(row[column]) for row in rows if column == 0 or not long(row)) for column in columns]
    lines = ["| " + " | ".join(cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths))) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 1) + ("-" if at == 0 else ":") for at, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def verdict(found):
    lines = []
    noisy, measured = found.noisy(), len(found.noise)
    if noisy:
        worst = max(noisy, key=lambda entry: entry[2] + entry[3])
        lines.append(
            f"**Not to be believed.** In {len(noisy)} of {measured} runs other processes took more than {OTHERS_MAX:.0%} of the machine, or the "
            f"hypervisor more than {STOLEN_MAX:.0%}; at worst {worst[2]:.0%} and {worst[3]:.0%} ({worst[0]}, {worst[1]}). Run it again when the machine is idle."
        )
    unsteady = [(workload["name"], name, figure, spread) for workload, name, figure, spread in spreads(found) if spread > SPREAD_MAX]
    if unsteady:
        named = ", ".join(f"{workload} {name} ({spread:.0%})" for workload, name, _, spread in sorted(unsteady, key=lambda entry: -entry[3])[:8])
        lines.append(f"{len(unsteady)} medians stand on rounds further apart than {SPREAD_MAX:.0%}: {named}{' and more' if len(unsteady) > 8 else ''}.")
    if unrun := found.unrun():
        named = ", ".join(f"{name} ({count} {'round' if count == 1 else 'rounds'})" for name, count in unrun)
        lines.append(f"**The time was up.** Not run for want of it: {named}.")
    if found.sliced:
        lines += [line for workload in found.workloads if slices.fits(workload) for line in slices.told(workload, found.results[workload["name"]])]
    if found.machine["missing"]:
        lines.append(f"Not there: {'; '.join(found.machine['missing'])}.")
    if not found.sliced and not any("syscalls" in figures for results in found.results.values() for result in results.values() for figures in result.rounds):
        lines.append("Syscalls were not counted: perf is not there, or may not.")
    return "\n\n".join(lines) or "The machine was quiet, and the rounds agree."


def spreads(found):
    for workload in found.workloads:
        for name, result in found.results[workload["name"]].items():
            figure = next((figure for figure in SPREAD_OF if result.median(figure) is not None), None)
            if figure and result.spread(figure) is not None:
                yield workload, name, figure, result.spread(figure)


def number(value, digits):
    if value is None:
        return "-"
    return f"{value:,.{digits}f}".replace(",", " ")


def ratio(own, other):
    return f"{own / other:.2f}" if own is not None and other else "-"


def as_json(found):
    results = {
        workload: {name: {"rounds": result.rounds, "why_not": result.why_not, "unrun": result.unrun} for name, result in by_name.items()}
        for workload, by_name in found.results.items()
    }
    noise = [dict(zip(("workload", "candidate", "others", "stolen"), entry)) for entry in found.noise]
    return json.dumps({"machine": found.machine, "rounds": found.rounds, "seconds": found.seconds, "results": results, "noise": noise}, indent=1) + "\n"
