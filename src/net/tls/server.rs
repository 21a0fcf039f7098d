//! TLS towards clients.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::config::ClientTls;
use crate::net::socket::Socket;
use crate::net::stream::{Secured, Stream};
use crate::net::tls::certificates::{Certificates, Choice};
use crate::net::tls::watched::Watched;
use crate::net::tls::{ALPN, TlsSetupError, provider, read_certificates};

/// One is enough for a client that connects again; rustls would send two.
const TICKETS: usize = 1;

/// The certificates clients are shown, and what theirs are verified with. Changed files are read again, at most a second
/// later and at the next handshake.
#[derive(Debug)]
pub struct ServerTls(Arc<Watched<Served>>);

/// What one handshake is done with, from its beginning to its end.
#[derive(Debug)]
struct Served {
    config: Arc<ServerConfig>,
    choice: Arc<Choice>,
}

impl ServerTls {
    /// `None` where TLS is off. Reads files: not for a data worker.
    pub fn load(source: &ClientTls) -> Result<Option<Self>, TlsSetupError> {
        if *source == ClientTls::Off {
            return Ok(None);
        }
        let given = source.clone();
        let watched = Watched::new("the certificate that clients are shown", files(source), move || read(&given))?;
        Ok(Some(Self(watched)))
    }

    /// Reads the files again. Where they are bad, those read before stay in use.
    pub fn reload(&self) -> Result<(), TlsSetupError> {
        self.0.reload()
    }

    /// The handshake after an SSLRequest that was answered with `S`, of which `head` was already read: most often nothing.
    pub async fn accept(&self, socket: Socket, head: &[u8]) -> io::Result<Stream> {
        let served = self.0.current().await;
        served.accept(socket, head).await
    }

    /// The handshake of direct TLS, of which `head` was already read. The client has to name the protocol (ALPN), as
    /// with PostgreSQL: else a browser could be made to speak to a database.
    pub async fn accept_direct(&self, socket: Socket, head: &[u8]) -> io::Result<Stream> {
        let served = self.0.current().await;
        let stream = served.accept(socket, head).await?;
        match &stream {
            Stream::Tls(secured) if secured.tls.get_ref().1.alpn_protocol() == Some(ALPN) => Ok(stream),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "direct TLS without ALPN protocol \"postgresql\"")),
        }
    }
}

impl Served {
    async fn accept(&self, socket: Socket, head: &[u8]) -> io::Result<Stream> {
        let (config, choice) = self.terms();
        let tls = begin(config, socket, head).await?.await?;
        Ok(Stream::Tls(Box::new(Secured::new(tls.into(), choice.end_point()))))
    }

    /// Where there is a choice of certificates, each handshake makes its own.
    fn terms(&self) -> (Arc<ServerConfig>, Arc<Choice>) {
        let Some(choice) = self.choice.anew().map(Arc::new) else { return (self.config.clone(), self.choice.clone()) };
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = choice.clone();
        (Arc::new(config), choice)
    }
}

/// Begins a handshake of which `head` was already read. What is wrong in it is answered, as it is for what comes later.
async fn begin(config: Arc<ServerConfig>, socket: Socket, mut head: &[u8]) -> io::Result<Accept<Socket>> {
    let (mut begun, mut alert) = (Ok(()), Vec::new());
    let mut accept = TlsAcceptor::from(config).accept_with(socket, |session| {
        if head.is_empty() {
            return;
        }
        // All of the client's first flight may be there: whoever only goes on reading would wait for more.
        begun = session.read_tls(&mut head).and_then(|_| {
            let processed = session.process_new_packets();
            processed.map(drop).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        });
        if begun.is_err() {
            let _ = session.write_tls(&mut alert);
        }
    });
    if begun.is_err()
        && let Some(socket) = accept.get_mut()
    {
        let _ = socket.write_all(&alert).await;
    }
    begun?;
    if head.is_empty() { Ok(accept) } else { Err(io::Error::other("the TLS session did not take its first bytes")) }
}

/// The development certificate is nobody's to change.
fn files(source: &ClientTls) -> Vec<PathBuf> {
    let shown = match source {
        ClientTls::Files { certificates, .. } => certificates.as_slice(),
        ClientTls::Off | ClientTls::Development { .. } => &[],
    };
    let authority = source.clients().map(|clients| clients.authority.clone());
    shown.iter().flat_map(|shown| [shown.certificate.clone(), shown.key.clone()]).chain(authority).collect()
}

fn read(source: &ClientTls) -> Result<Served, TlsSetupError> {
    let choice = Arc::new(Choice::of(match source {
        ClientTls::Off => return Err(TlsSetupError::general("TLS is off")),
        ClientTls::Development { directory, .. } => Certificates::development(directory)?,
        ClientTls::Files { certificates, .. } => Certificates::read(certificates)?,
    }));
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(TlsSetupError::general)?;
    let builder = match source.clients() {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(client_verifier(&clients.authority)?),
    };
    let mut config = builder.with_cert_resolver(choice.clone());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // A ticket is all there is to remember, and the client keeps it. With it a client's certificate would go unverified
    // for as long as it is good, so whoever verifies those does so each time.
    if source.clients().is_none() {
        config.ticketer = Ticketer::new().map_err(TlsSetupError::general)?;
        config.send_tls13_tickets = TICKETS;
    }
    Ok(Served { config: Arc::new(config), choice })
}

/// As PostgreSQL asks: a client need not have a certificate for the handshake, so that it can be told in the protocol's own
/// words that it needs one; but one that it shows has to be good.
fn client_verifier(authority: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(authority)? {
        roots.add(certificate).map_err(|error| TlsSetupError::at(authority, error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsSetupError::at(authority, error))
}
