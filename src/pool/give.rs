//! Servers that come back: the next in line has them, or the pool, or they go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Gate, Idle, Pool, PoolMode, Server, State, Waiter};
use crate::hint::rare;
use crate::net::turn_time;
use crate::telemetry::Moment;

impl Pool {
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

    pub(super) fn give(self: &Arc<Self>, mut server: Box<Server>, now: Moment) {
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

    pub(super) fn put_back(self: &Arc<Self>, mut server: Box<Server>, now: Moment) {
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
}

/// Puts back, in their order, those who came before.
fn restore(waiters: &mut VecDeque<Waiter>, passed_over: VecDeque<Waiter>) {
    for waiter in passed_over.into_iter().rev() {
        waiters.push_front(waiter);
    }
}
