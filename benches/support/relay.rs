//! The floor: a relay of Sidepool's shape that understands nothing.
//!
//! One thread, one task for each client, one server of a fixed pool for each transaction, given back when as many
//! ReadyForQuery have come as were asked for and the last one says idle. No login, no settings, no names, no cancel, no
//! timeouts: what Sidepool costs more than this is what its understanding costs. `benches/run.py` measures the two in turn.
//!
//!     relay 127.0.0.1:6543 /run/postgresql/.s.PGSQL.5432 postgres 20

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};

const READ_BYTES: usize = 16 * 1024;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, socket, user, size] = &arguments[..] else {
        return Err(io::Error::other("usage: relay ADDRESS:PORT SERVER_SOCKET USER POOL_SIZE"));
    };
    let pool = Arc::new(Pool::default());
    let mut greeting = Vec::new();
    for _ in 0..size.parse().map_err(io::Error::other)? {
        let (server, said) = log_in(socket, user).await?;
        pool.release(server);
        greeting = said;
    }
    let (listener, greeting) = (TcpListener::bind(address).await?, Arc::new(greeting));
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let (pool, greeting) = (Arc::clone(&pool), Arc::clone(&greeting));
        tokio::spawn(async move {
            // How it ended is of no interest.
            let _ = serve(client, &pool, &greeting).await;
        });
    }
}

/// A server that lets this user in without a password, and all it said to that.
async fn log_in(socket: &str, user: &str) -> io::Result<(UnixStream, Vec<u8>)> {
    let mut server = UnixStream::connect(socket).await?;
    let body = [b"\0\x03\0\0user\0", user.as_bytes(), b"\0database\0postgres\0\0"].concat();
    server.write_all(&[&length(body.len() + 4)[..], &body].concat()).await?;
    let (mut said, mut scanner, mut replies) = (Vec::new(), Scanner::default(), Replies::owing(1));
    while !replies.is_done() {
        let start = said.len();
        if server.read_buf(&mut said).await? == 0 {
            return Err(io::Error::other(String::from_utf8_lossy(&said).into_owned()));
        }
        scanner.scan(&said[start..], |tag, first| replies.note(tag, first));
    }
    Ok((server, said))
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(0).to_be_bytes()
}

async fn serve(mut client: TcpStream, pool: &Pool, greeting: &[u8]) -> io::Result<()> {
    loop {
        let bytes = client.read_u32().await?;
        let code = client.read_u32().await?;
        let mut rest = Vec::new();
        (&mut client).take(u64::from(bytes.saturating_sub(8).min(10_000))).read_to_end(&mut rest).await?;
        if code != SSL_REQUEST && code != GSS_REQUEST {
            break;
        }
        client.write_all(b"N").await?;
    }
    client.write_all(greeting).await?;
    let place = Arc::new(Mutex::new(Place::Unused));
    let mut relay =
        Relay { client, server: None, requests: Scanner::default(), replies: Scanner::default(), owed: Replies::owing(0) };
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    std::future::poll_fn(|cx| relay.poll(pool, &place, &mut to_server, &mut to_client, cx)).await
}

struct Relay {
    client: TcpStream,
    server: Option<UnixStream>,
    requests: Scanner,
    replies: Scanner,
    owed: Replies,
}

impl Relay {
    fn poll(
        &mut self,
        pool: &Pool,
        place: &Arc<Mutex<Place>>,
        to_server: &mut Vec<u8>,
        to_client: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            if self.server.is_none() && !to_server.is_empty() {
                self.server = take(place);
            }
            if let Some(server) = &mut self.server {
                send(server, to_server, &[], cx)?;
            }
            send(&mut self.client, to_client, &[], cx)?;
            let mut more = false;
            if let (Some(server), true) = (&mut self.server, to_client.is_empty()) {
                let mut buf = ReadBuf::uninit(&mut room);
                if let Poll::Ready(read) = Pin::new(server).poll_read(cx, &mut buf) {
                    read?;
                    let bytes = buf.filled();
                    if bytes.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    self.replies.scan(bytes, |tag, first| self.owed.note(tag, first));
                    if self.owed.is_done()
                        && let Some(server) = self.server.take()
                    {
                        pool.release(server);
                    }
                    send(&mut self.client, to_client, bytes, cx)?;
                    more = true;
                }
            }
            // A client that waits in the queue is not read: it has asked already.
            if to_server.is_empty() {
                let mut buf = ReadBuf::uninit(&mut room);
                if let Poll::Ready(read) = Pin::new(&mut self.client).poll_read(cx, &mut buf) {
                    read?;
                    let bytes = buf.filled();
                    let mut leaves = bytes.is_empty();
                    self.requests.scan(bytes, |tag, _| match tag {
                        b'Q' | b'S' | b'F' => self.owed.expect_one(),
                        b'X' => leaves = true,
                        _ => {}
                    });
                    if leaves {
                        return Poll::Ready(Ok(()));
                    }
                    if self.server.is_none() {
                        self.server = pool.lease(place, cx.waker());
                    }
                    match &mut self.server {
                        Some(server) => send(server, to_server, bytes, cx)?,
                        None => to_server.extend_from_slice(bytes),
                    }
                    more = true;
                }
            }
            if !more {
                return Poll::Pending;
            }
        }
    }
}

/// Sends what waits and then `direct`; what the socket does not take waits.
fn send(to: &mut (impl AsyncWrite + Unpin), waiting: &mut Vec<u8>, direct: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
    let mut sent = 0;
    while sent < waiting.len() {
        match Pin::new(&mut *to).poll_write(cx, &waiting[sent..])? {
            Poll::Ready(taken) => sent += taken,
            Poll::Pending => break,
        }
    }
    waiting.drain(..sent);
    let mut rest = direct;
    while waiting.is_empty() && !rest.is_empty() {
        match Pin::new(&mut *to).poll_write(cx, rest)? {
            Poll::Ready(taken) => rest = &rest[taken..],
            Poll::Pending => break,
        }
    }
    waiting.extend_from_slice(rest);
    Ok(())
}

/// ReadyForQuery that are to come, and what the last one said.
struct Replies {
    owed: u64,
    status: u8,
}

impl Replies {
    fn owing(owed: u64) -> Self {
        Self { owed, status: b'I' }
    }

    fn expect_one(&mut self) {
        self.owed += 1;
    }

    fn note(&mut self, tag: u8, first: u8) {
        if tag == b'Z' {
            (self.owed, self.status) = (self.owed.saturating_sub(1), first);
        }
    }

    fn is_done(&self) -> bool {
        self.owed == 0 && self.status == b'I'
    }
}

/// Walks messages by their headers, over chunks of any size.
#[derive(Default)]
struct Scanner {
    header: [u8; 5],
    filled: usize,
    /// Of the body, still to come.
    body: usize,
    is_first: bool,
}

impl Scanner {
    /// The tag of each message, with the first byte of its body (0 where it has none).
    fn scan(&mut self, mut bytes: &[u8], mut note: impl FnMut(u8, u8)) {
        while !bytes.is_empty() {
            if self.body > 0 {
                if std::mem::take(&mut self.is_first) {
                    note(self.header[0], bytes[0]);
                }
                let taken = self.body.min(bytes.len());
                self.body -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = (5 - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == 5 {
                let [tag, size @ ..] = self.header;
                self.filled = 0;
                self.body = (u32::from_be_bytes(size) as usize).saturating_sub(4);
                self.is_first = self.body > 0;
                if self.body == 0 {
                    note(tag, 0);
                }
            }
        }
    }
}

#[derive(Default)]
struct Pool(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    idle: Vec<UnixStream>,
    waiters: VecDeque<Arc<Mutex<Place>>>,
}

/// ## Unused => Waiting => Served => Unused
enum Place {
    Unused,
    Waiting(Waker),
    Served(UnixStream),
}

impl Pool {
    /// A server, or a place in the queue.
    fn lease(&self, place: &Arc<Mutex<Place>>, waker: &Waker) -> Option<UnixStream> {
        let mut queue = self.0.lock();
        if queue.waiters.is_empty()
            && let Some(server) = queue.idle.pop()
        {
            return Some(server);
        }
        *place.lock() = Place::Waiting(waker.clone());
        queue.waiters.push_back(Arc::clone(place));
        None
    }

    fn release(&self, server: UnixStream) {
        let mut queue = self.0.lock();
        while let Some(place) = queue.waiters.pop_front() {
            // One that went while it waited holds its place alone no more.
            if Arc::strong_count(&place) > 1 {
                let before = std::mem::replace(&mut *place.lock(), Place::Served(server));
                if let Place::Waiting(waker) = before {
                    waker.wake();
                }
                return;
            }
        }
        queue.idle.push(server);
    }
}

fn take(place: &Mutex<Place>) -> Option<UnixStream> {
    let mut place = place.lock();
    match std::mem::replace(&mut *place, Place::Unused) {
        Place::Served(server) => Some(server),
        other => {
            *place = other;
            None
        }
    }
}
