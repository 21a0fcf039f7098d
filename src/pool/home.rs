//! Servers that clients of the transaction port are at home on (`home_servers`): whose process id they were told, which they
//! prefer, and which others leave alone while they have a choice.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Pool, Server, ServerHandle};

/// One client's claim to a server, until dropped. The server may end before it, or be somebody else's for a while.
#[derive(Debug)]
pub struct Home {
    server: Arc<ServerHandle>,
    session: u64,
}

impl Pool {
    /// An idle server that nobody is at home on.
    pub fn find_home(&self, session: u64) -> Option<Home> {
        let state = self.state.lock();
        state.idle.iter().find_map(|idle| Home::claim(&idle.server, session))
    }

    /// Whether one more could be opened.
    pub fn has_room(&self) -> bool {
        let opening = self.state.lock().opening;
        self.open_count() + opening < self.terms().size
    }
}

impl Home {
    /// `None`: somebody else's.
    pub fn claim(server: &Server, session: u64) -> Option<Self> {
        let home_of = &server.handle.home_of;
        let is_free = home_of.compare_exchange(0, session, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        is_free.then(|| Self { server: Arc::clone(&server.handle), session })
    }

    pub fn id(&self) -> u64 {
        self.server.id
    }

    pub fn server(&self) -> &Arc<ServerHandle> {
        &self.server
    }

    /// What `pg_backend_pid()` gives there.
    pub fn pid(&self) -> Option<u32> {
        u32::try_from(self.server.key.pid).ok()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Nobody else could have claimed it meanwhile.
        let _ = self.server.home_of.compare_exchange(self.session, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}
