//! Binding.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::Settings;
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
    pub socket: Bound,
}

#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _removed: RemovedOnDrop },
}

/// The socket's file, which nobody else would remove.
#[derive(Debug)]
pub(super) struct RemovedOnDrop(PathBuf);

impl Drop for RemovedOnDrop {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
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

/// Binds both ports on every address, and their Unix sockets. All of it or nothing.
pub(super) fn bind(settings: &Settings) -> Result<Vec<Listener>, StartError> {
    let listen = &settings.listen;
    let ports = [(PoolMode::Session, listen.session_port), (PoolMode::Transaction, listen.transaction_port)];
    let mut bound = Vec::new();
    for (mode, port) in ports {
        let Some(mut port) = port else { continue };
        let mut usable = 0;
        for address in &listen.addresses {
            match bind_tcp(*address, port) {
                Ok((socket, address)) => {
                    // A free port taken on the first address is meant for all of them.
                    port = address.port();
                    usable += 1;
                    bound.push(Listener { mode, address: Address::Tcp(address), socket: Bound::Tcp(socket) });
                }
                // A machine without IPv6 still has a localhost.
                Err(error) if is_unavailable(&error) && listen.addresses.len() > 1 => {}
                Err(error) => return Err(taken(mode, SocketAddr::new(*address, port), &error)),
            }
        }
        if usable == 0 && !listen.addresses.is_empty() {
            let hint = "Set listen.addresses to addresses of this machine.";
            return Err(StartError::new("none of the addresses in listen.addresses exists here", hint));
        }
        if let Some(directory) = &listen.unix_socket_dir {
            bound.push(bind_unix(mode, directory, port)?);
        }
    }
    Ok(bound)
}

fn bind_tcp(address: IpAddr, port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let address = SocketAddr::new(address, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok((listener, address))
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

fn bind_unix(mode: PoolMode, directory: &Path, port: u16) -> Result<Listener, StartError> {
    let path = directory.join(format!(".s.PGSQL.{port}"));
    let failed = |error: &io::Error| {
        StartError::new(
            format!("cannot listen on the Unix socket {}: {error}", path.display()),
            "Set listen.unix_socket_dir to a directory that exists and may be written to, with a path below 100 bytes.",
        )
    };
    remove_stale(&path)?;
    let socket = UnixListener::bind(&path).map_err(|e| failed(&e))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).map_err(|e| failed(&e))?;
    let removed = RemovedOnDrop(path.clone());
    Ok(Listener { mode, address: Address::Unix(path), socket: Bound::Unix { listener: socket, _removed: removed } })
}

/// A socket file that nobody answers on is left over from a crash.
fn remove_stale(path: &Path) -> Result<(), StartError> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(StartError::new(
            format!("somebody listens on the Unix socket {} already", path.display()),
            "Stop it, or set listen.unix_socket_dir to another directory.",
        ));
    }
    let _ = std::fs::remove_file(path);
    Ok(())
}
