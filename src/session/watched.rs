//! What is watched of a session for people. Most have nothing of it, and take no room for it.

use super::lint::Linted;
use super::slow::SlowLog;

#[derive(Debug)]
pub(super) struct Watched {
    lint: Option<Linted>,
    slow: Option<SlowLog>,
}

impl Watched {
    /// `None`: nothing is.
    pub(super) fn wanted(lint: Option<Linted>, slow: Option<SlowLog>) -> Option<Box<Self>> {
        (lint.is_some() || slow.is_some()).then(|| Box::new(Self { lint, slow }))
    }

    #[inline]
    pub(super) fn lint(watched: &mut Option<Box<Self>>) -> Option<&mut Linted> {
        watched.as_mut()?.lint.as_mut()
    }

    #[inline]
    pub(super) fn slow(watched: &mut Option<Box<Self>>) -> Option<&mut SlowLog> {
        watched.as_mut()?.slow.as_mut()
    }
}
