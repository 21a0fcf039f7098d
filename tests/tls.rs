//! TLS on both sides of the running pooler. Tests are named by the trap they keep shut.

mod common;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use common::wire::{self, Wire, show, show_in_full};
use common::{Certificates, Plan, Postgres, Proxy, Sidepool, resident_kib};
use tokio::net::TcpListener;

/// A PostgreSQL that speaks TLS; `app` has to.
struct Bed {
    certificates: Certificates,
    postgres: Postgres,
}

impl Bed {
    /// For all tests that run at the same time; the last of them ends it.
    fn shared() -> Arc<Self> {
        static RUNNING: Mutex<Weak<Bed>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Self::start());
            *running = Arc::downgrade(&started);
            started
        })
    }

    fn start() -> Self {
        let certificates = Certificates::new();
        let hba = ["hostssl all app 127.0.0.1/32 scram-sha-256", "host all app 127.0.0.1/32 reject"];
        let hba = hba.map(str::to_owned).to_vec();
        let postgres = Postgres::start(Plan { settings: certificates.settings(), hba, ..Plan::default() });
        Self { certificates, postgres }
    }

    /// Whose certificate clients can verify; in front of the shared PostgreSQL, with one server in each mode.
    fn sidepool(&self) -> Sidepool {
        let pem = self.certificates.server().display().to_string();
        let flags = [("client-tls-certificate", &*pem), ("client-tls-key", &pem), ("pool-size", "1"), ("workers", "1")];
        Sidepool::start(&self.postgres, &flags)
    }

    fn root(&self) -> String {
        self.certificates.root().display().to_string()
    }
}

fn url(user: &str, host: &str, port: u16, parameters: &str) -> String {
    format!("postgres://{user}:secret@{host}:{port}/postgres?{parameters}")
}

const ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[tokio::test]
async fn trap_46_clients_come_over_tls_asked_for_or_direct() {
    let bed = Bed::shared();
    let sidepool = bed.sidepool();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        // After an SSLRequest nobody has to name the protocol.
        for alpn in [true, false] {
            let mut client = Wire::secured(endpoint.port, &bed.certificates.connector(alpn)).await;
            assert_eq!(client.log_in(&endpoint).await.last().map(|reply| reply.tag), Some(b'Z'));
            assert_eq!(client.value("SELECT repeat('x', 100000)").await.len(), 100_000);
        }
        let mut client = Wire::direct_tls(endpoint.port, &bed.certificates.connector(true)).await.unwrap();
        assert_eq!(client.log_in(&endpoint).await.last().map(|reply| reply.tag), Some(b'Z'));
        assert_eq!(client.value("SELECT 'direct'").await, "direct");
        drop(client);
        // PostgreSQL refuses, too, whoever may be a browser.
        if let Ok(mut client) = Wire::direct_tls(endpoint.port, &bed.certificates.connector(false)).await {
            let _ = client.try_send(&endpoint.packet(0)).await;
            assert_eq!(client.bytes_until_closed().await, b"");
        }
        assert_eq!(endpoint.value("SELECT 'next'").await, "next");
    }
    assert!(sidepool.log().contains("direct TLS without ALPN"), "{}", sidepool.log());
}

#[tokio::test]
async fn trap_45_nothing_is_asked_for_within_tls() {
    let bed = Bed::shared();
    let sidepool = bed.sidepool();
    for request in [wire::ssl_request(), wire::gss_request()] {
        let mut client = Wire::secured(sidepool.transaction().port, &bed.certificates.connector(true)).await;
        client.send(&request).await;
        assert_eq!(show(&client.until_closed().await), "E(0A000)");
    }
}

#[tokio::test]
async fn trap_46_direct_tls_to_an_upstream_needs_one_that_agrees_on_the_protocol() {
    let certificates = Certificates::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = certificates.acceptor_without_alpn();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let mut stream = Wire::over(acceptor.accept(socket).await.unwrap(), port);
            tell.send(stream.bytes_until_closed().await).unwrap();
        }
    });
    let file = format!("upstream = \"{}\"", url("postgres", "localhost", port, "sslmode=require&sslnegotiation=direct"));
    let sidepool = Sidepool::launch(&[("timeout-server-down", "0")], &file).unwrap();
    let (_, greeting) = Wire::try_login(&sidepool.session()).await;
    assert!(show_in_full(&greeting).starts_with("E(FATAL | 08006 | could not establish TLS"), "{}", show_in_full(&greeting));
    sidepool
        .log_has("cannot open a server connection pool=pool postgres.*/postgres (session mode) error=could not establish TLS");
    // At its start Sidepool has looked, too.
    for _ in 0..2 {
        assert_eq!(told.recv().await.unwrap(), b"", "whoever it is, it is told nothing");
    }
}

#[tokio::test]
async fn trap_47_every_sslmode_with_an_upstream_that_speaks_tls_and_with_one_that_does_not() {
    let bed = Bed::shared();
    let (plain, other) = (Postgres::shared().port, Certificates::new());
    let (root, strange) = (format!("sslrootcert={}", bed.root()), format!("sslrootcert={}", other.root().display()));
    // Mode and roots; the host; encrypted at one that speaks TLS; whether one that does not will do.
    let cases = [
        ("sslmode=disable".to_owned(), "localhost", Some("f"), true),
        ("sslmode=prefer".to_owned(), "localhost", Some("t"), true),
        ("".to_owned(), "localhost", Some("t"), true),
        ("sslmode=require".to_owned(), "127.0.0.1", Some("t"), false),
        (format!("sslmode=require&{root}"), "127.0.0.1", Some("t"), false),
        (format!("sslmode=require&{strange}"), "127.0.0.1", None, false),
        (format!("sslmode=verify-ca&{root}"), "127.0.0.1", Some("t"), false),
        (format!("sslmode=verify-ca&{strange}"), "localhost", None, false),
        (format!("sslmode=verify-full&{root}"), "localhost", Some("t"), false),
        // Not a name that the certificate has.
        (format!("sslmode=verify-full&{root}"), "127.0.0.1", None, false),
        (format!("sslmode=verify-full&{strange}"), "localhost", None, false),
    ];
    let mut file = String::new();
    for (number, (parameters, host, ..)) in cases.iter().enumerate() {
        for (name, port) in [("tls", bed.postgres.port), ("plain", plain)] {
            file += &format!("[projects.{name}{number}]\nupstream = \"{}\"\n", url("postgres", host, port, parameters));
        }
    }
    let sidepool = Sidepool::launch(&[("timeout-server-down", "0")], &file).unwrap();
    for (number, (parameters, host, encrypted, plain)) in cases.iter().enumerate() {
        for endpoint in [sidepool.session(), sidepool.transaction()] {
            for (name, expected) in [("tls", *encrypted), ("plain", plain.then_some("f"))] {
                let (mut client, greeting) = Wire::try_login(&endpoint.clone().user(&format!("postgres.{name}{number}"))).await;
                let told = match greeting.last().map(|reply| reply.tag) {
                    Some(b'Z') => Some(client.value(ENCRYPTED).await),
                    _ => {
                        assert_eq!(show(&greeting), "E(08006)", "{parameters} {host} {name}");
                        None
                    }
                };
                assert_eq!(told.as_deref(), expected, "{parameters} {host} {name}");
            }
        }
    }
}

#[tokio::test]
async fn trap_47_preferred_tls_is_done_without_only_where_it_fails() {
    let bed = Bed::shared();
    // Who has to use TLS has it by preference, and who refuses it is refused.
    let file = format!(
        "[projects.prefer]\nupstream = \"{}\"\n[projects.disable]\nupstream = \"{}\"\n",
        url("app", "localhost", bed.postgres.port, "sslmode=prefer"),
        url("app", "localhost", bed.postgres.port, "sslmode=disable"),
    );
    let sidepool = Sidepool::launch(&[], &file).unwrap();
    assert_eq!(sidepool.transaction().user("app.prefer").value(ENCRYPTED).await, "t");
    let (_, greeting) = Wire::try_login(&sidepool.transaction().user("app.disable")).await;
    assert_eq!(show(&greeting), "E(28000)");
}

#[tokio::test]
async fn trap_48_connections_share_their_roots() {
    /// 5 000 roots take more than a megabyte.
    const ROOTS: usize = 5000;
    const SERVERS: usize = 20;
    let bed = Bed::shared();
    let bundle = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bundle.path(), std::fs::read_to_string(bed.certificates.root()).unwrap().repeat(ROOTS)).unwrap();
    let parameters = format!("sslmode=verify-full&sslrootcert={}", bundle.path().display());
    let file = format!("upstream = \"{}\"", url("app", "localhost", bed.postgres.port, &parameters));
    let sidepool = Sidepool::launch(&[("pool-size", "30")], &file).unwrap();
    let endpoint = sidepool.session().user("app");
    let mut clients = vec![endpoint.wire().await];
    let before = resident_kib(sidepool.pid());
    while clients.len() < SERVERS {
        clients.push(endpoint.wire().await);
    }
    let grown = resident_kib(sidepool.pid()).saturating_sub(before);
    assert!(grown < 8 * 1024, "grown by {grown} KiB for {SERVERS} connections");
    assert_eq!(clients[0].value(ENCRYPTED).await, "t");
}

#[tokio::test]
async fn trap_49_tls_that_just_ends_is_an_end_like_any() {
    let bed = Bed::shared();
    let sidepool = bed.sidepool();
    let connector = bed.certificates.connector(true);
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        // Dropped without a close_notify: before a login, idle, in a transaction, and in a query.
        drop(Wire::secured(endpoint.port, &connector).await);
        for left in ["SELECT 1", "BEGIN; SELECT 1", "SELECT pg_sleep(1000)"] {
            let mut client = Wire::secured(endpoint.port, &connector).await;
            client.log_in(&endpoint).await;
            let pid = client.backend().await;
            client.send(&wire::query(left)).await;
            if left.contains("sleep") {
                bed.postgres.sleeps(&pid).await;
            } else {
                client.until(b'Z').await;
            }
            drop(client);
            bed.postgres.is_idle(&pid).await;
        }
        assert_eq!(endpoint.value("SELECT 'next'").await, "next");
    }
    // And what only looks whether somebody listens, as monitors do, is not worth a line.
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        drop(Wire::connect(endpoint.port).await);
    }
    sidepool.has_read().await;
    let log = sidepool.log();
    assert!(!log.contains("login failed"), "{log}");
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
}

#[tokio::test]
async fn trap_49_an_upstreams_tls_that_just_ends_is_nobodys_error() {
    let bed = Bed::shared();
    let file = format!("upstream = \"{}\"", url("app", "localhost", bed.postgres.port, "sslmode=require"));
    // With `verify` the server may be asked what it has when it is ended, and then it is the client's yet.
    let flags = [("pool-size", "1"), ("workers", "1"), ("verify", "false")];
    let sidepool = Sidepool::launch(&flags, &file).unwrap();
    let mut client = sidepool.transaction().user("app").wire().await;
    for _ in 0..3 {
        let pid = client.backend().await;
        bed.postgres.terminate(&pid).await;
        assert_ne!(client.backend().await, pid);
    }
}

#[tokio::test]
async fn trap_41_a_cancel_goes_upstream_over_tls_and_comes_over_tls() {
    let bed = Bed::shared();
    let proxy = Proxy::to(bed.postgres.port, |_| {}).await;
    let parameters = format!("sslmode=verify-full&sslrootcert={}", bed.root());
    let pem = bed.certificates.server().display().to_string();
    let file = format!("upstream = \"{}\"", url("app", "localhost", proxy.port, &parameters));
    let sidepool = Sidepool::launch(&[("client-tls-certificate", &pem), ("client-tls-key", &pem)], &file).unwrap();
    let connector = bed.certificates.connector(true);
    for endpoint in [sidepool.session().user("app"), sidepool.transaction().user("app")] {
        let mut client = Wire::secured(endpoint.port, &connector).await;
        client.log_in(&endpoint).await;
        let pid = client.backend().await;
        for direct in [false, true] {
            client.send(&wire::query("SELECT pg_sleep(1000)")).await;
            bed.postgres.sleeps(&pid).await;
            let canceller = if direct {
                Wire::direct_tls(endpoint.port, &connector).await.unwrap()
            } else {
                Wire::secured(endpoint.port, &connector).await
            };
            closes_in_order(canceller, &client.key_data).await;
            assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(I)");
        }
    }
    let said = proxy.said();
    assert!(said.len() >= 6, "two servers and four cancels: {}", said.len());
    for connection in said {
        assert_eq!(connection[..8], wire::ssl_request());
        // A handshake record, and nothing of PostgreSQL's behind the request.
        assert_eq!(connection[8], 0x16);
    }
}

/// libpq takes an end without a goodbye for a failed cancel.
async fn closes_in_order(mut canceller: Wire, key_data: &[u8]) {
    canceller.send(&wire::cancel_request(key_data)).await;
    let end = canceller.try_next().await.expect_err("it has no answer");
    assert!(!end.to_string().contains("close_notify"), "{end}");
}

#[tokio::test]
async fn trap_54_what_was_asked_is_answered_once_though_login_takes_its_time() {
    let bed = Bed::shared();
    let sidepool = bed.sidepool();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let asking = endpoint.clone().parameter("options", "-c work_mem=5MB").parameter("_pq_.one", "").parameter("_pq_.two", "");
        let packet = asking.packet(99);
        let mut client = Wire::secured(endpoint.port, &bed.certificates.connector(true)).await;
        // In pieces, each a record of its own, so that there is something to process again.
        for piece in packet.chunks(7) {
            client.send(piece).await;
        }
        let first = client.next().await;
        assert_eq!(first.body, b"\0\x03\0\x02\0\0\0\x02_pq_.one\0_pq_.two\0");
        let greeting = client.authenticate(&endpoint.password).await;
        let tags: Vec<u8> = greeting.iter().map(|reply| reply.tag).filter(|tag| *tag != b'S').collect();
        assert_eq!(tags, *b"KZ", "{}", show(&greeting));
        assert_eq!(client.value("SHOW work_mem").await, "5MB");
    }
    assert_ne!(sidepool.transaction().value("SHOW work_mem").await, "5MB");
}
