//! The messages of an authentication, with a client that may say anything.

use bytes::BytesMut;
use zeroize::Zeroizing;

use crate::auth::keys::ScramKeys;
use crate::auth::md5::Md5Secret;
use crate::auth::process_secret::random;
use crate::auth::scram::server::{self, Binding, Candidate, Rejection};
use crate::auth::scram::{MECHANISM, MECHANISM_PLUS};
use crate::config::{ErrorTexts, Password};
use crate::error::hosted::Hosted;
use crate::error::{PgError, SqlState};
use crate::net::socket::Peer;
use crate::net::stream::Stream;
use crate::session::login::guard::tls_required;
use crate::session::login::inbox::Inbox;
use crate::session::login::prove::wrong_password;
use crate::session::login::{Caller, Stop, send};
use crate::wire::authentication::Authentication;
use crate::wire::password::{AUTH_BODY_BYTES_MAX, SaslInitialResponse};
use crate::wire::reply;
use crate::wire::startup::Startup;

const HEADER_BYTES: usize = 5;
/// Room for a greeting, so that it need not grow, in bytes. It goes with the greeting.
const GREETING_BYTES: usize = 512;

/// One authentication; what was not sent yet goes with what follows.
pub(super) struct Exchange<'a> {
    stream: &'a mut Stream,
    inbox: &'a mut Inbox,
    out: BytesMut,
    /// As the client gave it.
    name: &'a str,
    texts: ErrorTexts,
}

impl<'a> Exchange<'a> {
    /// A version is negotiated once, and first.
    pub(super) fn begin(caller: &'a mut Caller, startup: &'a Startup, texts: ErrorTexts) -> Self {
        let Caller { stream, inbox, .. } = caller;
        let mut out = BytesMut::with_capacity(GREETING_BYTES);
        if startup.wants_negotiation() {
            reply::negotiate_protocol_version(&mut out, startup);
        }
        Self { stream, inbox, out, name: &startup.user, texts }
    }

    pub(super) fn peer(&self) -> Peer {
        self.stream.peer()
    }

    /// Whether the client calls itself just that.
    pub(super) fn gave_name(&self, user: &str) -> bool {
        self.name == user
    }

    /// Whether what the client says is for nobody else to read: over TLS, or on this machine.
    pub(super) fn is_private(&self) -> bool {
        self.peer().is_local() || self.stream.is_tls()
    }

    /// What is still to be sent.
    pub(super) fn finish(self) -> BytesMut {
        self.out
    }

    /// The keys are the client's, recovered from its proof. An unknown user goes all the way, too.
    pub(super) async fn scram(&mut self, user: &str, candidate: Candidate) -> Result<ScramKeys, Stop> {
        let end_point = self.stream.end_point();
        let offered = if end_point.is_some() { vec![MECHANISM_PLUS, MECHANISM] } else { vec![MECHANISM] };
        reply::authentication(&mut self.out, &Authentication::Sasl(offered));
        let (binding, client_first) = self.ask_for_first(end_point.as_deref()).await?;
        let texts = self.texts;
        let rejected = |rejection| match rejection {
            Rejection::Malformed(error) => texts.choose(Hosted::LoginProtocol, || error),
            Rejection::WrongPassword => wrong_password(user),
        };
        let (server_first, awaiting) = server::begin(&client_first, candidate, binding).map_err(rejected)?;
        reply::authentication(&mut self.out, &Authentication::SaslContinue(server_first.as_bytes()));
        let client_final = self.ask("SASL").await?;
        let proven = awaiting.finish(&client_final).map_err(rejected)?;
        reply::authentication(&mut self.out, &Authentication::SaslFinal(proven.server_final.as_bytes()));
        Ok(proven.keys)
    }

    /// For a role that has an md5 secret, to which SCRAM can prove nothing.
    pub(super) async fn md5(&mut self, user: &str, secret: &Md5Secret) -> Result<(), Stop> {
        let salt = random::<4>().map_err(|error| Stop::Lost(std::io::Error::other(error)))?;
        reply::authentication(&mut self.out, &Authentication::Md5Password(salt));
        let body = self.ask("password").await?;
        match body.strip_suffix(b"\0") {
            Some(answer) if secret.verify(salt, answer) => Ok(()),
            _ => Err(wrong_password(user).into()),
        }
    }

    /// The password itself, which may cross no network in clear.
    pub(super) async fn password(&mut self, user: &str) -> Result<Password, Stop> {
        if !self.is_private() {
            return Err(tls_required(user, self.texts).into());
        }
        reply::authentication(&mut self.out, &Authentication::CleartextPassword);
        let body = self.ask("password").await?;
        let text = body.strip_suffix(b"\0").filter(|text| !text.is_empty() && !text.contains(&0));
        // PostgreSQL's passwords are text in whatever encoding; Sidepool's are UTF-8.
        let text = text.and_then(|text| std::str::from_utf8(text).ok());
        text.map(Password::new).ok_or_else(|| wrong_password(user).into())
    }

    /// The client's choice of mechanism, and its first SCRAM message, which may come with that or on a further request.
    async fn ask_for_first<'b>(&mut self, end_point: Option<&'b [u8]>) -> Result<(Binding<'b>, Zeroizing<Vec<u8>>), Stop> {
        let body = self.ask("SASL").await?;
        let initial = SaslInitialResponse::parse(&body).ok_or_else(|| self.violation("malformed SASLInitialResponse message"))?;
        let binding = match end_point {
            Some(hash) if initial.mechanism == MECHANISM_PLUS.as_bytes() => Binding::EndPoint(hash),
            _ if initial.mechanism != MECHANISM.as_bytes() => {
                return Err(self.violation("client selected an invalid SASL authentication mechanism").into());
            }
            Some(_) => Binding::NotChosen,
            None => Binding::NotOffered,
        };
        let first = match initial.data {
            Some(data) => Zeroizing::new(data.to_vec()),
            None => {
                reply::authentication(&mut self.out, &Authentication::SaslContinue(b""));
                self.ask("SASL").await?
            }
        };
        Ok((binding, first))
    }

    /// Sends what is due, and reads the body of the `p` message that answers it.
    async fn ask(&mut self, what: &str) -> Result<Zeroizing<Vec<u8>>, Stop> {
        send(self.stream, &self.out.split()).await?;
        self.inbox.fill(self.stream, HEADER_BYTES).await?;
        let [tag, length @ ..] = *self.inbox.bytes().first_chunk::<HEADER_BYTES>().ok_or(Stop::Gone)?;
        if tag != b'p' {
            return Err(self.violation(format!("expected {what} response, got message type {tag}")).into());
        }
        let length = u32::from_be_bytes(length) as usize;
        if !(4..=4 + AUTH_BODY_BYTES_MAX).contains(&length) {
            return Err(self.violation("invalid message length").into());
        }
        let end = 1 + length;
        self.inbox.fill(self.stream, end).await?;
        let body = self.inbox.bytes().get(HEADER_BYTES..end).ok_or(Stop::Gone)?;
        let body = Zeroizing::new(body.to_vec());
        self.inbox.take(end);
        Ok(body)
    }

    fn violation(&self, message: impl Into<std::borrow::Cow<'static, str>>) -> PgError {
        self.texts.choose(Hosted::LoginProtocol, || PgError::fatal(SqlState::PROTOCOL_VIOLATION, message))
    }
}
