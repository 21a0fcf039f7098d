//! The certificates clients are shown, each with its key, and which of them for which name.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::SignatureScheme;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::CertificateFiles;
use crate::net::dev_cert;
use crate::net::tls::{TlsSetupError, provider, read_certificates, read_key, unfit, x509};

#[derive(Debug)]
pub(super) struct Certificates {
    /// For clients that name no host, or one that none is good for, if they can verify its signatures.
    first: Shown,
    others: Vec<Shown>,
}

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// See [`x509::end_point`].
    end_point: Option<Arc<[u8]>>,
}

impl Certificates {
    pub(super) fn development(directory: &Path) -> Result<Self, TlsSetupError> {
        let (chain, key) = dev_cert::load_or_create(directory)?;
        Ok(Self { first: Shown::new(chain, key, directory)?, others: Vec::new() })
    }

    pub(super) fn read(files: &[CertificateFiles]) -> Result<Self, TlsSetupError> {
        let mut read = files
            .iter()
            .map(|files| Shown::new(read_certificates(&files.certificate)?, read_key(&files.key)?, &files.certificate));
        let first = read.next().unwrap_or_else(|| Err(TlsSetupError::general("there is no certificate")))?;
        Ok(Self { first, others: read.collect::<Result<_, _>>()? })
    }

    /// The first that is good for the name a client asked for (SNI), and whose signatures it can verify: there may be one with a
    /// key of each kind. The name is more than the signatures: a client tells of fewer of them than it knows.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> &Shown {
        if self.others.is_empty() {
            // No choice, and nothing to parse.
            return &self.first;
        }
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let all = || std::iter::once(&self.first).chain(&self.others);
        let good = || all().filter(|shown| name.as_ref().is_some_and(|name| shown.is_for(name)));
        let verifiable = |shown: &&Shown| shown.key.key.choose_scheme(schemes).is_some();
        good().find(verifiable).or_else(|| good().next()).or_else(|| all().find(verifiable)).unwrap_or(&self.first)
    }
}

/// Which certificate a handshake shows, as rustls does not say.
#[derive(Debug)]
pub(super) struct Choice {
    certificates: Arc<Certificates>,
    end_point: OnceLock<Option<Arc<[u8]>>>,
}

impl Choice {
    pub(super) fn of(certificates: Certificates) -> Self {
        Self { certificates: Arc::new(certificates), end_point: OnceLock::new() }
    }

    /// For another handshake; `None` where there is but one certificate, and this may serve for all.
    pub(super) fn anew(&self) -> Option<Self> {
        let certificates = &self.certificates;
        (!certificates.others.is_empty()).then(|| Self { certificates: Arc::clone(certificates), end_point: OnceLock::new() })
    }

    /// See [`x509::end_point`]. `None` before it is made.
    pub(super) fn end_point(&self) -> Option<Arc<[u8]>> {
        self.end_point.get().cloned().flatten()
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.certificates.choose(client_hello.server_name(), client_hello.signature_schemes());
        let _ = self.end_point.set(shown.end_point.clone());
        Some(shown.key.clone())
    }
}

impl Shown {
    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>, path: &Path) -> Result<Self, TlsSetupError> {
        let end_point = chain.first().and_then(|leaf| x509::end_point(leaf)).map(Arc::from);
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| unfit(path, &error))?;
        Ok(Self { key: Arc::new(key), end_point })
    }

    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let parsed = self.key.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        parsed.is_some_and(|leaf| verify_server_name(&leaf, name).is_ok())
    }
}
