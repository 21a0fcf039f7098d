//! What PgBouncer has no view of.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Scene;
use super::pools::any_pool;
use crate::admin::snapshot::{self, host};
use crate::admin::table::{Cell, Row};
use crate::admin::time::timestamp;
use crate::pool::{Pin, Pool, PoolKey, Scope, ServerHandle};
use crate::session::{Handle, House};

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
pub(in crate::admin) fn pins(house: &House) -> Vec<Row> {
    let sessions: HashMap<u64, Arc<Handle>> = house.sessions.all().into_iter().map(|h| (h.id, h)).collect();
    let mut rows = Vec::new();
    for pool in sorted(house) {
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
                ms(held).into(),
                if pin.is_sure { "pinned" } else { "held" }.into(),
                pin.reasons.to_string().into(),
                pin.statement.into(),
            ]);
        }
    }
    rows
}

/// Who has a server, in a transaction or between two, the longest first.
pub(in crate::admin) fn holders(house: &House) -> Vec<Row> {
    let pins: HashMap<u64, Pin> =
        house.registry.all().iter().flat_map(|pool| pool.pins()).map(|pin| (pin.session, pin)).collect();
    let holding = house.sessions.all().into_iter().filter_map(|session| {
        let server = session.server()?;
        let leased = session.about.connected.elapsed().saturating_sub(session.leased_after());
        let pin = pins.get(&session.id);
        // A server that is kept is leased anew by each transaction.
        let held = pin.map_or(leased, |pin| pin.since.elapsed().max(leased));
        Some((held, session, server, pin))
    });
    let mut holding: Vec<_> = holding.collect();
    holding.sort_by_key(|(held, ..)| std::cmp::Reverse(*held));
    let row = |(held, session, server, pin): (Duration, Arc<Handle>, Arc<ServerHandle>, Option<&Pin>)| {
        let [project, database, user] = names(&session.about.pool);
        vec![
            project,
            database,
            user,
            session.about.pool.mode.as_str().into(),
            session.id.into(),
            session.application_name().into(),
            session.about.peer().to_string().into(),
            u64::from(server.key.pid.unsigned_abs()).into(),
            timestamp(SystemTime::now() - held).into(),
            ms(held).into(),
            pin.map(|pin| pin.reasons.to_string()).unwrap_or_default().into(),
            pin.and_then(|pin| pin.statement.clone()).into(),
        ]
    };
    holding.into_iter().map(row).collect()
}

/// The queues, first come first.
pub(in crate::admin) fn waiters(house: &House) -> Vec<Row> {
    let by_ticket: HashMap<_, _> = house.sessions.all().into_iter().map(|h| (Arc::as_ptr(&h.ticket), h)).collect();
    let mut rows = Vec::new();
    for pool in sorted(house) {
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
                session.map(|s| s.about.peer().to_string()).unwrap_or_default().into(),
                ms(waiting.waited).into(),
            ]);
        }
    }
    rows
}

pub(in crate::admin) fn lint(house: &House) -> Vec<Row> {
    let Some(findings) = house.lint.read().clone() else { return Vec::new() };
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
            snapshot::reach(&pools).into(),
        ]
    };
    settings.projects.iter().map(row).collect()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn sorted(house: &House) -> Vec<Arc<Pool>> {
    let mut pools = house.registry.all();
    pools.sort_by_cached_key(|pool| pool.key.telemetry_name());
    pools
}

fn names(key: &PoolKey) -> [Cell; 3] {
    [&key.project, &key.database, &key.user].map(|name| name.as_str().into())
}
