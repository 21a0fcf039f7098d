//! Settings follow their client from server to server, and nothing of one client's session is seen by another.

mod common;

use std::time::Duration;

use common::wire::{self, Wire, show};
use common::{Endpoint, Postgres, Sidepool, unnamed};

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

/// A sets it, B on the same server must see none of it: `look` gives the same answer as on a session that set nothing. What A
/// needs its server for keeps B waiting until A has left.
async fn sees_nothing(set: &[&str], look: &str) {
    let sidepool = Sidepool::with_one_server();
    let expected = wire::show_in_full(&Postgres::shared().direct().wire().await.query(look).await);
    for extended in [false, true] {
        let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
        for sql in set {
            match extended {
                true => _ = one.exchange(&[unnamed(sql), wire::sync()]).await,
                false => one.run(sql).await,
            }
        }
        let pid = one.backend().await;
        let mut looking = Box::pin(two.query(look));
        let seen = match tokio::time::timeout(Duration::from_millis(200), &mut looking).await {
            Ok(seen) => seen,
            Err(_) => {
                assert_eq!(one.backend().await, pid, "it has its server");
                drop(one);
                looking.as_mut().await
            }
        };
        drop(looking);
        assert_eq!(wire::show_in_full(&seen), expected, "{set:?}");
        assert_eq!(two.backend().await, pid, "another server says nothing");
    }
}

macro_rules! leak_matrix {
    ($($name:ident: $set:expr, $look:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            sees_nothing(&$set, $look).await;
        }
    )*};
}

leak_matrix! {
    trap_75_no_leak_of_set: ["SET statement_timeout = '9s'"], "SHOW statement_timeout";
    trap_75_no_leak_of_set_in_a_transaction: ["BEGIN", "SELECT 1", "SET search_path = pg_catalog", "COMMIT"], "SHOW search_path";
    trap_75_no_leak_of_set_in_one_query: ["BEGIN; SELECT 1; SET work_mem = '9MB'; COMMIT"], "SHOW work_mem";
    trap_75_no_leak_of_role: ["SET ROLE app"], "SELECT current_user";
    trap_75_no_leak_of_session_authorization: ["SET SESSION AUTHORIZATION app"], "SELECT session_user, current_user";
    trap_75_no_leak_of_set_config: ["SELECT set_config('search_path', '', false)"], "SHOW search_path";
    trap_75_no_leak_of_session_characteristics:
        ["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"], "SHOW default_transaction_read_only";
    trap_75_no_leak_of_a_custom_setting: ["SET my.tenant = '7'"], "SELECT coalesce(current_setting('my.tenant', true), '')";
    trap_75_no_leak_out_of_do: ["DO $$ BEGIN PERFORM set_config('statement_timeout', '8s', false); END $$"], "SHOW statement_timeout";
    trap_75_no_leak_of_prepare: ["PREPARE leak AS SELECT 1"], "EXECUTE leak";
    trap_75_no_leak_of_listen: ["LISTEN leak"], "SELECT pg_listening_channels()";
    trap_75_no_leak_of_a_temp_table: ["CREATE TEMP TABLE IF NOT EXISTS leak AS SELECT 1"], "SELECT to_regclass('leak')";
    trap_75_no_leak_of_select_into_temp: ["SELECT 1 AS a INTO TEMP leak_into"], "SELECT to_regclass('leak_into')";
    trap_75_no_leak_of_an_advisory_lock: ["SELECT pg_advisory_lock(750001)"],
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 750001 AND pid = pg_backend_pid()";
    trap_75_no_leak_of_a_holdable_cursor: ["DECLARE leak CURSOR WITH HOLD FOR SELECT 1"], "SELECT name FROM pg_cursors WHERE name = 'leak'";
    trap_75_no_leak_of_lastval: ["CREATE SEQUENCE IF NOT EXISTS leak_seq; SELECT nextval('leak_seq')"], "SELECT lastval()";
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
