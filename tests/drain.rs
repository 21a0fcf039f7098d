//! The order of going down: SIGTERM lets transactions finish, SIGINT does not, and no server is left with anything.

mod common;

use std::time::{Duration, Instant};

use common::wire::{self, Wire, show, show_in_full};
use common::{Postgres, Sidepool, until};
use rustix::process::Signal;

const STOPPED: &str = "E(FATAL | 57P01 | terminating connection due to administrator command)";

#[tokio::test]
async fn a_22_on_sigterm_idle_clients_are_told_and_the_process_ends_well() {
    let mut sidepool = Sidepool::with_one_server();
    let (mut idle, mut session) = (sidepool.transaction().wire().await, sidepool.session().wire().await);
    idle.run("SELECT 1").await;
    session.run("SELECT 1").await;
    sidepool.signal(Signal::TERM);
    for client in [&mut idle, &mut session] {
        assert_eq!(show_in_full(&client.until_closed().await), STOPPED);
    }
    assert!(sidepool.ended().unwrap().success());
}

#[tokio::test]
async fn a_22_on_sigterm_transactions_finish_and_nobody_new_comes_in() {
    let mut sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "5")]);
    let transaction = sidepool.transaction();
    let (mut busy, mut open) = (transaction.wire().await, transaction.wire().await);
    let mut in_session = sidepool.session().wire().await;
    let pid = busy.backend().await;
    busy.send(&wire::query("SELECT pg_sleep(0.5)")).await;
    Postgres::shared().sleeps(&pid).await;
    open.run("BEGIN").await;
    in_session.run("BEGIN").await;
    let mut told = transaction.wire().await;
    sidepool.signal(Signal::TERM);
    assert_eq!(show_in_full(&told.until_closed().await), STOPPED);
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", transaction.port)).await.is_err(), "nobody listens any more");
    assert_eq!(show(&busy.until(b'Z').await), "T D C(SELECT 1) Z(I)");
    assert_eq!(show_in_full(&busy.until_closed().await), STOPPED);
    for client in [&mut open, &mut in_session] {
        assert_eq!(client.value("SELECT 'still in it'").await, "still in it");
        assert_eq!(client.shown("COMMIT").await, "C(COMMIT) Z(I)");
        assert_eq!(show_in_full(&client.until_closed().await), STOPPED);
    }
    assert!(sidepool.ended().unwrap().success());
}

#[tokio::test]
async fn a_22_a_client_that_waits_for_a_server_is_served_before_the_end() {
    let mut sidepool = Sidepool::with_one_server();
    let (mut holder, mut waiting) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    holder.run("BEGIN").await;
    waiting.send(&wire::query("SELECT 'served'")).await;
    sidepool.has_read().await;
    sidepool.signal(Signal::TERM);
    sidepool.log_has("draining");
    holder.run("COMMIT").await;
    assert_eq!(waiting.awaited_value().await, "served");
    assert_eq!(show_in_full(&waiting.until_closed().await), STOPPED);
    assert!(sidepool.ended().unwrap().success());
}

/// Neither has a transaction that could finish: the pooler only waits to greet them.
#[tokio::test]
async fn a_22_a_client_that_waits_for_its_greeting_is_told_at_once() {
    let flags = [("pool-size", "1"), ("workers", "1"), ("log", "debug")];
    for mode in ["session", "transaction"] {
        let mut sidepool = Sidepool::start(Postgres::shared(), &flags);
        let endpoint = if mode == "session" { sidepool.session() } else { sidepool.transaction() };
        let mut holder = endpoint.wire().await;
        holder.run("BEGIN").await;
        // A parameter that no server has been asked about yet.
        let waiting = endpoint.parameter("work_mem", "77MB");
        let login = tokio::spawn(async move { Wire::try_login(&waiting).await.1 });
        until("both have logged in", async || sidepool.log().matches("client logged in").count() == 2).await;
        sidepool.signal(Signal::TERM);
        let told = login.await.expect("it does not panic");
        assert!(show_in_full(&told).ends_with(STOPPED), "{mode}: {}", show_in_full(&told));
        assert_eq!(holder.value("SELECT 'still in it'").await, "still in it");
        assert_eq!(holder.shown("COMMIT").await, "C(COMMIT) Z(I)");
        assert_eq!(show_in_full(&holder.until_closed().await), STOPPED);
        assert!(sidepool.ended().unwrap().success());
    }
}

#[tokio::test]
async fn a_22_the_drain_ends_at_its_deadline_and_rolls_back() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE a_22 (a int)").await;
    let mut sidepool = Sidepool::start(postgres, &[("timeout-drain", "300ms")]);
    let mut open = sidepool.transaction().wire().await;
    let pid = open.backend().await;
    open.run("BEGIN; INSERT INTO a_22 VALUES (1)").await;
    sidepool.signal(Signal::TERM);
    assert_eq!(show_in_full(&open.until_closed().await), STOPPED);
    assert!(sidepool.ended().unwrap().success());
    postgres.is_gone(&pid).await;
    assert_eq!(postgres.direct().value("SELECT count(*) FROM a_22").await, "0");
}

#[tokio::test]
async fn on_sigint_all_end_at_once_and_no_query_runs_on() {
    let postgres = Postgres::shared();
    let mut sidepool = Sidepool::with_one_server();
    let mut session = sidepool.session().wire().await;
    let pid = session.backend().await;
    session.send(&wire::query("SELECT pg_sleep(1000)")).await;
    postgres.sleeps(&pid).await;
    let mut open = sidepool.transaction().wire().await;
    open.run("BEGIN").await;
    let started = Instant::now();
    sidepool.signal(Signal::INT);
    assert_eq!(show_in_full(&open.until_closed().await), STOPPED);
    assert!(show_in_full(&session.until_closed().await).ends_with(STOPPED));
    assert!(sidepool.ended().unwrap().success());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    postgres.is_gone(&pid).await;
}

#[tokio::test]
async fn a_second_signal_ends_the_drain() {
    for second in [Signal::TERM, Signal::INT] {
        let mut sidepool = Sidepool::with_one_server();
        let mut open = sidepool.transaction().wire().await;
        open.run("BEGIN").await;
        sidepool.signal(Signal::TERM);
        sidepool.log_has("draining");
        sidepool.signal(second);
        assert_eq!(show_in_full(&open.until_closed().await), STOPPED);
        sidepool.ended().expect("it ends");
    }
}

#[tokio::test]
async fn a_login_that_is_under_way_does_not_hold_the_end_up() {
    let mut sidepool = Sidepool::with_one_server();
    let mut silent = Wire::connect(sidepool.transaction().port).await;
    silent.send(&[0, 0]).await;
    sidepool.has_read().await;
    let started = Instant::now();
    sidepool.signal(Signal::TERM);
    assert!(sidepool.ended().unwrap().success());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}
