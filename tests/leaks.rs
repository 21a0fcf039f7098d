//! The leak matrix: one client makes session state of each kind, another takes the same server and sees nothing of it, and
//! the first comes back on another server and sees its own.
//!
//! Rows are what poolers are known to leak or to lose (PgDog #1299, #1341, …), and every kind of state that we track.

mod common;

use std::time::Duration;

use common::wire::{self, Wire};
use common::{Endpoint, Postgres, Sidepool, unnamed};

struct Row {
    /// What the first client runs.
    make: &'static [Make],
    /// What both look at.
    look: &'static str,
    fate: Fate,
}

#[derive(Clone, Copy)]
enum Make {
    /// In either protocol.
    Sql(&'static str),
    /// With values for its parameters.
    Bound(&'static str, &'static [&'static str]),
}

use Make::{Bound, Sql};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Replayed on whichever server the client has next.
    Follows,
    /// The client keeps its server.
    Keeps,
    /// Hidden from the pooler: cleaned away.
    Ends,
}

use Fate::{Ends, Follows, Keeps};

const fn row(make: &'static [Make], look: &'static str, fate: Fate) -> Row {
    Row { make, look, fate }
}

/// Rows tried at the same time.
const LANES: usize = 8;

const LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
const WHO: &str = "SELECT session_user, current_user";

const ROWS: &[Row] = &[
    row(&[Sql("SET statement_timeout = '9s'")], "SHOW statement_timeout", Follows),
    row(&[Sql("SET TimeZone = 'Asia/Tokyo'")], "SHOW TimeZone", Follows),
    row(&[Sql("SET TIME ZONE INTERVAL '2' HOUR")], "SHOW TimeZone", Follows),
    row(&[Sql("SET NAMES 'LATIN1'")], "SHOW client_encoding", Follows),
    row(&[Sql("BEGIN"), Sql("SELECT 1"), Sql("SET search_path = pg_catalog"), Sql("COMMIT")], "SHOW search_path", Follows),
    row(&[Sql("SET ROLE app")], WHO, Follows),
    row(&[Sql("SET SESSION AUTHORIZATION app")], WHO, Follows),
    row(&[Sql("SELECT set_config('search_path', '', false)")], "SHOW search_path", Follows),
    row(&[Bound("SELECT set_config($1, $2, false)", &["work_mem", "9MB"])], "SHOW work_mem", Follows),
    row(
        &[Bound("SELECT set_config('app.tenant', $1, false)", &["7"])],
        "SELECT coalesce(current_setting('app.tenant', true), '')",
        Follows,
    ),
    row(&[Sql("SET app.x = 'it''s'")], "SELECT coalesce(current_setting('app.x', true), '')", Follows),
    row(&[Sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")], "SHOW default_transaction_read_only", Follows),
    row(&[Sql("UPDATE pg_settings SET setting = '5s' WHERE name = 'lock_timeout'")], "SHOW lock_timeout", Follows),
    row(&[Sql("DO $$ BEGIN PERFORM set_config('statement_timeout', '8s', false); END $$")], "SHOW statement_timeout", Follows),
    row(&[Sql("CALL leaks_by_call()")], "SHOW statement_timeout", Follows),
    row(&[Sql("SELECT leaks_in_function()")], "SHOW statement_timeout", Ends),
    row(&[Sql("SELECT leaks_in_function()")], LOCKS, Ends),
    row(&[Sql("PREPARE leak AS SELECT 'mine'")], "EXECUTE leak", Keeps),
    row(&[Sql("LISTEN leak")], "SELECT count(*) FROM pg_listening_channels()", Follows),
    row(&[Sql("CREATE TEMP TABLE leak AS SELECT 1")], "SELECT to_regclass('leak') IS NULL", Keeps),
    row(&[Sql("SELECT 1 AS a INTO TEMP leak")], "SELECT to_regclass('leak') IS NULL", Keeps),
    row(&[Sql("CREATE TABLE pg_temp.leak (a int)")], "SELECT to_regclass('leak') IS NULL", Keeps),
    row(&[Sql("CREATE TEMP VIEW leak AS SELECT 1")], "SELECT to_regclass('leak') IS NULL", Keeps),
    row(
        &[Sql("CREATE FUNCTION pg_temp.leak() RETURNS int LANGUAGE sql AS 'SELECT 1'")],
        "SELECT count(*) FROM pg_proc WHERE proname = 'leak'",
        Keeps,
    ),
    row(&[Sql("SELECT pg_advisory_lock(750001)")], LOCKS, Keeps),
    row(&[Sql("SELECT pg_try_advisory_lock_shared(75, 1)")], LOCKS, Keeps),
    row(&[Bound("SELECT pg_advisory_lock($1::int)", &["750002"])], LOCKS, Keeps),
    row(&[Sql("DECLARE leak CURSOR WITH HOLD FOR SELECT 1")], "SELECT count(*) FROM pg_cursors WHERE name = 'leak'", Keeps),
    row(&[Sql("SELECT nextval('leaks')")], "SELECT lastval()", Ends),
    row(&[Sql("UPDATE leaks_numbered SET id = DEFAULT")], "SELECT lastval()", Ends),
    row(&[Sql("EXPLAIN ANALYZE INSERT INTO leaks_numbered DEFAULT VALUES")], "SELECT lastval()", Ends),
    // What it draws after it has read once is kept for it.
    row(
        &[Sql("SELECT setval('leaks_kept', 41)"), Sql("SELECT currval('leaks_kept')"), Sql("SELECT nextval('leaks_kept')")],
        "SELECT currval('leaks_kept')",
        Keeps,
    ),
    // The next of that seed, from PostgreSQL 15 on.
    row(&[Sql("SELECT setseed(0.5)")], "SELECT random() = 0.9851677175347999", Keeps),
    row(&[Sql("LOAD 'plpgsql'")], "SELECT name FROM pg_settings WHERE name = 'plpgsql.extra_errors'", Keeps),
];

#[tokio::test]
async fn trap_75_each_kind_of_state_is_its_makers_and_nobody_elses() {
    let postgres = Postgres::shared();
    let direct = postgres.new_database("leaks").await;
    let functions = "CREATE SEQUENCE leaks; CREATE SEQUENCE leaks_kept; \
        CREATE TABLE leaks_numbered (id serial); INSERT INTO leaks_numbered VALUES (1); \
        CREATE PROCEDURE leaks_by_call() LANGUAGE plpgsql AS $$ BEGIN SET statement_timeout = '6s'; END $$; \
        CREATE FUNCTION leaks_in_function() RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
        SET statement_timeout = '7s'; PERFORM pg_advisory_lock(750003); RETURN 1; END $$";
    postgres.execute("leaks", functions).await;
    let lanes = (0..LANES).map(|lane| {
        let direct = direct.clone();
        async move {
            for row in ROWS.iter().skip(lane).step_by(LANES) {
                for extended in [false, true] {
                    try_row(row, extended, &direct).await;
                }
            }
        }
    });
    common::at_once(lanes).await;
}

/// Temporary tables that take longer to drop than the timeouts below.
fn many_tables() -> String {
    let tables: Vec<_> = (0..300).map(|nth| format!("CREATE TEMP TABLE leak_{nth} AS SELECT 'x'::text AS a")).collect();
    tables.join(";")
}

const TEMPORARY: &str = "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()";

/// Cleaning runs under what the client has set, if no statement showed that, and may be stopped by it: then nothing of it is done.
#[tokio::test]
async fn a_server_that_could_not_be_cleaned_is_given_to_nobody() {
    let postgres = Postgres::shared();
    postgres.new_database("leaks_unclean").await;
    let trigger = "CREATE TABLE unseen (a int); CREATE FUNCTION unseen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM set_config('statement_timeout', '2ms', false); RETURN NEW; END $$; \
        CREATE TRIGGER unseen BEFORE INSERT ON unseen FOR EACH ROW EXECUTE FUNCTION unseen()";
    postgres.execute("leaks_unclean", trigger).await;
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()].map(|e| e.database("leaks_unclean")) {
        let mut first = endpoint.clone().parameter("application_name", "leaves much").wire().await;
        // A call might be one of a function that is not known, and all be cleaned in another way.
        let backend = first.value("SELECT pid FROM pg_stat_activity WHERE application_name = 'leaves much'").await;
        first.run(&many_tables()).await;
        first.run("INSERT INTO unseen VALUES (1)").await;
        drop(first);
        let mut second = endpoint.wire().await;
        assert_eq!(second.value("SHOW statement_timeout").await, "0", "{}", endpoint.port);
        assert_eq!(second.value(TEMPORARY).await, "0");
        assert_ne!(second.backend().await, backend, "it was cleaned in time, and the test shows nothing: {}", endpoint.port);
    }
}

/// Set by the client, or asked for when it connected; the same server is there for the next, and as it was.
#[tokio::test]
async fn a_server_is_cleaned_under_nobodys_timeout() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let mut first = endpoint.wire().await;
        let backend = first.backend().await;
        first.run(&many_tables()).await;
        first.run("SET statement_timeout = '2ms'").await;
        drop(first);
        let mut second = endpoint.wire().await;
        assert_eq!(second.value("SHOW statement_timeout").await, "0", "{}", endpoint.port);
        assert_eq!(second.value(TEMPORARY).await, "0");
        assert_eq!(second.backend().await, backend, "another server says nothing: {}", endpoint.port);
    }
    let endpoint = sidepool.transaction();
    let backend = endpoint.wire().await.backend().await;
    let mut first = endpoint.clone().parameter("options", "-c statement_timeout=10ms").wire().await;
    for text in ["BEGIN", "SET LOCAL statement_timeout = 0", &many_tables(), "COMMIT"] {
        first.run(text).await;
    }
    drop(first);
    let mut second = endpoint.wire().await;
    assert_eq!(second.value(TEMPORARY).await, "0");
    assert_eq!(second.backend().await, backend, "another server says nothing");
}

/// Its own cleaning is not to be stopped by what it takes away: it is the next client that would be told.
#[tokio::test]
async fn who_comes_after_a_function_is_not_told_of_its_timeout() {
    let postgres = Postgres::shared();
    postgres.new_database("leaks_much").await;
    let function = "CREATE FUNCTION leaves_much() RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR nth IN 1..300 LOOP \
        EXECUTE format('CREATE TEMP TABLE leak_%s (a int PRIMARY KEY)', nth); END LOOP; \
        PERFORM set_config('statement_timeout', '2ms', false); END $$";
    postgres.execute("leaks_much", function).await;
    let sidepool = Sidepool::with_one_server();
    let endpoint = sidepool.transaction().database("leaks_much");
    let (mut first, mut second) = (endpoint.wire().await, endpoint.wire().await);
    let backend = first.backend().await;
    first.run("SELECT leaves_much()").await;
    assert_eq!(second.value("SHOW statement_timeout").await, "0");
    assert_eq!(second.value(TEMPORARY).await, "0");
    assert_eq!(second.backend().await, backend, "another server says nothing");
}

async fn try_row(row: &Row, extended: bool, direct: &Endpoint) {
    let what = row.make.iter().map(|(Sql(sql) | Bound(sql, _))| *sql).collect::<Vec<_>>().join("; ");
    let nobodys = shown(&mut direct.wire().await, row.look).await;
    let own = shown_to_maker(row, extended, direct).await;
    assert_ne!(own, nobodys, "{what}: the row says nothing");
    let own = if row.fate == Ends { &nobodys } else { &own };
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2")]);
    let endpoint = sidepool.transaction().database("leaks");
    let mut maker = endpoint.wire().await;
    let pid = maker.backend().await;
    let mut holder = occupied(&endpoint, &pid).await;
    for make in row.make {
        run(&mut maker, *make, extended).await;
    }
    let mut other = endpoint.wire().await;
    let mut begun = Box::pin(other.run("BEGIN"));
    let is_kept = tokio::time::timeout(Duration::from_millis(300), &mut begun).await.is_err();
    assert_eq!(is_kept, row.fate == Keeps, "{what}: whether the server stays with the client");
    if is_kept {
        assert_eq!(maker.backend().await, pid, "{what}");
        assert_eq!(shown(&mut maker, row.look).await, *own, "{what}");
        drop(maker);
        begun.await;
        assert_eq!(shown(&mut other, row.look).await, nobodys, "{what}: seen by another client");
    } else {
        drop(begun);
        assert_eq!(other.backend().await, pid, "{what}: another server says nothing");
        assert_eq!(shown(&mut other, row.look).await, nobodys, "{what}: seen by another client");
        holder.run("ROLLBACK").await;
        assert_ne!(maker.backend().await, pid, "{what}");
        assert_eq!(shown(&mut maker, row.look).await, *own, "{what}: seen by its own client");
    }
}

/// On a connection of its own.
async fn shown_to_maker(row: &Row, extended: bool, direct: &Endpoint) -> String {
    let mut maker = direct.wire().await;
    for make in row.make {
        run(&mut maker, *make, extended).await;
    }
    let own = shown(&mut maker, row.look).await;
    maker.send(&wire::terminate()).await;
    maker.until_closed().await;
    own
}

/// The other server, in a transaction.
async fn occupied(endpoint: &Endpoint, first: &str) -> Wire {
    let mut holder = endpoint.wire().await;
    let mut blocker = endpoint.wire().await;
    blocker.run("BEGIN").await;
    if blocker.backend().await == first {
        holder.run("BEGIN").await;
        blocker.run("ROLLBACK").await;
    } else {
        std::mem::swap(&mut holder, &mut blocker);
    }
    assert_ne!(holder.backend().await, first);
    holder
}

async fn run(client: &mut Wire, make: Make, extended: bool) {
    let frames = match make {
        Sql(sql) if extended && !sql.contains(';') => unnamed(sql),
        Sql(sql) => return client.run(sql).await,
        Bound(sql, values) => {
            let values: Vec<_> = values.iter().copied().map(Some).collect();
            [wire::parse("s", sql), wire::bind("", "s", &values), wire::execute("", 0)].concat()
        }
    };
    let replies = client.exchange(&[frames, wire::sync()]).await;
    assert!(replies.iter().all(|reply| reply.tag != b'E'), "{}", wire::show_in_full(&replies));
}

/// Its first row or its error.
async fn shown(client: &mut Wire, look: &str) -> String {
    let replies = client.query(look).await;
    replies.iter().find(|reply| matches!(reply.tag, b'D' | b'E')).map(wire::Reply::in_full).unwrap_or_default()
}
