//! `verify = true`: what the texts of an application do not show is found, and told with them.

mod common;

use common::{Postgres, Sidepool, unnamed, wire};

/// A line of the log that has all of these.
fn tells(sidepool: &Sidepool, parts: &[&str]) -> bool {
    sidepool.log().lines().any(|line| line.contains("that no statement shows") && parts.iter().all(|part| line.contains(part)))
}

#[tokio::test]
async fn what_triggers_and_operators_do_is_told_with_the_statement() {
    let direct = Postgres::shared().new_database("unforeseen").await;
    let hidden = "CREATE TABLE t (a int); INSERT INTO t VALUES (1); \
        CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        SET work_mem = '6MB'; PERFORM pg_advisory_lock(31); RETURN NULL; END $$; \
        CREATE TRIGGER fires AFTER UPDATE ON t EXECUTE FUNCTION fired(); \
        CREATE FUNCTION odd(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN \
        CREATE TEMP TABLE odd (a int); RETURN true; END $$; \
        CREATE OPERATOR %% (LEFTARG = int, RIGHTARG = int, FUNCTION = odd)";
    Postgres::shared().execute(&direct.database, hidden).await;
    let flags = [("pool-size", "1"), ("verify", "true")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    let endpoint = sidepool.transaction().database("unforeseen").parameter("application_name", "shop");
    let mut client = endpoint.wire().await;
    client.run("UPDATE t SET a = 7").await;
    let found = ["application=\"shop\"", "kinds=advisory locks", "settings=\"work_mem\"", "UPDATE t SET a = ?"];
    common::until("the trigger is told", async || tells(&sidepool, &found)).await;
    client.exchange(&[wire::parse("s", "SELECT 1 %% a FROM t"), wire::sync()]).await;
    let replies = client.exchange(&[wire::bind("", "s", &[]), wire::execute("", 0), wire::sync()]).await;
    assert_eq!(wire::show(&replies), "2 D C(SELECT 1) Z(I)");
    let found = ["kinds=temporary tables", "SELECT ? %% a FROM t"];
    common::until("the operator is told", async || tells(&sidepool, &found)).await;
    client.run("SELECT pg_advisory_unlock_all()").await;
    client.exchange(&[unnamed("UPDATE t SET a = a + 1"), wire::sync()]).await;
    let found = ["kinds=advisory locks", "UPDATE t SET a = a + ?"];
    common::until("the trigger is told by the unnamed statement", async || tells(&sidepool, &found)).await;
    // Once known, it is state like any other: kept for its client, gone with it.
    assert_eq!(client.value("SHOW work_mem").await, "6MB");
    let pid = client.backend().await;
    drop(client);
    let mut next = endpoint.wire().await;
    assert_eq!(next.backend().await, pid);
    assert_eq!(next.value("SHOW work_mem").await, "4MB");
    assert_eq!(next.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 31").await, "0");
    assert_eq!(next.value("SELECT to_regclass('odd') IS NULL").await, "t");
}

#[tokio::test]
async fn what_the_texts_show_is_not_told() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "1"), ("verify", "true")]);
    let asked = sidepool.transaction().parameter("options", "-c work_mem=3072 -c app.x=1").parameter("TimeZone", "UTC");
    let mut client = asked.wire().await;
    for sql in [
        "SELECT 1",
        "SET statement_timeout = 5000",
        "BEGIN; SET LOCAL work_mem = '1MB'; COMMIT",
        "BEGIN; SET work_mem = '2MB'; ROLLBACK",
        "SELECT set_config('app.y', 'y', false)",
        "SET TimeZone = 'Asia/Tokyo'",
        "RESET TimeZone",
        "CREATE TEMP TABLE t (a int)",
        "INSERT INTO t VALUES (1)",
        "SELECT pg_advisory_lock(37)",
        "SELECT pg_advisory_unlock(37)",
        "LISTEN l",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DO $$ BEGIN SET lock_timeout = '9s'; END $$",
        "SET ROLE app",
        "RESET ALL",
        "DISCARD ALL",
        "SELECT 2",
    ] {
        client.run(sql).await;
        if !sql.contains(';') && !sql.starts_with("CREATE") && !sql.starts_with("PREPARE") {
            client.exchange(&[unnamed(sql), wire::sync()]).await;
        }
    }
    assert_eq!(client.value("SHOW work_mem").await, "3MB");
    assert!(!tells(&sidepool, &[]), "{}", sidepool.log());
}

/// A server that somebody waits for may be asked about what was named and did not run, and says a default.
#[tokio::test]
async fn a_default_that_was_taken_down_is_no_change() {
    let direct = Postgres::shared().new_database("defaults").await;
    let hidden = "CREATE TABLE t (a int); \
        CREATE FUNCTION hides() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        SET statement_timeout = 32000; RETURN NEW; END $$; \
        CREATE TRIGGER hides BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION hides()";
    Postgres::shared().execute(&direct.database, hidden).await;
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "1"), ("verify", "true")]);
    let endpoint = sidepool.transaction().database("defaults");
    let (mut client, mut other) = (endpoint.wire().await, endpoint.wire().await);
    client.run("SELECT pg_advisory_lock(41)").await;
    let mut waiting = Box::pin(other.backend());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), &mut waiting).await.is_err());
    let named = [wire::parse("a", "SET statement_timeout = 31000"), wire::parse("b", "EXECUTE a"), wire::sync()];
    assert_eq!(wire::show(&client.exchange(&named).await), "1 1 Z(I)");
    assert_eq!(wire::show(&client.exchange(&[wire::describe_statement("b"), wire::sync()]).await), "t n Z(I)");
    client.run("SELECT 1").await;
    client.run("SELECT 2").await;
    assert!(!tells(&sidepool, &[]), "{}", sidepool.log());
    // It is one when it is another.
    client.run("INSERT INTO t VALUES (1)").await;
    let found = ["settings=\"statement_timeout\"", "INSERT INTO t VALUES (?)"];
    common::until("the trigger is told", async || tells(&sidepool, &found)).await;
    drop(client);
    waiting.await;
}

#[tokio::test]
async fn channels_move_to_the_listener_all_the_same() {
    let direct = Postgres::shared().new_database("heard").await;
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "1"), ("verify", "true")]);
    let endpoint = sidepool.transaction().database("heard");
    let (mut one, mut two) = (endpoint.wire().await, endpoint.wire().await);
    one.run("LISTEN jobs").await;
    let count = "SELECT count(*) FROM pg_listening_channels()";
    assert_eq!(two.value(count).await, "0");
    Postgres::shared().execute(&direct.database, "NOTIFY jobs, 'first'").await;
    assert!(wire::show(&one.until(b'A').await).starts_with('A'));
    assert_eq!(one.value("SELECT 1").await, "1");
    assert_eq!(one.value(count).await, "1");
    assert_eq!(two.value(count).await, "0");
    assert!(!tells(&sidepool, &[]), "{}", sidepool.log());
}
