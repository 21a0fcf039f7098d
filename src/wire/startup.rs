//! The untagged packets that open a connection, read from an exact frame (protocol chapter "Message Formats").
//!
//! Whoever reads from the socket takes [`HEAD_BYTES`], asks [`frame_bytes`] how long the packet is, and reads just
//! that: so nothing of what a client sent behind an SSLRequest can be taken for something said under TLS.

use std::collections::HashSet;

use crate::error::{PgError, SqlState};
use crate::wire::options::Options;
use crate::wire::reader::Reader;

/// Length word and code, which every untagged packet begins with.
pub const HEAD_BYTES: usize = 8;
/// PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`, which does not count the length word.
pub const STARTUP_BYTES_MAX: usize = 10_000;
/// The newest minor version of protocol 3 that is spoken to clients (3.2 brought long cancel keys).
pub const NEWEST_MINOR: u16 = 2;
/// PostgreSQL 18's bounds on a cancel key; protocol 3.0 always has four bytes.
pub const CANCEL_KEY_BYTES: std::ops::RangeInclusive<usize> = 4..=256;

pub(crate) const MAJOR: u16 = 3;
pub(crate) const CANCEL_CODE: u32 = 80_877_102;
pub(crate) const SSL_CODE: u32 = 80_877_103;
pub(crate) const GSS_CODE: u32 = 80_877_104;

/// What a client can open a connection with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    Startup(Startup),
    Ssl,
    Gss,
    /// `None`: of a length that it cannot have. PostgreSQL closes such a connection without a word, and so do we.
    Cancel(Option<CancelRequest>),
}

#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    pub pid: i32,
    /// Within [`CANCEL_KEY_BYTES`].
    pub key: Vec<u8>,
}

/// A StartupMessage, taken apart once and for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// As asked for; see [`Startup::minor`].
    pub requested_minor: u16,
    /// Never empty.
    pub user: String,
    /// `None` where it was absent or empty: then it is the user's name.
    pub database: Option<String>,
    pub replication: Replication,
    pub options: Options,
    /// All others, in order; of a name given twice the last stays, as in PostgreSQL.
    pub parameters: Vec<(String, String)>,
    /// Names of protocol options (`_pq_.*`), none of which is known.
    pub unknown_protocol_options: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    Off,
    Physical,
    Database,
}

/// How many bytes the packet has, the eight of its head included.
///
/// # Errors
/// 08P01 for a length no packet may have.
pub fn frame_bytes(head: [u8; HEAD_BYTES]) -> Result<usize, PgError> {
    let [a, b, c, d, ..] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if !(HEAD_BYTES..=4 + STARTUP_BYTES_MAX).contains(&length) {
        return Err(violation("invalid length of startup packet"));
    }
    Ok(length)
}

/// Whether it is a StartupMessage, of whatever version, and no request.
pub fn is_startup(head: [u8; HEAD_BYTES]) -> bool {
    let [_, _, _, _, code @ ..] = head;
    !matches!(u32::from_be_bytes(code), SSL_CODE | GSS_CODE | CANCEL_CODE)
}

impl FirstPacket {
    /// Reads one whole packet, head included.
    ///
    /// # Errors
    /// What PostgreSQL answers, ready to be sent.
    pub fn parse(frame: &[u8]) -> Result<Self, PgError> {
        let head = frame.first_chunk::<HEAD_BYTES>().ok_or_else(|| violation("invalid length of startup packet"))?;
        if frame_bytes(*head)? != frame.len() {
            return Err(violation("invalid length of startup packet"));
        }
        let [_, _, _, _, a, b, c, d] = *head;
        let body = &frame[HEAD_BYTES..];
        match u32::from_be_bytes([a, b, c, d]) {
            SSL_CODE if body.is_empty() => Ok(Self::Ssl),
            GSS_CODE if body.is_empty() => Ok(Self::Gss),
            SSL_CODE | GSS_CODE => Err(violation("invalid length of startup packet")),
            CANCEL_CODE => Ok(Self::Cancel(CancelRequest::parse(body))),
            version => {
                supported(version)?;
                Startup::parse(u16::from_be_bytes([c, d]), body).map(Self::Startup)
            }
        }
    }
}

impl CancelRequest {
    fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let pid = reader.i32()?;
        let key = reader.rest();
        CANCEL_KEY_BYTES.contains(&key.len()).then(|| Self { pid, key: key.to_vec() })
    }
}

impl std::fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelRequest").field("pid", &self.pid).field("key", &"[redacted]").finish()
    }
}

impl Startup {
    /// The minor version to speak: what was asked for, but nothing newer than [`NEWEST_MINOR`].
    pub fn minor(&self) -> u16 {
        self.requested_minor.min(NEWEST_MINOR)
    }

    /// Whether a NegotiateProtocolVersion is owed: once, before authentication.
    pub fn wants_negotiation(&self) -> bool {
        self.requested_minor > NEWEST_MINOR || !self.unknown_protocol_options.is_empty()
    }

    /// Every setting asked for, in the order in which PostgreSQL applies them: `options` first.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.settings.iter().chain(&self.parameters).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn parse(requested_minor: u16, body: &[u8]) -> Result<Self, PgError> {
        let mut user = None;
        let mut startup = Self {
            requested_minor,
            user: String::new(),
            database: None,
            replication: Replication::Off,
            options: Options::default(),
            parameters: Vec::new(),
            unknown_protocol_options: Vec::new(),
        };
        for (name, value) in pairs(body)? {
            match name {
                b"user" => user = Some(text(value)?),
                b"database" => startup.database = Some(text(value)?),
                b"options" => startup.options = Options::parse(&text(value)?)?,
                b"replication" => startup.replication = Replication::parse(&text(value)?)?,
                // PostgreSQL, too, gives this one alone a value in whatever encoding, and shows only its ASCII.
                b"application_name" => startup.parameters.push((text(name)?, ascii(value))),
                _ if name.starts_with(b"_pq_.") => startup.unknown_protocol_options.push(text(name)?),
                _ => startup.parameters.push((text(name)?, text(value)?)),
            }
        }
        startup.user = user.filter(|name| !name.is_empty()).ok_or_else(no_user)?;
        startup.database = startup.database.filter(|name| !name.is_empty());
        keep_last(&mut startup.parameters);
        Ok(startup)
    }
}

impl Replication {
    /// PostgreSQL's mixture of a boolean, which may be abbreviated, and the word `database`.
    fn parse(value: &str) -> Result<Self, PgError> {
        let lower = value.to_ascii_lowercase();
        let abbreviates = |word: &str, least: usize| lower.len() >= least && word.starts_with(&lower);
        if value == "database" {
            return Ok(Self::Database);
        }
        if abbreviates("true", 1) || abbreviates("yes", 1) || abbreviates("on", 2) || lower == "1" {
            return Ok(Self::Physical);
        }
        if abbreviates("false", 1) || abbreviates("no", 1) || abbreviates("off", 2) || lower == "0" {
            return Ok(Self::Off);
        }
        let message = format!("invalid value for parameter \"replication\": \"{value}\"");
        Err(PgError::fatal(SqlState::INVALID_PARAMETER_VALUE, message)
            .with_hint("Valid values are: \"false\", 0, \"true\", 1, \"database\"."))
    }
}

fn supported(version: u32) -> Result<(), PgError> {
    let (major, minor) = (version >> 16, version & 0xffff);
    if major == u32::from(MAJOR) {
        return Ok(());
    }
    let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}");
    Err(PgError::fatal(SqlState::FEATURE_NOT_SUPPORTED, message))
}

type Pair<'a> = (&'a [u8], &'a [u8]);

/// Name and value, each ended by a NUL, up to a NUL that must be the last byte of all.
fn pairs(body: &[u8]) -> Result<Vec<Pair<'_>>, PgError> {
    let layout = || violation("invalid startup packet layout: expected terminator as last byte");
    let mut reader = Reader::new(body);
    let mut pairs = Vec::new();
    loop {
        match reader.cstr() {
            Some(b"") if reader.is_empty() => return Ok(pairs),
            Some(name) if !name.is_empty() => pairs.push((name, reader.cstr().ok_or_else(layout)?)),
            _ => return Err(layout()),
        }
    }
}

/// Of the settings of one name (whose case does not count) the last stays, where it stood.
fn keep_last(parameters: &mut Vec<(String, String)>) {
    // As with nearly every client.
    if parameters.len() < 2 {
        return;
    }
    let mut seen = HashSet::with_capacity(parameters.len());
    parameters.reverse();
    parameters.retain(|(name, _)| seen.insert(name.to_ascii_lowercase()));
    parameters.reverse();
}

fn text(bytes: &[u8]) -> Result<String, PgError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| violation("invalid byte sequence for encoding \"UTF8\" in startup packet"))
}

fn ascii(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    text.extend(bytes.iter().map(|byte| if matches!(byte, 32..=126) { char::from(*byte) } else { '?' }));
    text
}

fn no_user() -> PgError {
    PgError::fatal(SqlState::INVALID_AUTHORIZATION, "no PostgreSQL user name specified in startup packet")
}

fn violation(message: &'static str) -> PgError {
    PgError::fatal(SqlState::PROTOCOL_VIOLATION, message)
}

#[cfg(test)]
mod tests;
