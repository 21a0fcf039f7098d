//! The process: listeners, connections, the order of going down.

mod accept;
mod listen;
mod reload;
mod shutdown;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use accept::Door;
pub use listen::{Address, StartError};
pub use reload::{Refused, Reloaded, Reloader, Source};
pub use shutdown::{Signal, Signals};

use crate::config::{Loaded, Settings};
use crate::pool::PoolMode;
use crate::session::{Console, House};

/// A pooler that accepts clients.
#[derive(Debug)]
pub struct Running {
    pub house: Arc<House>,
    door: Arc<Door>,
    addresses: Vec<(PoolMode, Address)>,
    tasks: Vec<JoinHandle<()>>,
    /// What others than the system ask of it.
    asked: Signals,
    pub reins: Reins,
}

/// What the console is given over the process.
#[derive(Clone, Debug)]
pub struct Reins {
    /// Ends it.
    pub signals: mpsc::UnboundedSender<Signal>,
    /// Empty where nothing can be reloaded.
    pub reloader: Arc<OnceLock<Arc<Reloader>>>,
}

/// Binds every listener and begins to accept. Must be called inside the runtime that is to serve the clients. `console` makes
/// what answers its clients.
///
/// # Errors
/// A port that is taken, a directory that cannot be written to, a certificate that cannot be read: each one sentence with
/// what to do.
pub fn start(settings: &Arc<Settings>, console: impl FnOnce(Reins) -> Arc<dyn Console>) -> Result<Running, StartError> {
    let bound = listen::bind(settings)?;
    let (signals, asked) = mpsc::unbounded_channel();
    let reins = Reins { signals, reloader: Arc::default() };
    let door = Arc::new(Door::new(settings, console(reins.clone()))?);
    let house = Arc::clone(&door.house);
    let mut tasks = vec![tokio::spawn(Arc::clone(&house.registry).keep())];
    let mut addresses = Vec::new();
    for listener in bound {
        addresses.push((listener.mode, listener.address.clone()));
        tasks.push(tokio::spawn(accept::accept(listener, Arc::clone(&door))));
    }
    Ok(Running { house, door, addresses, tasks, asked, reins })
}

impl Running {
    /// Where clients arrive, as bound.
    pub fn addresses(&self) -> &[(PoolMode, Address)] {
        &self.addresses
    }

    /// The port of a mode, as bound.
    pub fn port(&self, mode: PoolMode) -> Option<u16> {
        self.addresses.iter().find_map(|(m, address)| match address {
            Address::Tcp(address) if *m == mode => Some(address.port()),
            _ => None,
        })
    }

    /// What takes another configuration up while this serves.
    pub fn reloader(&self, running: Loaded, source: Source) -> Arc<Reloader> {
        let reloader = Reloader::new(&self.door, running, source);
        // There is one for each process.
        let _ = self.reins.reloader.set(Arc::clone(&reloader));
        reloader
    }

    /// Serves until a signal ends it, in order: no new clients, idle ones told, transactions finished, servers closed.
    pub async fn serve(self, signals: Signals) {
        shutdown::run(self, signals).await;
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}
