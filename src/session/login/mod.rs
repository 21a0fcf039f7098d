//! The accept side: what a client wants, which project it means, and whether it is who it says.
//!
//! Nothing here trusts a length or a name, and nothing is kept in memory that has not arrived. All of it may take
//! `timeouts.client_login`, TLS handshake included.

mod certificate;
mod exchange;
mod guard;
mod inbox;
mod inquiry;
mod introduction;
mod known;
mod negotiate;
mod prove;
mod route;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::Sleep;

use crate::auth::key_cache::KeyCache;
use crate::auth::process_secret::ProcessSecret;
use crate::config::{ErrorTexts, Settings};
use crate::error::hosted::Hosted;
use crate::error::{Fault, PgError, SqlState};
use crate::net::socket::Socket;
use crate::net::stream::Stream;
use crate::net::tls::ServerTls;
use crate::pool::Unavailable;
use crate::session::closed;
use crate::upstream::Credential;
use crate::wire::reply;
use crate::wire::startup::CancelRequest;

pub use guard::Guard;
pub use inquiry::Inquiries;
pub use introduction::{Introduction, Introductions};

use inbox::Inbox;
use introduction::{Introduced, introduce};
use negotiate::Opening;
use prove::Proof;
pub use route::CONSOLE_DATABASES;
pub use route::Route;
use route::To;

/// What every login is done with. A reload makes another one, with the same `secret`, `keys` and `guard`, and without
/// `introductions`.
#[derive(Clone, Debug)]
pub struct LoginContext {
    pub settings: Arc<Settings>,
    /// `None`: clients are told that there is no TLS.
    pub tls: Option<Arc<ServerTls>>,
    pub secret: Arc<ProcessSecret>,
    pub keys: Arc<KeyCache>,
    pub inquiries: Arc<Inquiries>,
    pub guard: Arc<Guard>,
    /// Of these settings.
    pub introductions: Arc<Introductions>,
}

/// What became of a connection.
#[derive(Debug)]
pub enum Arrival {
    /// It left without a complaint: a port scanner, a health check, psql before it asks for a password.
    Gone,
    /// Unanswered, as PostgreSQL does it. The client takes the end of the connection for the end of the cancel: it is to
    /// be closed when the upstream has taken the request, and not before.
    Cancel(CancelRequest, Box<Stream>),
    Client(Box<Login>),
    /// The same, for a database of [`CONSOLE_DATABASES`].
    Console(Box<Login>),
    /// Not within `timeouts.client_login`. If it had said who it is, it has been told.
    Late,
}

/// A client that is in, but has not been told so.
#[derive(Debug)]
pub struct Login {
    pub stream: Stream,
    pub who: Arc<Introduction>,
    /// What logs in to the upstream as this user.
    pub credential: Credential,
    /// What it sent before it was let in.
    pub early: Vec<u8>,
    /// Ends with AuthenticationOk and goes out first: parameters, key and ReadyForQuery are to be appended, so that all
    /// of it is one write.
    pub greeting: BytesMut,
}

/// A client that has said what it wants.
#[derive(Debug)]
struct Caller {
    stream: Stream,
    /// Begins with its startup packet.
    inbox: Inbox,
    packet_bytes: usize,
}

/// A client that was not let in. It has been told, and it has been logged.
#[derive(Debug)]
pub struct Failure {
    pub fault: Fault,
    pub reason: String,
    /// `None` where nothing could be told.
    pub told: Option<PgError>,
}

/// Brings a connection from its first byte to an authenticated client.
pub async fn greet(socket: Socket, context: &LoginContext) -> Result<Arrival, Failure> {
    let peer = socket.peer();
    let arrival = arrive(socket, context).await;
    if let Err(failure) = &arrival {
        // Quoted: the reason may repeat what the client sent.
        tracing::info!(%peer, fault = ?failure.fault, reason = ?failure.reason, "login failed");
    }
    arrival
}

async fn arrive(socket: Socket, context: &LoginContext) -> Result<Arrival, Failure> {
    // One clock for both parts: it is wound when there is something to wait for.
    let mut late = pin!(tokio::time::sleep(context.settings.timeouts.client_login));
    let opening = {
        // It ends here, so that what comes next has its room.
        let opening = pin!(negotiate::open(socket, context.tls.as_deref(), &context.settings));
        before(late.as_mut(), opening).await
    };
    let Some(opening) = opening else { return Ok(Arrival::Late) };
    let mut caller = match opening? {
        Opening::Gone => return Ok(Arrival::Gone),
        Opening::Cancel(request, stream) => return Ok(Arrival::Cancel(request, stream)),
        Opening::Startup(caller) => caller,
    };
    let proven = before(late.as_mut(), pin!(find_out(&mut caller, context))).await;
    let Caller { stream, inbox, .. } = caller;
    match proven {
        Some(Ok((who, proof))) => {
            let to = who.route.to;
            let Proof { credential, greeting } = proof;
            let login = Box::new(Login { stream, who, credential, early: inbox.rest(), greeting });
            Ok(match to {
                To::Upstream => Arrival::Client(login),
                To::Console => Arrival::Console(login),
            })
        }
        Some(Err(stop)) => Box::pin(failure(stream, stop)).await.map_or(Ok(Arrival::Gone), Err),
        None => {
            Box::pin(tell_late(stream, &context.settings)).await;
            Ok(Arrival::Late)
        }
    }
}

/// `None` where it left.
async fn failure(stream: Stream, stop: Stop) -> Option<Failure> {
    match stop {
        Stop::Gone => None,
        Stop::Lost(error) => Some(Failure::lost(&error)),
        Stop::Refused(error) | Stop::Unproven(error) => Some(refuse(stream, error).await),
    }
}

async fn tell_late(stream: Stream, settings: &Settings) {
    let told = refuse(stream, too_slow(settings.error_texts));
    // Whoever does not read it either has had time enough.
    let _ = tokio::time::timeout(settings.timeouts.recovery, told).await;
}

/// `None` where it is `late` before the work is done.
async fn before<F: Future>(mut late: Pin<&mut Sleep>, mut work: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => late.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Where it goes, and that it may.
async fn find_out(caller: &mut Caller, context: &LoginContext) -> Result<(Arc<Introduction>, Proof), Stop> {
    let packet = caller.inbox.bytes().get(..caller.packet_bytes).unwrap_or_default();
    let introduced = introduce(packet, &caller.stream, context)?;
    caller.inbox.take(caller.packet_bytes);
    match introduced {
        Introduced::To(who) => {
            check_enabled(&who.route, &caller.stream, context)?;
            let proof = prove::prove(caller, context, &who).await?;
            Ok((who, proof))
        }
        Introduced::Nowhere(lost) => {
            let (startup, stray) = &*lost;
            Err(Box::pin(prove::turn_away(caller, context, startup, stray)).await)
        }
    }
}

/// From elsewhere only those who prove that they belong there are told, when they are to be admitted.
fn check_enabled(route: &Route, stream: &Stream, context: &LoginContext) -> Result<(), PgError> {
    let reason = route.project.disabled.as_ref().filter(|_| stream.peer().is_local());
    reason.map_or(Ok(()), |reason| {
        Err(closed::to_new(&Unavailable::Disabled(reason.clone()), &route.project.name, &context.settings))
    })
}

/// PostgreSQL's words for its `authentication_timeout`.
fn too_slow(texts: ErrorTexts) -> PgError {
    texts.choose(Hosted::LoginTimeout, || PgError::fatal(SqlState::QUERY_CANCELED, "canceling authentication due to timeout"))
}

/// Why a login ends before its end.
#[derive(Debug)]
enum Stop {
    Gone,
    Lost(io::Error),
    Refused(PgError),
    /// No proof, told otherwise than as a wrong password.
    Unproven(PgError),
}

impl Stop {
    /// Whoever goes on so is guessing.
    fn is_failed_proof(&self) -> bool {
        match self {
            Self::Refused(error) => error.code == SqlState::INVALID_PASSWORD,
            Self::Unproven(_) => true,
            Self::Gone | Self::Lost(_) => false,
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Gone,
            _ => Self::Lost(error),
        }
    }
}

impl From<PgError> for Stop {
    fn from(error: PgError) -> Self {
        Self::Refused(error)
    }
}

impl Failure {
    fn lost(error: &io::Error) -> Self {
        Self { fault: Fault::Client, reason: error.to_string(), told: None }
    }
}

/// Tells the client why, and says goodbye. Whether it hears is its own matter.
async fn refuse(mut stream: Stream, error: PgError) -> Failure {
    let mut out = BytesMut::new();
    reply::error(&mut out, &error);
    if send(&mut stream, &out).await.is_ok() {
        let _ = stream.shutdown().await;
    }
    Failure { fault: Fault::Client, reason: error.to_string(), told: Some(error) }
}

async fn send(stream: &mut Stream, message: &[u8]) -> io::Result<()> {
    stream.write_all(message).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests;
