//! `/metrics`: our names, and those of prometheus-community's pgbouncer_exporter, whose dashboards read them.
//! `docs/metrics.md` lists them all; a test holds it to that.

mod pgbouncer;

use std::sync::atomic::Ordering;

use crate::admin::snapshot::{PoolView, Snapshot};
use crate::telemetry::{Count, Kind, Page, PoolName, Tally};

/// Name, what it is, which.
type Counter = (&'static str, &'static str, fn(&Tally) -> &Count);
type Gauge = (&'static str, &'static str, fn(&PoolView) -> usize);

const COUNTERS: [Counter; 16] = [
    ("sidepool_client_logins_total", "Clients let into the pool.", |t| &t.logins),
    ("sidepool_transactions_total", "Transactions that ended.", |t| &t.transactions),
    ("sidepool_queries_total", "Requests answered: simple queries, and batches up to their Sync.", |t| &t.queries),
    ("sidepool_client_received_bytes_total", "Bytes received from clients after their login.", |t| &t.client_bytes),
    ("sidepool_server_received_bytes_total", "Bytes received from servers that a client has.", |t| &t.server_bytes),
    ("sidepool_leases_total", "Servers given to clients.", |t| &t.leases),
    ("sidepool_transfers_total", "Servers given to another client than had them last.", |t| &t.transfers),
    ("sidepool_replays_total", "Servers that had to be cleaned or set up for their new client.", |t| &t.replays),
    ("sidepool_slow_transactions_total", "Transactions that took log.slow_transactions or longer.", |t| &t.slow),
    ("sidepool_unforeseen_states_total", "Transactions that left session state which no text had shown.", |t| &t.unforeseen),
    ("sidepool_upstream_connects_total", "Server connections opened.", |t| &t.connects),
    ("sidepool_upstream_shortcuts_total", "Server connections opened over a Unix socket in the place of TCP.", |t| &t.shortcuts),
    ("sidepool_upstream_connect_failures_total", "Attempts to open a server connection that failed.", |t| &t.connect_failures),
    ("sidepool_servers_lost_total", "Server connections that ended while a client used them.", |t| &t.servers_lost),
    ("sidepool_notifications_total", "Notifications that the listener heard for clients.", |t| &t.notifications),
    ("sidepool_listeners_lost_total", "Listening connections that ended while clients needed them.", |t| &t.listeners_lost),
];

const GAUGES: [Gauge; 6] = [
    ("sidepool_clients", "Clients logged in.", |p| p.counts.clients),
    ("sidepool_clients_waiting", "Clients that wait for a server.", |p| p.counts.waiting),
    ("sidepool_pool_size", "The most servers the pool may have.", |p| p.size),
    ("sidepool_prepared_statements", "Distinct prepared statements known.", |p| p.statements),
    ("sidepool_listening_clients", "Clients for which the listener listens.", |p| p.listening.0),
    ("sidepool_listened_channels", "Channels that the listener listens to.", |p| p.listening.1),
];

pub(super) fn page(now: &Snapshot) -> String {
    let mut page = Page::default();
    process(&mut page, now);
    for (name, help, of) in GAUGES {
        let mut family = page.family(name, Kind::Gauge, help);
        now.pools.iter().for_each(|pool| family.series(&labels(&pool.name), of(pool)));
    }
    servers(&mut page, now);
    for (name, help, of) in COUNTERS {
        let mut family = page.family(name, Kind::Counter, help);
        now.tallies.iter().for_each(|(name, tally)| family.series(&labels(name), of(tally).get()));
    }
    let mut waits = page.histogram("sidepool_queue_wait_seconds", "Time in the queue, of clients that were served from it.");
    now.tallies.iter().for_each(|(name, tally)| waits.observed(&labels(name), &tally.waits.observed()));
    let mut leases = page.histogram("sidepool_lease_seconds", "Time that a client had its server, in transaction mode.");
    let pooled = now.tallies.iter().filter(|(name, _)| name.mode == "transaction");
    pooled.for_each(|(name, tally)| leases.observed(&labels(name), &tally.lease_times.observed()));
    pgbouncer::families(&mut page, now);
    page.into_text()
}

fn process(page: &mut Page, now: &Snapshot) {
    let mut info = page.family("sidepool_info", Kind::Gauge, "Always 1.");
    info.series(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let mut draining = page.family("sidepool_draining", Kind::Gauge, "1 when the process is going down.");
    draining.series(&[], u8::from(now.phase != "serving"));
    page.family("sidepool_sessions", Kind::Gauge, "Clients logged in or about to be greeted, all pools.")
        .series(&[], now.sessions);
    page.family("sidepool_pools", Kind::Gauge, "Pools.").series(&[], now.pool_count);
    let logins = &now.telemetry.logins;
    let mut family = page.family("sidepool_logins_total", Kind::Counter, "Logins by how they ended.");
    for (outcome, count) in [("accepted", &logins.accepted), ("refused", &logins.refused), ("timed out", &logins.timed_out)] {
        family.series(&[("outcome", outcome)], count.get());
    }
    let reloads = &now.telemetry.reloads;
    let mut family = page.family("sidepool_reloads_total", Kind::Counter, "Reloads of the configuration by how they ended.");
    [("ok", &reloads.ok), ("failed", &reloads.failed)].iter().for_each(|(o, n)| family.series(&[("outcome", *o)], n.get()));
    let help = "When the configuration in force was read, in seconds since 1970.";
    page.family("sidepool_config_loaded_timestamp_seconds", Kind::Gauge, help)
        .series(&[], reloads.last_success.load(Ordering::Relaxed));
    let help = "Errors that clients were told, by the side at fault and the SQLSTATE's class.";
    let mut errors = page.family("sidepool_errors_total", Kind::Counter, help);
    now.telemetry.errors.counts().for_each(|(fault, class, n)| errors.series(&[("fault", fault), ("class", class)], n));
    let mut open = page.family("sidepool_upstream_connections", Kind::Gauge, "Server connections, all pools of a project.");
    now.upstreams.iter().for_each(|u| open.series(&[("project", &u.project)], u.connections));
    let mut limit = page.family("sidepool_upstream_connections_limit", Kind::Gauge, "The most of them there may be.");
    now.upstreams.iter().for_each(|u| limit.series(&[("project", &u.project)], u.limit));
}

fn servers(page: &mut Page, now: &Snapshot) {
    let help = "Server connections: idle, active (with a client), held (kept by a client for its session state), opening.";
    let mut family = page.family("sidepool_servers", Kind::Gauge, help);
    for pool in &now.pools {
        let counts = &pool.counts;
        let states = [("idle", counts.idle), ("active", pool.active()), ("held", counts.held), ("opening", counts.opening)];
        states.iter().for_each(|(state, n)| family.series(&[&labels(&pool.name)[..], &[("state", *state)]].concat(), n));
    }
    let mut held = page.family("sidepool_servers_held", Kind::Gauge, "Held servers by why they are; one may be for several.");
    for pool in &now.pools {
        let each = |(reason, n): (&&str, &usize)| held.series(&[&labels(&pool.name)[..], &[("reason", *reason)]].concat(), n);
        pool.held_for.iter().for_each(each);
    }
    let mut longest = page.family("sidepool_longest_wait_seconds", Kind::Gauge, "How long the first in the queue has waited.");
    now.pools.iter().for_each(|p| longest.series(&labels(&p.name), p.counts.longest_wait.as_secs_f64()));
}

fn labels(name: &PoolName) -> [(&'static str, &str); 4] {
    [("project", &name.project), ("database", &name.database), ("user", &name.user), ("mode", name.mode)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Labels;

    #[test]
    fn names_have_their_units_and_kinds_at_the_end() {
        for (name, help, _) in COUNTERS {
            assert!(name.starts_with("sidepool_") && name.ends_with("_total") && help.ends_with('.'), "{name}");
        }
        for (name, help, _) in GAUGES {
            assert!(name.starts_with("sidepool_") && !name.ends_with("_total") && help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn labels_are_the_pools_name_and_nothing_else() {
        let name = PoolName { project: "p".into(), database: "d".into(), user: "u".into(), mode: "session" };
        let expected: Labels<'_> = &[("project", "p"), ("database", "d"), ("user", "u"), ("mode", "session")];
        assert_eq!(labels(&name), expected);
    }
}
