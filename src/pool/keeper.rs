//! What happens by the clock: waits that end, servers that grow old, databases left alone.
//!
//! One sweep over the pools ten times a second while somebody waits, else twice ([`pace`](super::pace)). No timer per wait: the queue
//! is in order of arrival, so a sweep looks at those who are due and no further.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Health, Idle, Pool, Refusal, Told, Waiter, open};
use crate::telemetry::Moment;

impl Pool {
    /// One sweep.
    pub fn keep(self: &Arc<Self>, now: Moment) {
        self.end_waits(now);
        self.close_old(now);
        self.check_idle(now);
        self.open_soon();
        self.ask_holders();
    }

    /// Somebody waits, or will be served by a login that is under way.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.state.lock();
        !state.waiters.is_empty() || state.opening > 0
    }

    fn end_waits(&self, now: Moment) {
        let terms = self.terms();
        let timeouts = &terms.settings.timeouts;
        let mut ended = Vec::new();
        {
            let queue_wait = self.queue_wait();
            let mut state = self.state.lock();
            state.waiters.retain(|w| w.ticket.is_waiting());
            let down = match &state.health {
                Health::Down { since, error } if now - *since >= timeouts.server_down => Some(error.clone()),
                _ => None,
            };
            while let Some(first) = state.waiters.front() {
                let waited = now - first.since;
                let reason = match (&down, queue_wait) {
                    (Some(error), _) if waited >= timeouts.server_down => Reason::Down(error.clone()),
                    (_, Some(limit)) if waited >= limit => Reason::WaitedTooLong(limit),
                    _ => break,
                };
                ended.extend(state.waiters.pop_front().map(|w| (w, reason)));
            }
            notify(&mut state.waiters, now, timeouts.queue_notice);
        }
        // The same for all of them: who still waits is counted once, and not for each.
        let mut timed_out = None;
        for (waiter, reason) in ended {
            waiter.ticket.refuse(match reason {
                Reason::Down(error) => error,
                Reason::WaitedTooLong(limit) => timed_out.get_or_insert_with(|| open::timed_out(self, limit)).clone(),
            });
        }
    }

    /// Old, unused or dead servers go; the minimum stays.
    fn close_old(self: &Arc<Self>, now: Moment) {
        let idle_limit = self.idle_limit();
        let mut gone = Vec::new();
        {
            let mut state = self.state.lock();
            let mut spare = self.open_count().saturating_sub(self.prewarmed(&state));
            let mut kept = VecDeque::with_capacity(state.idle.len());
            for mut idle in std::mem::take(&mut state.idle) {
                let unused = idle_limit.is_some_and(|limit| now - idle.server.idle_since >= limit) && spare > 0;
                if unused || idle.server.is_past(now) || !idle.server.hear_idle(&self.catalog) {
                    spare = spare.saturating_sub(1);
                    gone.push(idle);
                } else {
                    kept.push_back(idle);
                }
            }
            state.idle = kept;
        }
        gone.into_iter().for_each(|idle| self.close(idle));
    }

    /// Asks servers that have been idle for long for a sign of life, off everybody's way: a connection that a firewall
    /// forgot shows no end of file (trap 16).
    fn check_idle(self: &Arc<Self>, now: Moment) {
        let terms = self.terms();
        let after = terms.settings.timeouts.server_check;
        if after.is_zero() {
            return;
        }
        let mut due = Vec::new();
        {
            let mut state = self.state.lock();
            let (checked, kept) = state.idle.drain(..).partition::<VecDeque<_>, _>(|i| now - i.server.checked_at >= after);
            state.idle = kept;
            due.extend(checked);
        }
        for Idle { mut server, .. } in due {
            let pool = Arc::clone(self);
            let limit = terms.settings.timeouts.recovery;
            self.opener.spawner.spawn(async move {
                server.checked_at = now;
                match tokio::time::timeout(limit, server.is_alive(&pool.catalog)).await {
                    Ok(true) => pool.put_back(server, Moment::now()),
                    _ => pool.discard(server),
                }
            });
        }
    }

    /// Databases other than the upstream's own are let go promptly: a server parked in one keeps it from being dropped or
    /// used as a template.
    fn idle_limit(&self) -> Option<Duration> {
        let terms = self.terms();
        let timeouts = &terms.settings.timeouts;
        let limit = if self.key.database == terms.project.upstream.database {
            timeouts.server_idle
        } else {
            timeouts.other_database_idle
        };
        Some(limit).filter(|l| !l.is_zero())
    }

    /// Neither clients nor servers: the pool may be forgotten.
    pub(super) fn is_deserted(&self) -> bool {
        let counts = self.counts();
        counts.clients == 0 && counts.open == 0 && counts.opening == 0 && counts.waiting == 0
    }
}

/// Why a wait ends.
enum Reason {
    Down(Refusal),
    WaitedTooLong(Duration),
}

fn notify(waiters: &mut VecDeque<Waiter>, now: Moment, after: Duration) {
    if after.is_zero() {
        return;
    }
    let due = waiters.iter_mut().take_while(|w| now - w.since >= after).filter(|w| w.told == Told::Nothing);
    for waiter in due {
        // ## Nothing => Notice
        waiter.told = Told::Notice;
        waiter.ticket.notice();
    }
}
