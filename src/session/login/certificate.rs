//! What a client's own certificate proves: PostgreSQL's `clientcert`, and its authentication method `cert`.
//!
//! TLS has already refused a certificate that nobody of the configured authorities signed. What is left is whether there is
//! one, and whether it names this user.

use crate::config::{ClientCert, ClientTls};
use crate::error::{PgError, SqlState};
use crate::net::socket::Peer;
use crate::net::stream::Stream;
use crate::session::login::route::Route;

/// What a certificate is good for, besides being let in at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certified {
    /// The client still has to prove who it is.
    Nothing,
    /// It stands in for a password.
    Instead,
}

/// # Errors
/// 28000, in PostgreSQL's words, for a client that needs a certificate and has none, or one of somebody else.
pub(super) fn check(stream: &Stream, tls: &ClientTls, route: &Route) -> Result<Certified, PgError> {
    let Some(clients) = tls.clients() else { return Ok(Certified::Nothing) };
    // As with PostgreSQL, where `local` lines know no clientcert: the file's permissions say who gets this far.
    if matches!(stream.peer(), Peer::Unix { .. }) && !stream.is_tls() {
        return Ok(Certified::Nothing);
    }
    let names = stream.client_names().ok_or_else(|| missing(stream.is_tls()))?;
    match clients.demand {
        ClientCert::VerifyCa => Ok(Certified::Nothing),
        _ if !names.contains(&route.user) => Err(of_somebody_else(&route.user)),
        ClientCert::VerifyFull => Ok(Certified::Nothing),
        ClientCert::Cert => Ok(Certified::Instead),
    }
}

fn missing(is_tls: bool) -> PgError {
    let error = PgError::fatal(SqlState::INVALID_AUTHORIZATION, "connection requires a valid client certificate");
    error.with_hint(if is_tls {
        "Give the client its certificate and key (sslcert and sslkey)."
    } else {
        "Connect over TLS, with the client's certificate and key (sslmode=require, sslcert and sslkey)."
    })
}

/// Whom it does name is not said: the client knows, and whoever found a certificate need not.
fn of_somebody_else(user: &str) -> PgError {
    let message = format!("certificate authentication failed for user \"{user}\"");
    PgError::fatal(SqlState::INVALID_AUTHORIZATION, message)
        .with_detail("The client's certificate does not name this user, as its common name or an alternative name.")
}
