//! A cancel request stops the right query, and never anything else. Tests are named by the trap they keep shut.

mod common;

use std::time::Duration;

use common::wire::{self, Wire, show};
use common::{Postgres, Sidepool, unnamed};

#[tokio::test]
async fn trap_35_every_client_has_a_key_of_its_own_and_a_positive_pid() {
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let (one, other) = (endpoint.wire().await, endpoint.wire().await);
        assert_ne!(one.key_data, other.key_data);
        assert!(one.pid() < 1 << 31 && one.pid() > 0);
    }
}

#[tokio::test]
async fn a_18_a_running_query_is_cancelled_in_both_modes() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let mut client = endpoint.wire().await;
        let pid = client.backend().await;
        client.send(&wire::query("SELECT pg_sleep(1000)")).await;
        postgres.sleeps(&pid).await;
        client.cancel().await;
        assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(I)");
        client.send(&[unnamed("SELECT pg_sleep(1000)"), wire::sync()].concat()).await;
        postgres.sleeps(&pid).await;
        client.cancel().await;
        assert_eq!(show(&client.until(b'Z').await), "1 2 E(57014) Z(I)");
        assert_eq!(client.backend().await, pid);
    }
}

#[tokio::test]
async fn a_18_a_wrong_key_cancels_nothing() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.session().wire().await;
    let pid = client.backend().await;
    client.send(&wire::query("SELECT pg_sleep(1000)")).await;
    postgres.sleeps(&pid).await;
    let right = client.key_data.clone();
    // A key of the right length, and one of a byte more.
    for wrong in [[&right[..4], &[!right[4], right[5], right[6], right[7]]].concat(), [&right[..], &[0]].concat()] {
        client.key_data = wrong;
        client.cancel().await;
    }
    let mut watch = postgres.direct().wire().await;
    let running = format!("SELECT state FROM pg_stat_activity WHERE pid = {pid}");
    assert_eq!(watch.value(&running).await, "active");
    client.key_data = right;
    client.cancel().await;
    assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(I)");
}

#[tokio::test]
async fn trap_36_racing_cancels_never_hit_a_neighbour() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2")]);
    let finished = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let neighbours: Vec<_> = (0..4)
        .map(|_| {
            let (endpoint, finished) = (sidepool.transaction(), finished.clone());
            tokio::spawn(async move {
                let mut neighbour = endpoint.wire().await;
                let mut asked = 0;
                while !finished.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(neighbour.shown("SELECT pg_sleep(0.002)").await, "T D C(SELECT 1) Z(I)");
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    for i in 0..100_u64 {
        let mut client = sidepool.transaction().wire().await;
        client.send(&wire::query("SELECT pg_sleep(0.003)")).await;
        // A race on purpose: before, during and after the query.
        tokio::time::sleep(Duration::from_micros(i * 100)).await;
        client.cancel().await;
        let shown = show(&client.until(b'Z').await);
        assert!(["T D C(SELECT 1) Z(I)", "T D E(57014) Z(I)", "T E(57014) Z(I)", "E(57014) Z(I)"].contains(&&*shown), "{shown}");
        assert_eq!(client.shown("SELECT 'not this one'").await, "T D C(SELECT 1) Z(I)");
    }
    finished.store(true, std::sync::atomic::Ordering::Relaxed);
    for neighbour in neighbours {
        assert!(neighbour.await.expect("no neighbour was cancelled") > 0);
    }
}

#[tokio::test]
async fn trap_36_and_42_a_cancel_that_comes_too_late_does_nothing() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    let (mut late, mut other) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    late.run("SELECT 1").await;
    let pid = other.backend().await;
    other.send(&wire::query("SELECT pg_sleep(0.3)")).await;
    postgres.sleeps(&pid).await;
    late.cancel().await;
    assert_eq!(show(&other.until(b'Z').await), "T D C(SELECT 1) Z(I)");
    // And nothing of it is told to the one who asked for it.
    assert_eq!(late.shown("SELECT 2").await, "T D C(SELECT 1) Z(I)");
}

#[tokio::test]
async fn trap_37_a_client_that_waits_for_a_server_is_cancelled_out_of_the_queue() {
    let sidepool = Sidepool::with_one_server();
    let (mut holder, mut waiting) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    holder.run("BEGIN").await;
    for batch in [wire::query("SELECT 1"), [unnamed("SELECT 1"), wire::sync()].concat()] {
        waiting.send(&batch).await;
        sidepool.has_read().await;
        waiting.cancel().await;
        assert_eq!(show(&waiting.until(b'Z').await), "E(57014) Z(I)");
    }
    // What is behind the cancelled one waits on.
    waiting.send(&[wire::query("SELECT 1"), wire::query("SELECT 'second'")].concat()).await;
    sidepool.has_read().await;
    waiting.cancel().await;
    assert_eq!(show(&waiting.until(b'Z').await), "E(57014) Z(I)");
    assert_eq!(holder.shown("COMMIT").await, "C(COMMIT) Z(I)");
    assert_eq!(waiting.awaited_value().await, "second");
}

#[tokio::test]
async fn trap_38_a_cancel_never_hits_the_poolers_own_statements() {
    let sidepool = Sidepool::with_one_server();
    let mut one = sidepool.transaction().parameter("application_name", "one").wire().await;
    let mut two = sidepool.transaction().parameter("application_name", "two").wire().await;
    for _ in 0..50 {
        // Each turn the server changes hands, and settings are set first.
        one.run("SELECT 1").await;
        two.send(&wire::query("SELECT pg_sleep(0.001)")).await;
        two.cancel().await;
        let shown = show(&two.until(b'Z').await);
        assert!(["T D C(SELECT 1) Z(I)", "T D E(57014) Z(I)", "T E(57014) Z(I)", "E(57014) Z(I)"].contains(&&*shown), "{shown}");
        assert_eq!(two.value("SHOW application_name").await, "two");
    }
}

#[tokio::test]
async fn trap_39_a_cancel_needs_no_place_in_the_pool_and_none_among_the_clients() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[("max-server-connections", "1"), ("max-clients", "1")]);
    let mut client = sidepool.transaction().wire().await;
    let pid = client.backend().await;
    client.send(&wire::query("SELECT pg_sleep(1000)")).await;
    postgres.sleeps(&pid).await;
    client.cancel().await;
    assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(I)");
}

#[tokio::test]
async fn trap_40_more_bytes_on_a_cancel_connection_are_not_read() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    let pid = client.backend().await;
    client.send(&wire::query("SELECT pg_sleep(1000)")).await;
    postgres.sleeps(&pid).await;
    let mut canceller = Wire::connect(sidepool.transaction().port).await;
    canceller.send(&[wire::cancel_request(&client.key_data), wire::terminate()].concat()).await;
    assert_eq!(canceller.until_closed().await, []);
    assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(I)");
}

#[tokio::test]
async fn trap_40_a_cancel_whose_sender_does_not_wait_works_too() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    let pid = client.backend().await;
    client.send(&wire::query("SELECT pg_sleep(1000)")).await;
    postgres.sleeps(&pid).await;
    let mut canceller = Wire::connect(sidepool.transaction().port).await;
    canceller.send(&wire::cancel_request(&client.key_data)).await;
    drop(canceller);
    assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(I)");
}

#[tokio::test]
async fn a_cancel_in_a_transaction_leaves_the_transaction_to_its_owner() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    client.run("BEGIN").await;
    let pid = client.backend().await;
    client.send(&wire::query("SELECT pg_sleep(1000)")).await;
    postgres.sleeps(&pid).await;
    client.cancel().await;
    assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(E)");
    assert_eq!(client.shown("ROLLBACK").await, "C(ROLLBACK) Z(I)");
}

#[tokio::test]
async fn a_cancel_stops_a_copy() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    let pid = client.backend().await;
    client.send(&wire::query("COPY (SELECT pg_sleep(1000)) TO STDOUT")).await;
    postgres.sleeps(&pid).await;
    client.cancel().await;
    assert_eq!(show(&client.until(b'Z').await), "H E(57014) Z(I)");
    assert_eq!(client.backend().await, pid);
}

#[tokio::test]
async fn a_cancel_request_of_an_impossible_length_is_closed_without_a_word() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    let pid = client.backend().await;
    client.send(&wire::query("SELECT pg_sleep(1000)")).await;
    postgres.sleeps(&pid).await;
    // Without a pid, with half of one, without a key, with three bytes of one, and with more than there can be.
    let right = client.key_data.clone();
    let too_long = [&right[..], &[0; 253]].concat();
    for wrong in [&[][..], &right[..2], &right[..4], &right[..7], &too_long] {
        for port in [postgres.port, sidepool.transaction().port, sidepool.session().port] {
            let mut canceller = Wire::connect(port).await;
            canceller.send(&wire::cancel_request(wrong)).await;
            assert_eq!(canceller.bytes_until_closed().await, b"", "{} bytes, port {port}", wrong.len());
        }
    }
    let mut watch = postgres.direct().wire().await;
    assert_eq!(watch.value(&format!("SELECT state FROM pg_stat_activity WHERE pid = {pid}")).await, "active");
    client.cancel().await;
    assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(I)");
}

#[tokio::test]
async fn trap_43_a_long_key_counts_to_its_last_byte() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let mut client = Wire::connect(endpoint.port).await;
        client.send(&endpoint.packet(2)).await;
        client.authenticate(&endpoint.password).await;
        let pid = client.backend().await;
        client.send(&wire::query("SELECT pg_sleep(1000)")).await;
        postgres.sleeps(&pid).await;
        let right = client.key_data.clone();
        assert!(right.len() > 8, "protocol 3.2 has longer ones: {}", right.len());
        for length in [8, right.len() - 1] {
            client.key_data = right[..length].to_vec();
            client.cancel().await;
        }
        let mut watch = postgres.direct().wire().await;
        assert_eq!(watch.value(&format!("SELECT state FROM pg_stat_activity WHERE pid = {pid}")).await, "active");
        client.key_data = right;
        client.cancel().await;
        assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(I)");
    }
}
