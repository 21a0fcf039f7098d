//! From the first byte to a startup packet, with TLS where it is wanted.
//!
//! What a client sends behind an SSLRequest is given to TLS as it is, and is then either TLS or the end (CVE-2021-3935,
//! CVE-2021-23214).

use std::io;

use tokio::io::AsyncWriteExt;

use crate::config::{ErrorTexts, Settings};
use crate::error::hosted::{BadStartup, Hosted};
use crate::error::{Fault, PgError, SqlState};
use crate::net::socket::Socket;
use crate::net::stream::Stream;
use crate::net::tls::ServerTls;
use crate::session::login::inbox::Inbox;
use crate::session::login::{Caller, Failure, Stop, failure};
use crate::wire::startup::{CancelRequest, FirstPacket, HEAD_BYTES, frame_bytes, is_startup};

/// The content type of a TLS handshake record. No untagged packet begins with it: it would be 369 MB long.
const TLS_HANDSHAKE: u8 = 0x16;
/// What the requests' codes would be as versions of the protocol.
const SSL_VERSION: &str = "1234.5679";
const GSS_VERSION: &str = "1234.5680";

pub(super) enum Opening {
    Gone,
    Cancel(CancelRequest, Box<Stream>),
    Startup(Caller),
}

impl Opening {
    fn cancel(request: Option<CancelRequest>, stream: Stream) -> Self {
        request.map_or(Self::Gone, |request| Self::Cancel(request, Box::new(stream)))
    }
}

/// What was asked for, and denied, so far; as in PostgreSQL each may be asked for once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Ssl,
    Gss,
    Both,
}

/// What a client says next.
enum Hello {
    /// It begins in the inbox.
    DirectTls,
    /// It is in the inbox, and has so many bytes.
    Startup(usize),
    Ssl,
    Gss,
    Cancel(Option<CancelRequest>),
}

pub(super) async fn open(socket: Socket, tls: Option<&ServerTls>, settings: &Settings) -> Result<Opening, Failure> {
    let (mut asked, mut inbox, mut stream) = (Asked::Nothing, Inbox::default(), Stream::Plain(socket));
    // Ends: whatever does not return leaves less to be asked.
    loop {
        let hello = match hello(&mut stream, &mut inbox, settings).await {
            Ok(hello) => hello,
            Err(stop) => return Box::pin(stopped(stream, stop)).await,
        };
        asked = match (hello, tls, asked) {
            (Hello::Startup(packet_bytes), ..) => return Ok(Opening::Startup(Caller { stream, inbox, packet_bytes })),
            (Hello::Cancel(request), ..) => return Ok(Opening::cancel(request, stream)),
            (Hello::DirectTls, _, Asked::Nothing) => return Box::pin(direct(stream, inbox, tls, settings)).await,
            (Hello::DirectTls, ..) => return Box::pin(stopped(stream, not_a_packet().into())).await,
            (Hello::Ssl, Some(tls), Asked::Nothing | Asked::Gss) => {
                return Box::pin(upgrade(stream, inbox, tls, settings)).await;
            }
            // ## Nothing => (Ssl), Gss => (Both)
            (Hello::Ssl, None, Asked::Nothing) => Asked::Ssl,
            (Hello::Ssl, None, Asked::Gss) => Asked::Both,
            // ## Nothing => (Gss), Ssl => (Both)
            (Hello::Gss, _, Asked::Nothing) => Asked::Gss,
            (Hello::Gss, _, Asked::Ssl) => Asked::Both,
            (Hello::Ssl, ..) => return Box::pin(stopped(stream, not_again(SSL_VERSION).into())).await,
            (Hello::Gss, ..) => return Box::pin(stopped(stream, not_again(GSS_VERSION).into())).await,
        };
        stream.write_all(b"N").await.map_err(|error| Failure::lost(&error))?;
    }
}

/// Under TLS there is nothing left to ask for.
async fn secured(mut stream: Stream, settings: &Settings) -> Result<Opening, Failure> {
    let mut inbox = Inbox::default();
    match hello(&mut stream, &mut inbox, settings).await {
        Ok(Hello::Startup(packet_bytes)) => Ok(Opening::Startup(Caller { stream, inbox, packet_bytes })),
        Ok(Hello::Cancel(request)) => Ok(Opening::cancel(request, stream)),
        Ok(Hello::Ssl) => stopped(stream, not_again(SSL_VERSION).into()).await,
        Ok(Hello::Gss) => stopped(stream, not_again(GSS_VERSION).into()).await,
        Ok(Hello::DirectTls) => stopped(stream, not_a_packet().into()).await,
        Err(stop) => stopped(stream, stop).await,
    }
}

async fn hello(stream: &mut Stream, inbox: &mut Inbox, settings: &Settings) -> Result<Hello, Stop> {
    if let Err(error) = inbox.fill(stream, HEAD_BYTES).await {
        return Err(if inbox.bytes().is_empty() { error.into() } else { incomplete() });
    }
    let head = *inbox.bytes().first_chunk().ok_or_else(incomplete)?;
    if head[0] == TLS_HANDSHAKE {
        return Ok(Hello::DirectTls);
    }
    let length = length_of(head, settings)?;
    inbox.fill(stream, length).await.map_err(|_| incomplete())?;
    if is_startup(head) {
        return Ok(Hello::Startup(length));
    }
    let packet = inbox.bytes().get(..length).ok_or_else(incomplete)?;
    let hello = match FirstPacket::parse(packet).map_err(|error| in_words(error, settings.error_texts))? {
        FirstPacket::Startup(_) => return Ok(Hello::Startup(length)),
        FirstPacket::Ssl => Hello::Ssl,
        FirstPacket::Gss => Hello::Gss,
        FirstPacket::Cancel(request) => Hello::Cancel(request),
    };
    inbox.take(length);
    Ok(hello)
}

/// # Errors
/// 08P01 for a length that no packet may have.
fn length_of(head: [u8; HEAD_BYTES], settings: &Settings) -> Result<usize, PgError> {
    let texts = settings.error_texts;
    let [a, b, c, d, ..] = head;
    let (bytes, limit) = (u32::from_be_bytes([a, b, c, d]) as usize, settings.limits.startup_bytes);
    if bytes > 4 + limit {
        return Err(texts.choose(Hosted::StartupSize { bytes, limit }, not_a_packet));
    }
    frame_bytes(head).map_err(|error| in_words(error, texts))
}

/// The hosted pooler knows two ways in which a startup packet can be wrong, and takes no notice of its version.
pub(super) fn in_words(error: PgError, texts: ErrorTexts) -> PgError {
    match error.code {
        SqlState::PROTOCOL_VIOLATION => texts.choose(Hosted::Startup(BadStartup::Payload), || error),
        SqlState::INVALID_AUTHORIZATION => texts.choose(Hosted::Startup(BadStartup::NoUser), || error),
        _ => error,
    }
}

async fn stopped(stream: Stream, stop: Stop) -> Result<Opening, Failure> {
    failure(stream, stop).await.map_or(Ok(Opening::Gone), Err)
}

async fn upgrade(mut stream: Stream, inbox: Inbox, tls: &ServerTls, settings: &Settings) -> Result<Opening, Failure> {
    stream.write_all(b"S").await.map_err(|error| Failure::lost(&error))?;
    let socket = stream.into_plain().map_err(|error| Failure::lost(&error))?;
    match tls.accept(socket, inbox.bytes()).await {
        Ok(stream) => secured(stream, settings).await,
        Err(error) => tls_failed(error),
    }
}

async fn direct(stream: Stream, inbox: Inbox, tls: Option<&ServerTls>, settings: &Settings) -> Result<Opening, Failure> {
    let Some(tls) = tls else {
        let reason = "the client began with TLS, which is switched off (client_tls)".to_owned();
        return Err(Failure { fault: Fault::Client, reason, told: None });
    };
    let socket = stream.into_plain().map_err(|error| Failure::lost(&error))?;
    match tls.accept_direct(socket, inbox.bytes()).await {
        Ok(stream) => secured(stream, settings).await,
        Err(error) => tls_failed(error),
    }
}

/// Who looks in, handshake and all, and leaves again is no failure (trap 49).
fn tls_failed(error: io::Error) -> Result<Opening, Failure> {
    let reason = format!("TLS handshake: {error}");
    match Stop::from(error) {
        Stop::Gone => Ok(Opening::Gone),
        _ => Err(Failure { fault: Fault::Client, reason, told: None }),
    }
}

fn incomplete() -> Stop {
    Stop::Refused(PgError::fatal(SqlState::PROTOCOL_VIOLATION, "incomplete startup packet"))
}

pub(super) fn not_a_packet() -> PgError {
    PgError::fatal(SqlState::PROTOCOL_VIOLATION, "invalid length of startup packet")
}

/// PostgreSQL takes a repeated request for a protocol of that number, and so do we.
fn not_again(version: &str) -> PgError {
    let message = format!("unsupported frontend protocol {version}: server supports 3.0 to 3.2");
    PgError::fatal(SqlState::FEATURE_NOT_SUPPORTED, message)
}
