//! STATS and its relatives.

use super::Scene;
use crate::admin::averages::{self, Totals};
use crate::admin::table::{Cell, Row};

/// Counters as TOTALS names them, in the order of [`Totals::values`].
const NAMES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

pub(super) fn stats(scene: &Scene<'_>) -> Vec<Row> {
    let totals = averages::totals(scene.house);
    let averages = scene.desk.averages.of(&totals);
    let row = |(name, totals): (&String, &Totals)| {
        let average = averages.get(name).copied().unwrap_or_default();
        named(name, totals.values().into_iter().chain(average.values()))
    };
    totals.iter().map(row).collect()
}

pub(super) fn totals(scene: &Scene<'_>) -> Vec<Row> {
    averages::totals(scene.house).iter().map(|(name, totals)| named(name, totals.values())).collect()
}

pub(super) fn averages(scene: &Scene<'_>) -> Vec<Row> {
    let averages = scene.desk.averages.of(&averages::totals(scene.house));
    averages.iter().map(|(name, average)| named(name, average.values())).collect()
}

/// Everything together: times of averages are those of the databases, added up, as in PgBouncer.
pub(super) fn over_all(scene: &Scene<'_>) -> Vec<Row> {
    let totals = averages::totals(scene.house);
    let averages = scene.desk.averages.of(&totals);
    let sum = |all: &averages::ByDatabase| {
        let mut sum = Totals::default();
        all.values().for_each(|one| sum.add(one));
        sum.values()
    };
    let rows = |prefix: &'static str, values: [u64; 12]| {
        NAMES.iter().zip(values).map(move |(name, value)| vec![format!("{prefix}_{name}").into(), value.into()])
    };
    rows("total", sum(&totals)).chain(rows("avg", sum(&averages))).collect()
}

fn named(name: &str, values: impl IntoIterator<Item = u64>) -> Row {
    std::iter::once(name.into()).chain(values.into_iter().map(Cell::from)).collect()
}
