//! From nothing to a server that is ready for queries: dial, say who, prove it, hear what the server has to tell.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::auth::key_cache::KeyCache;
use crate::auth::keys::ScramKeys;
use crate::auth::md5::Md5Secret;
use crate::config::{Password, Upstream};
use crate::net::socket::Peer;
use crate::net::stream::{Stream, TlsFacts};
use crate::net::tls::TlsContext;
use crate::upstream::ConnectError;
use crate::upstream::dial::Dial;
use crate::upstream::intake::{Intake, Message};
use crate::upstream::login::authenticate;
use crate::wire::authentication::{backend_key_data, parameter_status};
use crate::wire::request;

/// Parameters of one server; PostgreSQL reports fifteen.
const PARAMETERS_MAX: usize = 256;

/// Whom to connect to, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct ConnectSpec<'a> {
    pub upstream: &'a Upstream,
    /// Of this upstream; shared by all connections.
    pub tls: &'a TlsContext,
    pub keys: &'a Arc<KeyCache>,
    pub user: &'a str,
    pub database: &'a str,
    pub credential: &'a Credential,
    /// Further startup parameters, sent as they are.
    pub parameters: &'a [(String, String)],
}

/// What proves to a server who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    Password(Password),
    /// Recovered from a client's own login; good where the server has the same verifier.
    ScramKeys(ScramKeys),
    /// As the role has it; good where the server asks for md5.
    Md5(Md5Secret),
    /// The server is expected to ask for nothing (trust, peer).
    None,
}

/// A server that is ready for queries, and has said nothing that is not told here.
#[derive(Debug)]
pub struct Connected {
    pub stream: Stream,
    /// In the order in which they were first reported.
    pub parameters: Vec<(String, String)>,
    pub key: BackendKey,
    /// Whole NoticeResponse messages of the login, for the client.
    pub notices: Vec<Bytes>,
    pub auth: AuthMethod,
    pub tls: Option<TlsFacts>,
}

/// What cancels a server's query.
#[derive(Clone, PartialEq, Eq)]
pub struct BackendKey {
    pub pid: i32,
    /// 4 to 256 bytes, or none from a server that cannot cancel.
    pub secret: Bytes,
    /// Where the one server is that knows the key, if the URL does not say just that.
    pub address: Option<Address>,
}

/// What was connected to: one of several that a name leads to, or the socket in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// The socket itself.
    Unix(PathBuf),
}

/// How the server let us in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    Trust,
    CleartextPassword,
    Md5,
    ScramSha256,
    /// Bound to the certificate that the server showed.
    ScramSha256Plus,
}

/// Connects and logs in, over protocol 3.0. Not bounded in time: the caller's timeout is.
///
/// # Errors
/// Each kind names the side at fault and what a client may be told ([`ConnectError::to_client`]).
pub async fn connect(spec: &ConnectSpec<'_>) -> Result<Connected, ConnectError> {
    let dial = Dial { upstream: spec.upstream, tls: spec.tls, address: None };
    let stream = dial.open().await?;
    let address = match stream.peer() {
        Peer::Tcp(address) => Some(Address::Tcp(address)),
        Peer::Unix { .. } => None,
    };
    log_in(Entry { stream, target: dial.target(), address }, spec, None).await
}

/// A connection on which nothing has been said but about TLS.
pub(super) struct Entry {
    pub(super) stream: Stream,
    /// What errors call it.
    pub(super) target: String,
    pub(super) address: Option<Address>,
}

/// `only`: give no other proof than this one.
pub(super) async fn log_in(entry: Entry, spec: &ConnectSpec<'_>, only: Option<AuthMethod>) -> Result<Connected, ConnectError> {
    let Entry { stream, target, address } = entry;
    let tls = stream.tls_facts();
    let mut intake = Intake::new(stream, target);
    intake.send(&startup_packet(spec)?).await?;
    let auth = authenticate(&mut intake, spec, only).await?;
    let told = until_ready(&mut intake).await?;
    let (stream, notices) = intake.finish();
    let key = BackendKey { pid: told.pid, secret: told.secret, address };
    Ok(Connected { stream, parameters: told.parameters, key, notices, auth, tls })
}

impl std::fmt::Debug for BackendKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendKey").field("pid", &self.pid).field("secret", &"[redacted]").finish_non_exhaustive()
    }
}

/// What a server tells between AuthenticationOk and its first ReadyForQuery.
#[derive(Default)]
struct Told {
    parameters: Vec<(String, String)>,
    pid: i32,
    secret: Bytes,
}

fn startup_packet(spec: &ConnectSpec<'_>) -> Result<BytesMut, ConnectError> {
    let mut packet = BytesMut::new();
    let named = [("user", spec.user), ("database", spec.database)];
    let others = spec.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    request::startup(&mut packet, 0, named.into_iter().chain(others)).map_err(|error| ConnectError::Credential {
        reason: format!("the startup packet cannot be sent: {}", error.message),
        hint: "Look at the names and settings that the client sent.",
    })?;
    Ok(packet)
}

async fn until_ready(intake: &mut Intake) -> Result<Told, ConnectError> {
    let mut told = Told::default();
    loop {
        let message = intake.next().await?;
        match message.tag() {
            b'S' => told.parameter(&message)?,
            b'K' => told.key(&message)?,
            b'Z' if message.body() == b"I" => break,
            _ => return Err(ConnectError::protocol(message.describe())),
        }
    }
    // A parameter or a notice may come at any time, and so on the heels of the rest; it is taken in here, so that
    // nothing is left over that somebody would have to carry on.
    while !intake.is_empty() {
        match intake.next_or_notice().await? {
            None => {}
            Some(message) if message.tag() == b'S' => told.parameter(&message)?,
            Some(message) => return Err(ConnectError::protocol(message.describe())),
        }
    }
    Ok(told)
}

impl Told {
    fn parameter(&mut self, message: &Message) -> Result<(), ConnectError> {
        let parsed = parameter_status(message.body());
        let (name, value) = parsed.ok_or_else(|| ConnectError::protocol("a ParameterStatus that is not two strings"))?;
        match self.parameters.iter().position(|(known, _)| *known == name) {
            Some(at) => self.parameters[at].1 = value.into_owned(),
            None if self.parameters.len() < PARAMETERS_MAX => self.parameters.push((name.into_owned(), value.into_owned())),
            None => return Err(ConnectError::protocol(format!("it reports more than {PARAMETERS_MAX} parameters"))),
        }
        Ok(())
    }

    fn key(&mut self, message: &Message) -> Result<(), ConnectError> {
        let parsed = backend_key_data(message.body());
        let (pid, secret) = parsed.ok_or_else(|| ConnectError::protocol("a BackendKeyData without 4 to 256 bytes of key"))?;
        self.pid = pid;
        self.secret = Bytes::copy_from_slice(secret);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
