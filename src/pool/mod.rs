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
mod held;
mod home;
mod keeper;
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
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

pub use budget::Budget;
pub use counts::{Counts, Reach};
pub use gates::{Pause, Scope};
pub use held::Held;
pub use home::Home;
pub use listener::{MAILBOX_BYTES_MAX, Standing, Subscription};
pub use outbox::Outbox;
pub use registry::{Registry, Unavailable};
pub use server::{Aim, CancelInFlight, Lost, Server, ServerFacts, ServerHandle, StartupKey};
pub use survey::{Pin, ServerState, ServerView, Waiting};
pub use terms::Terms;
pub use ticket::{Outcome, Refusal, Ticket};
pub use vacancy::Vacancy;

use crate::error::PgError;
use crate::hint::rare;
use crate::net::turn_time;
use crate::telemetry::{Moment, PoolName, Tally, log_connection};
use crate::wire::exchange::{Catalog, Mode};
use crate::wire::params::Params;
use crate::wire::sql::Leaves;

/// What makes a pool one: everybody in it may be given the same servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    pub project: String,
    pub database: String,
    pub user: String,
    pub mode: PoolMode,
}

/// [`Mode`], as part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolMode {
    Session,
    Transaction,
}

impl PoolMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}

impl PoolKey {
    /// Under which the pool's figures are known.
    pub fn telemetry_name(&self) -> PoolName {
        let Self { project, database, user, mode } = self.clone();
        PoolName { project, database, user, mode: mode.as_str() }
    }
}

impl From<PoolMode> for Mode {
    fn from(mode: PoolMode) -> Self {
        match mode {
            PoolMode::Session => Self::Session,
            PoolMode::Transaction => Self::Transaction,
        }
    }
}

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

/// Who wants a server.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// The server this client had last.
    pub home: u64,
    pub params: &'a Arc<Params>,
    pub settings: &'a Arc<Params>,
    pub startup: &'a StartupKey,
}

impl Pool {
    /// An idle server that suits, if nobody waits before this client. No await, no allocation.
    pub fn try_lease(&self, want: Want<'_>) -> Option<Box<Server>> {
        loop {
            let mut server = {
                let mut state = self.state.lock();
                if !state.waiters.is_empty() || state.gate == Gate::Paused {
                    rare();
                    return None;
                }
                let at = self.choose(&state.idle, want)?;
                state.idle.remove(at)?.server
            };
            if server.hear_idle(&self.catalog) {
                server.leases += 1;
                server.leased_at = turn_time();
                server.account.leases.one();
                return Some(server);
            }
            rare();
            self.log_closed(&server);
        }
    }

    /// Queues for a server; one is opened if there is room. What comes of it is in the ticket.
    pub fn queue(self: &Arc<Self>, ticket: &Arc<Ticket>, startup: &StartupKey, waker: &Waker) {
        let came_back = |state: &mut State| {
            let at = state.idle.iter().position(|idle| self.suits(&idle.server, startup))?;
            state.idle.remove(at)
        };
        if let Some(Idle { mut server, .. }) = self.line_up(ticket, startup, waker, came_back) {
            // It came back, on another thread, between the client's look at the idle ones and this: as long as anybody waits,
            // nobody would look there again.
            match server.hear_idle(&self.catalog) {
                true => self.put_back(server, Moment::now()),
                false => self.discard(server),
            }
        }
    }

    /// The same for one that is opened for this client, or comes back: those that are idle it does not want.
    pub fn queue_for_another(self: &Arc<Self>, ticket: &Arc<Ticket>, startup: &StartupKey, waker: &Waker) {
        self.line_up(ticket, startup, waker, |_| None);
    }

    fn line_up(
        self: &Arc<Self>,
        ticket: &Arc<Ticket>,
        startup: &StartupKey,
        waker: &Waker,
        look: impl FnOnce(&mut State) -> Option<Idle>,
    ) -> Option<Idle> {
        let waiter = Waiter { ticket: Arc::clone(ticket), startup: Arc::clone(startup), since: turn_time(), told: Told::Nothing };
        let (idle, has_room, has_holders) = {
            let mut state = self.state.lock();
            if ticket.queue(waker) {
                state.waiters.retain(|waiter| !Arc::ptr_eq(&waiter.ticket, ticket));
            }
            state.waiters.push_back(waiter);
            (look(&mut state), self.may_have_room(&state), !state.held.is_empty())
        };
        self.pace.hurry();
        if idle.is_some() {
            return idle;
        }
        if has_room {
            self.open_soon();
        }
        if has_holders {
            self.ask_holders();
        }
        None
    }

    /// Not where every place is taken, by far the most often when somebody has to wait. In session mode an idle server with
    /// other startup parameters makes room.
    fn may_have_room(&self, state: &State) -> bool {
        self.key.mode == PoolMode::Session || self.open_count() < state.terms.size.max(1)
    }

    /// Own last server, then one with the same settings, then a clean one, then the least recently used.
    fn choose(&self, idle: &VecDeque<Idle>, want: Want<'_>) -> Option<usize> {
        if self.mode == PoolMode::Session {
            return self.choose_by_startup(idle, want.startup);
        }
        // Before anything is looked at that is not side by side in memory: by far the most often it is there.
        idle.iter().position(|entry| entry.id == want.home).or_else(|| self.choose_another(idle, want))
    }

    #[inline(never)]
    fn choose_another(&self, idle: &VecDeque<Idle>, want: Want<'_>) -> Option<usize> {
        let mut best = None;
        let mut best_rank = (false, 0);
        for (at, entry) in idle.iter().enumerate() {
            let rank = (entry.server.handle.is_nobodys_home(), entry.server.side.rank_for(want.params, want.settings));
            if rank > best_rank {
                (best, best_rank) = (Some(at), rank);
            }
        }
        best
    }

    /// A session's settings are its startup packet's, and RESET returns to them: only a server opened with the same will
    /// do. One that nobody has used is preferred: what is left of an earlier owner even DISCARD ALL does not undo.
    #[inline(never)]
    fn choose_by_startup(&self, idle: &VecDeque<Idle>, startup: &StartupKey) -> Option<usize> {
        let suits = |i: &Idle| i.server.startup == *startup;
        let unused = idle.iter().position(|i| i.server.is_unused() && suits(i));
        unused.or_else(|| idle.iter().position(suits))
    }

    /// Takes a server back from whoever held it, settled and outside a transaction. The next in line gets it at once.
    #[inline]
    pub fn release(self: &Arc<Self>, server: Box<Server>) {
        if server.handle.end_lease() {
            self.give_later(server);
        } else {
            self.give(server, turn_time());
        }
    }

    /// A cancel is on its way to what its client ran: nobody else may run anything there until it has landed.
    #[cold]
    fn give_later(self: &Arc<Self>, server: Box<Server>) {
        let pool = Arc::clone(self);
        self.opener.spawner.spawn(async move {
            server.handle.cancels_landed().await;
            pool.give(server, Moment::now());
        });
    }

    fn give(self: &Arc<Self>, mut server: Box<Server>, now: Moment) {
        if self.mode == PoolMode::Transaction && !server.is_unused() {
            server.account.lease_times.observe_ns(now.ns_since(server.leased_at));
        }
        if server.is_past(now) {
            rare();
            return self.retire(server);
        }
        server.idle_since = now;
        server.checked_at = now;
        server.side.shrink();
        server.handle.statements.store(server.side.prepared_statements(), Ordering::Relaxed);
        self.put_back(server, now);
    }

    fn put_back(self: &Arc<Self>, mut server: Box<Server>, now: Moment) {
        let mut state = self.state.lock();
        let open = self.open_count();
        let goes = state.gate == Gate::Paused || !state.generation.has(&server);
        if goes || state.is_beyond(open) || self.budget.is_exceeded() {
            rare();
            drop(state);
            return self.retire(server);
        }
        if !state.waiters.is_empty() {
            match self.hand_over(&mut state, server, now) {
                Some(back) => server = back,
                None => return,
            }
        }
        let wanted_elsewhere = !state.waiters.is_empty() || self.budget.is_contended();
        if state.is_vacated() || (wanted_elsewhere && open > self.prewarmed(&state)) {
            rare();
            let goes = state.is_vacated() || !state.waiters.is_empty();
            drop(state);
            return if goes || self.budget.is_short() { self.retire(server) } else { self.put_back(server, now) };
        }
        state.idle.push_back(Idle { id: server.handle.id, server });
    }

    /// To the first who waits for one like it; the server, if that is nobody.
    #[inline(never)]
    fn hand_over(&self, state: &mut State, mut server: Box<Server>, now: Moment) -> Option<Box<Server>> {
        let mut passed_over = VecDeque::new();
        while let Some(waiter) = state.waiters.pop_front() {
            if !self.suits(&server, &waiter.startup) {
                passed_over.push_back(waiter);
                continue;
            }
            let lease = |server: &mut Server| {
                server.leases += 1;
                server.leased_at = now;
                server.account.leases.one();
                server.account.waits.observe_ns(now.ns_since(waiter.since));
            };
            match waiter.ticket.serve(server, lease) {
                Ok(()) => {
                    restore(&mut state.waiters, passed_over);
                    return None;
                }
                // It waits no more.
                Err(back) => server = back,
            }
        }
        restore(&mut state.waiters, passed_over);
        Some(server)
    }

    fn suits(&self, server: &Server, startup: &StartupKey) -> bool {
        self.mode == PoolMode::Transaction || server.startup == *startup
    }

    /// Closes a server in good order.
    pub fn retire(self: &Arc<Self>, server: Box<Server>) {
        self.log_closed(&server);
        server.close();
        self.open_soon();
    }

    /// Forgets a server that broke, or that its holder must not give back.
    pub fn discard(self: &Arc<Self>, server: Box<Server>) {
        self.log_closed(&server);
        drop(server);
        self.open_soon();
    }

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

/// Puts back, in their order, those who came before.
fn restore(waiters: &mut VecDeque<Waiter>, passed_over: VecDeque<Waiter>) {
    for waiter in passed_over.into_iter().rev() {
        waiters.push_front(waiter);
    }
}

#[cfg(test)]
mod tests;
