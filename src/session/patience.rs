//! How long a client may say nothing: `client_idle` outside a transaction, `idle_in_transaction` inside one, `idle_pinned` with
//! a server that others want.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::config::Timeouts;
use crate::error::{PgError, SqlState};
use crate::hint::rare;

/// What the session waits for, when it is the client's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    Idle,
    InTransaction,
    /// With a server of its own that others wanted.
    Pinned,
}

/// `None`: all limits are off, as they are by default, and there is no timer at all.
#[derive(Debug)]
pub struct Patience(Option<Box<Limited>>);

#[derive(Debug)]
struct Limited {
    idle: Option<Duration>,
    in_transaction: Option<Duration>,
    pinned: Option<Duration>,
    timer: Option<(Silence, Pin<Box<Sleep>>)>,
}

impl Patience {
    pub fn new(timeouts: &Timeouts) -> Self {
        let limit = |duration: Duration| Some(duration).filter(|d| !d.is_zero());
        let limited = Limited {
            idle: limit(timeouts.client_idle),
            in_transaction: limit(timeouts.idle_in_transaction),
            pinned: limit(timeouts.idle_pinned),
            timer: None,
        };
        Self((!limited.is_endless()).then(|| Box::new(limited)))
    }

    pub(super) fn is_endless(&self) -> bool {
        self.0.is_none()
    }

    /// The clock starts anew.
    pub(super) fn client_spoke(&mut self) {
        if let Some(limited) = &mut self.0 {
            rare();
            limited.timer = None;
        }
    }

    /// Ready with the client's last message when it has been silent for too long; `None`: it is not its turn.
    pub(super) fn poll(&mut self, silence: Option<Silence>, cx: &mut Context<'_>) -> Poll<PgError> {
        self.0.as_mut().map_or(Poll::Pending, |limited| limited.poll(silence, cx))
    }
}

impl Limited {
    fn is_endless(&self) -> bool {
        self.idle.is_none() && self.in_transaction.is_none() && self.pinned.is_none()
    }

    fn poll(&mut self, silence: Option<Silence>, cx: &mut Context<'_>) -> Poll<PgError> {
        let Some((silence, limit)) = silence.and_then(|s| Some((s, self.limit(s)?))) else {
            self.timer = None;
            return Poll::Pending;
        };
        if !matches!(self.timer, Some((of, _)) if of == silence) {
            self.timer = Some((silence, Box::pin(sleep(limit))));
        }
        match &mut self.timer {
            Some((_, timer)) => timer.as_mut().poll(cx).map(|()| error(silence)),
            None => Poll::Pending,
        }
    }

    fn limit(&self, silence: Silence) -> Option<Duration> {
        match silence {
            Silence::Idle => self.idle,
            Silence::InTransaction => self.in_transaction,
            Silence::Pinned => self.pinned.or(self.idle),
        }
    }
}

/// PostgreSQL's own words for its own timeouts of these kinds.
fn error(silence: Silence) -> PgError {
    match silence {
        Silence::Idle => PgError::fatal(SqlState::IDLE_SESSION_TIMEOUT, "terminating connection due to idle-session timeout"),
        Silence::InTransaction => {
            PgError::fatal(SqlState::IDLE_IN_TRANSACTION_TIMEOUT, "terminating connection due to idle-in-transaction timeout")
        }
        Silence::Pinned => PgError::fatal(SqlState::IDLE_SESSION_TIMEOUT, "terminating connection due to idle-session timeout")
            .with_detail("Session state of this client kept a server connection that others waited for.")
            .with_hint("Raise timeouts.idle_pinned, or use the session port for work like this."),
    }
}
