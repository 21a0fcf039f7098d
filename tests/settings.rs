//! Settings follow their client from server to server, and nothing of one client's session is seen by another.

mod common;

use common::wire::{self, Wire, show};
use common::{Endpoint, Postgres, Proxy, Sidepool, unnamed};

const REPORTED: [(&str, &str); 7] = [
    ("application_name", "mine"),
    ("DateStyle", "German, DMY"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "Europe/Vienna"),
    ("client_encoding", "LATIN1"),
    ("standard_conforming_strings", "off"),
    ("extra_float_digits", "0"),
];

/// Takes the only server over.
async fn change_owner(endpoint: &Endpoint) -> String {
    endpoint.wire().await.backend().await
}

async fn shows(client: &mut Wire, name: &str, value: &str) {
    assert_eq!(client.value(&format!("SHOW {name}")).await, value, "{name}");
}

#[tokio::test]
async fn trap_70_reported_parameters_follow_their_client() {
    let sidepool = Sidepool::with_one_server();
    let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    let before = two.value("SHOW DateStyle").await;
    for (name, value) in &REPORTED[..6] {
        one.run(&format!("SET {name} = '{}'", value.replace(", ", "', '"))).await;
    }
    for _ in 0..3 {
        assert_eq!(two.value("SHOW DateStyle").await, before);
        for (name, value) in &REPORTED[..6] {
            shows(&mut one, name, value).await;
            change_owner(&sidepool.transaction()).await;
        }
        assert_ne!(two.value("SHOW application_name").await, "mine");
    }
}

#[tokio::test]
async fn trap_70_what_is_replayed_shows_in_no_reply() {
    let sidepool = Sidepool::with_one_server();
    let mut one = sidepool.transaction().wire().await;
    assert_eq!(one.shown("SET TimeZone = 'Asia/Tokyo'").await, "C(SET) S(TimeZone=Asia/Tokyo) Z(I)");
    for _ in 0..3 {
        change_owner(&sidepool.transaction()).await;
        assert_eq!(one.shown("SELECT 1").await, "T D C(SELECT 1) Z(I)");
        change_owner(&sidepool.transaction()).await;
        assert_eq!(one.shown_batch(&[unnamed("SELECT 1"), wire::sync()], 1).await, "1 2 D C(SELECT 1) Z(I)");
    }
}

#[tokio::test]
async fn trap_71_values_are_the_servers_own_spelling() {
    let sidepool = Sidepool::with_one_server();
    let mut one = sidepool.transaction().wire().await;
    let before = one.value("SHOW DateStyle").await;
    let order = before.split(", ").nth(1).unwrap().to_owned();
    assert_eq!(one.shown("SET datestyle = 'SQL'").await, format!("C(SET) S(DateStyle=SQL, {order}) Z(I)"));
    change_owner(&sidepool.transaction()).await;
    shows(&mut one, "DateStyle", &format!("SQL, {order}")).await;
    assert_eq!(one.shown("SELECT 1").await, "T D C(SELECT 1) Z(I)");
}

#[tokio::test]
async fn trap_72_long_and_quoted_values_are_replayed_whole() {
    let sidepool = Sidepool::with_one_server();
    let mut one = sidepool.transaction().wire().await;
    for value in ["it's", r"back\slash", "\"quoted\"", "; DROP TABLE x; --", &"n".repeat(63), "$$ $1 \u{7f}?"] {
        let kept = one.value(&format!("SELECT set_config('application_name', '{}', false)", value.replace('\'', "''"))).await;
        change_owner(&sidepool.transaction()).await;
        shows(&mut one, "application_name", &kept).await;
    }
}

#[tokio::test]
async fn trap_73_an_empty_application_name_is_a_value() {
    let sidepool = Sidepool::with_one_server();
    let mut named = sidepool.transaction().parameter("application_name", "named").wire().await;
    let mut empty = sidepool.transaction().parameter("application_name", "").wire().await;
    for _ in 0..2 {
        shows(&mut named, "application_name", "named").await;
        shows(&mut empty, "application_name", "").await;
    }
}

#[tokio::test]
async fn trap_74_a_set_that_fails_is_an_error_like_any() {
    let sidepool = Sidepool::with_one_server();
    let mut one = sidepool.transaction().wire().await;
    assert_eq!(one.shown("SET TimeZone = 'Nowhere/Never'").await, "E(22023) Z(I)");
    change_owner(&sidepool.transaction()).await;
    assert_eq!(one.shown("SELECT 1").await, "T D C(SELECT 1) Z(I)");
}

#[tokio::test]
async fn trap_76_what_is_local_or_rolled_back_is_not_kept() {
    let sidepool = Sidepool::with_one_server();
    let mut one = sidepool.transaction().wire().await;
    one.run("SET application_name = 'kept'").await;
    let scripts = [
        "BEGIN; SET application_name = 'rolled back'; ROLLBACK",
        "BEGIN; SET LOCAL application_name = 'local'; COMMIT",
        "BEGIN; SAVEPOINT s; SET application_name = 'to savepoint'; ROLLBACK TO s; COMMIT",
        "BEGIN; SET application_name = 'failed'; SELECT 1/0; COMMIT",
    ];
    for script in scripts {
        one.query(script).await;
        one.query("ROLLBACK").await;
        shows(&mut one, "application_name", "kept").await;
        change_owner(&sidepool.transaction()).await;
        shows(&mut one, "application_name", "kept").await;
    }
    one.run("RESET application_name").await;
    change_owner(&sidepool.transaction()).await;
    shows(&mut one, "application_name", "").await;
}

#[tokio::test]
async fn trap_76_a_client_that_leaves_takes_its_settings_with_it() {
    let sidepool = Sidepool::with_one_server();
    let mut leaver = sidepool.transaction().wire().await;
    let pid = leaver.backend().await;
    leaver.run("SET application_name = 'left'; SET statement_timeout = '7s'").await;
    leaver.run("BEGIN; SET TimeZone = 'Asia/Tokyo'").await;
    drop(leaver);
    let mut next = sidepool.transaction().wire().await;
    assert_eq!(next.backend().await, pid);
    shows(&mut next, "application_name", "").await;
    shows(&mut next, "statement_timeout", "0").await;
    assert_ne!(next.value("SHOW TimeZone").await, "Asia/Tokyo");
}

#[tokio::test]
async fn no_leak_between_clients_that_take_turns_fast() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2")]);
    let clients: Vec<_> = (0..10)
        .map(|n| {
            let endpoint = sidepool.transaction().parameter("application_name", &format!("client {n}"));
            tokio::spawn(async move {
                let mut client = endpoint.wire().await;
                for _ in 0..50 {
                    assert_eq!(client.value("SHOW application_name").await, format!("client {n}"));
                    let extended = client.exchange(&[unnamed("SHOW application_name"), wire::sync()]).await;
                    assert_eq!(wire::show_in_full(&extended), format!("1 2 D(client {n}) C(SHOW) Z(I)"));
                    assert_eq!(show(&extended), "1 2 D C(SHOW) Z(I)");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

/// Undoing what the last owner set, setting what this one has, closing a statement to make room, preparing the one it wants,
/// and the client's own bytes: one write, and nothing of it waits for an answer.
#[tokio::test]
async fn a_transfer_makes_no_round_trip_of_its_own() {
    let proxy = Proxy::to(Postgres::shared().port, |_| {}).await;
    let upstream = Endpoint::new(proxy.port).url();
    // Verified, a server is asked what it has at every change of owner.
    let flags = [("pool-size", "1"), ("prepared-statements-per-server", "1"), ("verify", "false")];
    let sidepool = Sidepool::launch(&flags, &format!("upstream = \"{upstream}?sslmode=disable\"")).unwrap();
    let endpoint = sidepool.transaction();
    let mut clients = [endpoint.wire().await, endpoint.wire().await];
    for (client, own) in clients.iter_mut().zip(["3MB", "5MB"]) {
        client.run(&format!("SET work_mem = '{own}'; SET application_name = '{own}'")).await;
        let sql = format!("SELECT '{own}', current_setting('work_mem'), current_setting('application_name')");
        assert_eq!(client.shown_batch(&[wire::parse("s", &sql), wire::sync()], 1).await, "1 Z(I)");
    }
    let turn = [wire::bind("", "s", &[]), wire::execute("", 0), wire::sync()].concat();
    let mut pieces = Vec::new();
    for _ in 0..4 {
        for (client, own) in clients.iter_mut().zip(["3MB", "5MB"]) {
            let before = proxy.pieces();
            let told = wire::show_in_full(&client.exchange(std::slice::from_ref(&turn)).await);
            assert_eq!(told, format!("2 D({own},{own},{own}) C(SELECT 1) Z(I)"));
            pieces.push(proxy.pieces() - before);
        }
    }
    // The first time, the server is asked for the settings that its owner has made and that it does not report.
    assert_eq!(pieces[2..], [1; 6], "{pieces:?}");
}

/// A setting that is too long to be carried along keeps its server, whatever else its client sets after it.
#[tokio::test]
async fn a_setting_that_cannot_be_carried_along_is_nobody_elses() {
    let sidepool = Sidepool::with_one_server();
    let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    one.run("SELECT set_config('app.long', repeat('x', 9000), false)").await;
    let mut waiting = Box::pin(two.value("SELECT coalesce(current_setting('app.long', true), '')"));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), &mut waiting).await.is_err());
    one.run("SET work_mem = '3MB'").await;
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), &mut waiting).await.is_err());
    assert_eq!(one.value("SELECT length(current_setting('app.long'))").await, "9000");
    one.run("RESET app.long").await;
    assert_eq!(tokio::time::timeout(common::PATIENCE, waiting).await.unwrap(), "");
    assert_eq!(two.value("SHOW work_mem").await, "4MB");
    shows(&mut one, "work_mem", "3MB").await;
}
