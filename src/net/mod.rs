//! Sockets, TLS, and the one stream type that both sides of the pooler speak through.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub mod acceptor;
pub mod dev_cert;
mod peer;
pub mod socket;
pub mod stream;
pub mod tls;

/// Has the reactor of this runtime tell what `socket` is ready for.
#[expect(deprecated, reason = "what replaces it is unsafe, for types whose descriptor changes; one that is lent (AsFd) does not")]
fn watch<T: AsFd + AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, interest)
}
