//! CONFIG, MEM, STATE and VERSION.

use super::Scene;
use crate::admin::session::VERSION;
use crate::admin::snapshot;
use crate::admin::table::{Cell, Row};
use crate::config::options::{self, Reload};
use crate::session::{Handle, Relay};

/// Limits that PgBouncer has and we have not: none is unlimited there.
const UNLIMITED: [&str; 3] = ["max_user_connections", "max_user_client_connections", "max_db_client_connections"];

/// Ours by their own names; behind them, numbers under the names that PgBouncer's tools ask for, times in seconds.
pub(super) fn config(scene: &Scene<'_>) -> Vec<Row> {
    let shown = &scene.settings.shown;
    let given = |key: &str| shown.iter().find(|shown| shown.option == key).and_then(|shown| shown.value.clone());
    let ours = options::all().map(|option| row(option.key, given(option.key), option.default, option.reload));
    let mut rows: Vec<Row> = ours.collect();
    for option in options::all() {
        let name = option.elsewhere.iter().find(|(pooler, _)| *pooler == "PgBouncer").map(|(_, name)| *name);
        let (Some(name), Some(value)) = (name, given(option.key).and_then(|value| option.kind.number(&value))) else { continue };
        let default = option.kind.number(option.default).unwrap_or_default();
        rows.push(row(name, Some(value), &default, option.reload));
    }
    rows.extend(UNLIMITED.map(|name| row(name, Some("0".to_owned()), "0", Reload::Restart)));
    rows
}

/// What a RELOAD takes up is changeable.
fn row(key: &str, value: Option<String>, default: &str, reload: Reload) -> Row {
    vec![key.into(), value.into(), default.into(), if reload == Reload::Live { "yes" } else { "no" }.into()]
}

/// Sizes of what is there by number; buffers belong to busy tasks, and are not counted.
pub(super) fn mem(scene: &Scene<'_>) -> Vec<Row> {
    let now = snapshot::take(scene.house);
    let servers: usize = now.upstreams.iter().map(|upstream| upstream.connections).sum();
    let statements = now.pools.iter().map(|pool| pool.statements).sum();
    let kinds = [
        ("client", size_of::<Relay>() + size_of::<Handle>(), now.sessions),
        ("server", size_of::<crate::pool::Server>() + size_of::<crate::pool::ServerHandle>(), servers),
        ("pool", size_of::<crate::pool::Pool>(), now.pool_count),
        ("statement", size_of::<crate::wire::statement::Statement>(), statements),
    ];
    let row = |(name, size, used): (&str, usize, usize)| {
        vec![name.into(), size.into(), used.into(), Cell::Number(0), (size * used).into()]
    };
    kinds.into_iter().map(row).collect()
}

pub(super) fn state(scene: &Scene<'_>) -> Vec<Row> {
    let is_paused = scene.house.registry.has_paused();
    let is_draining = scene.house.sessions.stopping().is_some();
    let rows = [("active", !is_paused && !is_draining), ("paused", is_paused), ("suspended", false), ("draining", is_draining)];
    rows.into_iter().map(|(key, is)| vec![key.into(), if is { "yes" } else { "no" }.into()]).collect()
}

pub(super) fn version(_: &Scene<'_>) -> Vec<Row> {
    vec![vec![VERSION.into()]]
}
