//! The way to an upstream: a socket, and TLS over it as `sslmode` says.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::config::{Host, Upstream};
use crate::net::socket::{Peer, Socket, TcpOptions, lookup_host};
use crate::net::stream::Stream;
use crate::net::tls::{TlsContext, UpstreamConfig, handshake, has_alpn};
use crate::upstream::connect::Address;
use crate::upstream::error::{ConnectError, NO_TLS};
use crate::wire::request::SSL_REQUEST;

/// Addresses of one name that are tried, one after another.
const ADDRESSES_MAX: usize = 8;
/// For each but the last: a network that swallows IPv6 must not use up the time in which IPv4 would have answered.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// How to reach one upstream.
pub(crate) struct Dial<'a> {
    pub(crate) upstream: &'a Upstream,
    pub(crate) tls: &'a TlsContext,
    /// Go there and nowhere else the name may lead to (a cancel key is good for one server).
    pub(crate) address: Option<&'a Address>,
}

impl Dial<'_> {
    /// Not bounded in time: whoever calls this is.
    pub(crate) async fn open(&self) -> Result<Stream, ConnectError> {
        let socket = self.connect().await?;
        let (Host::Tcp(host), Peer::Tcp(_)) = (&self.upstream.host, socket.peer()) else {
            // libpq, too, has no TLS over a Unix socket, whatever sslmode says.
            return Ok(Stream::Plain(socket));
        };
        match self.tls {
            TlsContext::Off => Ok(Stream::Plain(socket)),
            TlsContext::Direct(config) => self.direct(config, socket, host).await,
            TlsContext::Require(config) => match self.ask(socket).await? {
                Answer::Yes(socket) => self.handshake(config, socket, host).await,
                Answer::No(_) => Err(self.failed(NO_TLS)),
            },
            TlsContext::Prefer(config) => match self.ask(socket).await? {
                Answer::No(socket) => Ok(Stream::Plain(socket)),
                Answer::Yes(socket) => match self.handshake(config, socket, host).await {
                    // As libpq does: what is only preferred may be done without.
                    Err(ConnectError::Tls { .. }) => self.connect().await.map(Stream::Plain),
                    other => other,
                },
            },
        }
    }

    async fn connect(&self) -> Result<Socket, ConnectError> {
        let connected = match (self.address, &self.upstream.host) {
            (Some(Address::Tcp(address)), _) => Socket::connect_tcp(*address, &TcpOptions::UPSTREAM).await,
            (Some(Address::Unix(path)), _) => Socket::connect_unix(path).await,
            (None, Host::Unix(directory)) => Socket::connect_unix(&socket_in(directory, self.upstream.port)).await,
            (None, Host::Tcp(host)) => connect_to_any(host, self.upstream.port).await,
        };
        connected.map_err(|error| self.unreachable(error))
    }

    /// SSLRequest. The answer is one byte and not one more is read, so nothing that was sent in clear behind it can be
    /// taken for something said under TLS.
    async fn ask(&self, mut socket: Socket) -> Result<Answer, ConnectError> {
        let asked = async {
            socket.write_all(&SSL_REQUEST).await?;
            socket.read_u8().await
        };
        match asked.await.map_err(|error| self.unreachable(error))? {
            b'S' => Ok(Answer::Yes(socket)),
            b'N' => Ok(Answer::No(socket)),
            // Not shown: nobody has proved to be the server yet (CVE-2024-10977).
            b'E' => Err(ConnectError::protocol("it answered the request for TLS with an error")),
            other => Err(ConnectError::protocol(format!("it answered the request for TLS with the byte {other:#04x}"))),
        }
    }

    async fn handshake(&self, config: &UpstreamConfig, socket: Socket, host: &str) -> Result<Stream, ConnectError> {
        handshake(config, socket, host).await.map_err(|error| self.failed(error.to_string()))
    }

    async fn direct(&self, config: &UpstreamConfig, socket: Socket, host: &str) -> Result<Stream, ConnectError> {
        let stream = self.handshake(config, socket, host).await?;
        if !has_alpn(&stream) {
            return Err(self.failed("the server did not agree on the ALPN protocol \"postgresql\", which direct TLS needs"));
        }
        Ok(stream)
    }

    fn unreachable(&self, error: io::Error) -> ConnectError {
        ConnectError::Unreachable { target: self.target(), error }
    }

    fn failed(&self, reason: impl Into<String>) -> ConnectError {
        ConnectError::Tls { target: self.target(), reason: reason.into() }
    }

    /// What errors and logs call this upstream.
    pub(crate) fn target(&self) -> String {
        Self::target_of(self.upstream)
    }

    pub(crate) fn target_of(upstream: &Upstream) -> String {
        match &upstream.host {
            Host::Tcp(host) if host.contains(':') => format!("[{host}]:{}", upstream.port),
            Host::Tcp(host) => format!("{host}:{}", upstream.port),
            Host::Unix(directory) => socket_in(directory, upstream.port).display().to_string(),
        }
    }
}

fn socket_in(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

enum Answer {
    Yes(Socket),
    No(Socket),
}

/// One address after another; only the last may take all the time the caller has.
async fn connect_to_any(host: &str, port: u16) -> io::Result<Socket> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    let mut addresses = lookup_host((host, port)).await?.take(ADDRESSES_MAX).peekable();
    while let Some(address) = addresses.next() {
        let connecting = Socket::connect_tcp(address, &TcpOptions::UPSTREAM);
        let connected = match addresses.peek() {
            Some(_) => timeout(ADDRESS_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            None => connecting.await,
        };
        match connected {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
