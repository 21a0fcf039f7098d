//! A TCP or Unix stream socket, and who is at its other end.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
/// The addresses of a name, as the system knows them.
pub use tokio::net::lookup_host;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::coop::has_budget_remaining;

/// How a dead peer is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Silence before the first probe.
    pub keepalive_idle: Duration,
    pub keepalive_interval: Duration,
    /// Unanswered probes after which the peer is dead.
    pub keepalive_retries: u32,
    /// TCP_USER_TIMEOUT: how long sent bytes may stay unacknowledged, instead of the system's quarter of an hour.
    pub user_timeout: Option<Duration>,
}

impl TcpOptions {
    /// No user timeout: Linux counts a closed window as unacknowledged too, and would end a client that is alive but
    /// does not read (`psql` with a pager open).
    pub const CLIENT: Self = Self {
        keepalive_idle: Duration::from_secs(60),
        keepalive_interval: Duration::from_secs(15),
        keepalive_retries: 4,
        user_timeout: None,
    };
    /// A query on its way when the network went would hang for a quarter of an hour. Five minutes because a server that
    /// waits for a lock in the middle of a COPY closes its window, and is not dead.
    pub const UPSTREAM: Self = Self { user_timeout: Some(Duration::from_secs(300)), ..Self::CLIENT };
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// The process at the other end, where the system tells.
    Unix {
        pid: Option<i32>,
    },
}

impl Peer {
    /// Whether the peer is on this machine: over loopback or a Unix socket.
    pub fn is_local(self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{}", SocketAddr::new(address.ip().to_canonical(), address.port())),
            Self::Unix { pid: Some(pid) } => write!(f, "unix (pid {pid})"),
            Self::Unix { pid: None } => f.write_str("unix"),
        }
    }
}

/// One end of a connection, as it is kept for as long as that lasts: in 16 bytes, where a [`Peer`] has 32. An IPv4 address that
/// came as an IPv6 one is an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
    Unix { pid: Option<i32> },
}

impl From<Peer> for End {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Tcp(address) => address.into(),
            Peer::Unix { pid } => Self::Unix { pid },
        }
    }
}

impl From<SocketAddr> for End {
    fn from(address: SocketAddr) -> Self {
        match SocketAddr::new(address.ip().to_canonical(), address.port()) {
            SocketAddr::V4(address) => Self::V4(address),
            // As it came, with its scope.
            SocketAddr::V6(canonical) => Self::V6(Box::new(match address {
                SocketAddr::V6(address) => address,
                SocketAddr::V4(_) => canonical,
            })),
        }
    }
}

impl End {
    pub fn peer(&self) -> Peer {
        match self {
            Self::V4(address) => Peer::Tcp((*address).into()),
            Self::V6(address) => Peer::Tcp((**address).into()),
            Self::Unix { pid } => Peer::Unix { pid: *pid },
        }
    }
}

/// Without TLS; [`crate::net::stream::Stream`] is what the rest of the house holds.
#[derive(Debug)]
pub struct Socket {
    io: Io,
    peer: End,
    armed: Armed,
}

/// The task that the reactor will wake when there is something to read, by its waker's address; 0 for none.
///
/// As long as the reactor has seen nothing it holds that waker, so that the address is nobody else's, and asking it to hold
/// it again, as every poll that finds nothing does, is a hundred instructions for nothing: the relay polls both of its
/// sides whichever was heard.
///
/// Only where tasks and reactor share one thread. Elsewhere the reactor tells of an event and then takes the waker, and
/// between the two another thread may have used the event up and left the waker anew: it is always left again there.
#[derive(Debug)]
struct Armed(AtomicUsize);

impl Armed {
    const NEVER: usize = usize::MAX;

    /// In the runtime that this is called in.
    fn new() -> Self {
        let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        Self(AtomicUsize::new(if matches!(flavor, Ok(RuntimeFlavor::CurrentThread)) { 0 } else { Self::NEVER }))
    }

    fn is_for(&self, cx: &Context<'_>) -> bool {
        let task = cx.waker().data().addr();
        task != 0 && self.0.load(Ordering::Relaxed) == task
    }

    /// The reactor has been asked for an event, and has none to tell (`waits`), or has one. A task whose budget is used up is
    /// told to wait by tokio, which wakes it itself, before the reactor has been asked anything.
    ///
    /// ## (Nobody | Somebody) => (Nobody | Somebody)
    fn note(&self, cx: &Context<'_>, waits: bool) {
        self.set(if waits && has_budget_remaining() { cx.waker().data().addr() } else { 0 });
    }

    /// An event of the reactor's is being used up: it has let go of the waker.
    ///
    /// ## (Nobody | Somebody) => Nobody
    fn clear(&self) {
        self.set(0);
    }

    fn set(&self, task: usize) {
        if self.0.load(Ordering::Relaxed) != Self::NEVER {
            self.0.store(task, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same call on either kind of socket.
macro_rules! each {
    ($io:expr, $stream:ident => $call:expr) => {
        match $io {
            Io::Tcp($stream) => $call,
            Io::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// An accepted or connected TCP stream: sends at once, and notices a dead peer as `options` say.
    pub fn tcp(stream: TcpStream, peer: SocketAddr, options: &TcpOptions) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(options.keepalive_idle)
            .with_interval(options.keepalive_interval)
            .with_retries(options.keepalive_retries);
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(options.user_timeout)?;
        Ok(Self { io: Io::Tcp(stream), peer: peer.into(), armed: Armed::new() })
    }

    pub fn unix(stream: UnixStream) -> Self {
        let pid = stream.peer_cred().ok().and_then(|credentials| credentials.pid());
        Self { io: Io::Unix(stream), peer: End::Unix { pid }, armed: Armed::new() }
    }

    pub async fn connect_tcp(address: SocketAddr, options: &TcpOptions) -> io::Result<Self> {
        Self::tcp(TcpStream::connect(address).await?, address, options)
    }

    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self::unix)
    }

    /// The user that the process at the other end runs as: of a connection that we made over a Unix socket, the one that listens there.
    pub fn peer_user(&self) -> Option<u32> {
        match &self.io {
            Io::Tcp(_) => None,
            Io::Unix(stream) => Some(stream.peer_cred().ok()?.uid()),
        }
    }

    pub fn peer(&self) -> Peer {
        self.peer.peer()
    }

    /// Our own address, over TCP.
    pub fn local(&self) -> Option<SocketAddr> {
        match &self.io {
            Io::Tcp(stream) => stream.local_addr().ok(),
            Io::Unix(_) => None,
        }
    }

    /// As if it came from there.
    #[cfg(test)]
    pub(crate) fn with_peer(self, peer: Peer) -> Self {
        Self { peer: peer.into(), ..self }
    }

    /// Reads what is there into `room`; where there is nothing, the task is woken when there is, as by any read.
    ///
    /// In place of tokio's own read on the relay's path: a third of its instructions where there is something, and a sixth
    /// where there is not and the task is to be woken already. It takes nothing from tokio's budget for a task, so that who
    /// reads in a loop has to end it.
    pub(super) fn poll_recv<'a>(&self, cx: &mut Context<'_>, room: &'a mut [MaybeUninit<u8>]) -> Poll<io::Result<&'a [u8]>> {
        let capacity = room.len();
        let mut received = None;
        // It tells by `received`, and by its error only whether the reactor's event is done with.
        let _ = self.try_readable(|| match rustix::net::recv(self, room, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => {
                received = Some(Err(error.into()));
                Ok(())
            }
            Ok(((bytes, _), count)) => {
                received = Some(Ok(&*bytes));
                // A read that does not fill its room has taken everything, and the next would be in vain (epoll(7), questions
                // and answers).
                if (1..capacity).contains(&count) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            }
        });
        match received {
            Some(received) => Poll::Ready(received),
            None => self.poll_arm(cx).map(Err),
        }
    }

    /// Pending, and the task will be woken; or what is wrong with the reactor.
    fn poll_arm(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.armed.is_for(cx) {
            return Poll::Pending;
        }
        match self.poll_read_ready(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(())) => {
                // It came just now.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Ready once the reactor has seen bytes, the end or an error that no read has found since. No syscall, and wakes like a
    /// read that found nothing.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = each!(&self.io, stream => stream.poll_read_ready(cx));
        self.armed.note(cx, ready.is_pending());
        ready
    }

    /// Whether a read would find something now: bytes, the end, or an error.
    ///
    /// No syscall while the reactor has seen no event, and no waker: whoever waits on this socket goes on waiting.
    /// Otherwise one `recv` that takes nothing, since after a read that filled its buffer the event may be an old one.
    pub fn readable_now(&self) -> bool {
        let peek = || rustix::net::recv(self, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT).map_err(io::Error::from);
        let peeked = self.try_readable(peek);
        !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Tries if the reactor has seen an event, which it forgets where that would block.
    fn try_readable<T>(&self, attempt: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let attempt = || {
            self.armed.clear();
            attempt()
        };
        each!(&self.io, stream => stream.try_io(Interest::READABLE, attempt))
    }

    /// The same for a write, which nearly always finds room.
    fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        let send = || rustix::net::send(self, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).map_err(io::Error::from);
        each!(&self.io, stream => stream.try_io(Interest::WRITABLE, send))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(&self.io, stream => stream.as_fd())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        let read = each!(&mut socket.io, stream => Pin::new(stream).poll_read(cx, buf));
        socket.armed.note(cx, read.is_pending());
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        match socket.try_send(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return Poll::Ready(sent),
        }
        each!(&mut socket.io, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        each!(&mut self.get_mut().io, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(&self.io, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut self.get_mut().io, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut self.get_mut().io, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn tcp_pair(options: &TcpOptions) -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        (Socket::tcp(accepted, peer, options).unwrap(), client)
    }

    #[test]
    fn who_is_local() {
        for (address, local) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("[::ffff:10.0.0.1]:1", false),
            ("192.168.1.1:1", false),
            ("[::]:1", false),
        ] {
            assert_eq!(Peer::Tcp(address.parse().unwrap()).is_local(), local, "{address}");
        }
        assert!(Peer::Unix { pid: None }.is_local());
        assert_eq!(Peer::Tcp("[::ffff:10.0.0.1]:5".parse().unwrap()).to_string(), "10.0.0.1:5");
    }

    #[test]
    fn an_end_is_small_and_the_peer_it_was_made_of() {
        assert_eq!(size_of::<End>(), 16);
        for (address, shown) in
            [("127.0.0.1:1", "127.0.0.1:1"), ("[::ffff:10.0.0.1]:5", "10.0.0.1:5"), ("[fe80::1%3]:7", "[fe80::1]:7")]
        {
            let peer = Peer::Tcp(address.parse().unwrap());
            let kept = End::from(peer).peer();
            assert_eq!((kept.is_local(), kept.to_string()), (peer.is_local(), peer.to_string()));
            assert_eq!(kept.to_string(), shown);
        }
        assert_eq!(End::from(Peer::Tcp("[fe80::1%3]:7".parse().unwrap())).peer(), Peer::Tcp("[fe80::1%3]:7".parse().unwrap()));
        assert_eq!(End::from(Peer::Unix { pid: Some(7) }).peer(), Peer::Unix { pid: Some(7) });
    }

    #[tokio::test]
    async fn tcp_sockets_get_their_options() {
        for options in [TcpOptions::CLIENT, TcpOptions::UPSTREAM] {
            let (socket, _client) = tcp_pair(&options).await;
            let raw = SockRef::from(&socket);
            assert!(raw.tcp_nodelay().unwrap() && raw.keepalive().unwrap());
            assert_eq!(raw.tcp_keepalive_time().unwrap(), options.keepalive_idle);
            #[cfg(target_os = "linux")]
            assert_eq!(raw.tcp_user_timeout().unwrap(), options.user_timeout);
        }
    }

    #[tokio::test]
    async fn readable_now_sees_bytes_and_the_end_and_nothing_else() {
        let (mut socket, mut client) = tcp_pair(&TcpOptions::CLIENT).await;
        assert!(!socket.readable_now());
        client.write_all(b"ab").await.unwrap();
        let Io::Tcp(tcp) = &socket.io else { panic!("not TCP") };
        tcp.readable().await.unwrap();
        assert!(socket.readable_now());
        assert!(socket.readable_now(), "looking takes nothing");
        // A read that fills its buffer leaves the reactor's event standing; the peek knows better.
        let mut two = [0; 2];
        socket.read_exact(&mut two).await.unwrap();
        assert!(!socket.readable_now());
        drop(client);
        let Io::Tcp(tcp) = &socket.io else { panic!("not TCP") };
        tcp.readable().await.unwrap();
        assert!(socket.readable_now());
    }

    /// One look from the task that calls it.
    async fn look(socket: &Socket) -> Option<Vec<u8>> {
        std::future::poll_fn(|cx| {
            let mut room = [MaybeUninit::uninit(); 4];
            Poll::Ready(match socket.poll_recv(cx, &mut room) {
                Poll::Pending => None,
                Poll::Ready(received) => Some(received.unwrap().to_vec()),
            })
        })
        .await
    }

    async fn recv(socket: &Socket) -> Vec<u8> {
        std::future::poll_fn(|cx| {
            let mut room = [MaybeUninit::uninit(); 4];
            socket.poll_recv(cx, &mut room).map(|received| received.unwrap().to_vec())
        })
        .await
    }

    #[tokio::test]
    async fn what_is_there_is_received_piece_by_piece_and_then_the_end() {
        let (socket, mut client) = tcp_pair(&TcpOptions::CLIENT).await;
        for _ in 0..2 {
            assert_eq!(look(&socket).await, None);
            client.write_all(b"abcdef").await.unwrap();
            assert_eq!(recv(&socket).await, b"abcd", "as much as there is room for");
            assert_eq!(look(&socket).await.as_deref(), Some(&b"ef"[..]), "and the rest without waiting");
            assert_eq!(look(&socket).await, None);
        }
        drop(client);
        assert_eq!(recv(&socket).await, b"");
        assert_eq!(look(&socket).await.as_deref(), Some(&b""[..]), "which stays the end");
    }

    #[tokio::test]
    async fn whoever_looked_last_is_woken() {
        let (socket, mut client) = tcp_pair(&TcpOptions::CLIENT).await;
        let socket = Arc::new(socket);
        for round in 0..3 {
            // Another task looked, and more than once, and is gone; tokio may give its room to the next.
            let theirs = Arc::clone(&socket);
            let looked = tokio::spawn(async move { (look(&theirs).await, look(&theirs).await) });
            assert_eq!(looked.await.unwrap(), (None, None));
            let mine = Arc::clone(&socket);
            let waits = tokio::spawn(async move { recv(&mine).await });
            tokio::task::yield_now().await;
            client.write_all(&[round]).await.unwrap();
            assert_eq!(waits.await.unwrap(), [round]);
            // The event was heard by another way of looking.
            client.write_all(b"x").await.unwrap();
            while !socket.readable_now() {
                tokio::task::yield_now().await;
            }
            assert_eq!(recv(&socket).await, b"x");
            assert!(!socket.readable_now());
        }
    }

    #[tokio::test]
    async fn whoever_looked_when_its_budget_was_used_up_is_woken_all_the_same() {
        let (socket, mut client) = tcp_pair(&TcpOptions::CLIENT).await;
        let (looked, has_looked) = tokio::sync::oneshot::channel();
        let waits = tokio::spawn(async move {
            while has_budget_remaining() {
                tokio::task::coop::consume_budget().await;
            }
            assert_eq!(look(&socket).await, None);
            tokio::task::yield_now().await;
            assert_eq!(look(&socket).await, None);
            looked.send(()).unwrap();
            recv(&socket).await
        });
        has_looked.await.unwrap();
        client.write_all(b"a").await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(20), waits).await;
        assert_eq!(heard.expect("it is woken").unwrap(), b"a");
    }

    /// The window between an event's being told and its waker's being taken is too short for a test to hit (not in 600 000
    /// rounds), so that what closes it is asserted by itself.
    #[test]
    fn threads_that_share_a_reactor_leave_their_waker_every_time() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let (socket, mut client) = tcp_pair(&TcpOptions::CLIENT).await;
            let waits = std::future::poll_fn(|cx| {
                let mut room = [MaybeUninit::uninit(); 4];
                assert!(socket.poll_recv(cx, &mut room).is_pending());
                Poll::Ready(socket.armed.is_for(cx))
            });
            assert!(!waits.await);
            client.write_all(b"a").await.unwrap();
            assert_eq!(recv(&socket).await, b"a");
        });
    }
}
