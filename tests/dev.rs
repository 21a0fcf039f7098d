//! `sidepool dev`, as a newcomer runs it: as a process, with a database of its own.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::wire::show;
use common::{Endpoint, Sidepool, until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio_postgres::error::SqlState;

/// Whoever runs PostgreSQL when we are root must be able to enter it.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place
}

fn dev(data_dir: &Path, arguments: &[&str]) -> Sidepool {
    Sidepool::dev(data_dir, arguments).unwrap_or_else(|refusal| panic!("it did not start: {refusal}"))
}

/// The first line of `postmaster.pid`.
fn postgres_in(data_dir: &Path) -> Pid {
    let text = fs::read_to_string(data_dir.join("data/postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().trim().parse().unwrap()).unwrap()
}

fn runs(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
}

/// The value of a line that begins so, as printed for pasting.
fn pasted(sidepool: &Sidepool, start: &str) -> tokio_postgres::Config {
    let log = sidepool.log();
    let line = log.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("no {start} in {log}"));
    // What listens is 127.0.0.1 alone here.
    line.trim_end_matches(['"', '\'', ')']).replace("localhost", "127.0.0.1").parse().unwrap()
}

async fn log_in(config: &tokio_postgres::Config) -> tokio_postgres::Client {
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn superuser(endpoint: Endpoint, reference: &str) -> Endpoint {
    endpoint.user(&format!("postgres.{reference}")).password("postgres")
}

#[tokio::test]
async fn data_are_kept_until_fresh_and_nothing_is_left_running() {
    let place = place();
    let data_dir = place.path().join("db");

    let sidepool = dev(&data_dir, &[]);
    let postgres = postgres_in(&data_dir);
    assert!(runs(postgres));
    let direct = log_in(&pasted(&sidepool, "DIRECT_URL=\"")).await;
    direct.batch_execute("CREATE TABLE kept (a int)").await.unwrap();
    let pooled = log_in(&pasted(&sidepool, "DATABASE_URL=\"")).await;
    pooled.batch_execute("INSERT INTO kept VALUES (7)").await.unwrap();
    log_in(&pasted(&sidepool, "const sql = postgres('")).await;
    assert!(sidepool.log().trim_end().ends_with("sidepool ready"), "{}", sidepool.log());
    assert!(sidepool.interrupt().success());
    assert!(!runs(postgres), "PostgreSQL {postgres:?} is still there");

    let sidepool = dev(&data_dir, &[]);
    let postgres = postgres_in(&data_dir);
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let client = superuser(endpoint, "abcdefghijklmnop").client().await;
        let row = client.query_one("SELECT a FROM kept", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 7);
    }
    assert!(sidepool.stop().success());
    assert!(!runs(postgres));

    let sidepool = dev(&data_dir, &["--fresh"]);
    let client = superuser(sidepool.transaction(), "any").client().await;
    let gone = client.batch_execute("SELECT a FROM kept").await.unwrap_err();
    assert_eq!(gone.code(), Some(&SqlState::UNDEFINED_TABLE));
}

/// With nothing but its ports: whoever runs `dev` has no settings.
#[test]
fn it_can_be_looked_at_without_settings() {
    let place = place();
    let sidepool = dev(&place.path().join("db"), &[]);
    let port = sidepool.transaction().port.to_string();
    let ports = ["--session-port", "0", "--transaction-port", &port];
    let top = Sidepool::once("top", &[&["--once"], &ports[..]].concat(), "");
    assert_eq!(top.code, Some(0), "{top:?}");
    assert!(top.stdout.starts_with("clients 0/") && top.stdout.contains("active\n"), "{top:?}");
    // With what the application beside it has: an upstream that is Sidepool itself.
    let url = format!("postgres://postgres.any:postgres@localhost:{port}/postgres");
    let top = Sidepool::once("top", &[&["--once", "--upstream", &url], &ports[..]].concat(), "");
    assert_eq!(top.code, Some(0), "{top:?}");
    let health = Sidepool::once("health", &["--session-port", "off", "--transaction-port", &port], "");
    assert_eq!((health.code, health.stdout.as_str()), (Some(0), "accepting clients\n"), "{health:?}");
}

/// Step 1 of Supabase's guide for Prisma, as it stands there.
const GUIDE: &str = "
    create user \"prisma\" with password 'custom_password' bypassrls createdb;
    grant \"prisma\" to \"postgres\";
    grant usage on schema public to prisma;
    grant create on schema public to prisma;
    grant all on all tables in schema public to prisma;
    grant all on all routines in schema public to prisma;
    grant all on all sequences in schema public to prisma;
    alter default privileges for role postgres in schema public grant all on tables to prisma;
    alter default privileges for role postgres in schema public grant all on routines to prisma;
    alter default privileges for role postgres in schema public grant all on sequences to prisma;";

fn prisma(endpoint: Endpoint, reference: &str) -> Endpoint {
    endpoint.user(&format!("prisma.{reference}")).password("custom_password")
}

#[tokio::test]
async fn the_guide_makes_its_role_and_that_logs_in() {
    let place = place();
    let sidepool = dev(&place.path().join("db"), &[]);
    let root = superuser(sidepool.transaction(), "some-ref").client().await;
    root.batch_execute(GUIDE).await.unwrap();
    root.batch_execute("CREATE TABLE of_postgres (a int)").await.unwrap();
    // What the superuser makes is Prisma's to use, and Prisma makes its own, shadow databases among it.
    let client = prisma(sidepool.transaction(), "some-ref").client().await;
    client.batch_execute("INSERT INTO of_postgres VALUES (1); CREATE TABLE own (a int)").await.unwrap();
    client.batch_execute("CREATE DATABASE prisma_migrate_shadow_db").await.unwrap();
    let shadow = prisma(sidepool.session(), "some-ref").database("prisma_migrate_shadow_db").client().await;
    shadow.batch_execute("CREATE TABLE t (a int)").await.unwrap();

    for (user, password) in [("prisma.x", "wrong"), ("postgres.x", "prisma"), ("nobody.x", "prisma")] {
        let refused = sidepool.session().user(user).password(password).try_client().await.err().unwrap();
        assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD), "{user}");
    }
    root.batch_execute("ALTER ROLE prisma PASSWORD 'changed'").await.unwrap();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        assert_eq!(prisma(endpoint.clone(), "x").password("changed").value("SELECT current_user").await, "prisma");
        let refused = prisma(endpoint, "x").try_client().await.err().unwrap();
        assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD));
    }
}

#[tokio::test]
async fn without_auth_query_the_superuser_logs_in() {
    let place = place();
    let sidepool = dev(&place.path().join("db"), &["--auth-query", "false"]);
    superuser(sidepool.session(), "x").client().await;
    assert!(sidepool.session().user("prisma.x").password("prisma").try_client().await.is_err());
}

#[tokio::test]
async fn tls_is_offered() {
    let place = place();
    let sidepool = dev(&place.path().join("db"), &[]);
    for port in [sidepool.session().port, sidepool.transaction().port] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).unwrap();
        let mut answer = [0];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"S");
    }
}

#[tokio::test]
async fn a_taken_port_is_one_sentence_before_anything_is_begun() {
    let place = place();
    let data_dir = place.path().join("db");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port();
    let ours = "Stop what listens there, a PostgreSQL perhaps, or choose another port with --session-port.";
    let http = "Stop what listens there, or choose another port with --http.";
    for (flag, value, hint) in [("--session-port", port.to_string(), ours), ("--http", address.to_string(), http)] {
        let refusal = Sidepool::dev(&data_dir, &[flag, &value]).unwrap_err();
        assert!(refusal.starts_with("exit status: 2\n"), "{refusal}");
        assert!(refusal.contains(&format!("error: port {port} is already in use on 127.0.0.1\nhint: {hint}")), "{refusal}");
        assert!(!data_dir.exists(), "PostgreSQL was begun");
    }
}

#[tokio::test]
async fn when_postgres_dies_so_does_sidepool_and_says_so() {
    let place = place();
    let data_dir = place.path().join("db");
    let mut sidepool = dev(&data_dir, &[]);
    let client = superuser(sidepool.transaction(), "x").client().await;
    client.batch_execute("SELECT 1").await.unwrap();
    kill_process(postgres_in(&data_dir), Signal::QUIT).unwrap();
    let status = sidepool.ended().expect("it ends");
    assert_eq!(status.code(), Some(1));
    sidepool.log_has("error: the embedded PostgreSQL ended by itself");
    sidepool.log_has("postgres.log");
    until("its client was sent away", async || client.is_closed()).await;
}

/// Ctrl-C: PostgreSQL goes when nobody is left who might ask it anything. It is held still meanwhile, so that it shows.
#[tokio::test]
async fn the_pooler_ends_before_postgres() {
    let place = place();
    let data_dir = place.path().join("db");
    let mut sidepool = dev(&data_dir, &[]);
    let postgres = postgres_in(&data_dir);
    let endpoint = superuser(sidepool.transaction(), "x");
    let ports = [sidepool.session().port, endpoint.port];
    let mut client = endpoint.wire().await;
    client.query("SELECT 1").await;
    kill_process(postgres, Signal::STOP).unwrap();
    sidepool.signal(Signal::INT);
    let told = client.until_closed().await;
    assert_eq!(show(&told), "E(57P01)");
    for port in ports {
        until("nobody listens", async || TcpStream::connect(("127.0.0.1", port)).is_err()).await;
    }
    assert!(data_dir.join("data/postmaster.pid").exists() && runs(postgres), "PostgreSQL was still to end");
    kill_process(postgres, Signal::CONT).unwrap();
    assert!(sidepool.ended().is_some_and(|status| status.success()));
    assert!(!runs(postgres) && !data_dir.join("data/postmaster.pid").exists());
}

#[tokio::test]
async fn a_second_one_in_the_same_place_is_refused() {
    let place = place();
    let data_dir = place.path().join("db");
    let first = dev(&data_dir, &[]);
    let port = first.session().port.to_string();
    // Where it has the ports too, that is why.
    for arguments in [&[][..], &["--session-port", &port]] {
        let refusal = Sidepool::dev(&data_dir, arguments).unwrap_err();
        assert!(refusal.starts_with("exit status: 2\n"), "{refusal}");
        assert!(refusal.contains(&format!("error: another Sidepool (pid {}) runs the database in", first.pid())), "{refusal}");
        assert!(refusal.contains("\nhint: Use that one, stop it, or choose another data directory."), "{refusal}");
    }
    superuser(first.transaction(), "x").client().await;
}
