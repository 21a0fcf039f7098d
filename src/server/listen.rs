//! Binding.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};

use super::handed::{Handed, Origin};
use crate::config::{Listen, Settings};
use crate::net::acceptor::Acceptor;
use crate::net::socket::TcpOptions;
use crate::pool::PoolMode;

/// PgBouncer's 128 is too few for a burst of serverless clients (trap 83).
const BACKLOG: i32 = 1024;

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug)]
pub(super) struct Listener {
    pub mode: PoolMode,
    pub address: Address,
    pub socket: Acceptor,
}

impl Listener {
    /// The address that whoever comes here came to, where it listens at one alone. To ask the system is a syscall for each client.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        match self.address {
            Address::Tcp(address) => Some(address).filter(|address| !address.ip().is_unspecified()),
            Address::Unix(_) => None,
        }
    }
}

/// What was opened, and what is to be removed when it is closed.
#[derive(Debug, Default)]
pub(super) struct Listening {
    pub listeners: Vec<Listener>,
    pub files: Vec<RemovedOnDrop>,
}

/// The socket's file, which nobody else would remove.
#[derive(Debug)]
pub(super) struct RemovedOnDrop(PathBuf);

impl RemovedOnDrop {
    pub(super) fn of(path: PathBuf) -> Self {
        Self(path)
    }

    /// It is somebody else's now.
    pub(super) fn keep(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for RemovedOnDrop {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

impl Address {
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

/// Why the pooler cannot start: one sentence with what happened, one with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    pub message: String,
    pub hint: String,
}

impl StartError {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}. {}", self.message, self.hint)
    }
}

impl std::error::Error for StartError {}

/// Opens both ports on every address, and their Unix sockets, or takes up what was handed over. All of it or nothing.
pub(super) fn listen(settings: &Settings, handed: &mut Handed) -> Result<Listening, StartError> {
    handed.assign(settings)?;
    let mut listening = Listening::default();
    for (mode, port) in ports(&settings.listen) {
        if handed.origin == Origin::Predecessor || listening.take_all(mode, handed)? == 0 {
            listening.open(mode, port, &settings.listen, handed)?;
        }
    }
    Ok(listening)
}

/// Whether both ports could be opened now, by opening them for a moment: before what takes long, or leaves something behind.
///
/// # Errors
/// As [`start`](super::start) for what listens.
pub fn try_ports(listen: &Listen) -> Result<(), StartError> {
    let mut listening = Listening::default();
    for (mode, port) in ports(listen) {
        listening.open(mode, port, listen, &mut Handed::default())?;
    }
    Ok(())
}

fn ports(listen: &Listen) -> impl Iterator<Item = (PoolMode, u16)> {
    let ports = [(PoolMode::Session, listen.session_port), (PoolMode::Transaction, listen.transaction_port)];
    ports.into_iter().filter_map(|(mode, port)| Some((mode, port?)))
}

impl Listening {
    /// Where a service manager listens for us, its word counts and not the settings'. How many there were.
    fn take_all(&mut self, mode: PoolMode, handed: &mut Handed) -> Result<usize, StartError> {
        let mut count = 0;
        while let Some((address, socket)) = handed.take(mode.into(), |_| true) {
            self.adopt(mode, address, socket)?;
            count += 1;
        }
        Ok(count)
    }

    fn open(&mut self, mode: PoolMode, mut port: u16, listen: &Listen, handed: &mut Handed) -> Result<(), StartError> {
        let mut usable = 0;
        for ip in &listen.addresses {
            if let Some((address, socket)) = handed.take(mode.into(), |address| is_at(address, *ip, port)) {
                // A free port taken on the first address is meant for all of them.
                port = address.port().unwrap_or(port);
                usable += 1;
                self.adopt(mode, address, socket)?;
                continue;
            }
            match bind_tcp(*ip, port, listen.reuse_port) {
                Ok((socket, address)) => {
                    port = address.port();
                    usable += 1;
                    self.listeners.push(Listener { mode, address: Address::Tcp(address), socket });
                }
                // A machine without IPv6 still has a localhost.
                Err(error) if is_unavailable(&error) && listen.addresses.len() > 1 => {}
                Err(error) => return Err(taken(mode, SocketAddr::new(*ip, port), &error)),
            }
        }
        if usable == 0 && !listen.addresses.is_empty() {
            let hint = "Set listen.addresses to addresses of this machine.";
            return Err(StartError::new("none of the addresses in listen.addresses exists here", hint));
        }
        if let Some(directory) = &listen.unix_socket_dir {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            match handed.take(mode.into(), |address| *address == Address::Unix(path.clone())) {
                // Its file is the predecessor's until that has let go.
                Some((address, socket)) => self.adopt(mode, address, socket)?,
                None => self.bind_unix(mode, path)?,
            }
        }
        Ok(())
    }

    fn adopt(&mut self, mode: PoolMode, address: Address, socket: Socket) -> Result<(), StartError> {
        let bound = match address {
            Address::Tcp(_) => Acceptor::tcp(socket.into(), TcpOptions::CLIENT),
            Address::Unix(_) => Acceptor::unix(socket.into()),
        };
        let hint = "This is a fault of the system, not of the configuration.";
        let socket =
            bound.map_err(|e| StartError::new(format!("cannot listen on the socket handed over for {address}: {e}"), hint))?;
        self.listeners.push(Listener { mode, address, socket });
        Ok(())
    }

    fn bind_unix(&mut self, mode: PoolMode, path: PathBuf) -> Result<(), StartError> {
        let hint = "Set listen.unix_socket_dir to a directory that exists and may be written to, with a path below 100 bytes.";
        // PostgreSQL's own: everybody may connect, and says who he is.
        let (socket, file) = bind_unix(&path, 0o777, "listen.unix_socket_dir to another directory", hint)?;
        self.files.push(file);
        let address = Address::Unix(path);
        let failed = |error| StartError::new(format!("cannot listen on the Unix socket {address}: {error}"), hint);
        let socket = Acceptor::unix(socket).map_err(failed)?;
        self.listeners.push(Listener { mode, address, socket });
        Ok(())
    }
}

fn is_at(address: &Address, ip: IpAddr, port: u16) -> bool {
    matches!(address, Address::Tcp(address) if address.ip() == ip && [0, address.port()].contains(&port))
}

fn bind_tcp(address: IpAddr, port: u16, reuse_port: bool) -> io::Result<(Acceptor, SocketAddr)> {
    let address = SocketAddr::new(address, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((Acceptor::tcp(listener, TcpOptions::CLIENT)?, address))
}

fn is_unavailable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn taken(mode: PoolMode, address: SocketAddr, error: &io::Error) -> StartError {
    let flag = match mode {
        PoolMode::Session => "--session-port",
        PoolMode::Transaction => "--transaction-port",
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => StartError::new(
            format!("port {} is already in use on {}", address.port(), address.ip()),
            format!("Stop what listens there, a PostgreSQL perhaps, or choose another port with {flag}."),
        ),
        io::ErrorKind::PermissionDenied => StartError::new(
            format!("port {} needs privileges that this user has not", address.port()),
            format!("Choose a port above 1023 with {flag}."),
        ),
        _ => StartError::new(format!("cannot listen on {address}: {error}"), format!("Change listen.addresses or {flag}.")),
    }
}

/// A Unix socket that those with these permissions may connect to.
pub(super) fn bind_unix(
    path: &Path,
    permissions: u32,
    elsewhere: &str,
    hint: &str,
) -> Result<(UnixListener, RemovedOnDrop), StartError> {
    let failed =
        |error: &io::Error| StartError::new(format!("cannot listen on the Unix socket {}: {error}", path.display()), hint);
    remove_stale(path, elsewhere)?;
    let socket = UnixListener::bind(path).map_err(|e| failed(&e))?;
    let file = RemovedOnDrop(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(permissions)).map_err(|e| failed(&e))?;
    Ok((socket, file))
}

/// A socket file that nobody answers on is left over from a crash.
fn remove_stale(path: &Path, elsewhere: &str) -> Result<(), StartError> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(StartError::new(
            format!("somebody listens on the Unix socket {} already", path.display()),
            format!("Stop it, or set {elsewhere}."),
        ));
    }
    let _ = std::fs::remove_file(path);
    Ok(())
}
