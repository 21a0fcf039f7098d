//! All sessions of the process, by cancel key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use super::key::{Key, PID_BYTES, SHORT_KEY_BYTES, made_up_pid};
use super::{Handle, Stop};
use crate::auth::reserve::Reserve;
use crate::error::PgError;
use crate::pool::PoolKey;
use crate::session::about::About;
use crate::session::told::Told;

/// Tries to find a process id nobody has.
const PID_TRIES_MAX: usize = 1000;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::end::End;

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
