//! What an upstream's certificate has to prove, by libpq's `sslmode`.

use std::path::Path;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::net::tls::{TlsSetupError, provider, read_certificates};

#[derive(Debug)]
pub(super) struct ServerVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Trust {
    /// `prefer`, `require`: against somebody who only listens.
    Anything,
    /// `verify-ca`
    Chain(Roots),
    /// `verify-full`
    ChainAndName(Roots),
}

/// Whom to trust.
#[derive(Debug)]
pub(super) struct Roots {
    store: RootCertStore,
    /// The certificates of `sslrootcert` themselves.
    given: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// `sslrootcert`, or the system's.
    pub(super) fn load(path: Option<&Path>) -> Result<Self, TlsSetupError> {
        let mut store = RootCertStore::empty();
        let Some(path) = path else {
            let system = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(system.certs);
            return match store.is_empty() {
                true => Err(TlsSetupError::general("this system has no root certificates: give one with sslrootcert")),
                false => Ok(Self { store, given: Vec::new() }),
            };
        };
        let given = read_certificates(path)?;
        for certificate in &given {
            store.add(certificate.clone()).map_err(|error| TlsSetupError::at(path, error))?;
        }
        Ok(Self { store, given })
    }
}

impl ServerVerifier {
    pub(super) fn anything() -> Self {
        Self::new(Trust::Anything)
    }

    pub(super) fn chain(roots: Roots) -> Self {
        Self::new(Trust::Chain(roots))
    }

    pub(super) fn chain_and_name(roots: Roots) -> Self {
        Self::new(Trust::ChainAndName(roots))
    }

    fn new(trust: Trust) -> Self {
        Self { trust, algorithms: provider().signature_verification_algorithms }
    }

    fn verify_chain(
        &self,
        roots: &Roots,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let verified = verify_server_cert_signed_by_trust_anchor(&parsed, &roots.store, others, now, self.algorithms.all);
        match verified {
            // A server certificate that is its own root, as `openssl req -x509` makes them, is marked as an authority,
            // which webpki refuses in a server's place and OpenSSL does not. Its dates were checked before that.
            Err(error) if !is_about_dates(&error) && roots.given.contains(leaf) => Ok(()),
            verified => verified,
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Anything => {}
            Trust::Chain(roots) => self.verify_chain(roots, leaf, others, now)?,
            Trust::ChainAndName(roots) => {
                self.verify_chain(roots, leaf, others, now)?;
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.trust {
            // Whoever may show any certificate may as well show one of a form that webpki does not read (X.509 v1).
            Trust::Anything => Ok(HandshakeSignatureValid::assertion()),
            _ => verify_tls12_signature(message, certificate, signature, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.trust {
            Trust::Anything => Ok(HandshakeSignatureValid::assertion()),
            _ => verify_tls13_signature(message, certificate, signature, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn is_about_dates(error: &Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(error, Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }))
}
