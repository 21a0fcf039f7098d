//! The life of a logged-in client: one task, one hand-written poll over both sockets.
//!
//! A transaction costs four data syscalls (recv, send, recv, send) and a wake-up for each side. Reads go into the thread's room;
//! what one side sent is written to the other from there, and copied only where it cannot leave at once. The server goes
//! back to the pool before the last bytes are written to the client: a slow client costs the pool nothing.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::end::End;
use super::handle::{Handle, Membership, Stop};
use super::listen::Listening;
use super::patience::{Patience, Silence};
use super::room::with_room;
use super::tally;
use super::watched::Watched;
use crate::hint::rare;
use crate::net::stream::Stream;
use crate::pool::{Held, Lost, Outbox, Outcome, Server, StartupKey, Vacancy};
use crate::wire::exchange::{ClientSide, Mode};

/// Steps of one session before the others of its worker have their turn: at most as many reads from either side.
const STEPS_MAX: usize = 32;
/// One side is not read while the other has more than this unwritten, in bytes.
pub(super) const UNWRITTEN_BYTES_MAX: usize = 64 * 1024;
/// What a client may send while it waits for a server, or for what its server owes, in bytes.
pub(super) const QUEUED_BYTES_MAX: usize = 64 * 1024;

/// One client and, while it has one, its server.
#[derive(Debug)]
pub struct Relay {
    pub(super) client: Stream,
    pub(super) side: ClientSide,
    /// Bytes of the client's that wait: for the rest of their message, or for a server.
    pub(super) carry: Vec<u8>,
    pub(super) to_client: Outbox,
    pub(super) membership: Membership,
    /// What a server must have been opened with, in session mode.
    pub(super) startup: Option<Box<StartupKey>>,
    /// While its server stays with it outside a transaction.
    pub(super) held: Option<Box<Held>>,
    /// Its part in the pool's listener.
    pub(super) listening: Option<Box<Listening>>,
    /// The server it had last, or is at home on: the one that its handle follows.
    pub(super) home: u64,
    pub(super) state: State,
    /// Databases that its server's current statements want empty.
    pub(super) vacancy: Option<Box<Vacancy>>,
    patience: Patience,
    pub(super) watched: Option<Box<Watched>>,
}

#[derive(Debug)]
pub(super) enum State {
    /// No server, and no need of one.
    Idle,
    /// In the pool's queue.
    Queued,
    Serving(Box<Server>),
}

/// What the relay needs from login.
pub struct Parts {
    pub client: Stream,
    pub side: ClientSide,
    pub membership: Membership,
    pub startup: StartupKey,
    /// Bytes for the client that were not sent yet.
    pub to_client: Outbox,
    pub server: Option<Box<Server>>,
    /// What the client sent before it was greeted.
    pub early: Vec<u8>,
    pub patience: Patience,
    pub(super) watched: Option<Box<Watched>>,
}

enum Step {
    Again,
    Wait,
}

impl Relay {
    pub fn new(parts: Parts) -> Self {
        let Parts { client, side, membership, startup, to_client, server, early, patience, watched } = parts;
        let home = server.as_ref().map_or_else(|| membership.handle().home(), |s| s.handle.id);
        let state = server.map_or(State::Idle, State::Serving);
        membership.handle().show(&side.params);
        Self {
            client,
            side,
            carry: early,
            to_client,
            membership,
            startup: (!startup.is_empty()).then(|| Box::new(startup)),
            held: None,
            listening: None,
            home,
            state,
            vacancy: None,
            patience,
            watched,
        }
    }

    /// The greeting leaves, and its buffer goes: a client that keeps up needs none again. Then what the client sent early.
    pub(super) fn begin_with(&mut self, cx: &mut Context<'_>) -> Result<(), Box<End>> {
        self.handle().watch(cx.waker());
        self.flush_client(cx)?;
        self.to_client.release_memory();
        self.feed_carry(cx)
    }

    /// The server, if the session ended with one.
    pub fn take_server(&mut self) -> Option<Box<Server>> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Serving(server) => Some(server),
            State::Queued => self.handle().ticket.leave(),
            State::Idle => None,
        }
    }

    pub(super) fn handle(&self) -> &Arc<Handle> {
        self.membership.handle()
    }

    /// What the client had begun, for whoever brings its server back.
    pub(super) fn detach_side(&mut self) -> ClientSide {
        self.side.returned();
        let stand_in = ClientSide::nobody(Arc::clone(&self.membership.pool.catalog), Arc::clone(&self.side.params));
        std::mem::replace(&mut self.side, stand_in)
    }

    /// Runs until either side ends it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Box<End>> {
        for _ in 0..STEPS_MAX {
            // On every step: a drain ends the session when its transaction has ended, and nothing wakes it again then.
            if let Some(stop) = self.handle().stop_wanted() {
                rare();
                if self.may_stop(stop) {
                    return Poll::Ready(self.handle().end().into());
                }
            }
            if let Err(end) = self.attend(cx) {
                rare();
                return Poll::Ready(end);
            }
            let step = match &self.state {
                State::Idle => self.poll_idle(cx),
                State::Queued => self.poll_queued(cx),
                State::Serving(_) => self.poll_serving(cx),
            };
            match step {
                Ok(Step::Again) if !self.may_rest(cx) => {}
                Ok(_) => return self.poll_patience(cx),
                Err(end) => {
                    rare();
                    return Poll::Ready(end);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether a further step would find nothing to do, which is so behind nearly every read: it took all there was, nothing
    /// waits to be sent, and the reactor will tell of more. To find that out by that step took 250 instructions, twice in a
    /// transaction.
    fn may_rest(&self, cx: &mut Context<'_>) -> bool {
        let has_room = match &self.state {
            State::Serving(server) => server.out.is_empty() && !self.side.is_returning() && server.stream.will_wake(cx),
            State::Idle => true,
            State::Queued => false,
        };
        has_room
            && self.held.is_none()
            && self.listening.is_none()
            && self.carry.is_empty()
            && self.to_client.is_empty()
            && self.handle().stop_wanted().is_none()
            && self.client.will_wake(cx)
    }

    /// Whether the client has been silent for too long while it was its turn.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Box<End>> {
        if self.patience.is_endless() { Poll::Pending } else { self.poll_limited(cx) }
    }

    #[cold]
    fn poll_limited(&mut self, cx: &mut Context<'_>) -> Poll<Box<End>> {
        let silence = match &self.state {
            State::Idle => Some(Silence::Idle),
            State::Serving(server) if server.side.is_idle() => Some(match &self.held {
                Some(held) if held.is_pinned() => Silence::Pinned,
                _ => Silence::Idle,
            }),
            State::Serving(server) if server.side.is_settled() => Some(Silence::InTransaction),
            State::Queued | State::Serving(_) => None,
        };
        self.patience.poll(silence, cx).map(|error| End::Refused(error).into())
    }

    fn may_stop(&self, stop: Stop) -> bool {
        let is_idle = match &self.state {
            State::Idle => true,
            State::Queued => false,
            State::Serving(server) => server.side.is_idle(),
        };
        stop == Stop::Now || (is_idle && self.carry.is_empty())
    }

    /// ## Idle => (Idle | Queued | Serving)
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Result<Step, Box<End>> {
        self.flush_client(cx)?;
        if self.to_client.pending_bytes() > UNWRITTEN_BYTES_MAX {
            rare();
            return Ok(Step::Wait);
        }
        self.read_client(cx)
    }

    /// ## Queued => (Queued | Serving | Idle)
    #[inline(never)]
    fn poll_queued(&mut self, cx: &mut Context<'_>) -> Result<Step, Box<End>> {
        self.flush_client(cx)?;
        match self.handle().ticket.outcome() {
            Outcome::Served(server) => {
                self.begin(server);
                self.feed_carry(cx)?;
                return Ok(Step::Again);
            }
            Outcome::Refused(refusal) => {
                self.refused(refusal, cx)?;
                return Ok(Step::Again);
            }
            Outcome::Notice => {
                self.to_client.say(&self.membership.pool.waiting_notice());
                self.flush_client(cx)?;
            }
            Outcome::Waiting => {}
        }
        // Read on, so that a client that gives up is noticed.
        if self.carry.len() > QUEUED_BYTES_MAX { Ok(Step::Wait) } else { self.read_client(cx) }
    }

    /// ## Serving => (Serving | Idle)
    fn poll_serving(&mut self, cx: &mut Context<'_>) -> Result<Step, Box<End>> {
        if self.held.is_some() {
            rare();
            self.attend_held(cx)?;
        }
        // Written first, so that whoever is not read now for want of room is woken when there is room.
        self.flush_client(cx)?;
        let mut step = Step::Wait;
        if self.to_client.pending_bytes() <= UNWRITTEN_BYTES_MAX
            && let Step::Again = self.read_server(cx)?
        {
            step = Step::Again;
        }
        if let State::Serving(server) = &mut self.state {
            server.flush(cx)?;
            let has_room = server.out.pending_bytes() <= UNWRITTEN_BYTES_MAX
                && !((self.side.is_waiting() || server.side.is_being_asked()) && self.carry.len() > QUEUED_BYTES_MAX);
            if has_room && let Step::Again = self.read_client(cx)? {
                step = Step::Again;
            }
        }
        self.flush_client(cx)?;
        Ok(step)
    }

    fn read_client(&mut self, cx: &mut Context<'_>) -> Result<Step, Box<End>> {
        with_room(|room| self.read_client_into(room, cx))
    }

    fn read_client_into(&mut self, room: &mut [MaybeUninit<u8>], cx: &mut Context<'_>) -> Result<Step, Box<End>> {
        let received = match self.client.poll_recv(cx, room) {
            Poll::Pending => return Ok(Step::Wait),
            Poll::Ready(Err(error)) => {
                rare();
                return Err(End::client_failed(error));
            }
            Poll::Ready(Ok(received)) => received,
        };
        let bytes = received.bytes();
        if bytes.is_empty() {
            rare();
            return Err(End::ClientLeft.into());
        }
        self.patience.client_spoke();
        let fed = self.client_said(bytes, cx);
        // Behind it: for a client that has no server yet it needs a locked addition.
        match &self.state {
            State::Serving(server) => server.account.client_bytes.add(bytes.len() as u64),
            State::Idle | State::Queued => self.membership.pool.tally.client_bytes.add(bytes.len() as u64),
        }
        fed.map(|()| Step::Again)
    }

    fn read_server(&mut self, cx: &mut Context<'_>) -> Result<Step, Box<End>> {
        with_room(|room| self.read_server_into(room, cx))
    }

    fn read_server_into(&mut self, room: &mut [MaybeUninit<u8>], cx: &mut Context<'_>) -> Result<Step, Box<End>> {
        let State::Serving(server) = &mut self.state else { return Ok(Step::Wait) };
        if self.side.is_returning() {
            rare();
            return Ok(Step::Wait);
        }
        let received = match server.stream.poll_recv(cx, room) {
            Poll::Pending => return Ok(Step::Wait),
            Poll::Ready(Err(error)) => {
                rare();
                return Err(End::server_failed(error));
            }
            Poll::Ready(Ok(received)) => received,
        };
        let bytes = received.bytes();
        if bytes.is_empty() {
            rare();
            return Err(End::ServerLost(Lost::Closed).into());
        }
        server.account.server_bytes.add(bytes.len() as u64);
        if server.input.is_empty() {
            self.server_said(bytes, cx)?;
        } else {
            rare();
            let mut held = std::mem::take(&mut server.input);
            held.extend_from_slice(bytes);
            self.server_said(&held, cx)?;
        }
        Ok(Step::Again)
    }

    pub(super) fn server_said(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Box<End>> {
        let State::Serving(server) = &mut self.state else { return Ok(()) };
        let turn = server.side.turn(&mut self.side, bytes, self.to_client.buffer()).map_err(End::broken)?;
        if turn.consumed < bytes.len() {
            rare();
            server.input.extend_from_slice(&bytes[turn.consumed..]);
        }
        tally::turn(&server.account, &self.membership.house.registry, &turn);
        if turn.transactions > 0 && self.side.mode() == Mode::Session {
            tally::session_transaction(&self.membership.pool, self.membership.handle().ended());
        }
        self.membership.handle().show(&self.side.params);
        if turn.replayed || turn.asked {
            rare();
            server.handle.lease_to(self.membership.handle().id);
        }
        // In session mode, where the server stays.
        if self.vacancy.is_some() && server.side.is_settled() {
            rare();
            self.vacancy = None;
        }
        if let Some(missed) = &turn.missed {
            self.tell_missed(missed);
        }
        self.slow_turn(&turn);
        let released = self.release_if_idle(cx);
        self.to_client.send(&mut self.client, &bytes[turn.direct], cx).map_err(End::client_failed)?;
        self.lint_server();
        if released || turn.asked || self.side.is_waiting() { self.feed_carry(cx) } else { Ok(()) }
    }

    pub(super) fn flush_client(&mut self, cx: &mut Context<'_>) -> Result<(), Box<End>> {
        match self.to_client.poll_send(&mut self.client, cx) {
            Poll::Ready(Err(error)) => {
                rare();
                Err(End::client_failed(error))
            }
            _ => Ok(()),
        }
    }
}

impl Server {
    pub(super) fn send(&mut self, direct: &[u8], cx: &mut Context<'_>) -> Result<(), Box<End>> {
        self.out.send(&mut self.stream, direct, cx).map_err(End::server_failed)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), Box<End>> {
        match self.out.poll_send(&mut self.stream, cx) {
            Poll::Ready(Err(error)) => {
                rare();
                Err(End::server_failed(error))
            }
            _ => Ok(()),
        }
    }
}
