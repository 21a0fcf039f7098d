//! TLS towards upstreams.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::config::{SslMode, UpstreamTls};
use crate::net::socket::Socket;
use crate::net::stream::Stream;
use crate::net::tls::verify::{Roots, ServerVerifier};
use crate::net::tls::{ALPN, TlsSetupError, provider};

/// How an upstream's connections are encrypted: made once for each upstream and shared, since its roots take memory.
#[derive(Clone, Debug)]
pub enum TlsContext {
    Off,
    /// Asked for with an SSLRequest; spoken if the server agrees.
    Prefer(Arc<ClientConfig>),
    Require(Arc<ClientConfig>),
    /// `sslnegotiation=direct`: required, and begun without asking.
    Direct(Arc<ClientConfig>),
}

impl TlsContext {
    /// Reads the root certificates: not for a data worker.
    pub fn load(tls: &UpstreamTls) -> Result<Self, TlsSetupError> {
        let verifier = match (tls.mode, &tls.root_certificate) {
            (SslMode::Disable, _) => return Ok(Self::Off),
            (SslMode::Prefer, _) | (SslMode::Require, None) => ServerVerifier::anything(),
            // libpq, too, checks the chain under `require` once it is told with which roots.
            (SslMode::Require | SslMode::VerifyCa, roots) => ServerVerifier::chain(Roots::load(roots.as_deref())?),
            (SslMode::VerifyFull, roots) => ServerVerifier::chain_and_name(Roots::load(roots.as_deref())?),
        };
        let config = configure(verifier)?;
        Ok(match tls.mode {
            _ if tls.direct => Self::Direct(config),
            SslMode::Prefer => Self::Prefer(config),
            _ => Self::Require(config),
        })
    }
}

/// The handshake on a socket whose server waits for one. `host` is the name that was configured, or an address.
pub(crate) async fn handshake(config: &Arc<ClientConfig>, socket: Socket, host: &str) -> io::Result<Stream> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the host name cannot stand in a certificate"))?;
    let tls = TlsConnector::from(config.clone()).connect(name, socket).await?;
    Ok(Stream::Tls(Box::new(tls.into())))
}

/// Whether the server agreed on PostgreSQL's protocol, which direct TLS needs.
pub(crate) fn has_alpn(stream: &Stream) -> bool {
    matches!(stream, Stream::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(ALPN))
}

fn configure(verifier: ServerVerifier) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::general)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    // PostgreSQL resumes no sessions.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
