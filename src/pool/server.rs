//! One server connection, and what others need to know of it while it is leased.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::Terms;
use super::budget::Permit;
use super::generation::Counted;
use super::outbox::Outbox;
use super::roster::Entered;
use crate::net::socket::Peer;
use crate::net::stream::{Stream, TlsFacts};
use crate::telemetry::{Account, Moment};
use crate::upstream::BackendKey;
use crate::wire::exchange::{Broken, Catalog, ClientSide, ServerSide};

/// Read at once while draining, in bytes.
const DRAINED_BYTES: usize = 16 * 1024;
/// What an idle server sends of its own accord is small; one that says more is closed, in bytes.
const IDLE_NEWS_BYTES: usize = 4096;

/// A connection to PostgreSQL, logged in. Exactly one place owns it: the pool while it is idle, a session while leased,
/// a recovery while it is brought back.
///
/// In this order in memory: what each transaction touches, besides the exchange, is together.
#[derive(Debug)]
#[repr(C)]
pub struct Server {
    pub handle: Arc<ServerHandle>,
    /// What its clients and it have turned over.
    pub account: Account,
    pub(super) leases: u64,
    pub(super) leased_at: Moment,
    pub(super) idle_since: Moment,
    pub(super) checked_at: Moment,
    pub(super) retires_at: Option<Moment>,
    /// Bytes to the server that it has not taken yet.
    pub out: Outbox,
    /// A message of the server's that has not come in full.
    pub input: Vec<u8>,
    pub stream: Stream,
    pub side: ServerSide,
    /// NOTICEs of the start-up, for the session that is told of it first.
    pub notices: Vec<Bytes>,
    /// Startup parameters it was opened with (session mode): a client gets a server only with its own.
    pub startup: StartupKey,
    pub(super) opened_at: Moment,
    pub(super) counted: Counted,
    _entered: Entered,
    _permit: Permit,
}

/// The startup parameters of a session-mode server, as the client sent them.
pub type StartupKey = Arc<[(String, String)]>;

/// What others need to know of a server while somebody holds it.
///
/// In this order in memory: what changes with each lease is on one line of the cache.
#[derive(Debug)]
#[repr(C)]
pub struct ServerHandle {
    pub id: u64,
    /// The session that holds it; 0 for none, with [`PREPARING`] while its settings are being set.
    holder: AtomicU64,
    cancels: AtomicUsize,
    /// Prepared statements on it, as of its last release.
    pub(super) statements: AtomicUsize,
    /// The session that was told its process id; 0 for none.
    pub(super) home_of: AtomicU64,
    cancels_done: Notify,
    pub key: BackendKey,
    /// What it was opened by: cancels go to where that was.
    pub(super) terms: Arc<Terms>,
    pub facts: ServerFacts,
}

/// In the holder: the server runs the pooler's own statements for the session, which no cancel may hit (trap 38).
const PREPARING: u64 = 1 << 63;

impl ServerHandle {
    pub(super) fn new(id: u64, key: BackendKey, terms: Arc<Terms>, facts: ServerFacts) -> Self {
        Self {
            id,
            key,
            terms,
            facts,
            statements: AtomicUsize::new(0),
            holder: AtomicU64::new(0),
            home_of: AtomicU64::new(0),
            cancels: AtomicUsize::new(0),
            cancels_done: Notify::new(),
        }
    }

    /// The session that holds it.
    pub fn holder(&self) -> Option<u64> {
        Some(self.holder.load(Ordering::SeqCst) & !PREPARING).filter(|session| *session != 0)
    }

    /// Prepared statements on it, as of its last release.
    pub fn prepared_statements(&self) -> usize {
        self.statements.load(Ordering::Relaxed)
    }

    /// It waits for a cancel request that was aimed at its last client.
    pub fn is_being_canceled(&self) -> bool {
        self.holder().is_none() && self.cancels.load(Ordering::SeqCst) > 0
    }

    pub(super) fn is_nobodys_home(&self) -> bool {
        self.home_of.load(Ordering::Relaxed) == 0
    }

    /// A cancel that does not see it yet came before it.
    pub fn lease_to(&self, session: u64) {
        self.holder.store(session, Ordering::Release);
    }

    /// Leased, but the pooler's own statements come first.
    pub fn prepare_for(&self, session: u64) {
        self.holder.store(session | PREPARING, Ordering::SeqCst);
    }

    /// Announces a cancel of what `session` runs here.
    ///
    /// Count first, then look: whoever releases clears the holder first and looks at the count then, so one of the two
    /// sees the other (trap 36).
    pub fn begin_cancel(self: &Arc<Self>, session: u64) -> Aim {
        self.cancels.fetch_add(1, Ordering::SeqCst);
        let in_flight = CancelInFlight(Arc::clone(self));
        match self.holder.load(Ordering::SeqCst) {
            holder if holder == session => Aim::Hit(in_flight),
            holder if holder == session | PREPARING => Aim::Preparing,
            _ => Aim::Missed,
        }
    }

    /// Ends the lease; whether cancels aimed at it are still on their way.
    pub(super) fn end_lease(&self) -> bool {
        self.holder.store(0, Ordering::SeqCst);
        self.cancels.load(Ordering::SeqCst) > 0
    }

    pub(super) async fn cancels_landed(&self) {
        loop {
            let done = self.cancels_done.notified();
            if self.cancels.load(Ordering::SeqCst) == 0 {
                return;
            }
            done.await;
        }
    }
}

/// Where a cancel would go.
#[derive(Debug)]
pub enum Aim {
    Hit(CancelInFlight),
    /// Not yet: its own statement has not begun.
    Preparing,
    /// The server is not that session's any more.
    Missed,
}

/// While this lives, the server is given to nobody else.
#[derive(Debug)]
pub struct CancelInFlight(Arc<ServerHandle>);

impl Drop for CancelInFlight {
    fn drop(&mut self) {
        if self.0.cancels.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.cancels_done.notify_waiters();
        }
    }
}

/// Why a server connection ended.
#[derive(Debug)]
pub enum Lost {
    Closed,
    Io(std::io::Error),
    Broken(Broken),
}

/// What does not change as long as it is open.
#[derive(Debug)]
pub struct ServerFacts {
    pub opened_at: SystemTime,
    pub peer: Peer,
    pub local: Option<SocketAddr>,
    pub tls: Option<TlsFacts>,
    /// The pool's when its login began: see [`Pool::reconnect`](super::Pool::reconnect).
    pub(super) generation: u64,
}

impl Server {
    #[expect(clippy::too_many_arguments, reason = "built in one place")]
    pub(super) fn new(
        handle: Arc<ServerHandle>,
        stream: Stream,
        side: ServerSide,
        notices: Vec<Bytes>,
        startup: StartupKey,
        now: Moment,
        lifetime: Option<Duration>,
        counted: Counted,
        account: Account,
        entered: Entered,
        permit: Permit,
    ) -> Self {
        Self {
            handle,
            stream,
            side,
            out: Outbox::default(),
            input: Vec::new(),
            notices,
            startup,
            opened_at: now,
            idle_since: now,
            leased_at: now,
            checked_at: now,
            retires_at: lifetime.map(|l| now + l),
            leases: 0,
            counted,
            account,
            _entered: entered,
            _permit: permit,
        }
    }

    /// Since when its client has it.
    pub fn leased_at(&self) -> Moment {
        self.leased_at
    }

    /// Nobody has used it before.
    pub fn is_unused(&self) -> bool {
        self.leases == 0
    }

    pub(super) fn is_past(&self, now: Moment) -> bool {
        self.retires_at.is_some_and(|at| at <= now)
    }

    /// Hears what it said while nobody held it; `false` when it is gone or about to go (trap 9). Costs no syscall where
    /// the reactor has seen nothing.
    #[inline]
    pub(super) fn hear_idle(&mut self, catalog: &Catalog) -> bool {
        if self.stream.readable_now() { self.hear_news(catalog) } else { true }
    }

    #[cold]
    fn hear_news(&mut self, catalog: &Catalog) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut room = [0; IDLE_NEWS_BYTES];
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut self.stream).poll_read(&mut cx, &mut buf) {
                Poll::Pending => return true,
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => self.input.extend_from_slice(buf.filled()),
                Poll::Ready(_) => return false,
            }
            match self.side.turn_idle(catalog, &self.input) {
                Ok(taken) => _ = self.input.drain(..taken),
                Err(_) => return false,
            }
            if self.input.len() > IDLE_NEWS_BYTES {
                return false;
            }
            if !self.stream.readable_now() {
                return true;
            }
        }
    }

    /// Asks for a sign of life.
    pub(super) async fn is_alive(&mut self, catalog: &Arc<Catalog>) -> bool {
        let mut nobody = ClientSide::nobody(Arc::clone(catalog), Arc::clone(self.side.params()));
        self.side.check(self.out.buffer());
        self.drain(&mut nobody).await.is_ok()
    }

    /// Sends what is to be sent and takes replies until none is owed; nobody sees them.
    ///
    /// # Errors
    /// The connection is not to be used again.
    pub async fn drain(&mut self, client: &mut ClientSide) -> Result<(), Lost> {
        poll_fn(|cx| self.poll_drain(client, cx)).await
    }

    fn poll_drain(&mut self, client: &mut ClientSide, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let mut nobody = Vec::new();
        loop {
            if let Poll::Ready(Err(error)) = self.out.poll_send(&mut self.stream, cx) {
                return Poll::Ready(Err(Lost::Io(error)));
            }
            if self.out.is_empty() && self.side.has_answered() && self.input.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut room = [MaybeUninit::uninit(); DRAINED_BYTES];
            let mut buf = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)).map_err(Lost::Io)?;
            if buf.filled().is_empty() {
                return Poll::Ready(Err(Lost::Closed));
            }
            self.input.extend_from_slice(buf.filled());
            let turn = self.side.turn(client, &self.input, &mut nobody).map_err(Lost::Broken)?;
            self.input.drain(..turn.consumed);
            nobody.clear();
        }
    }

    /// Says goodbye without waiting, so that PostgreSQL logs no broken connection.
    pub fn close(mut self: Box<Self>) {
        if self.out.is_empty() && self.side.is_settled() {
            let mut cx = Context::from_waker(Waker::noop());
            let stream = Pin::new(&mut self.stream);
            let _ = stream.poll_write(&mut cx, b"X\0\0\0\x04");
            let _ = Pin::new(&mut self.stream).poll_shutdown(&mut cx);
        }
    }
}
