use std::fs;
use std::io;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::config::{CertificateFiles, ClientTls, SslMode, UpstreamTls};
use crate::net::socket::Socket;
use crate::net::stream::Stream;

struct Bed {
    directory: TempDir,
    server: ServerTls,
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = ClientTls::Development { directory: directory.path().to_owned(), clients: None };
        Self { server: ServerTls::load(&source).unwrap().unwrap(), directory }
    }

    fn context(&self, mode: SslMode, with_root: bool) -> TlsContext {
        let root_certificate = with_root.then(|| self.directory.path().join("ca.crt"));
        TlsContext::load(&UpstreamTls { root_certificate, ..UpstreamTls::new(mode) }).unwrap()
    }

    async fn meet(&self, context: &TlsContext, host: &str) -> (io::Result<Stream>, io::Result<Stream>) {
        let (TlsContext::Prefer(config) | TlsContext::Require(config) | TlsContext::Direct(config)) = context else {
            panic!("no TLS");
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::join!(self.server.accept(socket(ours), &[]), handshake(config, socket(theirs), host))
    }
}

fn socket(stream: UnixStream) -> Socket {
    Socket::unix(stream.into_std().unwrap()).unwrap()
}

fn files(pairs: &[(&Path, &Path)]) -> ClientTls {
    let files = |(certificate, key): &(&Path, &Path)| CertificateFiles { certificate: certificate.into(), key: key.into() };
    ClientTls::Files { certificates: pairs.iter().map(files).collect(), clients: None }
}

#[tokio::test]
async fn trap_47_what_each_mode_verifies() {
    let bed = Bed::new();
    let other = Bed::new();
    for (mode, root, host, good) in [
        (SslMode::Prefer, None, "elsewhere", true),
        (SslMode::Require, None, "elsewhere", true),
        (SslMode::Require, Some(&bed), "elsewhere", true),
        (SslMode::Require, Some(&other), "localhost", false),
        (SslMode::VerifyCa, Some(&bed), "elsewhere", true),
        (SslMode::VerifyCa, Some(&other), "localhost", false),
        (SslMode::VerifyFull, Some(&bed), "localhost", true),
        (SslMode::VerifyFull, Some(&bed), "127.0.0.1", true),
        (SslMode::VerifyFull, Some(&bed), "elsewhere", false),
        (SslMode::VerifyFull, Some(&other), "localhost", false),
    ] {
        let context = root.map_or_else(|| bed.context(mode, false), |root| root.context(mode, true));
        let (_, client) = bed.meet(&context, host).await;
        assert_eq!(client.is_ok(), good, "{mode:?} {host} {:?}", client.err());
    }
    assert!(matches!(bed.context(SslMode::Disable, false), TlsContext::Off));
}

#[tokio::test]
async fn bytes_pass_and_both_sides_know_what_they_speak() {
    let bed = Bed::new();
    let (server, client) = bed.meet(&bed.context(SslMode::VerifyFull, true), "localhost").await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    assert!(has_alpn(&client));
    assert_eq!(server.server_name(), Some("localhost"));
    assert_eq!(server.tls_facts(), client.tls_facts());
    assert!(server.tls_facts().is_some());
    client.write_all(b"hello").await.unwrap();
    client.flush().await.unwrap();
    let mut two = [0; 2];
    server.read_exact(&mut two).await.unwrap();
    assert_eq!(&two, b"he");
    assert!(server.readable_now(), "three bytes are decrypted and wait");
    let mut three = [0; 3];
    server.read_exact(&mut three).await.unwrap();
    assert!(!server.readable_now());
}

/// Both sides of a stream that is set up.
async fn pair() -> (Stream, Stream) {
    let bed = Bed::new();
    let (server, client) = bed.meet(&bed.context(SslMode::Prefer, false), "localhost").await;
    (server.unwrap(), client.unwrap())
}

async fn send(stream: &mut Stream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn records_that_arrived_together_are_one_read_and_then_there_is_nothing() {
    let (mut server, mut client) = pair().await;
    for word in [&b"one"[..], b"two", b"three"] {
        send(&mut client, word).await;
    }
    let mut room = [0; 100];
    assert_eq!(server.read(&mut room).await.unwrap(), 11);
    assert_eq!(&room[..11], b"onetwothree");
    assert!(!server.readable_now());
    // Whoever waits is woken by the next one.
    let (read, ()) = tokio::join!(server.read(&mut room), send(&mut client, b"four"));
    assert_eq!(&room[..read.unwrap()], b"four");
}

#[tokio::test]
async fn bytes_before_an_end_are_given_and_then_the_end() {
    let (mut server, mut client) = pair().await;
    send(&mut client, b"last").await;
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"last");
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "and again");
}

#[tokio::test]
async fn a_forged_record_is_an_error_behind_the_good_one_before_it() {
    let (mut server, mut client) = pair().await;
    // With TLS 1.3's 22 bytes around it, this fills one read of rustls (4 KiB), so that the forged one is in the next.
    let good = [b'g'; 4096 - 22];
    send(&mut client, &good).await;
    let Stream::Tls(secured) = &mut client else { panic!("no TLS") };
    let forged = [&[23, 3, 3, 0, 32][..], &[0; 32]].concat();
    secured.tls.get_mut().0.write_all(&forged).await.unwrap();
    let mut room = [0; 8192];
    assert_eq!(server.read(&mut room).await.unwrap(), good.len());
    assert!(server.readable_now(), "the error is yet to be told");
    let next = tokio::time::timeout(std::time::Duration::from_secs(20), server.read(&mut room)).await;
    assert_eq!(next.expect("an error and no wait").unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn trap_49_an_end_without_close_notify_is_an_end() {
    let bed = Bed::new();
    let (server, client) = bed.meet(&bed.context(SslMode::Prefer, false), "localhost").await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    // With the ticket read there is nothing unread that would make it a reset.
    server.write_all(b"x").await.unwrap();
    server.flush().await.unwrap();
    client.read_u8().await.unwrap();
    drop(client);
    let mut rest = Vec::new();
    assert_eq!(server.read_to_end(&mut rest).await.unwrap(), 0);
}

#[tokio::test]
async fn trap_48_a_bad_new_certificate_leaves_the_old_one_in_use() {
    let bed = Bed::new();
    let directory = bed.directory.path();
    let (certificate, key) = (directory.join("site.crt"), directory.join("site.key"));
    fs::copy(directory.join("server.pem"), &certificate).unwrap();
    fs::copy(directory.join("server.pem"), &key).unwrap();
    let source = files(&[(&certificate, &key)]);
    let bed = Bed { server: ServerTls::load(&source).unwrap().unwrap(), directory: bed.directory };
    fs::write(&certificate, "-----BEGIN NOTHING-----").unwrap();
    let error = bed.server.reload().unwrap_err().to_string();
    assert!(error.contains("site.crt"), "{error}");
    let context = bed.context(SslMode::VerifyFull, true);
    assert!(bed.meet(&context, "localhost").await.1.is_ok());
    // And a good one is taken: of another authority, which the client does not know.
    let other = tempfile::tempdir().unwrap();
    crate::net::dev_cert::load_or_create(other.path()).unwrap();
    fs::copy(other.path().join("server.pem"), &certificate).unwrap();
    fs::copy(other.path().join("server.pem"), &key).unwrap();
    bed.server.reload().unwrap();
    assert!(bed.meet(&context, "localhost").await.1.is_err());
}

/// A certificate for these names by an authority of its own, and the context of a client that trusts only that.
fn site(directory: &Path, name: &str) -> (PathBuf, TlsContext) {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let path = directory.join(format!("{name}.pem"));
    fs::write(&path, format!("{}{}", key.serialize_pem(), params.self_signed(&key).unwrap().pem())).unwrap();
    let tls = UpstreamTls { root_certificate: Some(path.clone()), ..UpstreamTls::new(SslMode::VerifyFull) };
    (path, TlsContext::load(&tls).unwrap())
}

#[tokio::test]
async fn the_certificate_is_chosen_by_the_name_a_client_asks_for_and_the_channel_bound_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let (one, knows_one) = site(directory.path(), "one.example");
    let (two, knows_two) = site(directory.path(), "two.example");
    let source = files(&[(&one, &one), (&two, &two)]);
    let bed = Bed { server: ServerTls::load(&source).unwrap().unwrap(), directory };
    for (context, host, good) in [
        (&knows_one, "one.example", true),
        (&knows_two, "two.example", true),
        (&knows_one, "two.example", false),
        // Nobody's: the first is shown, and is not good for it.
        (&knows_one, "three.example", false),
    ] {
        let (server, client) = bed.meet(context, host).await;
        assert_eq!(client.is_ok(), good, "{host}: {:?}", client.err());
        let (Ok(server), Ok(client)) = (server, client) else { continue };
        assert_eq!(server.end_point(), client.end_point());
        assert_eq!(server.end_point().map(|hash| hash.len()), Some(32));
    }
}

/// One certificate of each kind of key for the same host, whichever stands first.
#[tokio::test]
async fn a_24_a_certificate_is_shown_that_the_client_can_verify() {
    const RSA: &str = include_str!("../../../tests/certificates/rsa.key");
    let directory = tempfile::tempdir().unwrap();
    let keys = [rcgen::KeyPair::from_pem(RSA).unwrap(), rcgen::KeyPair::generate().unwrap()];
    let certificates = ["rsa", "ecdsa"].map(|kind| directory.path().join(kind));
    for (path, key) in certificates.iter().zip(&keys) {
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(key).unwrap();
        fs::write(path, format!("{}{}", key.serialize_pem(), certificate.pem())).unwrap();
    }
    let [rsa, ecdsa] = certificates.each_ref().map(|path| path.as_path());
    for order in [[rsa, ecdsa], [ecdsa, rsa]] {
        let server = ServerTls::load(&files(&order.map(|path| (path, path)))).unwrap().unwrap();
        for (path, scheme) in
            [(rsa, rustls::SignatureScheme::RSA_PSS_SHA256), (ecdsa, rustls::SignatureScheme::ECDSA_NISTP256_SHA256)]
        {
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let connector = tokio_rustls::TlsConnector::from(verifies_only(path, scheme, version));
                let (ours, theirs) = UnixStream::pair().unwrap();
                let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
                let (served, client) = tokio::join!(server.accept(socket(ours), &[]), connector.connect(name, theirs));
                let (served, client) = (served.unwrap(), client.unwrap());
                let shown = &client.get_ref().1.peer_certificates().unwrap()[0];
                assert_eq!(*shown, read_certificates(path).unwrap()[0], "{version:?}");
                assert_eq!(served.end_point().as_deref(), x509::end_point(shown).as_deref(), "and the channel is bound to it");
            }
        }
    }
}

/// A client that knows this certificate, and signatures of one scheme alone.
fn verifies_only(
    root: &Path,
    scheme: rustls::SignatureScheme,
    version: &'static rustls::SupportedProtocolVersion,
) -> Arc<rustls::ClientConfig> {
    let mut one = (*provider()).clone();
    let known = one.signature_verification_algorithms.mapping.iter().filter(|(known, _)| *known == scheme).copied();
    one.signature_verification_algorithms.mapping = Vec::leak(known.collect());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(read_certificates(root).unwrap().remove(0)).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(one)).with_protocol_versions(&[version]).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test]
async fn a_client_that_comes_again_resumes_its_session() {
    let bed = Bed::new();
    let mut config = (*bed.context(SslMode::VerifyFull, true).config()).clone();
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for (time, kind) in [(1, rustls::HandshakeKind::Full), (2, rustls::HandshakeKind::Resumed)] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let (server, client) = tokio::join!(bed.server.accept(socket(ours), &[]), connector.connect(name, theirs));
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        assert_eq!(client.get_ref().1.handshake_kind(), Some(kind), "time {time}");
        // The ticket comes with the first bytes.
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
        assert!(server.end_point().is_some(), "the certificate is the same as the first time");
    }
}

#[tokio::test]
async fn trap_48_an_upstreams_new_roots_are_used_and_bad_ones_are_not() {
    let (old, new) = (Bed::new(), Bed::new());
    let root = old.directory.path().join("ca.crt");
    let context = old.context(SslMode::VerifyFull, true);
    fs::write(&root, "-----BEGIN NOTHING-----").unwrap();
    let error = context.reload().unwrap_err().to_string();
    assert!(error.ends_with("ca.crt: this PEM file is damaged or cut off"), "{error}");
    assert!(old.meet(&context, "localhost").await.1.is_ok());
    fs::copy(new.directory.path().join("ca.crt"), &root).unwrap();
    context.reload().unwrap();
    assert!(old.meet(&context, "localhost").await.1.is_err());
    assert!(new.meet(&context, "localhost").await.1.is_ok());
}

#[test]
fn trap_48_one_client_config_serves_all_connections() {
    let bed = Bed::new();
    let context = bed.context(SslMode::VerifyFull, true);
    let copy = context.clone();
    assert!(Arc::ptr_eq(&context.config(), &copy.config()));
}

#[tokio::test]
async fn a_self_signed_authority_may_be_its_own_server() {
    // What `openssl req -new -x509 -nodes` makes, and PostgreSQL's documentation recommends for a first try.
    let directory = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let path = directory.path().join(name);
        fs::write(&path, format!("{}{}", key.serialize_pem(), params.self_signed(&key).unwrap().pem())).unwrap();
        path
    };
    let (mine, other) = (make("mine.pem"), make("other.pem"));
    let source = files(&[(&mine, &mine)]);
    let bed = Bed { server: ServerTls::load(&source).unwrap().unwrap(), directory };
    let context = |root: &Path| {
        TlsContext::load(&UpstreamTls { root_certificate: Some(root.to_owned()), ..UpstreamTls::new(SslMode::VerifyFull) })
            .unwrap()
    };
    assert!(bed.meet(&context(&mine), "localhost").await.1.is_ok());
    assert!(bed.meet(&context(&mine), "elsewhere").await.1.is_err());
    assert!(bed.meet(&context(&other), "localhost").await.1.is_err());
}

#[test]
fn files_that_are_missing_or_empty_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.crt");
    let empty = directory.path().join("empty.crt");
    fs::write(&empty, "").unwrap();
    for path in [missing, empty] {
        let tls = UpstreamTls { root_certificate: Some(path.clone()), ..UpstreamTls::new(SslMode::VerifyCa) };
        let error = TlsContext::load(&tls).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
