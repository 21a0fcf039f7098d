//! The same scripts on PostgreSQL itself, on the session port, on the transaction port, and on the transaction port with another
//! client on the same server between any two transactions: every message must be the same.

mod common;

use common::wire::{self, Wire, show_in_full};
use common::{Endpoint, Postgres, Sidepool, unnamed};

/// Messages that leave in one write, and how many ReadyForQuery answer them.
type Step = (Vec<u8>, usize);

fn q(sql: &str) -> Step {
    (wire::query(sql), 1)
}

/// One batch with its Sync.
fn batch(frames: &[Vec<u8>]) -> Step {
    ([frames.concat(), wire::sync()].concat(), 1)
}

/// Several steps in one write.
fn at_once(steps: &[Step]) -> Step {
    (steps.iter().flat_map(|(bytes, _)| bytes.clone()).collect(), steps.iter().map(|(_, ready)| ready).sum())
}

fn run(statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    [wire::bind("", statement, values), wire::execute("", 0)].concat()
}

/// Runs it in a schema-free way: whatever a script makes is temporary or its own transaction's.
async fn play(endpoint: &Endpoint, steps: &[Step], intruder: Option<&Endpoint>) -> Vec<String> {
    let mut client = endpoint.wire().await;
    let mut told = Vec::new();
    for (bytes, ready) in steps {
        client.send(bytes).await;
        let mut replies = Vec::new();
        for _ in 0..*ready {
            replies.extend(client.until(b'Z').await);
        }
        let is_idle = replies.last().is_some_and(|reply| reply.body == b"I");
        told.push(show_in_full(&replies));
        if is_idle && let Some(intruder) = intruder {
            intrude(intruder).await;
        }
    }
    told
}

/// Takes the server over, and leaves on it what the script must not see: settings, and what was parsed last.
async fn intrude(endpoint: &Endpoint) {
    let mut intruder: Wire = endpoint.clone().parameter("application_name", "intruder").wire().await;
    intruder.run("SET TimeZone = 'Pacific/Auckland'; SET IntervalStyle = 'sql_standard'").await;
    intruder.exchange(&[wire::parse("", "SELECT 'intruder'"), wire::parse("s", "SELECT 'intruder'"), wire::sync()]).await;
}

async fn same(steps: &[Step]) {
    let postgres = Postgres::shared();
    let expected = play(&postgres.direct(), steps, None).await;
    let sidepool = Sidepool::with_one_server();
    let transaction = sidepool.transaction();
    assert_eq!(play(&sidepool.session(), steps, None).await, expected, "session port");
    assert_eq!(play(&transaction, steps, None).await, expected, "transaction port");
    assert_eq!(play(&transaction, steps, Some(&transaction)).await, expected, "transaction port, another client in between");
}

#[tokio::test]
async fn simple_queries() {
    same(&[
        q("SELECT 1 AS a, NULL AS b, 'x' AS c"),
        q(""),
        q(";"),
        q(";;SELECT 1;;"),
        q("SELECT 1; SELECT 2; SELECT 3 WHERE false"),
        q("SELECT 1; SELECT 1/0; SELECT 2"),
        q("SELECT no_such_column"),
        q("SELEC 1"),
        q("SELECT 'unterminated"),
        q("/* only a comment */"),
        q("VALUES (1), (2), (NULL)"),
        q("SELECT repeat('x', 20000)"),
        q("DO $$ BEGIN RAISE NOTICE 'n'; RAISE WARNING 'w'; END $$"),
        q("SELECT generate_series(1, 100)"),
    ])
    .await;
}

#[tokio::test]
async fn transactions() {
    same(&[
        q("BEGIN"),
        q("CREATE TEMP TABLE t (a int PRIMARY KEY) ON COMMIT DROP"),
        q("INSERT INTO t SELECT generate_series(1, 3)"),
        q("SAVEPOINT s"),
        q("INSERT INTO t VALUES (1)"),
        q("SELECT 1"),
        q("ROLLBACK TO s"),
        q("SELECT count(*) FROM t"),
        q("COMMIT"),
        q("COMMIT"),
        q("ROLLBACK"),
        q("BEGIN; SELECT 1/0"),
        q("COMMIT"),
        q("BEGIN; BEGIN"),
        q("ROLLBACK AND CHAIN"),
        q("ROLLBACK"),
        q("SELECT 1; BEGIN; SELECT 2"),
        q("COMMIT; SELECT 3"),
        q("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY; SHOW transaction_isolation; COMMIT"),
        q("SHOW transaction_isolation"),
    ])
    .await;
}

#[tokio::test]
async fn the_extended_protocol() {
    same(&[
        batch(&[]),
        batch(&[unnamed("SELECT 1")]),
        batch(&[unnamed("")]),
        batch(&[wire::parse("s", "SELECT $1::int, $2::text"), wire::describe_statement("s")]),
        batch(&[run("s", &[Some("1"), None])]),
        batch(&[
            wire::bind("p", "s", &[Some("2"), Some("two")]),
            wire::describe_portal("p"),
            wire::execute("p", 0),
            wire::close_portal("p"),
        ]),
        batch(&[run("s", &[Some("not a number"), None])]),
        batch(&[run("s", &[Some("1")])]),
        batch(&[run("s", &[Some("3"), Some("three")]), run("s", &[Some("4"), Some("four")])]),
        batch(&[wire::parse("s", "SELECT 'again'")]),
        batch(&[wire::close_statement("s"), wire::parse("s", "SELECT 'again'"), run("s", &[])]),
        batch(&[wire::close_statement("s"), wire::close_statement("s"), wire::close_portal("never")]),
        batch(&[run("s", &[])]),
        batch(&[wire::describe_statement("s")]),
        batch(&[wire::describe_portal("")]),
        batch(&[wire::execute("none", 0)]),
        batch(&[wire::parse("bad", "SELECT no_such_column"), run("bad", &[])]),
        batch(&[run("bad", &[])]),
        batch(&[wire::parse("two", "SELECT 1; SELECT 2")]),
    ])
    .await;
}

#[tokio::test]
async fn unnamed_statements_across_transactions() {
    same(&[
        batch(&[wire::parse("", "SELECT $1 || '!'")]),
        batch(&[run("", &[Some("one")])]),
        batch(&[run("", &[Some("two")])]),
        batch(&[wire::describe_statement("")]),
        batch(&[wire::parse("", "SELECT no_such_column")]),
        batch(&[run("", &[Some("three")])]),
        batch(&[wire::parse("", "SELECT 'last'"), wire::close_statement("")]),
        batch(&[run("", &[])]),
        batch(&[wire::parse("", "SELECT 'gone'")]),
        q("SELECT 'a simple query'"),
        batch(&[run("", &[])]),
    ])
    .await;
}

#[tokio::test]
async fn pipelines() {
    same(&[
        at_once(&[batch(&[unnamed("SELECT 1")]), batch(&[unnamed("SELECT 2")]), q("SELECT 3"), batch(&[unnamed("SELECT 4")])]),
        at_once(&[batch(&[unnamed("SELECT 1"), unnamed("SELECT 1/0"), unnamed("SELECT 2")]), batch(&[unnamed("SELECT 3")])]),
        at_once(&[
            q("BEGIN"),
            batch(&[unnamed("SELECT 1")]),
            q("SELECT 1/0"),
            batch(&[unnamed("SELECT 2")]),
            q("ROLLBACK"),
            q("SELECT 5"),
        ]),
        at_once(&[
            batch(&[wire::parse("s", "SELECT $1")]),
            batch(&[run("s", &[Some("x")])]),
            batch(&[wire::close_statement("s")]),
        ]),
        at_once(&[
            batch(&[unnamed("BEGIN")]),
            batch(&[unnamed("SELECT 1")]),
            batch(&[unnamed("COMMIT")]),
            batch(&[unnamed("SELECT 2")]),
        ]),
        at_once(&[batch(&[]), batch(&[]), q("SELECT 1"), batch(&[])]),
        at_once(&[
            batch(&[wire::parse("t", "SELECT 1/0"), run("t", &[]), wire::parse("u", "SELECT 1")]),
            batch(&[run("t", &[])]),
        ]),
        batch(&[run("u", &[])]),
        // What a name means here hangs on batches whose outcome is not known when it is sent, and no server is free in between.
        at_once(&[
            q("BEGIN"),
            batch(&[wire::parse("w", "SELECT 'w'")]),
            batch(&[run("w", &[]), wire::close_statement("w")]),
            batch(&[unnamed("SELECT 1/0"), wire::parse("w", "SELECT 'never'")]),
            batch(&[run("w", &[])]),
            q("ROLLBACK"),
            batch(&[run("w", &[])]),
        ]),
        at_once(&(0..40).map(|i| q(&format!("SELECT {i}"))).collect::<Vec<_>>()),
    ])
    .await;
}

#[tokio::test]
async fn sql_level_names() {
    same(&[
        batch(&[wire::parse("s", "SELECT 1"), wire::parse("t", "SELECT 2")]),
        q("DEALLOCATE s"),
        batch(&[run("s", &[])]),
        batch(&[run("t", &[])]),
        q("DEALLOCATE ALL"),
        batch(&[run("t", &[])]),
        batch(&[wire::parse("s", "SELECT 1")]),
        q("DISCARD ALL"),
        batch(&[run("s", &[])]),
        q("DEALLOCATE never"),
        q("PREPARE p AS SELECT 1; EXECUTE p; DEALLOCATE p"),
        batch(&[wire::parse("s", "SELECT 1"), wire::parse("t", "SELECT 2")]),
        q("BEGIN; DEALLOCATE s; COMMIT"),
        batch(&[run("s", &[])]),
        q("BEGIN; DEALLOCATE t; SELECT 1/0"),
        q("ROLLBACK"),
        batch(&[run("t", &[])]),
        q("BEGIN; DECLARE c CURSOR FOR SELECT generate_series(1, 5); FETCH 2 FROM c; CLOSE c; COMMIT"),
        batch(&[wire::parse("named", "SELECT 'by name'")]),
        q("EXECUTE named"),
        q("BEGIN; EXECUTE named; SAVEPOINT s; EXECUTE named; COMMIT"),
        q("DEALLOCATE named"),
        q("EXECUTE named"),
    ])
    .await;
}

#[tokio::test]
async fn settings() {
    same(&[
        q("SET application_name = 'ours'"),
        q("SHOW application_name"),
        q("SET DateStyle = 'SQL, DMY'"),
        q("SELECT date '2026-02-01'"),
        q("SET TimeZone = 'Asia/Tokyo'"),
        q("SELECT timestamptz '2026-02-01 00:00:00+00'"),
        q("SET IntervalStyle = 'iso_8601'"),
        q("SELECT interval '1 day 2 hours'"),
        q("BEGIN; SET LOCAL TimeZone = 'UTC'; SHOW TimeZone"),
        q("COMMIT"),
        q("SHOW TimeZone"),
        q("BEGIN; SET TimeZone = 'UTC'"),
        q("ROLLBACK"),
        q("SHOW TimeZone"),
        q("SET TimeZone = 'Nowhere/Never'"),
        batch(&[unnamed("SET application_name = 'extended'")]),
        q("SHOW application_name"),
        q("SELECT set_config('application_name', 'by function', false)"),
        q("SHOW application_name"),
        q("RESET application_name"),
        q("SHOW application_name"),
        q("SET client_encoding = 'LATIN1'"),
        q("SHOW client_encoding"),
    ])
    .await;
}

#[tokio::test]
async fn copies() {
    let data = wire::copy_data(b"1\n2\n");
    let copy = wire::query("COPY t FROM STDIN");
    same(&[
        q("BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP"),
        ([copy.clone(), data.clone(), wire::copy_done()].concat(), 1),
        q("COPY t TO STDOUT"),
        ([unnamed("COPY t FROM STDIN"), data.clone(), wire::copy_done(), wire::sync()].concat(), 1),
        q("SELECT count(*) FROM t"),
        q("SAVEPOINT s"),
        ([copy.clone(), wire::copy_fail("enough")].concat(), 1),
        q("ROLLBACK TO s"),
        ([copy.clone(), wire::copy_data(b"no number\n"), wire::copy_done()].concat(), 1),
        q("ROLLBACK"),
        q("COPY (SELECT generate_series(1, 5)) TO STDOUT"),
        ([copy, data, wire::copy_done()].concat(), 1),
        batch(&[unnamed("COPY (SELECT 'x') TO STDOUT"), unnamed("SELECT 1")]),
    ])
    .await;
}

#[tokio::test]
async fn portals_and_row_limits() {
    same(&[
        q("BEGIN"),
        batch(&[wire::parse("rows", "SELECT generate_series(1, 7)"), wire::bind("p", "rows", &[]), wire::execute("p", 3)]),
        batch(&[wire::execute("p", 3)]),
        batch(&[wire::bind("p", "rows", &[])]),
        q("ROLLBACK"),
        q("BEGIN"),
        batch(&[wire::bind("p", "rows", &[]), wire::execute("p", 3)]),
        batch(&[wire::execute("p", 0), wire::execute("p", 0)]),
        batch(&[wire::close_portal("p"), wire::execute("p", 0)]),
        q("COMMIT"),
        batch(&[wire::bind("p", "rows", &[]), wire::execute("p", 3), wire::execute("p", 3)]),
        batch(&[wire::execute("p", 1)]),
    ])
    .await;
}

#[tokio::test]
async fn two_phase_commit() {
    same(&[
        q("BEGIN; CREATE TABLE two_phase (a int); PREPARE TRANSACTION 'differential'"),
        q("SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'differential'"),
        q("ROLLBACK PREPARED 'differential'"),
        q("ROLLBACK PREPARED 'differential'"),
    ])
    .await;
}
