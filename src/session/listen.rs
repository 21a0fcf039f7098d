//! A client's channels on their way to the pool's listener, there, and on their way back.

use std::task::Context;

use super::end::End;
use super::relay::{Relay, State, UNWRITTEN_BYTES_MAX};
use crate::error::{PgError, SqlState};
use crate::pool::{Standing, Subscription};
use crate::wire::exchange::Place;

/// So often as much as may be unwritten is told at once, before the others of the worker have their turn: the listener may
/// fill the mailbox on another worker as fast as it is emptied here.
const ROUNDS_MAX: usize = 16;

/// What a session has to do with the listener of its pool. Most have nothing.
#[derive(Debug)]
pub(super) enum Listening {
    /// It was asked to listen; the client's server still does.
    Asked(Subscription),
    /// From a marker on it listens for the client.
    Moved(Subscription),
}

impl Relay {
    /// Nothing but channels holds the server, and somebody wants it.
    pub(super) fn ask_listener(&mut self, cx: &Context<'_>) {
        let State::Serving(server) = &self.state else { return };
        if self.listening.is_some() {
            return;
        }
        let encoding = self.side.params.get("client_encoding").unwrap_or_default();
        let channels = server.side.movable(&self.side);
        match channels.and_then(|channels| self.membership.pool.subscribe(channels, encoding, server, cx.waker())) {
            // ## => Asked
            Some(subscription) => self.listening = Some(Box::new(Listening::Asked(subscription))),
            None => self.stay(),
        }
    }

    /// Whether asking, or moving what was found, may set the server free.
    pub(super) fn may_yield(&self) -> bool {
        let State::Serving(server) = &self.state else { return false };
        server.side.is_worth_asking()
            || self.listening.is_some()
            || (server.side.movable(&self.side).is_some() && self.membership.pool.may_listen_for(server))
    }

    /// What there is to do now, if the listener is concerned.
    #[inline]
    pub(super) fn attend(&mut self, cx: &mut Context<'_>) -> Result<(), Box<End>> {
        if self.listening.is_none() { Ok(()) } else { self.attend_listener(cx) }
    }

    #[cold]
    fn attend_listener(&mut self, cx: &mut Context<'_>) -> Result<(), Box<End>> {
        if let Some(Listening::Asked(_)) = self.listening.as_deref() {
            self.depart();
            return Ok(());
        }
        match self.side.place() {
            // It did not leave after all.
            Place::Here => self.stay(),
            Place::Leaving => {}
            Place::Left => {
                if let State::Serving(server) = &mut self.state {
                    server.side.part(&mut self.side, server.out.buffer());
                    server.handle.prepare_for(self.membership.handle().id);
                }
            }
            Place::Away if self.is_between_transactions() => self.tell(Place::Away, cx)?,
            Place::Away => {}
            Place::Returning => self.tell(Place::Returning, cx)?,
        }
        Ok(())
    }

    /// ## Asked => (Asked | Moved | )
    fn depart(&mut self) {
        let Some(Listening::Asked(subscription)) = self.listening.as_deref() else { return };
        let State::Serving(server) = &mut self.state else { return self.listening = None };
        if server.side.movable(&self.side).is_none() {
            // Something was done since that has to be asked about first.
            self.listening = None;
            return;
        }
        match subscription.standing() {
            Standing::Asked => {}
            Standing::Ready => {
                if !server.side.is_idle() || self.side.owes_bytes() || self.side.is_waiting() {
                    return;
                }
                server.side.depart(&mut self.side, subscription.moved().clone(), server.out.buffer());
                server.handle.prepare_for(self.membership.handle().id);
                self.listening = self.listening.take().map(|mut listening| {
                    *listening = match *listening {
                        Listening::Asked(subscription) | Listening::Moved(subscription) => Listening::Moved(subscription),
                    };
                    listening
                });
            }
            Standing::Refused | Standing::Lost | Standing::Full | Standing::Over => self.stay(),
        }
    }

    /// The server stays with its client: a pin.
    fn stay(&mut self) {
        self.listening = None;
        if let (State::Serving(server), Some(held)) = (&self.state, &self.held) {
            held.update(server.side.held_for(&self.side), server.side.is_worth_asking());
        }
    }

    /// PostgreSQL tells of notifications between transactions only.
    fn is_between_transactions(&self) -> bool {
        match &self.state {
            State::Idle | State::Queued => true,
            State::Serving(server) => server.side.is_idle(),
        }
    }

    /// Tells the client what the listener has heard for it.
    fn tell(&mut self, place: Place, cx: &mut Context<'_>) -> Result<(), Box<End>> {
        let Some(Listening::Moved(subscription)) = self.listening.as_deref() else { return Ok(()) };
        if place == Place::Away && self.side.params.get("client_encoding") != Some(subscription.encoding()) {
            return Err(End::Refused(other_encoding()).into());
        }
        // Before the letters are taken: if it is at its end, they are all there.
        let standing = subscription.standing();
        let mut rounds = 0..ROUNDS_MAX;
        let are_all = loop {
            // Before it is seen whether there is room: with none, the socket has taken all it can, and wakes the session when it
            // takes more. Nothing else does, once the listener has no more to tell.
            self.flush_client(cx)?;
            let Some(Listening::Moved(subscription)) = self.listening.as_deref() else { return Ok(()) };
            let room = UNWRITTEN_BYTES_MAX.saturating_sub(self.to_client.pending_bytes());
            if room == 0 {
                break false;
            }
            if rounds.next().is_none() {
                cx.waker().wake_by_ref();
                break false;
            }
            let (count, are_all) = subscription.take(self.to_client.buffer(), room);
            self.membership.pool.tally.notifications.add(count);
            if are_all {
                break true;
            }
        };
        match standing {
            Standing::Full => Err(End::Refused(too_slow()).into()),
            Standing::Lost | Standing::Refused if are_all => Err(End::Refused(listener_lost()).into()),
            // Away: the client's own `UNLISTEN *` kept its server from hearing the marker. What there is, is there.
            Standing::Over if are_all => self.come_home(cx),
            _ => Ok(()),
        }
    }

    /// The server's own words go on.
    fn come_home(&mut self, cx: &mut Context<'_>) -> Result<(), Box<End>> {
        self.listening = None;
        self.side.returned();
        let State::Serving(server) = &mut self.state else { return Ok(()) };
        let said = std::mem::take(&mut server.input);
        self.server_said(&said, cx)
    }
}

fn listener_lost() -> PgError {
    PgError::fatal(SqlState::ADMIN_SHUTDOWN, "terminating connection because the server connection that listened for it was lost")
        .with_detail("Notifications may have been lost.")
        .with_hint("Connect again, LISTEN again, and look whether there is anything to do.")
}

fn too_slow() -> PgError {
    PgError::fatal(SqlState::PROGRAM_LIMIT_EXCEEDED, "terminating connection because it does not take its notifications")
        .with_detail(format!("More than {} MiB of them are waiting.", crate::pool::MAILBOX_BYTES_MAX >> 20))
        .with_hint("Read while nothing is asked for, and do not stay in a transaction for long.")
}

fn other_encoding() -> PgError {
    PgError::fatal(
        SqlState::FEATURE_NOT_SUPPORTED,
        "terminating connection because client_encoding was changed while the client listens, in a way that was not foreseen",
    )
    .with_hint("Change it by SET client_encoding, or before LISTEN, or use the session port.")
}
