//! The order of going down.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Running;
use crate::session::{House, Stop};

/// How often the drain looks whether the last client has gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For last words and rollbacks after clients were told to go at once.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: let transactions finish.
    Drain,
    /// SIGINT: now.
    Stop,
}

/// Signals as they come. The second one ends what the first began.
pub type Signals = mpsc::UnboundedReceiver<Signal>;

/// ## Serving => Draining => Stopping => gone
pub(super) async fn run(running: Running, mut signals: Signals) {
    let Running { house, tasks, .. } = running;
    let first = signals.recv().await.unwrap_or(Signal::Stop);
    // The listeners go with their tasks: from here on nobody new is accepted.
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    if first == Signal::Drain {
        drain(&house, &mut signals).await;
    }
    house.sessions.stop_all(Stop::Now);
    let _ = tokio::time::timeout(LAST_WORDS, emptied(&house)).await;
    house.registry.all().iter().for_each(|pool| _ = pool.close_idle());
}

async fn drain(house: &Arc<House>, signals: &mut Signals) {
    let deadline = house.settings.get().timeouts.drain;
    tracing::info!(clients = house.sessions.len(), "draining for up to {deadline:?}");
    house.sessions.stop_all(Stop::Drain);
    tokio::select! {
        () = emptied(house) => {}
        () = tokio::time::sleep(deadline) => tracing::warn!(clients = house.sessions.len(), "the drain's time is over"),
        _ = signals.recv() => tracing::warn!(clients = house.sessions.len(), "a second signal: going now"),
    }
}

/// Waits while waits of the queue still end by the clock: the keeper's task is gone.
async fn emptied(house: &House) {
    while !house.sessions.is_empty() {
        house.registry.all().iter().for_each(|pool| pool.keep(std::time::Instant::now()));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
