//! The certificates clients are shown, each with its key, and which of them for which name.

use std::path::Path;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::CertificateFiles;
use crate::net::dev_cert;
use crate::net::tls::{TlsSetupError, provider, read_certificates, read_key, unfit, x509};

#[derive(Debug)]
pub(super) struct Certificates {
    /// For clients that name no host, or one that none is good for.
    first: Shown,
    others: Vec<Shown>,
}

#[derive(Debug)]
pub(super) struct Shown {
    key: Arc<CertifiedKey>,
    /// See [`x509::end_point`].
    pub(super) end_point: Option<Arc<[u8]>>,
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

    /// The first that is good for the name a client asked for (SNI).
    pub(super) fn for_name(&self, name: Option<&str>) -> &Shown {
        // With one certificate there is no choice, and nothing to parse.
        let asked = name.filter(|_| !self.others.is_empty()).and_then(|name| ServerName::try_from(name).ok());
        let good = |name: ServerName<'_>| std::iter::once(&self.first).chain(&self.others).find(|shown| shown.is_for(&name));
        asked.and_then(good).unwrap_or(&self.first)
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

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.for_name(client_hello.server_name()).key.clone())
    }
}
