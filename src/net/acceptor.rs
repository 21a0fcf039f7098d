//! Sockets that clients connect to.

use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::task::coop::consume_budget;

use super::socket::{Socket, TcpOptions};
use super::watch::{Watch, poll_turn};

/// A listening socket that the reactor watches.
///
/// The system's own, since tokio's hand out streams that are registered with the reactor for writing too, and to register
/// them otherwise would be two syscalls more for each client.
#[derive(Debug)]
pub struct Acceptor(Listens);

#[derive(Debug)]
enum Listens {
    Tcp(Watch<TcpListener>, TcpOptions),
    Unix(Watch<UnixListener>),
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
        Watch::new(listener, Interest::READABLE).map(|listener| Self(Listens::Tcp(listener, options)))
    }

    /// # Errors
    /// The same.
    pub fn unix(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Watch::new(listener, Interest::READABLE).map(|listener| Self(Listens::Unix(listener)))
    }

    /// The next connection. Safe to cancel: none is lost.
    ///
    /// # Errors
    /// Those of accept(2), of which some are the connection's, and those of setting the options.
    pub async fn accept(&self) -> io::Result<Socket> {
        // Or whoever accepts all there are would have the thread for as long as clients come.
        consume_budget().await;
        poll_fn(|cx| poll_turn(cx)).await;
        match &self.0 {
            Listens::Tcp(listener, options) => {
                let (stream, peer) = poll_fn(|cx| poll_accept(listener, cx, TcpListener::accept)).await?;
                if cfg!(target_os = "linux") { Socket::accepted(stream, peer) } else { Socket::tcp(stream, peer, options) }
            }
            Listens::Unix(listener) => Socket::unix(poll_fn(|cx| poll_accept(listener, cx, UnixListener::accept)).await?.0),
        }
    }
}

/// With the one reader that a socket has, in place of tokio's list of those who wait: half of its instructions.
fn poll_accept<L, T>(listener: &Watch<L>, cx: &mut Context<'_>, accept: fn(&L) -> io::Result<T>) -> Poll<io::Result<T>>
where
    L: AsFd + AsRawFd,
{
    loop {
        let mut accepted = None;
        listener.try_read(|listener| match accept(listener) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            done => {
                accepted = Some(done);
                false
            }
        });
        match accepted {
            Some(accepted) => return Poll::Ready(accepted),
            None => ready!(listener.poll_read_ready(cx))?,
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // Another process may go on listening.
        match &self.0 {
            Listens::Tcp(listener, _) => listener.unwatch(),
            Listens::Unix(listener) => listener.unwatch(),
        }
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Listens::Tcp(listener, _) => listener.get().as_fd(),
            Listens::Unix(listener) => listener.get().as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::net::spawner::Stoppable;
    use crate::net::tests::everywhere;

    #[test]
    fn many_who_come_at_once_do_not_keep_those_who_are_here_waiting() {
        everywhere(async || {
            const COME: usize = 300;
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("socket");
            let acceptor = Acceptor::unix(UnixListener::bind(&path).unwrap()).unwrap();
            let connect = || std::os::unix::net::UnixStream::connect(&path).unwrap();
            let turns = Arc::new(AtomicUsize::new(0));
            let others = Arc::clone(&turns);
            let other = Stoppable::spawn(async move {
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
            other.ended().await;
            drop(first);
        });
    }
}
