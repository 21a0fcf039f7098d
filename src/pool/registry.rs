//! All pools of the process, found by their key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::credentials::Credentials;
use super::open::Opener;
use super::{Budget, Health, Pool, PoolKey, State, Vacancy};
use crate::auth::key_cache::KeyCache;
use crate::config::{Project, Settings};
use crate::net::tls::TlsContext;
use crate::telemetry::Telemetry;
use crate::upstream::Credential;
use crate::wire::exchange::Catalog;

/// How often the keeper sweeps.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Registry {
    settings: Arc<Settings>,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    upstreams: HashMap<String, Upstream>,
    keys: Arc<KeyCache>,
    ids: Arc<AtomicU64>,
    telemetry: Arc<Telemetry>,
}

#[derive(Debug)]
struct Upstream {
    budget: Arc<Budget>,
    tls: Arc<TlsContext>,
}

impl Registry {
    /// `tls` is each project's upstream TLS context, in the order of the settings.
    pub fn new(settings: Arc<Settings>, tls: Vec<Arc<TlsContext>>, keys: Arc<KeyCache>) -> Self {
        let upstreams = settings
            .projects
            .iter()
            .zip(tls)
            .map(|(p, tls)| (p.name.clone(), Upstream { budget: Budget::new(p.max_server_connections), tls }))
            .collect();
        Self { settings, pools: Mutex::default(), upstreams, keys, ids: Arc::default(), telemetry: Arc::default() }
    }

    /// The pool for `key`, made if there is none. `credential` is what its servers log in with from now on.
    pub fn pool(&self, key: PoolKey, project: &Arc<Project>, credential: Credential) -> Option<Arc<Pool>> {
        let upstream = self.upstreams.get(&project.name)?;
        let pool = {
            let mut pools = self.pools.lock();
            let pool = pools.entry(key).or_insert_with_key(|key| self.make(key, project, upstream, credential.clone()));
            pool.client_came();
            Arc::clone(pool)
        };
        pool.set_credential(credential);
        Some(pool)
    }

    fn make(&self, key: &PoolKey, project: &Arc<Project>, upstream: &Upstream, credential: Credential) -> Arc<Pool> {
        let state = State {
            idle: Default::default(),
            waiters: Default::default(),
            held: Default::default(),
            opening: 0,
            generation: Arc::default(),
            health: Health::Up,
            greeting: None,
            vacancies: 0,
        };
        let pool = Arc::new(Pool {
            key: key.clone(),
            project: Arc::clone(project),
            catalog: Arc::new(Catalog { isolation: self.settings.isolation, ..Catalog::default() }),
            settings: Arc::clone(&self.settings),
            opener: Opener {
                tls: Arc::clone(&upstream.tls),
                keys: Arc::clone(&self.keys),
                credential: Credentials::new(credential),
            },
            budget: Arc::clone(&upstream.budget),
            state: Mutex::new(state),
            open: Arc::default(),
            clients: AtomicUsize::new(0),
            ids: Arc::clone(&self.ids),
            tally: self.telemetry.tally(key.telemetry_name()),
        });
        upstream.budget.enter(&pool);
        pool
    }

    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Connections to a project's upstream, over all its pools, and the most there may be.
    pub fn upstream_connections(&self, project: &str) -> Option<(usize, usize)> {
        self.upstreams.get(project).map(|upstream| (upstream.budget.open(), upstream.budget.limit()))
    }

    /// Somebody wants `database` for himself: all pools in it, whatever their user, mode or project, make way.
    pub fn vacate(&self, project: &Project, database: &str) -> Vacancy {
        Vacancy::of(self.neighbours(project).filter(|p| p.key.database == database).collect())
    }

    /// Closes idle servers in every database but the projects' own: one of them is in somebody's way.
    pub fn close_idle_elsewhere(&self, project: &Project) {
        let others = self.neighbours(project).filter(|p| p.key.database != p.project.upstream.database);
        others.for_each(|p| _ = p.close_idle());
    }

    /// The pools of the same PostgreSQL.
    fn neighbours(&self, project: &Project) -> impl Iterator<Item = Arc<Pool>> {
        let at = |p: &Project| (p.upstream.host.clone(), p.upstream.port);
        let place = at(project);
        self.all().into_iter().filter(move |p| at(&p.project) == place)
    }

    pub fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.lock().values().cloned().collect()
    }

    /// Sweeps for ever.
    pub async fn keep(self: Arc<Self>) {
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = Instant::now();
            self.all().iter().for_each(|p| p.keep(now));
            self.pools.lock().retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_deserted());
        }
    }
}
