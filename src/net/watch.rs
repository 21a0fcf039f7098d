//! What a socket is ready for, as told by the worker that this thread is, or by tokio's reactor.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

#[cfg(target_os = "linux")]
use super::worker::{self, Own};

#[derive(Debug)]
pub(super) enum Watch<T: AsFd + AsRawFd> {
    #[cfg(target_os = "linux")]
    Own(Own<T>),
    Tokio(AsyncFd<T>),
}

impl<T: AsFd + AsRawFd> Watch<T> {
    pub(super) fn new(socket: T, interest: Interest) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let socket = match Own::new(socket, interest) {
            Ok(own) => return own.map(Self::Own),
            Err(socket) => socket,
        };
        by_tokio(socket, interest).map(Self::Tokio)
    }

    pub(super) fn get(&self) -> &T {
        match self {
            #[cfg(target_os = "linux")]
            Self::Own(own) => own.get(),
            Self::Tokio(fd) => fd.get_ref(),
        }
    }

    /// The same with another wish.
    pub(super) fn ask(self, interest: Interest) -> io::Result<Self> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Own(own) => {
                own.ask(interest)?;
                Ok(Self::Own(own))
            }
            Self::Tokio(fd) => by_tokio(fd.into_inner(), interest).map(Self::Tokio),
        }
    }

    /// Reads, if an event was seen that no read has used up: whether it was tried. `attempt` says whether it took all there was.
    #[inline]
    pub(super) fn try_read(&self, attempt: impl FnOnce(&T) -> bool) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Own(own) => own.try_read(attempt),
            Self::Tokio(fd) => try_by_tokio(fd, Interest::READABLE, attempt),
        }
    }

    /// The same for writing: whether `attempt` found no room. It is tried within, so that where threads share a reactor an event that
    /// comes behind the attempt is not taken for the one before it.
    pub(super) fn try_write(&self, attempt: impl FnOnce(&T) -> bool) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Own(own) => own.try_write(attempt),
            Self::Tokio(fd) => _ = try_by_tokio(fd, Interest::WRITABLE, attempt),
        }
    }

    /// Nothing has come, and the task will be woken by what does.
    #[inline]
    pub(super) fn will_wake(&self, cx: &mut Context<'_>) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Own(own) if own.is_reader(cx) => !own.has_event(),
            _ => self.is_armed(cx),
        }
    }

    /// By the way that arms it.
    #[inline(never)]
    fn is_armed(&self, cx: &mut Context<'_>) -> bool {
        self.poll_read_ready(cx).is_pending()
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Own(own) => own.poll_read_ready(cx),
            Self::Tokio(fd) => fd.poll_read_ready(cx).map_ok(|_| ()),
        }
    }

    /// Ready once there is room, or nothing can be sent any more.
    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Own(own) => own.poll_write_ready(cx),
            Self::Tokio(fd) => fd.poll_write_ready(cx).map_ok(|_| ()),
        }
    }

    /// For one that other processes have too: it would be told of for ever.
    pub(super) fn unwatch(&self) {
        #[cfg(target_os = "linux")]
        if let Self::Own(own) = self {
            own.unwatch();
        }
    }
}

/// Whether the task that runs may read, or accept, once more before others have their turn; it is woken for the next. tokio counts
/// this for its own tasks by itself.
pub(super) fn poll_turn(cx: &Context<'_>) -> Poll<()> {
    #[cfg(target_os = "linux")]
    if !worker::may_go_on() {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    let _ = cx;
    Poll::Ready(())
}

/// `attempt` says whether the event is used up.
#[inline(never)]
fn try_by_tokio<T: AsRawFd>(fd: &AsyncFd<T>, interest: Interest, attempt: impl FnOnce(&T) -> bool) -> bool {
    let mut is_tried = false;
    // Its error says only whether the event is done with, and owns nothing: to find that out costs twenty instructions.
    mem::forget(fd.try_io(interest, |fd| {
        is_tried = true;
        if attempt(fd) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }));
    is_tried
}

#[expect(deprecated, reason = "what replaces it is unsafe, for types whose descriptor changes; one that is lent (AsFd) does not")]
fn by_tokio<T: AsFd + AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, interest)
}
