//! TLS both ways: rustls with the ring provider, which is passed explicitly (two providers in one binary would panic).

mod certificates;
mod client;
mod server;
mod verify;
mod watched;
pub(crate) mod x509;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use client::{TlsContext, UpstreamConfig};
pub(crate) use client::{handshake, has_alpn};
pub use server::ServerTls;

/// PostgreSQL's name in ALPN: required of direct TLS, where no SSLRequest says what is to be spoken.
pub const ALPN: &[u8] = b"postgresql";

/// A certificate, a key or a root that cannot be used: one sentence with the file and what is wrong with it.
#[derive(Debug)]
pub enum TlsSetupError {
    /// With this file.
    At {
        path: PathBuf,
        what: String,
    },
    /// There is no place for a development certificate.
    NotKept {
        directory: PathBuf,
        what: String,
    },
    General(String),
}

impl TlsSetupError {
    pub(crate) fn at(path: &Path, what: impl fmt::Display) -> Self {
        Self::At { path: path.to_owned(), what: what.to_string() }
    }

    pub(crate) fn not_kept(directory: &Path, what: impl fmt::Display) -> Self {
        Self::NotKept { directory: directory.to_owned(), what: what.to_string() }
    }

    fn general(what: impl fmt::Display) -> Self {
        Self::General(what.to_string())
    }
}

impl fmt::Display for TlsSetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At { path, what } => write!(f, "{}: {what}", path.display()),
            Self::NotKept { directory, what } => {
                write!(f, "a development certificate cannot be kept in {}: {what}", directory.display())
            }
            Self::General(what) => f.write_str(what),
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
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| illegible(path, &error));
    match certificates? {
        none if none.is_empty() => Err(TlsSetupError::at(path, "there is no certificate in this PEM file")),
        some => Ok(some),
    }
}

pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| illegible(path, &error))
}

/// Of what is wrong with the text no word is shown: it may be that of a key.
fn illegible(path: &Path, error: &pem::Error) -> TlsSetupError {
    match error {
        pem::Error::Io(error) => TlsSetupError::at(path, format_args!("it cannot be read: {error}")),
        pem::Error::NoItemsFound => TlsSetupError::at(path, "there is no private key in this PEM file, or only an encrypted one"),
        _ => TlsSetupError::at(path, "this PEM file is damaged or cut off"),
    }
}

/// Why a certificate and a key that could each be read cannot be used together.
fn unfit(certificate: &Path, error: &rustls::Error) -> TlsSetupError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsSetupError::at(certificate, "the private key does not belong to this certificate")
        }
        other => TlsSetupError::at(certificate, other),
    }
}

#[cfg(test)]
mod tests;
