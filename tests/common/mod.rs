//! What the integration tests share: a PostgreSQL, a Sidepool in front of it, and clients for both.

// Every test binary compiles all of this and uses a part.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod endpoint;
mod frame;
mod postgres;
mod proxy;
mod reply;
mod scene;
mod scram;
mod sidepool;
mod tls;
pub mod wire;

pub use endpoint::Endpoint;
pub use postgres::{Plan, Postgres};
pub use proxy::Proxy;
pub use scene::{resident_kib, unnamed};
pub use sidepool::{Ended, Sidepool};
pub use tls::Certificates;

use std::time::Duration;

/// Whatever takes longer than this does not come at all. (Machines that run the tests may be slow; nothing waits this out when
/// all is well.)
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits a condition that nobody announces.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let awaited = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, awaited).await.is_err() {
        panic!("waited {PATIENCE:?} in vain until {what}");
    }
}

/// All of them at the same time; their values in the order of the futures.
pub async fn at_once<F>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let tasks: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
    let mut values = Vec::with_capacity(tasks.len());
    for task in tasks {
        values.push(task.await.expect("none of them panics"));
    }
    values
}
