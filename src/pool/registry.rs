//! All pools of the process, found by their key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use super::credentials::Credentials;
use super::gates::Gates;
use super::generation::Generation;
use super::listener::Listener;
use super::open::Opener;
use super::pace::Pace;
use super::{Budget, Gate, Health, Pool, PoolKey, StartupKey, State, Terms, Vacancy};
use crate::auth::key_cache::KeyCache;
use crate::config::{Project, Settings};
use crate::net::spawner::Spawner;
use crate::net::tls::TlsContext;
use crate::telemetry::{Moment, Telemetry};
use crate::upstream::{Credential, Shortcut};
use crate::wire::exchange::{Catalog, Isolation, NamedStatements};

#[derive(Debug)]
pub struct Registry {
    pools: Mutex<HashMap<PoolKey, Arc<Pool>, RandomState>>,
    pub(super) gates: Mutex<Gates>,
    /// By the name of the project. Held while a pool is made or found, so that a reload misses none.
    upstreams: RwLock<HashMap<String, Upstream, RandomState>>,
    edition: AtomicU64,
    isolation: Isolation,
    named_statements: NamedStatements,
    keys: Arc<KeyCache>,
    ids: Arc<AtomicU64>,
    spawner: Spawner,
    pace: Arc<Pace>,
    telemetry: Arc<Telemetry>,
}

#[derive(Debug)]
struct Upstream {
    budget: Arc<Budget>,
    terms: Arc<Terms>,
}

/// Why a project lets nobody in, though the login began when it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// A reload has removed it.
    Gone,
    /// Why.
    Disabled(String),
}

impl Registry {
    /// `tls` is each project's upstream TLS context, in the order of the settings.
    pub fn new(settings: &Arc<Settings>, tls: &[Arc<TlsContext>], keys: Arc<KeyCache>) -> Self {
        let registry = Self {
            pools: Mutex::default(),
            gates: Mutex::default(),
            upstreams: RwLock::default(),
            edition: AtomicU64::new(0),
            isolation: settings.isolation,
            named_statements: settings.named_statements,
            keys,
            ids: Arc::default(),
            spawner: Spawner::current(),
            pace: Arc::default(),
            telemetry: Arc::default(),
        };
        registry.adopt(settings, tls);
        registry
    }

    /// Where the tasks run that have a server.
    pub fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Works by these from now on, and so do all pools: they keep their servers, unless those would be opened in another way now.
    pub fn adopt(&self, settings: &Arc<Settings>, tls: &[Arc<TlsContext>]) {
        let mut upstreams = self.upstreams.write();
        let mut next = HashMap::default();
        for (project, tls) in settings.projects.iter().zip(tls) {
            let limit = project.max_server_connections;
            let before = upstreams.get(&project.name);
            let known = before.map(|known| Arc::clone(&known.budget));
            // One that was gone for a moment may have servers yet.
            let left = || self.all().iter().find(|pool| pool.key.project == project.name).map(|pool| Arc::clone(&pool.budget));
            let budget = known.or_else(left).unwrap_or_else(|| Budget::new(limit));
            // What was found out of it counts while it is the same.
            let same = before.filter(|known| known.terms.project.upstream == project.upstream);
            let shortcut =
                same.map_or_else(|| Arc::new(Shortcut::of(&project.upstream)), |same| Arc::clone(&same.terms.shortcut));
            let terms = Arc::new(Terms::new(settings, project, tls, shortcut));
            next.insert(project.name.clone(), Upstream { budget, terms });
        }
        *upstreams = next;
        // Whoever sees it finds the upstreams that belong to it.
        self.edition.fetch_add(1, Ordering::Release);
        let upstreams = RwLockWriteGuard::downgrade(upstreams);
        for pool in self.all() {
            match upstreams.get(&pool.key.project) {
                Some(upstream) => pool.adopt(Arc::clone(&upstream.terms)),
                None => pool.orphan(),
            }
        }
        upstreams.values().for_each(|upstream| upstream.budget.set_limit(upstream.terms.project.max_server_connections));
    }

    /// The pool for `key`, made if there is none. `credential` is what its servers log in with from now on: proved to
    /// `project`, which a reload may have changed since.
    ///
    /// # Errors
    /// The project lets nobody in any more.
    pub fn pool(&self, key: &PoolKey, project: &Arc<Project>, credential: &Credential) -> Result<Arc<Pool>, Unavailable> {
        let upstreams = self.upstreams.read();
        let upstream = available(&upstreams, &project.name)?;
        let now = &upstream.terms.project;
        let configured = if Arc::ptr_eq(now, project) { None } else { now.password_of(&key.user) };
        let configured = configured.map(|password| Credential::Password(password.clone()));
        let credential = configured.as_ref().unwrap_or(credential);
        let pool = {
            let mut pools = self.pools.lock();
            let pool = match pools.get(key) {
                Some(pool) => Arc::clone(pool),
                None => Arc::clone(pools.entry(key.clone()).or_insert(self.make(key, upstream, credential.clone()))),
            };
            pool.client_came();
            pool
        };
        pool.set_credential(credential);
        self.hold_at_gate(&pool);
        Ok(pool)
    }

    /// Of what this works by: another after each reload.
    pub fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// [`check`](Self::check), of a project that was found in that edition.
    ///
    /// # Errors
    /// The same.
    pub fn check_again(&self, edition: u64, project: &str) -> Result<(), Unavailable> {
        if self.edition() == edition { Ok(()) } else { self.check(project) }
    }

    /// Whether clients of this project may be there.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, project: &str) -> Result<(), Unavailable> {
        available(&self.upstreams.read(), project).map(drop)
    }

    fn make(&self, key: &PoolKey, upstream: &Upstream, credential: Credential) -> Arc<Pool> {
        let state = State {
            terms: Arc::clone(&upstream.terms),
            idle: Default::default(),
            waiters: Default::default(),
            held: Default::default(),
            opening: 0,
            generation: Generation::new(&self.ids),
            health: Health::Up,
            greeting: None,
            vacancies: 0,
            gate: Gate::Open,
        };
        let pool = Arc::new(Pool {
            key: Arc::new(key.clone()),
            mode: key.mode,
            catalog: Arc::new(Catalog::new(self.isolation, self.named_statements)),
            opener: Opener {
                keys: Arc::clone(&self.keys),
                credential: Credentials::new(credential),
                spawner: self.spawner.clone(),
            },
            budget: Arc::clone(&upstream.budget),
            listener: Listener::new(),
            state: Mutex::new(state),
            open: Arc::default(),
            roster: Arc::default(),
            clients: AtomicUsize::new(0),
            ids: Arc::clone(&self.ids),
            pace: Arc::clone(&self.pace),
            no_startup: StartupKey::default(),
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
        self.upstreams.read().get(project).map(|upstream| (upstream.budget.open(), upstream.budget.limit()))
    }

    /// Somebody wants `database` for himself: all pools in it, whatever their user, mode or project, make way for as long as
    /// `vacancy` lives.
    pub fn vacate(&self, project: &Project, database: &str, vacancy: &mut Vacancy) {
        // One client may name hundreds in a chunk: most pools are in none of them, and cost a comparison.
        let named = |pool: &&Arc<Pool>| pool.key.database == database;
        let mut pools: Vec<_> = self.pools.lock().values().filter(named).cloned().collect();
        // Of the same PostgreSQL.
        let at = |p: &Project| (p.upstream.host.clone(), p.upstream.port);
        let place = at(project);
        pools.retain(|p| at(&p.project()) == place);
        vacancy.extend(pools);
    }

    pub fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.lock().values().cloned().collect()
    }

    /// Sweeps for ever.
    pub async fn keep(self: Arc<Self>) {
        loop {
            let now = Moment::now();
            self.all().iter().for_each(|p| p.keep(now));
            self.pools.lock().retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_deserted());
            self.pace.pause(|| self.pools.lock().values().any(|pool| pool.is_busy())).await;
        }
    }
}

fn available<'a>(upstreams: &'a HashMap<String, Upstream, RandomState>, project: &str) -> Result<&'a Upstream, Unavailable> {
    let upstream = upstreams.get(project).ok_or(Unavailable::Gone)?;
    match &upstream.terms.project.disabled {
        None => Ok(upstream),
        Some(reason) => Err(Unavailable::Disabled(reason.clone())),
    }
}
