//! What newcomers get wrong, and what they are told.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

mod common;

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Endpoint, Postgres, Sidepool};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

/// A port where nobody listens.
fn dead() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn refusal(endpoint: Endpoint) -> DbError {
    let error: Error = endpoint.try_client().await.expect_err("it is refused");
    error.as_db_error().unwrap_or_else(|| panic!("{error:?}")).clone()
}

/// Exit code 2, with nothing started; what standard error says.
fn mistake(arguments: &[&str], file: &str) -> String {
    let ended = Sidepool::once("run", arguments, file);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(!ended.stdout.contains("sidepool ready"), "{ended:?}");
    assert_eq!(ended.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{ended:?}");
    assert_eq!(ended.stderr.lines().filter(|line| line.starts_with("hint: ")).count(), 1, "{ended:?}");
    ended.stderr
}

#[tokio::test]
async fn a_wrong_password() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[]);
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        for user in ["postgres", "postgres.some-ref", "nobody"] {
            let told = refusal(endpoint.clone().user(user).password("wrong")).await;
            assert_eq!((told.code(), told.severity()), (&SqlState::INVALID_PASSWORD, "FATAL"));
            let shown = user.split('.').next().unwrap();
            assert_eq!(told.message(), format!("password authentication failed for user \"{shown}\""));
        }
    }
}

#[tokio::test]
async fn a_database_that_is_not_there() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[]);
    let told = refusal(sidepool.session().database("nowhere")).await;
    assert_eq!((told.code(), told.message()), (&SqlState::UNDEFINED_DATABASE, "database \"nowhere\" does not exist"));
    // In transaction mode a client may be let in first; then its first query is told.
    let told = match sidepool.transaction().database("nowhere").try_client().await {
        Err(error) => error,
        Ok(client) => client.batch_execute("SELECT 1").await.unwrap_err(),
    };
    assert_eq!(told.code(), Some(&SqlState::UNDEFINED_DATABASE), "{told:?}");
}

#[tokio::test]
async fn a_project_that_is_not_there() {
    let url = Postgres::shared().direct().url();
    let file = format!("[projects.shop]\nupstream = \"{url}\"\n[projects.blog]\nupstream = \"{url}\"\n");
    let sidepool = Sidepool::launch(&[], &file).unwrap();
    let told = refusal(sidepool.transaction().user("postgres.shpo")).await;
    assert!(told.message().contains("shpo"), "{told:?}");
    assert!(told.hint().is_some_and(|hint| hint.contains("shop") && hint.contains("blog")), "{told:?}");
}

#[tokio::test]
async fn an_upstream_that_does_not_run() {
    let dead = dead();
    let file = format!("upstream = \"postgres://postgres:secret@{dead}/postgres\"\n[timeouts]\nserver_down = \"300ms\"\n");
    let sidepool = Sidepool::launch(&[], &file).unwrap();
    sidepool
        .log_has(&format!("WARN project `*`: could not connect to {dead}: connection refused. Check that PostgreSQL runs there"));
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let start = Instant::now();
        let told = match endpoint.try_client().await {
            Err(error) => error,
            Ok(client) => client.batch_execute("SELECT 1").await.unwrap_err(),
        };
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        let told = told.as_db_error().unwrap_or_else(|| panic!("{told:?}"));
        assert_eq!(told.code(), &SqlState::CONNECTION_FAILURE, "{told:?}");
        assert!(told.message().contains("connection refused") && told.hint().is_some(), "{told:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_the_pooler() {
    let url = Postgres::shared().direct().user("p_scram").password("hunter2").url();
    let sidepool = Sidepool::launch(&[], &format!("upstream = \"{url}\"\n")).unwrap();
    sidepool.log_has("password authentication failed for user \"p_scram\" (SQLSTATE 28P01). Correct user and password");
    assert!(!sidepool.log().contains("hunter2"));
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let other = ["--listen-addresses", "127.0.0.1", "--client-tls", "off"];
    for (flag, free) in [("--session-port", "--transaction-port"), ("--transaction-port", "--session-port")] {
        let arguments = [&other[..], &[flag, &port, free, "0"]].concat();
        let told = mistake(&arguments, "upstream = \"postgres://u@127.0.0.1:1/d\"\n");
        assert!(told.contains(&format!("error: port {port} is already in use on 127.0.0.1\n")), "{told}");
        assert!(told.contains(flag), "{told}");
    }
    let address = format!("127.0.0.1:{port}");
    let arguments = [&other[..], &["--session-port", "0", "--transaction-port", "0", "--http", &address]].concat();
    let told = mistake(&arguments, "upstream = \"postgres://u@127.0.0.1:1/d\"\n");
    assert!(told.contains(&format!("error: port {port} is already in use on 127.0.0.1\n")) && told.contains("--http"), "{told}");
}

#[test]
fn a_misspelt_key() {
    let told = mistake(&[], "upstream = \"postgres://u:hunter2@h/d\"\n[limits]\npool_sice = 3\n");
    assert!(told.contains("pool_sice") && told.contains("pool_size") && told.contains("sidepool.toml"), "{told}");
    assert!(!told.contains("hunter2"));
    let flag = Sidepool::once("run", &["--pool-sice", "3"], "");
    assert_eq!(flag.code, Some(2));
    assert!(flag.stderr.contains("--pool-size"), "{flag:?}");
}

#[test]
fn a_url_that_is_none() {
    for url in [
        "localhost:5432/postgres",
        "mysql://u:hunter2@h/d",
        "postgres://u:hunter2@h:port/d",
        "postgres://u:hunter2@h/d?sslmode=requier",
    ] {
        let told = mistake(&["--upstream", url], "");
        assert!(told.contains("--upstream"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

/// Others' connections have taken all that the upstream gives.
#[tokio::test]
async fn an_upstream_that_is_full() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE ROLE scarce LOGIN PASSWORD 'secret' CONNECTION LIMIT 1").await;
    let file = format!("upstream = \"{}\"\n[timeouts]\nserver_down = \"300ms\"\n", postgres.direct().user("scarce").url());
    let _other = postgres.direct().user("scarce").client().await;
    let sidepool = Sidepool::launch(&[], &file).unwrap();
    sidepool.log_has(
        "too many connections for role \"scarce\" (SQLSTATE 53300). Close connections there, or raise its max_connections or the user's limit.",
    );
    let endpoint = sidepool.transaction().user("scarce");
    let told = match endpoint.try_client().await {
        Err(error) => error,
        Ok(client) => client.batch_execute("SELECT 1").await.unwrap_err(),
    };
    let told = told.as_db_error().unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!((told.code(), told.message()), (&SqlState::TOO_MANY_CONNECTIONS, "too many connections for role \"scarce\""));
}

#[test]
fn a_misspelt_variable() {
    let (variable, file) = (("SIDEPOOL_POOL_SICE", "3"), format!("upstream = \"{}\"\n", Postgres::shared().direct().url()));
    let sidepool = Sidepool::launch_in(&[variable], &[], &[], &file).unwrap();
    sidepool.log_has("note: the variable SIDEPOOL_POOL_SICE is unknown and has no effect; did you mean SIDEPOOL_POOL_SIZE?");
}

#[test]
fn a_file_that_cannot_be_read() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("other.toml");
    let with = |file: &Path| mistake(&["--config", file.to_str().unwrap()], "");
    let told = with(&file);
    assert!(told.contains("other.toml cannot be read: No such file") && told.contains("--config"), "{told}");
    std::fs::write(&file, b"# Gr\xfc\xdfe\n").unwrap();
    let told = with(&file);
    assert!(told.contains("other.toml cannot be read: ") && told.contains("hint: Save it as UTF-8.\n"), "{told}");
    std::fs::write(&file, format!("# {}", " ".repeat(4 << 20))).unwrap();
    assert!(with(&file).contains("it is longer than 4194304 bytes"));
    let told = mistake(&["--upstream", "postgres://u@h/d?sslmode=verify-full&sslrootcert=/no/such/roots"], "");
    assert!(told.contains("error: /no/such/roots: it cannot be read: No such file") && told.contains("sslrootcert"), "{told}");
}

/// What may not be read, written or listened on, as a user that is not root.
#[test]
fn what_is_not_permitted() {
    let place = tempfile::tempdir().unwrap();
    let (file, closed) = (place.path().join("sidepool.toml"), place.path().join("closed"));
    std::fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&file, "upstream = \"postgres://u@127.0.0.1:1/d\"\n").unwrap();
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    let closed = closed.to_str().unwrap();
    let told = |arguments: &[&str]| {
        let ports = ["--session-port", "0", "--transaction-port", "0", "--listen-addresses", "127.0.0.1"];
        let sidepool = env!("CARGO_BIN_EXE_sidepool");
        let mut command = Command::new(sidepool);
        if rustix::process::getuid().is_root() {
            // As nobody, who may not enter the place of the program itself.
            let shared = place.path().join("bin");
            if !shared.exists() {
                std::fs::copy(sidepool, &shared).unwrap();
            }
            command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(shared);
        }
        command.arg("--config").arg(&file).args(ports).args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        let ended = command.output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        String::from_utf8(ended.stderr).unwrap()
    };
    let refused = told(&["--unix-socket-dir", closed]);
    assert!(refused.contains("error: cannot listen on the Unix socket ") && refused.contains("Permission denied"), "{refused}");
    assert!(refused.contains("hint: Set listen.unix_socket_dir to a directory that exists and may be written to"), "{refused}");
    let refused = told(&["--state-dir", closed]);
    assert!(
        refused.contains(&format!("error: a development certificate cannot be kept in {closed}: Permission denied")),
        "{refused}"
    );
    assert!(refused.contains("hint: Set state_dir to a directory that this user may write to"), "{refused}");
    let unprivileged = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if unprivileged.trim() == "1024" {
        let refused = told(&["--session-port", "1023"]);
        let expected =
            "error: port 1023 needs privileges that this user has not\nhint: Choose a port above 1023 with --session-port.\n";
        assert!(refused.ends_with(expected), "{refused}");
    }
    std::fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    let refused = told(&[]);
    assert!(
        refused.contains("cannot be read: Permission denied") && refused.contains("hint: Let the user that runs"),
        "{refused}"
    );
}

#[test]
fn no_upstream_at_all() {
    let told = mistake(&[], "");
    assert!(told.contains("error: there is no upstream"), "{told}");
    assert!(told.contains("--upstream") && told.contains("sidepool dev"), "{told}");
}

#[test]
fn an_upstream_that_is_sidepool_itself() {
    let told = mistake(&["--upstream", "postgres://u@localhost:6543/d"], "");
    assert!(told.contains("where Sidepool itself listens"), "{told}");
}
