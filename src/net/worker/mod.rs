//! A thread that serves clients: it polls their sockets and runs their tasks by itself.
//!
//! tokio serves as many threads as one likes, and its way from an event to a task is made for that: of 29 locked instructions
//! of a transaction 24 were its own, and 1 900 of 4 620 instructions. Here an event of a socket is a task's number in a
//! queue, and whom a socket wakes is said once, and not for every wait. Timers, names, signals and what blocks are tokio's
//! as before, on a thread beside; so is all where there are several workers, or another system than Linux.
//!
//! Which worker a thread is, is known by the thread, as tokio's runtime is: sockets are made in many places.

mod local;
mod seen;
mod shared;
mod tasks;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::event::Timespec;
use tokio::runtime::Handle;

use crate::telemetry::Moment;
use local::Local;
pub(super) use seen::Own;
pub(super) use shared::Shared;
use tasks::{Task, Tasks};

/// Tasks that run before sockets are looked at again.
const TURN_TASKS: usize = 64;
/// The future that a worker is there for.
const ROOT: u32 = 0;
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

thread_local! {
    /// The worker that this thread is.
    static LOCAL: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

/// Runs `future` to its end on this thread, and with it all that is spawned here. What is left then is dropped. Timers are those of
/// `runtime`, which has a thread of its own.
///
/// # Errors
/// The system gives no epoll, or it failed.
pub fn run<F: Future>(runtime: &Handle, future: F) -> io::Result<F::Output> {
    let _entered = runtime.enter();
    let local = Rc::new(Local::new()?);
    let _installed = Installed::new(&local);
    let mut tasks = Tasks::new(&local.shared);
    let mut future = pin!(future);
    local.wake(ROOT);
    loop {
        for _ in 0..TURN_TASKS {
            let Some(number) = local.next() else { break };
            local.begin(number, tasks.waker(number));
            if number != ROOT {
                tasks.poll(number);
            } else if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(tasks.waker(ROOT))) {
                return Ok(value);
            }
            local.seat(&mut tasks);
        }
        local.hear(&mut tasks);
        local.wait((!local.is_idle()).then_some(&NOW))?;
    }
}

/// The worker that this thread is.
pub(super) fn current() -> Option<Arc<Shared>> {
    with_local(|local| Arc::clone(&local.shared))
}

/// Runs `task` on that worker.
pub(super) fn spawn(worker: &Arc<Shared>, task: Task) {
    let mut task = Some(task);
    with(worker, |local| task.take().into_iter().for_each(|task| local.spawn(task)));
    task.into_iter().for_each(|task| worker.spawn(task));
}

/// Whether the task that runs has some of its turn left, of which this is a part.
pub(super) fn may_go_on() -> bool {
    with_local(|local| local.may_go_on()).unwrap_or(true)
}

/// The time, read once in a turn of the worker that this thread is; `None`: it is none.
pub(super) fn turn_time() -> Option<Moment> {
    with_local(|local| local.now())
}

/// Calls `f` with the worker that this thread is, if it is one.
fn with_local<T>(f: impl FnOnce(&Rc<Local>) -> T) -> Option<T> {
    // Not there: the thread ends.
    LOCAL.try_with(|local| local.borrow().as_ref().map(f)).ok().flatten()
}

/// Calls `f` with `worker`, if this thread is it.
fn with<T>(worker: &Arc<Shared>, f: impl FnOnce(&Rc<Local>) -> T) -> Option<T> {
    with_local(|local| Arc::ptr_eq(&local.shared, worker).then(|| f(local))).flatten()
}

/// The worker is this thread's until this is dropped.
struct Installed(Option<Rc<Local>>);

impl Installed {
    fn new(local: &Rc<Local>) -> Self {
        Self(LOCAL.with(|current| current.replace(Some(Rc::clone(local)))))
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let before = self.0.take();
        LOCAL.with(|current| current.replace(before));
    }
}

#[cfg(test)]
pub(super) mod tests;
