//! A TCP or Unix stream socket.

use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
/// The addresses of a name, as the system knows them.
pub use tokio::net::lookup_host;
use tokio::net::{TcpStream, UnixStream};

pub use super::peer::{End, Peer};
use super::watch::{Watch, poll_turn};
use crate::hint::rare;

/// A write of more bytes than this is one of a stream's, behind which the next may find no room again.
const LONE_WRITE_BYTES_MAX: usize = 4096;
const NOW: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

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

    /// And that it sends at once.
    pub(super) fn set_on(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive_idle)
            .with_interval(self.keepalive_interval)
            .with_retries(self.keepalive_retries);
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(self.user_timeout)?;
        Ok(())
    }
}

/// Without TLS; [`crate::net::stream::Stream`] is what the rest of the house holds.
#[derive(Debug)]
pub struct Socket {
    io: Io,
    peer: End,
}

/// What the reactor has been asked to tell.
///
/// tokio's own streams ask for reading and writing. A Unix socket becomes writable with every message that its peer takes, so
/// that the process woke once more in each transaction to learn it (three sleeps for one, where few clients are; over TCP
/// the system tells only those who found no room).
#[derive(Debug)]
enum Io {
    /// What comes. Nearly every write finds room, and needs no reactor.
    Reads(Watch<OwnedFd>),
    /// What comes, and room: a write found none.
    Both(Watch<OwnedFd>),
    /// The reactor did not take it back: an error from now on, for whoever reads or writes.
    Closed,
}

impl Io {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        Watch::new(fd, Interest::READABLE).map(Self::Reads)
    }

    fn watched(&self) -> io::Result<&Watch<OwnedFd>> {
        match self {
            Self::Reads(fd) | Self::Both(fd) => Ok(fd),
            Self::Closed => {
                rare();
                Err(io::ErrorKind::NotConnected.into())
            }
        }
    }

    /// Takes it from the reactor and gives it back with another wish, by which tokio's forgets whom to wake.
    ///
    /// ## Reads => (Both | Closed)
    /// ## Both => (Reads | Closed)
    fn ask(&mut self, interest: Interest) -> io::Result<()> {
        let (Self::Reads(fd) | Self::Both(fd)) = mem::replace(self, Self::Closed) else { return Ok(()) };
        let fd = fd.ask(interest)?;
        *self = if interest.is_writable() { Self::Both(fd) } else { Self::Reads(fd) };
        Ok(())
    }
}

impl Socket {
    /// An accepted or connected TCP stream: sends at once, and notices a dead peer as `options` say.
    ///
    /// # Errors
    /// The system refused an option, as it does for a connection that is gone; or the reactor will not have the socket.
    pub fn tcp(stream: std::net::TcpStream, peer: SocketAddr, options: &TcpOptions) -> io::Result<Self> {
        options.set_on(&SockRef::from(&stream))?;
        Self::accepted(stream, peer)
    }

    /// One that has its options from the socket that listened.
    pub(super) fn accepted(stream: std::net::TcpStream, peer: SocketAddr) -> io::Result<Self> {
        Ok(Self { io: Io::new(stream.into())?, peer: peer.into() })
    }

    /// # Errors
    /// The reactor will not have it.
    pub fn unix(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        let pid = credentials(stream.as_fd()).and_then(|known| known.pid);
        Ok(Self { io: Io::new(stream.into())?, peer: End::Unix { pid } })
    }

    pub async fn connect_tcp(address: SocketAddr, options: &TcpOptions) -> io::Result<Self> {
        Self::tcp(TcpStream::connect(address).await?.into_std()?, address, options)
    }

    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        Self::unix(UnixStream::connect(path).await?.into_std()?)
    }

    /// The user that the process at the other end runs as: of a connection that we made over a Unix socket, the one that listens there.
    pub fn peer_user(&self) -> Option<u32> {
        match self.peer {
            End::Unix { .. } => Some(credentials(self.fd().ok()?)?.uid),
            End::V4(_) | End::V6(_) => None,
        }
    }

    pub fn peer(&self) -> Peer {
        self.peer.peer()
    }

    /// Our own address, over TCP.
    pub fn local(&self) -> Option<SocketAddr> {
        SockRef::from(&self.fd().ok()?).local_addr().ok()?.as_socket()
    }

    /// As if it came from there.
    #[cfg(test)]
    pub(crate) fn with_peer(self, peer: Peer) -> Self {
        Self { peer: peer.into(), ..self }
    }

    /// Reads what is there into `room`; where there is nothing, the task is woken when there is, as by any read.
    ///
    /// For the relay, in place of a read by tokio's traits: a third of its instructions where there is something, and a sixth
    /// where there is not and the task is to be woken already. It takes nothing from the budget of a task, so that who
    /// reads in a loop has to end it.
    pub(super) fn poll_recv<'a>(&self, cx: &mut Context<'_>, room: &'a mut [MaybeUninit<u8>]) -> Poll<io::Result<&'a [u8]>> {
        let capacity = room.len();
        let mut received = None;
        let io = self.io.watched()?;
        io.try_read(|fd| match rustix::net::recv(fd, room, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => true,
            Err(error) => {
                rare();
                received = Some(Err(error.into()));
                false
            }
            Ok(((bytes, _), count)) => {
                received = Some(Ok(&*bytes));
                is_all(count, capacity)
            }
        });
        match received {
            Some(received) => Poll::Ready(received),
            None => self.poll_arm(cx).map(Err),
        }
    }

    /// Pending, and the task will be woken; or what is wrong with the reactor.
    fn poll_arm(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
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
        self.io.watched()?.poll_read_ready(cx)
    }

    /// The reactor has seen nothing that was not read, and will wake the task when it does.
    #[inline]
    pub(super) fn will_wake(&self, cx: &mut Context<'_>) -> bool {
        self.io.watched().is_ok_and(|io| io.will_wake(cx))
    }

    /// Whether a read would find something now: bytes, the end, or an error.
    ///
    /// No syscall while the reactor has seen no event, and no waker: whoever waits on this socket goes on waiting.
    /// Otherwise one `recv` that takes nothing, since after a read that filled its buffer the event may be an old one.
    pub fn readable_now(&self) -> bool {
        let Ok(io) = self.io.watched() else { return true };
        let mut is_readable = false;
        io.try_read(|fd| match rustix::net::recv(fd, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => true,
            _ => {
                is_readable = true;
                false
            }
        });
        is_readable
    }

    /// Sends what there is room for: how much.
    pub(super) fn send_now(&self, bytes: &[u8]) -> usize {
        match &self.io {
            Io::Reads(fd) => rustix::net::send(fd.get(), bytes, NOW).unwrap_or(0),
            Io::Both(_) | Io::Closed => 0,
        }
    }

    /// Sends some of `length` bytes, now or when there is room.
    ///
    /// ## (Reads | Both) => (Reads | Both)
    fn poll_send<S>(&mut self, cx: &mut Context<'_>, length: usize, send: S) -> Poll<io::Result<usize>>
    where
        S: Fn(&OwnedFd, SendFlags) -> Result<usize, Errno>,
    {
        if let Io::Reads(fd) = &self.io {
            match send(fd.get(), NOW) {
                Err(Errno::AGAIN) => self.ask(cx, Interest::READABLE | Interest::WRITABLE)?,
                sent => return Poll::Ready(sent.map_err(io::Error::from)),
            }
        }
        let sent = loop {
            let fd = self.io.watched()?;
            ready!(fd.poll_write_ready(cx))?;
            let mut sent = Err(Errno::AGAIN);
            fd.try_write(|fd| {
                sent = send(fd, NOW);
                sent == Err(Errno::AGAIN)
            });
            match sent {
                Err(Errno::AGAIN) => {}
                sent => break sent?,
            }
        };
        if sent == length && length <= LONE_WRITE_BYTES_MAX {
            self.ask(cx, Interest::READABLE)?;
        }
        Poll::Ready(Ok(sent))
    }

    fn ask(&mut self, cx: &Context<'_>, interest: Interest) -> io::Result<()> {
        // Whoever waits to read is the task that writes, and polls both sides again.
        cx.waker().wake_by_ref();
        self.io.ask(interest)
    }

    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.io.watched().map(|fd| fd.get().as_fd())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(poll_turn(cx));
        let room = buf.initialize_unfilled();
        let count = loop {
            ready!(self.poll_read_ready(cx))?;
            let mut received = Err(Errno::AGAIN);
            self.io.watched()?.try_read(|fd| {
                received = rustix::net::recv(fd, &mut *room, RecvFlags::DONTWAIT).map(|(_, count)| count);
                received.map_or_else(|error| error == Errno::AGAIN, |count| is_all(count, room.len()))
            });
            match received {
                Err(Errno::AGAIN) => {}
                received => break received?,
            }
        };
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, buf.len(), |fd, flags| rustix::net::send(fd, buf, flags))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        self.get_mut()
            .poll_send(cx, length, |fd, flags| rustix::net::sendmsg(fd, bufs, &mut SendAncillaryBuffer::default(), flags))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match rustix::net::shutdown(self.fd()?, Shutdown::Write) {
            // The peer was first.
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }
}

/// A read that does not fill its room has taken everything, and the next would be in vain (epoll(7), questions and answers).
fn is_all(count: usize, capacity: usize) -> bool {
    (1..capacity).contains(&count)
}

/// Of the process at the other end of a Unix socket, where the system tells.
struct Credentials {
    pid: Option<i32>,
    uid: u32,
}

#[cfg(target_os = "linux")]
fn credentials(fd: BorrowedFd<'_>) -> Option<Credentials> {
    let known = rustix::net::sockopt::socket_peercred(fd).ok()?;
    Some(Credentials { pid: Some(known.pid.as_raw_nonzero().get()), uid: known.uid.as_raw() })
}

/// Every system has a way of its own, and tokio knows them.
#[cfg(not(target_os = "linux"))]
fn credentials(fd: BorrowedFd<'_>) -> Option<Credentials> {
    let copy = std::os::unix::net::UnixStream::from(fd.try_clone_to_owned().ok()?);
    copy.set_nonblocking(true).ok()?;
    let known = UnixStream::from_std(copy).ok()?.peer_cred().ok()?;
    Some(Credentials { pid: known.pid(), uid: known.uid() })
}

#[cfg(test)]
mod tests;
