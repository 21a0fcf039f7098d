//! What the log says, and what it never says.

mod common;

use std::time::Duration;

use common::wire::{self, Wire};
use common::{Postgres, Sidepool, until};
use serde_json::Value;

/// Lines with this message, as `log-format=json` has them.
fn lines(sidepool: &Sidepool, message: &str) -> Vec<Value> {
    let log = sidepool.log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).map(|event| event["fields"].clone());
    events.filter(|fields| fields["message"] == message).collect()
}

async fn awaited(sidepool: &Sidepool, message: &str, count: usize) -> Vec<Value> {
    until(message, async || lines(sidepool, message).len() >= count).await;
    lines(sidepool, message)
}

fn slow(flags: &[(&str, &str)]) -> Sidepool {
    let own = [("log-format", "json"), ("log-slow-transactions", "300ms"), ("pool-size", "1")];
    Sidepool::start(Postgres::shared(), &[&own[..], flags].concat())
}

fn ms(fields: &Value, name: &str) -> f64 {
    fields[name].as_f64().unwrap_or_else(|| panic!("{name} in {fields}"))
}

#[tokio::test]
async fn logins_and_ends_have_a_line_each_when_asked_for() {
    let flags = [("log-format", "json"), ("log-connections", "true"), ("pool-size", "1")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let mut client = endpoint.wire().await;
        client.run("SELECT 1").await;
        client.end().await;
    }
    let logins = awaited(&sidepool, "client logged in", 2).await;
    let ends = awaited(&sidepool, "client left", 2).await;
    assert_eq!(logins.len(), 2);
    for (login, end) in logins.iter().zip(&ends) {
        assert_eq!((&login["user"], &login["database"]), (&"postgres".into(), &"postgres".into()));
        assert_eq!(login["peer"], end["peer"], "the two lines can be brought together");
    }
    let opened = awaited(&sidepool, "server connection opened", 2).await;
    assert_eq!(opened.len(), 2, "one in each mode");
    let mut console = sidepool.transaction().database("sidepool").wire().await;
    console.end().await;
    let (login, end) =
        (awaited(&sidepool, "client logged in at the console", 1).await, awaited(&sidepool, "client left the console", 1).await);
    assert_eq!((&login[0]["database"], &login[0]["peer"]), (&"sidepool".into(), &end[0]["peer"]));
    sidepool.signal(rustix::process::Signal::TERM);
    let closed = awaited(&sidepool, "server connection closed", 2).await;
    let numbers =
        |lines: &[Value]| lines.iter().map(|fields| fields["server"].as_u64()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(numbers(&opened), numbers(&closed));

    let quiet = Sidepool::start(Postgres::shared(), &[]);
    quiet.transaction().wire().await.run("SELECT 1").await;
    assert!(!quiet.log().contains("logged in") && !quiet.log().contains("connection opened"), "{}", quiet.log());
}

#[tokio::test]
async fn the_connection_that_listens_for_clients_has_its_lines() {
    let flags = [("log-format", "json"), ("log-connections", "true"), ("pool-size", "1")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    let mut listening = sidepool.transaction().wire().await;
    listening.run("LISTEN heard").await;
    // Somebody else wants the server.
    let mut other = sidepool.transaction().wire().await;
    other.run("SELECT 1").await;
    let opened = awaited(&sidepool, "listening connection opened", 1).await;
    sidepool.signal(rustix::process::Signal::TERM);
    let closed = awaited(&sidepool, "listening connection closed: nobody listens", 1).await;
    assert_eq!((&opened[0]["pid"], &opened[0]["pool"]), (&closed[0]["pid"], &closed[0]["pool"]));
}

#[tokio::test]
async fn a_pin_is_told_once_and_so_is_its_end() {
    let flags =
        [("log-format", "json"), ("log", "info,sidepool::pool=debug"), ("pool-size", "1"), ("timeout-queue-wait", "300ms")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    let mut keeper = sidepool.transaction().wire().await;
    keeper.run("CREATE TEMP TABLE pinned (a text DEFAULT 'hunter2')").await;
    let mut other = sidepool.transaction().wire().await;
    for _ in 0..2 {
        assert!(wire::show(&other.query("SELECT 1").await).starts_with("E(53300)"));
        keeper.run("INSERT INTO pinned VALUES ('hunter2')").await;
    }
    assert!(lines(&sidepool, "pinned server let go").is_empty());
    keeper.run("DROP TABLE pinned").await;
    other.run("SELECT 1").await;
    let ended = awaited(&sidepool, "pinned server let go", 1).await;
    let pinned = lines(&sidepool, "server pinned");
    assert_eq!((pinned.len(), ended.len()), (1, 1), "{pinned:?} {ended:?}");
    assert_eq!(pinned[0]["statement"], "CREATE TEMP TABLE pinned (a text DEFAULT ?)");
    for line in [&pinned[0], &ended[0]] {
        assert_eq!((&line["reasons"], &line["session"]), (&"temporary tables".into(), &pinned[0]["session"]));
    }
    assert!(!sidepool.log().contains("hunter"), "{}", sidepool.log());
}

#[tokio::test]
async fn a_slow_transaction_is_told_with_the_statement_that_took_longest() {
    let sidepool = slow(&[]);
    for (mode, endpoint) in [("transaction", sidepool.transaction()), ("session", sidepool.session())] {
        let mut client = endpoint.parameter("application_name", "shop").wire().await;
        client.run("SELECT 'quick'").await;
        client.run("BEGIN").await;
        client.run("SELECT pg_sleep(0.4), 'hunter2' -- hunter2").await;
        client.run("SELECT 'quick'").await;
        let told = || lines(&sidepool, "slow transaction").into_iter().filter(|line| line["mode"] == mode).count();
        assert_eq!(told(), 0, "it has not ended");
        client.run("COMMIT").await;
        client.run("SELECT 'quick'").await;
        client.end().await;
        until("it is told", async || told() == 1).await;
    }
    let told = lines(&sidepool, "slow transaction");
    assert_eq!(told.len(), 2, "{told:?}");
    for line in &told {
        assert_eq!(line["statement"], "SELECT pg_sleep(?), ?");
        for (name, value) in [("project", "*"), ("database", "postgres"), ("user", "postgres"), ("application", "shop")] {
            assert_eq!(line[name], value, "{line}");
        }
        let (total, run, wait, idle) = (ms(line, "total_ms"), ms(line, "run_ms"), ms(line, "wait_ms"), ms(line, "idle_ms"));
        assert!(run >= 400.0 && (total - run - wait - idle).abs() < 0.1, "{line}");
    }
    assert!(!sidepool.log().contains("hunter2"));
}

#[tokio::test]
async fn waiting_and_the_clients_own_silence_are_told_apart() {
    let sidepool = slow(&[]);
    let (mut holder, mut waiting) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    holder.run("BEGIN").await;
    waiting.send(&wire::query("SELECT 'waited'")).await;
    // Both are the client's time, and time is what is measured.
    tokio::time::sleep(Duration::from_millis(500)).await;
    holder.run("COMMIT").await;
    assert_eq!(waiting.awaited_value().await, "waited");
    let told = awaited(&sidepool, "slow transaction", 2).await;
    let of = |statement: &str| told.iter().find(|line| line["statement"] == statement).unwrap_or_else(|| panic!("{told:?}"));
    let waited = of("SELECT ?");
    assert!(ms(waited, "wait_ms") >= 300.0 && ms(waited, "idle_ms") < 100.0, "{waited}");
    let held = told.iter().find(|line| ms(line, "idle_ms") >= 400.0).unwrap_or_else(|| panic!("{told:?}"));
    assert!(ms(held, "wait_ms") < 400.0, "{held}");
}

#[tokio::test]
async fn the_text_of_a_prepared_statement_is_told_wherever_it_was_prepared() {
    let sidepool = slow(&[]);
    for (number, endpoint) in [sidepool.transaction(), sidepool.session()].into_iter().enumerate() {
        let client = endpoint.client().await;
        let sleeps = client.prepare("SELECT pg_sleep($1), 'a'").await.expect("it is SQL");
        let quick = client.prepare("SELECT 1").await.expect("it is SQL");
        client.query(&quick, &[]).await.expect("it runs");
        client.query(&sleeps, &[&0.4f64]).await.expect("it runs");
        let told = awaited(&sidepool, "slow transaction", number + 1).await;
        assert_eq!(told[number]["statement"], "SELECT pg_sleep($1), ?");
    }
}

#[tokio::test]
async fn of_a_statement_about_a_password_nothing_is_told() {
    let sidepool = slow(&[("log", "trace")]);
    let mut client = sidepool.transaction().wire().await;
    client.run("SELECT pg_sleep(0.4); ALTER ROLE postgres PASSWORD 'secret'").await;
    let told = awaited(&sidepool, "slow transaction", 1).await;
    assert_eq!(told[0]["statement"], "(not shown: it is about a password)");
    assert!(!sidepool.log().contains("'secret'"), "{}", sidepool.log());
}

#[tokio::test]
async fn one_that_breaks_off_is_told_too() {
    let sidepool = slow(&[]);
    let mut client: Wire = sidepool.transaction().wire().await;
    client.run("BEGIN; SELECT pg_sleep(0.4)").await;
    drop(client);
    let told = awaited(&sidepool, "slow transaction, broken off", 1).await;
    assert_eq!(told[0]["statement"], "BEGIN; SELECT pg_sleep(?)");
    assert_eq!(lines(&sidepool, "slow transaction").len(), 0);
}

#[tokio::test]
async fn one_that_waits_in_vain_is_told_and_is_no_part_of_the_next() {
    let sidepool = slow(&[("timeout-queue-wait", "400ms")]);
    let (mut holder, mut waiting) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    waiting.run("SELECT 'before'").await;
    holder.run("BEGIN").await;
    assert!(waiting.shown("SELECT 'in vain'").await.contains("E(53300)"));
    let told = awaited(&sidepool, "slow transaction, broken off", 1).await;
    assert!(ms(&told[0], "wait_ms") >= 400.0 && told[0]["statement"] == "", "{told:?}");
    holder.run("COMMIT").await;
    waiting.run("SELECT 'quick'").await;
    waiting.run("SELECT pg_sleep(0.4)").await;
    let told = awaited(&sidepool, "slow transaction", 2).await;
    let statements: Vec<_> = told.iter().map(|line| line["statement"].as_str()).collect();
    assert!(statements.contains(&Some("SELECT pg_sleep(?)")) && !statements.contains(&Some("SELECT ?")), "{told:?}");
}

#[tokio::test]
async fn off_as_it_is_by_default_nothing_is_slow() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("log-format", "json")]);
    sidepool.transaction().wire().await.run("SELECT pg_sleep(0.4)").await;
    assert!(!sidepool.log().contains("slow transaction"), "{}", sidepool.log());
}
