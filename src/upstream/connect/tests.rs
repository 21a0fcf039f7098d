//! Against servers that are written here, message by message: the good, the slow and the hostile.
//! Real PostgreSQL is in `tests/upstream_login.rs`.

mod tls;

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::auth::scram::server::{self, Binding, Candidate, Rejection};
use crate::auth::verifier::Verifier;
use crate::config::{ChannelBinding, Host, SslMode, UpstreamSocket, UpstreamTls};
use crate::error::{PgError, SqlState};
use crate::upstream::cancel;
use crate::wire::authentication::Authentication;
use crate::wire::reply::{self, TransactionStatus};
use crate::wire::request::SSL_REQUEST;

const ITERATIONS: std::num::NonZeroU32 = std::num::NonZeroU32::new(3).unwrap();

struct Fake {
    upstream: Upstream,
    keys: Arc<KeyCache>,
    credential: Credential,
}

impl Fake {
    /// A server that runs `script` for each connection.
    async fn serving<F, S>(script: S) -> Self
    where
        F: Future<Output = ()> + Send,
        S: Fn(TcpStream) -> F + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                script(stream).await;
            }
        });
        let tls = UpstreamTls::new(SslMode::Disable);
        let host = Host::Tcp("127.0.0.1".into());
        let (user, database, socket) = ("ann".into(), "shop".into(), UpstreamSocket::Off);
        let upstream = Upstream { host, port, user, password: None, database, tls, socket };
        Self { upstream, keys: Arc::new(KeyCache::new().unwrap()), credential: Credential::None }
    }

    /// A server that takes the startup packet and then says `bytes`.
    async fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::serving(move |mut stream| {
            let bytes = bytes.clone();
            async move {
                read_startup(&mut stream).await;
                let _ = stream.write_all(&bytes).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await
    }

    fn with_password(mut self, password: &str) -> Self {
        self.credential = Credential::Password(Password::new(password));
        self
    }

    fn with_tls(mut self, mode: SslMode) -> Self {
        self.upstream.tls.mode = mode;
        self
    }

    async fn connect(&self) -> Result<Connected, ConnectError> {
        let tls = TlsContext::load(&self.upstream.tls).unwrap();
        let spec = ConnectSpec {
            upstream: &self.upstream,
            tls: &tls,
            keys: &self.keys,
            user: "ann",
            database: "shop",
            credential: &self.credential,
            parameters: &[("application_name".to_owned(), "test".to_owned())],
        };
        tokio::time::timeout(Duration::from_secs(20), connect(&spec)).await.expect("in time")
    }
}

async fn read_startup(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let length = stream.read_u32().await.unwrap();
    let mut packet = vec![0; length as usize - 4];
    stream.read_exact(&mut packet).await.unwrap();
    packet
}

async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    assert_eq!(stream.read_u8().await.unwrap(), b'p');
    read_startup(stream).await
}

fn authentication(request: &Authentication<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    assert!(reply::authentication(&mut out, request));
    out
}

/// A server's words from AuthenticationOk to ReadyForQuery.
fn greeting() -> BytesMut {
    let mut out = authentication(&Authentication::Ok);
    reply::parameter_status(&mut out, "TimeZone", "UTC");
    reply::parameter_status(&mut out, "server_version", "15.0");
    reply::backend_key_data(&mut out, 77, b"four");
    reply::ready_for_query(&mut out, TransactionStatus::Idle);
    out
}

fn protocol_error(result: Result<Connected, ConnectError>) -> String {
    match result {
        Err(ConnectError::Protocol(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_startup_packet_says_who_and_what() {
    let fake = Fake::serving(|mut stream| async move {
        let packet = read_startup(&mut stream).await;
        assert_eq!(packet, b"\0\x03\0\0user\0ann\0database\0shop\0application_name\0test\0\0");
        stream.write_all(&greeting()).await.unwrap();
    })
    .await;
    let connected = fake.connect().await.unwrap();
    assert_eq!((connected.auth, connected.tls), (AuthMethod::Trust, None));
    assert_eq!((connected.key.pid, &connected.key.secret[..]), (77, &b"four"[..]));
    let address = format!("127.0.0.1:{}", fake.upstream.port).parse().unwrap();
    assert_eq!(connected.key.address, Some(Address::Tcp(address)));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(connected.parameters, [pair("TimeZone", "UTC"), pair("server_version", "15.0")]);
}

#[tokio::test]
async fn trap_55_a_greeting_in_single_bytes() {
    let fake = Fake::serving(|mut stream| async move {
        stream.set_nodelay(true).unwrap();
        read_startup(&mut stream).await;
        for byte in greeting() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    })
    .await;
    assert_eq!(fake.connect().await.unwrap().parameters.len(), 2);
}

#[tokio::test]
async fn trap_43_keys_of_other_lengths_and_none() {
    for length in [4, 32, 256] {
        let mut said = authentication(&Authentication::Ok);
        reply::backend_key_data(&mut said, 1, &vec![5; length]);
        reply::ready_for_query(&mut said, TransactionStatus::Idle);
        assert_eq!(Fake::saying(said).await.connect().await.unwrap().key.secret.len(), length);
    }
    let mut said = authentication(&Authentication::Ok);
    reply::ready_for_query(&mut said, TransactionStatus::Idle);
    let fake = Fake::saying(said).await;
    let key = fake.connect().await.unwrap().key;
    let error = cancel(&fake.upstream, &TlsContext::Off, &key).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
}

#[tokio::test]
async fn notices_are_kept_whole_and_bounded() {
    let notice = notice("hello");
    let said = [&notice.repeat(100)[..], &greeting()].concat();
    let connected = Fake::saying(said).await.connect().await.unwrap();
    assert_eq!(connected.notices.len(), 32);
    assert!(connected.notices.iter().all(|kept| *kept == notice));
}

#[tokio::test]
async fn news_on_the_heels_of_the_greeting_is_taken_in() {
    let mut said = greeting();
    reply::parameter_status(&mut said, "TimeZone", "Mars");
    said.extend_from_slice(&notice("hello"));
    let connected = Fake::saying(said).await.connect().await.unwrap();
    assert_eq!((connected.parameters[0].1.as_str(), connected.notices.len()), ("Mars", 1));
}

fn notice(text: &'static str) -> BytesMut {
    let mut out = BytesMut::new();
    reply::error(&mut out, &PgError::notice(text));
    out
}

#[tokio::test]
async fn cleartext_and_md5_passwords() {
    for (request, answer) in [
        (Authentication::CleartextPassword, b"secret\0".to_vec()),
        (Authentication::Md5Password([1, 2, 3, 4]), [md5_answer().as_bytes(), b"\0"].concat()),
    ] {
        let asked = authentication(&request);
        let fake = Fake::serving(move |mut stream| {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                read_startup(&mut stream).await;
                stream.write_all(&asked).await.unwrap();
                assert_eq!(read_message(&mut stream).await, answer);
                stream.write_all(&greeting()).await.unwrap();
            }
        })
        .await;
        assert!(fake.with_password("secret").connect().await.is_ok());
    }
}

fn md5_answer() -> String {
    crate::auth::md5::answer("ann", "secret", [1, 2, 3, 4])
}

/// A server that knows the verifier of `password`, up to the point where it would say so.
async fn scram_server(stream: &mut TcpStream, password: &str) -> Option<String> {
    scram_server_with(stream, password, &["SCRAM-SHA-256"], Binding::NotOffered).await.ok()
}

/// The same, with these mechanisms offered, of which the first is to be chosen.
async fn scram_server_with(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    password: &str,
    offered: &[&str],
    binding: Binding<'_>,
) -> Result<String, Rejection> {
    let keys = ScramKeys::derive(password, b"salt", ITERATIONS);
    let verifier = Verifier::from_keys(&keys, b"salt", ITERATIONS);
    read_startup(stream).await;
    stream.write_all(&authentication(&Authentication::Sasl(offered.to_vec()))).await.unwrap();
    stream.flush().await.unwrap();
    let first = read_message(stream).await;
    let first = crate::wire::password::SaslInitialResponse::parse(&first).unwrap();
    assert_eq!(first.mechanism, offered[0].as_bytes());
    let (server_first, awaiting) = server::begin(first.data.unwrap(), Candidate::Known(verifier), binding)?;
    stream.write_all(&authentication(&Authentication::SaslContinue(server_first.as_bytes()))).await.unwrap();
    stream.flush().await.unwrap();
    let last = read_message(stream).await;
    awaiting.finish(&last).map(|proven| proven.server_final)
}

#[tokio::test]
async fn scram_with_a_password_or_with_the_keys_of_one() {
    let fake = Fake::serving(|mut stream| async move {
        let server_final = scram_server(&mut stream, "secret").await.unwrap();
        stream.write_all(&authentication(&Authentication::SaslFinal(server_final.as_bytes()))).await.unwrap();
        stream.write_all(&greeting()).await.unwrap();
    })
    .await
    .with_password("secret");
    assert_eq!(fake.connect().await.unwrap().auth, AuthMethod::ScramSha256);
    assert!(fake.keys.get("secret", b"salt", ITERATIONS).is_some(), "the next login computes nothing");
    let keys = Credential::ScramKeys(ScramKeys::derive("secret", b"salt", ITERATIONS));
    assert!(Fake { credential: keys, ..fake }.connect().await.is_ok());
}

#[tokio::test]
async fn trap_68_authentication_ok_before_the_server_proved_itself() {
    let offer = authentication(&Authentication::Sasl(vec!["SCRAM-SHA-256"]));
    let early = [&offer[..], &greeting()].concat();
    let what = protocol_error(Fake::saying(early).await.with_password("secret").connect().await);
    assert_eq!(what, "an authentication message out of order");

    let fake = Fake::serving(|mut stream| async move {
        scram_server(&mut stream, "secret").await.unwrap();
        let _ = stream.write_all(&greeting()).await;
    });
    let what = protocol_error(fake.await.with_password("secret").connect().await);
    assert_eq!(what, "an authentication message out of order");
}

#[tokio::test]
async fn trap_68_a_server_with_the_wrong_signature() {
    let fake = Fake::serving(|mut stream| async move {
        scram_server(&mut stream, "secret").await.unwrap();
        let forged = Authentication::SaslFinal(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let _ = stream.write_all(&authentication(&forged)).await;
    });
    let what = protocol_error(fake.await.with_password("secret").connect().await);
    assert!(what.contains("signature is wrong"), "{what}");
}

#[tokio::test]
async fn only_authentication_ok_ends_the_authentication() {
    let twice = authentication(&Authentication::CleartextPassword).repeat(2);
    let said = [&twice[..], &greeting()].concat();
    let what = protocol_error(Fake::saying(said).await.with_password("secret").connect().await);
    assert_eq!(what, "an authentication message out of order");
}

#[tokio::test]
async fn cve_2026_6665_a_hostile_first_message() {
    let long = format!("r={},s=YQ==,i=1", "x".repeat(20_000));
    for first in [long.as_str(), "r=,s=YQ==,i=1", "i=1", ""] {
        let offer = authentication(&Authentication::Sasl(vec!["SCRAM-SHA-256"]));
        let said = [&offer[..], &authentication(&Authentication::SaslContinue(first.as_bytes()))].concat();
        let what = protocol_error(Fake::saying(said).await.with_password("secret").connect().await);
        assert!(what.starts_with("SCRAM: "), "{what}");
    }
}

#[tokio::test]
async fn a_password_that_is_missing_is_asked_of_whoever_configures() {
    for request in
        [Authentication::CleartextPassword, Authentication::Md5Password([0; 4]), Authentication::Sasl(vec!["SCRAM-SHA-256"])]
    {
        for credential in [Credential::None, Credential::Password(Password::new(""))] {
            let fake = Fake { credential, ..Fake::saying(authentication(&request)).await };
            let error = fake.connect().await.unwrap_err();
            assert!(matches!(&error, ConnectError::Credential { .. }), "{error}");
            let told = error.to_client();
            assert_eq!(told.code, SqlState::INVALID_AUTHORIZATION);
            assert!(told.hint.unwrap().contains("upstream's URL"));
        }
    }
    let keys = Credential::ScramKeys(ScramKeys::derive("secret", b"salt", ITERATIONS));
    let fake = Fake { credential: keys, ..Fake::saying(authentication(&Authentication::CleartextPassword)).await };
    assert!(fake.connect().await.unwrap_err().to_string().contains("only a SCRAM verifier"));
}

#[tokio::test]
async fn methods_that_are_not_spoken_are_named() {
    let gss = b"R\0\0\0\x08\0\0\0\x07".to_vec();
    for (said, name) in [(gss, "method 7"), (authentication(&Authentication::Sasl(vec!["OAUTHBEARER"])).to_vec(), "OAUTHBEARER")]
    {
        let error = Fake::saying(said).await.with_password("x").connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::Credential { .. }) && error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn an_error_at_any_point_is_the_servers_own() {
    let mut error = BytesMut::new();
    reply::error(&mut error, &PgError::fatal(SqlState::UNKNOWN_DATABASE, "database \"shop\" does not exist"));
    for before in [BytesMut::new(), authentication(&Authentication::Ok)] {
        match Fake::saying([&before[..], &error].concat()).await.connect().await {
            Err(ConnectError::Refused(refused)) => {
                let mut relayed = BytesMut::new();
                refused.put(&mut relayed);
                assert_eq!(relayed, error);
                assert_eq!(refused.sqlstate(), Some(SqlState::UNKNOWN_DATABASE));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn broken_greetings() {
    let ok = authentication(&Authentication::Ok);
    for said in [
        &b"R\0\0\0\x03"[..],
        b"R\x40\0\0\0",
        b"R\0\0\0\x04",
        b"R\0\0\0\x08\0\0\0\x0b",
        b"R\0\0\0\x08\0\0\0\x0c",
        b"T\0\0\0\x04",
        b"H",
        &[&ok[..], b"S\0\0\0\x05x"].concat(),
        &[&ok[..], b"K\0\0\0\x07abc"].concat(),
        &[&ok[..], b"Z\0\0\0\x05T"].concat(),
        &[&ok[..], b"D\0\0\0\x04"].concat(),
        &[&greeting()[..], b"D\0\0\0\x04"].concat(),
    ] {
        // Padded, so that a header which lies about its length is not just waited for.
        let fake = Fake::saying([said, &[0; 8]].concat()).await;
        protocol_error(fake.connect().await);
    }
}

#[tokio::test]
async fn trap_44_no_memory_for_what_a_server_only_claims() {
    let mut endless = authentication(&Authentication::Ok);
    for number in 0..2000 {
        reply::parameter_status(&mut endless, &format!("p{number}"), "x");
    }
    protocol_error(Fake::saying(endless).await.connect().await);
    protocol_error(Fake::saying(notice("x").repeat(1100)).await.connect().await);
}

#[tokio::test]
async fn a_server_that_goes_away() {
    let fake = Fake::serving(|mut stream| async move {
        read_startup(&mut stream).await;
    })
    .await;
    match fake.connect().await {
        Err(ConnectError::Unreachable { target, .. }) => assert!(target.starts_with("127.0.0.1:")),
        other => panic!("{other:?}"),
    }
}
