//! What there is at one moment: the figures of pools and upstreams, for every way of showing them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::{Host, Upstream};
use crate::pool::{Counts, Pool, Reach, Registry};
use crate::session::{House, Stop};
use crate::telemetry::{PoolName, Tally, Telemetry};

/// Pools shown one by one, in pools.
const POOLS_MAX: usize = 1000;

pub(crate) struct Snapshot {
    pub phase: &'static str,
    pub sessions: usize,
    pub clients_limit: usize,
    pub upstreams: Vec<UpstreamView>,
    pub pool_count: usize,
    pub pools: Vec<PoolView>,
    /// Also of pools that are gone.
    pub tallies: Vec<(PoolName, Tally)>,
    pub telemetry: Arc<Telemetry>,
}

pub(crate) struct UpstreamView {
    pub project: String,
    pub host: String,
    pub port: u16,
    /// `up`, `down` or `unknown`, by what its pools have met.
    pub reach: &'static str,
    pub connections: usize,
    pub limit: usize,
}

pub(crate) struct PoolView {
    pub name: PoolName,
    pub host: String,
    pub port: u16,
    pub counts: Counts,
    pub held_for: BTreeMap<&'static str, usize>,
    pub statements: usize,
    /// Clients and channels of its listener.
    pub listening: (usize, usize),
    pub size: usize,
    /// Of its upstream, over all pools.
    pub upstream_limit: usize,
    pub is_paused: bool,
    /// New clients are refused.
    pub is_disabled: bool,
    pub tally: Tally,
}

/// Each pool is locked for as long as counting takes, one after the other.
pub(crate) fn take(house: &House) -> Snapshot {
    let registry = &house.registry;
    let mut all = registry.all();
    all.sort_by_cached_key(|pool| pool.key.telemetry_name());
    let limit_of = |project: &str| registry.upstream_connections(project).unwrap_or_default();
    let settings = house.settings.get();
    let mut by_project: HashMap<&str, Vec<Arc<Pool>>> = HashMap::new();
    all.iter().for_each(|pool| by_project.entry(&pool.key.project).or_default().push(Arc::clone(pool)));
    let upstreams = settings.projects.iter().map(|project| {
        let (connections, limit) = limit_of(&project.name);
        let (host, port) = (host(&project.upstream), project.upstream.port);
        let reach = reach(by_project.get(&*project.name).map_or(&[], Vec::as_slice));
        UpstreamView { project: project.name.clone(), host, port, reach, connections, limit }
    });
    Snapshot {
        phase: match house.sessions.stopping() {
            None => "serving",
            Some(Stop::Announced | Stop::Drain) => "draining",
            Some(Stop::Now) => "stopping",
        },
        sessions: house.sessions.len(),
        clients_limit: settings.limits.max_clients,
        upstreams: upstreams.collect(),
        pool_count: all.len(),
        pools: all.iter().take(POOLS_MAX).map(|pool| view(registry, pool, limit_of(&pool.key.project).1)).collect(),
        tallies: registry.telemetry().tallies(),
        telemetry: Arc::clone(registry.telemetry()),
    }
}

fn view(registry: &Registry, pool: &Pool, upstream_limit: usize) -> PoolView {
    let terms = pool.terms();
    let upstream = &terms.project.upstream;
    PoolView {
        name: pool.key.telemetry_name(),
        host: host(upstream),
        port: upstream.port,
        counts: pool.counts(),
        held_for: pool.holds_by_reason(),
        statements: pool.catalog.statements.len(),
        listening: pool.listening(),
        size: terms.size,
        upstream_limit,
        is_paused: registry.is_paused(&pool.key),
        is_disabled: registry.is_disabled(&pool.key),
        tally: pool.tally.sum(),
    }
}

/// A name, an address, or the directory of a Unix socket.
pub(super) fn host(upstream: &Upstream) -> String {
    match &upstream.host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(directory) => directory.display().to_string(),
    }
}

/// Of one upstream, by what its pools have met.
pub(super) fn reach(pools: &[Arc<Pool>]) -> &'static str {
    let met: Vec<Reach> = pools.iter().map(|pool| pool.reach()).collect();
    match () {
        () if met.contains(&Reach::Up) => "up",
        () if met.contains(&Reach::Down) => "down",
        () => "unknown",
    }
}

impl PoolView {
    /// Servers with a client, those that are held among them.
    pub(crate) fn leased(&self) -> usize {
        self.counts.open.saturating_sub(self.counts.idle)
    }

    /// Servers with a client that are not held.
    pub(crate) fn active(&self) -> usize {
        self.leased().saturating_sub(self.counts.held)
    }

    /// Clients that wait for nothing from the pool.
    pub(crate) fn unqueued(&self) -> usize {
        self.counts.clients.saturating_sub(self.counts.waiting)
    }
}
