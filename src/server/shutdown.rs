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
    /// Accept nobody new, and let everybody stay for as long as they like.
    Close,
    /// SIGTERM: let transactions finish.
    Drain,
    /// SIGINT: now.
    Stop,
}

/// Signals as they come. The second one ends what the first began.
pub type Signals = mpsc::UnboundedReceiver<Signal>;

/// ## Serving => (Closing) => (Draining) => Stopping => gone
pub(super) async fn run(running: Running, signals: Signals) {
    let Running { house, tasks, asked, .. } = running;
    let mut signals = merged(signals, asked);
    let mut signal = signals.recv().await.unwrap_or(Signal::Stop);
    // The listeners go with their tasks: from here on nobody new is accepted.
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    if signal == Signal::Close {
        signal = close(&house, &mut signals).await;
    }
    if signal == Signal::Drain {
        drain(&house, &mut signals).await;
    }
    house.sessions.stop_all(Stop::Now);
    let _ = tokio::time::timeout(LAST_WORDS, emptied(&house)).await;
    house.registry.all().iter().for_each(|pool| _ = pool.close_idle());
}

/// Both as one; it ends when the system's do.
fn merged(mut signals: Signals, mut asked: Signals) -> Signals {
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                signal = signals.recv() => signal,
                Some(signal) = asked.recv() => Some(signal),
            };
            let Some(signal) = signal else { return };
            if tell.send(signal).is_err() {
                return;
            }
        }
    });
    told
}

/// Until the last client has left, or somebody asks for more.
async fn close(house: &Arc<House>, signals: &mut Signals) -> Signal {
    tracing::info!(clients = house.sessions.len(), "no new clients; waiting for the last one to leave");
    tokio::select! {
        () = emptied(house) => Signal::Stop,
        signal = signals.recv() => signal.filter(|signal| *signal != Signal::Close).unwrap_or(Signal::Stop),
    }
}

async fn drain(house: &Arc<House>, signals: &mut Signals) {
    let deadline = house.settings.get().timeouts.drain;
    let clients = house.sessions.len();
    // First: whoever reads the line finds it so.
    house.sessions.stop_all(Stop::Drain);
    tracing::info!(clients, "draining for up to {deadline:?}");
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
