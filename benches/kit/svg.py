"""The picture: CPU per transaction of every candidate in every workload, and how it grows with idle clients."""

from xml.sax.saxutils import escape

COLOURS = {"direct": "#9aa0a6", "sidepool": "#1a7f5a", "pgbouncer": "#c9702a", "relay": "#5b7bb5"}
OTHER_COLOUR = "#8a5a9e"
WIDTH, LEFT, BAR, GAP, HEAD = 900, 330, 13, 12, 60


def plot(found):
    groups = [(workload["title"], by_candidate(found, workload)) for workload in found.workloads if workload["kind"] == "transactions"]
    groups = [(title, values) for title, values in groups if values]
    body, bottom = bars(groups, HEAD)
    curve = [(workload, found.results[workload["name"]]) for workload in found.workloads if workload.get("curve")]
    if curve:
        drawn, bottom = growth(curve, bottom + 50)
        body += drawn
    legend, names = [], list(dict.fromkeys(name for _, values in groups for name in values))
    for at, name in enumerate(names):
        legend += [rect(LEFT + at * 130, 36, 11, 11, colour(name)), text(LEFT + at * 130 + 16, 46, name)]
    head = [text(20, 24, "CPU µs of the pooler per transaction (medians; shorter is better)", "font-weight='bold'")]
    style = "font-family='system-ui, sans-serif' font-size='12'"
    frame = f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{bottom + 20}' {style}><rect width='100%' height='100%' fill='white'/>"
    return "\n".join([frame, *head, *legend, *body, "</svg>"]) + "\n"


def by_candidate(found, workload):
    medians = {name: result.median("cpu_us") for name, result in found.results[workload["name"]].items()}
    return {name: value for name, value in medians.items() if value is not None}


def bars(groups, top):
    longest = max((value for _, values in groups for value in values.values()), default=1)
    drawn, y = [], top
    for title, values in groups:
        drawn.append(text(LEFT - 12, y + BAR * len(values) / 2 + 4, title, "text-anchor='end'"))
        for name, value in values.items():
            length = value / longest * (WIDTH - LEFT - 80)
            drawn += [rect(LEFT, y, length, BAR - 2, colour(name)), text(LEFT + length + 5, y + BAR - 3, f"{value:.1f}", "font-size='10'")]
            y += BAR
        y += GAP
    return drawn, y


def growth(curve, top):
    """One line for each candidate: CPU µs by number of clients."""
    height, width, names = 180, WIDTH - LEFT - 80, list(curve[0][1])
    lines = {name: [(r[name].median("clients"), r[name].median("cpu_us")) for _, r in curve if r[name].median("cpu_us")] for name in names}
    points = [point for line in lines.values() for point in line]
    if not points:
        return [], top
    most_x, most_y = max(x for x, _ in points), max(y for _, y in points)
    place = lambda x, y: (LEFT + x / most_x * width, top + height - y / most_y * height)
    drawn = [text(20, top - 16, "CPU µs per transaction of 64 clients that work, by the number of all clients", "font-weight='bold'")]
    drawn += [f"<path d='M{LEFT},{top}V{top + height}H{LEFT + width}' stroke='#444' fill='none'/>"]
    drawn += [text(LEFT - 8, top + 4, f"{most_y:.1f}", "text-anchor='end'"), text(LEFT - 8, top + height + 4, "0", "text-anchor='end'")]
    for x in sorted({x for x, _ in points}):
        drawn.append(text(place(x, 0)[0], top + height + 16, f"{x:.0f}", "text-anchor='middle'"))
    for name, line in lines.items():
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        if line:
            drawn.append(f"<polyline points='{path}' stroke='{colour(name)}' stroke-width='2' fill='none'/>")
            drawn.append(text(place(*line[-1])[0] + 6, place(*line[-1])[1] + 4, name))
    return drawn, top + height + 24


def colour(name):
    return COLOURS.get(name, OTHER_COLOUR)


def rect(x, y, width, height, fill):
    return f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 0.5):.1f}' height='{height}' fill='{fill}'/>"


def text(x, y, said, attributes=""):
    return f"<text x='{x:.1f}' y='{y:.1f}' {attributes}>{escape(said)}</text>"
