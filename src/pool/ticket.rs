//! A client's place in the queue.

use std::task::Waker;

use parking_lot::Mutex;

use super::Server;
use crate::error::PgError;

/// One per session, used again for each wait: waiting allocates nothing.
#[derive(Debug, Default)]
pub struct Ticket(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Unused,
    /// Unused, but its place in the queue, which a cancel request ended, may be there yet.
    Left,
    Waiting(Waker),
    Served(Box<Server>),
    /// Boxed: it is rare, and every session has a ticket.
    Refused(Box<Refusal>),
    Noticed(Waker),
}

/// Why a client that waited gets no server.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The upstream's own ErrorResponse body.
    Upstream(bytes::Bytes),
    Pooler(PgError),
    /// The same, and it ends the session.
    Final(PgError),
    /// A CancelRequest for the waiting client (trap 37).
    Canceled,
}

/// What a waiting client learns.
#[derive(Debug)]
pub enum Outcome {
    Waiting,
    /// It has waited for so long that it should be told.
    Notice,
    Served(Box<Server>),
    Refused(Refusal),
}

impl Ticket {
    /// Whether it may have a place in the queue already, of a wait that is over.
    pub(super) fn queue(&self, waker: &Waker) -> bool {
        // ## (Unused | Left) => Waiting
        let before = std::mem::replace(&mut *self.0.lock(), State::Waiting(waker.clone()));
        matches!(before, State::Left)
    }

    /// Gives the server to the waiting client, leased first; back as it was if it waits no more.
    pub(super) fn serve(&self, mut server: Box<Server>, lease: impl FnOnce(&mut Server)) -> Result<(), Box<Server>> {
        let mut state = self.0.lock();
        match std::mem::take(&mut *state) {
            // ## (Waiting | Noticed) => Served
            State::Waiting(waker) | State::Noticed(waker) => {
                lease(&mut server);
                *state = State::Served(server);
                drop(state);
                waker.wake();
                Ok(())
            }
            other => {
                *state = other;
                Err(server)
            }
        }
    }

    /// Ends the wait with an error; whether there was one.
    pub fn refuse(&self, refusal: Refusal) -> bool {
        let mut state = self.0.lock();
        match std::mem::take(&mut *state) {
            // ## (Waiting | Noticed) => Refused
            State::Waiting(waker) | State::Noticed(waker) => {
                *state = State::Refused(Box::new(refusal));
                drop(state);
                waker.wake();
                true
            }
            other => {
                *state = other;
                false
            }
        }
    }

    pub(super) fn notice(&self) {
        let mut state = self.0.lock();
        match std::mem::take(&mut *state) {
            // ## Waiting => Noticed
            State::Waiting(waker) => {
                waker.wake_by_ref();
                *state = State::Noticed(waker);
            }
            other => *state = other,
        }
    }

    /// What came of the wait so far.
    pub fn outcome(&self) -> Outcome {
        let mut state = self.0.lock();
        match std::mem::take(&mut *state) {
            unused @ (State::Unused | State::Left) => {
                *state = unused;
                Outcome::Waiting
            }
            State::Waiting(waker) => {
                *state = State::Waiting(waker);
                Outcome::Waiting
            }
            // ## Noticed => Waiting
            State::Noticed(waker) => {
                *state = State::Waiting(waker);
                Outcome::Notice
            }
            // ## (Served | Refused) => Unused
            State::Served(server) => Outcome::Served(server),
            State::Refused(refusal) => {
                if let Refusal::Canceled = *refusal {
                    // ## Refused => Left: whoever else refuses has taken it out of the queue.
                    *state = State::Left;
                }
                Outcome::Refused(*refusal)
            }
        }
    }

    /// Gives the place up; a server that came too late is handed back.
    pub fn leave(&self) -> Option<Box<Server>> {
        match std::mem::take(&mut *self.0.lock()) {
            State::Served(server) => Some(server),
            _ => None,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(*self.0.lock(), State::Waiting(_) | State::Noticed(_))
    }
}
