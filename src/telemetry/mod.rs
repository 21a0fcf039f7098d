//! What is counted, and how it is written for Prometheus.
//!
//! The data path adds to numbers that are there already and looks nothing up: each server has its [`Turnover`] at hand, each
//! pool its [`Tally`]. Whoever reads does the work, on a thread of his own. A pool that is forgotten and made anew goes on where its tally stood, so that
//! no counter falls while the process lives.

mod errors;
mod histogram;
mod moment;
mod text;
mod turnover;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

pub use errors::{Errors, fault_of};
pub use histogram::{BOUNDS_US, Histogram, Observed};
pub use moment::Moment;
pub use text::{Kind, Labels, Page};
pub use turnover::{Account, Sole, Turnover};

/// A line about a connection that came or went: at info where `$on` says that such lines are wanted, otherwise at debug.
macro_rules! log_connection {
    ($on:expr, $($line:tt)*) => {
        if $on { tracing::info!($($line)*) } else { tracing::debug!($($line)*) }
    };
}
pub(crate) use log_connection;

/// Distinct pools that are counted one by one, in pools. Where clients may name users at will, more of them share one tally.
const TALLIES_MAX: usize = 1000;

/// Of the whole process.
#[derive(Debug, Default)]
pub struct Telemetry {
    pools: Mutex<HashMap<PoolName, Arc<Tally>>>,
    pub logins: Logins,
    pub errors: Errors,
    pub reloads: Reloads,
}

/// The only labels that a pool's figures have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolName {
    pub project: String,
    pub database: String,
    pub user: String,
    /// `session` or `transaction`.
    pub mode: &'static str,
}

/// How connections that said they are clients fared.
#[derive(Debug, Default)]
pub struct Logins {
    pub accepted: Count,
    pub refused: Count,
    /// `timeouts.client_login` passed.
    pub timed_out: Count,
}

/// Of the configuration of a running process.
#[derive(Debug, Default)]
pub struct Reloads {
    pub ok: Count,
    /// Nothing was changed.
    pub failed: Count,
    /// When the configuration in force was read, in seconds since 1970.
    pub last_success: AtomicU64,
}

/// Of one pool, since the process began; what comes with every transaction, without the servers that are open
/// ([`sum`](Self::sum)).
#[derive(Debug, Default)]
pub struct Tally {
    open: Mutex<Vec<Arc<Turnover>>>,
    /// Clients that were let in (PgBouncer: client_login_count).
    pub logins: Count,
    /// ReadyForQuery messages that clients were sent (PgBouncer: query_count).
    pub queries: Count,
    /// Those of them that said idle (PgBouncer: xact_count).
    pub transactions: Count,
    /// Bytes that clients sent after their login.
    pub client_bytes: Count,
    /// Bytes that servers sent to clients' requests.
    pub server_bytes: Count,
    /// Servers given to clients (PgBouncer: server_assignment_count).
    pub leases: Count,
    /// Those of them whose server had another client's state.
    pub transfers: Count,
    /// Those of them where statements of ours had to run first.
    pub replays: Count,
    /// Transactions that left session state which no text had shown (`verify`).
    pub unforeseen: Count,
    /// Transactions that took `log.slow_transactions` or longer.
    pub slow: Count,
    /// Time in the queue, of those who were served from it.
    pub waits: Histogram,
    /// From a server's lease to its return, in transaction mode.
    pub lease_times: Histogram,
    /// The same for transactions in session mode, from their first message to their end, in ns.
    pub session_time_ns: Count,
    /// Parse messages of clients (PgBouncer: client_parse_count).
    pub client_parses: Count,
    /// Parse messages to servers (PgBouncer: server_parse_count).
    pub server_parses: Count,
    /// Bind messages of clients (PgBouncer: bind_count).
    pub binds: Count,
    pub connects: Count,
    /// Of these, over a Unix socket in the place of TCP.
    pub shortcuts: Count,
    pub connect_failures: Count,
    /// Server connections that ended while a client used them.
    pub servers_lost: Count,
    /// Notifications that clients were told of by the pool's listener.
    pub notifications: Count,
    /// Listeners whose connection ended while clients listened by it.
    pub listeners_lost: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Telemetry {
    /// The tally of the pool of this name.
    pub fn tally(&self, name: PoolName) -> Arc<Tally> {
        let mut pools = self.pools.lock();
        let name = if pools.len() < TALLIES_MAX || pools.contains_key(&name) { name } else { PoolName::other(name.mode) };
        Arc::clone(pools.entry(name).or_default())
    }

    /// All tallies, summed up, by name.
    pub fn tallies(&self) -> Vec<(PoolName, Tally)> {
        let pools = self.pools.lock();
        let mut all: Vec<_> = pools.iter().map(|(name, tally)| (name.clone(), tally.sum())).collect();
        drop(pools);
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

impl PoolName {
    /// Of all pools that are too many to have names of their own.
    fn other(mode: &'static str) -> Self {
        let other = || "(other)".to_owned();
        Self { project: other(), database: other(), user: other(), mode }
    }
}

impl Tally {
    /// What is counted here and not by servers.
    fn add_fixed(&self, other: &Self) {
        for (to, from) in self.counts().into_iter().zip(other.counts()) {
            to.add(from.get());
        }
        self.waits.absorb(&other.waits);
        self.lease_times.absorb(&other.lease_times);
    }

    fn counts(&self) -> [&Count; 20] {
        // All of them by name, so that none that is added later is forgotten here.
        let Self {
            open: _,
            waits: _,
            lease_times: _,
            logins,
            queries,
            transactions,
            client_bytes,
            server_bytes,
            leases,
            transfers,
            replays,
            unforeseen,
            slow,
            session_time_ns,
            client_parses,
            server_parses,
            binds,
            connects,
            shortcuts,
            connect_failures,
            servers_lost,
            notifications,
            listeners_lost,
        } = self;
        [
            logins,
            queries,
            transactions,
            client_bytes,
            server_bytes,
            leases,
            transfers,
            replays,
            unforeseen,
            slow,
            session_time_ns,
            client_parses,
            server_parses,
            binds,
            connects,
            shortcuts,
            connect_failures,
            servers_lost,
            notifications,
            listeners_lost,
        ]
    }
}

impl Count {
    #[inline]
    pub fn one(&self) {
        self.add(1);
    }

    #[inline]
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(user: &str) -> PoolName {
        PoolName { project: "p".into(), database: "d".into(), user: user.into(), mode: "session" }
    }

    #[test]
    fn a_pool_that_comes_again_goes_on_counting() {
        let telemetry = Telemetry::default();
        telemetry.tally(name("a")).queries.add(3);
        telemetry.tally(name("a")).queries.one();
        let [(_, tally)] = &telemetry.tallies()[..] else { panic!("one pool") };
        assert_eq!(tally.queries.get(), 4);
    }

    #[test]
    fn users_without_end_share_one_tally() {
        let telemetry = Telemetry::default();
        for at in 0..TALLIES_MAX + 50 {
            telemetry.tally(name(&at.to_string())).logins.one();
        }
        let all = telemetry.tallies();
        assert_eq!(all.len(), TALLIES_MAX + 1);
        assert_eq!(all.iter().find(|(n, _)| *n == PoolName::other("session")).unwrap().1.logins.get(), 50);
        telemetry.tally(name("3")).logins.one();
        let all = telemetry.tallies();
        assert_eq!(all.iter().find(|(n, _)| n.user == "3").unwrap().1.logins.get(), 2);
    }
}
