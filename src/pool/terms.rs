//! What a pool works by, and what a reload makes of it.

use std::sync::Arc;

use super::{Pool, State};
use crate::config::{Project, Settings};
use crate::net::tls::TlsContext;
use crate::upstream::{Credential, Shortcut};

/// The configuration as far as one project's pools go by it.
#[derive(Debug)]
pub struct Terms {
    pub settings: Arc<Settings>,
    pub project: Arc<Project>,
    pub tls: Arc<TlsContext>,
    /// Of the project's upstream.
    pub shortcut: Arc<Shortcut>,
    /// The most servers a pool may have (PgBouncer: `pool_size`). None for a project that is disabled or gone.
    pub size: usize,
    /// Kept open while there are clients.
    pub min_size: usize,
}

impl Terms {
    pub fn new(settings: &Arc<Settings>, project: &Arc<Project>, tls: &Arc<TlsContext>, shortcut: Arc<Shortcut>) -> Self {
        let has_room = project.disabled.is_none();
        Self {
            settings: Arc::clone(settings),
            project: Arc::clone(project),
            tls: Arc::clone(tls),
            shortcut,
            size: if has_room { project.pool_size } else { 0 },
            min_size: if has_room { project.min_pool_size } else { 0 },
        }
    }

    /// The same, for a project that is there no more.
    fn of_nobody(&self) -> Self {
        Self { size: 0, min_size: 0, ..Self::new(&self.settings, &self.project, &self.tls, Arc::clone(&self.shortcut)) }
    }

    /// Whether servers of `user` that were opened by these are what `next` would open.
    fn opens_as(&self, next: &Self, user: &str) -> bool {
        let (one, other) = (&self.project, &next.project);
        let place = |project: &Project| {
            let upstream = &project.upstream;
            (upstream.host.clone(), upstream.port, upstream.socket.clone())
        };
        place(one) == place(other) && Arc::ptr_eq(&self.tls, &next.tls) && one.password_of(user) == other.password_of(user)
    }
}

impl Pool {
    /// What the pool works by now.
    pub fn terms(&self) -> Arc<Terms> {
        Arc::clone(&self.state.lock().terms)
    }

    /// The project as it is configured now.
    pub fn project(&self) -> Arc<Project> {
        Arc::clone(&self.state.lock().terms.project)
    }

    /// Works by `next` from now on. Servers are kept, unless they would be opened in another way now, or there are more than
    /// there may be: those go as they come back.
    pub(super) fn adopt(self: &Arc<Self>, next: Arc<Terms>) {
        let before = std::mem::replace(&mut self.state.lock().terms, Arc::clone(&next));
        let user = &self.key.user;
        if !before.opens_as(&next, user) {
            if let Some(password) = next.project.password_of(user) {
                self.set_credential(&Credential::Password(password.clone()));
            }
            tracing::info!(pool = %self, "the upstream or what logs in there has changed: server connections are replaced");
            return self.reconnect();
        }
        self.close_surplus();
        self.open_soon();
    }

    /// The project is gone: nobody is let in any more, and what is open is closed.
    pub(super) fn orphan(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.terms = Arc::new(state.terms.of_nobody());
        drop(state);
        self.close_surplus();
        self.listener.end();
        self.ask_all_holders();
    }

    /// Idle servers beyond the size.
    fn close_surplus(&self) {
        let mut surplus = Vec::new();
        {
            let mut state = self.state.lock();
            let excess = self.open_count().saturating_sub(state.terms.size).min(state.idle.len());
            surplus.extend(state.idle.drain(..excess));
        }
        for idle in surplus {
            self.log_closed(&idle.server);
            idle.server.close();
        }
    }
}

impl State {
    /// Whether one of `open` servers that comes back is one too many.
    pub(super) fn is_beyond(&self, open: usize) -> bool {
        open > self.terms.size
    }
}
