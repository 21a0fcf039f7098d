// Elements, tables and plots. Everything is set as text: names of users and databases are whatever their owners chose.
// What is there stays and is changed in place, so that whoever has the focus on it keeps that.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 64;

export const $ = (id) => document.getElementById(id);

export function make(name, attributes = {}, ...children) {
  const element = ["svg", "path"].includes(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function setText(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

export function button(label, act, more = {}) {
  const element = make("button", { type: "button", ...more }, label);
  element.addEventListener("click", act);
  return element;
}

// What is called what.
export const nameOf = ({ project, database, user }) => `${user}@${database}` + (project === "*" ? "" : ` · ${project}`);

export function count(n) {
  if (n >= 1e6) return (n / 1e6).toFixed(1) + " M";
  if (n >= 1e4) return (n / 1e3).toFixed(1) + " k";
  return n >= 100 ? String(Math.round(n)) : String(Math.round(n * 10) / 10);
}

const short = (n) => (n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2)).replace(/\.0+$/, "");

export function time(us) {
  if (us === null) return "–";
  if (us === Infinity) return "> 10 s";
  if (us < 1e3) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${short(us / 1e3)} ms`;
  return us < 120e6 ? `${short(us / 1e6)} s` : `${Math.round(us / 60e6)} min`;
}

// One child of `parent` for each item, made once for each key, in the order of the items.
export function keyed(parent, items, keyOf, create, update) {
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, at) => {
    const key = keyOf(item);
    let child = there.get(key);
    there.delete(key);
    if (!child) {
      child = create(item, at);
      child.dataset.key = key;
    }
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
    update(child, item);
  });
  there.forEach((child) => child.remove());
}

// A table whose rows are found again by `keyOf`. Columns: name, what of the row; a string, or an element made once for the row.
export class Table {
  constructor(section, keyOf, columns, { none = "none", rowsMax = Infinity } = {}) {
    this.keyOf = keyOf;
    this.columns = columns;
    this.rowsMax = rowsMax;
    this.body = make("tbody");
    const head = make("tr", {}, ...columns.map(([name]) => make("th", { scope: "col" }, name)));
    this.scroll = make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), this.body));
    this.none = make("p", { class: "quiet" }, none);
    this.more = make("p", { class: "quiet" });
    section.append(this.scroll, this.none, this.more);
  }

  // Rows stay where they are while somebody is about to press something in them.
  get isHeld() {
    const isUnder = matchMedia("(hover: hover)").matches && this.body.matches(":hover");
    return (isUnder || this.body.matches(":focus-within")) && this.body.querySelector("button") !== null;
  }

  show(rows, total = rows.length) {
    const shown = rows.slice(0, this.rowsMax);
    if (this.isHeld) {
      const now = new Map(rows.map((row) => [this.keyOf(row), row]));
      for (const line of this.body.children) this.fill(line, now.get(line.dataset.key));
    } else {
      keyed(this.body, shown, this.keyOf, (row) => this.line(row), (line, row) => this.fill(line, row));
    }
    this.scroll.hidden = this.body.children.length === 0;
    this.none.hidden = !this.scroll.hidden;
    this.more.hidden = total <= shown.length;
    setText(this.more, `and ${total - shown.length} more`);
  }

  line(row) {
    const cell = ([name, of, isMade]) => make("td", { "data-name": name }, ...(isMade ? [of(row)] : [make("span")]));
    return make("tr", {}, ...this.columns.map(cell));
  }

  fill(line, row) {
    line.classList.toggle("gone", row === undefined);
    line.querySelectorAll("button").forEach((button) => (button.disabled = row === undefined));
    if (row === undefined) return;
    this.columns.forEach(([, of, isMade], at) => {
      if (isMade) return;
      const cell = line.children[at];
      setText(cell.firstChild, of(row));
      cell.classList.toggle("empty", cell.textContent === "–");
      cell.classList.toggle("bad", cell.textContent === "down");
    });
  }
}

// Lines over the last minutes. Lines: name, style (`first`, `second`), values that may be null where there was nothing.
export class Plot {
  constructor(title, shown = count) {
    this.shown = shown;
    this.area = make("path", { class: "area" });
    this.lines = { first: make("path", { class: "first" }), second: make("path", { class: "second" }) };
    const attributes = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title };
    const grid = make("path", { class: "grid", d: `M0 1H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT - 1}H${WIDTH}` });
    const svg = make("svg", attributes, grid, this.area, this.lines.first, this.lines.second);
    this.keys = make("span", { class: "keys" });
    this.top = make("span");
    this.since = make("span");
    this.element = make(
      "figure",
      { class: "plot" },
      make("figcaption", {}, make("span", {}, title), this.keys),
      svg,
      make("div", { class: "axis" }, this.since, this.top),
    );
  }

  // `times` in ms, of each value; the last one is now. `span`: how far back, in ms.
  show(times, span, lines, least = 1) {
    const values = lines.flatMap((line) => line.values).filter((value) => value !== null);
    // A bucket without an end is drawn at its beginning.
    const finite = (value) => (value === Infinity ? 10e6 : value);
    const top = rounded(Math.max(least, ...values.map(finite)));
    const now = times.at(-1);
    const x = (at) => (WIDTH * (1 - (now - times[at]) / span)).toFixed(1);
    const y = (value) => (HEIGHT - 1 - ((HEIGHT - 2) * finite(value)) / top).toFixed(1);
    for (const style of ["first", "second"]) {
      const line = lines.find((line) => line.style === style);
      const pieces = line ? whole(times, line.values) : [];
      const path = pieces.map((piece) => "M" + piece.map((at) => `${x(at)} ${y(line.values[at])}`).join("L")).join("");
      this.lines[style].setAttribute("d", path);
      if (style === "first") {
        const under = (piece) => `M${x(piece[0])} ${HEIGHT}L` + piece.map((at) => `${x(at)} ${y(line.values[at])}`).join("L") + `L${x(piece.at(-1))} ${HEIGHT}Z`;
        this.area.setAttribute("d", pieces.map(under).join(""));
      }
    }
    keyed(this.keys, lines, (line) => line.style, (line) => make("span", { class: "key-" + line.style }), (key, line) => {
      setText(key, `${line.name} ${this.shown(line.values.at(-1) ?? null)}`.trim());
    });
    setText(this.since, `${Math.round(span / 60000)} min ago`);
    setText(this.top, this.shown(top));
  }
}

// Indices of values that follow each other without a gap.
function whole(times, values) {
  const pieces = [];
  const usual = 10_000;
  values.forEach((value, at) => {
    if (value === null) return;
    const last = pieces.at(-1);
    if (last && last.at(-1) === at - 1 && times[at] - times[at - 1] < usual) last.push(at);
    else pieces.push([at]);
  });
  return pieces;
}

// Up to 1, 2 or 5 times a power of ten.
function rounded(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= value * 0.999);
}
