//! What applications and their tools do with a session, on the transaction port: many of them on few servers.

mod common;

use std::process::Command;
use std::time::Duration;

use common::wire::Wire;
use common::{Endpoint, Postgres, Sidepool};

/// Row-level security by a setting of the session, as PostgREST-like and multi-tenant applications have it.
#[tokio::test]
async fn each_tenant_sees_its_own_rows_and_no_others() {
    const TENANTS: u32 = 16;
    let schema = format!(
        "CREATE TABLE rows (tenant int, n int); INSERT INTO rows SELECT t, n FROM generate_series(1, {TENANTS}) t, generate_series(1, 5) n; \
         ALTER TABLE rows ENABLE ROW LEVEL SECURITY; GRANT SELECT, INSERT ON rows TO app; \
         CREATE POLICY own ON rows USING (tenant = current_setting('app.user_id')::int)"
    );
    let direct = Postgres::shared().new_database("tenants").await;
    Postgres::shared().execute(&direct.database, &schema).await;
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3")]);
    let tenants = (1..=TENANTS).map(|tenant| {
        let endpoint = sidepool.transaction().database("tenants").user("app");
        async move {
            let mut client = endpoint.wire().await;
            let others = tenant % TENANTS + 1;
            client.run(&format!("SET app.user_id = '{tenant}'")).await;
            for turn in 0..40 {
                let seen = client.value("SELECT string_agg(DISTINCT tenant::text, ',') || ' ' || count(*) FROM rows").await;
                assert_eq!(seen, format!("{tenant} 5"), "turn {turn}");
                match turn % 4 {
                    0 => client.run(&format!("SELECT set_config('app.user_id', '{tenant}', false)")).await,
                    // What another request's tenant is for one transaction only.
                    1 => client.run(&format!("BEGIN; SET LOCAL app.user_id = '{others}'; SELECT * FROM rows; COMMIT")).await,
                    2 => client.run(&format!("BEGIN; SET app.user_id = '{others}'; ROLLBACK")).await,
                    _ => {
                        let stolen = client.query(&format!("INSERT INTO rows VALUES ({others}, 0)")).await;
                        assert_eq!(stolen[0].field(b'C').as_deref(), Some("42501"));
                    }
                }
            }
        }
    });
    common::at_once(tenants).await;
}

/// `prisma migrate deploy` from two machines at once: the second waits, on its own server, and then has the lock.
#[tokio::test]
async fn migrations_wait_for_each_other() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3")]);
    let direct = Postgres::shared().new_database("migrations").await;
    let endpoint = sidepool.transaction().database(&direct.database);
    let (mut first, mut second) = (endpoint.wire().await, endpoint.wire().await);
    let lock = "SELECT pg_advisory_lock(72707369)";
    first.run(lock).await;
    let mut waiting = Box::pin(second.run(lock));
    // The application goes on meanwhile.
    let mut third = endpoint.wire().await;
    first.run("BEGIN; CREATE TABLE migrated (a int); COMMIT").await;
    assert_eq!(third.value("SELECT count(*) FROM migrated").await, "0");
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    assert_eq!(first.value("SELECT pg_advisory_unlock(72707369)").await, "t");
    waiting.await;
    assert_eq!(second.value("SELECT to_regclass('migrated') IS NULL").await, "f");
    // Who dies with the lock gives it back.
    drop(second);
    first.run(lock).await;
}

/// What Rails sends: settings at connect, a lock of the session around migrations, one migration outside a transaction.
#[tokio::test]
async fn rails_migrates_beside_its_own_workers() {
    const LOCK: &str = "4471289183047126515";
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2")]);
    let direct = Postgres::shared().new_database("rails").await;
    let endpoint = sidepool.transaction().database(&direct.database);
    let (mut first, mut second) = (as_rails(&endpoint).await, as_rails(&endpoint).await);
    assert_eq!(first.value(&format!("SELECT pg_try_advisory_lock({LOCK})")).await, "t");
    assert_eq!(second.value(&format!("SELECT pg_try_advisory_lock({LOCK})")).await, "f");
    first.run("CREATE TABLE schema_migrations (version varchar NOT NULL PRIMARY KEY)").await;
    first.run("BEGIN").await;
    first.run("CREATE TABLE jobs (id bigserial PRIMARY KEY, done boolean DEFAULT false)").await;
    first.run("INSERT INTO schema_migrations (version) VALUES ('20260101000000') RETURNING version").await;
    first.run("COMMIT").await;
    let workers = (0..6).map(|_| {
        let endpoint = endpoint.clone();
        async move {
            let mut worker = as_rails(&endpoint).await;
            for _ in 0..10 {
                worker.run("INSERT INTO jobs DEFAULT VALUES").await;
                assert_eq!(worker.value("SHOW statement_timeout").await, "31s");
                worker.run("BEGIN").await;
                let job = "SELECT id FROM jobs WHERE NOT done ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED";
                worker.run(&format!("UPDATE jobs SET done = true WHERE id = ({job})")).await;
                worker.run("COMMIT").await;
            }
        }
    });
    let migrates = async {
        first.run("CREATE INDEX CONCURRENTLY on_done ON jobs (done)").await;
        first.run("INSERT INTO schema_migrations (version) VALUES ('20260101000001')").await;
        assert_eq!(first.value(&format!("SELECT pg_advisory_unlock({LOCK})")).await, "t");
    };
    tokio::join!(common::at_once(workers), migrates);
    assert_eq!(second.value(&format!("SELECT pg_try_advisory_lock({LOCK})")).await, "t");
    assert_eq!(second.value("SELECT count(*) || ' ' || count(*) FILTER (WHERE done) FROM jobs").await, "60 60");
    assert_eq!(second.value("SELECT count(*) FROM schema_migrations").await, "2");
    assert_eq!(second.value("SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid = 'jobs'::regclass").await, "t");
}

/// Connected, with what Rails sets before anything else.
async fn as_rails(endpoint: &Endpoint) -> Wire {
    let mut client = endpoint.wire().await;
    for set in [
        "SET client_min_messages TO 'warning'",
        "SET standard_conforming_strings = on",
        "SET intervalstyle = iso_8601",
        "SET SESSION timezone TO 'UTC'",
        "SET SESSION statement_timeout TO '31s'",
    ] {
        client.run(set).await;
    }
    client
}

#[tokio::test]
async fn a_database_is_dumped_and_restored() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[("pool-size", "4")]);
    postgres.new_database("dumped").await;
    postgres.new_database("restored").await;
    let schema = "CREATE SCHEMA \"Odd name\"; CREATE TABLE \"Odd name\".t (id serial PRIMARY KEY, a text DEFAULT 'x', b bytea); \
        INSERT INTO \"Odd name\".t (a, b) SELECT repeat('r', n % 50), decode(lpad(to_hex(n), 8, '0'), 'hex') FROM generate_series(1, 5000) n; \
        CREATE INDEX ON \"Odd name\".t (a); CREATE VIEW v AS SELECT a, count(*) FROM \"Odd name\".t GROUP BY a; \
        CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql SET work_mem = '5MB' AS $$ BEGIN RETURN $1; END $$; \
        CREATE MATERIALIZED VIEW m AS SELECT f(1) AS a; SELECT lo_from_bytea(4711, 'large')";
    postgres.execute("dumped", schema).await;
    let place = tempfile::tempdir().expect("the temporary directory is writable");
    let dump = place.path().join("dump").display().to_string();
    // Another client with settings of its own.
    let mut other = sidepool.transaction().database("restored").wire().await;
    other.run("SET search_path = nowhere; SET DateStyle = 'German'").await;
    let pooled = sidepool.transaction();
    // Several sessions share a snapshot.
    run("pg_dump", &pooled, "dumped", &["--format=directory", "--jobs=3", "--file", &dump]);
    run("pg_restore", &pooled, "restored", &["--jobs=3", "--exit-on-error", "--dbname=restored", &dump]);
    let direct = postgres.direct();
    let before = run("pg_dump", &direct, "dumped", &[]);
    assert!(before.contains("CREATE MATERIALIZED VIEW"), "{before}");
    assert!(before == run("pg_dump", &direct, "restored", &[]), "what was restored is not what was dumped");
    assert!(before == run("pg_dump", &pooled, "restored", &[]), "dumped as one text");
    assert_eq!(other.value("SHOW search_path").await, "nowhere");
}

/// A program of PostgreSQL's; what it printed, but for the key that its later releases make up each time.
fn run(program: &str, endpoint: &Endpoint, database: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).env("PGHOST", "127.0.0.1").env("PGPORT", endpoint.port.to_string());
    command.env("PGUSER", &endpoint.user).env("PGPASSWORD", &endpoint.password);
    if program == "pg_dump" {
        command.arg(database);
    }
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
}
