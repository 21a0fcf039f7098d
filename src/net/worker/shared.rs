//! What other threads have for a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;

use super::tasks::Task;

pub(in crate::net) struct Shared {
    incoming: Mutex<Incoming>,
    has_incoming: AtomicBool,
    /// The worker waits for its sockets, or is about to.
    is_asleep: AtomicBool,
    /// What it hears in its sleep.
    pub(super) bell: OwnedFd,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("bell", &self.bell).finish_non_exhaustive()
    }
}

#[derive(Default)]
pub(super) struct Incoming {
    pub(super) woken: Vec<u32>,
    pub(super) tasks: Vec<Task>,
    /// Sockets that were closed elsewhere.
    pub(super) closed: Vec<usize>,
}

impl Shared {
    pub(super) fn new() -> std::io::Result<Arc<Self>> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Self { incoming: Mutex::default(), has_incoming: false.into(), is_asleep: false.into(), bell }))
    }

    pub(super) fn wake(&self, task: u32) {
        self.tell(|incoming| incoming.woken.push(task));
    }

    pub(super) fn spawn(&self, task: Task) {
        self.tell(|incoming| incoming.tasks.push(task));
    }

    pub(super) fn closed(&self, socket: usize) {
        self.tell(|incoming| incoming.closed.push(socket));
    }

    fn tell(&self, add: impl FnOnce(&mut Incoming)) {
        add(&mut self.incoming.lock());
        self.has_incoming.store(true, Ordering::SeqCst);
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            // It is heard whatever it counts: the watch is for each write (EPOLLET), and never read.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// Of the worker alone. `None`: nothing.
    pub(super) fn take(&self) -> Option<Incoming> {
        if !self.has_incoming.load(Ordering::Acquire) {
            return None;
        }
        let mut incoming = self.incoming.lock();
        self.has_incoming.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut *incoming))
    }

    /// Whether the worker may sleep: whoever has something for it from now on rings.
    pub(super) fn falls_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::SeqCst);
        let may = !self.has_incoming.load(Ordering::SeqCst);
        if !may {
            self.wakes_up();
        }
        may
    }

    pub(super) fn wakes_up(&self) {
        self.is_asleep.store(false, Ordering::Relaxed);
    }
}
