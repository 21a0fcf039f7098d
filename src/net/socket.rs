//! A TCP or Unix stream socket, and who is at its other end.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::RecvFlags;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

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

/// Without TLS; [`crate::net::stream::Stream`] is what the rest of the house holds.
#[derive(Debug)]
pub struct Socket {
    io: Io,
    peer: Peer,
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
        Ok(Self { io: Io::Tcp(stream), peer: Peer::Tcp(peer) })
    }

    pub fn unix(stream: UnixStream) -> Self {
        let pid = stream.peer_cred().ok().and_then(|credentials| credentials.pid());
        Self { io: Io::Unix(stream), peer: Peer::Unix { pid } }
    }

    pub async fn connect_tcp(address: SocketAddr, options: &TcpOptions) -> io::Result<Self> {
        Self::tcp(TcpStream::connect(address).await?, address, options)
    }

    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self::unix)
    }

    pub fn peer(&self) -> Peer {
        self.peer
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
        Self { peer, ..self }
    }

    /// Ready once the reactor has seen bytes, the end or an error that no read has found since. No syscall, and wakes like a
    /// read that found nothing.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&self.io, stream => stream.poll_read_ready(cx))
    }

    /// Whether a read would find something now: bytes, the end, or an error.
    ///
    /// No syscall while the reactor has seen no event, and no waker: whoever waits on this socket goes on waiting.
    /// Otherwise one `recv` that takes nothing, since after a read that filled its buffer the event may be an old one.
    pub fn readable_now(&self) -> bool {
        let peek = || rustix::net::recv(self, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT).map_err(io::Error::from);
        let peeked = each!(&self.io, stream => stream.try_io(Interest::READABLE, peek));
        !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(&self.io, stream => stream.as_fd())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(&mut self.get_mut().io, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(&mut self.get_mut().io, stream => Pin::new(stream).poll_write(cx, buf))
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
}
