//! Traps that other poolers fell into, tried on the running pooler where the other suites have them in the pure parts only.

mod common;

use common::wire::{self, Wire, show, show_in_full};
use common::{Plan, Postgres, Sidepool, at_once, unnamed, until};

/// FunctionCall of `pi()`, whose result comes as text.
fn function_call() -> Vec<u8> {
    const PI: u32 = 1610;
    wire::frame(b'F', &[&PI.to_be_bytes()[..], &[0; 6]].concat())
}

fn run(statement: &str) -> Vec<u8> {
    [wire::bind("", statement, &[]), wire::execute("", 0)].concat()
}

#[tokio::test]
async fn trap_04_every_kind_of_reply_completes_what_asked_for_it() {
    let sidepool = Sidepool::with_one_server();
    let create = "CREATE TEMP TABLE IF NOT EXISTS t04 (a int)";
    let steps = [
        wire::query("BEGIN"),
        wire::query(create),
        wire::parse("s", "INSERT INTO t04 SELECT generate_series(1, 3) RETURNING a"),
        wire::describe_statement("s"),
        wire::bind("p", "s", &[]),
        wire::describe_portal("p"),
        wire::execute("p", 2),
        wire::execute("p", 0),
        wire::close_portal("p"),
        wire::close_statement("s"),
        wire::sync(),
        wire::query("SELECT a FROM t04; ; UPDATE t04 SET a = 1; TABLE t04"),
        unnamed(""),
        wire::parse("", create),
        wire::describe_statement(""),
        wire::bind("", "", &[]),
        wire::describe_portal(""),
        wire::execute("", 0),
        wire::sync(),
        function_call(),
        wire::query(""),
        wire::query("DO $$ BEGIN RAISE NOTICE 'in between'; END $$"),
        wire::sync(),
        wire::query("ROLLBACK"),
    ];
    const READY: usize = 9;
    let told = async |mut client: Wire| {
        client.send(&steps.concat()).await;
        let mut replies = Vec::new();
        for _ in 0..READY {
            replies.extend(client.until(b'Z').await);
        }
        (client, show_in_full(&replies))
    };
    let (_, expected) = told(Postgres::shared().direct().wire().await).await;
    let (client, pooled) = told(sidepool.transaction().wire().await).await;
    assert_eq!(pooled, expected);
    // Nothing is owed any more: the only server serves the next, though this client is still there.
    assert_eq!(sidepool.transaction().value("SELECT 'next'").await, "next");
    drop(client);
}

#[tokio::test]
async fn trap_06_what_a_failed_batch_did_not_do_is_not_taken_for_done() {
    for limit in ["1", "500"] {
        let flags = [("pool-size", "1"), ("workers", "1"), ("prepared-statements-per-server", limit)];
        let sidepool = Sidepool::start(Postgres::shared(), &flags);
        let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
        assert_eq!(one.shown_batch(&[wire::parse("a", "SELECT 'a'"), run("a"), wire::sync()], 1).await, "1 2 D C(SELECT 1) Z(I)");
        let failing = [
            wire::parse("bad", "SELECT no"),
            wire::parse("good", "SELECT 'good'"),
            wire::close_statement("a"),
            wire::parse("", "SELECT 'unnamed'"),
            wire::sync(),
        ];
        assert_eq!(one.shown_batch(&failing, 1).await, "E(42703) Z(I)");
        // Closed it was not, and prepared neither were.
        assert_eq!(one.shown_batch(&[run("a"), wire::sync()], 1).await, "2 D C(SELECT 1) Z(I)");
        for name in ["bad", "good", ""] {
            let told = one.exchange(&[run(name), wire::sync()]).await;
            assert_eq!(show(&told), "E(26000) Z(I)", "{name:?}: {}", show_in_full(&told));
        }
        for client in [&mut two, &mut one] {
            let batch = [wire::parse("good", "SELECT 'good'"), run("good"), wire::sync()];
            assert_eq!(client.shown_batch(&batch, 1).await, "1 2 D C(SELECT 1) Z(I)");
        }
        assert_eq!(two.shown_batch(&[wire::parse("b", "SELECT no"), wire::sync()], 1).await, "E(42703) Z(I)");
    }
}

#[tokio::test]
async fn trap_07_replies_of_ours_come_in_their_place_and_at_once_where_nothing_is_owed() {
    let sidepool = Sidepool::with_one_server();
    let known = |name: &str| wire::parse(name, "SELECT 'known'");
    let mut client = sidepool.transaction().wire().await;
    client.shown_batch(&[known("first"), run("first"), wire::sync()], 1).await;
    // Without a Sync, and with nothing that the server would answer.
    client.send(&[known("s"), wire::flush()].concat()).await;
    assert_eq!(show(&client.until(b'1').await), "1");
    client.send(&[wire::close_statement("s"), wire::flush()].concat()).await;
    assert_eq!(show(&client.until(b'3').await), "3");
    assert_eq!(client.shown_batch(&[wire::sync()], 1).await, "Z(I)");
    // Behind what takes its time, and not in front of it.
    let slow = [unnamed("SELECT pg_sleep(0.05)"), known("s"), run("s"), wire::close_statement("s"), wire::sync()];
    assert_eq!(client.shown_batch(&slow, 1).await, "1 2 D C(SELECT 1) 1 2 D C(SELECT 1) 3 Z(I)");
    // Behind an error there is none, and the name is free.
    assert_eq!(client.shown_batch(&[run("unknown"), known("s"), wire::sync()], 1).await, "E(26000) Z(I)");
    assert_eq!(client.shown_batch(&[known("s"), run("s"), wire::sync()], 1).await, "1 2 D C(SELECT 1) Z(I)");
}

#[tokio::test]
async fn trap_12_a_server_is_handed_from_client_to_client_with_all_that_they_have_sent() {
    let sidepool = Sidepool::with_one_server();
    let mut holder = sidepool.transaction().wire().await;
    holder.run("BEGIN").await;
    let pid = holder.backend().await;
    let batch: Vec<_> = ["BEGIN", "SELECT pg_backend_pid()", "COMMIT", "SELECT 1", "SELECT 1/0"].map(wire::query).into();
    let endpoints = (0..30).map(|_| sidepool.transaction());
    let mut waiting = at_once(endpoints.map(|endpoint| async move { endpoint.wire().await })).await;
    for client in &mut waiting {
        client.send(&batch.concat()).await;
    }
    sidepool.has_read().await;
    // Every third has gone when its turn comes.
    let mut number = 0;
    waiting.retain(|_| {
        number += 1;
        number % 3 != 0
    });
    holder.send(&[wire::query("COMMIT"), batch.concat()].concat()).await;
    let expected = format!("C(BEGIN) Z(T) T(pg_backend_pid) D({pid}) C(SELECT 1) Z(T) C(COMMIT) Z(I)");
    assert_eq!(show(&holder.until(b'Z').await), "C(COMMIT) Z(I)");
    waiting.push(holder);
    for mut client in waiting {
        let mut replies = Vec::new();
        for _ in 0..3 {
            replies.extend(client.until(b'Z').await);
        }
        assert_eq!(show_in_full(&replies), expected);
        assert_eq!(show(&client.until(b'Z').await), "T D C(SELECT 1) Z(I)");
        assert_eq!(show(&client.until(b'Z').await), "E(22012) Z(I)");
    }
    assert_eq!(sidepool.transaction().value("SELECT pg_backend_pid()").await, pid, "and it is still the one server");
}

#[tokio::test]
async fn trap_15_a_server_that_is_to_go_is_given_to_nobody_again() {
    let sidepool = Sidepool::with_one_server();
    let mut console = sidepool.transaction().database("sidepool").wire().await;
    let mut client = sidepool.transaction().wire().await;
    let mut waiting = sidepool.transaction().wire().await;
    // On its release: in the middle of a transaction nothing happens to it.
    client.run("BEGIN").await;
    let busy = client.backend().await;
    console.run("RECONNECT").await;
    assert_eq!(client.backend().await, busy);
    waiting.send(&wire::query("SELECT pg_backend_pid()")).await;
    until("it waits", async || console.shown("SHOW WAITERS").await == "T D C(SHOW) Z(I)").await;
    client.run("COMMIT").await;
    let next = waiting.awaited_value().await;
    assert_ne!(next, busy, "not even to whoever waits for it");
    // When it is picked up again, by its last client or by another.
    assert_eq!(client.backend().await, next, "without a reason it stays");
    console.run("RECONNECT postgres").await;
    let third = client.backend().await;
    assert_ne!(third, next);
    // In session mode, where it goes with its client.
    let mut session = sidepool.session().wire().await;
    let own = session.backend().await;
    console.run("RECONNECT").await;
    assert_eq!(session.backend().await, own);
    session.send(&wire::terminate()).await;
    session.until_closed().await;
    assert_ne!(sidepool.session().wire().await.backend().await, own);
    for gone in [&busy, &next, &third, &own] {
        Postgres::shared().is_gone(gone).await;
    }
}

#[tokio::test]
async fn trap_30_after_a_reset_nobody_takes_statements_for_there_that_are_gone() {
    let sidepool = Sidepool::with_one_server();
    // Session mode: the names are the client's own, and go with it.
    let mut pids = Vec::new();
    for text in ["SELECT 'one'", "SELECT 'two'"] {
        let mut client = sidepool.session().wire().await;
        pids.push(client.backend().await);
        assert_eq!(client.shown_batch(&[run("s"), wire::sync()], 1).await, "E(26000) Z(I)");
        assert_eq!(client.shown_batch(&[wire::parse("s", text), run("s"), wire::sync()], 1).await, "1 2 D C(SELECT 1) Z(I)");
        client.send(&wire::terminate()).await;
        client.until_closed().await;
    }
    assert_eq!(pids[0], pids[1]);
    // Transaction mode: whatever another leaves behind or throws away, a statement stays its owner's.
    let mut owner = sidepool.transaction().wire().await;
    owner.shown_batch(&[wire::parse("s", "SELECT 'mine'"), run("s"), wire::sync()], 1).await;
    let left = [
        "CREATE TEMP TABLE t30 (a int)",
        "LISTEN t30",
        "SET ROLE app",
        "SELECT pg_advisory_lock(30)",
        "PREPARE p30 AS SELECT 1",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "BEGIN; SELECT 1",
    ];
    for left in left {
        let mut other = sidepool.transaction().wire().await;
        other.run(left).await;
        drop(other);
        let replies = owner.exchange(&[run("s"), wire::sync()]).await;
        assert_eq!(show_in_full(&replies), "2 D(mine) C(SELECT 1) Z(I)", "{left}");
    }
}

#[tokio::test]
async fn trap_33_how_many_statements_a_server_holds_is_set_once_and_is_never_none() {
    let file = format!("upstream = \"{}\"", Postgres::shared().direct().url());
    let refusal = Sidepool::launch(&[("prepared-statements-per-server", "0")], &file).unwrap_err();
    assert!(refusal.contains("exit status: 2") && refusal.contains("prepared-statements-per-server"), "{refusal}");
}

#[tokio::test]
async fn trap_75_what_postgresql_does_not_report_is_not_left_to_the_next_client_either() {
    let settings = vec![("work_mem".to_owned(), "7MB".to_owned())];
    let postgres = Postgres::start(Plan { settings, ..Plan::default() });
    let sidepool = Sidepool::start(&postgres, &[("pool-size", "1"), ("workers", "1")]);
    let settings = [
        ("SET statement_timeout = '77s'", "statement_timeout"),
        ("SET search_path = pg_catalog", "search_path"),
        ("SELECT set_config('search_path', '', false)", "search_path"),
        ("SET ROLE app", "role"),
        ("SET SESSION AUTHORIZATION app", "session_authorization"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "default_transaction_read_only"),
        ("SET work_mem = '8MB'", "work_mem"),
        ("SET my.own = 'x'", "my.own"),
        ("DO $$ BEGIN PERFORM set_config('lock_timeout', '77s', false); END $$", "lock_timeout"),
        ("BEGIN; SET statement_timeout = '77s'; COMMIT", "statement_timeout"),
    ];
    let shown = |name: &str| format!("SELECT coalesce(current_setting('{name}', true), '')");
    for (set, name) in settings {
        let before = sidepool.transaction().value(&shown(name)).await;
        for extended in [false, true] {
            let mut one = sidepool.transaction().wire().await;
            if extended && !set.starts_with("BEGIN") {
                assert!(!one.shown_batch(&[unnamed(set), wire::sync()], 1).await.contains("E("), "{set}");
            } else {
                one.run(set).await;
            }
            assert_ne!(one.value(&shown(name)).await, before, "{set} changes it");
            let pid = one.backend().await;
            let mut two = sidepool.transaction().wire().await;
            assert_eq!(two.value(&shown(name)).await, before, "{set}");
            assert_eq!(two.backend().await, pid, "the same server");
        }
    }
}
