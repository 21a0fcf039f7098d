//! What the rest of the process knows of a session: how to cancel, stop and wake it.

mod key;
mod membership;
mod sessions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use super::about::About;
use super::end::End;
use crate::error::PgError;
use crate::pool::{Aim, Home, Pool, Refusal, ServerHandle, Ticket};
use crate::telemetry::Moment;
use crate::wire::params::Params;
use key::Key;
pub(super) use membership::Membership;
pub use sessions::Sessions;

/// A cancel that comes while the session's settings are being set waits for that, in steps of this, this many times.
const PREPARING_STEP: Duration = Duration::from_millis(2);
const PREPARING_STEPS_MAX: usize = 500;

/// In this order in memory: what each transaction touches is on one line of the cache.
#[derive(Debug)]
#[repr(C)]
pub struct Handle {
    pub id: u64,
    /// Where its parameters are in memory, by which a change is noticed.
    params_at: AtomicUsize,
    /// When it was given its server last, as a [`Moment`] in ns: a clock that is read anyway.
    leased_ns: AtomicU64,
    /// In session mode: when the transaction that is open began, in µs since its login; 0 while there is none.
    began_us: AtomicU64,
    prepared: AtomicU32,
    stop: AtomicU8,
    /// What the client was told in BackendKeyData.
    pub pid: u32,
    key: Key,
    pub ticket: Arc<Ticket>,
    pub about: Arc<About>,
    kept: Mutex<Kept>,
}

/// What others look up, behind one lock: there are as many as clients.
#[derive(Debug, Default)]
struct Kept {
    /// The reported parameters as the client has them, `application_name` among them.
    params: Option<Arc<Params>>,
    /// The server whose process id it was told, in transaction mode; beside the task, which is to be small.
    home: Option<Box<Home>>,
    /// The server it had last; whether it still has it, the server knows.
    server: Option<(Arc<ServerHandle>, Arc<Pool>)>,
    /// Why it is to stop, where it is not that the process ends.
    reason: Option<Box<PgError>>,
    waker: Option<Waker>,
}

/// How a session is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not yet, and not by itself: others are told that nobody should come here any more.
    Announced = 0,
    /// When it is idle.
    Drain = 1,
    Now = 2,
}

impl Handle {
    pub fn key(&self) -> &[u8] {
        self.key.bytes()
    }

    /// Its client has been told this server's process id.
    pub fn be_at_home(&self, home: Home, pool: &Arc<Pool>) {
        self.follow(home.server(), pool);
        self.kept.lock().home = Some(Box::new(home));
    }

    /// The id of the server it is at home on, which it follows; 0 for none.
    pub fn home(&self) -> u64 {
        self.kept.lock().home.as_ref().map_or(0, |home| home.id())
    }

    /// The session runs on this server from now on.
    #[inline(never)]
    pub fn follow(&self, server: &Arc<ServerHandle>, pool: &Arc<Pool>) {
        self.kept.lock().server = Some((Arc::clone(server), Arc::clone(pool)));
    }

    /// The server it has now.
    pub fn server(&self) -> Option<Arc<ServerHandle>> {
        let kept = self.kept.lock();
        kept.server.as_ref().map(|(server, _)| server).filter(|server| server.holder() == Some(self.id)).cloned()
    }

    /// Two stores that nobody waits for.
    #[inline]
    pub(super) fn leased(&self, at: Moment, prepared_statements: usize) {
        self.leased_ns.store(at.to_ns(), Ordering::Relaxed);
        self.prepared.store(u32::try_from(prepared_statements).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// How long after its login it was given its server last.
    pub fn leased_after(&self) -> Duration {
        Moment::from_ns(self.leased_ns.load(Ordering::Relaxed)) - self.about.connected
    }

    /// As of its last lease.
    pub fn prepared_statements(&self) -> usize {
        self.prepared.load(Ordering::Relaxed) as usize
    }

    /// The parameters as they are now; the same as before, which they nearly always are, are one comparison.
    #[inline]
    pub(super) fn show(&self, params: &Arc<Params>) {
        let at = Arc::as_ptr(params).addr();
        if self.params_at.load(Ordering::Relaxed) != at {
            self.show_others(params);
        }
    }

    #[cold]
    fn show_others(&self, params: &Arc<Params>) {
        // What is kept here is at no other's address.
        self.kept.lock().params = Some(Arc::clone(params));
        self.params_at.store(Arc::as_ptr(params).addr(), Ordering::Relaxed);
    }

    /// Something of a transaction is on its way in session mode. One clock is read for it, and one when it has ended.
    #[inline]
    pub(super) fn begins(&self) {
        if self.began_us.load(Ordering::Relaxed) == 0 {
            self.note_beginning();
        }
    }

    #[inline(never)]
    fn note_beginning(&self) {
        self.began_us.store(self.age_us().max(1), Ordering::Relaxed);
    }

    /// How long it took.
    #[inline(never)]
    pub(super) fn ended(&self) -> Duration {
        match self.began_us.swap(0, Ordering::Relaxed) {
            0 => Duration::ZERO,
            began => Duration::from_micros(self.age_us().saturating_sub(began)),
        }
    }

    fn age_us(&self) -> u64 {
        u64::try_from(self.about.connected.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// As the client calls itself; may be empty.
    pub fn application_name(&self) -> String {
        let kept = self.kept.lock();
        kept.params.as_ref().and_then(|params| params.get("application_name")).unwrap_or_default().to_owned()
    }

    /// Cancels what the session waits for or runs, and nothing else; comes back when the upstream has taken it. A cancel
    /// that comes too late does nothing (trap 42).
    pub async fn cancel(&self) {
        if self.ticket.refuse(Refusal::Canceled) {
            return;
        }
        let Some((server, pool)) = self.kept.lock().server.clone() else { return };
        for _ in 0..PREPARING_STEPS_MAX {
            match server.begin_cancel(self.id) {
                Aim::Hit(in_flight) => {
                    if let Err(error) = pool.cancel_upstream(&server).await {
                        tracing::warn!(error = %error, pid = server.key.pid, "cannot pass a cancel request on");
                    }
                    drop(in_flight);
                    return;
                }
                Aim::Preparing => tokio::time::sleep(PREPARING_STEP).await,
                Aim::Missed => return,
            }
        }
    }

    pub fn stop(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::AcqRel);
        // Kept: a drain may be followed by a stop.
        if let Some(waker) = self.kept.lock().waker.as_ref() {
            waker.wake_by_ref();
        }
    }

    fn inherit(&self, before: &Self) {
        if let Some(stop) = before.stop_wanted() {
            let reason = before.kept.lock().reason.clone();
            self.kept.lock().reason = reason;
            self.stop(stop);
        }
    }

    /// What a session that stops when it is asked to ends with.
    pub fn end(&self) -> End {
        self.kept.lock().reason.as_ref().map_or(End::Stopped, |error| End::Refused(PgError::clone(error)))
    }

    #[inline]
    pub fn stop_wanted(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Stop::Drain),
            _ => Some(Stop::Now),
        }
    }

    /// Who is to be woken when the session is to stop.
    pub fn watch(&self, waker: &Waker) {
        self.kept.lock().waker = Some(waker.clone());
    }
}
