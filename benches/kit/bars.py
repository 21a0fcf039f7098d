"""What Sidepool is held to, and whether it was met."""

OWN = "sidepool"


def table(found):
    lines = ["| bar | wanted | found | |", "|---|---|---|---|"]
    for workload in found.workloads:
        for bar in workload.get("bars", ()):
            lines.append(line(found, workload, bar))
    return "\n".join(lines) if len(lines) > 2 else "No bars here."


def line(found, workload, bar):
    wanted, sign = (bar["most"], "≤") if "most" in bar else (bar["least"], "≥")
    against = f" × {bar.get('of') or bar.get('of_workload')}" if "of" in bar or "of_workload" in bar else ""
    value = measured(found, workload, bar)
    wants = f"{sign} {wanted:g}{against}"
    if value is None:
        return f"| {workload['title']}: {bar['figure']} | {wants} | n/a | |"
    met = value <= wanted if sign == "≤" else value >= wanted
    return f"| {workload['title']}: {bar['figure']} | {wants} | {value:.4g} | {'met' if met else '**missed**'} |"


def measured(found, workload, bar):
    """The median, or the ratio of two; `None` where either is missing."""
    median = lambda name, of: found.results[name][of].median(bar["figure"]) if of in found.results.get(name, {}) else None
    own = median(workload["name"], OWN)
    if "of" not in bar and "of_workload" not in bar:
        return own
    other = median(workload["name"], bar["of"]) if "of" in bar else median(bar["of_workload"], OWN)
    return own / other if own is not None and other else None
