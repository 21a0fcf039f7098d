//! Why an upstream could not be logged in to: for its log, in full; for a client, as much as it may know.

use std::fmt;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use crate::auth::scram::client::ServerFault;
use crate::error::hosted::{ErrorTexts, Hosted, Unreachable};
use crate::error::{Fault, PgError, SqlState};
use crate::wire::fields::Fields;

#[derive(Debug)]
pub enum ConnectError {
    /// The server said no, in its own words.
    Refused(ServerError),
    /// Nobody there: refused, no such socket, no such name, or closed before the login was over.
    Unreachable {
        target: String,
        error: io::Error,
    },
    Tls {
        target: String,
        reason: String,
    },
    /// The server said what it may not say.
    Protocol(String),
    /// The server wants a proof that was not configured: what it wants, and what to do.
    Credential {
        reason: String,
        hint: &'static str,
    },
}

/// An ErrorResponse of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    body: Bytes,
}

impl ServerError {
    pub(crate) fn new(body: Bytes) -> Self {
        Self { body }
    }

    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.body)
    }

    pub fn sqlstate(&self) -> Option<SqlState> {
        self.fields().sqlstate()
    }

    /// Empty where the server gave none.
    pub fn message(&self) -> String {
        self.fields().message().unwrap_or_default().into_owned()
    }

    /// Appends the whole message, as the server sent it.
    pub fn put(&self, out: &mut BytesMut) {
        out.put_u8(b'E');
        out.put_u32(4 + self.body.len() as u32);
        out.put_slice(&self.body);
    }
}

impl ConnectError {
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }

    /// Starting up, full, or out of reach: it may be otherwise in a moment.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(
                error.sqlstate(),
                Some(
                    SqlState::CANNOT_CONNECT_NOW
                        | SqlState::TOO_MANY_CONNECTIONS
                        | SqlState::ADMIN_SHUTDOWN
                        | SqlState::CRASH_SHUTDOWN
                )
            ),
            Self::Unreachable { .. } => true,
            Self::Tls { .. } | Self::Protocol(_) | Self::Credential { .. } => false,
        }
    }

    pub fn fault(&self) -> Fault {
        match self {
            Self::Credential { .. } => Fault::Pooler,
            Self::Refused(_) | Self::Unreachable { .. } | Self::Tls { .. } | Self::Protocol(_) => Fault::Server,
        }
    }

    /// What a client is told. The server's own error goes out word for word ([`ServerError::put`] is the message as it
    /// came); of the others the kind, without addresses, which are for the log.
    pub fn to_client(&self) -> PgError {
        match self {
            Self::Refused(error) => relayed(error),
            Self::Unreachable { error, .. } => {
                let message = format!("could not connect to the upstream server: {}", reason(error));
                PgError::fatal(SqlState::CONNECTION_FAILURE, message).with_hint(
                    "Check that PostgreSQL is running and accepts connections; the pooler's log says where it was sought.",
                )
            }
            Self::Tls { .. } => PgError::fatal(SqlState::CONNECTION_FAILURE, "could not establish TLS with the upstream server")
                .with_hint("The pooler's log says why; sslmode, sslrootcert and sslcert are set in the upstream's URL."),
            Self::Protocol(_) => {
                PgError::fatal(SqlState::PROTOCOL_VIOLATION, "the upstream server broke the protocol while logging in")
                    .with_hint("The pooler's log says how. Is it a PostgreSQL server?")
            }
            Self::Credential { hint, .. } => {
                let message = "the pooler has no credential that the upstream server accepts for this user";
                PgError::fatal(SqlState::INVALID_AUTHORIZATION, message).with_hint(*hint)
            }
        }
    }
}

/// Why TLS failed where the server has none.
pub(super) const NO_TLS: &str = "the server does not support TLS, which sslmode requires";

impl ConnectError {
    /// What a client is told, in these words.
    pub fn told(&self, texts: ErrorTexts) -> PgError {
        let ours = self.to_client();
        self.hosted().map_or_else(|| ours.clone(), |hosted| texts.choose(hosted, || ours.clone()))
    }

    fn hosted(&self) -> Option<Hosted<'static>> {
        let how = match self {
            Self::Unreachable { error, .. } => match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Unreachable::Refused,
                io::ErrorKind::TimedOut => Unreachable::Timeout,
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Unreachable::Closed,
                _ => Unreachable::NoName,
            },
            Self::Tls { reason, .. } if reason == NO_TLS => Unreachable::NoTls,
            Self::Refused(_) | Self::Tls { .. } | Self::Protocol(_) | Self::Credential { .. } => return None,
        };
        Some(Hosted::Upstream(how))
    }
}

impl From<ServerFault> for ConnectError {
    fn from(fault: ServerFault) -> Self {
        Self::Protocol(format!("SCRAM: {fault}"))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => {
                let state = error.sqlstate().map(|state| format!(" (SQLSTATE {state})")).unwrap_or_default();
                write!(f, "the server refused the login: {}{state}", error.message())
            }
            Self::Unreachable { target, error } => write!(f, "could not connect to {target}: {}", reason(error)),
            Self::Tls { target, reason } => write!(f, "could not establish TLS with {target}: {reason}"),
            Self::Protocol(what) => write!(f, "the server broke the protocol while logging in: {what}"),
            Self::Credential { reason, hint } => write!(f, "{reason}; hint: {hint}"),
        }
    }
}

impl std::error::Error for ConnectError {}

fn relayed(error: &ServerError) -> PgError {
    let fields = error.fields();
    let message = fields.message().filter(|message| !message.is_empty());
    let message = message.map_or_else(|| "the upstream server refused the login".to_owned(), |text| text.into_owned());
    let told = PgError::fatal(fields.sqlstate().unwrap_or(SqlState::CONNECTION_FAILURE), message);
    let told = fields.detail().map(|detail| detail.into_owned()).into_iter().fold(told, PgError::with_detail);
    fields.hint().map(|hint| hint.into_owned()).into_iter().fold(told, PgError::with_hint)
}

/// Without the number that Rust puts behind the system's text.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::NotFound => "no such socket".to_owned(),
        io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        io::ErrorKind::TimedOut => "it did not answer in time".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error ").next().unwrap_or_default().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_57_the_servers_own_error_reaches_the_client() {
        let body = Bytes::from_static(b"SFATAL\0VFATAL\0C3D000\0Mdatabase \"x\" does not exist\0Dd\0Hh\0\0");
        let error = ConnectError::Refused(ServerError::new(body.clone()));
        let told = error.to_client();
        let expected =
            PgError::fatal(SqlState::UNKNOWN_DATABASE, "database \"x\" does not exist").with_detail("d").with_hint("h");
        assert_eq!(told, expected);
        let ConnectError::Refused(error) = error else { unreachable!() };
        let mut out = BytesMut::new();
        error.put(&mut out);
        assert_eq!(&out[..5], [&b"E"[..], &(4 + body.len() as u32).to_be_bytes()].concat());
        assert_eq!(&out[5..], body);
    }

    #[test]
    fn an_error_without_fields_is_still_one() {
        let told = ConnectError::Refused(ServerError::new(Bytes::from_static(b"\0"))).to_client();
        assert_eq!((told.code, told.message.as_ref()), (SqlState::CONNECTION_FAILURE, "the upstream server refused the login"));
    }

    #[test]
    fn clients_learn_the_kind_and_logs_the_place() {
        let target = "db.internal:5432".to_owned();
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        for error in [
            ConnectError::Unreachable { target: target.clone(), error: refused },
            ConnectError::Tls { target, reason: "no roots".into() },
        ] {
            assert!(error.to_string().contains("db.internal"), "{error}");
            assert!(!error.to_client().to_string().contains("db.internal"));
        }
    }
}
