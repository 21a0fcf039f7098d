//! Whether a client is who it says: SCRAM-SHA-256, or for this machine alone, where so configured, its word.

use bytes::BytesMut;

use crate::auth::keys::{ITERATIONS_DEFAULT, ScramKeys};
use crate::auth::scram::server::{self, Binding, Candidate, Rejection};
use crate::auth::scram::{MECHANISM, MECHANISM_PLUS};
use crate::auth::verifier::{Verifier, VerifierError};
use crate::config::{ClientAuth, Password, Secret};
use crate::error::{PgError, SqlState};
use crate::net::stream::Stream;
use crate::session::login::certificate::{self, Certified};
use crate::session::login::route::Route;
use crate::session::login::{LoginContext, Stop, fill, send};
use crate::upstream::{Credential, derive_keys};
use crate::wire::authentication::Authentication;
use crate::wire::password::{AUTH_BODY_BYTES_MAX, SaslInitialResponse};
use crate::wire::reply;
use crate::wire::startup::Startup;

const HEADER_BYTES: usize = 5;

#[derive(Debug)]
pub(super) struct Proof {
    pub(super) credential: Credential,
    /// Ends with AuthenticationOk.
    pub(super) greeting: BytesMut,
}

/// Against what a user's proof is checked.
enum Known<'a> {
    Password(&'a Password),
    Verifier(Verifier),
    /// Nobody can log in as this user, which only the log is told.
    Nobody(Why),
}

enum Why {
    NotListed,
    /// The upstream's own user, whose password we were not told.
    NoPassword,
    EmptyPassword,
    Verifier(VerifierError),
}

pub(super) async fn prove(stream: &mut Stream, context: &LoginContext, startup: &Startup, route: &Route) -> Result<Proof, Stop> {
    let mut out = BytesMut::new();
    if startup.wants_negotiation() {
        reply::negotiate_protocol_version(&mut out, startup);
    }
    let certified = certificate::check(stream, &context.settings.client_tls, route)?;
    let keys = match context.settings.client_auth {
        _ if certified == Certified::Instead && is_known(route) => None,
        ClientAuth::Trust if stream.peer().is_local() => None,
        ClientAuth::Trust => return Err(trust_is_local(&route.user).into()),
        ClientAuth::ScramSha256 => Some(scram(stream, &mut out, context, route).await?),
    };
    reply::authentication(&mut out, &Authentication::Ok);
    Ok(Proof { credential: credential(route, keys), greeting: out })
}

/// What logs in upstream as this user. The configured credential of the upstream's own user is never replaced by what a
/// client brought.
fn credential(route: &Route, proven: Option<ScramKeys>) -> Credential {
    let upstream = &route.project.upstream;
    let own = upstream.password.as_ref().filter(|_| upstream.user == route.user);
    match (own.or_else(|| listed_password(route)), proven) {
        (Some(password), _) => Credential::Password(password.clone()),
        (None, Some(keys)) => Credential::ScramKeys(keys),
        (None, None) => Credential::None,
    }
}

/// Whether it is known what logs in upstream as this user, though it proved nothing that would.
fn is_known(route: &Route) -> bool {
    listed_password(route).is_some() || (route.project.upstream.user == route.user && listed_secret(route).is_none())
}

fn listed_secret(route: &Route) -> Option<&Secret> {
    route.project.users.iter().find(|listed| listed.name == route.user).map(|listed| &listed.secret)
}

fn listed_password(route: &Route) -> Option<&Password> {
    match listed_secret(route)? {
        Secret::Password(password) => Some(password),
        Secret::Verifier(_) => None,
    }
}

/// What is listed for a user counts before the upstream's own credential.
fn known(route: &Route) -> Known<'_> {
    let upstream = &route.project.upstream;
    let is_empty = |password: &Password| password.reveal().is_empty();
    match (listed_secret(route), &upstream.password) {
        (Some(Secret::Verifier(text)), _) => match Verifier::parse(text.reveal()) {
            Ok(verifier) => Known::Verifier(verifier),
            Err(error) => Known::Nobody(Why::Verifier(error)),
        },
        (Some(Secret::Password(empty)), _) if is_empty(empty) => Known::Nobody(Why::EmptyPassword),
        (Some(Secret::Password(listed)), _) => Known::Password(listed),
        (None, _) if upstream.user != route.user => Known::Nobody(Why::NotListed),
        (None, None) => Known::Nobody(Why::NoPassword),
        (None, Some(empty)) if is_empty(empty) => Known::Nobody(Why::EmptyPassword),
        (None, Some(own)) => Known::Password(own),
    }
}

/// The exchange; its last message is left in `out`, to go with what follows. An unknown user goes all the way, too.
async fn scram(stream: &mut Stream, out: &mut BytesMut, context: &LoginContext, route: &Route) -> Result<ScramKeys, Stop> {
    let end_point = stream.end_point();
    let offered = if end_point.is_some() { vec![MECHANISM_PLUS, MECHANISM] } else { vec![MECHANISM] };
    reply::authentication(out, &Authentication::Sasl(offered));
    let (binding, client_first) = ask_for_first(stream, out, end_point.as_deref()).await?;
    let known = known(route);
    let candidate = candidate(&known, context, route).await?;
    let begun = server::begin(&client_first, candidate, binding);
    let (server_first, awaiting) = begun.map_err(|rejection| rejected(rejection, &known, stream, route))?;
    reply::authentication(out, &Authentication::SaslContinue(server_first.as_bytes()));
    let client_final = ask(stream, out).await?;
    let proven = awaiting.finish(&client_final).map_err(|rejection| rejected(rejection, &known, stream, route))?;
    reply::authentication(out, &Authentication::SaslFinal(proven.server_final.as_bytes()));
    Ok(proven.keys)
}

async fn candidate(known: &Known<'_>, context: &LoginContext, route: &Route) -> Result<Candidate, Stop> {
    let (project, user) = (&route.project.name, &route.user);
    Ok(match known {
        Known::Verifier(verifier) => Candidate::Known(verifier.clone()),
        Known::Nobody(_) => Candidate::Unknown(context.secret.mock_verifier(project, user)),
        Known::Password(password) => {
            let salt = context.secret.salt(project, user);
            let keys = derive_keys(&context.keys, password, &salt, ITERATIONS_DEFAULT).await.map_err(Stop::Lost)?;
            Candidate::Known(Verifier::from_keys(&keys, &salt, ITERATIONS_DEFAULT))
        }
    })
}

/// The client's choice of mechanism, and its first SCRAM message, which may come with that or on a further request.
async fn ask_for_first<'a>(
    stream: &mut Stream,
    out: &mut BytesMut,
    end_point: Option<&'a [u8]>,
) -> Result<(Binding<'a>, Vec<u8>), Stop> {
    let body = ask(stream, out).await?;
    let initial = SaslInitialResponse::parse(&body).ok_or_else(|| violation("malformed SASLInitialResponse message"))?;
    let binding = match end_point {
        Some(hash) if initial.mechanism == MECHANISM_PLUS.as_bytes() => Binding::EndPoint(hash),
        _ if initial.mechanism != MECHANISM.as_bytes() => {
            return Err(violation("client selected an invalid SASL authentication mechanism").into());
        }
        Some(_) => Binding::NotChosen,
        None => Binding::NotOffered,
    };
    let first = match initial.data {
        Some(data) => data.to_vec(),
        None => {
            reply::authentication(out, &Authentication::SaslContinue(b""));
            ask(stream, out).await?
        }
    };
    Ok((binding, first))
}

/// Sends what is in `out`, and reads the body of the `p` message that answers it.
async fn ask(stream: &mut Stream, out: &mut BytesMut) -> Result<Vec<u8>, Stop> {
    send(stream, &out.split()).await?;
    let mut message = Vec::with_capacity(HEADER_BYTES);
    fill(stream, &mut message, HEADER_BYTES).await?;
    let [tag, length @ ..] = *message.first_chunk::<HEADER_BYTES>().ok_or(Stop::Gone)?;
    if tag != b'p' {
        return Err(violation(format!("expected SASL response, got message type {tag}")).into());
    }
    let length = u32::from_be_bytes(length) as usize;
    if !(4..=4 + AUTH_BODY_BYTES_MAX).contains(&length) {
        return Err(violation("invalid message length").into());
    }
    message.clear();
    fill(stream, &mut message, length - 4).await?;
    Ok(message)
}

/// The client learns one thing whatever the reason; the log learns the reason.
fn rejected(rejection: Rejection, known: &Known<'_>, stream: &Stream, route: &Route) -> PgError {
    match rejection {
        Rejection::Malformed(error) => error,
        Rejection::WrongPassword => {
            if let Known::Nobody(why) = known {
                why.log(stream, route);
            }
            let message = format!("password authentication failed for user \"{}\"", route.user);
            PgError::fatal(SqlState::INVALID_PASSWORD, message)
        }
    }
}

impl Why {
    fn log(&self, stream: &Stream, route: &Route) {
        let (peer, user, project) = (stream.peer(), &route.user, &route.project.name);
        match self {
            Self::NotListed if route.project.upstream.password.is_some() => tracing::info!(
                %peer, ?user, ?project,
                "nobody can log in as this user: it is neither the upstream's own user nor listed; list it with a password or a verifier"
            ),
            Self::NotListed | Self::NoPassword => tracing::warn!(
                %peer, ?user, ?project,
                "nobody can log in as this user, since no password is known; set the password in the upstream's URL, list the user, \
                 or set client_auth = \"trust\" for clients on this machine"
            ),
            Self::EmptyPassword => tracing::warn!(
                %peer, ?user, ?project,
                "nobody can log in as this user: the configured password is empty; set one"
            ),
            Self::Verifier(error) => tracing::warn!(
                %peer, ?user, ?project,
                "nobody can log in as this user: the listed verifier cannot be used: {error}"
            ),
        }
    }
}

fn trust_is_local(user: &str) -> PgError {
    let message = format!("client_auth = \"trust\" admits user \"{user}\" from this machine only");
    PgError::fatal(SqlState::INVALID_AUTHORIZATION, message)
        .with_hint("Connect over loopback or a Unix socket, or configure client_auth = \"scram-sha-256\".")
}

fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> PgError {
    PgError::fatal(SqlState::PROTOCOL_VIOLATION, message)
}
