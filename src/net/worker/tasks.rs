//! The tasks of a worker, by their numbers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::shared::Shared;
use super::with;

pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Number 0 is the future that the worker is there for, and not kept here.
///
/// A number has its waker for ever: by the address of a waker a socket knows whom it is to wake. A task that has the number of
/// one that is gone may be woken for that one, which every task has to bear.
pub(super) struct Tasks {
    seats: Vec<Seat>,
    free: Vec<u32>,
    shared: Arc<Shared>,
}

struct Seat {
    task: Option<Task>,
    waker: Waker,
}

impl Tasks {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let mut tasks = Self { seats: Vec::new(), free: Vec::new(), shared: Arc::clone(shared) };
        tasks.add_seat();
        tasks
    }

    pub(super) fn waker(&self, number: u32) -> &Waker {
        &self.seats[number as usize].waker
    }

    /// A new task's number.
    pub(super) fn seat(&mut self, task: Task) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| self.add_seat());
        self.seats[number as usize].task = Some(task);
        number
    }

    /// If there is such a task. What panics ends alone; the panic's own message is on standard error by then.
    pub(super) fn poll(&mut self, number: u32) {
        let seat = &mut self.seats[number as usize];
        let Some(task) = &mut seat.task else { return };
        let mut cx = Context::from_waker(&seat.waker);
        if let Ok(Poll::Pending) = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut cx))) {
            return;
        }
        let task = seat.task.take();
        self.free.push(number);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
    }

    fn add_seat(&mut self) -> u32 {
        // As many as there are memory for are fewer.
        let number = u32::try_from(self.seats.len()).unwrap_or(u32::MAX);
        let waker = Waker::from(Arc::new(Bell { number, shared: Arc::clone(&self.shared) }));
        self.seats.push(Seat { task: None, waker });
        number
    }
}

/// Wakes the task of a number.
struct Bell {
    number: u32,
    shared: Arc<Shared>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if with(&self.shared, |local| local.wake(self.number)).is_none() {
            self.shared.wake(self.number);
        }
    }
}
