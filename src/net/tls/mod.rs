//! TLS both ways: rustls with the ring provider, which is passed explicitly (two providers in one binary would panic).

mod client;
mod server;
mod verify;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use client::TlsContext;
pub(crate) use client::{handshake, has_alpn};
pub use server::ServerTls;

/// PostgreSQL's name in ALPN: required of direct TLS, where no SSLRequest says what is to be spoken.
pub const ALPN: &[u8] = b"postgresql";

/// A certificate, a key or a root that cannot be used: one sentence with the file and what is wrong with it.
#[derive(Debug)]
pub struct TlsSetupError {
    path: Option<PathBuf>,
    what: String,
}

impl TlsSetupError {
    pub(crate) fn at(path: &Path, what: impl fmt::Display) -> Self {
        Self { path: Some(path.to_owned()), what: what.to_string() }
    }

    fn general(what: impl fmt::Display) -> Self {
        Self { path: None, what: what.to_string() }
    }
}

impl fmt::Display for TlsSetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for TlsSetupError {}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Every certificate of a PEM file, of which there must be one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| TlsSetupError::at(path, error));
    match certificates? {
        none if none.is_empty() => Err(TlsSetupError::at(path, "there is no certificate in this PEM file")),
        some => Ok(some),
    }
}

pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsSetupError::at(path, error))
}

#[cfg(test)]
mod tests;
