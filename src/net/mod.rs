//! Sockets, TLS, and the one stream type that both sides of the pooler speak through.

pub mod acceptor;
pub mod dev_cert;
mod peer;
pub mod socket;
pub mod spawner;
pub mod stream;
pub mod tls;
mod watch;
#[cfg(target_os = "linux")]
pub mod worker;

use crate::telemetry::Moment;

/// The time, for what is measured in every transaction: on a worker that polls its sockets it is read once in a turn, and is that
/// turn's beginning for all of its tasks (at most 64 of them; PgBouncer's cached time). Elsewhere it is read.
#[inline]
pub fn turn_time() -> Moment {
    #[cfg(target_os = "linux")]
    if let Some(now) = worker::turn_time() {
        return now;
    }
    Moment::now()
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use tokio::sync::oneshot;

    use super::spawner::Spawner;

    /// On a runtime of tokio's, and on a worker.
    pub(super) fn everywhere(test: impl AsyncFn()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
        #[cfg(target_os = "linux")]
        super::worker::tests::on_worker(test());
    }

    /// Where the caller is.
    pub(super) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> oneshot::Receiver<T> {
        let (ends, ended) = oneshot::channel();
        Spawner::current().spawn(async move {
            let _ = ends.send(task.await);
        });
        ended
    }
}
