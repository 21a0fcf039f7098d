//! sqlx: its cache of prepared statements, transactions and savepoints, streams, COPY, a listener, migrations.

use std::future::Future;
use std::process::exit;
use std::str::FromStr;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, Row};

type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() {
    run("one text many times", many_times()).await;
    run("more texts than the cache takes", small_cache()).await;
    run("the same text in two connections", two_connections()).await;
    run("transactions and savepoints", transactions()).await;
    run("a stream that is left in the middle", stream()).await;
    run("types in binary", types()).await;
    run("COPY", copy()).await;
    run("a schema change under a cached statement", schema_change()).await;
    run("settings stay", settings()).await;
    run("a listener", listener()).await;
    run("migrations", migrations()).await;
    run("many at once", at_once()).await;
}

async fn many_times() -> Done {
    let mut one = options().connect().await?;
    for i in 0..20 {
        assert_eq!(ten_times(&mut one, i).await?, i * 10);
        // Something between, so that another server may come next.
        assert_eq!(sqlx::raw_sql("SELECT 7").fetch_one(&mut one).await?.get::<i32, _>(0), 7);
        let once = sqlx::query_scalar::<_, i32>("SELECT $1 - 1").bind(i).persistent(false);
        assert_eq!(once.fetch_one(&mut one).await?, i - 1);
    }
    Ok(one.close().await?)
}

async fn small_cache() -> Done {
    let mut one = options().statement_cache_capacity(5).connect().await?;
    for i in 0..60 {
        let sql = format!("SELECT $1::int + {}", i % 13);
        assert_eq!(sqlx::query_scalar::<_, i32>(&sql).bind(i).fetch_one(&mut one).await?, i + i % 13);
    }
    Ok(one.close().await?)
}

async fn two_connections() -> Done {
    let (mut one, mut other) = (options().connect().await?, options().connect().await?);
    for i in 0..20 {
        assert_eq!(ten_times(&mut one, i).await?, i * 10);
        assert_eq!(sqlx::query_scalar::<_, i32>("SELECT $1::int + 1").bind(i).fetch_one(&mut other).await?, i + 1);
        assert_eq!(ten_times(&mut other, i).await?, i * 10);
    }
    one.close().await?;
    Ok(other.close().await?)
}

async fn transactions() -> Done {
    let mut one = options().connect().await?;
    one.execute("CREATE TABLE kept (a int PRIMARY KEY)").await?;
    let mut transaction = one.begin().await?;
    insert(&mut transaction, 1).await?;
    let mut savepoint = transaction.begin().await?;
    let twice = insert(&mut savepoint, 1).await.expect_err("it is there");
    assert!(twice.as_database_error().is_some_and(|error| error.is_unique_violation()), "{twice}");
    savepoint.rollback().await?;
    insert(&mut transaction, 2).await?;
    transaction.commit().await?;
    // One that is dropped is rolled back.
    insert(&mut *one.begin().await?, 3).await?;
    assert_eq!(sqlx::query_scalar::<_, i64>("SELECT sum(a) FROM kept").fetch_one(&mut one).await?, 3);
    Ok(one.close().await?)
}

async fn stream() -> Done {
    let mut one = options().connect().await?;
    {
        let mut rows = sqlx::query("SELECT generate_series(1, $1)").bind(5000).fetch(&mut one);
        let first = rows.try_next().await?.expect("there are 5000");
        assert_eq!(first.get::<i32, _>(0), 1);
    }
    assert_eq!(ten_times(&mut one, 7).await?, 70);
    let sum: i64 = sqlx::query_scalar::<_, i32>("SELECT generate_series(1, $1)").bind(5000).fetch(&mut one).map_ok(i64::from)
        .try_fold(0, |sum, n| async move { Ok(sum + n) }).await?;
    assert_eq!(sum, 5000 * 5001 / 2);
    Ok(one.close().await?)
}

async fn types() -> Done {
    let mut one = options().connect().await?;
    let (bytes, numbers) = (vec![0_u8, 1, 255], vec![Some(1_i32), None, Some(3)]);
    for _ in 0..3 {
        let row = sqlx::query("SELECT $1::bytea, $2::int[], $3::text, $4::float8, $5::bool, NULL::int")
            .bind(&bytes).bind(&numbers).bind("ümläut").bind(1.5_f64).bind(true).fetch_one(&mut one).await?;
        assert_eq!((row.get::<Vec<u8>, _>(0), row.get::<Vec<Option<i32>>, _>(1)), (bytes.clone(), numbers.clone()));
        assert_eq!((row.get::<String, _>(2), row.get::<f64, _>(3), row.get::<bool, _>(4)), ("ümläut".into(), 1.5, true));
        assert_eq!(row.get::<Option<i32>, _>(5), None);
    }
    Ok(one.close().await?)
}

async fn copy() -> Done {
    let mut one = options().connect().await?;
    one.execute("CREATE TABLE copied (a int)").await?;
    let lines: String = (0..5000).map(|i| format!("{i}\n")).collect();
    let mut sink = one.copy_in_raw("COPY copied FROM STDIN").await?;
    sink.send(lines.as_bytes()).await?;
    assert_eq!(sink.finish().await?, 5000);
    let sink = one.copy_in_raw("COPY copied FROM STDIN").await?;
    sink.abort("no more").await?;
    {
        let out: Vec<_> = one.copy_out_raw("COPY (SELECT a FROM copied ORDER BY a) TO STDOUT").await?.try_collect().await?;
        assert!(out.concat() == lines.as_bytes());
    }
    Ok(one.close().await?)
}

async fn schema_change() -> Done {
    let mut one = options().connect().await?;
    one.execute("CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)").await?;
    let sql = "SELECT * FROM changing WHERE a = $1";
    assert_eq!(sqlx::query(sql).bind(1).fetch_one(&mut one).await?.len(), 1);
    one.execute("ALTER TABLE changing ADD b int").await?;
    // As with PostgreSQL itself, the text that was prepared before says so once, and is prepared anew.
    let _ = sqlx::query(sql).bind(1).fetch_one(&mut one).await;
    one.clear_cached_statements().await?;
    assert_eq!(sqlx::query(sql).bind(1).fetch_one(&mut one).await?.len(), 2);
    Ok(one.close().await?)
}

async fn settings() -> Done {
    let (mut one, mut other) = (options().connect().await?, options().connect().await?);
    one.execute("SET statement_timeout = '77s'").await?;
    for _ in 0..5 {
        assert_eq!(timeout_of(&mut one).await?, "77s");
        assert_eq!(timeout_of(&mut other).await?, "0");
    }
    one.close().await?;
    Ok(other.close().await?)
}

async fn listener() -> Done {
    let mut listener = PgListener::connect(&url()).await?;
    listener.listen("news").await?;
    let mut one = options().connect().await?;
    sqlx::query("SELECT pg_notify('news', $1)").bind("hello").execute(&mut one).await?;
    assert_eq!(listener.recv().await?.payload(), "hello");
    Ok(one.close().await?)
}

/// It takes a session lock for as long as it runs.
async fn migrations() -> Done {
    let directory = std::env::temp_dir().join(format!("sqlx-migrations-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("1_one.sql"), "CREATE TABLE migrated (a int);")?;
    std::fs::write(directory.join("2_two.sql"), "INSERT INTO migrated VALUES (1); ALTER TABLE migrated ADD b int;")?;
    let migrator = Migrator::new(directory.clone()).await?;
    let pool = pool(3).await?;
    for done in futures_util::future::join_all((0..2).map(|_| migrator.run(&pool))).await {
        done?;
    }
    assert_eq!(sqlx::query_scalar::<_, i64>("SELECT count(*) FROM migrated").fetch_one(&pool).await?, 1);
    pool.close().await;
    Ok(std::fs::remove_dir_all(directory)?)
}

async fn at_once() -> Done {
    let pool = pool(8).await?;
    let tasks: Vec<_> = (0..80)
        .map(|i| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut transaction = pool.begin().await?;
                let sql = format!("SELECT $1::int + {}", i % 7);
                let sum = sqlx::query_scalar::<_, i32>(&sql).bind(i).fetch_one(&mut *transaction).await?;
                transaction.commit().await?;
                Ok::<_, sqlx::Error>(sum == i + i % 7)
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await??);
    }
    pool.close().await;
    Ok(())
}

// ---- What the cases are made of

async fn run(name: &str, case: impl Future<Output = Done>) {
    match tokio::time::timeout(LIMIT, case).await {
        Ok(Ok(())) => println!("ok {name}"),
        failed => {
            eprintln!("failed: {name}: {failed:?}");
            exit(1);
        }
    }
}

fn url() -> String {
    std::env::var("DATABASE_URL").expect("it is set")
}

fn options() -> PgConnectOptions {
    PgConnectOptions::from_str(&url()).expect("it is a URL")
}

async fn pool(connections: u32) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new().max_connections(connections).connect_with(options()).await
}

async fn ten_times(one: &mut PgConnection, i: i32) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT $1 * 10").bind(i).fetch_one(one).await
}

async fn insert(one: &mut PgConnection, a: i32) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO kept VALUES ($1)").bind(a).execute(one).await.map(drop)
}

async fn timeout_of(one: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT current_setting('statement_timeout')").fetch_one(one).await
}
