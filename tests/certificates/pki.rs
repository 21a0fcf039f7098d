//! Authorities and certificates of a test's own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use sidepool::embedded::Places;

/// A directory that PostgreSQL may enter, and an authority whose certificate is in it.
pub(crate) struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in files.
pub(crate) struct Signed {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut params = CertificateParams::default();
        // Of no other's name: else a verifier would try the one's key on what the other has signed.
        params.distinguished_name.push(DnType::CommonName, show(directory.path()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(directory.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("ca.crt")
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// With this common name, and these alternative names.
    pub(crate) fn sign(&self, common_name: &str, names: &[&str]) -> Signed {
        self.write(common_name, self.pem(common_name, names))
    }

    /// The same for an RSA key, which is not made here: it takes seconds.
    pub(crate) fn sign_rsa(&self, common_name: &str, names: &[&str]) -> Signed {
        let key = KeyPair::from_pem(include_str!("rsa.key")).unwrap();
        self.write(common_name, self.pem_of(key, common_name, names))
    }

    fn write(&self, common_name: &str, (certificate, key): (String, String)) -> Signed {
        let file = |suffix: &str| self.path(&format!("{}.{suffix}", common_name.replace('.', "_")));
        let signed = Signed { certificate: file("crt"), key: file("key") };
        fs::write(&signed.certificate, certificate).unwrap();
        fs::write(&signed.key, key).unwrap();
        fs::set_permissions(&signed.key, fs::Permissions::from_mode(0o600)).unwrap();
        signed
    }

    pub(crate) fn pem(&self, common_name: &str, names: &[&str]) -> (String, String) {
        self.pem_of(KeyPair::generate().unwrap(), common_name, names)
    }

    fn pem_of(&self, key: KeyPair, common_name: &str, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

impl Signed {
    /// PostgreSQL wants the key to be its own.
    pub(crate) fn for_postgres(self) -> Self {
        if rustix::process::geteuid().is_root() {
            let uid = Places::of_this_user().unwrap().account.uid();
            chown(&self.key, Some(uid), None).unwrap();
        }
        self
    }

    /// For libpq and for URLs.
    pub(crate) fn parameters(&self, between: &str) -> String {
        format!("sslcert={}{between}sslkey={}", show(&self.certificate), show(&self.key))
    }
}

pub(crate) fn show(path: &Path) -> &str {
    path.to_str().unwrap()
}
