//! Clients that want a server: they are given an idle one, or wait in line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::{Gate, Idle, Pool, PoolMode, Server, StartupKey, State, Ticket, Told, Waiter};
use crate::hint::rare;
use crate::net::turn_time;
use crate::telemetry::Moment;
use crate::wire::params::Params;

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

    pub(super) fn suits(&self, server: &Server, startup: &StartupKey) -> bool {
        self.mode == PoolMode::Transaction || server.startup == *startup
    }
}
