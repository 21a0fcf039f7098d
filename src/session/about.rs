//! What is known of a client since its login, and does not change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::login::Login;
use crate::net::socket::{End, Peer};
use crate::net::stream::TlsFacts;
use crate::pool::{Pool, PoolKey};
use crate::telemetry::Moment;
use crate::wire::startup::Replication;

#[derive(Debug)]
pub struct About {
    pub pool: Arc<PoolKey>,
    peer: End,
    local: Option<End>,
    pub tls: Option<TlsFacts>,
    pub replication: Replication,
    pub connected: Moment,
    pub connected_at: SystemTime,
}

impl About {
    /// `local` is known, or the system is asked for it.
    pub(super) fn client(login: &Login, pool: &Pool, local: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self::at(login, Arc::clone(&pool.key), local.or_else(|| login.stream.local())))
    }

    /// `pool` need not exist.
    pub fn new(login: &Login, pool: Arc<PoolKey>) -> Self {
        Self::at(login, pool, login.stream.local())
    }

    fn at(login: &Login, pool: Arc<PoolKey>, local: Option<SocketAddr>) -> Self {
        Self {
            pool,
            peer: login.stream.peer().into(),
            local: local.map(End::from),
            tls: login.stream.tls_facts(),
            replication: login.who.startup.replication,
            connected: Moment::now(),
            connected_at: SystemTime::now(),
        }
    }

    pub fn peer(&self) -> Peer {
        self.peer.peer()
    }

    /// The address it came to, over TCP.
    pub fn local(&self) -> Option<SocketAddr> {
        match self.local.as_ref()?.peer() {
            Peer::Tcp(address) => Some(address),
            Peer::Unix { .. } => None,
        }
    }

    #[cfg(test)]
    pub(super) fn of(project: &str) -> Arc<Self> {
        let nobody = String::new;
        let mode = crate::pool::PoolMode::Session;
        Arc::new(Self {
            pool: Arc::new(PoolKey { project: project.to_owned(), database: nobody(), user: nobody(), mode }),
            peer: End::Unix { pid: None },
            local: None,
            tls: None,
            replication: Replication::Off,
            connected: Moment::now(),
            connected_at: SystemTime::now(),
        })
    }
}
