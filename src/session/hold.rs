//! A server that stays with its client between transactions, for as long as the client's state may be on it.

use std::task::Context;

use super::end::End;
use super::relay::{Relay, State};
use crate::hint::rare;
use crate::pool::Server;
use crate::wire::exchange::{ClientSide, Missed, Mode, Place};

/// What becomes of a server at the end of a transaction.
enum Verdict {
    Release,
    /// It owes something yet, or it is the client's for as long as it stays.
    Busy,
    /// It has, or may have, state of its client's.
    Keep,
}

impl Relay {
    /// At every end of a transaction: the server goes, stays, or is first told or asked something of our own. Whether it
    /// went.
    #[inline]
    pub(super) fn release_if_idle(&mut self, cx: &Context<'_>) -> bool {
        let State::Serving(server) = &self.state else { return false };
        match verdict(server, &self.side) {
            Verdict::Busy => false,
            Verdict::Release | Verdict::Keep if self.side.is_verified() && self.verify() => false,
            Verdict::Release => {
                self.release();
                true
            }
            Verdict::Keep => self.keep_or_release(cx),
        }
    }

    #[cold]
    fn keep_or_release(&mut self, cx: &Context<'_>) -> bool {
        self.keep(cx);
        // Where nothing but a way back to the defaults was noted, there may be nothing to keep.
        let State::Serving(server) = &self.state else { return false };
        let goes = matches!(verdict(server, &self.side), Verdict::Release) && !self.verify();
        if goes {
            self.release();
        }
        goes
    }

    /// Development mode: looked at before it may go.
    #[cold]
    fn verify(&mut self) -> bool {
        let State::Serving(server) = &mut self.state else { return false };
        let asks = server.side.verify(&mut self.side, server.out.buffer());
        if asks {
            server.handle.prepare_for(self.membership.handle().id);
        }
        asks
    }

    /// It is there, and kept or cleaned as if it had been foreseen.
    #[cold]
    pub(super) fn tell_missed(&self, missed: &Missed) {
        let Missed { kinds, settings, statements } = missed;
        self.membership.pool.tally.unforeseen.one();
        let application = self.side.params.get("application_name").unwrap_or_default();
        let (settings, statements) = (settings.join(", "), statements.join("; "));
        tracing::warn!(pool = %self.membership.pool, application, kinds = %kinds, settings, statements, "session state that no statement shows");
    }

    /// ## Serving => Idle
    fn release(&mut self) {
        if self.held.is_some() {
            rare();
            self.held = None;
            self.side.take_culprit();
        }
        if self.vacancy.is_some() {
            rare();
            self.vacancy = None;
        }
        if let State::Serving(server) = std::mem::replace(&mut self.state, State::Idle) {
            self.membership.pool.release(server);
        }
    }

    fn keep(&mut self, cx: &Context<'_>) {
        let State::Serving(server) = &mut self.state else { return };
        let session = self.membership.handle().id;
        if server.side.hears_markers() && matches!(self.side.place(), Place::Here | Place::Away) {
            server.side.hush(server.out.buffer());
            server.handle.prepare_for(session);
            return;
        }
        if server.side.has_strays(&self.side) {
            server.side.fetch_home(&self.side, server.out.buffer());
            server.handle.prepare_for(session);
            return;
        }
        if server.side.restore_defaults(&mut self.side, server.out.buffer()) {
            server.handle.prepare_for(session);
            return;
        }
        let reasons = server.side.held_for(&self.side);
        if reasons.is_nothing() {
            return;
        }
        let may_yield = self.may_yield();
        let State::Serving(server) = &self.state else { return };
        let since = server.leased_at();
        let held = self.held.get_or_insert_with(|| Box::new(self.membership.pool.hold(session, since, cx.waker())));
        held.blame(self.side.take_culprit());
        held.update(reasons, may_yield);
        if self.membership.pool.wants_back(server) {
            held.want();
            self.answer_call(cx);
        }
    }

    /// At every step of a client that keeps its server.
    #[cold]
    pub(super) fn attend_held(&mut self, cx: &Context<'_>) -> Result<(), Box<End>> {
        self.answer_call(cx);
        // Behind it: where there was nothing to ask, nothing wakes it again.
        match self.held.as_ref().and_then(|held| held.excess()) {
            Some(excess) => Err(End::Refused(excess).into()),
            None => Ok(()),
        }
    }

    /// Somebody else needs a server, and this one may be free.
    pub(super) fn answer_call(&mut self, cx: &Context<'_>) {
        if self.held.as_ref().is_some_and(|held| held.is_wanted()) {
            self.ask_server(cx);
        }
    }

    /// The client has its reply already. What it asks next waits for the answer (`feed`).
    fn ask_server(&mut self, cx: &Context<'_>) {
        let State::Serving(server) = &mut self.state else { return };
        let may = server.side.is_idle() && !self.side.owes_bytes() && !self.side.is_waiting();
        if !may {
            return;
        }
        if server.side.is_worth_asking() {
            server.side.ask(&mut self.side, server.out.buffer());
            server.handle.prepare_for(self.membership.handle().id);
        } else {
            self.ask_listener(cx);
        }
    }
}

/// All four conditions of trap 1, and that nothing of the client's is on the server.
#[inline]
fn verdict(server: &Server, side: &ClientSide) -> Verdict {
    let may = side.mode() == Mode::Transaction
        && server.side.is_idle()
        && server.input.is_empty()
        && server.out.is_empty()
        && !side.owes_bytes();
    match may {
        false => Verdict::Busy,
        // While it hears markers, the pooler's own channel is among what the next client would be shown.
        true if server.side.is_free_of(side) && !server.side.hears_markers() => Verdict::Release,
        true => Verdict::Keep,
    }
}
