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

// Cold, and with them the ways that lead to them.
impl End {
    #[cold]
    pub(super) fn refused(error: PgError) -> Self {
        Self::Refused(error)
    }

    #[cold]
    pub(super) fn client_failed(error: io::Error) -> Self {
        Self::ClientFailed(error)
    }

    #[cold]
    pub(super) fn server_failed(error: io::Error) -> Self {
        Self::ServerLost(Lost::Io(error))
    }

    #[cold]
    pub(super) fn broken(broken: Broken) -> Self {
        Self::ServerLost(Lost::Broken(broken))
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
