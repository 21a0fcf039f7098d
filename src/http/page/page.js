"use strict";
// Everything is set as text: names of users and databases are whatever their owners chose.
const EVERY_MS = 2000;
const KEPT = 300; // samples: ten minutes
const WINDOW = 30; // samples that percentiles are of: one minute
const NARROWEST = 60; // samples: no plot shows less than two minutes

const samples = [];
let token = sessionStorage.getItem("token");

const $ = (id) => document.getElementById(id);
const make = (name, attributes = {}, ...children) => {
  const svg = name === "svg" || name === "polyline";
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const sum = (pools, of) => pools.reduce((total, pool) => total + of(pool), 0);
const count = (n) => (n >= 1e6 ? (n / 1e6).toFixed(1) + " M" : n >= 1e4 ? (n / 1e3).toFixed(1) + " k" : n >= 100 ? String(Math.round(n)) : String(Math.round(n * 10) / 10));
const time = (us) => (us === null ? "–" : us >= 1e6 ? us / 1e6 + " s" : us >= 1e3 ? us / 1e3 + " ms" : us + " µs");
const nameOf = (pool) => `${pool.user}@${pool.database} · ${pool.mode}` + (pool.project === "*" ? "" : ` · ${pool.project}`);
const keyOf = (pool) => JSON.stringify([pool.project, pool.database, pool.user, pool.mode]);

// Upper end of the bucket that the share falls into, of what was observed between the two.
function percentile(share, then, now) {
  const grown = now.count - (then ? then.count : 0);
  if (grown <= 0) return null;
  const at = now.up_to.findIndex((n, i) => n - (then ? then.up_to[i] : 0) >= share * grown);
  return at < 0 ? Infinity : now.bounds_us[at];
}
const upTo = (us) => (us === null ? "–" : us === Infinity ? "> 10 s" : "≤ " + time(us));

const rate = (now, then, of) => {
  if (!then) return 0;
  const seconds = (now.at - then.at) / 1000;
  return seconds > 0 ? Math.max(0, of(now) - of(then)) / seconds : 0;
};

function figure(name, value, bad) {
  return make("div", { class: "card" }, make("span", { class: "quiet" }, name), make("b", bad ? { class: "bad" } : {}, value));
}

function plot(title, lines) {
  const span = Math.max(NARROWEST, samples.length);
  const top = Math.max(1, ...lines.flatMap((line) => line.values));
  const svg = make("svg", { viewBox: "0 0 300 60", preserveAspectRatio: "none", role: "img", "aria-label": title });
  for (const { style, values } of lines) {
    const at = (value, i) => `${((300 * (span - values.length + i + 1)) / span).toFixed(1)},${(58 - (56 * value) / top).toFixed(1)}`;
    svg.append(make("polyline", { class: style, points: values.map(at).join(" ") }));
  }
  const keys = lines.map((line) => make("span", { class: "key-" + line.style }, ` ${line.name} ${count(line.values.at(-1) ?? 0)}`));
  const head = make("div", { class: "head" }, make("span", {}, title), make("span", {}, ...keys));
  return make("div", { class: "card" }, head, svg, make("div", { class: "quiet head" }, make("span", {}, `${Math.round((span * EVERY_MS) / 60000)} min ago`), make("span", {}, `top ${count(top)}`)));
}

function table(columns, rows) {
  if (rows.length === 0) return make("p", { class: "quiet" }, "none");
  const head = make("tr", {}, ...columns.map(([name]) => make("th", {}, name)));
  const line = (row) => make("tr", {}, ...columns.map(([name, of]) => make("td", { "data-name": name }, String(of(row)))));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows.map(line))));
}

function draw() {
  const now = samples.at(-1);
  const before = samples.at(-2);
  const minute = samples.at(-1 - Math.min(WINDOW, samples.length - 1));
  const earlier = new Map(minute.state.pools.map((pool) => [keyOf(pool), pool]));
  const previous = new Map((before ?? now).state.pools.map((pool) => [keyOf(pool), pool]));
  const { state } = now;
  const phase = $("phase");
  phase.textContent = state.ready ? state.phase : state.readiness;
  phase.className = "badge " + (state.ready ? "good" : "bad");
  $("version").textContent = state.version;
  $("figures").replaceChildren(
    figure("transactions/s", count(rate(now, before, (s) => s.transactions))),
    figure("clients", count(now.clients)),
    figure("waiting", count(now.waiting), now.waiting > 0),
    figure("servers", `${now.leased} of ${now.open}`),
    figure("errors", count(sum(state.errors, (error) => error.count))),
  );
  const series = (of) => samples.map(of);
  const rates = samples.map((sample, i) => rate(sample, samples[i - 1], (s) => s.transactions)).slice(1);
  $("plots").replaceChildren(
    plot("Transactions/s", [{ name: "", style: "first", values: rates }]),
    plot("Clients", [{ name: "all", style: "first", values: series((s) => s.clients) }, { name: "waiting", style: "second", values: series((s) => s.waiting) }]),
    plot("Servers", [{ name: "open", style: "first", values: series((s) => s.open) }, { name: "in use", style: "second", values: series((s) => s.leased) }]),
  );
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const perSecond = (pool) => {
    const then = previous.get(keyOf(pool));
    return then && seconds > 0 ? count(Math.max(0, pool.totals.transactions - then.totals.transactions) / seconds) : "–";
  };
  const held = (pool) => Object.keys(pool.held_for).join(", ");
  $("pools").replaceChildren(table([
    ["pool", nameOf],
    ["tx/s", perSecond],
    ["clients", (p) => p.clients],
    ["waiting", (p) => (p.waiting ? `${p.waiting}, ${(p.longest_wait_ms / 1000).toFixed(1)} s` : 0)],
    ["idle", (p) => p.servers.idle],
    ["active", (p) => p.servers.active],
    ["held", (p) => (p.servers.held ? `${p.servers.held} (${held(p)})` : 0)],
    ["opening", (p) => p.servers.opening],
    ["limit", (p) => p.servers.limit],
    ["wait p99", (p) => upTo(percentile(0.99, earlier.get(keyOf(p))?.queue_wait, p.queue_wait))],
    ["lease p50", (p) => upTo(percentile(0.5, earlier.get(keyOf(p))?.lease, p.lease))],
    ["lease p99", (p) => upTo(percentile(0.99, earlier.get(keyOf(p))?.lease, p.lease))],
  ], state.pools));
  $("upstreams").replaceChildren(table([
    ["project", (u) => u.project],
    ["connections", (u) => u.connections],
    ["limit", (u) => u.connections_limit],
  ], state.upstreams));
  $("errors").replaceChildren(table([
    ["SQLSTATE class", (e) => e.class],
    ["at fault", (e) => e.fault],
    ["count", (e) => e.count],
  ], state.errors));
}

function take(state) {
  const { pools } = state;
  samples.push({
    at: performance.now(),
    state,
    clients: state.clients,
    transactions: sum(pools, (p) => p.totals.transactions),
    waiting: sum(pools, (p) => p.waiting),
    leased: sum(pools, (p) => p.servers.active + p.servers.held),
    open: sum(state.upstreams, (u) => u.connections),
  });
  if (samples.length > KEPT) samples.shift();
  // Percentiles look back a minute; older samples need only their sums.
  const old = samples.at(-2 - WINDOW);
  if (old) old.state = null;
}

function lost(reason) {
  $("phase").textContent = reason;
  $("phase").className = "badge bad";
}

async function look() {
  try {
    const headers = token ? { Authorization: "Bearer " + token } : {};
    const response = await fetch("/api/state", { headers, cache: "no-store" });
    $("token-form").hidden = response.status !== 401;
    if (response.ok) {
      take(await response.json());
      draw();
    } else {
      lost(response.status === 401 ? "token wanted" : `error ${response.status}`);
    }
  } catch {
    lost("no answer");
  }
  setTimeout(look, EVERY_MS);
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  sessionStorage.setItem("token", token);
});
look();
