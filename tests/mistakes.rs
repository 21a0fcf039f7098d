//! What newcomers get wrong, and what they are told.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

mod common;

use std::net::TcpListener;
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
        .log_has(&format!("WARN project `*`: could not connect to {dead}: connection refused; Check that PostgreSQL runs there"));
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
    sidepool.log_has("password authentication failed for user \"p_scram\" (SQLSTATE 28P01); Correct user and password");
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
    for url in ["localhost:5432/postgres", "mysql://u:hunter2@h/d", "postgres://u:hunter2@h:port/d"] {
        let told = mistake(&["--upstream", url], "");
        assert!(told.contains("--upstream"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
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
