//! Servers of one (project, database, user, mode), and the clients that wait for them.
//!
//! A server is owned by the pool while idle and moves to whoever leases it; there is no pointer back and no callback
//! (trap 12). Waiting clients are served first come first served, and handed the server directly: a newcomer cannot
//! overtake (trap 13).

mod budget;
mod counts;
mod credentials;
mod gates;
mod generation;
mod give;
mod held;
mod home;
mod keeper;
mod key;
mod lease;
mod listener;
mod open;
mod outbox;
mod pace;
mod registry;
mod roster;
mod server;
mod survey;
mod terms;
mod ticket;
mod vacancy;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

pub use budget::Budget;
pub use counts::{Counts, Reach};
pub use gates::{Pause, Scope};
pub use held::Held;
pub use home::Home;
pub use key::{PoolKey, PoolMode};
pub use lease::Want;
pub use listener::{MAILBOX_BYTES_MAX, Standing, Subscription};
pub use outbox::Outbox;
pub use registry::{Registry, Unavailable};
pub use server::{Aim, CancelInFlight, Lost, Server, ServerFacts, ServerHandle, StartupKey};
pub use survey::{Pin, ServerState, ServerView, Waiting};
pub use terms::Terms;
pub use ticket::{Outcome, Refusal, Ticket};
pub use vacancy::Vacancy;

use crate::error::PgError;
use crate::telemetry::{Moment, Tally, log_connection};
use crate::wire::exchange::Catalog;
use crate::wire::params::Params;
use crate::wire::sql::Leaves;

#[derive(Debug)]
pub struct Pool {
    pub key: Arc<PoolKey>,
    /// The key's, at hand.
    mode: PoolMode,
    pub catalog: Arc<Catalog>,
    opener: open::Opener,
    budget: Arc<Budget>,
    listener: listener::Listener,
    state: Mutex<State>,
    /// Connections that exist, idle or leased: each counts itself.
    open: Arc<AtomicUsize>,
    /// The same ones, for people who ask which.
    roster: Arc<roster::Roster>,
    /// Clients logged in to this pool.
    clients: AtomicUsize,
    ids: Arc<AtomicU64>,
    pace: Arc<pace::Pace>,
    /// What the servers of transaction mode are opened with: nothing of a client's.
    pub no_startup: StartupKey,
    pub tally: Arc<Tally>,
}

#[derive(Debug)]
struct State {
    terms: Arc<Terms>,
    /// Least recently used first.
    idle: VecDeque<Idle>,
    waiters: VecDeque<Waiter>,
    /// Servers that stay with their clients; longest held first.
    held: VecDeque<Arc<held::Hold>>,
    /// Logins under way.
    opening: usize,
    /// Servers of another are not leased again.
    generation: Arc<generation::Generation>,
    health: Health,
    /// Parameters of the newest server: what a client is told at login without waiting for one.
    greeting: Option<Arc<Params>>,
    /// How many want the database for themselves.
    vacancies: usize,
    gate: Gate,
}

/// Whether clients are given servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// They wait, and what servers there are go as they come back.
    Paused,
}

/// An idle server with what choosing among them needs, side by side in memory.
#[derive(Debug)]
struct Idle {
    id: u64,
    server: Box<Server>,
}

#[derive(Debug)]
struct Waiter {
    ticket: Arc<Ticket>,
    startup: StartupKey,
    since: Moment,
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Notice,
}

/// What the last attempts to log in came to.
#[derive(Debug)]
enum Health {
    Up,
    /// Since then no login succeeded; why.
    Down {
        since: Moment,
        error: Refusal,
    },
}

impl Pool {
    fn close(&self, idle: Idle) {
        self.log_closed(&idle.server);
        idle.server.close();
    }

    /// Nobody is to listen any more: the listener goes with the last who does. Whether it has gone.
    pub fn close_listener(&self) -> bool {
        self.listener.close_if_unused();
        !self.listener.is_open()
    }

    fn log_closed(&self, server: &Server) {
        let log = server.handle.terms.settings.log.connections;
        let age = server.opened_at.elapsed().as_secs();
        log_connection!(log, server = server.handle.id, pid = server.handle.key.pid, pool = %self, age_s = age, "server connection closed");
    }

    fn open_count(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Closes the least recently used idle server, for another pool of the same upstream.
    fn close_coldest(&self) -> bool {
        let coldest = {
            let mut state = self.state.lock();
            if self.open_count() <= self.prewarmed(&state) {
                return false;
            }
            state.idle.pop_front()
        };
        coldest.map(|idle| self.close(idle)).is_some()
    }

    /// Closes every idle server.
    pub fn close_idle(&self) -> usize {
        self.ask_all_holders();
        self.listener.close_if_unused();
        let idle = std::mem::take(&mut self.state.lock().idle);
        let count = idle.len();
        idle.into_iter().for_each(|idle| self.close(idle));
        count
    }

    /// What a client may be told of the server without having one.
    pub fn greeting(&self) -> Option<Arc<Params>> {
        self.state.lock().greeting.clone()
    }

    pub fn client_came(&self) {
        self.clients.fetch_add(1, Ordering::Relaxed);
    }

    pub fn client_went(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// What a client that waits is told once.
    pub fn waiting_notice(&self) -> PgError {
        let (open, limit) = (self.open_count(), self.terms().size);
        let (held, reasons) = self.holds();
        let limits = format!("The pool may have {limit} connections, all pools of the upstream {}.", self.budget.limit());
        let detail = if held > 0 { format!("{limits} {}", held_detail(held, reasons)) } else { limits };
        PgError::notice(format!("waiting for a server connection: all {open} of {self} are in use")).with_detail(detail)
    }

    fn queue_wait(&self) -> Option<Duration> {
        Some(self.terms().settings.timeouts.queue_wait).filter(|t| !t.is_zero())
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let PoolKey { project, database, user, mode } = &*self.key;
        write!(f, "pool {user}.{project}/{database} ({} mode)", mode.as_str())
    }
}

/// Who keeps servers outside of transactions, and why.
fn held_detail(held: usize, reasons: Leaves) -> String {
    format!("{held} of them are kept by clients for session state: {reasons}.")
}

#[cfg(test)]
mod tests;
