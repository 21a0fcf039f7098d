//! What a worker has for itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::Waker;

use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use slab::Slab;

use super::NOW;
use super::seen::Seen;
use super::shared::Shared;
use super::tasks::{Task, Tasks};
use crate::hint::rare;
use crate::telemetry::Moment;

/// Sockets that are heard of by one syscall.
const EVENTS: usize = 256;
/// The number of the bell, among those of sockets.
const BELL: u64 = u64::MAX;
/// What a task may read, or accept, before others have their turn.
const BUDGET: u32 = 128;

pub(super) struct Local {
    pub(super) shared: Arc<Shared>,
    woken: RefCell<Woken>,
    /// Spawned, and without a number yet.
    tasks: RefCell<Vec<Task>>,
    epoll: OwnedFd,
    sockets: RefCell<Slab<Arc<Seen>>>,
    events: RefCell<Vec<epoll::Event>>,
    running: Cell<Running>,
    budget: Cell<u32>,
    /// When this turn began, once somebody has asked.
    now: Cell<Option<Moment>>,
}

/// The task that runs: the address of its waker, and its number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Running {
    pub(super) waker: usize,
    pub(super) number: u32,
}

/// In the order in which they were, and each once.
#[derive(Default)]
struct Woken {
    queue: VecDeque<u32>,
    is_queued: Vec<bool>,
}

impl Local {
    pub(super) fn new() -> io::Result<Self> {
        let shared = Shared::new()?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &shared.bell, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        Ok(Self {
            shared,
            woken: RefCell::default(),
            tasks: RefCell::default(),
            epoll,
            sockets: RefCell::default(),
            events: RefCell::new(Vec::with_capacity(EVENTS)),
            running: Cell::default(),
            budget: Cell::default(),
            now: Cell::default(),
        })
    }

    pub(super) fn wake(&self, task: u32) {
        self.woken.borrow_mut().push(task);
    }

    pub(super) fn next(&self) -> Option<u32> {
        self.woken.borrow_mut().pop()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.woken.borrow().queue.is_empty()
    }

    /// A task is about to run.
    pub(super) fn begin(&self, number: u32, waker: &Waker) {
        self.running.set(Running { waker: waker.data().addr(), number });
        self.budget.set(BUDGET);
    }

    pub(super) fn running(&self) -> Running {
        self.running.get()
    }

    /// Whether the task that runs may go on; or it has had its turn.
    pub(super) fn may_go_on(&self) -> bool {
        let left = self.budget.get();
        self.budget.set(left.saturating_sub(1));
        left > 0
    }

    pub(super) fn now(&self) -> Moment {
        self.now.get().unwrap_or_else(|| {
            let now = Moment::now();
            self.now.set(Some(now));
            now
        })
    }

    pub(super) fn spawn(&self, task: Task) {
        self.tasks.borrow_mut().push(task);
    }

    /// What was spawned here gets its numbers, and runs.
    pub(super) fn seat(&self, tasks: &mut Tasks) {
        if self.tasks.borrow().is_empty() {
            return;
        }
        rare();
        // Nothing is spawned meanwhile.
        for task in self.tasks.borrow_mut().drain(..) {
            self.wake(tasks.seat(task));
        }
    }

    /// What other threads have said.
    pub(super) fn hear(&self, tasks: &mut Tasks) {
        let Some(incoming) = self.shared.take() else { return };
        rare();
        incoming.woken.into_iter().for_each(|task| self.wake(task));
        incoming.tasks.into_iter().for_each(|task| self.wake(tasks.seat(task)));
        incoming.closed.into_iter().for_each(|socket| self.forget(socket));
    }

    /// Waits until a socket has something, for as long as `timeout`, and wakes those who are to be.
    pub(super) fn wait(&self, timeout: Option<&Timespec>) -> io::Result<()> {
        let mut events = self.events.borrow_mut();
        events.clear();
        let timeout = if timeout.is_none() && self.shared.falls_asleep() { None } else { Some(timeout.unwrap_or(&NOW)) };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if timeout.is_none() {
            self.shared.wakes_up();
        }
        self.now.set(None);
        // Woken behind the loop, for what a stranger's waker does is not known.
        let mut others = Vec::new();
        let sockets = self.sockets.borrow();
        for event in events.iter() {
            let number = event.data.u64();
            // What is not there was closed since.
            if number != BELL
                && let Some(seen) = usize::try_from(number).ok().and_then(|number| sockets.get(number))
            {
                seen.note(event.flags, |task| self.wake(task), &mut others);
            }
        }
        drop((sockets, events));
        if !others.is_empty() {
            rare();
            others.into_iter().for_each(Waker::wake);
        }
        Ok(())
    }

    /// Its number among the sockets.
    pub(super) fn watch(&self, fd: impl AsFd, flags: epoll::EventFlags, seen: &Arc<Seen>) -> io::Result<usize> {
        let mut sockets = self.sockets.borrow_mut();
        let entry = sockets.vacant_entry();
        let number = entry.key();
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(number as u64), flags)?;
        entry.insert(Arc::clone(seen));
        Ok(number)
    }

    pub(super) fn change(&self, fd: impl AsFd, number: usize, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(number as u64), flags)?)
    }

    /// Of one that others have too: what is closed here alone, the system forgets by itself.
    pub(super) fn unwatch(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    #[cfg(test)]
    pub(super) fn watched(&self) -> usize {
        self.sockets.borrow().len()
    }

    pub(super) fn forget(&self, number: usize) {
        self.sockets.borrow_mut().try_remove(number);
    }
}

impl Woken {
    fn push(&mut self, task: u32) {
        let at = task as usize;
        if at >= self.is_queued.len() {
            self.is_queued.resize(at + 1, false);
        }
        if !std::mem::replace(&mut self.is_queued[at], true) {
            self.queue.push_back(task);
        }
    }

    fn pop(&mut self) -> Option<u32> {
        let task = self.queue.pop_front()?;
        self.is_queued[task as usize] = false;
        Some(task)
    }
}
