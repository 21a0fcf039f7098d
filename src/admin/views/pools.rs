//! POOLS, DATABASES, USERS and LISTS: PgBouncer's view of what we have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Scene;
use crate::admin::database::shown;
use crate::admin::snapshot::{self, PoolView, host};
use crate::admin::table::{Cell, Row};
use crate::config::Project;
use crate::pool::{PoolKey, PoolMode};
use crate::session::Console;

/// A row for each database and user, as the exporter's labels want it: where somebody is on both ports, both are in it.
pub(super) fn pools(scene: &Scene<'_>) -> Vec<Row> {
    let mut merged: BTreeMap<(String, &str), Sum> = BTreeMap::new();
    let now = snapshot::take(scene.house);
    for pool in &now.pools {
        let database = shown(scene.settings, &pool.name.project, &pool.name.database);
        merged.entry((database, &pool.name.user)).or_default().add(pool);
    }
    merged.into_iter().map(|((database, user), sum)| sum.row(database, user)).collect()
}

#[derive(Default)]
struct Sum {
    modes: BTreeSet<&'static str>,
    active: usize,
    waiting: usize,
    sv_active: usize,
    sv_idle: usize,
    sv_login: usize,
    longest_wait: Duration,
}

impl Sum {
    fn add(&mut self, pool: &PoolView) {
        self.modes.insert(pool.name.mode);
        self.active += pool.unqueued();
        self.waiting += pool.counts.waiting;
        self.sv_active += pool.leased();
        self.sv_idle += pool.counts.idle;
        self.sv_login += pool.counts.opening;
        self.longest_wait = self.longest_wait.max(pool.counts.longest_wait);
    }

    fn row(self, database: String, user: &str) -> Row {
        let none = || Cell::Number(0);
        vec![
            database.into(),
            user.into(),
            self.active.into(),
            self.waiting.into(),
            none(),
            none(),
            self.sv_active.into(),
            none(),
            none(),
            self.sv_idle.into(),
            none(),
            none(),
            self.sv_login.into(),
            self.longest_wait.as_secs().into(),
            u64::from(self.longest_wait.subsec_micros()).into(),
            self.modes.into_iter().collect::<Vec<_>>().join("+").into(),
            Cell::Null,
        ]
    }
}

pub(super) fn databases(scene: &Scene<'_>) -> Vec<Row> {
    let (settings, registry) = (scene.settings, &scene.house.registry);
    let now = snapshot::take(scene.house);
    let mut rows = Vec::new();
    for project in &settings.projects {
        let used = now.pools.iter().filter(|pool| pool.name.project == project.name);
        let names: BTreeSet<&str> =
            used.clone().map(|pool| &*pool.name.database).chain([project.upstream.database.as_str()]).collect();
        for name in names {
            let pools = used.clone().filter(|pool| pool.name.database == name);
            let (open, clients) = pools.fold((0, 0), |(open, clients), p| (open + p.counts.open, clients + p.counts.clients));
            let key = any_pool(project, name);
            rows.push(vec![
                shown(settings, &project.name, name).into(),
                host(&project.upstream).into(),
                usize::from(project.upstream.port).into(),
                name.into(),
                Cell::Null,
                project.pool_size.into(),
                project.min_pool_size.into(),
                Cell::Number(0),
                settings.timeouts.server_lifetime.as_secs().into(),
                Cell::Null,
                Cell::Null,
                project.max_server_connections.into(),
                open.into(),
                Cell::Number(0),
                clients.into(),
                registry.is_paused(&key).into(),
                (registry.is_disabled(&key) || registry.check(&project.name).is_err()).into(),
            ]);
        }
    }
    rows
}

/// Commands ask for no user and no mode.
pub(super) fn any_pool(project: &Project, database: &str) -> PoolKey {
    let (project, database) = (project.name.clone(), database.to_owned());
    PoolKey { project, database, user: String::new(), mode: PoolMode::Transaction }
}

/// Those that are configured, and those that came.
pub(super) fn users(scene: &Scene<'_>) -> Vec<Row> {
    let settings = scene.settings;
    let mut found: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for project in &settings.projects {
        let names = project.users.iter().map(|user| &user.name).chain([&project.upstream.user]);
        names.for_each(|name| _ = found.entry(shown(settings, &project.name, name)).or_default());
    }
    for pool in snapshot::take(scene.house).pools {
        let (open, clients) = found.entry(shown(settings, &pool.name.project, &pool.name.user)).or_default();
        *open += pool.counts.open;
        *clients += pool.counts.clients;
    }
    let row = |(name, (open, clients)): (String, (usize, usize))| {
        let unlimited = || Cell::Number(0);
        vec![name.into(), Cell::Null, Cell::Null, Cell::Null, unlimited(), open.into(), unlimited(), clients.into()]
    };
    found.into_iter().map(row).collect()
}

pub(super) fn lists(scene: &Scene<'_>) -> Vec<Row> {
    let now = snapshot::take(scene.house);
    let servers: usize = now.upstreams.iter().map(|upstream| upstream.connections).sum();
    let most: usize = now.upstreams.iter().map(|upstream| upstream.limit).sum();
    let lists = [
        ("databases", databases(scene).len()),
        ("users", users(scene).len()),
        ("peers", 0),
        ("pools", now.pool_count),
        ("peer_pools", 0),
        ("free_clients", now.clients_limit.saturating_sub(now.sessions)),
        ("used_clients", now.sessions),
        ("login_clients", 0),
        ("free_servers", most.saturating_sub(servers)),
        ("used_servers", servers),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
        ("console_clients", scene.desk.clients()),
    ];
    lists.into_iter().map(|(list, items)| vec![list.into(), items.into()]).collect()
}
