//! Against what a user's proof is checked: what is listed, the upstream's own credential, what the upstream says.

use std::fmt;
use std::sync::Arc;

use crate::auth::md5::Md5Secret;
use crate::auth::verifier::{Verifier, VerifierError};
use crate::config::{Password, Secret};
use crate::error::hosted::NoSecret;
use crate::session::login::route::Route;
use crate::session::login::{LoginContext, Stop};
use crate::upstream::{Answer, LookupError, Nobody, RoleSecret};

#[derive(Debug)]
pub(super) enum Known {
    Password(Password),
    Verifier(Verifier),
    Md5(Md5Secret),
    /// The upstream alone can tell whether a password is right.
    AskUpstream,
    /// Nobody can log in as this user, which only the log is told.
    Nobody(Why),
}

#[derive(Debug)]
pub(super) enum Why {
    NotListed,
    /// The upstream's own user, whose password we were not told.
    NoPassword,
    EmptyPassword,
    Verifier(VerifierError),
    Upstream(Nobody),
    /// It would not say.
    Failed(Arc<LookupError>),
}

/// What is listed for a user counts before the upstream's own credential, and that before what the upstream says. Nothing
/// of the client but the user's name has a part in it.
///
/// # Errors
/// What the client is told where the upstream cannot be asked.
pub(super) async fn known(context: &LoginContext, route: &Route) -> Result<Known, Stop> {
    let why = match configured(route) {
        Ok(known) => return Ok(known),
        Err(why) => why,
    };
    let Some(inquiry) = context.inquiries.of(&route.project.name) else { return Ok(Known::Nobody(why)) };
    let unknown = |why| if route.project.logins.passthrough { Known::AskUpstream } else { Known::Nobody(why) };
    let Some(lookup) = &inquiry.lookup else { return Ok(unknown(why)) };
    match lookup.ask(&route.user).await {
        Ok(answer) => Ok(answered(&answer)),
        Err(error) => match &*error {
            LookupError::Connect(cause) if error.is_passing() => Err(cause.told(context.settings.error_texts).into()),
            _ => Ok(unknown(Why::Failed(error))),
        },
    }
}

/// Without asking anybody; or why that is not enough.
fn configured(route: &Route) -> Result<Known, Why> {
    let upstream = &route.project.upstream;
    let listed = route.project.users.iter().find(|listed| listed.name == route.user).map(|listed| &listed.secret);
    let password = |password: &Password| match password.reveal().is_empty() {
        true => Known::Nobody(Why::EmptyPassword),
        false => Known::Password(password.clone()),
    };
    match (listed, &upstream.password) {
        (Some(Secret::Verifier(text)), _) => Ok(match Verifier::parse(text.reveal()) {
            Ok(verifier) => Known::Verifier(verifier),
            Err(error) => Known::Nobody(Why::Verifier(error)),
        }),
        (Some(Secret::Password(listed)), _) => Ok(password(listed)),
        (None, _) if upstream.user != route.user => Err(Why::NotListed),
        (None, None) => Err(Why::NoPassword),
        (None, Some(own)) => Ok(password(own)),
    }
}

fn answered(answer: &Answer) -> Known {
    match answer {
        Answer::Role(RoleSecret::Scram(verifier)) => Known::Verifier(verifier.clone()),
        Answer::Role(RoleSecret::Md5(secret)) => Known::Md5(secret.clone()),
        Answer::Role(RoleSecret::Plain(password)) => Known::Password(password.clone()),
        Answer::Nobody(why) => Known::Nobody(Why::Upstream(*why)),
    }
}

impl Why {
    /// What the hosted pooler says of it.
    pub(super) fn hosted(&self) -> NoSecret {
        match self {
            Self::NotListed | Self::NoPassword => NoSecret::NoQuery,
            Self::Upstream(Nobody::Unknown | Nobody::NoPassword) => NoSecret::NoRole,
            Self::Upstream(Nobody::Another | Nobody::Several) => NoSecret::Shape,
            Self::EmptyPassword | Self::Verifier(_) | Self::Upstream(Nobody::Unusable(_)) => NoSecret::Format,
            Self::Failed(error) => match &**error {
                LookupError::Shape(_) => NoSecret::Shape,
                LookupError::Connect(_) | LookupError::Refused(_) | LookupError::Interrupted => NoSecret::Failed,
            },
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListed => f.write_str(
                "it is neither the upstream's own user nor listed, and auth_query is off; list it with a password or a verifier",
            ),
            Self::NoPassword => f.write_str(
                "no password is known; set it in the upstream's URL, list the user, or set client_auth = \"trust\" for clients \
                 on this machine",
            ),
            Self::EmptyPassword => f.write_str("the configured password is empty; set one"),
            Self::Verifier(error) => write!(f, "the listed verifier cannot be used: {error}"),
            Self::Upstream(why) => why.fmt(f),
            Self::Failed(error) => write!(f, "it is not listed, and auth_query failed: {error}"),
        }
    }
}
