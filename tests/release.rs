//! When a server may go back to its pool, and what becomes of it when its client goes first. Tests are named by the trap they
//! keep shut.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use common::wire::{self, show};
use common::{Plan, Postgres, Sidepool, resident_kib, unnamed, until};

const CLOCK: &str = "SELECT to_char(clock_timestamp(), 'YYYYMMDDHH24MISSUS')";

#[tokio::test]
async fn trap_1_a_server_in_a_transaction_serves_nobody_else() {
    let sidepool = Sidepool::with_one_server();
    let (mut holder, mut other) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    holder.run("BEGIN").await;
    other.send(&wire::query(CLOCK)).await;
    sidepool.has_read().await;
    for _ in 0..3 {
        holder.run("SELECT 1").await;
    }
    let last = holder.value(CLOCK).await;
    holder.run("COMMIT").await;
    assert!(other.awaited_value().await > last, "it ran inside another's transaction");
}

#[tokio::test]
async fn trap_1_a_failed_transaction_keeps_its_server_too() {
    let sidepool = Sidepool::with_one_server();
    let (mut holder, mut other) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    assert_eq!(holder.shown("BEGIN; SELECT 1/0").await, "C(BEGIN) E(22012) Z(E)");
    other.send(&wire::query("SELECT 'served'")).await;
    sidepool.has_read().await;
    assert_eq!(holder.shown("SELECT 1").await, "E(25P02) Z(E)");
    assert_eq!(holder.shown("ROLLBACK").await, "C(ROLLBACK) Z(I)");
    assert_eq!(other.awaited_value().await, "served");
}

#[tokio::test]
async fn trap_2_a_batch_whose_sync_is_still_to_come_keeps_the_server() {
    let sidepool = Sidepool::with_one_server();
    let (mut holder, mut other) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    let whole = [unnamed("SELECT 1"), wire::sync()].concat();
    holder.send(&[whole, unnamed("CREATE TEMP TABLE batch ON COMMIT DROP AS SELECT 1 AS a")].concat()).await;
    assert_eq!(show(&holder.until(b'Z').await), "1 2 D C(SELECT 1) Z(I)");
    other.send(&wire::query("SELECT to_regclass('pg_temp.batch') IS NULL")).await;
    sidepool.has_read().await;
    // The same implicit transaction: the table is there.
    let rest = holder.exchange(&[unnamed("SELECT a FROM batch"), wire::sync()]).await;
    assert_eq!(show(&rest), "1 2 C(SELECT 1) 1 2 D C(SELECT 1) Z(I)");
    assert_eq!(other.awaited_value().await, "t");
}

#[tokio::test]
async fn trap_2_flush_without_sync_keeps_the_server() {
    let sidepool = Sidepool::with_one_server();
    let (mut holder, mut other) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    holder.send(&[unnamed("CREATE TEMP TABLE flushed ON COMMIT DROP AS SELECT 1 AS a"), wire::flush()].concat()).await;
    assert_eq!(show(&holder.until(b'C').await), "1 2 C(SELECT 1)");
    other.send(&wire::query("SELECT 'served'")).await;
    sidepool.has_read().await;
    let rest = holder.exchange(&[unnamed("SELECT a FROM flushed"), wire::sync()]).await;
    assert_eq!(show(&rest), "1 2 D C(SELECT 1) Z(I)");
    assert_eq!(other.awaited_value().await, "served");
}

#[tokio::test]
async fn trap_2_a_segment_may_begin_with_a_sync() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let mut client = endpoint.wire().await;
        let batch = [wire::sync(), unnamed("SELECT 1"), wire::sync(), wire::sync(), unnamed("SELECT 2"), wire::sync()];
        let ones = "1 2 D C(SELECT 1) Z(I)";
        assert_eq!(client.shown_batch(&batch, 4).await, format!("Z(I) {ones} Z(I) {ones}"));
        // The Sync of one batch arrives with the next one.
        client.send(&unnamed("SELECT 3")).await;
        let late = [wire::sync(), unnamed("SELECT 4"), wire::sync()];
        assert_eq!(client.shown_batch(&late, 2).await, format!("{ones} {ones}"));
    }
}

#[tokio::test]
async fn trap_3_fifty_queries_in_one_write_have_fifty_answers() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let mut client = endpoint.wire().await;
        let queries: Vec<_> = (0..50).map(|i| wire::query(&format!("SELECT {i}"))).collect();
        client.send(&queries.concat()).await;
        for i in 0..50 {
            assert_eq!(client.awaited_value().await, i.to_string());
        }
        assert_eq!(client.value("SELECT 'and on'").await, "and on");
    }
}

#[tokio::test]
async fn trap_3_three_syncs_with_sleeps_between_are_all_answered() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    let one = [unnamed("SELECT pg_sleep(0.05)"), wire::sync()].concat();
    assert_eq!(client.shown_batch(&[one.repeat(3)], 3).await, ["1 2 D C(SELECT 1) Z(I)"; 3].join(" "));
}

#[tokio::test]
async fn trap_3_pipelines_of_many_clients_share_few_servers() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3")]);
    let clients = (0..30).map(|n| {
        let endpoint = sidepool.transaction();
        tokio::spawn(async move {
            let mut client = endpoint.wire().await;
            for round in 0..10 {
                let batch: Vec<_> =
                    (0..10).flat_map(|i| [unnamed(&format!("SELECT {n}, {round}, {i} /* {} */", i % 3)), wire::sync()]).collect();
                client.send(&batch.concat()).await;
                for i in 0..10 {
                    let replies = client.until(b'Z').await;
                    assert_eq!(wire::show_in_full(&replies), format!("1 2 D({n},{round},{i}) C(SELECT 1) Z(I)"));
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn trap_5_the_rest_of_a_failed_batch_may_come_late() {
    let sidepool = Sidepool::with_one_server();
    let (mut holder, mut other) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    holder.send(&[wire::parse("s", "SELECT no_such_column"), wire::flush()].concat()).await;
    assert_eq!(show(&holder.until(b'E').await), "E(42703)");
    other.send(&wire::query("SELECT 'served'")).await;
    sidepool.has_read().await;
    let rest =
        [wire::bind("", "s", &[]), wire::execute("", 0), unnamed("SELECT 1"), wire::sync(), unnamed("SELECT 2"), wire::sync()];
    assert_eq!(holder.shown_batch(&rest, 2).await, "Z(I) 1 2 D C(SELECT 1) Z(I)");
    assert_eq!(other.awaited_value().await, "served");
}

#[tokio::test]
async fn trap_8_notifications_of_ones_own_come_between_results() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    let shown = client.shown("BEGIN; LISTEN trap_8; NOTIFY trap_8, 'x'; COMMIT").await;
    assert_eq!(shown, "C(BEGIN) C(LISTEN) C(NOTIFY) C(COMMIT) A(trap_8,x) Z(I)");
    assert_eq!(client.shown("DO $$ BEGIN RAISE NOTICE 'seen'; END $$").await, "N(00000) C(DO) Z(I)");
}

#[tokio::test]
async fn trap_8_notifications_reach_an_idle_client_in_session_mode() {
    let sidepool = Sidepool::with_one_server();
    let mut listener = sidepool.session().wire().await;
    listener.run("LISTEN trap_8_idle").await;
    Postgres::shared().execute("postgres", "NOTIFY trap_8_idle, 'unasked'").await;
    assert_eq!(show(&listener.until(b'A').await), "A(trap_8_idle,unasked)");
    assert_eq!(listener.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn trap_9_an_idle_server_that_was_terminated_is_nobodys_error() {
    // With `verify` the server may be asked what it has when it is ended, and then it is the client's yet.
    let flags = [("pool-size", "1"), ("workers", "1"), ("verify", "false")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    let mut client = sidepool.transaction().wire().await;
    for _ in 0..3 {
        let before = client.backend().await;
        Postgres::shared().terminate(&before).await;
        let after = client.backend().await;
        assert_ne!(before, after);
    }
}

#[tokio::test]
async fn trap_10_a_client_that_leaves_in_a_transaction_leaves_nothing_behind() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE trap_10 (a int)").await;
    let sidepool = Sidepool::with_one_server();
    for ending in ["BEGIN; INSERT INTO trap_10 VALUES (1)", "BEGIN; INSERT INTO trap_10 VALUES (1); SELECT 1/0"] {
        for says_goodbye in [true, false] {
            let mut leaver = sidepool.transaction().wire().await;
            let before = leaver.backend().await;
            leaver.query(ending).await;
            if says_goodbye {
                leaver.send(&wire::terminate()).await;
            }
            drop(leaver);
            let mut next = sidepool.transaction().wire().await;
            assert_eq!(next.shown("SELECT a FROM trap_10").await, "T C(SELECT 0) Z(I)");
            assert_eq!(next.backend().await, before, "rolled back, not closed");
        }
    }
}

#[tokio::test]
async fn trap_10_a_client_that_leaves_in_a_batch_leaves_nothing_behind() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE trap_10_batch (a int)").await;
    let sidepool = Sidepool::with_one_server();
    let mut leaver = sidepool.transaction().wire().await;
    let before = leaver.backend().await;
    leaver.send(&[unnamed("INSERT INTO trap_10_batch VALUES (1)"), wire::flush()].concat()).await;
    leaver.until(b'C').await;
    drop(leaver);
    let mut next = sidepool.transaction().wire().await;
    let left = next.value("SELECT count(*) FROM trap_10_batch").await;
    assert_eq!(next.backend().await, before);
    // Without its Sync it was never committed, as on PostgreSQL when the connection ends.
    assert_eq!(left, "0");
}

#[tokio::test]
async fn trap_10_a_client_that_leaves_inside_a_message_costs_only_its_server() {
    let sidepool = Sidepool::with_one_server();
    let mut leaver = sidepool.transaction().wire().await;
    leaver.run("BEGIN").await;
    let long = wire::query(&format!("SELECT '{}'", "x".repeat(300_000)));
    leaver.send(&long[..200_000]).await;
    drop(leaver);
    let mut next = sidepool.transaction().wire().await;
    assert_eq!(next.shown("SELECT 1").await, "T D C(SELECT 1) Z(I)");
}

#[tokio::test]
async fn trap_11_a_query_does_not_run_on_after_its_client_left() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let mut leaver = endpoint.wire().await;
        let before = leaver.backend().await;
        leaver.send(&wire::query("SELECT pg_sleep(1000)")).await;
        postgres.sleeps(&before).await;
        drop(leaver);
        let mut next = endpoint.wire().await;
        assert_eq!(next.shown("SELECT 1").await, "T D C(SELECT 1) Z(I)");
        assert_eq!(next.backend().await, before, "cancelled and drained, not closed");
    }
}

#[tokio::test]
async fn trap_11_what_is_queued_behind_a_query_does_not_run_either() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE trap_11 (a int)").await;
    let sidepool = Sidepool::with_one_server();
    let mut leaver = sidepool.transaction().wire().await;
    let before = leaver.backend().await;
    leaver.run("BEGIN").await;
    let batch = [wire::query("SELECT pg_sleep(1000)"), wire::query("INSERT INTO trap_11 VALUES (1)"), wire::query("COMMIT")];
    leaver.send(&batch.concat()).await;
    postgres.sleeps(&before).await;
    drop(leaver);
    assert_eq!(sidepool.transaction().value("SELECT count(*) FROM trap_11").await, "0");
}

#[tokio::test]
async fn trap_13_those_who_wait_are_served_in_order_and_nobody_overtakes() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE trap_13 (at serial, who int)").await;
    let sidepool = Sidepool::with_one_server();
    let mut holder = sidepool.transaction().wire().await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(sidepool.transaction().wire().await);
    }
    holder.run("BEGIN").await;
    for (who, client) in waiting.iter_mut().enumerate() {
        client.send(&wire::query(&format!("INSERT INTO trap_13 (who) VALUES ({who})"))).await;
        sidepool.has_read().await;
    }
    // The holder asks again as soon as it knows that it has let go.
    holder.run("COMMIT").await;
    holder.run("INSERT INTO trap_13 (who) VALUES (8)").await;
    for client in &mut waiting {
        assert_eq!(show(&client.until(b'Z').await), "C(INSERT 0 1) Z(I)");
    }
    let order = postgres.direct().value("SELECT string_agg(who::text, ' ' ORDER BY at) FROM trap_13").await;
    assert_eq!(order, "0 1 2 3 4 5 6 7 8");
}

#[tokio::test]
async fn trap_13_a_wait_that_is_too_long_ends_with_a_clear_error() {
    let flags = [("pool-size", "1"), ("timeout-queue-wait", "500ms"), ("timeout-queue-notice", "100ms")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    let (mut holder, mut other) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    holder.run("BEGIN").await;
    let replies = other.query("SELECT 1").await;
    let tags: Vec<u8> = replies.iter().map(|reply| reply.tag).collect();
    assert_eq!(tags, b"NEZ", "{}", wire::show_in_full(&replies));
    assert_eq!(replies[1].field(b'S').as_deref(), Some("ERROR"));
    holder.run("COMMIT").await;
    assert_eq!(other.value("SELECT 'again'").await, "again");
}

#[tokio::test]
async fn trap_16_an_idle_server_is_asked_for_a_sign_of_life() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[("pool-size", "1"), ("timeout-server-check", "50ms")]);
    let mut client = sidepool.transaction().wire().await;
    let pid = client.backend().await;
    let mut watch = postgres.direct().wire().await;
    let asked = format!("SELECT query = '' FROM pg_stat_activity WHERE pid = {pid}");
    until("the idle server was asked", async || watch.value(&asked).await == "t").await;
    assert_eq!(client.backend().await, pid);
}

#[tokio::test]
async fn trap_17_a_server_past_its_lifetime_goes_but_never_in_a_transaction() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[("pool-size", "1"), ("timeout-server-lifetime", "300ms")]);
    let mut client = sidepool.transaction().wire().await;
    client.run("BEGIN").await;
    let first = client.backend().await;
    client.run("SELECT pg_sleep(0.7)").await;
    assert_eq!(client.backend().await, first);
    client.run("COMMIT").await;
    postgres.is_gone(&first).await;
    assert_ne!(client.backend().await, first);
}

#[tokio::test]
async fn a_19_a_client_that_never_reads_fills_no_memory_and_goes_without_trace() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    client.run("SELECT 1").await;
    let before = resident_kib(sidepool.pid());
    client.send(&wire::query("SELECT repeat('x', 1000000) FROM generate_series(1, 50)")).await;
    let mut watch = Postgres::shared().direct().wire().await;
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND query LIKE 'SELECT repeat(''x'', 1000000)%'";
    until("the server can write no more", async || watch.value(blocked).await == "1").await;
    let grown = resident_kib(sidepool.pid()).saturating_sub(before);
    assert!(grown < 4096, "grown by {grown} KiB");
    drop(client);
    assert_eq!(sidepool.transaction().value("SELECT 'next'").await, "next");
}

#[tokio::test]
async fn a_20_a_server_terminated_in_use_says_so_to_its_holder_alone() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let mut holder = endpoint.wire().await;
        let pid = holder.backend().await;
        holder.send(&wire::query("SELECT pg_sleep(1000)")).await;
        postgres.sleeps(&pid).await;
        postgres.terminate(&pid).await;
        let replies = holder.until_closed().await;
        assert_eq!(show(&replies), "T E(57P01)");
        assert_eq!(replies[1].field(b'S').as_deref(), Some("FATAL"));
        assert_eq!(endpoint.value("SELECT 'next'").await, "next");
    }
}

#[tokio::test]
async fn a_20_a_server_terminated_in_an_idle_transaction_ends_its_client() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    let mut holder = sidepool.transaction().wire().await;
    holder.run("BEGIN").await;
    let pid = holder.backend().await;
    postgres.terminate(&pid).await;
    assert_eq!(show(&holder.until_closed().await), "E(57P01)");
    assert_eq!(sidepool.transaction().value("SELECT 'next'").await, "next");
}

#[tokio::test]
async fn a_database_that_crashes_under_load_leaves_no_client_stuck() {
    let postgres = Postgres::start(Plan::default());
    let sidepool = Sidepool::start(&postgres, &[("pool-size", "5")]);
    let crashed = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let (endpoint, crashed) = (sidepool.transaction(), Arc::clone(&crashed));
            tokio::spawn(async move {
                let (mut good_in_a_row, mut client) = (0, None);
                while good_in_a_row < 20 {
                    let connected = match client.take() {
                        Some(client) => Ok(client),
                        None => endpoint.try_client().await,
                    };
                    let asked = match connected {
                        Ok(connected) => connected.query_one("SELECT pg_sleep(0.01)", &[]).await.map(|_| connected),
                        Err(error) => Err(error),
                    };
                    match asked {
                        Ok(connected) if crashed.load(Relaxed) => (client, good_in_a_row) = (Some(connected), good_in_a_row + 1),
                        Ok(connected) => client = Some(connected),
                        Err(_) => good_in_a_row = 0,
                    }
                }
            })
        })
        .collect();
    let victim = sidepool.transaction().value("SELECT pg_backend_pid()").await.parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(victim).unwrap(), rustix::process::Signal::KILL).unwrap();
    until("PostgreSQL is back", async || postgres.direct().try_client().await.is_ok()).await;
    crashed.store(true, Relaxed);
    for client in clients {
        tokio::time::timeout(common::PATIENCE, client).await.expect("no client is stuck").unwrap();
    }
}

#[tokio::test]
async fn a_database_that_has_gone_is_an_error_in_time_and_no_wait() {
    let postgres = Postgres::start(Plan::default());
    // With a question of the pooler's own on its way the server is lost in use, and its client hears nothing, as PostgreSQL said nothing.
    let flags = [("timeout-server-down", "300ms"), ("timeout-queue-wait", "20s"), ("verify", "false")];
    let sidepool = Sidepool::start(&postgres, &flags);
    let mut client = sidepool.transaction().wire().await;
    client.run("SELECT 1").await;
    drop(postgres);
    let started = std::time::Instant::now();
    let replies = client.query_or_end("SELECT 1").await;
    assert!(show(&replies).contains("E("), "{}", show(&replies));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}
