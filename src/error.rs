//! What can go wrong, whose fault it is, and what a client may be told about it.
//!
//! [`PgError`] is the only thing a client ever receives about a failure, and every one of them is built on purpose:
//! nothing turns an arbitrary Rust error into text for a client.

pub mod hosted;

use std::borrow::Cow;
use std::fmt;

/// An error or notice as PostgreSQL's protocol carries it (protocol chapter "Error and Notice Message Fields").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgError {
    pub severity: Severity,
    pub code: SqlState,
    /// One sentence with what happened, in PostgreSQL's own wording where it has one.
    pub message: Cow<'static, str>,
    pub detail: Option<Cow<'static, str>>,
    /// One sentence with what to do about it.
    pub hint: Option<Cow<'static, str>>,
}

impl PgError {
    /// Ends the connection after it was sent.
    pub fn fatal(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Fatal, code, message)
    }

    /// Ends the statement; the connection goes on.
    pub fn error(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    pub fn notice(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Notice, SqlState::SUCCESSFUL_COMPLETION, message)
    }

    fn new(severity: Severity, code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self { severity, code, message: message.into(), detail: None, hint: None }
    }

    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (SQLSTATE {})", self.severity.as_str(), self.message, self.code)?;
        self.detail.as_ref().map_or(Ok(()), |d| write!(f, "; {d}"))?;
        self.hint.as_ref().map_or(Ok(()), |h| write!(f, "; hint: {h}"))
    }
}

impl std::error::Error for PgError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Notice,
    Warning,
    Error,
    Fatal,
}

impl Severity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

/// Five ASCII characters (PostgreSQL appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    pub const SUCCESSFUL_COMPLETION: Self = Self(*b"00000");
    pub const CONNECTION_EXCEPTION: Self = Self(*b"08000");
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    pub const CHARACTER_NOT_IN_REPERTOIRE: Self = Self(*b"22021");
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Self = Self(*b"25P03");
    pub const IN_FAILED_TRANSACTION: Self = Self(*b"25P02");
    pub const INVALID_SQL_STATEMENT_NAME: Self = Self(*b"26000");
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");
    pub const UNKNOWN_DATABASE: Self = Self(*b"3D000");
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(*b"42501");
    pub const SYNTAX_ERROR: Self = Self(*b"42601");
    pub const UNDEFINED_OBJECT: Self = Self(*b"42704");
    pub const UNDEFINED_PARAMETER: Self = Self(*b"42P02");
    pub const DUPLICATE_PREPARED_STATEMENT: Self = Self(*b"42P05");
    pub const INSUFFICIENT_RESOURCES: Self = Self(*b"53000");
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self(*b"53400");
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self(*b"54000");
    pub const STATEMENT_TOO_COMPLEX: Self = Self(*b"54001");
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: Self = Self(*b"55000");
    pub const CANT_CHANGE_RUNTIME_PARAM: Self = Self(*b"55P02");
    pub const OBJECT_IN_USE: Self = Self(*b"55006");
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    pub const CRASH_SHUTDOWN: Self = Self(*b"57P02");
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    pub const IDLE_SESSION_TIMEOUT: Self = Self(*b"57P05");
    pub const CONFIG_FILE_ERROR: Self = Self(*b"F0000");
    pub const INTERNAL_ERROR: Self = Self(*b"XX000");

    /// `None` unless it is five printable ASCII characters.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let five: [u8; 5] = bytes.try_into().ok()?;
        five.iter().all(u8::is_ascii_graphic).then_some(Self(five))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The side at fault, for logs and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Client,
    Server,
    Pooler,
}
