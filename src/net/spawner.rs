//! Where tasks run.

use std::future::Future;
#[cfg(target_os = "linux")]
use std::sync::Arc;

use futures_util::future::{AbortHandle, abortable};
use tokio::sync::oneshot;

#[cfg(target_os = "linux")]
use super::worker::{self, Shared};

/// Where the tasks run that have to do with clients and servers: on the one worker, whose sockets theirs are, or on tokio's.
#[derive(Clone, Debug, Default)]
pub struct Spawner(Place);

#[derive(Clone, Debug, Default)]
enum Place {
    #[cfg(target_os = "linux")]
    Worker(Arc<Shared>),
    /// The runtime of whoever spawns.
    #[default]
    Tokio,
}

impl Spawner {
    /// The worker that this thread is, or tokio's.
    pub fn current() -> Self {
        #[cfg(target_os = "linux")]
        if let Some(shared) = worker::current() {
            return Self(Place::Worker(shared));
        }
        Self::default()
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.0 {
            #[cfg(target_os = "linux")]
            Place::Worker(shared) => worker::spawn(shared, Box::pin(task)),
            Place::Tokio => drop(tokio::spawn(task)),
        }
    }
}

/// A task that can be ended.
#[derive(Debug)]
pub struct Stoppable {
    abort: AbortHandle,
    ended: oneshot::Receiver<()>,
}

impl Stoppable {
    /// On the worker that this thread is, or tokio's.
    pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        let (task, abort) = abortable(task);
        let (ends, ended) = oneshot::channel::<()>();
        Spawner::current().spawn(async move {
            let _ = task.await;
            drop(ends);
        });
        Self { abort, ended }
    }

    pub fn abort(&self) {
        self.abort.abort();
    }

    /// When it has ended, and let go of what it had.
    pub async fn ended(self) {
        let _ = self.ended.await;
    }
}
