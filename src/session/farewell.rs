//! The last words to a client.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::end::End;
use super::login::Login;
use crate::config::Settings;
use crate::error::{PgError, Severity, SqlState};
use crate::net::stream::Stream;
use crate::pool::Outbox;
use crate::wire::frame::Header;
use crate::wire::tag;

/// Sends what is still to be sent and why the session ends, if the client is to know, and closes.
pub(super) async fn tell(stream: &mut Stream, out: &mut Outbox, end: &End, within: Duration) {
    append(out, end);
    let closing = async {
        poll_fn(|cx| out.poll_send(stream, cx)).await?;
        poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx)).await
    };
    let _ = tokio::time::timeout(within, closing).await;
}

/// Whether there is anything left to be told. A client that went, and has been sent everything, learns from the end of the
/// connection all that it would from a shutdown before that; under TLS the end is announced.
pub(super) fn is_due(stream: &Stream, out: &Outbox, end: &End) -> bool {
    stream.is_tls() || !out.is_empty() || !matches!(end, End::ClientLeft | End::ClientFailed(_))
}

/// A client that proved who it is and still is not let in.
pub async fn turn_away(mut login: Login, error: &PgError, settings: &Settings) {
    let mut out = Outbox::default();
    out.buffer().extend_from_slice(&login.greeting);
    tell(&mut login.stream, &mut out, &End::Refused(error.clone()), settings.timeouts.recovery).await;
}

fn append(out: &mut Outbox, end: &End) {
    let error = match end {
        // What the server said is there already, and nothing is invented where it said nothing.
        End::ClientLeft | End::ClientFailed(_) => return,
        End::ServerLost(_) => match end.replay_refused() {
            Some(body) => return append_body(out, body),
            None => return,
        },
        End::RefusedUpstream(body) => return append_body(out, body),
        End::Refused(error) => PgError { severity: Severity::Fatal, ..error.clone() },
        End::Stopped => PgError::fatal(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command"),
    };
    out.say(&error);
}

fn append_body(out: &mut Outbox, body: &[u8]) {
    let out = out.buffer();
    Header { tag: tag::server::ERROR, body: u32::try_from(body.len()).unwrap_or(u32::MAX) }.write(out);
    out.extend_from_slice(body);
}
