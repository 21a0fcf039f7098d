//! Logging in to a real PostgreSQL, by every method it can ask for.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod postgres;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use sidepool::auth::key_cache::KeyCache;
use sidepool::auth::keys::ScramKeys;
use sidepool::auth::verifier::Verifier;
use sidepool::config::{ChannelBinding, Host, Password, SslMode, Upstream, UpstreamSocket, UpstreamTls};
use sidepool::error::SqlState;
use sidepool::net::tls::TlsContext;
use sidepool::upstream::{AuthMethod, ConnectError, ConnectSpec, Connected, Credential, cancel, connect};
use sidepool::wire::fields::Fields;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::postgres::Postgres;

struct Bed {
    postgres: Arc<Postgres>,
    upstream: Upstream,
    keys: Arc<KeyCache>,
}

impl Bed {
    async fn new() -> Self {
        let postgres = tokio::task::spawn_blocking(Postgres::shared).await.unwrap();
        let upstream = Upstream {
            host: Host::Tcp("localhost".into()),
            port: postgres.port,
            user: "postgres".into(),
            password: None,
            database: "postgres".into(),
            tls: UpstreamTls::new(SslMode::Disable),
            socket: UpstreamSocket::Off,
        };
        Self { postgres, upstream, keys: Arc::new(KeyCache::new().unwrap()) }
    }

    /// A role of that name, which several tests may make at once.
    async fn role(&self, name: &str, encryption: &str, password: &str) {
        let admin = self.postgres.admin().await;
        let statements = format!(
            "SET password_encryption = '{encryption}';
             SELECT pg_advisory_lock(1);
             DO $$ BEGIN CREATE ROLE {name} LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
             ALTER ROLE {name} PASSWORD '{password}'"
        );
        admin.batch_execute(&statements).await.unwrap();
    }

    async fn login(&self, user: &str, credential: Credential) -> Result<Connected, ConnectError> {
        self.login_to(user, "postgres", credential, &[]).await
    }

    async fn login_to(
        &self,
        user: &str,
        database: &str,
        credential: Credential,
        parameters: &[(String, String)],
    ) -> Result<Connected, ConnectError> {
        let tls = TlsContext::load(&self.upstream.tls).unwrap();
        let (upstream, keys) = (&self.upstream, &self.keys);
        let spec = ConnectSpec { upstream, tls: &tls, keys, user, database, credential: &credential, parameters };
        tokio::time::timeout(Duration::from_secs(30), connect(&spec)).await.expect("in time")
    }
}

fn secret(password: &str) -> Credential {
    Credential::Password(Password::new(password))
}

/// The columns of the one row that a simple query gives; panics on an error.
async fn query(connected: &mut Connected, sql: &str) -> Vec<u8> {
    let mut message = BytesMut::from(&b"Q"[..]);
    message.extend_from_slice(&(5 + sql.len() as u32).to_be_bytes());
    message.extend_from_slice(sql.as_bytes());
    message.extend_from_slice(b"\0");
    connected.stream.write_all(&message).await.unwrap();
    connected.stream.flush().await.unwrap();
    let mut row = Vec::new();
    loop {
        let tag = connected.stream.read_u8().await.unwrap();
        let length = connected.stream.read_u32().await.unwrap() as usize;
        let mut body = vec![0; length - 4];
        connected.stream.read_exact(&mut body).await.unwrap();
        match tag {
            b'D' => row = body[6..].to_vec(),
            b'E' => row = Fields::new(&body).sqlstate().unwrap().as_str().into(),
            b'Z' => return row,
            _ => {}
        }
    }
}

#[tokio::test]
async fn trust_over_a_unix_socket() {
    let mut bed = Bed::new().await;
    bed.upstream.host = Host::Unix(bed.postgres.socket_directory().to_owned());
    // sslmode counts for nothing here.
    bed.upstream.tls.mode = SslMode::Require;
    let mut connected = bed.login("postgres", Credential::None).await.unwrap();
    assert_eq!((connected.auth, connected.tls), (AuthMethod::Trust, None));
    let version = connected.parameters.iter().find(|(name, _)| name == "server_version").unwrap();
    assert!(version.1.starts_with("15."), "{version:?}");
    assert_eq!(query(&mut connected, "SELECT pg_backend_pid()").await, connected.key.pid.to_string().as_bytes());
}

#[tokio::test]
async fn every_method_of_pg_hba() {
    let bed = Bed::new().await;
    for (user, encryption, method) in [
        ("trusting", "scram-sha-256", AuthMethod::Trust),
        ("clear", "scram-sha-256", AuthMethod::CleartextPassword),
        ("digest", "md5", AuthMethod::Md5),
        ("scrammed", "scram-sha-256", AuthMethod::ScramSha256),
    ] {
        bed.role(user, encryption, "s3cret").await;
        let mut connected = bed.login(user, secret("s3cret")).await.unwrap();
        assert_eq!(connected.auth, method, "{user}");
        assert_eq!(query(&mut connected, "SELECT current_user").await, user.as_bytes());
    }
}

#[tokio::test]
async fn a_wrong_password_is_the_servers_own_error() {
    let bed = Bed::new().await;
    bed.role("scrammed", "scram-sha-256", "s3cret").await;
    match bed.login("scrammed", secret("wrong")).await {
        Err(ConnectError::Refused(error)) => {
            assert_eq!(error.sqlstate(), Some(SqlState::INVALID_PASSWORD));
            assert_eq!(error.message(), "password authentication failed for user \"scrammed\"");
        }
        other => panic!("{other:?}"),
    }
    match bed.login_to("scrammed", "nowhere", secret("s3cret"), &[]).await {
        Err(ConnectError::Refused(error)) => assert_eq!(error.sqlstate(), Some(SqlState::UNKNOWN_DATABASE)),
        other => panic!("{other:?}"),
    }
    match bed.login("scrammed", Credential::None).await {
        Err(ConnectError::Credential { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn scram_with_keys_alone_and_with_an_unusual_iteration_count() {
    let bed = Bed::new().await;
    let iterations = NonZeroU32::new(601).unwrap();
    let keys = ScramKeys::derive("pass-through", b"some salt", iterations);
    let verifier = Verifier::from_keys(&keys, b"some salt", iterations);
    bed.role("keyed", "scram-sha-256", &verifier.to_text()).await;
    let kept: String = bed
        .postgres
        .admin()
        .await
        .query_one("SELECT rolpassword FROM pg_authid WHERE rolname = 'keyed'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(Verifier::parse(&kept), Ok(verifier));
    assert_eq!(bed.login("keyed", Credential::ScramKeys(keys)).await.unwrap().auth, AuthMethod::ScramSha256);
    assert_eq!(bed.login("keyed", secret("pass-through")).await.unwrap().auth, AuthMethod::ScramSha256);
    let others = ScramKeys::derive("other", b"some salt", iterations);
    assert!(matches!(bed.login("keyed", Credential::ScramKeys(others)).await, Err(ConnectError::Refused(_))));
}

#[tokio::test]
async fn the_password_is_normalized_as_postgresql_does() {
    let bed = Bed::new().await;
    bed.role("spelled", "scram-sha-256", "I\u{ad}X\u{a0}\u{2168}").await;
    assert!(bed.login("spelled", secret("IX IX")).await.is_ok());
}

#[tokio::test]
async fn startup_parameters_take_effect_and_bad_ones_are_the_servers_error() {
    let bed = Bed::new().await;
    bed.role("scrammed", "scram-sha-256", "s3cret").await;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let good = [pair("work_mem", "5MB"), pair("TimeZone", "Asia/Tokyo"), pair("search_path", "a, \"B c\"")];
    let mut connected = bed.login_to("scrammed", "postgres", secret("s3cret"), &good).await.unwrap();
    assert_eq!(query(&mut connected, "SELECT current_setting('work_mem')").await, b"5MB");
    assert_eq!(query(&mut connected, "SHOW search_path").await, b"a, \"B c\"");
    assert!(connected.parameters.contains(&pair("TimeZone", "Asia/Tokyo")));
    match bed.login_to("scrammed", "postgres", secret("s3cret"), &[pair("work_mem", "much")]).await {
        Err(ConnectError::Refused(error)) => assert_eq!(error.sqlstate(), Some(SqlState::INVALID_PARAMETER_VALUE)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tls_as_each_sslmode_has_it() {
    let mut bed = Bed::new().await;
    bed.role("encrypted", "scram-sha-256", "s3cret").await;
    let root = bed.postgres.root_certificate();
    for (mode, root_certificate, host, encrypted) in [
        (SslMode::Prefer, None, "localhost", true),
        (SslMode::Require, None, "127.0.0.1", true),
        (SslMode::VerifyCa, Some(root.clone()), "localhost", true),
        (SslMode::VerifyFull, Some(root.clone()), "localhost", true),
        (SslMode::VerifyFull, Some(root), "127.0.0.1", true),
        (SslMode::Disable, None, "localhost", false),
    ] {
        bed.upstream.host = Host::Tcp(host.into());
        bed.upstream.tls = UpstreamTls { root_certificate, ..UpstreamTls::new(mode) };
        let outcome = bed.login("encrypted", secret("s3cret")).await;
        assert_eq!(outcome.as_ref().is_ok_and(|connected| connected.tls.is_some()), encrypted, "{mode:?}: {outcome:?}");
        let Ok(mut connected) = outcome else { continue };
        let answer = query(&mut connected, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await;
        assert_eq!(answer, b"t");
    }
}

#[tokio::test]
async fn scram_is_bound_to_the_servers_certificate_where_that_is_not_switched_off() {
    let mut bed = Bed::new().await;
    bed.role("encrypted", "scram-sha-256", "s3cret").await;
    for (channel_binding, method) in [
        (ChannelBinding::Prefer, AuthMethod::ScramSha256Plus),
        (ChannelBinding::Require, AuthMethod::ScramSha256Plus),
        (ChannelBinding::Disable, AuthMethod::ScramSha256),
    ] {
        bed.upstream.tls = UpstreamTls { channel_binding, ..UpstreamTls::new(SslMode::Require) };
        assert_eq!(bed.login("encrypted", secret("s3cret")).await.unwrap().auth, method);
    }
    // Keys that a client proved are bound as well as a password is.
    let verifier: String = bed
        .postgres
        .admin()
        .await
        .query_one("SELECT rolpassword FROM pg_authid WHERE rolname = 'encrypted'", &[])
        .await
        .unwrap()
        .get(0);
    let verifier = Verifier::parse(&verifier).unwrap();
    let keys = ScramKeys::derive("s3cret", &verifier.salt, verifier.iterations);
    bed.upstream.tls = UpstreamTls { channel_binding: ChannelBinding::Require, ..UpstreamTls::new(SslMode::Require) };
    assert!(bed.login("encrypted", Credential::ScramKeys(keys)).await.is_ok());
    // PostgreSQL lets this one in without any proof.
    let error = bed.login("trusting", Credential::None).await.unwrap_err();
    assert!(error.to_string().contains("channel_binding=require"), "{error}");
}

#[tokio::test]
async fn tls_with_somebody_elses_root_is_refused_by_us() {
    let mut bed = Bed::new().await;
    let other = tempfile::tempdir().unwrap();
    sidepool::net::dev_cert::load_or_create(other.path()).unwrap();
    let root_certificate = Some(other.path().join("ca.crt"));
    bed.upstream.tls = UpstreamTls { root_certificate, ..UpstreamTls::new(SslMode::VerifyCa) };
    match bed.login("trusting", Credential::None).await {
        Err(ConnectError::Tls { reason, .. }) => assert!(reason.contains("certificate"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nobody_there() {
    let mut bed = Bed::new().await;
    bed.upstream.port = 1;
    let error = bed.login("postgres", Credential::None).await.unwrap_err();
    assert!(error.to_string().ends_with("localhost:1: connection refused"), "{error}");
    bed.upstream.host = Host::Unix("/nonexistent".into());
    let error = bed.login("postgres", Credential::None).await.unwrap_err();
    assert!(error.to_string().ends_with("/nonexistent/.s.PGSQL.1: no such socket"), "{error}");
    bed.upstream.host = Host::Tcp("no-such-host.invalid".into());
    assert!(matches!(bed.login("postgres", Credential::None).await, Err(ConnectError::Unreachable { .. })));
}

#[tokio::test]
async fn trap_41_a_cancel_goes_the_way_the_connection_went() {
    let mut bed = Bed::new().await;
    bed.role("encrypted", "scram-sha-256", "s3cret").await;
    for mode in [SslMode::Require, SslMode::Disable] {
        bed.upstream.tls.mode = SslMode::Require;
        let mut connected = bed.login("encrypted", secret("s3cret")).await.unwrap();
        let (key, pid) = (connected.key.clone(), connected.key.pid);
        let sleeping = tokio::spawn(async move { query(&mut connected, "SELECT pg_sleep(600)").await });
        let admin = bed.postgres.admin().await;
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
        while admin.query_one(asleep, &[&pid]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
        bed.upstream.tls.mode = mode;
        cancel(&bed.upstream, &TlsContext::load(&bed.upstream.tls).unwrap(), &key).await.unwrap();
        let state = tokio::time::timeout(Duration::from_secs(20), sleeping).await.expect("in time").unwrap();
        assert_eq!(state, b"57014");
    }
}
