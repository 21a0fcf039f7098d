//! Why the socket is not taken, and for how long that counts.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::SqlState;
use crate::upstream::{AuthMethod, ConnectError};

/// What was found out is found out again after so long: somebody may have corrected `pg_hba.conf`. (RECONNECT does not wait.)
const VERDICT_STANDS: Duration = Duration::from_secs(600);
/// Of a server that was perhaps just going down.
const TROUBLE_STANDS: Duration = Duration::from_secs(10);
/// Whoever found it out has waited for it.
const SILENCE_STANDS: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) enum Declined {
    /// No socket in any of the places.
    Absent,
    /// It is there no more, or nobody listens any more.
    Gone {
        path: PathBuf,
    },
    /// Its queue of connections is full.
    Busy {
        path: PathBuf,
    },
    Unreachable {
        path: PathBuf,
        error: io::Error,
    },
    /// Who listens is not one who may.
    Stranger {
        path: PathBuf,
        uid: u32,
    },
    /// The system does not say who listens.
    Nameless {
        path: PathBuf,
    },
    /// This very process listens.
    Ourselves {
        path: PathBuf,
    },
    /// Another process listens than the one that was looked at.
    Replaced {
        path: PathBuf,
    },
    /// The TCP connection itself is not to this machine.
    NotLocal,
    /// A password would be told before it is known to whom.
    InClear {
        path: PathBuf,
    },
    Login {
        path: PathBuf,
        error: ConnectError,
    },
    /// The server behind the socket does not know the TCP connection.
    OtherServer {
        path: PathBuf,
    },
    /// This user may not see its own connections.
    Hidden {
        path: PathBuf,
    },
    /// The question was not answered.
    Unproved {
        path: PathBuf,
        error: ConnectError,
    },
    /// Not in time.
    Silent,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// This connection goes over TCP.
    Once,
    /// What was proved is to be proved again.
    ProveAnew,
    /// This user's go over TCP for so long.
    AvoidFor(Duration),
    /// All do.
    Bar(Duration),
}

impl Declined {
    pub(super) fn of_connecting(path: PathBuf, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::Gone { path },
            io::ErrorKind::WouldBlock => Self::Busy { path },
            _ => Self::Unreachable { path, error },
        }
    }

    pub(super) fn consequence(&self) -> Consequence {
        match self {
            Self::Absent | Self::Busy { .. } => Consequence::Once,
            Self::Gone { .. } | Self::Replaced { .. } => Consequence::ProveAnew,
            Self::InClear { .. } | Self::Hidden { .. } => Consequence::AvoidFor(VERDICT_STANDS),
            Self::Login { error, .. } => of_login(error),
            Self::Silent => Consequence::Bar(SILENCE_STANDS),
            Self::Unreachable { .. }
            | Self::Stranger { .. }
            | Self::Nameless { .. }
            | Self::Ourselves { .. }
            | Self::NotLocal
            | Self::OtherServer { .. }
            | Self::Unproved { .. } => Consequence::Bar(VERDICT_STANDS),
        }
    }

    /// Whether TCP would say the same of this login, since it is the same server that says it.
    pub(super) fn is_answer(error: &ConnectError, method: AuthMethod) -> bool {
        let ConnectError::Refused(said) = error else { return false };
        match said.sqlstate() {
            // No entry in pg_hba.conf, or a method that looks at something else (peer).
            Some(SqlState::INVALID_AUTHORIZATION) => false,
            // A password in clear may be checked elsewhere for either way (LDAP, PAM).
            Some(SqlState::INVALID_PASSWORD) => method != AuthMethod::CleartextPassword,
            _ => true,
        }
    }
}

fn of_login(error: &ConnectError) -> Consequence {
    match error {
        ConnectError::Refused(_) if error.is_passing() => Consequence::Once,
        ConnectError::Refused(_) | ConnectError::Credential { .. } => Consequence::AvoidFor(VERDICT_STANDS),
        ConnectError::Unreachable { .. } | ConnectError::Tls { .. } | ConnectError::Protocol(_) => {
            Consequence::Bar(TROUBLE_STANDS)
        }
    }
}

/// Completes "server connections go over TCP: ".
impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("its Unix socket is in none of the places where it is sought"),
            Self::Gone { path } => write!(f, "nobody listens at {}", path.display()),
            Self::Busy { path } => write!(f, "too many wait to be let in at {}", path.display()),
            Self::Unreachable { path, error } => write!(f, "{} cannot be connected to: {error}", path.display()),
            Self::Stranger { path, uid } => write!(
                f,
                "{} belongs to a process of the user id {uid}, which is neither the owner of a directory that others cannot write \
                 to, nor root, nor Sidepool's own",
                path.display()
            ),
            Self::Nameless { path } => write!(f, "the system does not say which process listens at {}", path.display()),
            Self::Ourselves { path } => write!(f, "it is Sidepool itself that listens at {}", path.display()),
            Self::Replaced { path } => write!(f, "another process than before listens at {}", path.display()),
            Self::NotLocal => f.write_str("the name of its host leads to another machine"),
            Self::InClear { path } => {
                write!(
                    f,
                    "the server asks for the password in clear, which {} may not be told before it has proved itself",
                    path.display()
                )
            }
            Self::Login { path, error } => write!(f, "at {}: {error}", path.display()),
            Self::OtherServer { path } => {
                write!(
                    f,
                    "another server is at {} than behind the port (a container's, or one that is forwarded?)",
                    path.display()
                )
            }
            Self::Hidden { path } => {
                write!(f, "this user may not see its own connections in pg_stat_activity, so {} proves nothing", path.display())
            }
            Self::Unproved { path, error } => {
                write!(f, "whether {} is the same server could not be asked: {error}", path.display())
            }
            Self::Silent => f.write_str("its Unix socket did not answer in time"),
        }
    }
}
