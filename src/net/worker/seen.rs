//! A socket that a worker watches, and what it has seen of it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use rustix::event::epoll::EventFlags;
use tokio::io::Interest;

use super::local::Running;
use super::shared::Shared;
use super::{with, with_local};
use crate::hint::rare;

const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
/// The peer has closed its side: there is always something to read, namely the end.
const ENDED: u8 = 4;
/// Nothing more can be written, which a write will tell.
const BROKEN: u8 = 8;

const NOBODY: u32 = u32::MAX;

/// Who waits, for what.
#[derive(Clone, Copy)]
enum Waiter {
    Reader = 0,
    Writer = 1,
}

/// What the worker's thread alone touches: plain loads and stores, though of atomics, for a socket may be dropped anywhere.
///
/// One line of the cache, with the counts of its [`Arc`].
#[derive(Debug)]
pub(super) struct Seen {
    /// The tasks that are woken by each event, by the addresses of their wakers and by their numbers. They stay when they were woken:
    /// it is the same ones the next time.
    wakers: [AtomicUsize; 2],
    tasks: [AtomicU32; 2],
    events: AtomicU8,
    has_others: AtomicBool,
    /// Who has a waker of its own within a task. Each is woken once, by any event.
    others: Mutex<Option<Box<Others>>>,
}

#[derive(Debug, Default)]
struct Others(Vec<Waker>);

const _: () = assert!(size_of::<Seen>() + 2 * size_of::<usize>() <= 64);

/// A socket of the worker that this thread is.
pub(in crate::net) struct Own<T> {
    socket: T,
    seen: Arc<Seen>,
    number: usize,
    shared: Arc<Shared>,
}

impl<T: AsFd> Own<T> {
    /// The socket comes back where this thread is no worker.
    pub(in crate::net) fn new(socket: T, interest: Interest) -> Result<io::Result<Self>, T> {
        let mut socket = Some(socket);
        let made = with_local(|local| {
            let socket = socket.take().ok_or(io::ErrorKind::NotConnected)?;
            let seen = Arc::new(Seen::default());
            let number = local.watch(&socket, flags(interest), &seen)?;
            Ok(Self { socket, seen, number, shared: Arc::clone(&local.shared) })
        });
        match (made, socket) {
            (None, Some(socket)) => Err(socket),
            (made, _) => Ok(made.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))),
        }
    }

    pub(in crate::net) fn get(&self) -> &T {
        &self.socket
    }

    pub(in crate::net) fn ask(&self, interest: Interest) -> io::Result<()> {
        self.seen.clear(WRITABLE);
        with(&self.shared, |local| local.change(&self.socket, self.number, flags(interest))).unwrap_or_else(|| Err(elsewhere()))
    }

    /// Reads, if there may be something: whether it was tried. `attempt` says whether it took all.
    #[inline]
    pub(in crate::net) fn try_read(&self, attempt: impl FnOnce(&T) -> bool) -> bool {
        let is_tried = self.has_event();
        if is_tried && attempt(&self.socket) {
            self.seen.clear(READABLE);
        }
        is_tried
    }

    #[inline]
    pub(in crate::net) fn has_event(&self) -> bool {
        self.seen.has(READABLE | ENDED)
    }

    /// The task has said that it is to be woken, at some time.
    #[inline]
    pub(in crate::net) fn is_reader(&self, cx: &Context<'_>) -> bool {
        self.seen.is(Waiter::Reader, cx)
    }

    pub(in crate::net) fn poll_read_ready(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.has_event() {
            return Poll::Ready(Ok(()));
        }
        self.arm(Waiter::Reader, cx)
    }

    pub(in crate::net) fn poll_write_ready(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.seen.has(WRITABLE | BROKEN) {
            return Poll::Ready(Ok(()));
        }
        self.arm(Waiter::Writer, cx)
    }

    /// The same for writing: whether there was no room.
    pub(in crate::net) fn try_write(&self, attempt: impl FnOnce(&T) -> bool) {
        if self.seen.has(WRITABLE | BROKEN) && attempt(&self.socket) {
            self.seen.clear(WRITABLE);
        }
    }

    /// Of a socket that other processes have as well.
    pub(in crate::net) fn unwatch(&self) {
        with(&self.shared, |local| local.unwatch(&self.socket));
    }

    fn arm(&self, waiter: Waiter, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.seen.is(waiter, cx) {
            return Poll::Pending;
        }
        let armed = with(&self.shared, |local| {
            let running = local.running();
            match running.waker == cx.waker().data().addr() {
                true => self.seen.set(waiter, running),
                false => self.seen.tell_too(cx.waker()),
            }
        });
        armed.map_or_else(|| Poll::Ready(Err(elsewhere())), |()| Poll::Pending)
    }
}

/// It is polled where nobody would be woken. Nothing of ours does that.
fn elsewhere() -> io::Error {
    io::Error::other("the socket is another worker's")
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        if with(&self.shared, |local| local.forget(self.number)).is_none() {
            self.shared.closed(self.number);
        }
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Own<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").field("socket", &self.socket).field("number", &self.number).finish_non_exhaustive()
    }
}

impl Seen {
    /// ## (events) => (events, and these)
    pub(super) fn note(&self, flags: EventFlags, mut wake: impl FnMut(u32), others: &mut Vec<Waker>) {
        let events = if flags == EventFlags::IN { READABLE } else { events_of(flags) };
        self.events.store(self.events.load(Relaxed) | events, Relaxed);
        if events & (READABLE | ENDED) != 0 {
            self.wake(Waiter::Reader, &mut wake);
        }
        if events & (WRITABLE | BROKEN) != 0 {
            rare();
            self.wake(Waiter::Writer, &mut wake);
        }
        if self.has_others.load(Relaxed) {
            rare();
            self.has_others.store(false, Relaxed);
            self.others.lock().iter_mut().for_each(|waiting| others.append(&mut waiting.0));
        }
    }

    #[inline]
    fn is(&self, waiter: Waiter, cx: &Context<'_>) -> bool {
        let waker = cx.waker().data().addr();
        waker != 0 && self.wakers[waiter as usize].load(Relaxed) == waker
    }

    /// ## (anybody) => this one
    fn set(&self, waiter: Waiter, task: Running) {
        self.wakers[waiter as usize].store(task.waker, Relaxed);
        self.tasks[waiter as usize].store(task.number, Relaxed);
    }

    #[inline]
    fn wake(&self, waiter: Waiter, wake: &mut impl FnMut(u32)) {
        let task = self.tasks[waiter as usize].load(Relaxed);
        if task != NOBODY {
            wake(task);
        }
    }

    fn tell_too(&self, waker: &Waker) {
        let mut others = self.others.lock();
        let Others(others) = &mut **others.get_or_insert_default();
        if !others.iter().any(|other| other.will_wake(waker)) {
            others.push(waker.clone());
        }
        self.has_others.store(true, Relaxed);
    }

    fn has(&self, events: u8) -> bool {
        self.events.load(Relaxed) & events != 0
    }

    fn clear(&self, events: u8) {
        self.events.store(self.events.load(Relaxed) & !events, Relaxed);
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            wakers: Default::default(),
            tasks: [AtomicU32::new(NOBODY), AtomicU32::new(NOBODY)],
            events: AtomicU8::new(0),
            has_others: AtomicBool::new(false),
            others: Mutex::default(),
        }
    }
}

/// An error is told once, by a read or a write; what has ended stays so.
#[cold]
fn events_of(flags: EventFlags) -> u8 {
    let seen = |any: EventFlags, event: u8| if flags.intersects(any) { event } else { 0 };
    seen(EventFlags::IN | EventFlags::ERR, READABLE)
        | seen(EventFlags::OUT | EventFlags::ERR, WRITABLE)
        | seen(EventFlags::RDHUP | EventFlags::HUP, ENDED)
        | seen(EventFlags::HUP, BROKEN)
}

/// Each event is told once (EPOLLET).
fn flags(interest: Interest) -> EventFlags {
    let mut flags = EventFlags::ET | EventFlags::RDHUP;
    if interest.is_readable() {
        flags |= EventFlags::IN;
    }
    if interest.is_writable() {
        flags |= EventFlags::OUT;
    }
    flags
}
