//! Which servers may be leased again: those that were opened since the pool last began anew.
//!
//! RECONNECT, and a reload that changes where or how a pool logs in, begin a new generation. Servers of an earlier one
//! finish what they are at and are closed when they come back, be it from a client, from a check or from a login that was
//! under way (trap 15; PgBouncer: `close_needed`). They are told apart by the generation that each server carries, so that
//! a pool whose configuration stayed the same keeps all of its servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Health, Pool, Server};

/// The servers that were opened between two new beginnings.
#[derive(Debug)]
pub(super) struct Generation {
    /// Of this one alone in the whole process.
    number: u64,
    open: AtomicUsize,
}

/// One more open connection of the pool and of its generation, until dropped: a server lost in a panic is not counted for
/// ever.
#[derive(Debug)]
pub(super) struct Counted {
    open: Arc<AtomicUsize>,
    generation: Arc<Generation>,
}

impl Pool {
    /// Every server that there is now serves out its lease and no other: idle ones are closed at once, those that clients
    /// keep for session state are asked for, and whoever comes next is served by a new connection. In session mode a server
    /// goes with its client.
    pub fn reconnect(self: &Arc<Self>) {
        let idle = {
            let mut state = self.state.lock();
            state.generation = Generation::new(&self.ids);
            // Nor does what was found out of the upstream count.
            state.health = Health::Up;
            // What the next server is like, it alone can tell.
            state.greeting = None;
            std::mem::take(&mut state.idle)
        };
        for idle in idle {
            self.log_closed(&idle.server);
            idle.server.close();
        }
        self.opener.credential.doubt();
        self.terms().shortcut.forget();
        self.listener.end();
        self.ask_all_holders();
        self.open_soon();
    }

    /// Servers from before the last [`reconnect`](Self::reconnect) that are still there.
    pub fn outdated(&self) -> usize {
        let current = self.generation().open.load(Ordering::Acquire);
        self.open_count().saturating_sub(current)
    }

    /// Whether `server` is closed at its release.
    pub fn is_outdated(&self, server: &Server) -> bool {
        !self.state.lock().generation.has(server)
    }

    /// The number of the pool's generation: what is known of servers of another may be wrong for this one.
    pub fn generation_number(&self) -> u64 {
        self.generation().number
    }

    /// What a login that begins now belongs to.
    pub(super) fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.state.lock().generation)
    }
}

impl Server {
    /// See [`Pool::generation_number`].
    pub fn generation_number(&self) -> u64 {
        self.counted.generation.number
    }
}

impl Generation {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// With a number of its own among all that `ids` are given to.
    pub(super) fn new(ids: &AtomicU64) -> Arc<Self> {
        Arc::new(Self { number: ids.fetch_add(1, Ordering::Relaxed) + 1, open: AtomicUsize::new(0) })
    }

    #[inline]
    pub(super) fn has(&self, server: &Server) -> bool {
        std::ptr::eq(self, &*server.counted.generation)
    }
}

impl Counted {
    pub(super) fn new(open: &Arc<AtomicUsize>, generation: &Arc<Generation>) -> Self {
        open.fetch_add(1, Ordering::AcqRel);
        generation.open.fetch_add(1, Ordering::AcqRel);
        Self { open: Arc::clone(open), generation: Arc::clone(generation) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.generation.open.fetch_sub(1, Ordering::AcqRel);
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}
