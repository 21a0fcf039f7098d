//! How a session ended.

use std::io;

use crate::error::PgError;
use crate::pool::Lost;
use crate::wire::exchange::Broken;

/// Why a session ended.
#[derive(Debug)]
pub enum End {
    /// The client said goodbye, or went without.
    ClientLeft,
    ClientFailed(io::Error),
    /// The client is told this, and that is all.
    Refused(PgError),
    /// The same, in the upstream's own words: the body of an ErrorResponse.
    RefusedUpstream(bytes::Bytes),
    /// The server went in the middle of something. What it said is on its way to the client, and nothing is added.
    ServerLost(Lost),
    Stopped,
}

// Cold, and with them the ways that lead to them. In a box, so that what does not end a session is handed back in a register.
impl End {
    #[cold]
    #[expect(clippy::boxed_local, reason = "as the exchange hands it back")]
    pub(super) fn refused(error: Box<PgError>) -> Box<Self> {
        Self::Refused(*error).into()
    }

    #[cold]
    pub(super) fn client_failed(error: io::Error) -> Box<Self> {
        Self::ClientFailed(error).into()
    }

    #[cold]
    pub(super) fn server_failed(error: io::Error) -> Box<Self> {
        Self::ServerLost(Lost::Io(error)).into()
    }

    #[cold]
    pub(super) fn broken(broken: Broken) -> Box<Self> {
        Self::ServerLost(Lost::Broken(broken)).into()
    }
}

impl End {
    /// The settings of a new owner that the server would not take: its own words.
    pub(super) fn replay_refused(&self) -> Option<&[u8]> {
        match self {
            Self::ServerLost(Lost::Broken(Broken::Replay(body))) => Some(body),
            _ => None,
        }
    }
}
