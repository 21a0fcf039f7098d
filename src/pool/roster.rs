//! Every server connection of a pool, wherever it is: for people who look, never for the data path.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::ServerHandle;

/// By id. Each connection enters itself when it is opened, and leaves by being dropped, also in a panic.
#[derive(Debug, Default)]
pub(super) struct Roster(Mutex<BTreeMap<u64, Arc<ServerHandle>>>);

/// One connection's entry, until dropped.
#[derive(Debug)]
pub(super) struct Entered {
    roster: Arc<Roster>,
    id: u64,
}

impl Roster {
    pub(super) fn enter(self: &Arc<Self>, handle: &Arc<ServerHandle>) -> Entered {
        self.0.lock().insert(handle.id, Arc::clone(handle));
        Entered { roster: Arc::clone(self), id: handle.id }
    }

    pub(super) fn all(&self) -> Vec<Arc<ServerHandle>> {
        self.0.lock().values().cloned().collect()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.roster.0.lock().remove(&self.id);
    }
}
