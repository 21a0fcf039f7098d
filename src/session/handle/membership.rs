//! What a session counts in, for as long as it lasts.

use std::sync::Arc;

use super::Handle;
use crate::pool::Pool;
use crate::session::admit::House;
use crate::session::pools::PoolCount;

/// A session's entry in the tables, and its client in the pool's count, until dropped: also by a panic.
#[derive(Debug)]
pub struct Membership {
    pub(in crate::session) house: Arc<House>,
    handle: Arc<Handle>,
    pub(in crate::session) pool: Arc<Pool>,
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
