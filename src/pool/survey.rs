//! Who is in a pool at one moment, one by one: for people who look, never for the data path.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Pool, ServerHandle, Ticket};
use crate::telemetry::Moment;
use crate::wire::sql::Leaves;

/// A server connection and what it does.
#[derive(Clone, Debug)]
pub struct ServerView {
    pub handle: Arc<ServerHandle>,
    pub state: ServerState,
    /// It is closed when it comes back (PgBouncer: `close_needed`).
    pub is_outdated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    Idle,
    /// A session has it.
    Active,
    /// It waits for a cancel request to land.
    BeingCanceled,
    /// It is being brought back, or asked for a sign of life.
    Tested,
}

impl ServerState {
    /// PgBouncer's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::BeingCanceled => "being_canceled",
            Self::Tested => "tested",
        }
    }
}

/// A client in the queue.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub ticket: Arc<Ticket>,
    pub waited: Duration,
}

/// A client that keeps its server between transactions.
#[derive(Clone, Debug)]
pub struct Pin {
    pub session: u64,
    pub since: Moment,
    pub reasons: Leaves,
    pub statement: Option<String>,
    pub is_sure: bool,
}

impl Pool {
    pub fn servers(&self) -> Vec<ServerView> {
        let state = self.state.lock();
        let idle: HashSet<u64> = state.idle.iter().map(|idle| idle.id).collect();
        let generation = state.generation.number();
        drop(state);
        let view = |handle: Arc<ServerHandle>| {
            let state = match handle.holder() {
                Some(_) => ServerState::Active,
                None if idle.contains(&handle.id) => ServerState::Idle,
                None if handle.is_being_canceled() => ServerState::BeingCanceled,
                None => ServerState::Tested,
            };
            let is_outdated = handle.facts.generation != generation;
            ServerView { handle, state, is_outdated }
        };
        self.roster.all().into_iter().map(view).collect()
    }

    /// First come first.
    pub fn queue_now(&self) -> Vec<Waiting> {
        let state = self.state.lock();
        let waiters = state.waiters.iter().filter(|waiter| waiter.ticket.is_waiting());
        waiters.map(|w| Waiting { ticket: Arc::clone(&w.ticket), waited: w.since.elapsed() }).collect()
    }

    /// Longest held first.
    pub fn pins(&self) -> Vec<Pin> {
        let state = self.state.lock();
        let pin = |hold: &Arc<super::held::Hold>| Pin {
            session: hold.session,
            since: hold.since,
            reasons: hold.reasons(),
            statement: hold.statement.lock().clone(),
            is_sure: hold.is_sure(),
        };
        state.held.iter().map(pin).collect()
    }
}
