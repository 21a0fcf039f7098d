//! What PgBouncer has no view of.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::Scene;
use super::pools::{any_pool, host};
use crate::admin::snapshot;
use crate::admin::table::{Cell, Row};
use crate::admin::time::timestamp;
use crate::pool::{Pool, PoolKey, Reach, Scope};
use crate::session::Handle;

/// Each pool by itself.
pub(super) fn modes(scene: &Scene<'_>) -> Vec<Row> {
    let row = |pool: &snapshot::PoolView| {
        let counts = &pool.counts;
        vec![
            pool.name.project.as_str().into(),
            pool.name.database.as_str().into(),
            pool.name.user.as_str().into(),
            pool.name.mode.into(),
            counts.clients.into(),
            counts.waiting.into(),
            counts.longest_wait.as_secs().into(),
            u64::from(counts.longest_wait.subsec_micros()).into(),
            counts.idle.into(),
            pool.active().into(),
            counts.held.into(),
            counts.opening.into(),
            pool.size.into(),
            pool.is_paused.into(),
            pool.tally.transactions.get().into(),
            pool.tally.queries.get().into(),
        ]
    };
    snapshot::take(scene.house).pools.iter().map(row).collect()
}

/// Who keeps a server outside of transactions, since when, and why.
pub(super) fn pins(scene: &Scene<'_>) -> Vec<Row> {
    let sessions: HashMap<u64, Arc<Handle>> = scene.house.sessions.all().into_iter().map(|h| (h.id, h)).collect();
    let mut rows = Vec::new();
    for pool in sorted(scene) {
        for pin in pool.pins() {
            let held = pin.since.elapsed();
            let session = sessions.get(&pin.session);
            let [project, database, user] = names(&pool.key);
            rows.push(vec![
                project,
                database,
                user,
                pin.session.into(),
                session.map(|s| s.application_name()).unwrap_or_default().into(),
                session.and_then(|s| s.server()).map(|server| u64::from(server.key.pid.unsigned_abs())).into(),
                timestamp(SystemTime::now() - held).into(),
                (u64::try_from(held.as_millis()).unwrap_or(u64::MAX)).into(),
                if pin.is_sure { "pinned" } else { "held" }.into(),
                pin.reasons.to_string().into(),
                pin.statement.into(),
            ]);
        }
    }
    rows
}

/// The queues, first come first.
pub(super) fn waiters(scene: &Scene<'_>) -> Vec<Row> {
    let by_ticket: HashMap<_, _> = scene.house.sessions.all().into_iter().map(|h| (Arc::as_ptr(&h.ticket), h)).collect();
    let mut rows = Vec::new();
    for pool in sorted(scene) {
        for (at, waiting) in pool.queue_now().iter().enumerate() {
            let session = by_ticket.get(&Arc::as_ptr(&waiting.ticket));
            let [project, database, user] = names(&pool.key);
            rows.push(vec![
                project,
                database,
                user,
                pool.key.mode.as_str().into(),
                (at + 1).into(),
                session.map(|s| s.id).into(),
                session.map(|s| s.application_name()).unwrap_or_default().into(),
                session.map(|s| s.about.peer.to_string()).unwrap_or_default().into(),
                (u64::try_from(waiting.waited.as_millis()).unwrap_or(u64::MAX)).into(),
            ]);
        }
    }
    rows
}

pub(super) fn lint(scene: &Scene<'_>) -> Vec<Row> {
    let Some(findings) = scene.house.lint.read().clone() else { return Vec::new() };
    let row = |found: crate::session::Finding| {
        let hazard = found.remark.hazard;
        let statement = String::from(found.remark.statement);
        vec![hazard.title().into(), found.application.into(), statement.into(), hazard.why().into(), hazard.fix().into()]
    };
    findings.all().into_iter().map(row).collect()
}

pub(super) fn projects(scene: &Scene<'_>) -> Vec<Row> {
    let (settings, registry) = (scene.settings, &scene.house.registry);
    let row = |project: &Arc<crate::config::Project>| {
        let upstream = &project.upstream;
        let pools = registry.covered(&Scope::Project(project.name.clone()));
        let (clients, waiting) = pools.iter().map(|pool| pool.counts()).fold((0, 0), |(c, w), n| (c + n.clients, w + n.waiting));
        let open = registry.upstream_connections(&project.name).unwrap_or_default().0;
        let key = any_pool(project, &upstream.database);
        vec![
            project.name.as_str().into(),
            (project.name == settings.default_project().name).into(),
            host(upstream).into(),
            usize::from(upstream.port).into(),
            upstream.database.as_str().into(),
            upstream.user.as_str().into(),
            project.pool_size.into(),
            project.min_pool_size.into(),
            project.max_server_connections.into(),
            open.into(),
            clients.into(),
            waiting.into(),
            registry.is_paused(&key).into(),
            (registry.is_disabled(&key) || registry.check(&project.name).is_err()).into(),
            reach(&pools).into(),
        ]
    };
    settings.projects.iter().map(row).collect()
}

/// By what the pools have met.
fn reach(pools: &[Arc<Pool>]) -> &'static str {
    let met: Vec<Reach> = pools.iter().map(|pool| pool.reach()).collect();
    match () {
        () if met.contains(&Reach::Up) => "up",
        () if met.contains(&Reach::Down) => "down",
        () => "unknown",
    }
}

fn sorted(scene: &Scene<'_>) -> Vec<Arc<Pool>> {
    let mut pools = scene.house.registry.all();
    pools.sort_by_cached_key(|pool| pool.key.telemetry_name());
    pools
}

fn names(key: &PoolKey) -> [Cell; 3] {
    [&key.project, &key.database, &key.user].map(|name| name.as_str().into())
}
