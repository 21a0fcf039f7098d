//! What can be looked at: one table.

mod connections;
pub(super) mod own;
mod pools;
mod settings;
mod stats;

use std::sync::Arc;

use super::Desk;
use super::table::{Column, Row, int4, int8, numeric, text};
use crate::config::Settings;
use crate::session::House;

/// A name for SHOW, its columns, and what is in it.
pub(super) struct View {
    /// In lower case.
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) rows: fn(&Scene<'_>) -> Vec<Row>,
}

/// What views look at.
pub(super) struct Scene<'a> {
    pub(super) desk: &'a Desk,
    pub(super) house: &'a Arc<House>,
    pub(super) settings: &'a Settings,
}

/// In PgBouncer's order and with its columns, as of 1.25; ours behind them.
pub(super) const VIEWS: &[View] = &[
    View { name: "stats", columns: STATS, rows: stats::stats },
    View { name: "stats_totals", columns: STATS_TOTALS, rows: stats::totals },
    View { name: "stats_averages", columns: STATS_AVERAGES, rows: stats::averages },
    View { name: "totals", columns: &[text("name"), numeric("value")], rows: stats::over_all },
    View { name: "pools", columns: POOLS, rows: pools::pools },
    View { name: "clients", columns: CONNECTIONS, rows: connections::clients },
    View { name: "servers", columns: CONNECTIONS, rows: connections::servers },
    View { name: "sockets", columns: SOCKETS, rows: connections::sockets },
    View { name: "active_sockets", columns: SOCKETS, rows: connections::active_sockets },
    View { name: "databases", columns: DATABASES, rows: pools::databases },
    View { name: "users", columns: USERS, rows: pools::users },
    View { name: "lists", columns: &[text("list"), int4("items")], rows: pools::lists },
    View { name: "config", columns: &[text("key"), text("value"), text("default"), text("changeable")], rows: settings::config },
    View { name: "mem", columns: MEM, rows: settings::mem },
    View { name: "state", columns: &[text("key"), text("value")], rows: settings::state },
    View { name: "version", columns: &[text("version")], rows: settings::version },
    View { name: "modes", columns: MODES, rows: own::modes },
    View { name: "pins", columns: PINS, rows: |scene| own::pins(scene.house) },
    View { name: "holders", columns: HOLDERS, rows: |scene| own::holders(scene.house) },
    View { name: "waiters", columns: WAITERS, rows: |scene| own::waiters(scene.house) },
    View { name: "lint", columns: LINT, rows: |scene| own::lint(scene.house) },
    View { name: "projects", columns: PROJECTS, rows: own::projects },
];

/// `name` in lower case.
pub(super) fn named(name: &str) -> Option<&'static View> {
    VIEWS.iter().find(|view| view.name == name)
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const STATS: &[Column] = &[
    text("database"),
    numeric("total_server_assignment_count"),
    numeric("total_xact_count"),
    numeric("total_query_count"),
    numeric("total_received"),
    numeric("total_sent"),
    numeric("total_xact_time"),
    numeric("total_query_time"),
    numeric("total_wait_time"),
    numeric("total_client_parse_count"),
    numeric("total_server_parse_count"),
    numeric("total_bind_count"),
    numeric("total_client_login_count"),
    numeric("avg_server_assignment_count"),
    numeric("avg_xact_count"),
    numeric("avg_query_count"),
    numeric("avg_recv"),
    numeric("avg_sent"),
    numeric("avg_xact_time"),
    numeric("avg_query_time"),
    numeric("avg_wait_time"),
    numeric("avg_client_parse_count"),
    numeric("avg_server_parse_count"),
    numeric("avg_bind_count"),
    numeric("avg_client_login_count"),
];

const STATS_TOTALS: &[Column] = &counters(["client_parse_count", "server_parse_count", "bind_count", "client_login_count"]);

/// Some of the names have a prefix and some have none, there as here.
const STATS_AVERAGES: &[Column] =
    &counters(["avg_client_parse_count", "avg_server_parse_count", "avg_bind_count", "avg_client_login_count"]);

const fn counters([client_parses, server_parses, binds, logins]: [&'static str; 4]) -> [Column; 13] {
    [
        text("database"),
        numeric("server_assignment_count"),
        numeric("xact_count"),
        numeric("query_count"),
        numeric("bytes_received"),
        numeric("bytes_sent"),
        numeric("xact_time"),
        numeric("query_time"),
        numeric("wait_time"),
        numeric(client_parses),
        numeric(server_parses),
        numeric(binds),
        numeric(logins),
    ]
}

const POOLS: &[Column] = &[
    text("database"),
    text("user"),
    int4("cl_active"),
    int4("cl_waiting"),
    int4("cl_active_cancel_req"),
    int4("cl_waiting_cancel_req"),
    int4("sv_active"),
    int4("sv_active_cancel"),
    int4("sv_being_canceled"),
    int4("sv_idle"),
    int4("sv_used"),
    int4("sv_tested"),
    int4("sv_login"),
    int4("maxwait"),
    int4("maxwait_us"),
    text("pool_mode"),
    text("load_balance_hosts"),
];

const CONNECTIONS: &[Column] = {
    let (connections, _) = SOCKETS.split_at(CONNECTION_COLUMNS);
    connections
};
/// Up to `id`.
const CONNECTION_COLUMNS: usize = 21;

const SOCKETS: &[Column] = &[
    text("type"),
    text("user"),
    text("database"),
    text("replication"),
    text("state"),
    text("addr"),
    int4("port"),
    text("local_addr"),
    int4("local_port"),
    text("connect_time"),
    text("request_time"),
    int4("wait"),
    int4("wait_us"),
    int4("close_needed"),
    text("ptr"),
    text("link"),
    int4("remote_pid"),
    text("tls"),
    text("application_name"),
    int4("prepared_statements"),
    int4("id"),
    int4("recv_pos"),
    int4("pkt_pos"),
    int4("pkt_remain"),
    int4("send_pos"),
    int4("send_remain"),
    int4("pkt_avail"),
    int4("send_avail"),
];

const DATABASES: &[Column] = &[
    text("name"),
    text("host"),
    int4("port"),
    text("database"),
    text("force_user"),
    int4("pool_size"),
    int4("min_pool_size"),
    int4("reserve_pool_size"),
    int4("server_lifetime"),
    text("pool_mode"),
    text("load_balance_hosts"),
    int4("max_connections"),
    int4("current_connections"),
    int4("max_client_connections"),
    int4("current_client_connections"),
    int4("paused"),
    int4("disabled"),
];

const USERS: &[Column] = &[
    text("name"),
    text("pool_size"),
    text("reserve_pool_size"),
    text("pool_mode"),
    int4("max_user_connections"),
    int4("current_connections"),
    int4("max_user_client_connections"),
    int4("current_client_connections"),
];

const MEM: &[Column] = &[text("name"), int4("size"), int4("used"), int4("free"), int4("memtotal")];

/// Who is short of what, where a row of POOLS has both ports in it.
const MODES: &[Column] = &[
    text("project"),
    text("database"),
    text("user"),
    text("mode"),
    int4("clients"),
    int4("waiting"),
    int4("maxwait"),
    int4("maxwait_us"),
    int4("idle"),
    int4("active"),
    int4("held"),
    int4("opening"),
    int4("pool_size"),
    int4("paused"),
    int8("transactions"),
    int8("queries"),
];

pub(super) const PINS: &[Column] = &[
    text("project"),
    text("database"),
    text("user"),
    int8("client_id"),
    text("application_name"),
    int4("server_pid"),
    text("since"),
    int8("held_ms"),
    text("state"),
    text("reasons"),
    text("statement"),
];

pub(super) const HOLDERS: &[Column] = &[
    text("project"),
    text("database"),
    text("user"),
    text("mode"),
    int8("client_id"),
    text("application_name"),
    text("addr"),
    int4("server_pid"),
    text("since"),
    int8("held_ms"),
    text("reasons"),
    text("statement"),
];

pub(super) const WAITERS: &[Column] = &[
    text("project"),
    text("database"),
    text("user"),
    text("mode"),
    int4("position"),
    int8("client_id"),
    text("application_name"),
    text("addr"),
    int8("wait_ms"),
];

pub(super) const LINT: &[Column] = &[text("finding"), text("application_name"), text("statement"), text("why"), text("fix")];

const PROJECTS: &[Column] = &[
    text("name"),
    int4("is_default"),
    text("host"),
    int4("port"),
    text("database"),
    text("user"),
    int4("pool_size"),
    int4("min_pool_size"),
    int4("max_connections"),
    int4("current_connections"),
    int4("clients"),
    int4("waiting"),
    int4("paused"),
    int4("disabled"),
    text("upstream"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_in_lower_case() {
        let mut seen = HashSet::new();
        for view in VIEWS {
            assert!(seen.insert(view.name) && view.name == view.name.to_lowercase(), "{}", view.name);
            let columns: HashSet<_> = view.columns.iter().map(|column| column.name).collect();
            assert_eq!(columns.len(), view.columns.len(), "{}", view.name);
        }
        assert_eq!(CONNECTIONS.last().map(|column| column.name), Some("id"));
    }
}
