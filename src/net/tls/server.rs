//! TLS towards clients.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::config::ClientTls;
use crate::net::dev_cert;
use crate::net::socket::Socket;
use crate::net::stream::Stream;
use crate::net::tls::{ALPN, TlsSetupError, provider, read_certificates, read_key};

/// The certificate clients are shown. It can be read again while connections are accepted.
#[derive(Debug)]
pub struct ServerTls {
    source: ClientTls,
    config: RwLock<Arc<ServerConfig>>,
}

impl ServerTls {
    /// `None` where TLS is off. Reads files: not for a data worker.
    pub fn load(source: &ClientTls) -> Result<Option<Self>, TlsSetupError> {
        let config = match source {
            ClientTls::Off => return Ok(None),
            given => read(given)?,
        };
        Ok(Some(Self { source: source.clone(), config: RwLock::new(config) }))
    }

    /// Reads the files again. Where they are bad, those read before stay in use.
    pub fn reload(&self) -> Result<(), TlsSetupError> {
        let config = read(&self.source)?;
        *self.config.write() = config;
        Ok(())
    }

    /// The handshake after an SSLRequest that was answered with `S`.
    pub async fn accept(&self, socket: Socket) -> io::Result<Stream> {
        finish(self.acceptor().accept(socket)).await
    }

    /// The handshake of direct TLS, of which `head` was already read. The client has to name the protocol (ALPN), as
    /// with PostgreSQL: else a browser could be made to speak to a database.
    pub async fn accept_direct(&self, socket: Socket, head: &[u8]) -> io::Result<Stream> {
        let mut fed = Ok(0);
        let accept = self.acceptor().accept_with(socket, |session| fed = session.read_tls(&mut &head[..]));
        if fed? != head.len() {
            return Err(io::Error::other("the TLS session did not take its first bytes"));
        }
        let stream = finish(accept).await?;
        match &stream {
            Stream::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(ALPN) => Ok(stream),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "direct TLS without ALPN protocol \"postgresql\"")),
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.read().clone())
    }
}

async fn finish(accept: Accept<Socket>) -> io::Result<Stream> {
    Ok(Stream::Tls(Box::new(accept.await?.into())))
}

fn read(source: &ClientTls) -> Result<Arc<ServerConfig>, TlsSetupError> {
    match source {
        ClientTls::Off => Err(TlsSetupError::general("TLS is off")),
        ClientTls::Development { directory } => {
            let (chain, key) = dev_cert::load_or_create(directory)?;
            configure(chain, key, directory)
        }
        ClientTls::Files { certificate, key } => configure(read_certificates(certificate)?, read_key(key)?, certificate),
    }
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    path: &Path,
) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::general)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| TlsSetupError::at(path, error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // No client of PostgreSQL resumes a session; tickets would only cost bytes, and memory to remember them.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}
