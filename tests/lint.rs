//! The lint: what would break or leak on a hosted transaction-mode pooler is told once, with what to write instead.

mod common;

use common::wire::{self, Wire, show_in_full};
use common::{Ended, Postgres, Sidepool};

/// Each kind with a statement of it, how that is shown, and a word of the fix.
const KINDS: [(&str, &str, &str); 7] = [
    ("SET statement_timeout = 54321", "SET statement_timeout = ?", "SET LOCAL"),
    ("SELECT set_config('app.who', 'a secret', false)", "set_config(?, ?, false)", "SET LOCAL"),
    ("SELECT pg_advisory_lock(4711)", "pg_advisory_lock(?)", "pg_advisory_xact_lock"),
    ("CREATE TEMP TABLE linted (a int)", "CREATE TEMP TABLE linted", "ON COMMIT DROP"),
    ("LISTEN linted", "LISTEN linted", "port 5432"),
    ("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "DECLARE c CURSOR WITH HOLD", "WITH HOLD"),
    ("PREPARE linted AS SELECT 1", "PREPARE linted AS SELECT ?", "by the protocol"),
];

fn linting(way: &str) -> Sidepool {
    Sidepool::start(Postgres::shared(), &[("lint", way)])
}

/// The texts of the notices among the replies.
async fn notices(wire: &mut Wire, sql: &str) -> Vec<String> {
    let replies = wire.query(sql).await;
    assert!(replies.iter().all(|r| r.tag != b'E'), "{sql}: {}", show_in_full(&replies));
    replies.iter().filter(|r| r.tag == b'N').map(|r| String::from_utf8_lossy(&r.body).replace('\0', " ")).collect()
}

#[tokio::test]
async fn each_kind_is_told_to_the_client_once() {
    let sidepool = linting("notice");
    let mut one = sidepool.transaction().wire().await;
    for (statement, shown, fix) in KINDS {
        let told = notices(&mut one, statement).await;
        assert_eq!(told.len(), 1, "{statement}: {told:?}");
        assert!(told[0].contains(shown) && told[0].contains(fix), "{statement}: {told:?}");
        assert!(!told[0].contains("secret") && !told[0].contains("4711") && !told[0].contains("54321"), "{told:?}");
    }
    // Other values are the same statement; another application is another matter.
    assert!(notices(&mut one, "SET statement_timeout = 54322").await.is_empty());
    let mut other = sidepool.transaction().parameter("application_name", "other").wire().await;
    assert_eq!(notices(&mut other, "SET statement_timeout = 54323").await.len(), 1);
}

#[tokio::test]
async fn what_ends_with_its_transaction_is_not_told() {
    let sidepool = linting("notice");
    let mut one = sidepool.transaction().wire().await;
    for fine in [
        "BEGIN; SET LOCAL statement_timeout = 5; SELECT pg_advisory_xact_lock(1), set_config('app.a', 'b', true); COMMIT",
        "BEGIN; CREATE TEMP TABLE fine (a int) ON COMMIT DROP; COMMIT",
        "SELECT 1",
    ] {
        assert_eq!(notices(&mut one, fine).await, [""; 0], "{fine}");
    }
    let mut session = sidepool.session().wire().await;
    assert_eq!(notices(&mut session, "SET work_mem = '5MB'; LISTEN here").await, [""; 0], "session mode keeps all of it");
}

#[tokio::test]
async fn notices_stand_between_messages_of_a_pipeline() {
    let sidepool = linting("notice");
    let mut one = sidepool.transaction().wire().await;
    let batch = |sql: &str| [wire::parse("", sql), wire::bind("", "", &[]), wire::execute("", 0), wire::sync()].concat();
    // The first answer is far larger than what is read at once, and the statement to be told of comes while it is under way.
    one.send(&batch("SELECT repeat('x', 100), n FROM generate_series(1, 20000) n")).await;
    one.until(b'2').await;
    one.send(&[batch("LISTEN in_between"), batch("SELECT 'last'")].concat()).await;
    let mut replies = one.until(b'Z').await;
    replies.extend(one.until(b'Z').await);
    replies.extend(one.until(b'Z').await);
    let count = |tag: u8| replies.iter().filter(|r| r.tag == tag).count();
    assert_eq!((count(b'D'), count(b'N'), count(b'E')), (20_001, 1, 0));
    let last = replies.iter().rev().find(|r| r.tag == b'D').expect("there is a row");
    assert_eq!(last.values(), [Some("last".to_owned())]);
}

#[tokio::test]
async fn named_statements_are_told_of_also_where_no_server_is_asked() {
    let sidepool = linting("notice");
    let prepare = [wire::parse("s1", "SELECT 'named'"), wire::sync()];
    for application in ["first", "second"] {
        let mut one = sidepool.transaction().parameter("application_name", application).wire().await;
        let mut replies = one.exchange(&prepare).await;
        if replies.iter().all(|r| r.tag != b'N') {
            // Both answers were the pooler's own, and the notice follows them.
            replies.push(one.next().await);
        }
        let told: Vec<_> = replies.iter().filter(|r| r.tag == b'N').collect();
        assert_eq!(told.len(), 1, "{application}: {}", show_in_full(&replies));
        assert!(String::from_utf8_lossy(&told[0].body).contains("?pgbouncer=true"));
    }
}

#[tokio::test]
async fn the_log_has_one_line_for_each() {
    let sidepool = linting("log");
    let mut one = sidepool.transaction().parameter("application_name", "shop").wire().await;
    for _ in 0..3 {
        assert_eq!(notices(&mut one, "LISTEN orders").await, [""; 0]);
    }
    one.run("LISTEN last").await;
    sidepool.log_has("LISTEN last");
    let log = sidepool.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("LISTEN orders")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("WARN") && lines[0].contains("shop") && lines[0].contains("port 5432"), "{log}");
}

#[tokio::test]
async fn off_is_silent() {
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    let mut one = sidepool.transaction().wire().await;
    for (statement, ..) in KINDS {
        assert_eq!(notices(&mut one, statement).await, [""; 0]);
    }
    assert!(!sidepool.log().contains("lint"), "{}", sidepool.log());
}

#[tokio::test]
async fn a_transaction_left_idle_is_told() {
    let sidepool = linting("notice");
    let mut one = sidepool.transaction().wire().await;
    one.run("BEGIN").await;
    // What is measured is a time: there is no condition to wait for.
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    let told = notices(&mut one, "COMMIT").await;
    assert!(told.len() == 1 && told[0].contains("left idle"), "{told:?}");
}

#[tokio::test]
async fn more_clients_than_the_hosted_pooler_takes_are_told_once() {
    let flags = [("lint", "notice"), ("client-auth", "trust"), ("pool-size", "20")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    for (endpoint, most) in [(sidepool.session(), 15), (sidepool.transaction(), 200)] {
        let endpoint = endpoint.parameter("application_name", "crowd");
        let mut clients = Vec::new();
        for nth in 1..=most + 2 {
            let mut client = endpoint.wire().await;
            let told = notices(&mut client, "SELECT 1").await;
            let expected = nth == most + 1;
            assert_eq!(told.iter().any(|notice| notice.contains("too many clients at once")), expected, "{nth}: {told:?}");
            clients.push(client);
        }
    }
}

/// What `sidepool lint` runs in the tests below: this program again, with one test that is nothing by itself.
fn lint(statements: &str, code: i32) -> Ended {
    let this = std::env::current_exe().expect("it runs");
    let this = this.to_str().expect("cargo names it");
    let variables = [format!("LINTED={statements}"), format!("LINTED_CODE={code}")];
    let mut arguments = vec!["--listen-addresses=127.0.0.1", "--client-tls=off", "--", "env"];
    arguments.extend(variables.iter().map(String::as_str));
    arguments.extend([this, "--exact", "an_application", "--nocapture"]);
    Sidepool::once("lint", &arguments, "")
}

#[tokio::test]
async fn an_application() {
    let (Ok(statements), Ok(url)) = (std::env::var("LINTED"), std::env::var("DATABASE_URL")) else { return };
    for url in [url, std::env::var("DIRECT_URL").expect("both are set")] {
        let url = url.replace("localhost", "127.0.0.1");
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("it is there");
        tokio::spawn(connection);
        client.batch_execute(&statements).await.expect("they are right");
    }
    std::process::exit(std::env::var("LINTED_CODE").expect("it is set").parse().expect("a number"));
}

#[test]
fn a_command_is_run_and_told_what_would_break() {
    let ended = lint("SET application_name = 'app'; SET work_mem = '5MB'; LISTEN orders; SELECT pg_advisory_lock(42)", 0);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for part in [
        "a setting of the session: 2",
        "LISTEN: 1",
        "    LISTEN orders",
        "pg_advisory_lock(?)",
        "pg_advisory_xact_lock",
        "4 statements",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {ended:?}");
    }
    assert!(!ended.stdout.contains("42"), "{ended:?}");
}

#[test]
fn a_command_without_findings_ends_well_and_one_that_fails_as_it_did() {
    let fine = lint("BEGIN; SET LOCAL work_mem = '5MB'; COMMIT", 0);
    assert_eq!(fine.code, Some(0), "{fine:?}");
    assert!(fine.stdout.contains("lint: nothing found"), "{fine:?}");
    let failed = lint("LISTEN orders", 7);
    assert_eq!(failed.code, Some(7), "{failed:?}");
    assert!(failed.stdout.contains("    LISTEN orders"), "{failed:?}");
    let missing = Sidepool::once("lint", &["--", "/nonexistent/program"], "");
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("cannot run `/nonexistent/program`"), "{missing:?}");
}
