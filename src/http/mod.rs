//! HTTP beside the data path: `/metrics`, `/healthz`, `/readyz`, `/api/state`, a few commands, and a page at `/`.
//!
//! On a thread and a runtime of its own: a scrape of many pools, or somebody who sends one byte a minute, takes no time of
//! a data worker. One request per connection and no body, so that nothing of HTTP is needed but the request line and a few
//! headers, within bounds on bytes, time and connections. Commands are the console's, and run where the clients are served.

mod action;
mod answer;
mod metrics;
mod ready;
mod request;
mod serve;
mod state;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use crate::admin::Remote;
use crate::config::{Listen, Settings};
use crate::server::{Running, StartError};
use crate::session::House;
use answer::{Desk, Trust};

/// Connections the system may hold for us until they are accepted.
const BACKLOG: i32 = 64;

/// Binds and serves, if HTTP is wanted; where. Unless another process has the port too, it serves for as
/// long as this one lives, so that a drain can be watched to its end.
///
/// # Errors
/// A port that is taken, an address that this machine has not.
pub fn start(running: &mut Running, settings: &Settings) -> Result<Option<SocketAddr>, StartError> {
    let Some(address) = settings.listen.http else { return Ok(None) };
    let listener = match running.handed.take_http(address) {
        Some(listener) => listener,
        None => bind(address, settings.listen.reuse_port).map_err(|error| refused(address, &error))?,
    };
    let closing = running.open_http(&listener)?;
    let bound = listener.local_addr().map_err(|error| refused(address, &error))?;
    let trust = Trust::new(settings.listen.http_token.clone(), bound).ok_or_else(|| open_to_all(bound))?;
    let desk = Desk::new(Remote::new(running), trust);
    let thread = std::thread::Builder::new().name("http".to_owned());
    thread.spawn(move || serve::run(listener, closing, desk)).map_err(|error| {
        StartError::new(format!("cannot start the thread for HTTP: {error}"), "Look at the limits of this user: ulimit -u.")
    })?;
    Ok(Some(bound))
}

/// Whether the port could be bound now, if HTTP is wanted, by binding it for a moment.
///
/// # Errors
/// As [`start`] for what is bound.
pub fn try_port(listen: &Listen) -> Result<(), StartError> {
    let Some(address) = listen.http else { return Ok(()) };
    bind(address, listen.reuse_port).map(drop).map_err(|error| refused(address, &error))
}

/// What HTTP shows of.
type Shown = Arc<House>;

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// As where listen.http says so; this is a socket that a service manager passed.
fn open_to_all(bound: SocketAddr) -> StartError {
    StartError::new(
        format!("the socket for HTTP is {bound}, which other machines reach, and listen.http_token is not set"),
        "Set a token, or let the service manager listen on 127.0.0.1.",
    )
}

fn refused(address: SocketAddr, error: &io::Error) -> StartError {
    match error.kind() {
        io::ErrorKind::AddrInUse => StartError::new(
            format!("port {} is already in use on {}", address.port(), address.ip()),
            "Stop what listens there, or choose another port with --http.",
        ),
        io::ErrorKind::PermissionDenied => StartError::new(
            format!("port {} needs privileges that this user has not", address.port()),
            "Choose a port above 1023 with --http.",
        ),
        _ => StartError::new(format!("cannot listen for HTTP on {address}: {error}"), "Change listen.http or --http."),
    }
}
