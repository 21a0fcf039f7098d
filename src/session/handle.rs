//! What the rest of the process knows of a session: how to cancel, stop and wake it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use super::about::About;
use super::admit::House;
use super::end::End;
use super::pools::PoolCount;
use super::told::Told;
use crate::auth::reserve::Reserve;
use crate::error::PgError;
use crate::pool::{Aim, Home, Pool, PoolKey, Refusal, ServerHandle, Ticket};
use crate::telemetry::Moment;
use crate::wire::params::Params;

/// Length of the cancel keys we give to clients that speak protocol 3.2, in bytes; 3.0 has room for four.
const LONG_KEY_BYTES: usize = 32;
const SHORT_KEY_BYTES: usize = 4;
const PID_BYTES: usize = 4;
/// Tries to find a process id nobody has.
const PID_TRIES_MAX: usize = 1000;
/// A cancel that comes while the session's settings are being set waits for that, in steps of this, this many times.
const PREPARING_STEP: Duration = Duration::from_millis(2);
const PREPARING_STEPS_MAX: usize = 500;

/// All sessions, by cancel key.
#[derive(Debug)]
pub struct Sessions {
    table: Mutex<Table>,
    random: Mutex<Reserve>,
    ids: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    told: Told,
    /// What all were asked, and whoever comes later is, too.
    stop: Option<Stop>,
}

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

/// What a cancel request must show besides the process id.
enum Key {
    Short([u8; SHORT_KEY_BYTES]),
    /// Of the few that speak protocol 3.2.
    Long(Box<[u8; LONG_KEY_BYTES]>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(key) => key,
            Self::Long(key) => &**key,
        }
    }
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

impl Default for Sessions {
    fn default() -> Self {
        Self { table: Mutex::default(), random: Mutex::default(), ids: AtomicU64::new(1) }
    }
}

impl Sessions {
    /// An id for a session that is being made; never 0.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Enters a session with a random key of its own (trap 35). `pid` is the real one where the client has a server for
    /// itself; else one is made up, positive as a process id is.
    pub fn enter(&self, id: u64, pid: Option<u32>, long_key: bool, about: &Arc<About>) -> Arc<Handle> {
        let (key, made_up) = self.key(long_key);
        let mut table = self.table.lock();
        let pid = pid.unwrap_or_else(|| self.free_pid(made_up, &table.told));
        let handle = Arc::new(Handle {
            id,
            pid,
            key,
            ticket: Arc::default(),
            about: Arc::clone(about),
            kept: Mutex::default(),
            params_at: AtomicUsize::new(0),
            began_us: AtomicU64::new(0),
            leased_ns: AtomicU64::new(0),
            prepared: AtomicU32::new(0),
            stop: AtomicU8::new(table.stop.map_or(0, |s| s as u8)),
        });
        table.told.insert(&handle);
        handle
    }

    /// And a process id, of which there may be one already.
    fn key(&self, long: bool) -> (Key, u32) {
        match long {
            true => (Key::Long(Box::new(self.random())), made_up_pid(self.random())),
            // At once, as it is with nearly everybody.
            false => {
                let [a, b, c, d, pid @ ..] = self.random::<{ SHORT_KEY_BYTES + PID_BYTES }>();
                (Key::Short([a, b, c, d]), made_up_pid(pid))
            }
        }
    }

    fn free_pid(&self, mut pid: u32, told: &Told) -> u32 {
        for _ in 0..PID_TRIES_MAX {
            if pid != 0 && !told.has(pid) {
                return pid;
            }
            pid = made_up_pid(self.random());
        }
        pid
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        // It fails only where the system has no source of random bytes at all: then keys are unguessable no more, and
        // the session is better off with one that never matches by chance than with none.
        if self.random.lock().fill(&mut bytes).is_err() {
            tracing::error!("the system gives no random bytes: cancel keys are weak");
        }
        bytes
    }

    pub fn leave(&self, handle: &Handle) {
        self.table.lock().told.remove(handle);
    }

    /// Whose key this is, compared in constant time.
    pub fn find(&self, pid: u32, key: &[u8]) -> Option<Arc<Handle>> {
        let table = self.table.lock();
        table.told.with_pid(pid).find(|h| bool::from(h.key().ct_eq(key))).cloned()
    }

    /// Everybody, each session once.
    pub fn all(&self) -> Vec<Arc<Handle>> {
        let mut all: Vec<_> = self.table.lock().told.iter().cloned().collect();
        all.sort_by_key(|handle| handle.id);
        // While a client in session mode is told its server's process id, it stands there twice.
        all.dedup_by_key(|handle| handle.id);
        all
    }

    /// Asks this session to end at once; whether there is one.
    pub fn stop(&self, id: u64) -> bool {
        let table = self.table.lock();
        let found = table.told.iter().filter(|handle| handle.id == id);
        found.map(|handle| handle.stop(Stop::Now)).count() > 0
    }

    /// What all have been asked to do.
    pub fn stopping(&self) -> Option<Stop> {
        self.table.lock().stop
    }

    pub fn len(&self) -> usize {
        self.table.lock().told.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Asks every session to end, also one that comes later: its login may have been under way.
    pub fn stop_all(&self, stop: Stop) {
        let mut table = self.table.lock();
        table.stop = table.stop.max(Some(stop));
        table.told.iter().for_each(|h| h.stop(stop));
    }

    /// Ends the sessions for whose pools there is a reason, now, and tells them which. How many.
    pub fn end(&self, reason: impl Fn(&PoolKey) -> Option<PgError>) -> usize {
        let table = self.table.lock();
        let ended = table.told.iter().filter(|handle| match reason(&handle.about.pool) {
            Some(error) => {
                // Whoever was told to go for another reason goes for that one.
                handle.kept.lock().reason.get_or_insert_with(|| Box::new(error));
                handle.stop(Stop::Now);
                true
            }
            None => false,
        });
        ended.count()
    }
}

/// A session's entry in the tables, and its client in the pool's count, until dropped: also by a panic.
#[derive(Debug)]
pub struct Membership {
    pub(super) house: Arc<House>,
    handle: Arc<Handle>,
    pub(super) pool: Arc<Pool>,
    /// In what the hosted pooler would call its pool.
    _count: PoolCount,
}

impl Membership {
    /// The pool has counted the client already.
    pub fn new(house: &Arc<House>, handle: Arc<Handle>, pool: Arc<Pool>) -> Self {
        Self { house: Arc::clone(house), handle, pool, _count: PoolCount::default() }
    }

    pub fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub fn count(&mut self, count: PoolCount) {
        self._count = count;
    }

    /// Known to the client by another process id and key from now on. What it was asked to before, it is asked still.
    pub fn reenter(&mut self, handle: Arc<Handle>) {
        let before = std::mem::replace(&mut self.handle, handle);
        self.handle.inherit(&before);
        self.house.sessions.leave(&before);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Some(server) = self.handle.ticket.leave() {
            self.pool.release(server);
        }
        self.house.sessions.leave(&self.handle);
        self.pool.client_went();
    }
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

/// Positive, as a process id is.
fn made_up_pid(random: [u8; PID_BYTES]) -> u32 {
    u32::from_be_bytes(random) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_35_keys_are_random_and_process_ids_positive() {
        let sessions = Sessions::default();
        let about = About::of("one");
        let (a, b) = (sessions.enter(1, None, false, &about), sessions.enter(2, None, true, &about));
        assert!(a.pid & 0x8000_0000 == 0 && b.pid & 0x8000_0000 == 0);
        assert_eq!((a.key().len(), b.key().len()), (4, 32));
        assert_eq!(sessions.find(a.pid, a.key()).map(|h| h.id), Some(1));
        assert!(sessions.find(a.pid, b.key()).is_none());
        sessions.leave(&a);
        assert!(sessions.find(a.pid, a.key()).is_none());
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn whoever_comes_after_all_were_asked_to_end_is_asked_too() {
        let sessions = Sessions::default();
        let about = About::of("one");
        let early = sessions.enter(1, None, false, &about);
        assert_eq!(early.stop_wanted(), None);
        sessions.stop_all(Stop::Drain);
        let late = sessions.enter(2, None, false, &about);
        assert_eq!((early.stop_wanted(), late.stop_wanted()), (Some(Stop::Drain), Some(Stop::Drain)));
        sessions.stop_all(Stop::Now);
        assert_eq!((early.stop_wanted(), late.stop_wanted()), (Some(Stop::Now), Some(Stop::Now)));
    }

    #[test]
    fn those_of_one_project_end_for_a_reason_and_others_stay() {
        let sessions = Sessions::default();
        let (a, b) = (sessions.enter(1, None, false, &About::of("one")), sessions.enter(2, None, false, &About::of("other")));
        let reason = PgError::fatal(crate::error::SqlState::ADMIN_SHUTDOWN, "closed");
        assert_eq!(sessions.end(|pool| (pool.project == "one").then(|| reason.clone())), 1);
        assert_eq!((a.stop_wanted(), b.stop_wanted()), (Some(Stop::Now), None));
        assert!(matches!(a.end(), End::Refused(error) if error == reason));
        assert!(matches!(b.end(), End::Stopped));
        b.inherit(&a);
        assert_eq!(b.stop_wanted(), Some(Stop::Now));
        assert!(matches!(b.end(), End::Refused(_)), "as one that is entered anew");
    }

    #[test]
    fn two_sessions_may_be_told_the_same_process_id() {
        let sessions = Sessions::default();
        let about = About::of("one");
        let (a, b) = (sessions.enter(1, Some(7), false, &about), sessions.enter(2, Some(7), false, &about));
        assert_eq!(sessions.find(7, b.key()).map(|h| h.id), Some(2));
        sessions.leave(&b);
        assert_eq!(sessions.find(7, a.key()).map(|h| h.id), Some(1));
    }
}
