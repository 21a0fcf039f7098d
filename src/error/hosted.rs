//! What Supabase's hosted pooler (Supavisor 2.9) says where PostgreSQL has no words: for `error_texts = "supabase"`.
//!
//! FATAL and `(ECODE) text`, mostly with XX000, without detail or hint; it closes the connection after each. What it says
//! of things that do not exist here (tenants' rows, cluster nodes, tokens) is left out.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::{PgError, SqlState};

/// In whose words clients are refused, where PostgreSQL itself does not refuse them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorTexts {
    /// PostgreSQL's words and codes, with hints.
    #[default]
    Postgres,
    /// [`Hosted`]'s.
    Supabase,
}

impl ErrorTexts {
    /// The hosted pooler's words, or ours.
    pub fn choose(self, hosted: Hosted<'_>, ours: impl FnOnce() -> PgError) -> PgError {
        match self {
            Self::Postgres => ours(),
            Self::Supabase => hosted.into(),
        }
    }
}

/// Which of its refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosted<'a> {
    /// More clients than may be (`EMAXCONN`).
    Clients { limit: usize },
    /// More clients in session mode than there are server connections (`EMAXCONNSESSION`).
    SessionClients { pool_size: usize },
    /// No server connection in time (`ECHECKOUTTIMEOUT`).
    Checkout { after: Duration, mode: Mode },
    /// More pools than a project may have (`EMAXPOOLSREACHED`).
    Pools,
    /// More prepared statements than a client may have (`EMAXPREPARED`).
    Statements { limit: usize },
    /// `ENOTFOUND`.
    Project { user: &'a str, project: &'a str },
    /// `EBANNED`.
    Banned { reason: &'a str },
    /// A user or database of impossible name (`EINVALIDUSERINFO`).
    Names,
    /// `ESTARTUPMESSAGE`.
    Startup(BadStartup),
    /// `ESTARTUPPACKETTOOLARGE`; both as the packet's own length word counts.
    StartupSize { bytes: usize, limit: usize },
    /// `ESSLREQUIRED`.
    Tls { user: &'a str },
    /// `EADDRNOTALLOWED`.
    Address(IpAddr),
    /// Too many failed logins (`ECIRCUITBREAKER`).
    LockedOut,
    /// `EAUTHTIMEOUT`.
    LoginTimeout,
    /// `EAUTHPROTOCOL`.
    LoginProtocol,
    /// `EAUTHQUERY`.
    Lookup(NoSecret),
    /// The upstream cannot be reached.
    Upstream(Unreachable),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Session,
    Transaction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadStartup {
    Payload,
    NoUser,
}

/// Why nobody can log in as a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSecret {
    NoQuery,
    NoRole,
    /// Other columns or rows than one user and one secret.
    Shape,
    Format,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    Refused,
    Timeout,
    NoName,
    NoTls,
    Closed,
}

impl Hosted<'_> {
    const fn code(self) -> SqlState {
        match self {
            Self::Startup(_) | Self::StartupSize { .. } | Self::LoginProtocol => SqlState::PROTOCOL_VIOLATION,
            Self::LoginTimeout | Self::Upstream(_) => SqlState::CONNECTION_FAILURE,
            _ => SqlState::INTERNAL_ERROR,
        }
    }
}

impl From<Hosted<'_>> for PgError {
    fn from(refusal: Hosted<'_>) -> Self {
        Self::fatal(refusal.code(), refusal.to_string())
    }
}

impl fmt::Display for Hosted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients { limit } => write!(f, "(EMAXCONN) max client connections reached, limit: {limit}"),
            Self::SessionClients { pool_size } => write!(
                f,
                "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: {pool_size}"
            ),
            Self::Checkout { after, mode } => write!(
                f,
                "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after {}ms in {mode:?} mode",
                after.as_millis()
            ),
            Self::Pools => f.write_str("(EMAXPOOLSREACHED) max pools count reached"),
            Self::Statements { limit } => {
                write!(f, "(EMAXPREPARED) max prepared statements limit reached. Limit: {limit} per connection")
            }
            Self::Project { user, project } => write!(f, "(ENOTFOUND) tenant/user {user}.{project} not found"),
            Self::Banned { reason } => write!(f, "(EBANNED) tenant is banned: {reason}"),
            Self::Names => f.write_str("(EINVALIDUSERINFO) Authentication error, reason: \"Invalid format for user or db_name\""),
            Self::Startup(bad) => write!(f, "(ESTARTUPMESSAGE) Invalid startup message: :{bad}"),
            Self::StartupSize { bytes, limit } => {
                write!(f, "(ESTARTUPPACKETTOOLARGE) Startup packet too large: {bytes} bytes (max {limit} bytes)")
            }
            Self::Tls { user } => write!(f, "(ESSLREQUIRED) SSL connection is required for user: {user}"),
            Self::Address(address) => write!(f, "(EADDRNOTALLOWED) address not in tenant allow_list: {}", Tuple(*address)),
            Self::LockedOut => {
                f.write_str("(ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked")
            }
            Self::LoginTimeout => f.write_str("(EAUTHTIMEOUT) timeout while waiting for message"),
            Self::LoginProtocol => f.write_str("(EAUTHPROTOCOL) protocol violation during authentication"),
            Self::Lookup(why) => write!(f, "(EAUTHQUERY) {why}"),
            Self::Upstream(how) => write!(f, "Failed to connect to database: {{:error, :{how}}}"),
        }
    }
}

impl fmt::Display for BadStartup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Payload => "bad_startup_payload",
            Self::NoUser => "missing_user",
        })
    }
}

impl fmt::Display for NoSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoQuery => "no auth_query configured for this tenant",
            Self::NoRole => "user not found in the database",
            Self::Shape => "authentication query returned wrong format",
            Self::Format => "unsupported or invalid secret format",
            Self::Failed => "authentication query failed: connection to database not available",
        })
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "econnrefused",
            Self::Timeout => "timeout",
            Self::NoName => "nxdomain",
            Self::NoTls => "ssl_not_available",
            Self::Closed => "closed",
        })
    }
}

/// As Elixir shows an address.
struct Tuple(IpAddr);

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = match self.0 {
            IpAddr::V4(address) => address.octets().iter().map(ToString::to_string).collect(),
            IpAddr::V6(address) => address.segments().iter().map(ToString::to_string).collect(),
        };
        write!(f, "{{{}}}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Severity;

    /// As its sources have them; where each is told is in `tests/profile.rs`.
    #[test]
    fn the_texts_are_the_hosted_ones() {
        let millis = Duration::from_millis;
        for (refusal, code, text) in [
            (Hosted::Clients { limit: 200 }, "XX000", "(EMAXCONN) max client connections reached, limit: 200"),
            (
                Hosted::SessionClients { pool_size: 15 },
                "XX000",
                "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15",
            ),
            (
                Hosted::Checkout { after: millis(60_000), mode: Mode::Transaction },
                "XX000",
                "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after 60000ms in Transaction mode",
            ),
            (
                Hosted::Checkout { after: millis(500), mode: Mode::Session },
                "XX000",
                "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after 500ms in Session mode",
            ),
            (Hosted::Pools, "XX000", "(EMAXPOOLSREACHED) max pools count reached"),
            (
                Hosted::Statements { limit: 100 },
                "XX000",
                "(EMAXPREPARED) max prepared statements limit reached. Limit: 100 per connection",
            ),
            (Hosted::Project { user: "postgres", project: "foo" }, "XX000", "(ENOTFOUND) tenant/user postgres.foo not found"),
            (Hosted::Banned { reason: "abuse" }, "XX000", "(EBANNED) tenant is banned: abuse"),
            (Hosted::Names, "XX000", "(EINVALIDUSERINFO) Authentication error, reason: \"Invalid format for user or db_name\""),
            (Hosted::Startup(BadStartup::Payload), "08P01", "(ESTARTUPMESSAGE) Invalid startup message: :bad_startup_payload"),
            (Hosted::Startup(BadStartup::NoUser), "08P01", "(ESTARTUPMESSAGE) Invalid startup message: :missing_user"),
            (
                Hosted::StartupSize { bytes: 1108, limit: 1024 },
                "08P01",
                "(ESTARTUPPACKETTOOLARGE) Startup packet too large: 1108 bytes (max 1024 bytes)",
            ),
            (Hosted::Tls { user: "ann" }, "XX000", "(ESSLREQUIRED) SSL connection is required for user: ann"),
            (
                Hosted::Address(IpAddr::from([127, 0, 0, 1])),
                "XX000",
                "(EADDRNOTALLOWED) address not in tenant allow_list: {127, 0, 0, 1}",
            ),
            (
                Hosted::Address(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16])),
                "XX000",
                "(EADDRNOTALLOWED) address not in tenant allow_list: {0, 0, 0, 0, 0, 0, 0, 1}",
            ),
            (
                Hosted::LockedOut,
                "XX000",
                "(ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked",
            ),
            (Hosted::LoginTimeout, "08006", "(EAUTHTIMEOUT) timeout while waiting for message"),
            (Hosted::LoginProtocol, "08P01", "(EAUTHPROTOCOL) protocol violation during authentication"),
            (Hosted::Lookup(NoSecret::NoRole), "XX000", "(EAUTHQUERY) user not found in the database"),
            (Hosted::Lookup(NoSecret::NoQuery), "XX000", "(EAUTHQUERY) no auth_query configured for this tenant"),
            (Hosted::Lookup(NoSecret::Shape), "XX000", "(EAUTHQUERY) authentication query returned wrong format"),
            (Hosted::Lookup(NoSecret::Format), "XX000", "(EAUTHQUERY) unsupported or invalid secret format"),
            (
                Hosted::Lookup(NoSecret::Failed),
                "XX000",
                "(EAUTHQUERY) authentication query failed: connection to database not available",
            ),
            (Hosted::Upstream(Unreachable::Refused), "08006", "Failed to connect to database: {:error, :econnrefused}"),
            (Hosted::Upstream(Unreachable::Timeout), "08006", "Failed to connect to database: {:error, :timeout}"),
            (Hosted::Upstream(Unreachable::NoName), "08006", "Failed to connect to database: {:error, :nxdomain}"),
            (Hosted::Upstream(Unreachable::NoTls), "08006", "Failed to connect to database: {:error, :ssl_not_available}"),
            (Hosted::Upstream(Unreachable::Closed), "08006", "Failed to connect to database: {:error, :closed}"),
        ] {
            let error = PgError::from(refusal);
            assert_eq!((error.severity, error.code.as_str(), &*error.message), (Severity::Fatal, code, text));
            assert_eq!((error.detail, error.hint), (None, None));
        }
    }
}
