//! The order of going down.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Running;
use super::accept::Door;
use super::takeover::Successor;
use crate::pool::Pool;
use crate::session::{Console, House, Stop};
use crate::telemetry::Moment;

/// How often the drain looks whether the last client has gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For last words and rollbacks after clients were told to go at once.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// Why no more clients are accepted.
enum Cause {
    Asked(Signal),
    TakenOver(Successor),
}

/// ## Serving => (Announced | Closing | Leaving | Draining | Stopping)
pub(super) async fn run(running: Running, signals: Signals) {
    let Running { house, door, mut doors, notify, asked, .. } = running;
    let mut signals = merged(signals, asked);
    // A successor that has the sockets already comes before whoever asks to end in that very moment: their files are its own now.
    let mut cause = tokio::select! {
        biased;
        successor = doors.successor() => Cause::TakenOver(successor),
        signal = signals.recv() => Cause::Asked(signal.unwrap_or(Signal::Stop)),
    };
    house.sessions.stop_all(Stop::Announced);
    let delay = house.settings.get().timeouts.drain_delay;
    if matches!(cause, Cause::Asked(Signal::Drain)) && !delay.is_zero() {
        notify.stopping("Waiting for load balancers to notice");
        tracing::info!("going down: not ready any more, draining in {delay:?}");
        // ## Announced => (Leaving | Draining | Stopping)
        tokio::select! {
            biased;
            successor = doors.successor() => cause = Cause::TakenOver(successor),
            // Whoever asks for less than a drain does not take it back: somebody waits for the process to end.
            signal = signals.recv() => cause = Cause::Asked(signal.unwrap_or(Signal::Stop).max(Signal::Drain)),
            () = tokio::time::sleep(delay) => {}
        }
    }
    let _http = match cause {
        Cause::TakenOver(mut successor) => {
            // The service goes on: a service manager is told nothing.
            doors.leave_to(&mut successor).await;
            leave(&door, successor, &mut signals).await;
            None
        }
        Cause::Asked(signal) => {
            let http = doors.close(house.settings.get().listen.reuse_port).await;
            let signal = match signal {
                Signal::Close => {
                    // No word of stopping: a service manager gives that its own time.
                    notify.status("Waiting for the last client to leave");
                    close(&house, &mut signals).await
                }
                signal => signal,
            };
            notify.stopping("Draining");
            if signal == Signal::Drain {
                drain(&house, &mut signals).await;
            }
            http
        }
    };
    // ## (Draining | Stopping) => gone
    house.sessions.stop_all(Stop::Now);
    // Whoever watches at the console has seen it to the end.
    door.console.stop();
    let _ = tokio::time::timeout(LAST_WORDS, wound_up(&house, &*door.console)).await;
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
///
/// ## Closing => (Draining | Stopping)
async fn close(house: &Arc<House>, signals: &mut Signals) -> Signal {
    tracing::info!(clients = house.sessions.len(), "no new clients; waiting for the last one to leave");
    tokio::select! {
        () = emptied(house) => Signal::Stop,
        signal = signals.recv() => signal.filter(|signal| *signal != Signal::Close).unwrap_or(Signal::Stop),
    }
}

/// Clients that are here, or about to be, stay until they leave: the next time they connect they come to the successor.
///
/// ## Leaving => (Draining | gone)
async fn leave(door: &Arc<Door>, successor: Successor, signals: &mut Signals) {
    let house = &door.house;
    let limit = house.settings.get().timeouts.take_over;
    let pid = successor.pid;
    tracing::info!(pid, clients = house.sessions.len(), "another process has taken over; clients may stay for up to {limit:?}");
    // The successor needs room upstream.
    house.registry.all().iter().for_each(|pool| _ = pool.close_idle());
    let going = async {
        tokio::select! {
            () = deserted(house, door) => return tracing::info!("the last client has left"),
            () = tokio::time::sleep(limit) => {}
            () = hurried(signals) => {}
        }
        drain(house, signals).await;
    };
    tokio::select! {
        () = going => {}
        () = successor.pass_cancels(door) => {}
    }
}

/// Until somebody asks for more than what is being done: nobody new is accepted.
async fn hurried(signals: &mut Signals) {
    while signals.recv().await == Some(Signal::Close) {}
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

async fn emptied(house: &House) {
    while !house.sessions.is_empty() {
        keep(house).await;
    }
}

/// No client is left, at the console neither, and nothing of what they ran: it is being canceled and rolled back after they
/// have gone.
async fn wound_up(house: &House, console: &dyn Console) {
    let is_at_rest = |pool: &Arc<Pool>| {
        let counts = pool.counts();
        counts.open == counts.idle && pool.close_listener()
    };
    while !house.sessions.is_empty() || console.clients() > 0 || !house.registry.all().iter().all(is_at_rest) {
        keep(house).await;
    }
}

/// Nobody is connected, not even to log in, but for those who watch at the console.
async fn deserted(house: &House, door: &Door) {
    while door.connections.load(Ordering::Acquire) > door.console.clients() {
        keep(house).await;
        // Pools whose clients have gone are of no use to anybody.
        house.registry.all().iter().filter(|pool| pool.counts().clients == 0).for_each(|pool| _ = pool.close_idle());
    }
}

/// Waits while waits of the queue still end by the clock: the keeper's task is gone.
async fn keep(house: &House) {
    house.registry.all().iter().for_each(|pool| pool.keep(Moment::now()));
    tokio::time::sleep(LOOK_EVERY).await;
}
