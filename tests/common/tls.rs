//! Certificates, and the raw client over TLS.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sidepool::embedded::Places;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::wire::{self, Wire};

/// The only name in the certificates: 127.0.0.1 is another one to whoever verifies names.
const NAME: &str = "localhost";

/// An authority, and a server's certificate that it has signed.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Readable by whoever runs PostgreSQL.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let made = Self { directory };
        made.write().expect("rcgen makes certificates");
        made
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// The server's certificate and its key.
    pub fn server(&self) -> PathBuf {
        self.directory.path().join("server.pem")
    }

    /// For a PostgreSQL that speaks TLS.
    pub fn settings(&self) -> Vec<(String, String)> {
        let pem = self.server().display().to_string();
        [("ssl", "on"), ("ssl_cert_file", &pem), ("ssl_key_file", &pem)].map(|(name, value)| (name.into(), value.into())).into()
    }

    /// As libpq does it with `sslmode=verify-full`; direct TLS needs ALPN.
    pub fn connector(&self, alpn: bool) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.root()).expect("it is PEM")).expect("it is an authority");
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let mut config = config.expect("ring knows them").with_root_certificates(roots).with_no_client_auth();
        if alpn {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        TlsConnector::from(Arc::new(config))
    }

    /// A server that agrees on no protocol.
    pub fn acceptor_without_alpn(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(self.server()).expect("it is PEM").map(|read| read.expect("it is PEM"));
        let key = PrivateKeyDer::from_pem_file(self.server()).expect("it is PEM");
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.expect("ring knows them").with_no_client_auth().with_single_cert(chain.collect(), key);
        TlsAcceptor::from(Arc::new(config.expect("key and certificate fit")))
    }

    fn write(&self) -> Result<(), rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate()?;
        let server = CertificateParams::new([NAME.to_owned()])?.signed_by(&key, &issuer)?;
        fs::write(self.root(), authority).expect("it is ours");
        fs::write(self.server(), format!("{}{}", key.serialize_pem(), server.pem())).expect("it is ours");
        fs::set_permissions(self.server(), fs::Permissions::from_mode(0o600)).expect("it is ours");
        let account = Places::of_this_user().expect("somebody runs PostgreSQL").account;
        if account.is_root_beside() {
            for path in [self.directory.path().to_owned(), self.root(), self.server()] {
                chown(path, Some(account.uid()), None).expect("we are root");
            }
        }
        Ok(())
    }
}

impl Wire {
    /// TLS after an SSLRequest, and nothing said under it.
    pub async fn secured(port: u16, connector: &TlsConnector) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap_or_else(|error| panic!("port {port}: {error}"));
        let mut answer = [0];
        tokio::io::AsyncWriteExt::write_all(&mut stream, &wire::ssl_request()).await.expect("it reads");
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.expect("it answers");
        assert_eq!(answer, *b"S");
        Self::over(connector.connect(name(), stream).await.expect("a TLS handshake"), port)
    }

    /// TLS from the first byte.
    ///
    /// # Errors
    /// The handshake's; under TLS 1.3 the client may be done before the server has refused.
    pub async fn direct_tls(port: u16, connector: &TlsConnector) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        Ok(Self::over(connector.connect(name(), stream).await?, port))
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("it is a name")
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
