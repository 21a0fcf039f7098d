//! The same figures under the names that prometheus-community's pgbouncer_exporter gives to PgBouncer's.
//!
//! Where PgBouncer has one pool, there may be two of ours (the modes) or several (the projects): our labels stand beside its
//! own, and its dashboards' sums come out right.

use super::labels;
use crate::admin::snapshot::{PoolView, Snapshot};
use crate::telemetry::{Kind, Page, Tally};

type Gauge = (&'static str, &'static str, fn(&PoolView) -> f64);
type Counter = (&'static str, &'static str, fn(&Tally) -> f64);

const POOLS: [Gauge; 8] = [
    ("pgbouncer_pools_client_active_connections", "Clients that do not wait for a server.", |p| p.unqueued() as f64),
    ("pgbouncer_pools_client_waiting_connections", "Clients that wait for a server.", |p| p.counts.waiting as f64),
    ("pgbouncer_pools_client_maxwait_seconds", "How long the first of them has waited.", |p| p.counts.longest_wait.as_secs_f64()),
    ("pgbouncer_pools_server_active_connections", "Servers with a client.", |p| p.leased() as f64),
    ("pgbouncer_pools_server_idle_connections", "Servers without one.", |p| p.counts.idle as f64),
    ("pgbouncer_pools_server_used_connections", "Always 0: no server waits to be checked.", |_| 0.0),
    ("pgbouncer_pools_server_testing_connections", "Always 0: no client waits for a check.", |_| 0.0),
    ("pgbouncer_pools_server_login_connections", "Servers that are being opened.", |p| p.counts.opening as f64),
];

const STATS: [Counter; 6] = [
    ("pgbouncer_stats_sql_transactions_pooled_total", "Transactions that ended.", |t| t.transactions.get() as f64),
    ("pgbouncer_stats_queries_pooled_total", "Requests answered.", |t| t.queries.get() as f64),
    ("pgbouncer_stats_received_bytes_total", "Bytes received from clients.", |t| t.client_bytes.get() as f64),
    ("pgbouncer_stats_sent_bytes_total", "Bytes of servers for clients.", |t| t.server_bytes.get() as f64),
    ("pgbouncer_stats_client_wait_seconds_total", "Time clients waited for a server.", |t| t.waits.observed().sum_seconds),
    ("pgbouncer_stats_server_in_transaction_seconds_total", "Time servers were with clients, in transaction mode.", |t| {
        t.lease_times.observed().sum_seconds
    }),
];

const DATABASES: [Gauge; 5] = [
    ("pgbouncer_databases_pool_size", "The most servers of this pool.", |p| p.size as f64),
    ("pgbouncer_databases_max_connections", "The most servers of its upstream.", |p| p.upstream_limit as f64),
    ("pgbouncer_databases_current_connections", "Servers of this pool.", |p| p.counts.open as f64),
    ("pgbouncer_databases_paused", "1 while clients are given no servers (PAUSE).", |p| f64::from(u8::from(p.is_paused))),
    ("pgbouncer_databases_disabled", "1 while new clients are refused (DISABLE).", |p| f64::from(u8::from(p.is_disabled))),
];

pub(super) fn families(page: &mut Page, now: &Snapshot) {
    let single = |page: &mut Page, name, help, value: usize| page.family(name, Kind::Gauge, help).series(&[], value);
    single(page, "pgbouncer_up", "Always 1.", 1);
    single(page, "pgbouncer_config_max_client_connections", "limits.max_clients.", now.clients_limit);
    single(page, "pgbouncer_used_clients", "Clients.", now.sessions);
    single(page, "pgbouncer_used_servers", "Server connections.", now.upstreams.iter().map(|u| u.connections).sum());
    for (name, help, of) in POOLS {
        let mut family = page.family(name, Kind::Gauge, help);
        now.pools.iter().for_each(|pool| family.series(&labels(&pool.name), of(pool)));
    }
    for (name, help, of) in STATS {
        let mut family = page.family(name, Kind::Counter, help);
        now.tallies.iter().for_each(|(name, tally)| family.series(&labels(name), of(tally)));
    }
    for (name, help, of) in DATABASES {
        let mut family = page.family(name, Kind::Gauge, help);
        for pool in &now.pools {
            let port = pool.port.to_string();
            let own = [("name", &*pool.name.database), ("host", &pool.host), ("port", &port), ("pool_mode", pool.name.mode)];
            family.series(&[&labels(&pool.name)[..], &own[..]].concat(), of(pool));
        }
    }
}
