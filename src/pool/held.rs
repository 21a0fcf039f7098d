//! Servers that clients keep outside a transaction, because state of theirs may be on them.
//!
//! Nobody is asked to let go while there are idle servers or room for new ones. When there are neither, those whose state
//! is in doubt are asked in turn, the one that has held for longest first; those that were found to need their server
//! are left alone until something they did may have changed that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;

use super::{Gate, Pool, Server};
use crate::wire::sql::Leaves;

/// One client's hold of its server, in its pool's list until dropped.
#[derive(Debug)]
pub struct Held {
    pool: Arc<Pool>,
    hold: Arc<Hold>,
}

/// What the pool knows of a hold.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) session: u64,
    /// Since its client has the server.
    pub(super) since: Instant,
    /// The statement that first left something, as far as people are shown it.
    pub(super) statement: Mutex<Option<String>>,
    status: AtomicU8,
    /// [`Leaves`], for people.
    reasons: AtomicU16,
    waker: Mutex<Waker>,
}

/// Nobody has asked.
const DOUBTFUL: u8 = 0;
/// Somebody waits: the session is to ask its server.
const WANTED: u8 = 1;
/// It was asked, and the state is there.
const PINNED: u8 = 2;

impl Pool {
    /// `session` keeps its server; `waker` wakes it when somebody else wants one.
    pub fn hold(self: &Arc<Self>, session: u64, since: Instant, waker: &Waker) -> Held {
        let hold = Arc::new(Hold {
            session,
            since,
            statement: Mutex::default(),
            status: AtomicU8::new(DOUBTFUL),
            reasons: AtomicU16::new(0),
            waker: Mutex::new(waker.clone()),
        });
        self.state.lock().held.push_back(Arc::clone(&hold));
        Held { pool: Arc::clone(self), hold }
    }

    /// Whether `server` had better come back: somebody waits for one of this pool, or of another that has no room because
    /// of it, or it is to be closed.
    pub fn wants_back(&self, server: &Server) -> bool {
        let state = self.state.lock();
        let is_wanted = state.waiters.iter().any(|w| w.ticket.is_waiting()) || self.budget.is_contended();
        is_wanted || state.gate == Gate::Paused || !state.generation.has(server)
    }

    /// Asks as many holders as there are clients waiting that no login under way will serve.
    pub(super) fn ask_holders(&self) {
        let mut wake = Vec::new();
        let may_listen = self.may_listen();
        {
            let state = self.state.lock();
            if state.held.is_empty() {
                return;
            }
            let waiting = state.waiters.iter().filter(|w| w.ticket.is_waiting()).count();
            let asked = state.held.iter().filter(|h| h.status.load(Ordering::Relaxed) == WANTED).count();
            let elsewhere = usize::from(self.budget.is_contended());
            let wanted = waiting.max(elsewhere).saturating_sub(state.opening + asked);
            wake.extend(state.held.iter().filter(|h| h.want()).take(wanted).cloned());
            if wake.len() < wanted && may_listen {
                let listening = state.held.iter().filter(|h| h.want_again_for(Leaves::LISTEN));
                wake.extend(listening.take(wanted - wake.len()).cloned());
            }
        }
        wake.iter().for_each(|hold| hold.waker.lock().wake_by_ref());
    }

    /// Asks all of them, so that none keeps the database busy for nothing.
    pub(super) fn ask_all_holders(&self) {
        let held: Vec<_> = self.state.lock().held.iter().filter(|h| h.want()).cloned().collect();
        held.iter().for_each(|hold| hold.waker.lock().wake_by_ref());
    }

    /// How many servers are held, and for which kinds of state.
    pub fn holds(&self) -> (usize, Leaves) {
        let state = self.state.lock();
        let reasons = state.held.iter().fold(Leaves::NOTHING, |all, h| all | h.reasons());
        (state.held.len(), reasons)
    }
}

impl Pool {
    /// How many servers are held for each kind of state; one may be held for several.
    pub fn holds_by_reason(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for hold in &self.state.lock().held {
            hold.reasons().names().for_each(|name| *counts.entry(name).or_default() += 1);
        }
        counts
    }
}

impl Hold {
    /// ## Doubtful => Wanted
    fn want(&self) -> bool {
        self.status.compare_exchange(DOUBTFUL, WANTED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// It was asked before, and nothing but this kind of state held it.
    /// ## Pinned => Wanted
    fn want_again_for(&self, kind: Leaves) -> bool {
        self.reasons() == kind && self.status.compare_exchange(PINNED, WANTED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The server was asked, and the state is there.
    pub(super) fn is_sure(&self) -> bool {
        self.status.load(Ordering::Relaxed) == PINNED
    }

    pub(super) fn reasons(&self) -> Leaves {
        Leaves::from_bits(self.reasons.load(Ordering::Relaxed))
    }
}

impl Held {
    /// Which statement it is held for, where that is known.
    pub fn blame(&self, statement: Option<String>) {
        if statement.is_some() {
            *self.hold.statement.lock() = statement;
        }
    }

    pub fn is_wanted(&self) -> bool {
        self.hold.status.load(Ordering::Acquire) == WANTED
    }

    /// Others wanted its server, and it was found to need it.
    pub fn is_pinned(&self) -> bool {
        self.hold.status.load(Ordering::Acquire) == PINNED
    }

    /// After a transaction: why the server is held now, and whether asking may change that.
    pub fn update(&self, reasons: Leaves, worth_asking: bool) {
        self.hold.reasons.store(reasons.bits(), Ordering::Relaxed);
        let before = self.hold.status.load(Ordering::Acquire);
        match (before, worth_asking) {
            // ## Pinned => Doubtful
            (PINNED, true) => self.hold.status.store(DOUBTFUL, Ordering::Release),
            // ## (Doubtful | Wanted) => Pinned
            (DOUBTFUL | WANTED, false) => {
                self.hold.status.store(PINNED, Ordering::Release);
                if before == WANTED {
                    // Whoever waits is to be served by another.
                    self.pool.ask_holders();
                }
            }
            _ => {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        leave(&mut state.held, self.hold.session);
    }
}

fn leave(held: &mut VecDeque<Arc<Hold>>, session: u64) {
    held.retain(|h| h.session != session);
}
