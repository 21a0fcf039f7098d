//! Port 6543 as a session: whatever a client does to the state of its connection is there for it, wherever it runs next, and
//! for nobody else.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::wire::{self, Wire};
use common::{Endpoint, Postgres, Sidepool, unnamed};

/// Another client takes the only server, and leaves again; what it sees of `sql`.
async fn seen_by_another(endpoint: &Endpoint, sql: &str) -> String {
    endpoint.wire().await.value(sql).await
}

async fn one_server() -> (Sidepool, Wire, String) {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    let pid = client.backend().await;
    (sidepool, client, pid)
}

#[tokio::test]
async fn settings_follow_their_client_and_nobody_else() {
    let (sidepool, mut one, pid) = one_server().await;
    let other = sidepool.transaction();
    let cases = [
        ("SET work_mem = '7MB'", "SHOW work_mem", "7MB", "4MB"),
        ("SET search_path = \"A b\", public", "SHOW search_path", "\"A b\", public", "\"$user\", public"),
        ("SET app.user_id = 'it''s \\ me'", "SELECT current_setting('app.user_id', true)", "it's \\ me", ""),
        ("SELECT set_config('App.Role', 'x', false)", "SELECT current_setting('app.role', true)", "x", ""),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SHOW default_transaction_isolation",
            "serializable",
            "read committed",
        ),
        ("DO $$ BEGIN SET statement_timeout = '77s'; END $$", "SHOW statement_timeout", "77s", "0"),
        ("SELECT 1; SET lock_timeout TO 5000; SELECT 2", "SHOW lock_timeout", "5s", "0"),
        ("UPDATE pg_settings SET setting = '777' WHERE name = 'temp_buffers'", "SHOW temp_buffers", "6216kB", "8MB"),
        ("BEGIN; SET idle_session_timeout = 0; SET vacuum_cost_delay = 3; COMMIT", "SHOW vacuum_cost_delay", "3ms", "0"),
    ];
    for (set, show, mine, theirs) in cases {
        one.run(set).await;
        for _ in 0..2 {
            assert_eq!(seen_by_another(&other, "SELECT pg_backend_pid()").await, pid, "{set}");
            assert_eq!(seen_by_another(&other, show).await, theirs, "{set}");
            assert_eq!(one.value(show).await, mine, "{set}");
        }
    }
    for (_, show, mine, _) in cases {
        assert_eq!(one.value(show).await, mine, "all of them together");
    }
    one.run("RESET ALL").await;
    for (_, show, _, theirs) in cases {
        assert_eq!(seen_by_another(&other, show).await, theirs);
        assert_eq!(one.value(show).await, theirs, "after RESET ALL");
    }
}

#[tokio::test]
async fn what_a_transaction_undoes_was_never_set() {
    let (sidepool, mut one, _) = one_server().await;
    let other = sidepool.transaction();
    one.run("SET work_mem = '5MB'").await;
    for (sql, left) in [
        ("BEGIN; SET work_mem = '6MB'; ROLLBACK", "5MB"),
        ("BEGIN; SET LOCAL work_mem = '6MB'; COMMIT", "5MB"),
        ("BEGIN; SAVEPOINT s; SET work_mem = '6MB'; ROLLBACK TO s; COMMIT", "5MB"),
        ("BEGIN; SET work_mem = '8MB'; SAVEPOINT s; SET work_mem = '9MB'; ROLLBACK TO s; COMMIT", "8MB"),
        ("BEGIN; SELECT set_config('work_mem', '10MB', true); COMMIT", "8MB"),
    ] {
        one.run(sql).await;
        assert_eq!(seen_by_another(&other, "SHOW work_mem").await, "4MB", "{sql}");
        assert_eq!(one.value("SHOW work_mem").await, left, "{sql}");
    }
    assert!(one.shown("SET work_mem = 'much'").await.contains("E(22023"));
    assert_eq!(seen_by_another(&other, "SHOW work_mem").await, "4MB");
    assert_eq!(one.value("SHOW work_mem").await, "8MB");
}

#[tokio::test]
async fn roles_follow_their_client_and_nobody_else() {
    let (sidepool, mut one, _) = one_server().await;
    let other = sidepool.transaction();
    Postgres::shared()
        .execute("postgres", "DO $$ BEGIN CREATE ROLE plain_role; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        .await;
    let who = "SELECT session_user || '/' || current_user";
    one.run("SET log_min_messages = 'error'").await;
    one.run("SET ROLE plain_role").await;
    assert_eq!(seen_by_another(&other, who).await, "postgres/postgres");
    assert_eq!(one.value(who).await, "postgres/plain_role");
    one.run("SET SESSION AUTHORIZATION plain_role").await;
    assert_eq!(seen_by_another(&other, who).await, "postgres/postgres");
    assert_eq!(one.value(who).await, "plain_role/plain_role");
    assert_eq!(one.value("SHOW log_min_messages").await, "error", "what only a superuser may set was set before");
    one.run("RESET SESSION AUTHORIZATION").await;
    assert_eq!(one.value(who).await, "postgres/postgres");
    assert_eq!(seen_by_another(&other, who).await, "postgres/postgres");
    assert_eq!(one.value(who).await, "postgres/postgres");
}

/// Message for message as on a connection of one's own; only that a reported parameter is told of twice.
#[tokio::test]
async fn reset_within_transactions_returns_to_what_the_client_asked_for() {
    let sidepool = Sidepool::with_one_server();
    let asked = |endpoint: Endpoint| {
        endpoint.parameter("TimeZone", "Asia/Tokyo").parameter("options", "-c work_mem=3MB -c app.x=start -c lock_timeout=5s")
    };
    const SHOW: &str = "SELECT current_setting('work_mem'), current_setting('app.x'), current_setting('TimeZone'), \
        current_setting('lock_timeout'), current_setting('statement_timeout')";
    let sets = "SET work_mem = '9MB'; SET app.x = 'mine'; SET TimeZone = 'UTC'; SET statement_timeout = '7s'";
    let batch = |texts: &[&str]| {
        let runs = texts.iter().map(|text| unnamed(text));
        [runs.collect::<Vec<_>>().concat(), wire::sync()].concat()
    };
    let sql = |text: &str| wire::query(text);
    let scripts = [
        vec![sql(sets), sql("BEGIN"), sql("RESET work_mem"), sql(SHOW), sql("COMMIT")],
        vec![sql(sets), sql("BEGIN"), sql("RESET work_mem"), sql(SHOW), sql("ROLLBACK")],
        vec![sql(sets), sql("BEGIN"), sql("RESET ALL"), sql(SHOW), sql("ROLLBACK")],
        vec![sql(sets), sql("BEGIN"), sql("RESET ALL"), sql(SHOW), sql("COMMIT")],
        vec![
            sql(sets),
            sql("BEGIN"),
            sql("SET TimeZone TO DEFAULT"),
            sql(SHOW),
            sql("SET TIME ZONE 'UTC'"),
            sql("RESET app.x"),
            sql(SHOW),
        ],
        vec![sql(sets), sql("BEGIN; SAVEPOINT s"), sql("RESET ALL"), sql(SHOW), sql("ROLLBACK TO s"), sql(SHOW), sql("COMMIT")],
        vec![sql(sets), sql("BEGIN; SAVEPOINT s; RESET ALL"), sql(SHOW), sql("SELECT 1/0"), sql("ROLLBACK TO s"), sql(SHOW)],
        vec![sql(sets), sql("BEGIN"), sql("RESET work_mem"), sql("SET LOCAL work_mem = '2MB'"), sql(SHOW), sql("COMMIT")],
        vec![sql(sets), sql("BEGIN; RESET work_mem; SET work_mem = '2MB'"), sql(SHOW), sql("COMMIT")],
        vec![sql(sets), sql("BEGIN; SET LOCAL work_mem = '2MB'"), sql("RESET work_mem"), sql(SHOW), sql("COMMIT")],
        vec![sql(sets), sql("BEGIN"), sql("SELECT 1/0"), sql("RESET ALL"), sql("ROLLBACK")],
        vec![
            sql("RESET statement_timeout; RESET app.x"),
            sql(SHOW),
            sql("RESET no_such_parameter"),
            sql("RESET ALL; SELECT 1/0"),
        ],
        vec![sql(sets), batch(&["RESET work_mem", SHOW]), batch(&["BEGIN", "RESET ALL", SHOW]), sql(SHOW), sql("ROLLBACK")],
        vec![sql(sets), batch(&["RESET ALL", SHOW, "SELECT 1/0"]), sql(SHOW), batch(&["SET work_mem TO DEFAULT"]), sql(SHOW)],
        vec![
            sql("DO $$ BEGIN RESET work_mem; SET app.x TO DEFAULT; END $$"),
            sql(SHOW),
            sql("BEGIN; DO 'BEGIN RESET ALL; END'"),
            sql(SHOW),
        ],
    ];
    // Whether something has to be set again once more is known by the answer.
    let failing = vec![sql(sets), sql("BEGIN; RESET ALL; SAVEPOINT s; SELECT 1/0"), sql("ROLLBACK TO s; COMMIT")];
    for (script, may_be_piped) in scripts.into_iter().map(|script| (script, true)).chain([(failing, false)]) {
        let said = String::from_utf8_lossy(&script.concat()).into_owned();
        let script = [script, vec![sql("ROLLBACK"), sql(SHOW), sql("DISCARD ALL"), sql(SHOW)]].concat();
        let mut direct = asked(Postgres::shared().direct()).wire().await;
        let mut pooled = asked(sidepool.transaction()).wire().await;
        for messages in &script {
            let mut told = Vec::new();
            for wire in [&mut direct, &mut pooled] {
                let mut replies = wire.exchange(std::slice::from_ref(messages)).await;
                replies.retain(|reply| reply.tag != b'S');
                told.push(wire::show_in_full(&replies));
            }
            assert_eq!(told[1], told[0], "{said}");
        }
        assert_eq!(seen_by_another(&sidepool.transaction(), "SHOW work_mem").await, "4MB", "{said}");
        if !may_be_piped {
            continue;
        }
        // All of it at once, but for DISCARD ALL, which is known by its answer.
        let (mut direct, mut pooled) =
            (asked(Postgres::shared().direct()).wire().await, asked(sidepool.transaction()).wire().await);
        let (piped, mut told) = (&script[..script.len() - 2], Vec::new());
        for wire in [&mut direct, &mut pooled] {
            wire.send(&piped.concat()).await;
            let mut replies = Vec::new();
            for _ in piped {
                replies.extend(wire.until(b'Z').await);
            }
            replies.retain(|reply| reply.tag != b'S');
            told.push(wire::show_in_full(&replies));
        }
        assert_eq!(told[1], told[0], "at once: {said}");
        let known = |wire: &Wire| wire.parameters.iter().rfind(|(name, _)| name == "TimeZone").cloned();
        assert_eq!(known(&pooled), known(&direct), "{said}");
    }
}

#[tokio::test]
async fn reset_returns_to_what_the_client_asked_for_at_login() {
    let sidepool = Sidepool::with_one_server();
    let endpoint = sidepool.transaction();
    let asked = endpoint.clone().parameter("TimeZone", "Asia/Tokyo").parameter("options", "-c work_mem=3MB");
    let mut one = asked.wire().await;
    for reset in ["RESET work_mem", "SET work_mem TO DEFAULT", "RESET ALL", "DISCARD ALL"] {
        one.run("SET work_mem = '9MB'").await;
        one.run("SET TimeZone = 'UTC'").await;
        one.run(reset).await;
        assert_eq!(one.value("SHOW work_mem").await, "3MB", "{reset}");
        assert_eq!(seen_by_another(&endpoint, "SHOW work_mem").await, "4MB", "{reset}");
        assert_eq!(one.value("SHOW work_mem").await, "3MB", "{reset}");
    }
    assert_eq!(one.value("SHOW TimeZone").await, "Asia/Tokyo");
    one.run("SET TimeZone = 'UTC'").await;
    one.run("RESET TimeZone").await;
    assert_eq!(one.value("SHOW TimeZone").await, "Asia/Tokyo");
}

/// Whoever had the server before has left settings on it: a newcomer's are those of the database, and its own.
#[tokio::test]
async fn startup_parameters_are_put_to_a_server_that_is_somebody_elses() {
    let (sidepool, mut one, _) = one_server().await;
    one.run("SET TimeZone = 'Asia/Tokyo'; SET standard_conforming_strings = off").await;
    for _ in 0..2 {
        let mut two = sidepool.transaction().parameter("options", "-c work_mem=3MB").wire().await;
        let told = |name: &str| two.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        assert_eq!(told("standard_conforming_strings").as_deref(), Some("on"));
        assert_ne!(told("TimeZone").as_deref(), Some("Asia/Tokyo"));
        assert_eq!(two.value("SHOW standard_conforming_strings").await, "on");
        assert_ne!(two.value("SHOW TimeZone").await, "Asia/Tokyo");
        assert_eq!(two.value("SHOW work_mem").await, "3MB");
        one.run("SET TimeZone = 'Asia/Tokyo'").await;
    }
}

/// Its next request is there before the question about the last one is answered, and each leaves a new question.
#[tokio::test]
async fn a_client_that_is_never_done_keeps_nobody_waiting() {
    let (sidepool, mut busy, _) = one_server().await;
    let mut other = sidepool.transaction().wire().await;
    let (rounds, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, stopped) = (Arc::clone(&rounds), Arc::clone(&stop));
    let busy = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            busy.run("SET work_mem = '8MB'").await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
        busy.value("SHOW work_mem").await
    });
    const TURNS: u64 = 100;
    for _ in 0..TURNS {
        assert_eq!(other.value("SHOW work_mem").await, "4MB");
    }
    // One while the other is on its way, one that was begun.
    let rounds = rounds.load(Ordering::Relaxed);
    assert!(rounds <= 3 * TURNS, "{rounds} transactions while another waited for {TURNS}");
    stop.store(true, Ordering::Relaxed);
    assert_eq!(busy.await.expect("it does not panic"), "8MB");
}

/// With a server each, nothing of the pooler's own is ever sent.
#[tokio::test]
async fn clients_that_need_not_share_pay_nothing() {
    // With `verify` a server is asked what it has behind every transaction.
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2"), ("verify", "false")]);
    let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    one.run("BEGIN").await;
    let (a, b) = (one.backend().await, two.backend().await);
    one.run("COMMIT").await;
    for _ in 0..5 {
        one.run("SET work_mem = '7MB'").await;
        two.run("SET work_mem = '8MB'").await;
        two.run("SELECT pg_advisory_lock(42)").await;
        two.run("SELECT pg_advisory_unlock(42)").await;
        assert_eq!((one.backend().await, two.backend().await), (a.clone(), b.clone()));
    }
    // The last statement a backend ran is its client's own.
    let last = |pid: &str| format!("SELECT query FROM pg_stat_activity WHERE pid = {pid}");
    two.run("SELECT 'two'").await;
    assert_eq!(one.value(&last(&b)).await, "SELECT 'two'");
}

#[tokio::test]
async fn what_is_really_there_keeps_the_server() {
    let kinds = [
        (
            "SELECT pg_advisory_lock(7)",
            "SELECT pg_advisory_unlock(7)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        ),
        ("CREATE TEMP TABLE mine (a int)", "DROP TABLE mine", "SELECT count(*) FROM pg_class WHERE relname = 'mine'"),
        (
            "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
            "CLOSE c",
            "SELECT count(*) FROM pg_cursors WHERE is_holdable",
        ),
        ("PREPARE mine AS SELECT 1", "DEALLOCATE mine", "SELECT count(*) FROM pg_prepared_statements WHERE from_sql"),
        (
            "DO $$ BEGIN CREATE TEMP TABLE mine (a int); END $$",
            "DROP TABLE mine",
            "SELECT count(*) FROM pg_class WHERE relname = 'mine'",
        ),
    ];
    for (make, end, count) in kinds {
        let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2")]);
        let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
        let pid = one.backend().await;
        one.run(make).await;
        let elsewhere = two.backend().await;
        assert_ne!(elsewhere, pid);
        // The second server is busy: whoever comes now needs the first, and does not get it.
        two.run("BEGIN").await;
        let mut three = sidepool.transaction().wire().await;
        let mut waiting = Box::pin(three.backend());
        assert!(tokio::time::timeout(std::time::Duration::from_millis(300), &mut waiting).await.is_err(), "{make}");
        assert_eq!(one.value("SELECT pg_backend_pid()").await, pid, "{make}");
        assert_eq!(one.value(count).await, "1", "{make}");
        one.run(end).await;
        assert_eq!(tokio::time::timeout(common::PATIENCE, waiting).await.unwrap(), pid, "after {end}");
        two.run("COMMIT").await;
        let mut four = sidepool.transaction().wire().await;
        assert_eq!(four.value(count).await, "0", "{make}");
    }
}

#[tokio::test]
async fn a_doubt_that_comes_to_nothing_keeps_nobody_waiting() {
    let (sidepool, mut one, pid) = one_server().await;
    for nothing in [
        "SELECT pg_try_advisory_lock(9), pg_advisory_unlock(9)",
        "BEGIN; CREATE TEMP TABLE gone (a int); ROLLBACK",
        "SET work_mem = '9MB'",
    ] {
        one.run(nothing).await;
        assert_eq!(seen_by_another(&sidepool.transaction(), "SELECT pg_backend_pid()").await, pid, "{nothing}");
    }
    assert_eq!(one.value("SHOW work_mem").await, "9MB");
}

#[tokio::test]
async fn state_goes_with_its_client_at_once() {
    let (sidepool, mut one, pid) = one_server().await;
    one.run("SELECT pg_advisory_lock(11)").await;
    one.run("CREATE TEMP TABLE left_behind (a int)").await;
    one.run("SET work_mem = '9MB'").await;
    drop(one);
    let mut two = sidepool.transaction().wire().await;
    assert_eq!(two.backend().await, pid);
    assert_eq!(two.value("SHOW work_mem").await, "4MB");
    assert_eq!(two.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 11").await, "0");
    assert_eq!(two.value("SELECT count(*) FROM pg_class WHERE relname = 'left_behind'").await, "0");
}

#[tokio::test]
async fn what_functions_hide_reaches_nobody_else() {
    let (sidepool, mut one, pid) = one_server().await;
    let other = sidepool.transaction();
    Postgres::shared()
        .execute(
            "postgres",
            "CREATE OR REPLACE FUNCTION hides() RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM set_config('app.hidden', 'secret', false); PERFORM pg_advisory_lock(13); \
         SET work_mem = '6MB'; RETURN 1; END $$",
        )
        .await;
    one.run("SELECT hides()").await;
    assert_eq!(seen_by_another(&other, "SELECT pg_backend_pid()").await, pid);
    assert_eq!(seen_by_another(&other, "SELECT coalesce(current_setting('app.hidden', true), '')").await, "");
    assert_eq!(seen_by_another(&other, "SHOW work_mem").await, "4MB");
    assert_eq!(seen_by_another(&other, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 13").await, "0");
}

#[tokio::test]
async fn currval_is_ones_own_or_an_error() {
    let (sidepool, mut one, _) = one_server().await;
    let other = sidepool.transaction();
    one.run("CREATE SEQUENCE IF NOT EXISTS numbers").await;
    one.run("SELECT nextval('numbers')").await;
    assert!(other.wire().await.shown("SELECT currval('numbers')").await.contains("E(55000"));
    assert!(one.shown("SELECT currval('numbers')").await.contains("E(55000"), "it was not known that it would be asked for");
    let drawn = one.value("SELECT nextval('numbers')").await;
    let mut waiting = other.wire().await;
    let mut waits = Box::pin(waiting.backend());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), &mut waits).await.is_err());
    assert_eq!(one.value("SELECT currval('numbers')").await, drawn);
    drop(one);
    tokio::time::timeout(common::PATIENCE, waits).await.unwrap();
}

/// Or a short one would keep the server with its client. It is asked about itself first, and the next time it is known.
#[tokio::test]
async fn what_is_left_is_not_asked_under_the_clients_timeout() {
    let postgres = Postgres::shared();
    postgres.new_database("asked_untimed").await;
    // `verify` asks about every setting there is.
    let sidepool = Sidepool::start(postgres, &[("pool-size", "1"), ("verify", "false")]);
    let endpoint = sidepool.transaction().database("asked_untimed");
    let (mut one, mut two) = (endpoint.wire().await, endpoint.wire().await);
    let mut locker = postgres.direct().database("asked_untimed").wire().await;
    let mut watch = postgres.direct().wire().await;
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'pg_cursors'::regclass AND NOT granted \
        AND clock_timestamp() - waitstart > '500ms'";
    for text in ["SET statement_timeout = '300ms'", "SELECT 1"] {
        let pid = one.backend().await;
        one.run(text).await;
        one.run("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT; CLOSE c").await;
        locker.run("BEGIN; LOCK TABLE pg_catalog.pg_cursors").await;
        two.send(&wire::query("SELECT 1")).await;
        common::until("the question waits", async || watch.value(waits).await == "1").await;
        locker.run("COMMIT").await;
        assert_eq!(wire::show(&two.until(b'Z').await), "T D C(SELECT 1) Z(I)");
        assert_eq!(two.backend().await, pid);
        assert_eq!(two.value("SHOW statement_timeout").await, "0");
        assert_eq!(one.value("SHOW statement_timeout").await, "300ms");
    }
}

#[tokio::test]
async fn strict_isolation_undoes_what_no_text_shows() {
    // What it is about is what `verify` tells of.
    let flags = [("pool-size", "1"), ("isolation", "strict"), ("verify", "false")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    Postgres::shared()
        .execute(
            "postgres",
            "CREATE TABLE IF NOT EXISTS strict_rows (a int); \
             CREATE OR REPLACE FUNCTION strict_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             PERFORM set_config('app.hidden', 'secret', false); SET work_mem = '6MB'; RETURN NULL; END $$; \
             CREATE OR REPLACE TRIGGER strict_rows AFTER UPDATE ON strict_rows EXECUTE FUNCTION strict_trigger()",
        )
        .await;
    let mut one = sidepool.transaction().wire().await;
    one.run("UPDATE strict_rows SET a = 1").await;
    assert_eq!(one.value("SHOW work_mem").await, "6MB");
    let pid = one.backend().await;
    let mut two = sidepool.transaction().wire().await;
    assert_eq!(two.backend().await, pid);
    assert_eq!(two.value("SHOW work_mem").await, "4MB");
    assert_eq!(two.value("SELECT coalesce(current_setting('app.hidden', true), '')").await, "");
}

#[tokio::test]
async fn a_pool_of_pinned_servers_says_why_it_has_none() {
    let flags = [("pool-size", "1"), ("timeout-queue-notice", "100ms"), ("timeout-queue-wait", "1s")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    let mut one = sidepool.transaction().wire().await;
    one.run("SELECT pg_advisory_lock(17); LISTEN pinned").await;
    let replies = sidepool.transaction().wire().await.query("SELECT 1").await;
    let said: Vec<_> = replies.iter().map(|r| String::from_utf8_lossy(&r.body).replace('\0', " ")).collect();
    assert!(said[0].contains("kept by clients for session state: LISTEN, advisory locks"), "{said:?}");
    assert!(
        said[1].contains("53300") && said[1].contains("kept by clients for session state: LISTEN, advisory locks"),
        "{said:?}"
    );
}

#[tokio::test]
async fn an_idle_client_may_be_told_to_go_when_others_want_its_server() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "1"), ("timeout-idle-pinned", "300ms")]);
    let mut one = sidepool.transaction().wire().await;
    one.run("SELECT pg_advisory_lock(18)").await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    one.run("SELECT 1").await;
    let mut two = sidepool.transaction().wire().await;
    assert_eq!(two.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 18").await, "0");
    let last = one.until_closed().await;
    assert!(wire::show(&last).contains("E(57P05)"), "{last:?}");
}

#[tokio::test]
async fn a_pool_keeps_room_for_those_who_pin_nothing() {
    // Who is first is certain where a session is through with its turn before another has one: on one thread, and with no
    // question under way that is put after each transaction.
    let flags = [("pool-size", "2"), ("max-pinned", "1"), ("workers", "1"), ("verify", "false")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    one.run("BEGIN").await;
    two.run("PREPARE pinned AS SELECT 1").await;
    one.run("SELECT pg_advisory_lock(23); COMMIT").await;
    one.run("SELECT 1").await;
    // Others want them: the first that is found to need its server may keep it, the other is told why it may not.
    let mut three = sidepool.transaction().wire().await;
    let mut four = sidepool.transaction().wire().await;
    three.run("BEGIN").await;
    let mut waiting = Box::pin(four.query("SELECT 1"));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), &mut waiting).await.is_err());
    let told = one.until_closed().await;
    assert_eq!(wire::show(&told), "E(53400)");
    assert_eq!(told[0].field(b'D').as_deref(), Some("This client would keep one more, for: advisory locks."));
    assert_eq!(two.value("SELECT count(*) FROM pg_prepared_statements WHERE from_sql").await, "1");
    three.run("COMMIT").await;
    waiting.await;
    // It keeps its place when it does more of the same.
    two.run("PREPARE another AS SELECT 2").await;
    assert_eq!(three.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 23").await, "0");
    assert_eq!(two.value("SELECT count(*) FROM pg_prepared_statements WHERE from_sql").await, "2");
}

/// Nothing that it could be asked, and so no answer, comes before it is told.
#[tokio::test]
async fn there_is_no_room_either_for_what_no_question_settles() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2"), ("max-pinned", "1")]);
    let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    for client in [&mut one, &mut two] {
        client.run("SELECT setseed(0.5)").await;
        client.run("SELECT 1").await;
    }
    sidepool.transaction().wire().await.run("SELECT 1").await;
    // Either may be the first that is found to need its server: with `verify` each is looked at when its own answer is there.
    let (told, mut other) = tokio::select! {
        told = one.until_closed() => (told, two),
        told = two.until_closed() => (told, one),
    };
    assert_eq!(told[0].field(b'D').as_deref(), Some("This client would keep one more, for: LOAD or setseed."), "{told:?}");
    other.run("SELECT 1").await;
}

#[tokio::test]
async fn a_client_with_a_home_is_told_the_process_that_it_runs_on() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2"), ("home-servers", "true")]);
    let endpoint = sidepool.transaction();
    let (mut one, mut two) = (endpoint.wire().await, endpoint.wire().await);
    assert_ne!(one.pid(), two.pid());
    for _ in 0..3 {
        assert_eq!(two.backend().await, two.pid().to_string());
        assert_eq!(one.backend().await, one.pid().to_string());
    }
    // There is no third; whoever comes is served all the same, and canceled by what it was told.
    let mut three = endpoint.wire().await;
    assert!(![one.pid(), two.pid()].contains(&three.pid()));
    let pid = three.backend().await;
    three.send(&wire::query("SELECT pg_sleep(1000)")).await;
    Postgres::shared().sleeps(&pid).await;
    three.cancel().await;
    assert_eq!(wire::show(&three.until(b'Z').await), "T E(57014) Z(I)");
    // A home is free again when its client has left.
    let left = one.pid();
    drop(one);
    common::until("the home is free", async || endpoint.wire().await.pid() == left).await;
}
