//! One who is at the console, as the others there see him.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pgwire::api::ConnectionHandle;
use tokio::sync::Notify;

use crate::pool::{PoolKey, PoolMode};
use crate::session::About;
use crate::session::login::{CONSOLE_DATABASES, Login};

/// As long as the cancel keys of protocol 3.0 are, in bytes.
pub(super) const KEY_BYTES: usize = 4;

#[derive(Debug)]
pub(super) struct Guest {
    /// No client has the same.
    pub(super) id: u64,
    pub(super) key: [u8; KEY_BYTES],
    pub(super) cancel: Arc<ConnectionHandle>,
    /// The key in it is no pool's: its database is the console.
    pub(super) about: About,
    /// As the client called itself.
    pub(super) application: String,
    is_busy: AtomicBool,
    stop: Notify,
}

impl Guest {
    pub(super) fn new(id: u64, key: [u8; KEY_BYTES], login: &Login) -> Self {
        // The login's own is the upstream's; as libpq has it, a user's name may stand for the database.
        let names = [login.who.startup.database.as_deref(), Some(&*login.who.route.user)];
        let database = names.into_iter().flatten().find(|name| CONSOLE_DATABASES.contains(name)).unwrap_or("sidepool");
        let (project, database, user) = (login.who.route.project.name.clone(), database.to_owned(), login.who.route.user.clone());
        // It has neither mode.
        let place = PoolKey { project, database, user, mode: PoolMode::Transaction };
        let named = login.who.startup.parameters.iter().find(|(name, _)| name == "application_name");
        Self {
            id,
            key,
            cancel: Arc::default(),
            about: About::new(login, Arc::new(place)),
            application: named.map(|(_, value)| value.clone()).unwrap_or_default(),
            is_busy: AtomicBool::new(false),
            stop: Notify::new(),
        }
    }

    /// Whether it is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Relaxed)
    }

    pub(super) fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }

    /// It is to be told that it ends. Kept, if it does not listen yet.
    pub(super) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Until it is.
    pub(super) async fn stopped(&self) {
        self.stop.notified().await;
    }
}
