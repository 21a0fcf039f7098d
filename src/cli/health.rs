//! `sidepool health`: whether the Sidepool with these settings is ready, for health checks of containers.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::Listen;

/// For each of connecting, writing and reading.
const PATIENCE: Duration = Duration::from_secs(3);
/// The status line and the one of the body are far shorter, in bytes.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Exit code 0: it is. 1: it is not, and why not is said.
pub fn run(listen: &Listen) -> ExitCode {
    match ask(listen) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("not ready: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// By `/readyz` where there is HTTP; otherwise whether a client would be met.
fn ask(listen: &Listen) -> Result<String, String> {
    match (listen.http, [listen.session_port, listen.transaction_port].into_iter().flatten().next(), &listen.unix_socket_dir) {
        (Some(http), ..) => readyz(nearest(http)?),
        (None, Some(port), Some(directory)) if listen.addresses.is_empty() => {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            let greeted = || {
                let stream = UnixStream::connect(&path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                greeted(stream)
            };
            greeted().map_err(|error| not_met(&path.display(), &error))
        }
        (None, Some(port), _) => {
            let address =
                nearest(SocketAddr::new(listen.addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into()), port))?;
            connect(address).and_then(greeted).map_err(|error| not_met(&address, &error))
        }
        (None, None, _) => Err("no port is configured".to_owned()),
    }
}

fn not_met(place: &dyn fmt::Display, error: &io::Error) -> String {
    format!("{place}: {error}. Is Sidepool running, and with these settings?")
}

/// From this machine. A port that was chosen at start is known to that process alone.
fn nearest(listening: SocketAddr) -> Result<SocketAddr, String> {
    if listening.port() == 0 {
        return Err("the port is 0, one that the running process has chosen: give it a number".to_owned());
    }
    let ip: IpAddr = match listening.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, listening.port()))
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn readyz(address: SocketAddr) -> Result<String, String> {
    let asked = || {
        let mut stream = connect(address)?;
        stream.write_all(format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).map(|_| answer)
    };
    let answer = asked().map_err(|error| not_met(&address, &error))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.trim_end().to_owned()),
        Some("503") => Err(body.trim_end().to_owned()),
        _ => Err(format!("{address} is not a Sidepool's HTTP")),
    }
}

/// Every Sidepool answers an SSLRequest with one letter (protocol chapter "SSL Session Encryption").
fn greeted(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
    let mut letter = [0];
    stream.read_exact(&mut letter)?;
    match letter {
        [b'S' | b'N'] => Ok("accepting clients".to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "what listens there does not speak PostgreSQL's protocol")),
    }
}
