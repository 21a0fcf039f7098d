//! TLS towards upstreams.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::config::{CertificateFiles, SslMode, UpstreamTls};
use crate::net::socket::Socket;
use crate::net::stream::{Secured, Stream};
use crate::net::tls::verify::{Roots, ServerVerifier};
use crate::net::tls::watched::Watched;
use crate::net::tls::{ALPN, TlsSetupError, provider, read_certificates, read_key, unfit};

/// How an upstream's connections are encrypted: made once for each upstream and shared, since its roots take memory.
#[derive(Clone, Debug)]
pub enum TlsContext {
    Off,
    /// Asked for with an SSLRequest; spoken if the server agrees.
    Prefer(UpstreamConfig),
    Require(UpstreamConfig),
    /// `sslnegotiation=direct`: required, and begun without asking.
    Direct(UpstreamConfig),
}

/// Roots and our own certificate, which are read again when their files change.
#[derive(Clone, Debug)]
pub struct UpstreamConfig(Arc<Watched<ClientConfig>>);

impl TlsContext {
    /// Reads the root certificates: not for a data worker.
    pub fn load(tls: &UpstreamTls) -> Result<Self, TlsSetupError> {
        if tls.mode == SslMode::Disable {
            return Ok(Self::Off);
        }
        let own = tls.client_certificate.iter().flat_map(|own| [&own.certificate, &own.key]);
        let files = tls.root_certificate.iter().chain(own).cloned().collect();
        let (mode, direct, tls) = (tls.mode, tls.direct, tls.clone());
        let config = UpstreamConfig(Watched::new("an upstream's root or client certificate", files, move || configure(&tls))?);
        Ok(match mode {
            _ if direct => Self::Direct(config),
            SslMode::Prefer => Self::Prefer(config),
            _ => Self::Require(config),
        })
    }

    /// Reads the files again. Where they are bad, those read before stay in use.
    pub fn reload(&self) -> Result<(), TlsSetupError> {
        match self {
            Self::Off => Ok(()),
            Self::Prefer(config) | Self::Require(config) | Self::Direct(config) => config.0.reload(),
        }
    }

    #[cfg(test)]
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        match self {
            Self::Prefer(config) | Self::Require(config) | Self::Direct(config) => config.0.made(),
            Self::Off => panic!("no TLS"),
        }
    }
}

/// The handshake on a socket whose server waits for one. `host` is the name that was configured, or an address.
pub(crate) async fn handshake(config: &UpstreamConfig, socket: Socket, host: &str) -> io::Result<Stream> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the host name cannot stand in a certificate"))?;
    let config = config.0.current().await;
    let tls = TlsConnector::from(config).connect(name, socket).await?;
    Ok(Stream::Tls(Box::new(Secured::new(tls.into(), None))))
}

/// Whether the server agreed on PostgreSQL's protocol, which direct TLS needs.
pub(crate) fn has_alpn(stream: &Stream) -> bool {
    matches!(stream, Stream::Tls(secured) if secured.tls.get_ref().1.alpn_protocol() == Some(ALPN))
}

fn configure(tls: &UpstreamTls) -> Result<ClientConfig, TlsSetupError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::general)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier(tls)?));
    let mut config = match &tls.client_certificate {
        None => builder.with_no_client_auth(),
        Some(CertificateFiles { certificate, key }) => builder
            .with_client_auth_cert(read_certificates(certificate)?, read_key(key)?)
            .map_err(|error| unfit(certificate, &error))?,
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    // PostgreSQL resumes no sessions.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn verifier(tls: &UpstreamTls) -> Result<ServerVerifier, TlsSetupError> {
    Ok(match (tls.mode, &tls.root_certificate) {
        (SslMode::Disable | SslMode::Prefer, _) | (SslMode::Require, None) => ServerVerifier::anything(),
        // libpq, too, checks the chain under `require` once it is told with which roots.
        (SslMode::Require | SslMode::VerifyCa, roots) => ServerVerifier::chain(Roots::load(roots.as_deref())?),
        (SslMode::VerifyFull, roots) => ServerVerifier::chain_and_name(Roots::load(roots.as_deref())?),
    })
}
