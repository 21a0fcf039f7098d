//! Totals of each database, and what they come to in the last minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Desk, database};
use crate::session::House;
use crate::telemetry::Tally;

/// PgBouncer's `stats_period`.
const PERIOD: Duration = Duration::from_secs(60);

/// PgBouncer's counters, in the order of its columns. Times in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) assignments: u64,
    pub(super) transactions: u64,
    pub(super) queries: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) transaction_time: u64,
    pub(super) query_time: u64,
    pub(super) wait_time: u64,
    pub(super) client_parses: u64,
    pub(super) server_parses: u64,
    pub(super) binds: u64,
    pub(super) logins: u64,
}

/// By the name that [`database::shown`] gives.
pub(super) type ByDatabase = BTreeMap<String, Totals>;

/// The totals at the ends of the last period.
#[derive(Debug, Default)]
pub(super) struct Averages(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    before: Option<Sample>,
    last: Option<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    totals: ByDatabase,
}

/// Takes a sample every minute, for ever.
pub(super) async fn keep(desk: Arc<Desk>, house: Arc<House>) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let sample = Sample { at: Instant::now(), totals: totals(&house) };
        let samples = &mut *desk.averages.0.lock();
        samples.before = samples.last.replace(sample);
    }
}

/// Of every pool that there was, by database.
pub(super) fn totals(house: &House) -> ByDatabase {
    let settings = house.settings.get();
    let mut found = ByDatabase::new();
    for (name, tally) in house.registry.telemetry().tallies() {
        found.entry(database::shown(&settings, &name.project, &name.database)).or_default().add(&Totals::of(&tally));
    }
    found
}

impl Averages {
    /// Of the last whole period; in the first one, since it began.
    pub(super) fn of(&self, now: &ByDatabase) -> ByDatabase {
        let samples = self.0.lock();
        let now = Sample { at: Instant::now(), totals: now.clone() };
        let (from, to) = match (&samples.before, &samples.last) {
            (Some(before), Some(last)) => (before.clone(), last.clone()),
            (None, Some(last)) => (last.clone(), now.clone()),
            (_, None) => (now.clone(), now.clone()),
        };
        drop(samples);
        let seconds = to.at.saturating_duration_since(from.at).as_secs_f64();
        let average = |(name, _): (&String, &Totals)| {
            let [from, to] = [&from, &to].map(|sample| sample.totals.get(name).copied().unwrap_or_default());
            (name.clone(), to.averages_since(&from, seconds))
        };
        now.totals.iter().map(average).collect()
    }
}

impl Totals {
    fn of(tally: &Tally) -> Self {
        let us = |seconds: f64| (seconds * 1e6) as u64;
        let leased = us(tally.lease_times.observed().sum_seconds) + tally.session_time_ns.get() / 1000;
        Self {
            assignments: tally.leases.get(),
            transactions: tally.transactions.get(),
            queries: tally.queries.get(),
            received: tally.client_bytes.get(),
            sent: tally.server_bytes.get(),
            transaction_time: leased,
            // No clock is read between the queries of a transaction.
            query_time: leased,
            wait_time: us(tally.waits.observed().sum_seconds),
            client_parses: tally.client_parses.get(),
            server_parses: tally.server_parses.get(),
            binds: tally.binds.get(),
            logins: tally.logins.get(),
        }
    }

    pub(super) fn values(&self) -> [u64; 12] {
        [
            self.assignments,
            self.transactions,
            self.queries,
            self.received,
            self.sent,
            self.transaction_time,
            self.query_time,
            self.wait_time,
            self.client_parses,
            self.server_parses,
            self.binds,
            self.logins,
        ]
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.assignments += other.assignments;
        self.transactions += other.transactions;
        self.queries += other.queries;
        self.received += other.received;
        self.sent += other.sent;
        self.transaction_time += other.transaction_time;
        self.query_time += other.query_time;
        self.wait_time += other.wait_time;
        self.client_parses += other.client_parses;
        self.server_parses += other.server_parses;
        self.binds += other.binds;
        self.logins += other.logins;
    }

    /// Counts and bytes per second, times per transaction, query and assignment, as PgBouncer has them.
    fn averages_since(&self, before: &Self, seconds: f64) -> Self {
        let rate = |now: u64, before: u64| if seconds > 0.0 { (now.saturating_sub(before) as f64 / seconds) as u64 } else { 0 };
        let mean = |time: u64, count: u64| time.checked_div(count).unwrap_or(0);
        let grown = |of: fn(&Self) -> u64| of(self).saturating_sub(of(before));
        Self {
            assignments: rate(self.assignments, before.assignments),
            transactions: rate(self.transactions, before.transactions),
            queries: rate(self.queries, before.queries),
            received: rate(self.received, before.received),
            sent: rate(self.sent, before.sent),
            transaction_time: mean(grown(|t| t.transaction_time), grown(|t| t.transactions)),
            query_time: mean(grown(|t| t.query_time), grown(|t| t.queries)),
            wait_time: mean(grown(|t| t.wait_time), grown(|t| t.assignments)),
            client_parses: rate(self.client_parses, before.client_parses),
            server_parses: rate(self.server_parses, before.server_parses),
            binds: rate(self.binds, before.binds),
            logins: rate(self.logins, before.logins),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_rates_and_means() {
        let before = Totals { transactions: 100, queries: 100, received: 10, transaction_time: 1_000, ..Totals::default() };
        let now = Totals {
            transactions: 700,
            queries: 1_300,
            received: 6_010,
            transaction_time: 61_000,
            query_time: 60_000,
            wait_time: 600,
            assignments: 60,
            ..Totals::default()
        };
        let average = now.averages_since(&before, 60.0);
        assert_eq!((average.transactions, average.queries, average.received), (10, 20, 100));
        assert_eq!((average.transaction_time, average.query_time, average.wait_time), (100, 50, 10));
        assert_eq!(now.averages_since(&now, 0.0), Totals::default(), "nothing was done in no time");
    }
}
