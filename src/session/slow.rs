//! Transactions that take long, told in the log and counted. Off, it is one comparison for each step of a transaction.
//!
//! ```text
//! wants a server ──wait──→ has one ──run──→ ReadyForQuery ──idle──→ next request ──run──→ ReadyForQuery (idle)
//! ```

use std::time::{Duration, Instant};

use super::relay::{Relay, State};
use super::watched::Watched;
use crate::hint::rare;
use crate::wire::exchange::ServerTurn;
use crate::wire::sql;

/// One session's transaction, if it is in one.
#[derive(Debug)]
pub(super) struct SlowLog {
    threshold: Duration,
    transaction: Option<Transaction>,
    /// The text that took longest, as it was sent. Kept from transaction to transaction, for its room.
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Transaction {
    began: Instant,
    /// In the queue.
    waited: Duration,
    /// Of all requests, from when they were sent to their ReadyForQuery.
    ran: Duration,
    longest: Duration,
    request: Request,
}

#[derive(Clone, Copy, Debug)]
enum Request {
    /// The client's turn.
    None,
    /// Waits for a server.
    Queued,
    Runs {
        since: Instant,
    },
}

impl SlowLog {
    /// `None`: nothing is slow.
    pub(super) fn wanted(threshold: Duration) -> Option<Self> {
        (!threshold.is_zero()).then(|| Self { threshold, transaction: None, text: Vec::new() })
    }

    /// The client sent something and has no server.
    fn wants(&mut self, now: Instant) {
        if self.transaction.is_none() {
            let nothing = Duration::ZERO;
            let request = Request::Queued;
            self.transaction = Some(Transaction { began: now, waited: nothing, ran: nothing, longest: nothing, request });
            self.text.clear();
        }
    }

    /// Its server is about to be sent something.
    fn runs(&mut self, now: Instant) {
        self.wants(now);
        if let Some(transaction) = &mut self.transaction {
            match transaction.request {
                // ## Queued => Runs
                Request::Queued => transaction.waited = now - transaction.began,
                // ## None => Runs
                Request::None => {}
                Request::Runs { .. } => return,
            }
            transaction.request = Request::Runs { since: now };
        }
    }

    /// A request was answered, or nothing comes of it; `text` is what the client sent last.
    fn answered(&mut self, now: Instant, text: &[u8]) {
        let Some(transaction) = &mut self.transaction else { return };
        match transaction.request {
            Request::Runs { since } => {
                let took = now - since;
                transaction.ran += took;
                if took >= transaction.longest {
                    transaction.longest = took;
                    self.text.clear();
                    self.text.extend_from_slice(text);
                }
            }
            // In vain. What it would have run nobody has looked at.
            Request::Queued => transaction.waited = now - transaction.began,
            Request::None => {}
        }
        // ## (Queued | Runs) => None
        transaction.request = Request::None;
    }
}

impl Relay {
    /// ## Idle => Queued, or straight on
    #[inline]
    pub(super) fn slow_wants(&mut self) {
        if let Some(slow) = Watched::slow(&mut self.watched) {
            rare();
            slow.wants(Instant::now());
        }
    }

    /// Before bytes of the client's go to its server.
    #[inline]
    pub(super) fn slow_runs(&mut self) {
        if let Some(slow) = Watched::slow(&mut self.watched) {
            rare();
            slow.runs(Instant::now());
        }
    }

    /// After each turn of the server's.
    #[inline]
    pub(super) fn slow_turn(&mut self, turn: &ServerTurn) {
        if turn.ready > 0 && self.watched.is_some() {
            self.slow_answered(turn.transactions > 0);
        }
    }

    #[cold]
    fn slow_answered(&mut self, ends: bool) {
        let Some(slow) = Watched::slow(&mut self.watched) else { return };
        let now = Instant::now();
        slow.answered(now, self.side.noted_text());
        if ends {
            self.tell_if_slow(now, "slow transaction");
        }
        // What else was sent before this was answered.
        let State::Serving(server) = &self.state else { return };
        if !server.side.is_settled() {
            self.slow_runs();
        }
    }

    /// The session ends, perhaps in the middle of one, or there is no server for it.
    pub(super) fn transaction_broke_off(&mut self) {
        if let Some(slow) = Watched::slow(&mut self.watched) {
            let now = Instant::now();
            slow.answered(now, self.side.noted_text());
            self.tell_if_slow(now, "slow transaction, broken off");
        }
    }

    fn tell_if_slow(&mut self, now: Instant, what: &str) {
        let Some(slow) = Watched::slow(&mut self.watched) else { return };
        let Some(Transaction { began, waited, ran, .. }) = slow.transaction.take() else { return };
        let total = now - began;
        if total < slow.threshold {
            return;
        }
        self.membership.pool.tally.slow.one();
        let key = &self.membership.pool.key;
        let ms = |duration: Duration| duration.as_micros() as f64 / 1000.0;
        tracing::warn!(
            session = self.membership.handle().id,
            project = key.project,
            database = key.database,
            user = key.user,
            mode = key.mode.as_str(),
            application = self.side.params.get("application_name").unwrap_or_default(),
            total_ms = ms(total),
            wait_ms = ms(waited),
            run_ms = ms(ran),
            idle_ms = ms(total.saturating_sub(waited + ran)),
            statement = sql::for_log(&slow.text),
            "{what}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_running_and_the_clients_own_time_are_told_apart() {
        assert!(SlowLog::wanted(Duration::ZERO).is_none());
        let mut slow = SlowLog::wanted(Duration::from_secs(1)).expect("it is on");
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        slow.wants(at(0));
        slow.runs(at(30));
        slow.runs(at(31));
        slow.answered(at(40), b"BEGIN");
        slow.runs(at(100));
        slow.answered(at(300), b"SELECT 1");
        slow.runs(at(300));
        slow.answered(at(301), b"COMMIT");
        let Transaction { waited, ran, .. } = slow.transaction.expect("it is in one");
        assert_eq!((waited, ran), (Duration::from_millis(30), Duration::from_millis(211)));
        assert_eq!(slow.text, b"SELECT 1");
    }
}
