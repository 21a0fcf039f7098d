//! `sidepool check`, as a process, against a real PostgreSQL.

mod common;

use std::net::TcpListener;

use common::{Ended, Postgres, Sidepool};

fn check(upstream: &str, arguments: &[&str]) -> Ended {
    Sidepool::once("check", arguments, &format!("upstream = \"{upstream}\"\n"))
}

#[test]
fn what_is_there_is_told() {
    let postgres = Postgres::shared();
    let found = check(&postgres.direct().url(), &[]);
    assert_eq!((found.code, found.stderr.as_str()), (Some(0), ""), "{found:?}");
    for expected in [
        format!("project *: 127.0.0.1:{}, database postgres, user postgres", postgres.port),
        format!("PostgreSQL {}", postgres.version),
        "login        without a proof".into(),
        "TLS          none".into(),
        "left (max_connections 300, 3 reserved,".into(),
        "verifiers    readable".into(),
        "up to 20 each, 80 together".into(),
    ] {
        assert!(found.stdout.contains(&expected), "{expected}: {}", found.stdout);
    }
}

#[test]
fn how_each_user_logs_in_and_what_it_may_read() {
    let postgres = Postgres::shared();
    for (user, method) in [("p_scram", "by SCRAM-SHA-256"), ("p_md5", "by md5"), ("p_clear", "by password in clear")] {
        let found = check(&postgres.direct().user(user).url(), &[]);
        assert_eq!(found.code, Some(0), "{found:?}");
        assert!(found.stdout.contains(&format!("login        {method}\n")), "{}", found.stdout);
        assert!(found.stdout.contains("verifiers    not readable"), "{}", found.stdout);
    }
}

#[tokio::test]
async fn limits_that_postgres_cannot_meet_are_warned_of() {
    let postgres = Postgres::shared();
    let found = check(&postgres.direct().url(), &["--max-server-connections", "298"]);
    assert_eq!(found.code, Some(0));
    assert!(found.stderr.contains("note: project `*`: max_server_connections is 298, but its PostgreSQL gives this user 297"));

    postgres.execute("postgres", "CREATE ROLE narrow LOGIN PASSWORD 'secret' CONNECTION LIMIT 5").await;
    let found = check(&postgres.direct().user("narrow").url(), &[]);
    assert!(found.stderr.contains("gives this user 5 at most"), "{found:?}");
}

/// Of a pooler nothing is said but where it gives a client's server to others between transactions.
#[tokio::test]
async fn an_upstream_that_is_a_pooler_in_transaction_mode_is_warned_of() {
    // With `verify` a server may still be asked when the next connection wants one, and that gets another.
    let pooler = Sidepool::start(Postgres::shared(), &[("pool-size", "3"), ("verify", "false")]);
    let expected = format!("127.0.0.1:{} gives one server process to several connections", pooler.transaction().port);
    let found = check(&pooler.transaction().url(), &[]);
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(found.stderr.contains(&format!("note: project `*`: {expected}")), "{found:?}");
    assert!(found.stderr.contains(". Give the database's own address, or that pooler's session port."), "{found:?}");
    for whole in [pooler.session(), Postgres::shared().direct()] {
        let found = check(&whole.url(), &[]);
        assert_eq!((found.code, found.stderr.as_str()), (Some(0), ""), "{found:?}");
    }
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    let behind = Sidepool::launch(&[], &format!("upstream = \"{}\"\n", pooler.transaction().url())).unwrap();
    behind.log_has(&format!("WARN project `*`: {expected}"));
    assert!(!sidepool.log().contains("WARN"), "{}", sidepool.log());
}

#[test]
fn what_cannot_be_logged_in_to_is_exit_code_1() {
    let postgres = Postgres::shared();
    let refused = check(&postgres.direct().user("p_scram").password("hunter2").url(), &[]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("password authentication failed for user \"p_scram\" (SQLSTATE 28P01)"), "{refused:?}");
    assert!(refused.stderr.contains("hint: Correct user and password in the upstream's URL."), "{refused:?}");
    assert!(!refused.stderr.contains("hunter2"));

    let missing = check(&postgres.direct().database("nowhere").url(), &[]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("database \"nowhere\" does not exist (SQLSTATE 3D000)"), "{missing:?}");

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = check(&format!("postgres://u@{free}/d"), &[]);
    assert_eq!(dead.code, Some(1));
    assert!(dead.stderr.contains(&format!("error: project `*`: could not connect to {free}: connection refused\nhint: ")));
}

#[test]
fn every_project_is_tried_though_one_fails() {
    let postgres = Postgres::shared();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let good = postgres.direct().url();
    let file = format!("[projects.dead]\nupstream = \"postgres://u@{free}/d\"\n[projects.good]\nupstream = \"{good}\"\n");
    let found = Sidepool::once("check", &[], &file);
    assert_eq!(found.code, Some(1));
    assert!(found.stdout.contains("project good: ") && found.stderr.contains("project `dead`: "), "{found:?}");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u@{}/d?sslmode=disable", silent.local_addr().unwrap());
    let found = check(&url, &["--timeout-server-connect", "100ms"]);
    assert_eq!(found.code, Some(1));
    assert!(found.stderr.contains("it did not answer in time"), "{found:?}");
}

#[test]
fn mistakes_in_the_settings_are_exit_code_2() {
    let roots = check("postgres://u@h/d?sslmode=verify-full&sslrootcert=/no/such/file", &[]);
    assert_eq!(roots.code, Some(2), "{roots:?}");
    assert!(roots.stderr.contains("/no/such/file") && roots.stderr.contains("hint: "), "{roots:?}");
    assert_eq!(check("nonsense", &[]).code, Some(2));
}
