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
use tokio::task::coop::consume_budget;

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
        // Or whoever accepts all there are would have the thread for as long as clients come.
        consume_budget().await;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_who_come_at_once_do_not_keep_those_who_are_here_waiting() {
        const COME: usize = 300;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("socket");
        let acceptor = Acceptor::unix(UnixListener::bind(&path).unwrap()).unwrap();
        let connect = || std::os::unix::net::UnixStream::connect(&path).unwrap();
        let turns = Arc::new(AtomicUsize::new(0));
        let others = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                others.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let first = connect();
        acceptor.accept().await.unwrap();
        // The backlog of a listener of the standard library is 128 long or longer.
        let mut between = 0;
        for _ in 0..COME / 100 {
            let come: Vec<_> = (0..100).map(|_| connect()).collect();
            let before = turns.load(Ordering::Relaxed);
            for _ in &come {
                acceptor.accept().await.unwrap();
            }
            between += turns.load(Ordering::Relaxed) - before;
        }
        assert!(between > 0, "nobody else had a turn");
        other.abort();
        drop(first);
    }
}
