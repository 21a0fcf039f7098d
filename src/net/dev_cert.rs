//! A certificate for development: an authority of its own and a server certificate for this machine, kept in a directory.
//!
//! `server.pem` holds the server's certificate and key and is readable by its owner alone. `ca.crt` is for clients that
//! verify (`sslrootcert=…/ca.crt`); its key is thrown away as soon as it has signed, so that nothing else can be signed
//! in the name of an authority which somebody may have told a whole system to trust.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use crate::net::tls::{TlsSetupError, provider, read_certificates, read_key};

type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that every platform's verifier accepts.
const VALID: Duration = Duration::from_secs(825 * 24 * 60 * 60);
/// Remade when less than this is left.
const MARGIN: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The certificate kept in `directory`, made anew where there is none, or one that is damaged, soon to expire or
/// readable by others.
pub fn load_or_create(directory: &Path) -> Result<ChainAndKey, TlsSetupError> {
    load_or_create_at(directory, SystemTime::now())
}

fn load_or_create_at(directory: &Path, now: SystemTime) -> Result<ChainAndKey, TlsSetupError> {
    if let Some(kept) = load(directory, now) {
        return Ok(kept);
    }
    create(directory, now)?;
    load(directory, now).ok_or_else(|| TlsSetupError::at(directory, "the development certificate just made cannot be read back"))
}

fn server_file(directory: &Path) -> PathBuf {
    directory.join("server.pem")
}

fn authority_file(directory: &Path) -> PathBuf {
    directory.join("ca.crt")
}

/// `None` for whatever is wrong: the answer is always to make another.
fn load(directory: &Path, now: SystemTime) -> Option<ChainAndKey> {
    let file = server_file(directory);
    let private = fs::metadata(&file).ok()?.permissions().mode() & 0o077 == 0;
    let chain = read_certificates(&file).ok().filter(|_| private)?;
    let key = read_key(&file).ok()?;
    // Two processes may have made theirs at once: the key must fit the certificate, and the authority have signed it.
    CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider()).ok()?;
    verify(chain.first()?, &read_certificates(&authority_file(directory)).ok()?, now + MARGIN)?;
    Some((chain, key))
}

fn verify(leaf: &CertificateDer<'_>, authority: &[CertificateDer<'static>], at: SystemTime) -> Option<()> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authority.iter().cloned());
    let leaf = ParsedCertificate::try_from(leaf).ok()?;
    let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).ok()?);
    let algorithms = provider().signature_verification_algorithms;
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &[], at, algorithms.all).ok()?;
    verify_server_name(&leaf, &ServerName::try_from("localhost").ok()?).ok()
}

fn create(directory: &Path, now: SystemTime) -> Result<(), TlsSetupError> {
    let (authority, server) = generate(now).map_err(|error| TlsSetupError::at(directory, error))?;
    let keep = || {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        replace(&authority_file(directory), 0o644, &authority)?;
        replace(&server_file(directory), 0o600, &server)
    };
    keep().map_err(|error: io::Error| TlsSetupError::not_kept(directory, error))
}

/// Never half written and never readable by others, not even for a moment: a new file takes the old one's place.
fn replace(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    // A crash of a process of the same id may have left one behind, with whatever mode.
    let _ = fs::remove_file(&temporary);
    OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?.write_all(text.as_bytes())?;
    fs::rename(&temporary, path)
}

/// The authority's certificate, and the server's with its key, as PEM.
fn generate(now: SystemTime) -> Result<(String, String), rcgen::Error> {
    let mut params = dated(CertificateParams::default(), now);
    params.distinguished_name.push(DnType::CommonName, "Sidepool development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);

    let mut params = dated(CertificateParams::new(names())?, now);
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let server = params.signed_by(&key, &issuer)?;
    Ok((authority.pem(), format!("{}{}", key.serialize_pem(), server.pem())))
}

/// From yesterday, since clocks differ.
fn dated(mut params: CertificateParams, now: SystemTime) -> CertificateParams {
    let today = rcgen::date_time_ymd(1970, 1, 1) + now.duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = today - DAY;
    params.not_after = today + VALID;
    params
}

/// How this machine is called on itself.
fn names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    if plain && ServerName::try_from(host.as_str()).is_ok() && !names.contains(&host) {
        names.push(host);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn made_once_and_kept() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("tls/dev");
        let (first, _) = load_or_create(&directory).unwrap();
        assert_eq!((mode(&server_file(&directory)), mode(&directory)), (0o600, 0o700));
        let (second, _) = load_or_create(&directory).unwrap();
        assert_eq!(first, second);
        let ca = fs::read_to_string(authority_file(&directory)).unwrap();
        assert!(!ca.contains("PRIVATE"), "the authority's key is nowhere");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
    }

    #[test]
    fn remade_when_damaged_exposed_mismatched_or_expired() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let damage: [&dyn Fn(); 5] = [
            &|| fs::write(server_file(directory), "no certificate").unwrap(),
            &|| fs::remove_file(authority_file(directory)).unwrap(),
            &|| fs::set_permissions(server_file(directory), fs::Permissions::from_mode(0o644)).unwrap(),
            &|| replace(&authority_file(directory), 0o644, &generate(SystemTime::now()).unwrap().0).unwrap(),
            &|| create(directory, SystemTime::now() - VALID).unwrap(),
        ];
        for (which, damage) in damage.into_iter().enumerate() {
            let (before, _) = load_or_create(directory).unwrap();
            damage();
            let (after, _) = load_or_create(directory).unwrap();
            assert_ne!(before, after, "{which}");
            assert_eq!(mode(&server_file(directory)), 0o600);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = load_or_create(file.path()).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
