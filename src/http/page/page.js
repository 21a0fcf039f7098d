// Asks for /api/state, and draws it.
import { $, Plot, Table, count, keyed, make, nameOf, setText, time } from "./page.parts.js";
import { EVERY_MS, keyOf, past, remember, sum } from "./page.history.js";
import * as actions from "./page.actions.js";

const PATIENCE_MS = 5000;
const ROWS = 10; // of a table that begins with the worst
const CARDS = 100; // pools shown
const OPEN = 4; // of them with their plots, until somebody opens more

let token = sessionStorage.getItem("token");
let timer = 0;
let answered = null; // when it last did

const request = (method, path) => {
  const headers = token ? { Authorization: "Bearer " + token } : {};
  if (method !== "GET") headers["X-Sidepool"] = "1";
  return fetch(path, { method, headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
};

async function look() {
  clearTimeout(timer);
  try {
    const response = await request("GET", "/api/state");
    $("token-form").hidden = response.status !== 401;
    if (response.ok) {
      const state = await response.json();
      remember(state);
      draw(state);
      answered = new Date();
      found();
    } else if (response.status === 401) {
      badge("token wanted", false);
    } else {
      lost(`error ${response.status}`, "answers with an error");
    }
  } catch {
    lost("no answer", "does not answer");
  }
  timer = setTimeout(look, EVERY_MS);
}

function badge(text, isGood) {
  $("phase").className = "badge " + (isGood ? "good" : "bad");
  setText($("phase"), text);
}

function found() {
  $("lost").hidden = true;
  document.body.classList.remove("stale");
  document.querySelector("main").hidden = false;
}

function lost(short, what) {
  badge(short, false);
  document.body.classList.add("stale");
  $("lost").hidden = false;
  const since = answered ? `since ${answered.toLocaleTimeString()}; what you see is from then` : "at all yet";
  setText($("lost"), `Sidepool ${what} ${since}.`);
}

// The parts of the page, made once.

const figures = ["transactions/s", "clients", "waiting", "servers in use", "wait p99", "lease p99", "errors"];
const shown = new Map(
  figures.map((name) => {
    const value = make("b", {}, "–");
    $("figures").append(make("div", { class: "card" }, make("span", { class: "quiet" }, name), value));
    return [name, value];
  }),
);

const overall = { rate: new Plot("Transactions/s"), clients: new Plot("Clients"), servers: new Plot("Servers") };
Object.values(overall).forEach((plot) => $("plots").append(make("div", { class: "card" }, plot.element)));

const ms = (value) => (value < 1 ? "< 1 ms" : time(value * 1000));
const whose = (row) => nameOf(row) + (row.mode ? ` · ${row.mode}` : "");
const client = (row) => `${row.client_id ?? "?"}${row.application_name ? ` · ${row.application_name}` : ""}`;
const endable = (row) => (row.client_id === null ? "" : actions.end(row));
const keyOfClient = (row) => String(row.client_id ?? `${row.addr} ${row.position}`);

const tables = {
  waiters: new Table($("waiters"), keyOfClient, [
    ["client", client],
    ["waits", (w) => ms(w.wait_ms)],
    ["place", (w) => w.position],
    ["pool", whose],
    ["from", (w) => w.addr],
    ["", endable, true],
  ], { none: "Nobody waits.", rowsMax: ROWS }),
  holders: new Table($("holders"), keyOfClient, [
    ["client", client],
    ["holds", (h) => ms(h.held_ms)],
    ["pool", whose],
    ["server pid", (h) => h.server_pid],
    ["kept for", (h) => h.reasons || "–"],
    ["statement", (h) => h.statement ?? "–"],
    ["", endable, true],
  ], { none: "Nobody has a server.", rowsMax: ROWS }),
  pins: new Table($("pins"), keyOfClient, [
    ["client", client],
    ["kept for", (p) => p.reasons],
    ["statement", (p) => p.statement ?? "–"],
    ["since", (p) => ms(p.held_ms)],
    ["wanted by others", (p) => (p.state === "pinned" ? "yes" : "no")],
    ["pool", whose],
    ["", endable, true],
  ], { none: "No server is kept between transactions.", rowsMax: ROWS }),
  lint: new Table($("lint"), (l) => JSON.stringify([l.finding, l.application_name, l.statement]), [
    ["finding", (l) => l.finding],
    ["application", (l) => l.application_name || "–"],
    ["statement", (l) => l.statement],
    ["why", (l) => l.why],
    ["fix", (l) => l.fix],
  ], { none: "Nothing found; the option lint says whether it looks.", rowsMax: 50 }),
  upstreams: new Table($("upstreams"), (u) => u.project, [
    ["project", (u) => (u.project === "*" ? "default" : u.project)],
    ["at", (u) => `${u.host}:${u.port}`],
    ["health", (u) => ({ unknown: "not tried yet" })[u.reach] ?? u.reach],
    ["connections", (u) => `${u.connections} of ${u.connections_limit}`],
    ["failed connects", (u) => u.failures],
    ["lost in use", (u) => u.losses],
  ], { rowsMax: CARDS }),
  errors: new Table($("errors"), (e) => e.class + e.fault, [
    ["SQLSTATE class", (e) => e.class],
    ["at fault", (e) => e.fault],
    ["count", (e) => e.count],
  ]),
};

$("process-actions").append(actions.resumeAll(), actions.reload());

const cards = new WeakMap();

function card(pool, at) {
  const name = make("span", { class: "name" }, nameOf(pool));
  const [now, paused, facts] = [make("span", { class: "now" }), make("span", { class: "badge bad" }, "paused"), make("p", { class: "quiet" })];
  const plots = { clients: new Plot("Clients"), servers: new Plot("Servers"), wait: new Plot("Wait", time), lease: new Plot("Lease", time) };
  const disabled = make("span", { class: "badge bad" }, "disabled");
  const [pause, resume, reconnect] = [actions.pause(pool), actions.resume(pool), actions.reconnect(pool)];
  const [disable, enable, kill] = [actions.disable(pool), actions.enable(pool), actions.kill(pool)];
  const element = make(
    "details",
    { class: "card pool" },
    make("summary", {}, name, make("span", { class: "badge quiet" }, pool.mode), paused, disabled, now),
    make("div", { class: "grid" }, ...Object.values(plots).map((plot) => plot.element)),
    facts,
    make("div", { class: "actions" }, pause, resume, reconnect, disable, enable, kill),
  );
  element.open = at < OPEN;
  // As it was last seen, when somebody looks again.
  element.addEventListener("toggle", () => cards.get(element).draw());
  cards.set(element, { now, paused, disabled, facts, plots, pause, resume, disable, enable, draw: () => {} });
  return element;
}

function drawCard(element, pool) {
  const key = keyOf(pool);
  const parts = cards.get(element);
  const { servers } = pool;
  const rate = past.ofPool(key)?.rate ?? null;
  const waits = pool.waiting ? ` · ${pool.waiting} waiting, ${ms(pool.longest_wait_ms)}` : "";
  setText(parts.now, `${rate === null ? "" : `${count(rate)} tx/s · `}${count(pool.clients)} clients${waits}`);
  parts.paused.hidden = !pool.paused;
  parts.pause.hidden = pool.paused;
  parts.resume.hidden = !pool.paused;
  parts.disabled.hidden = !pool.disabled;
  parts.disable.hidden = pool.disabled;
  parts.enable.hidden = !pool.disabled;
  const kept = Object.keys(pool.held_for).join(", ");
  setText(parts.facts, `servers: ${servers.idle} idle, ${servers.active} active, ${servers.held} held${kept && ` (${kept})`}, ${servers.opening} opening, at most ${servers.limit}`);
  parts.draw = () => {
    if (!element.open) return;
    const line = (name, style, of) => ({ name, style, values: past.pool(key, of) });
    const [times, span] = [past.times, past.span];
    parts.plots.clients.show(times, span, [line("all", "first", "clients"), line("waiting", "second", "waiting")]);
    parts.plots.servers.show(times, span, [line("open", "first", "open"), line("in use", "second", "inUse")]);
    parts.plots.wait.show(times, span, [line("p99", "first", "wait99"), line("p50", "second", "wait50")], 1000);
    parts.plots.lease.show(times, span, [line("p99", "first", "lease99"), line("p50", "second", "lease50")], 1000);
  };
  parts.draw();
}

function draw(state) {
  const now = past.now;
  badge(state.ready ? state.phase : state.readiness, state.ready);
  setText($("version"), state.version);
  const figure = (name, value, isBad = false) => {
    setText(shown.get(name), value);
    shown.get(name).classList.toggle("bad", isBad);
  };
  figure("transactions/s", now.rate === null ? "–" : count(now.rate));
  figure("clients", `${now.clients} of ${state.clients_limit}`);
  figure("waiting", count(now.waiting), now.waiting > 0);
  figure("servers in use", `${now.inUse} of ${now.open}`);
  figure("wait p99", time(now.wait99));
  figure("lease p99", time(now.lease99));
  figure("errors", count(sum(state.errors, (error) => error.count)));
  const line = (name, style, of) => ({ name, style, values: past.all(of) });
  const [times, span] = [past.times, past.span];
  overall.rate.show(times, span, [line("", "first", "rate")]);
  overall.clients.show(times, span, [line("all", "first", "clients"), line("waiting", "second", "waiting")]);
  overall.servers.show(times, span, [line("open", "first", "open"), line("in use", "second", "inUse")]);
  keyed($("pools"), state.pools.slice(0, CARDS), keyOf, card, drawCard);
  $("pools-more").hidden = state.pool_count <= CARDS;
  setText($("pools-more"), `and ${state.pool_count - CARDS} more, in /api/state and /metrics`);
  for (const name of ["waiters", "holders", "pins", "lint"]) tables[name].show(state[name].rows, state[name].total);
  const ofProject = (upstream, of) => sum(state.pools.filter((pool) => pool.project === upstream.project), of);
  const upstreams = state.upstreams.map((upstream) => ({
    ...upstream,
    failures: ofProject(upstream, (pool) => pool.totals.connect_failures),
    losses: ofProject(upstream, (pool) => pool.totals.servers_lost),
  }));
  tables.upstreams.show(upstreams);
  tables.errors.show(state.errors);
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  sessionStorage.setItem("token", token);
  look();
});
actions.prepare(request, look);
look();
