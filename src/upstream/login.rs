//! Proving to a server who we are (protocol chapter "Start-up"), and having it prove who it is.

use std::io;

use bytes::BytesMut;

use crate::auth::keys::ScramKeys;
use crate::auth::md5;
use crate::auth::scram::client::{Binding, Challenge, ScramClient};
use crate::auth::scram::{MECHANISM, MECHANISM_PLUS};
use crate::config::{ChannelBinding, Password};
use crate::net::stream::Stream;
use crate::upstream::connect::{AuthMethod, ConnectSpec, Credential};
use crate::upstream::derive::derive_keys;
use crate::upstream::error::ConnectError;
use crate::upstream::intake::{Intake, Message};
use crate::wire::authentication::Authentication;
use crate::wire::request;

const BINDING_HINT: &str =
    "Let the server ask for scram-sha-256 over TLS (hostssl in its pg_hba.conf), or leave channel_binding out of the URL.";
const NO_PASSWORD_HINT: &str = "Put the password into the upstream's URL: postgres://user:password@host/database.";

/// Answers what the server asks, up to and with its AuthenticationOk. `only`: if it is this that it asks for.
pub(super) async fn authenticate(
    intake: &mut Intake,
    spec: &ConnectSpec<'_>,
    only: Option<AuthMethod>,
) -> Result<AuthMethod, ConnectError> {
    let message = intake.next().await?;
    let asked = parse(&message)?;
    if let Some(expected) = only
        && !is_for(&asked, expected)
    {
        return Err(another_method(&asked, expected));
    }
    if spec.upstream.tls.channel_binding == ChannelBinding::Require && !matches!(asked, Authentication::Sasl(_)) {
        return Err(unbound("the server wants no SCRAM login"));
    }
    match asked {
        Authentication::Ok => Ok(AuthMethod::Trust),
        Authentication::CleartextPassword => {
            let password = password(spec, "a password")?;
            answer(intake, password.reveal()).await?;
            Ok(AuthMethod::CleartextPassword)
        }
        Authentication::Md5Password(salt) => {
            let text = match spec.credential {
                Credential::Md5(secret) => secret.answer(salt),
                _ => md5::answer(spec.user, password(spec, "an md5 password")?.reveal(), salt),
            };
            answer(intake, &text).await?;
            Ok(AuthMethod::Md5)
        }
        Authentication::Sasl(offered) => {
            let binding = choose(&offered, intake.stream(), spec.upstream.tls.channel_binding)?;
            scram(intake, spec, binding).await
        }
        Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => Err(out_of_order()),
        Authentication::Other(code) => Err(unknown_method(&format!("authentication method {code}"))),
    }
}

/// Whether to answer is to give this proof. SCRAM is one, bound to a certificate or not.
fn is_for(asked: &Authentication<'_>, expected: AuthMethod) -> bool {
    match expected {
        AuthMethod::Trust => matches!(asked, Authentication::Ok),
        AuthMethod::CleartextPassword => matches!(asked, Authentication::CleartextPassword),
        AuthMethod::Md5 => matches!(asked, Authentication::Md5Password(_)),
        AuthMethod::ScramSha256 | AuthMethod::ScramSha256Plus => matches!(asked, Authentication::Sasl(_)),
    }
}

/// Which mechanism, and what is said of binding, by libpq's rules.
fn choose(offered: &[&str], stream: &Stream, wanted: ChannelBinding) -> Result<Binding, ConnectError> {
    let (plain, plus) = (offered.contains(&MECHANISM), offered.contains(&MECHANISM_PLUS));
    if plus && !stream.is_tls() {
        // Nobody has a certificate to bind to there: the offer was made elsewhere, and somebody took the TLS away.
        return Err(ConnectError::protocol("it offers SCRAM-SHA-256-PLUS on a connection without TLS"));
    }
    let binding = match (wanted, stream.end_point()) {
        (ChannelBinding::Prefer | ChannelBinding::Require, Some(hash)) if plus => Binding::EndPoint(hash),
        (ChannelBinding::Require, None) if stream.is_tls() => return Err(unbound("nothing says how to bind to its certificate")),
        (ChannelBinding::Require, _) => return Err(unbound("the server does not offer SCRAM-SHA-256-PLUS")),
        // To say `y` where it was offered would be taken for the trace of an attack.
        (ChannelBinding::Prefer, Some(_)) => Binding::NotOffered,
        (ChannelBinding::Prefer, None) | (ChannelBinding::Disable, _) => Binding::No,
    };
    if !plain && !matches!(binding, Binding::EndPoint(_)) {
        return Err(unknown_method(&format!("SASL with {}", offered.join(", "))));
    }
    Ok(binding)
}

async fn answer(intake: &mut Intake, password: &str) -> Result<(), ConnectError> {
    let mut out = BytesMut::new();
    request::password(&mut out, password);
    intake.send(&out).await?;
    expect_ok(intake).await
}

/// Each step waits for just the message that comes next: an AuthenticationOk before the server has proved itself is
/// somebody who does not know the password.
async fn scram(intake: &mut Intake, spec: &ConnectSpec<'_>, binding: Binding) -> Result<AuthMethod, ConnectError> {
    check_scram_credential(spec)?;
    let method = if matches!(binding, Binding::EndPoint(_)) { AuthMethod::ScramSha256Plus } else { AuthMethod::ScramSha256 };
    let client = ScramClient::new(binding).map_err(|error| ConnectError::protocol(error.to_string()))?;
    let mut out = BytesMut::new();
    request::sasl_initial_response(&mut out, client.mechanism(), client.client_first().as_bytes());
    intake.send(&out).await?;

    let message = intake.next().await?;
    let Authentication::SaslContinue(server_first) = parse(&message)? else { return Err(out_of_order()) };
    let challenge = client.server_first(server_first)?;
    let keys = keys(spec, &challenge).await?;
    let (client_final, signature) = challenge.respond(&keys);
    out.clear();
    request::sasl_response(&mut out, client_final.as_bytes());
    intake.send(&out).await?;

    let message = intake.next().await?;
    let Authentication::SaslFinal(server_final) = parse(&message)? else { return Err(out_of_order()) };
    signature.verify(server_final)?;
    expect_ok(intake).await?;
    Ok(method)
}

async fn keys(spec: &ConnectSpec<'_>, challenge: &Challenge) -> Result<ScramKeys, ConnectError> {
    match spec.credential {
        Credential::ScramKeys(keys) => Ok(keys.clone()),
        Credential::Password(password) => derive_keys(spec.keys, password, &challenge.salt, challenge.iterations)
            .await
            .map_err(|error: io::Error| ConnectError::Unreachable { target: "the upstream".to_owned(), error }),
        Credential::Md5(_) | Credential::None => Err(missing("a SCRAM password")),
    }
}

/// Before the first message goes out, so that the server does not log a login which could not succeed.
fn check_scram_credential(spec: &ConnectSpec<'_>) -> Result<(), ConnectError> {
    match spec.credential {
        Credential::ScramKeys(_) => Ok(()),
        _ => password(spec, "a SCRAM password").map(|_| ()),
    }
}

fn password<'a>(spec: &ConnectSpec<'a>, asked: &str) -> Result<&'a Password, ConnectError> {
    match spec.credential {
        Credential::Password(password) if !password.reveal().is_empty() => Ok(password),
        Credential::Password(_) | Credential::None => Err(missing(asked)),
        Credential::Md5(_) => Err(ConnectError::Credential {
            reason: format!("the server asks for {asked}, but of this user only an md5 secret is known"),
            hint: "Let the server ask for md5 in its pg_hba.conf, or set the password again with password_encryption = 'scram-sha-256'.",
        }),
        Credential::ScramKeys(_) => Err(ConnectError::Credential {
            reason: format!("the server asks for {asked}, but of this user only a SCRAM verifier is configured"),
            hint: "Let the server ask for scram-sha-256 in its pg_hba.conf, or list the user with a password.",
        }),
    }
}

async fn expect_ok(intake: &mut Intake) -> Result<(), ConnectError> {
    match parse(&intake.next().await?)? {
        Authentication::Ok => Ok(()),
        _ => Err(out_of_order()),
    }
}

fn parse(message: &Message) -> Result<Authentication<'_>, ConnectError> {
    if message.tag() != b'R' {
        return Err(ConnectError::protocol(message.describe()));
    }
    Authentication::parse(message.body()).ok_or_else(|| ConnectError::protocol("a malformed authentication request"))
}

fn out_of_order() -> ConnectError {
    ConnectError::protocol("an authentication message out of order")
}

fn unbound(why: &str) -> ConnectError {
    let reason = format!("channel_binding=require is set in the upstream's URL, and {why}");
    ConnectError::Credential { reason, hint: BINDING_HINT }
}

fn missing(asked: &str) -> ConnectError {
    ConnectError::Credential { reason: format!("the server asks for {asked}, and none is configured"), hint: NO_PASSWORD_HINT }
}

fn another_method(asked: &Authentication<'_>, expected: AuthMethod) -> ConnectError {
    let asked = match asked {
        Authentication::Ok => "lets the user in without a proof",
        Authentication::CleartextPassword => "asks for a password in clear",
        Authentication::Md5Password(_) => "asks for an md5 password",
        Authentication::Sasl(_) => "asks for a SCRAM password",
        Authentication::SaslContinue(_) | Authentication::SaslFinal(_) | Authentication::Other(_) => "asks for another proof",
    };
    let expected = match expected {
        AuthMethod::Trust => "no proof",
        AuthMethod::CleartextPassword => "a password in clear",
        AuthMethod::Md5 => "an md5 password",
        AuthMethod::ScramSha256 | AuthMethod::ScramSha256Plus => "a SCRAM password",
    };
    ConnectError::Credential {
        reason: format!("the server {asked}, and over TCP it asks for {expected}"),
        hint: "Give the user the same method in the lines local and host of its pg_hba.conf.",
    }
}

fn unknown_method(asked: &str) -> ConnectError {
    ConnectError::Credential {
        reason: format!("the server asks for {asked}, which Sidepool does not speak"),
        hint: "Let the server ask for scram-sha-256, md5 or password in its pg_hba.conf.",
    }
}
