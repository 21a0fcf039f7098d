//! Whether to send clients here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio::net::{TcpStream, UnixStream};

use super::Shown;
use crate::config::{Host, Project};
use crate::pool::Reach;

/// What was found out of the upstreams counts for this long.
const REMEMBERED: Duration = Duration::from_secs(2);
/// For an upstream to take a connection.
const PROBE_TIME: Duration = Duration::from_secs(2);
/// Upstreams that are tried at once.
const PROBES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Yes,
    /// No upstream lets anybody in.
    Unreachable,
    /// The process is going down.
    Draining,
}

impl Ready {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "ready",
            Self::Unreachable => "no upstream can be reached",
            Self::Draining => "draining",
        }
    }
}

/// Looks, and remembers what it saw.
#[derive(Debug)]
pub(super) struct Readiness {
    house: Shown,
    seen: Mutex<Option<(Instant, Ready)>>,
}

impl Readiness {
    pub(super) fn new(house: &Shown) -> Self {
        Self { house: house.clone(), seen: Mutex::default() }
    }

    /// Ready while at least one project's upstream can be reached: one that is down takes nothing from the others.
    pub(super) async fn look(&self) -> Ready {
        if self.house.sessions.stopping().is_some() {
            return Ready::Draining;
        }
        let seen = *self.seen.lock();
        if let Some((at, ready)) = seen
            && at.elapsed() < REMEMBERED
        {
            return ready;
        }
        let ready = if self.any_reachable().await { Ready::Yes } else { Ready::Unreachable };
        *self.seen.lock() = Some((Instant::now(), ready));
        ready
    }

    async fn any_reachable(&self) -> bool {
        let pools = self.house.registry.all();
        let mut unknown = Vec::new();
        let settings = self.house.settings.get();
        for project in settings.projects.iter().filter(|project| project.disabled.is_none()) {
            let reaches = pools.iter().filter(|p| p.key.project == project.name).map(|p| p.reach());
            let (mut up, mut down) = (false, false);
            reaches.for_each(|reach| {
                up |= reach == Reach::Up;
                down |= reach == Reach::Down;
            });
            match (up, down) {
                // Pools that wait for it in vain outweigh connections that may be as dead and not know it yet.
                (_, true) => {}
                (true, false) => return true,
                (false, false) => unknown.push(Arc::clone(project)),
            }
        }
        // Several at once: one that does not answer takes its time from no other.
        let mut outcomes = stream::iter(unknown).map(takes_connections).buffer_unordered(PROBES_MAX);
        while let Some(is_reachable) = outcomes.next().await {
            if is_reachable {
                return true;
            }
        }
        false
    }
}

/// PostgreSQL logs nothing of a connection that says nothing.
async fn takes_connections(project: Arc<Project>) -> bool {
    let upstream = &project.upstream;
    let connecting = async {
        match &upstream.host {
            Host::Tcp(host) => TcpStream::connect((host.as_str(), upstream.port)).await.map(drop),
            Host::Unix(directory) => UnixStream::connect(directory.join(format!(".s.PGSQL.{}", upstream.port))).await.map(drop),
        }
    };
    matches!(tokio::time::timeout(PROBE_TIME, connecting).await, Ok(Ok(())))
}
