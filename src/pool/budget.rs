//! The limit on server connections to one upstream, over all its pools.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Pool;

/// How many connections one upstream may have from us, and who would like one more.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    open: AtomicUsize,
    pools: Mutex<Vec<Weak<Pool>>>,
    /// Pools whose clients wait because of this limit, first come first served.
    starving: Mutex<VecDeque<Weak<Pool>>>,
    starving_count: AtomicUsize,
}

/// One connection of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Budget>);

impl Budget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(limit),
            open: AtomicUsize::new(0),
            pools: Mutex::default(),
            starving: Mutex::default(),
            starving_count: AtomicUsize::new(0),
        })
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// More than the limit, as there may be when it was lowered.
    pub(super) fn is_exceeded(&self) -> bool {
        self.open() > self.limit()
    }

    /// Whoever waits for room is called if there is more of it; where there is less, idle servers go.
    pub(super) fn set_limit(self: &Arc<Self>, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        while self.is_exceeded() && self.close_one_idle(None) {}
        let waiting = self.starving_count.load(Ordering::Relaxed);
        (0..waiting).filter_map(|_| self.next_starving()).for_each(|pool| pool.open_soon());
    }

    pub(super) fn enter(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock();
        pools.retain(|p| p.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// A permit, if need be at the cost of another pool's idle server. Where there is none, `pool` is called when there
    /// is one again.
    pub(super) fn reserve(self: &Arc<Self>, pool: &Arc<Pool>) -> Option<Permit> {
        self.spare(pool).or_else(|| {
            self.starve(pool);
            None
        })
    }

    /// The same, for what may be had or not: nobody waits for it.
    pub(super) fn spare(self: &Arc<Self>, pool: &Arc<Pool>) -> Option<Permit> {
        self.try_reserve().or_else(|| if self.close_one_idle(Some(pool)) { self.try_reserve() } else { None })
    }

    /// Whether a server that goes idle is better closed, because another pool waits for its place.
    pub(super) fn is_contended(&self) -> bool {
        self.starving_count.load(Ordering::Relaxed) > 0
    }

    /// Whether one that waits for a place is any better for it: those whose clients were served otherwise, or went, are forgotten.
    #[cold]
    pub(super) fn is_short(&self) -> bool {
        let (pools, is_short) = {
            let mut starving = self.starving.lock();
            let mut pools = Vec::with_capacity(starving.len());
            starving.retain(|pool| {
                let Some(pool) = pool.upgrade() else { return false };
                let wants = pool.wants_place();
                pools.push(pool);
                wants
            });
            self.starving_count.store(starving.len(), Ordering::Relaxed);
            (pools, !starving.is_empty())
        };
        // Not under the lock: one that is the last of its pool takes servers with it, and their permits.
        drop(pools);
        is_short
    }

    fn has_room(&self) -> bool {
        self.open() < self.limit()
    }

    fn try_reserve(self: &Arc<Self>) -> Option<Permit> {
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |open| (open < self.limit()).then_some(open + 1))
            .ok()
            .map(|_| Permit(Arc::clone(self)))
    }

    /// Of any pool but the one that wants a place.
    fn close_one_idle(&self, wanting: Option<&Arc<Pool>>) -> bool {
        let pools: Vec<_> = self.pools.lock().iter().filter_map(Weak::upgrade).collect();
        pools.iter().filter(|p| !wanting.is_some_and(|wanting| Arc::ptr_eq(p, wanting))).any(|p| p.close_coldest())
    }

    fn starve(&self, pool: &Arc<Pool>) {
        let mut starving = self.starving.lock();
        if !starving.iter().any(|p| std::ptr::eq(p.as_ptr(), Arc::as_ptr(pool))) {
            starving.push_back(Arc::downgrade(pool));
        }
        self.starving_count.store(starving.len(), Ordering::Relaxed);
    }

    fn next_starving(&self) -> Option<Arc<Pool>> {
        let mut starving = self.starving.lock();
        let next = std::iter::from_fn(|| starving.pop_front()).find_map(|p| p.upgrade());
        self.starving_count.store(starving.len(), Ordering::Relaxed);
        next
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        // The first of them may want it no more.
        while self.0.is_contended()
            && self.0.has_room()
            && let Some(pool) = self.0.next_starving()
        {
            pool.open_soon();
        }
    }
}
