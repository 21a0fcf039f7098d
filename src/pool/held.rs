//! Servers that clients keep outside a transaction, because state of theirs may be on them.
//!
//! Nobody is asked to let go while there are idle servers or room for new ones. When there are neither, those whose state
//! is in doubt are asked in turn, the one that has held for longest first; those that were found to need their server
//! are left alone until something they did may have changed that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use super::{Gate, Pool, Server};
use crate::error::{PgError, SqlState};
use crate::telemetry::Moment;
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
    pub(super) since: Moment,
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
/// The same, and the pool may have no more of them: the client is to go.
const EXCESSIVE: u8 = 3;
/// Beside any of them: it was found pinned once, and counts as that until it is let go.
const KEPT: u8 = 4;

impl Pool {
    /// `session` keeps its server; `waker` wakes it when somebody else wants one.
    pub fn hold(self: &Arc<Self>, session: u64, since: Moment, waker: &Waker) -> Held {
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
            // More than can be asked, or is on its way, need not be counted: every client that queues comes here.
            let most = state.opening + state.held.len();
            let waiting = state.waiters.iter().filter(|w| w.ticket.is_waiting()).take(most).count();
            let asked = state.held.iter().filter(|h| h.status() == WANTED).count();
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

    /// ## Wanted => (Pinned | Excessive)
    fn pin(&self, hold: &Hold) {
        let limit = self.terms().settings.limits.max_pinned;
        // Two that are pinned at the same time are not both the last.
        let state = self.state.lock();
        let kept = state.held.iter().filter(|h| h.session != hold.session && h.is_kept()).count();
        let is_new = !hold.is_kept();
        let is_excessive = limit > 0 && kept >= limit && is_new;
        hold.status.store(if is_excessive { EXCESSIVE } else { PINNED | KEPT }, Ordering::Release);
        drop(state);
        if is_new && !is_excessive {
            let (reasons, statement) = (hold.reasons(), hold.statement.lock());
            tracing::debug!(pool = %self, session = hold.session, %reasons, statement = statement.as_deref(), "server pinned");
        }
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
        let from = self.status.load(Ordering::Relaxed);
        let is_doubtful = from & !KEPT == DOUBTFUL;
        is_doubtful && self.status.compare_exchange(from, from | WANTED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn status(&self) -> u8 {
        self.status.load(Ordering::Acquire) & !KEPT
    }

    fn is_kept(&self) -> bool {
        self.status.load(Ordering::Relaxed) & KEPT != 0
    }

    /// It was asked before, and nothing but this kind of state held it.
    /// ## Pinned => Wanted
    fn want_again_for(&self, kind: Leaves) -> bool {
        let (from, to) = (PINNED | KEPT, WANTED | KEPT);
        self.reasons() == kind && self.status.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The server was asked, and the state is there.
    pub(super) fn is_sure(&self) -> bool {
        self.status() == PINNED
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

    /// Somebody waits already.
    pub fn want(&self) {
        self.hold.want();
    }

    pub fn is_wanted(&self) -> bool {
        self.hold.status() == WANTED
    }

    /// Others wanted its server, and it was found to need it.
    pub fn is_pinned(&self) -> bool {
        self.hold.status() == PINNED
    }

    /// What its client is told, if the pool may have no more pinned servers.
    pub fn excess(&self) -> Option<PgError> {
        (self.hold.status() == EXCESSIVE).then(|| {
            let limit = self.pool.terms().settings.limits.max_pinned;
            let message = format!("{limit} clients already keep a server connection of {} for session state", self.pool);
            PgError::fatal(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
                .with_detail(format!("This client would keep one more, for: {}.", self.hold.reasons()))
                .with_hint("Raise limits.max_pinned, or use the session port for work like this.")
        })
    }

    /// After a transaction: why the server is held now, and whether asking may change that.
    pub fn update(&self, reasons: Leaves, worth_asking: bool) {
        self.hold.reasons.store(reasons.bits(), Ordering::Relaxed);
        let before = self.hold.status();
        match (before, worth_asking) {
            // ## Pinned => Doubtful
            (PINNED, true) => self.hold.status.store(DOUBTFUL | KEPT, Ordering::Release),
            (WANTED, false) => {
                self.pool.pin(&self.hold);
                // Whoever waits is to be served by another.
                self.pool.ask_holders();
            }
            _ => {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        leave(&mut self.pool.state.lock().held, self.hold.session);
        if self.hold.is_kept() {
            let (pool, reasons, held_ms) = (&self.pool, self.hold.reasons(), self.hold.since.elapsed().as_millis());
            tracing::debug!(%pool, session = self.hold.session, %reasons, held_ms, "pinned server let go");
        }
    }
}

fn leave(held: &mut VecDeque<Arc<Hold>>, session: u64) {
    held.retain(|h| h.session != session);
}
