//! Sockets that clients connect to.

use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::socket::{Socket, TcpOptions};
use super::watch;

/// A listening socket that the reactor watches.
///
/// The system's own, since tokio's hand out streams that are registered with the reactor for writing too, and to register
/// them otherwise would be two syscalls more for each client.
#[derive(Debug)]
pub enum Acceptor {
    Tcp(AsyncFd<TcpListener>, TcpOptions),
    Unix(AsyncFd<UnixListener>),
}

impl Acceptor {
    /// Whoever connects is noticed as `options` say when he is gone. On Linux an accepted socket has the options of the one
    /// that listened: to set them again was six of the syscalls of a new connection.
    ///
    /// # Errors
    /// The system refused an option, or the reactor will not have it.
    pub fn tcp(listener: TcpListener, options: TcpOptions) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        options.set_on(&SockRef::from(&listener))?;
        watch(listener, Interest::READABLE).map(|listener| Self::Tcp(listener, options))
    }

    /// # Errors
    /// The same.
    pub fn unix(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        watch(listener, Interest::READABLE).map(Self::Unix)
    }

    /// The next connection. Safe to cancel: none is lost.
    ///
    /// # Errors
    /// Those of accept(2), of which some are the connection's, and those of setting the options.
    pub async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener, options) => {
                let (stream, peer) = poll_fn(|cx| poll_accept(listener, cx, TcpListener::accept)).await?;
                if cfg!(target_os = "linux") { Socket::accepted(stream, peer) } else { Socket::tcp(stream, peer, options) }
            }
            Self::Unix(listener) => Socket::unix(poll_fn(|cx| poll_accept(listener, cx, UnixListener::accept)).await?.0),
        }
    }
}

/// With the one reader that the reactor keeps for each socket, in place of tokio's list of those who wait: half of its instructions.
fn poll_accept<L, T>(listener: &AsyncFd<L>, cx: &mut Context<'_>, accept: fn(&L) -> io::Result<T>) -> Poll<io::Result<T>>
where
    L: AsRawFd,
{
    loop {
        match listener.try_io(Interest::READABLE, accept) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => drop(ready!(listener.poll_read_ready(cx))?),
            accepted => return Poll::Ready(accepted),
        }
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener, _) => listener.get_ref().as_fd(),
            Self::Unix(listener) => listener.get_ref().as_fd(),
        }
    }
}
