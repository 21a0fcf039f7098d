//! `/api/state`: one JSON document. Fields are added over time, and none changes what it means.

use serde_json::{Value, json};

use super::ready::Ready;
use crate::admin::Remote;
use crate::admin::snapshot::{self, PoolView, UpstreamView};
use crate::telemetry::{BOUNDS_US, Observed};

pub(super) fn json(remote: &Remote, ready: Ready) -> String {
    let now = &snapshot::take(&remote.house);
    let logins = &now.telemetry.logins;
    let errors = now.telemetry.errors.counts();
    let document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "phase": now.phase,
        "ready": ready == Ready::Yes,
        "readiness": ready.as_str(),
        "clients": now.sessions,
        "clients_limit": now.clients_limit,
        "logins": {
            "accepted": logins.accepted.get(),
            "refused": logins.refused.get(),
            "timed_out": logins.timed_out.get(),
        },
        "errors": errors.map(|(fault, class, n)| json!({"fault": fault, "class": class, "count": n})).collect::<Vec<_>>(),
        "upstreams": now.upstreams.iter()
            .map(upstream)
            .collect::<Vec<_>>(),
        "pool_count": now.pool_count,
        "pools": now.pools.iter().map(pool).collect::<Vec<_>>(),
        "waiters": remote.waiters(),
        "holders": remote.holders(),
        "pins": remote.pins(),
        "lint": remote.lint(),
    });
    document.to_string() + "\n"
}

fn upstream(upstream: &UpstreamView) -> Value {
    json!({
        "project": upstream.project,
        "host": upstream.host,
        "port": upstream.port,
        "reach": upstream.reach,
        "connections": upstream.connections,
        "connections_limit": upstream.limit,
    })
}

fn pool(pool: &PoolView) -> Value {
    let (counts, tally) = (&pool.counts, &pool.tally);
    json!({
        "project": pool.name.project,
        "database": pool.name.database,
        "user": pool.name.user,
        "mode": pool.name.mode,
        "clients": counts.clients,
        "waiting": counts.waiting,
        "paused": pool.is_paused,
        "disabled": pool.is_disabled,
        "longest_wait_ms": counts.longest_wait.as_secs_f64() * 1000.0,
        "servers": {
            "idle": counts.idle,
            "active": pool.active(),
            "held": counts.held,
            "opening": counts.opening,
            "limit": pool.size,
        },
        "held_for": pool.held_for,
        "prepared_statements": pool.statements,
        "totals": {
            "logins": tally.logins.get(),
            "transactions": tally.transactions.get(),
            "queries": tally.queries.get(),
            "client_bytes": tally.client_bytes.get(),
            "server_bytes": tally.server_bytes.get(),
            "leases": tally.leases.get(),
            "transfers": tally.transfers.get(),
            "replays": tally.replays.get(),
            "connects": tally.connects.get(),
            "connect_failures": tally.connect_failures.get(),
            "servers_lost": tally.servers_lost.get(),
            "slow_transactions": tally.slow.get(),
            "unforeseen_states": tally.unforeseen.get(),
            "notifications": tally.notifications.get(),
            "listeners_lost": tally.listeners_lost.get(),
        },
        "queue_wait": times(&tally.waits.observed()),
        "lease": times(&tally.lease_times.observed()),
    })
}

/// `up_to` has, for each bound, how many were no longer than that.
fn times(observed: &Observed) -> Value {
    json!({
        "count": observed.count,
        "sum_seconds": observed.sum_seconds,
        "bounds_us": BOUNDS_US,
        "up_to": observed.up_to,
    })
}
