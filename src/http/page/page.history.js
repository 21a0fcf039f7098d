// What was, for the plots: a few numbers of each sample and each pool.

export const EVERY_MS = 2000;
const KEPT = 300; // samples: ten minutes
const NARROWEST_MS = 60_000; // no plot shows less
const WINDOW = 5; // samples that percentiles are of: ten seconds
const POOLS_MAX = 100; // pools with a past

export const keyOf = (pool) => JSON.stringify([pool.project, pool.database, pool.user, pool.mode]);
export const sum = (items, of) => items.reduce((total, item) => total + of(item), 0);
const inUse = (servers) => servers.active + servers.held;
const open = (servers) => inUse(servers) + servers.idle;

const samples = []; // { at, all, pools: Map(key → numbers) }, oldest first
const states = []; // the last whole ones: counters and histograms, which only grow

export const past = {
  get times() {
    return samples.map((sample) => sample.at);
  },
  get span() {
    return Math.max(NARROWEST_MS, samples.length ? samples.at(-1).at - samples[0].at : 0);
  },
  get now() {
    return samples.at(-1).all;
  },
  // A number of each sample; null where the pool was not there.
  all: (name) => samples.map((sample) => sample.all[name]),
  pool: (key, name) => samples.map((sample) => sample.pools.get(key)?.[name] ?? null),
  ofPool: (key) => samples.at(-1).pools.get(key),
};

export function remember(state) {
  const at = performance.now();
  const before = states.at(-1);
  const window = states.at(-WINDOW) ?? states[0];
  const found = (past) => new Map((past?.pools ?? []).map((pool) => [keyOf(pool), pool]));
  const [last, earlier] = [found(before), found(window)];
  const seconds = before ? (at - before.at) / 1000 : 0;
  const pools = new Map();
  for (const pool of state.pools.slice(0, POOLS_MAX)) {
    const key = keyOf(pool);
    pools.set(key, numbers([pool], [last.get(key)], [earlier.get(key)], seconds));
  }
  const all = numbers(state.pools, state.pools.map((p) => last.get(keyOf(p))), state.pools.map((p) => earlier.get(keyOf(p))), seconds);
  // A login that is not yet in a pool is a client, and a server may be between two pools.
  all.clients = state.clients;
  all.open = sum(state.upstreams, (upstream) => upstream.connections);
  samples.push({ at, all, pools });
  if (samples.length > KEPT) samples.shift();
  states.push({ at, pools: state.pools });
  if (states.length > WINDOW) states.shift();
}

// Of these pools together; what grows, since they were last seen.
function numbers(pools, before, earlier, seconds) {
  const grown = (pool, then) => (then ? Math.max(0, pool.totals.transactions - then.totals.transactions) : 0);
  const wait = between(pools, earlier, (pool) => pool.queue_wait);
  const lease = between(pools, earlier, (pool) => pool.lease);
  return {
    rate: seconds > 0 ? sum(pools.map((pool, i) => grown(pool, before[i])), (n) => n) / seconds : null,
    clients: sum(pools, (pool) => pool.clients),
    waiting: sum(pools, (pool) => pool.waiting),
    open: sum(pools, (pool) => open(pool.servers)),
    inUse: sum(pools, (pool) => inUse(pool.servers)),
    wait50: percentile(0.5, wait),
    wait99: percentile(0.99, wait),
    lease50: percentile(0.5, lease),
    lease99: percentile(0.99, lease),
  };
}

// What was observed between the two, added up: the bounds, and how many were no longer than each.
function between(pools, earlier, of) {
  const total = { bounds: [], upTo: [], count: 0 };
  pools.forEach((pool, i) => {
    if (!earlier[i]) return;
    const [now, then] = [of(pool), of(earlier[i])];
    total.bounds = now.bounds_us;
    total.count += now.count - then.count;
    now.up_to.forEach((n, at) => (total.upTo[at] = (total.upTo[at] ?? 0) + n - then.up_to[at]));
  });
  return total;
}

// In µs, as Prometheus' histogram_quantile has it: even inside a bucket. Null where there was nothing.
export function percentile(share, { bounds, upTo, count }) {
  if (count <= 0) return null;
  const rank = share * count;
  const at = upTo.findIndex((n) => n >= rank);
  if (at < 0) return Infinity;
  const [lower, below] = at > 0 ? [bounds[at - 1], upTo[at - 1]] : [0, 0];
  return lower + ((bounds[at] - lower) * (rank - below)) / Math.max(1, upTo[at] - below);
}
