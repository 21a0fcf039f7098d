//! Whether a client is who it says: SCRAM-SHA-256, md5 where the role has no better secret, its password in clear where so
//! configured, or for this machine alone, where so configured, its word.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use crate::auth::keys::{ITERATIONS_DEFAULT, ScramKeys};
use crate::auth::md5::Md5Secret;
use crate::auth::scram::server::Candidate;
use crate::auth::verifier::Verifier;
use crate::config::{ClientAuth, ErrorTexts, Logins, Password};
use crate::error::hosted::Hosted;
use crate::error::{PgError, SqlState};
use crate::net::socket::Peer;
use crate::net::stream::Stream;
use crate::session::login::certificate::{self, Certified};
use crate::session::login::exchange::Exchange;
use crate::session::login::guard;
use crate::session::login::introduction::Introduction;
use crate::session::login::known::{Known, Why, known};
use crate::session::login::route::{Route, Stray, To};
use crate::session::login::{Caller, LoginContext, Stop};
use crate::upstream::{ConnectError, Credential, Lookup, derive_keys};
use crate::wire::authentication::Authentication;
use crate::wire::reply;
use crate::wire::startup::Startup;

#[derive(Debug)]
pub(super) struct Proof {
    pub(super) credential: Credential,
    /// Ends with AuthenticationOk.
    pub(super) greeting: BytesMut,
}

/// What a client showed, which may be what logs in upstream.
#[derive(Debug)]
pub(super) enum Shown {
    /// Recovered from its proof.
    Keys(ScramKeys),
    Md5(Md5Secret),
    Password(Password),
    /// It was taken at its word.
    Nothing,
}

/// Lets a client in, or not. Failures are counted and told late where that is configured.
pub(super) async fn prove(caller: &mut Caller, context: &LoginContext, who: &Introduction) -> Result<Proof, Stop> {
    let route = &who.route;
    let (logins, project, peer) = (&route.project.logins, &route.project.name, caller.stream.peer());
    check_access(&caller.stream, context, logins, &route.user, project)?;
    let proven = prove_user(caller, context, who).await;
    match &proven {
        Ok(_) => context.guard.succeeded(logins, project, peer),
        Err(stop) if stop.is_failed_proof() => {
            context.guard.failed(logins, project, peer, Instant::now());
            Box::pin(tokio::time::sleep(logins.failure_delay)).await;
        }
        Err(_) => {}
    }
    proven
}

/// Whether it may try at all.
fn check_access(stream: &Stream, context: &LoginContext, logins: &Logins, user: &str, project: &str) -> Result<(), PgError> {
    let texts = context.settings.error_texts;
    guard::check_way(logins, user, stream, texts)?;
    let checked = context.guard.check(logins, project, stream.peer(), Instant::now);
    checked.map_err(|ours| texts.choose(Hosted::LockedOut, || ours))
}

/// For a project that does not exist: the same work, the same delay, the same counting, and never a way in.
pub(super) async fn turn_away(caller: &mut Caller, context: &LoginContext, startup: &Startup, stray: &Stray) -> Stop {
    let (logins, peer) = (&context.settings.logins, caller.stream.peer());
    match pretend(caller, context, startup, stray).await {
        Err(stop) if !stop.is_failed_proof() => return stop,
        Err(_) | Ok(()) => {}
    }
    context.guard.failed(logins, &stray.project, peer, Instant::now());
    tokio::time::sleep(logins.failure_delay).await;
    Stop::Refused(stray.refusal(&context.settings, peer))
}

/// What a client of a project that exists would go through. The default project's upstream is asked for the user, whatever
/// it says: the time that takes would show which projects there are.
async fn pretend(caller: &mut Caller, context: &LoginContext, startup: &Startup, stray: &Stray) -> Result<(), Stop> {
    let (logins, peer) = (&context.settings.logins, caller.stream.peer());
    check_access(&caller.stream, context, logins, &stray.user, &stray.project)?;
    if context.settings.client_auth == ClientAuth::Trust {
        return Ok(());
    }
    let project = Arc::clone(context.settings.default_project());
    let somewhere = Route { project, user: stray.user.clone(), database: stray.user.clone(), to: To::Upstream };
    certificate::check(&caller.stream, &context.settings.client_tls, &somewhere)?;
    let known = if peer.is_local() { None } else { Some(known(context, &somewhere).await?) };
    let mut exchange = Exchange::begin(caller, startup, context.settings.error_texts);
    match known {
        Some(Known::AskUpstream) => exchange.password(&stray.user).await.map(drop),
        _ => {
            let mock = mock_verifier(context, &somewhere.project.name, &stray.project, &stray.user);
            exchange.scram(&stray.user, Candidate::Unknown(mock)).await.map(drop)
        }
    }
}

async fn prove_user(caller: &mut Caller, context: &LoginContext, who: &Introduction) -> Result<Proof, Stop> {
    let Introduction { route, startup, .. } = who;
    let certified = certificate::check(&caller.stream, &context.settings.client_tls, route)?;
    let is_local = caller.stream.peer().is_local();
    match context.settings.client_auth {
        _ if certified == Certified::Instead && is_known(route) => {}
        ClientAuth::Trust if !is_local => return Err(trust_is_local(&route.user).into()),
        ClientAuth::Trust => {}
        // It waits, and has room for what it waits for.
        ClientAuth::ScramSha256 => return Box::pin(exchange(caller, context, who)).await,
    }
    Ok(admit(Exchange::begin(caller, startup, context.settings.error_texts), route, Shown::Nothing))
}

async fn exchange(caller: &mut Caller, context: &LoginContext, who: &Introduction) -> Result<Proof, Stop> {
    let known = known(context, &who.route).await?;
    let mut exchange = Exchange::begin(caller, &who.startup, context.settings.error_texts);
    let shown = show(&mut exchange, context, &who.route, known).await?;
    Ok(admit(exchange, &who.route, shown))
}

fn admit(exchange: Exchange<'_>, route: &Route, shown: Shown) -> Proof {
    let mut greeting = exchange.finish();
    reply::authentication(&mut greeting, &Authentication::Ok);
    Proof { credential: credential(route, shown), greeting }
}

/// The exchange that suits what is known of the user.
async fn show(exchange: &mut Exchange<'_>, context: &LoginContext, route: &Route, known: Known) -> Result<Shown, Stop> {
    let (project, user) = (&route.project.name, &route.user);
    match known {
        Known::Verifier(verifier) => exchange.scram(user, Candidate::Known(verifier)).await.map(Shown::Keys),
        Known::Password(password) => {
            let verifier = verifier_of(context, route, &password).await?;
            exchange.scram(user, Candidate::Known(verifier)).await?;
            Ok(Shown::Password(password))
        }
        Known::Md5(secret) => show_md5(exchange, route, secret).await,
        Known::AskUpstream => {
            let Some(inquiry) = context.inquiries.of(project) else { return Err(wrong_password(user).into()) };
            let password = exchange.password(user).await?;
            let tried = inquiry.try_password(route, &context.secret, &password).await;
            tried.map_err(|error| refused_upstream(&error, route, exchange.peer()))?;
            Ok(Shown::Password(password))
        }
        Known::Nobody(why) => {
            let mock = mock_verifier(context, project, project, user);
            let failed = exchange.scram(user, Candidate::Unknown(mock)).await;
            if !failed.as_ref().is_err_and(Stop::is_failed_proof) {
                return failed.map(Shown::Keys);
            }
            why.log(exchange.peer(), route);
            // Strangers are not told who exists.
            match context.settings.error_texts {
                ErrorTexts::Supabase if exchange.peer().is_local() => Err(Stop::Unproven(Hosted::Lookup(why.hosted()).into())),
                _ => failed.map(Shown::Keys),
            }
        }
    }
}

/// A client makes its answer with the name it gave. As user.project that is not the role's, and only the password itself can
/// show what it knows.
async fn show_md5(exchange: &mut Exchange<'_>, route: &Route, secret: Md5Secret) -> Result<Shown, Stop> {
    let user = &route.user;
    if !exchange.gave_name(user) && exchange.is_private() {
        let password = exchange.password(user).await?;
        let proven = secret.is_of(user, password.reveal());
        return if proven { Ok(Shown::Password(password)) } else { Err(wrong_password(user).into()) };
    }
    if !exchange.gave_name(user) {
        let (peer, project) = (exchange.peer(), &route.project.name);
        tracing::info!(
            %peer, ?user, ?project,
            "an md5 secret cannot be checked for a client that calls itself user.project without TLS; use TLS, \
             options=reference=…, or set the password again"
        );
    }
    exchange.md5(user, &secret).await?;
    Ok(Shown::Md5(secret))
}

/// Nothing fits it. It has as many iterations as those that `of` has.
fn mock_verifier(context: &LoginContext, of: &str, project: &str, user: &str) -> Verifier {
    let mock = context.secret.mock_verifier(project, user);
    let lookup = context.inquiries.of(of).and_then(|inquiry| inquiry.lookup.as_ref());
    let iterations = lookup.and_then(Lookup::usual_iterations).unwrap_or(mock.iterations);
    Verifier { iterations, ..mock }
}

async fn verifier_of(context: &LoginContext, route: &Route, password: &Password) -> Result<Verifier, Stop> {
    let salt = context.secret.salt(&route.project.name, &route.user);
    let keys = derive_keys(&context.keys, password, &salt, ITERATIONS_DEFAULT).await.map_err(Stop::Lost)?;
    Ok(Verifier::from_keys(&keys, &salt, ITERATIONS_DEFAULT))
}

/// What logs in upstream as this user, and never as anybody else: the configured credential is that of the upstream's own
/// user alone, and is never replaced by what a client brought (trap 64).
fn credential(route: &Route, shown: Shown) -> Credential {
    match (route.project.password_of(&route.user), shown) {
        (Some(password), _) => Credential::Password(password.clone()),
        (None, Shown::Keys(keys)) => Credential::ScramKeys(keys),
        (None, Shown::Md5(secret)) => Credential::Md5(secret),
        (None, Shown::Password(password)) => Credential::Password(password),
        (None, Shown::Nothing) => Credential::None,
    }
}

/// Whether it is known what logs in upstream as this user, though it proved nothing that would.
fn is_known(route: &Route) -> bool {
    let listed = route.project.users.iter().find(|listed| listed.name == route.user);
    let is_listed = listed.is_some();
    listed.is_some_and(|listed| listed.secret.password().is_some()) || (route.project.upstream.user == route.user && !is_listed)
}

/// What the upstream says of a password it was given is what it says to anybody who gives it that.
fn refused_upstream(error: &ConnectError, route: &Route, peer: Peer) -> PgError {
    let (user, project) = (&route.user, &route.project.name);
    tracing::info!(%peer, ?user, ?project, "the upstream did not take the user's password: {error}");
    let told = error.to_client();
    if told.code == SqlState::INVALID_PASSWORD { wrong_password(user) } else { told }
}

/// PostgreSQL's words, whatever the reason.
pub(super) fn wrong_password(user: &str) -> PgError {
    PgError::fatal(SqlState::INVALID_PASSWORD, format!("password authentication failed for user \"{user}\""))
}

fn trust_is_local(user: &str) -> PgError {
    let message = format!("client_auth = \"trust\" admits user \"{user}\" from this machine only");
    PgError::fatal(SqlState::INVALID_AUTHORIZATION, message)
        .with_hint("Connect over loopback or a Unix socket, or configure client_auth = \"scram-sha-256\".")
}

impl Why {
    fn log(&self, peer: Peer, route: &Route) {
        let (user, project) = (&route.user, &route.project.name);
        tracing::info!(%peer, ?user, ?project, "nobody can log in as this user: {self}");
    }
}
