//! HTTP beside the data path: what is counted, who is told, when it is ready.

mod common;

use std::time::{Duration, Instant};

use common::wire::{self, Wire};
use common::{PATIENCE, Postgres, Sidepool, at_once, until};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HTTP: (&str, &str) = ("http", "127.0.0.1:0");

/// The labels of the pool that the tests' clients are in.
const POOL: &str = r#"project="*",database="postgres",user="postgres",mode="transaction""#;

fn served(flags: &[(&str, &str)]) -> Sidepool {
    Sidepool::start(Postgres::shared(), &[&[HTTP], flags].concat())
}

/// What is answered to these bytes, until the other side closes.
async fn raw(port: u16, request: &[u8]) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        stream.write_all(request).await.expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it closes in order");
        String::from_utf8(answer).expect("it answers in UTF-8")
    };
    tokio::time::timeout(PATIENCE, talk).await.expect("it answers")
}

/// Status and body.
async fn get(port: u16, path: &str) -> (u16, String) {
    split(&raw(port, format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n").as_bytes()).await)
}

fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).expect("a status line");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    assert!(body.is_empty() || body.len().to_string() == length, "{head}");
    (status.parse().expect("a number"), body.to_owned())
}

struct Scrape(String);

impl Scrape {
    async fn of(sidepool: &Sidepool) -> Self {
        let (status, body) = get(sidepool.http_port(), "/metrics").await;
        assert_eq!(status, 200, "{body}");
        Self(body)
    }

    /// Of one series, with all of its labels; 0 where there is none.
    fn value(&self, series: &str) -> f64 {
        let found = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().expect("a number"))
    }

    fn pool(&self, name: &str) -> f64 {
        self.value(&format!("{name}{{{POOL}}}"))
    }
}

#[tokio::test]
async fn n_transactions_are_counted_as_n() {
    // With `verify` one lease may last for several transactions.
    let sidepool = served(&[("pool-size", "3"), ("verify", "false")]);
    let clients = at_once((0..6).map(|_| {
        let endpoint = sidepool.transaction();
        async move {
            let mut client = endpoint.wire().await;
            for _ in 0..20 {
                client.run("SELECT 1").await;
            }
            // One transaction, three requests.
            for sql in ["BEGIN", "SELECT 2", "COMMIT"] {
                client.run(sql).await;
            }
            // A batch.
            let batch = [wire::parse("", "SELECT 3"), wire::bind("", "", &[]), wire::execute("", 0), wire::sync()];
            client.exchange(&batch).await;
            client
        }
    }))
    .await;
    // A server may yet be on its way for somebody who has been served by another.
    let opening = format!("sidepool_servers{{{POOL},state=\"opening\"}}");
    until("none is being opened", async || Scrape::of(&sidepool).await.value(&opening) == 0.0).await;
    let scrape = Scrape::of(&sidepool).await;
    assert_eq!(scrape.pool("sidepool_transactions_total"), 6.0 * 22.0);
    assert_eq!(scrape.pool("sidepool_queries_total"), 6.0 * 24.0);
    assert_eq!(scrape.pool("sidepool_client_logins_total"), 6.0);
    assert_eq!(scrape.pool("sidepool_clients"), 6.0);
    assert_eq!(scrape.value(r#"sidepool_logins_total{outcome="accepted"}"#), 6.0);
    let servers = |state: &str| scrape.value(&format!("sidepool_servers{{{POOL},state=\"{state}\"}}"));
    let (connects, idle) = (scrape.pool("sidepool_upstream_connects_total"), servers("idle"));
    assert!((1.0..=3.0).contains(&connects), "{connects}");
    assert_eq!((idle, servers("active"), servers("held")), (connects, 0.0, 0.0));
    assert_eq!(scrape.value(r#"sidepool_upstream_connections{project="*"}"#), connects);
    // Every lease came back, and the first login had one of its own.
    assert_eq!(scrape.pool("sidepool_lease_seconds_count"), scrape.pool("sidepool_leases_total"));
    for (theirs, ours) in [
        ("pgbouncer_stats_sql_transactions_pooled_total", "sidepool_transactions_total"),
        ("pgbouncer_stats_queries_pooled_total", "sidepool_queries_total"),
        ("pgbouncer_stats_received_bytes_total", "sidepool_client_received_bytes_total"),
        ("pgbouncer_pools_client_active_connections", "sidepool_clients"),
        ("pgbouncer_pools_client_waiting_connections", "sidepool_clients_waiting"),
    ] {
        assert_eq!(scrape.pool(theirs), scrape.pool(ours), "{theirs}");
    }
    drop(clients);
    until("the clients are gone", async || Scrape::of(&sidepool).await.pool("sidepool_clients") == 0.0).await;
    assert_eq!(Scrape::of(&sidepool).await.pool("sidepool_transactions_total"), 6.0 * 22.0);
}

#[tokio::test]
async fn bytes_are_counted_to_the_byte() {
    let sidepool = served(&[]);
    let mut client = sidepool.transaction().wire().await;
    let before = Scrape::of(&sidepool).await;
    let query = wire::query("SELECT repeat('x', 100000)");
    client.send(&query).await;
    let replies = client.until(b'Z').await;
    let came: usize = replies.iter().map(|reply| 5 + reply.body.len()).sum();
    let after = Scrape::of(&sidepool).await;
    let grown = |name: &str| after.pool(name) - before.pool(name);
    assert_eq!(grown("sidepool_client_received_bytes_total"), query.len() as f64);
    assert_eq!(grown("sidepool_server_received_bytes_total"), came as f64);
}

#[tokio::test]
async fn pgbench_and_we_count_the_same() {
    let sidepool = served(&[("pool-size", "2")]);
    let place = tempfile::tempdir().expect("the temporary directory is writable");
    let script = place.path().join("one.sql");
    std::fs::write(&script, "SELECT 1;\n").expect("it is ours");
    let endpoint = sidepool.transaction();
    let mut pgbench = tokio::process::Command::new("pgbench");
    pgbench.args(["--no-vacuum", "--client=8", "--transactions=250", "--file"]).arg(&script).arg(endpoint.url());
    let output = tokio::time::timeout(PATIENCE, pgbench.output()).await.expect("it ends").expect("pgbench is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("transactions actually processed: 2000/2000"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let scrape = Scrape::of(&sidepool).await;
    assert_eq!(scrape.pool("sidepool_transactions_total"), 2000.0);
    // Eight clients on two servers.
    assert!(scrape.pool("sidepool_queue_wait_seconds_count") > 0.0);
    assert!(scrape.pool("sidepool_transfers_total") > 0.0);
    assert!(scrape.pool("sidepool_lease_seconds_sum") > 0.0);
}

#[tokio::test]
async fn who_waits_who_holds_and_why_can_be_seen() {
    let sidepool = served(&[("pool-size", "1"), ("workers", "1")]);
    let (mut holder, mut waiting) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    holder.run("CREATE TEMP TABLE kept (n int)").await;
    let state = format!("sidepool_servers{{{POOL},state=\"held\"}}");
    // With `verify` it is asked first.
    until("it is held", async || Scrape::of(&sidepool).await.value(&state) == 1.0).await;
    let held = Scrape::of(&sidepool).await;
    assert_eq!(held.value(&format!("sidepool_servers_held{{{POOL},reason=\"temporary tables\"}}")), 1.0);
    waiting.send(&wire::query("SELECT 1")).await;
    until("it waits", async || Scrape::of(&sidepool).await.pool("sidepool_clients_waiting") == 1.0).await;
    let first = Scrape::of(&sidepool).await.pool("sidepool_longest_wait_seconds");
    let second = Scrape::of(&sidepool).await.pool("pgbouncer_pools_client_maxwait_seconds");
    assert!(first > 0.0 && second > first, "{first} {second}");
    let waits_since = Instant::now();
    holder.run("DROP TABLE kept").await;
    waiting.until(b'Z').await;
    let scrape = Scrape::of(&sidepool).await;
    assert_eq!(scrape.pool("sidepool_clients_waiting"), 0.0);
    let waited = scrape.pool("sidepool_queue_wait_seconds_sum");
    assert!(waited >= second && waited <= second + waits_since.elapsed().as_secs_f64() + 30.0, "{waited}");
}

#[tokio::test]
async fn errors_are_counted_by_class_and_by_whose_they_are() {
    let sidepool = served(&[]);
    let mut client = sidepool.transaction().wire().await;
    client.shown("SELECT 1/0").await;
    client.shown("SELECT * FROM no_such_table").await;
    client.shown("SELECT no_such_column").await;
    let refused = Wire::try_login(&sidepool.transaction().password("wrong")).await.1;
    assert_eq!(refused.last().map(|reply| reply.tag), Some(b'E'));
    // It is counted when it has been told.
    let refusals = r#"sidepool_logins_total{outcome="refused"}"#;
    until("it is counted", async || Scrape::of(&sidepool).await.value(refusals) == 1.0).await;
    let scrape = Scrape::of(&sidepool).await;
    let errors =
        |fault: &str, class: &str| scrape.value(&format!("sidepool_errors_total{{fault=\"{fault}\",class=\"{class}\"}}"));
    assert_eq!([errors("server", "22"), errors("server", "42"), errors("client", "28")], [1.0, 2.0, 1.0], "{}", scrape.0);
    assert_eq!(scrape.value(refusals), 1.0);
}

#[tokio::test]
async fn the_state_says_the_same_as_the_metrics() {
    let sidepool = served(&[]);
    let mut client = sidepool.session().wire().await;
    client.run("SELECT 1").await;
    client.run("BEGIN").await;
    let (status, body) = get(sidepool.http_port(), "/api/state").await;
    let state: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
    assert_eq!((status, &state["phase"], &state["ready"]), (200, &"serving".into(), &true.into()));
    let pool = &state["pools"][0];
    assert_eq!((&pool["mode"], &pool["database"], &pool["clients"]), (&"session".into(), &"postgres".into(), &1.into()));
    assert_eq!((&pool["servers"]["active"], &pool["servers"]["idle"]), (&1.into(), &0.into()));
    assert_eq!((&pool["totals"]["queries"], &pool["totals"]["transactions"]), (&2.into(), &1.into()));
}

#[tokio::test]
async fn it_is_not_ready_from_the_beginning_of_a_drain() {
    let mut sidepool = served(&[]);
    let port = sidepool.http_port();
    let mut open = sidepool.transaction().wire().await;
    open.run("BEGIN").await;
    assert_eq!(get(port, "/readyz").await, (200, "ready\n".to_owned()));
    sidepool.signal(Signal::TERM);
    sidepool.log_has("draining");
    assert_eq!(get(port, "/readyz").await, (503, "draining\n".to_owned()));
    assert_eq!(get(port, "/healthz").await, (200, "ok\n".to_owned()), "it lives, and is not to be killed");
    assert_eq!(Scrape::of(&sidepool).await.value("sidepool_draining"), 1.0);
    open.run("COMMIT").await;
    assert!(sidepool.ended().unwrap().success());
}

#[tokio::test]
async fn it_is_not_ready_without_its_upstream() {
    let postgres = Postgres::start(Default::default());
    let sidepool = Sidepool::start(&postgres, &[HTTP]);
    let port = sidepool.http_port();
    assert_eq!(get(port, "/readyz").await.0, 200, "it takes connections, and nobody has asked for one");
    sidepool.transaction().wire().await.run("SELECT 1").await;
    drop(postgres);
    until("it is noticed", async || get(port, "/readyz").await.0 == 503).await;
    assert_eq!(get(port, "/readyz").await.1, "no upstream can be reached\n");
    assert_eq!(get(port, "/healthz").await.0, 200);
}

/// Each of them would take two seconds, and a probe has less than all of them together.
#[tokio::test]
async fn upstreams_that_do_not_answer_take_no_time_from_the_one_that_does() {
    // Its queue is full, and so whoever comes waits.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("there are sockets left");
    silent.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback has a free port");
    silent.listen(0).expect("it can listen");
    let port = silent.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound").port();
    let _waiting = [0; 4].map(|_| {
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("there are sockets left");
        client.set_nonblocking(true).expect("it can");
        // Under way, or in the queue.
        let _ = client.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into());
        client
    });
    let mut file = String::new();
    for number in 0..6 {
        file += &format!("[projects.a{number}]\nupstream = \"postgres://u:p@127.0.0.1:{port}/d\"\n");
    }
    file += &format!("[projects.z]\nupstream = \"{}\"\n", Postgres::shared().direct().url());
    let sidepool = Sidepool::launch(&[HTTP], &file).expect("it starts");
    assert_eq!(get(sidepool.http_port(), "/readyz").await.0, 200);
}

#[tokio::test]
async fn health_says_by_its_exit_code_whether_it_is_ready() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback has a free port").port();
    let address = format!("127.0.0.1:{free}");
    let upstream = format!("upstream = \"{}\"", Postgres::shared().direct().url());
    let health = |flag: &str| Sidepool::once("health", &[flag], &upstream);
    let down = health(&format!("--http={address}"));
    assert_eq!(down.code, Some(1), "{}", down.stderr);
    assert!(down.stderr.starts_with("not ready: 127.0.0.1:"), "{}", down.stderr);
    let mut sidepool = Sidepool::start(Postgres::shared(), &[("http", &address)]);
    let up = health(&format!("--http={address}"));
    assert_eq!((up.code, up.stdout.as_str()), (Some(0), "ready\n"), "{}", up.stderr);
    // Without HTTP, by the port itself.
    let met = Sidepool::once("health", &["--session-port", &sidepool.session().port.to_string()], &upstream);
    assert_eq!((met.code, met.stdout.as_str()), (Some(0), "accepting clients\n"), "{}", met.stderr);
    let mut open = sidepool.transaction().wire().await;
    open.run("BEGIN").await;
    sidepool.signal(Signal::TERM);
    sidepool.log_has("draining");
    let draining = health(&format!("--http={address}"));
    assert_eq!((draining.code, draining.stderr.as_str()), (Some(1), "not ready: draining\n"));
    open.run("COMMIT").await;
    assert!(sidepool.ended().unwrap().success());
}

#[tokio::test]
async fn with_a_token_only_probes_come_in_without() {
    let sidepool = served(&[("http-token", "open sesame")]);
    let port = sidepool.http_port();
    assert_eq!((get(port, "/healthz").await.0, get(port, "/readyz").await.0), (200, 200));
    for path in ["/metrics", "/api/state", "/nowhere"] {
        assert_eq!(get(port, path).await.0, 401, "{path}");
        for (shown, expected) in [("Bearer open sesame", true), ("Bearer open", false), ("Basic open sesame", false)] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: pooler.example\r\nAuthorization: {shown}\r\n\r\n");
            let (status, body) = split(&raw(port, request.as_bytes()).await);
            assert_eq!(status != 401, expected, "{path} {shown}: {body}");
        }
    }
    assert!(!sidepool.log().contains("sesame"));
}

#[tokio::test]
async fn the_page_comes_from_here_alone() {
    let sidepool = served(&[("http-token", "t")]);
    let (status, page) = get(sidepool.http_port(), "/").await;
    assert_eq!(status, 200);
    assert!(!page.contains("://"), "{page}");
    // Modules that a script imports are announced here, too.
    let named = page.split('"').filter(|word| word.starts_with("/page."));
    let mut files = 0;
    for path in named {
        let answer = raw(sidepool.http_port(), format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await;
        assert!(answer.contains("Content-Security-Policy: default-src 'none'; script-src 'self'"), "{answer}");
        assert_eq!(split(&answer).0, 200, "{path}");
        assert!(!answer.replace("http://www.w3.org/2000/svg", "").contains("://"), "{path}");
        files += 1;
    }
    assert_eq!(files, 5);
    // The page reads these.
    let answer = raw(sidepool.http_port(), b"GET /api/state HTTP/1.1\r\nAuthorization: Bearer t\r\n\r\n").await;
    let state: serde_json::Value = serde_json::from_str(&split(&answer).1).expect("it is JSON");
    for field in [
        "phase",
        "ready",
        "readiness",
        "version",
        "clients",
        "errors",
        "upstreams",
        "pools",
        "waiters",
        "holders",
        "pins",
        "lint",
    ] {
        assert!(!state[field].is_null(), "{field}: {state}");
    }
}

/// Status and body of a command, with these header lines.
async fn command(sidepool: &Sidepool, request: &str, headers: &str) -> (u16, String) {
    let port = sidepool.http_port();
    split(&raw(port, format!("{request} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}\r\n").as_bytes()).await)
}

const MEANT: &str = "X-Sidepool: 1\r\n";

#[tokio::test]
async fn a_pause_holds_until_it_is_resumed() {
    let sidepool = served(&[("pool-size", "2")]);
    let (mut held, mut client) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    held.run("BEGIN").await;
    client.run("SELECT 1").await;
    let pool = "?project=%2A&database=postgres";
    // It does not wait for who is in a transaction, as the console does.
    assert_eq!(command(&sidepool, &format!("POST /api/pause{pool}"), MEANT).await, (200, "PAUSE\n".into()));
    let (status, again) = command(&sidepool, &format!("POST /api/pause{pool}"), MEANT).await;
    assert_eq!((status, again.lines().next()), (409, Some("database \"postgres\" is already paused")));
    client.send(&wire::query("SELECT 2")).await;
    until("it waits", async || state(&sidepool).await["pools"][0]["waiting"] == 1).await;
    held.run("COMMIT").await;
    until("its server is closed", async || state(&sidepool).await["upstreams"][0]["connections"] == 0).await;
    assert_eq!(state(&sidepool).await["pools"][0]["paused"], true);
    assert_eq!(command(&sidepool, &format!("POST /api/resume{pool}"), MEANT).await, (200, "RESUME\n".into()));
    client.until(b'Z').await;
    assert_eq!(state(&sidepool).await["pools"][0]["paused"], false);
    let (status, none) = command(&sidepool, "POST /api/resume", MEANT).await;
    assert_eq!((status, none.lines().next()), (409, Some("the pooler is not paused")));
    assert_eq!(command(&sidepool, "POST /api/pause?database=nowhere", MEANT).await.0, 404);
    assert_eq!(command(&sidepool, "POST /api/pause?project=nobodys", MEANT).await.0, 404);
    sidepool.log_has("command over HTTP command=\"PAUSE\" about=\"project=%2A&database=postgres\" peer=127.0.0.1:");
    sidepool.log_has("command over HTTP failed command=\"RESUME\" about=\"\" peer=127.0.0.1:");
}

#[tokio::test]
async fn servers_are_replaced_by_a_reconnect() {
    let sidepool = served(&[("pool-size", "1")]);
    let mut client = sidepool.transaction().wire().await;
    let before = client.value("SELECT pg_backend_pid()").await;
    assert_eq!(command(&sidepool, "POST /api/reconnect", MEANT).await, (200, "RECONNECT\n".into()));
    assert_ne!(client.value("SELECT pg_backend_pid()").await, before);
}

#[tokio::test]
async fn a_client_is_ended_by_its_id() {
    let sidepool = served(&[]);
    let named = sidepool.transaction().parameter("application_name", "to be ended");
    let (mut client, mut other) = (named.wire().await, sidepool.transaction().wire().await);
    client.run("BEGIN").await;
    client.send(&wire::query("SELECT pg_sleep(600)")).await;
    other.run("BEGIN").await;
    let holders = state(&sidepool).await["holders"]["rows"].clone();
    let holders = holders.as_array().expect("a list");
    let held: Vec<_> = holders.iter().map(|holder| holder["held_ms"].as_u64().expect("a number")).collect();
    assert!(held.is_sorted_by(|a, b| a >= b) && held.len() == 2, "{holders:?}");
    let holder = holders.iter().find(|holder| holder["application_name"] == "to be ended").expect("it has a server");
    let id = holder["client_id"].clone();
    assert_eq!(command(&sidepool, &format!("POST /api/kill_client?id={id}"), MEANT).await, (200, "KILL_CLIENT\n".into()));
    let told = wire::show_in_full(&client.until_closed().await);
    assert!(told.contains("FATAL | 57P01 | terminating connection due to administrator command"), "{told}");
    until("it is gone", async || state(&sidepool).await["clients"] == 1).await;
    let (status, gone) = command(&sidepool, &format!("POST /api/kill_client?id={id}"), MEANT).await;
    assert_eq!((status, gone.lines().next()), (404, Some(&*format!("client {id} does not exist"))));
    other.run("COMMIT").await;
}

#[tokio::test]
async fn a_database_is_closed_to_new_clients_and_opened_again() {
    let sidepool = served(&[]);
    let mut inside = sidepool.transaction().wire().await;
    assert_eq!(command(&sidepool, "POST /api/disable?database=postgres", MEANT).await, (200, "DISABLE\n".into()));
    assert_eq!(state(&sidepool).await["pools"][0]["disabled"], true);
    let told = wire::show_in_full(&Wire::try_login(&sidepool.session()).await.1);
    assert!(told.starts_with("E(FATAL | 55000 | database \"postgres\" is not currently"), "{told}");
    inside.run("SELECT 'stays'").await;
    assert_eq!(command(&sidepool, "POST /api/enable?database=postgres", MEANT).await, (200, "ENABLE\n".into()));
    sidepool.session().wire().await.run("SELECT 'again'").await;
    assert_eq!(command(&sidepool, "POST /api/enable?database=postgres", MEANT).await.0, 409);
    assert_eq!(command(&sidepool, "POST /api/disable?project=nobodys", MEANT).await.0, 404);
}

#[tokio::test]
async fn everybody_in_a_database_is_ended_and_it_stays_paused() {
    let sidepool = served(&[]);
    let (mut open, mut idle) = (sidepool.transaction().wire().await, sidepool.session().wire().await);
    open.run("BEGIN").await;
    assert_eq!(command(&sidepool, "POST /api/kill?database=postgres", MEANT).await, (200, "KILL\n".into()));
    for client in [&mut open, &mut idle] {
        let told = wire::show_in_full(&client.until_closed().await);
        assert!(told.contains("FATAL | 57P01"), "{told}");
    }
    until("they are gone", async || state(&sidepool).await["clients"] == 0).await;
    let endpoint = sidepool.transaction();
    let late = tokio::spawn(async move { endpoint.value("SELECT 'late'").await });
    until("it waits", async || state(&sidepool).await["waiters"]["total"] == 1).await;
    assert_eq!(command(&sidepool, "POST /api/resume?database=postgres", MEANT).await.0, 200);
    assert_eq!(late.await.expect("it is served"), "late");
}

#[tokio::test]
async fn the_process_is_ended_when_it_has_answered() {
    let mut sidepool = served(&[]);
    let mut client = sidepool.transaction().wire().await;
    assert_eq!(command(&sidepool, "POST /api/shutdown", MEANT).await, (200, "SHUTDOWN\n".into()));
    assert!(wire::show(&client.until_closed().await).contains("E(57P01)"));
    assert!(sidepool.ended().is_some_and(|status| status.success()));
    let mut sidepool = served(&[]);
    let mut open = sidepool.transaction().wire().await;
    open.run("BEGIN").await;
    assert_eq!(command(&sidepool, "POST /api/shutdown?wait_for=servers", MEANT).await, (200, "SHUTDOWN\n".into()));
    sidepool.log_has("draining");
    open.run("COMMIT").await;
    assert!(sidepool.ended().is_some_and(|status| status.success()));
    // Who is hurried is told with the same.
    let mut sidepool = served(&[]);
    let mut staying = sidepool.transaction().wire().await;
    assert_eq!(command(&sidepool, "POST /api/shutdown?wait_for=clients", MEANT).await, (200, "SHUTDOWN\n".into()));
    sidepool.log_has("waiting for the last one to leave");
    staying.run("SELECT 'still here'").await;
    assert_eq!(command(&sidepool, "POST /api/shutdown", MEANT).await, (200, "SHUTDOWN\n".into()));
    assert!(sidepool.ended().is_some_and(|status| status.success()));
}

#[tokio::test]
async fn slow_transactions_are_counted() {
    let sidepool = served(&[("log-slow-transactions", "200ms")]);
    let mut client = sidepool.transaction().wire().await;
    for sql in ["SELECT 1", "SELECT pg_sleep(0.3)", "BEGIN; SELECT pg_sleep(0.3)", "COMMIT", "SELECT 2"] {
        client.run(sql).await;
    }
    let counted = async || Scrape::of(&sidepool).await.pool("sidepool_slow_transactions_total");
    until("both are counted", async || counted().await >= 2.0).await;
    assert_eq!(counted().await, 2.0);
    client.run("BEGIN; SELECT pg_sleep(0.3)").await;
    drop(client);
    until("the one that broke off too", async || counted().await >= 3.0).await;
    assert_eq!(state(&sidepool).await["pools"][0]["totals"]["slow_transactions"], 3);
}

#[tokio::test]
async fn a_reload_is_asked_for_with_put() {
    let sidepool = served(&[]);
    assert_eq!(command(&sidepool, "PUT /api/reload", MEANT).await, (200, "RELOAD\n".into()));
    sidepool.log_has("configuration reloaded");
    sidepool.rewrite("upstraem = \"postgres://localhost\"\n");
    let (status, why) = command(&sidepool, "PUT /api/reload", MEANT).await;
    assert!(status == 422 && why.contains("upstraem") && why.contains("Nothing has changed."), "{status} {why}");
    sidepool.transaction().wire().await.run("SELECT 1").await;
}

#[tokio::test]
async fn nobody_commands_by_accident_or_from_elsewhere() {
    let sidepool = served(&[]);
    let (_client, port) = (sidepool.transaction().wire().await, sidepool.http_port());
    for (request, headers, expected) in [
        // A form or a picture in a page of somebody else's, and a script of its that asks first.
        ("POST /api/pause", "", 403),
        ("POST /api/pause", "X-Sidepool: 0\r\n", 403),
        ("POST /api/pause", "Origin: https://elsewhere.example\r\n", 403),
        ("GET /api/pause", MEANT, 405),
        ("PUT /api/pause", MEANT, 405),
        ("POST /api/reload", MEANT, 405),
        ("OPTIONS /api/pause", "Access-Control-Request-Headers: x-sidepool\r\n", 405),
        ("POST /api/pause?databse=postgres", MEANT, 400),
        ("POST /api/kill_client", MEANT, 400),
        ("POST /api/kill_client?id=-1", MEANT, 400),
        ("POST /api/pause", "X-Sidepool: 1\r\nTransfer-Encoding: chunked\r\n", 413),
        ("POST /api/shutdown", "", 403),
        ("GET /api/shutdown", MEANT, 405),
        ("POST /api/shutdown?wait_for=ever", MEANT, 400),
        ("POST /api/kill", "", 403),
        ("POST /api/disable?database=postgres", "", 403),
        ("POST /api/disable", MEANT, 400),
        ("POST /api/set", MEANT, 405),
    ] {
        let (status, said) = command(&sidepool, request, headers).await;
        assert_eq!(status, expected, "{request} {headers:?}: {said}");
    }
    let body = "POST /api/pause HTTP/1.1\r\nX-Sidepool: 1\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(split(&raw(port, body.as_bytes()).await).0, 413);
    let rebound = "POST /api/pause HTTP/1.1\r\nHost: rebound.example\r\nX-Sidepool: 1\r\n\r\n";
    assert_eq!(split(&raw(port, rebound.as_bytes()).await).0, 403);
    let preflight = raw(port, b"OPTIONS /api/pause HTTP/1.1\r\nOrigin: https://elsewhere.example\r\n\r\n").await;
    assert!(!preflight.to_lowercase().contains("access-control") && preflight.contains("Allow: POST\r\n"), "{preflight}");
    assert_eq!(state(&sidepool).await["pools"][0]["paused"], false);
    assert!(!sidepool.log().contains("command over HTTP command"), "{}", sidepool.log());
    sidepool.log_has("command over HTTP refused command=\"PAUSE\"");
}

#[tokio::test]
async fn where_there_is_a_token_commands_want_it() {
    let sidepool = served(&[("http-token", "t")]);
    for (headers, expected) in [
        (MEANT, 401),
        ("X-Sidepool: 1\r\nAuthorization: Bearer x\r\n", 401),
        ("Authorization: Bearer t\r\n", 403),
        ("X-Sidepool: 1\r\nAuthorization: Bearer t\r\n", 200),
    ] {
        assert_eq!(command(&sidepool, "PUT /api/reload", headers).await.0, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn lists_in_the_state_are_bounded_and_show_no_literals() {
    let sidepool = served(&[("pool-size", "1"), ("lint", "log")]);
    let mut pinned = sidepool.transaction().parameter("application_name", "pins").wire().await;
    let waits = sidepool.transaction().parameter("application_name", "waits");
    let mut waiting = at_once((0..120).map(|_| waits.clone()).map(|endpoint| async move { endpoint.wire().await })).await;
    pinned.run("CREATE TEMP TABLE kept AS SELECT 'secret' AS word").await;
    for client in &mut waiting {
        client.send(&wire::query("SELECT 'secret'")).await;
    }
    until("all wait", async || state(&sidepool).await["waiters"]["total"] == 120).await;
    let state = state(&sidepool).await;
    let waiters = state["waiters"]["rows"].as_array().expect("a list");
    assert_eq!(waiters.len(), 100);
    let waits: Vec<_> = waiters.iter().map(|waiter| waiter["wait_ms"].as_u64().expect("a number")).collect();
    assert!(waits.is_sorted_by(|a, b| a >= b), "{waits:?}");
    assert!(waiters.iter().all(|waiter| waiter["application_name"] == "waits"));
    let pin = &state["pins"]["rows"][0];
    assert_eq!((&pin["application_name"], &pin["reasons"]), (&"pins".into(), &"temporary tables".into()));
    assert!(pin["statement"].as_str().is_some_and(|text| text.starts_with("CREATE TEMP TABLE kept")), "{pin}");
    assert!(state["lint"]["total"].as_u64() > Some(0), "{}", state["lint"]);
    assert_eq!(state["upstreams"][0]["reach"], "up");
    assert!(!state.to_string().contains("secret"), "{state}");
    drop(waiting);
}

async fn state(sidepool: &Sidepool) -> serde_json::Value {
    serde_json::from_str(&get(sidepool.http_port(), "/api/state").await.1).expect("it is JSON")
}

#[tokio::test]
async fn another_address_without_a_token_is_refused_at_the_start() {
    let file = format!("upstream = \"{}\"", Postgres::shared().direct().url());
    let refusal = Sidepool::launch(&[("http", "0.0.0.0:0")], &file).expect_err("it must not start");
    assert!(refusal.contains("which other machines reach, and listen.http_token is not set"), "{refusal}");
    assert!(refusal.contains("exit status: 2"), "{refusal}");
}

#[tokio::test]
async fn a_taken_port_is_one_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = taken.local_addr().expect("it is bound");
    let file = format!("upstream = \"{}\"", Postgres::shared().direct().url());
    let refusal = Sidepool::launch(&[("http", &address.to_string())], &file).expect_err("it must not start");
    let expected = format!("port {} is already in use on 127.0.0.1", address.port());
    assert!(refusal.contains(&expected) && refusal.contains("--http") && refusal.contains("exit status: 2"), "{refusal}");
}

#[tokio::test]
async fn bad_requests_are_told_so_and_cost_nothing() {
    let sidepool = served(&[]);
    let port = sidepool.http_port();
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    for (request, expected) in [
        ("\r\n\r\n", 400),
        ("GET / HTTP/3\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\r\n\r\n", 400),
        (&long, 431),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        ("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /metrics HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 403),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", 200),
    ] {
        let shown: String = request.chars().take(60).collect();
        assert_eq!(split(&raw(port, request.as_bytes()).await).0, expected, "{shown:?}");
    }
    let head = raw(port, b"HEAD /metrics HTTP/1.1\r\n\r\n").await;
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    // In pieces, and by nobody in particular.
    let mut slow = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    for piece in ["GET /hea", "lthz HTTP/1.1\r", "\n\r", "\n"] {
        slow.write_all(piece.as_bytes()).await.expect("it reads");
        slow.flush().await.expect("it reads");
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.expect("it answers");
    assert_eq!(split(&answer).0, 200);
}

/// Whoever holds connections open keeps others out for ten seconds and no longer.
#[tokio::test]
async fn connections_that_ask_nothing_are_closed() {
    let sidepool = served(&[]);
    let port = sidepool.http_port();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.expect("there is a queue"));
    }
    assert_eq!(get(port, "/healthz").await.0, 200);
}

#[tokio::test]
async fn a_scrape_with_many_clients_is_quick_and_bounded() {
    let sidepool = served(&[("pool-size", "5")]);
    let endpoint = sidepool.transaction();
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.extend(at_once((0..50).map(|_| endpoint.clone()).map(|e| async move { e.wire().await })).await);
    }
    let began = Instant::now();
    let scrape = Scrape::of(&sidepool).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(scrape.pool("sidepool_clients"), 500.0);
    assert!(scrape.0.lines().count() < 300, "{}", scrape.0);
    let began = Instant::now();
    let state = state(&sidepool).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(state["clients"], 500);
}

#[tokio::test]
async fn every_name_is_documented_and_every_documented_name_is_there() {
    let sidepool = served(&[]);
    let mut client = sidepool.transaction().wire().await;
    client.shown("SELECT 1/0").await;
    let scrape = Scrape::of(&sidepool).await;
    let mut served: Vec<_> =
        scrape.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect();
    let documentation = std::fs::read_to_string("docs/metrics.md").expect("it is part of the repository");
    let mut documented: Vec<_> =
        documentation.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned)).collect();
    served.sort_unstable();
    documented.sort_unstable();
    assert_eq!(served, documented);
    // Prometheus refuses a family that stands in two places.
    let count = served.len();
    served.dedup();
    assert_eq!(served.len(), count);
}
