//! The process: listeners, connections, the order of going down.

mod accept;
mod doors;
mod handed;
mod listen;
mod notify;
mod reload;
mod shutdown;
mod takeover;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

pub use accept::Door;
pub use doors::Closing;
use doors::Doors;
pub use handed::{Handed, Purpose};
pub use listen::{Address, StartError, try_ports};
pub use notify::Notify;
pub use reload::{Read, Refused, Reloaded, Reloader, Source};
pub use shutdown::{Signal, Signals};
pub use takeover::{Cancels, Predecessor};

use crate::config::{Listen, Loaded, Settings};
use crate::net::spawner::Stoppable;
use crate::pool::PoolMode;
use crate::session::{Console, House};

/// A pooler that accepts clients.
#[derive(Debug)]
pub struct Running {
    pub house: Arc<House>,
    /// Listening sockets that nobody has taken up yet.
    pub handed: Handed,
    addresses: Vec<(PoolMode, Address)>,
    doors: Doors,
    door: Arc<Door>,
    notify: Notify,
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

/// Opens every listener and begins to accept. Must be called inside the runtime that is to serve the clients. `console` makes
/// what answers its clients.
///
/// # Errors
/// A port that is taken, a directory that cannot be written to, a certificate that cannot be read: each one sentence with
/// what to do.
pub fn start(settings: &Arc<Settings>, console: impl FnOnce(Reins) -> Arc<dyn Console>) -> Result<Running, StartError> {
    start_with(settings, Handed::default(), console)
}

/// The same with listening sockets that others opened.
///
/// # Errors
/// As [`start`]; or a socket was passed of which it is not known what for.
pub fn start_with(
    settings: &Arc<Settings>,
    mut handed: Handed,
    console: impl FnOnce(Reins) -> Arc<dyn Console>,
) -> Result<Running, StartError> {
    let bound = listen::listen(settings, &mut handed)?;
    let (signals, asked) = mpsc::unbounded_channel();
    let reins = Reins { signals, reloader: Arc::default() };
    let door = Arc::new(Door::new(settings, console(reins.clone()))?);
    let house = Arc::clone(&door.house);
    let mut doors = Doors { files: bound.files, ..Doors::default() };
    doors.tasks.push(Stoppable::spawn(Arc::clone(&house.registry).keep()));
    let mut addresses = Vec::new();
    for listener in bound.listeners {
        addresses.push((listener.mode, listener.address.clone()));
        doors.offer_listener(&listener)?;
        doors.tasks.push(Stoppable::spawn(accept::accept(listener, Arc::clone(&door))));
    }
    Ok(Running { house, handed, addresses, doors, door, notify: Notify::default(), asked, reins })
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

    /// What answers the clients of its own database.
    pub fn console(&self) -> Arc<dyn Console> {
        Arc::clone(&self.door.console)
    }

    /// HTTP comes in at `listener` until it is told to close it.
    ///
    /// # Errors
    /// File descriptors have run out.
    pub fn open_http(&mut self, listener: &TcpListener) -> Result<Closing, StartError> {
        self.doors.with_http(listener)
    }

    /// From now on a new process may take over, at the control socket, if one is set. To be called when everything listens.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn await_successor(&mut self, listen: &Listen) -> Result<(), StartError> {
        self.doors.await_successor(listen, &mut self.handed)
    }

    /// To be called when a predecessor, if there was one, accepts no more: what it handed over is ours, and sockets that nobody has
    /// taken up are closed, for the settings do not want them.
    pub fn inherit(&mut self) {
        self.doors.files.extend(std::mem::take(&mut self.handed).inherit());
    }

    /// Where cancel requests go whose keys are not ours.
    pub fn pass_cancels_to(&self, predecessor: Cancels) {
        // There is but one.
        let _ = self.door.predecessor.set(predecessor);
    }

    /// Whom to tell of going down.
    pub fn tell(&mut self, notify: Notify) {
        self.notify = notify;
    }

    /// What takes another configuration up while this serves.
    pub fn reloader(&self, running: Loaded, source: Source) -> Arc<Reloader> {
        let reloader = Reloader::new(&self.door, running, source);
        // There is one for each process.
        let _ = self.reins.reloader.set(Arc::clone(&reloader));
        reloader
    }

    /// Serves until a signal ends it, or another process that takes over, in order: no new clients, idle ones told,
    /// transactions finished, servers closed.
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
