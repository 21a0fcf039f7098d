//! tokio-postgres over TLS, with the certificate bound to the login, on both ports.

mod common;
#[path = "clients/rustls.rs"]
mod rustls_connector;

use std::sync::Arc;

use common::{Certificates, Postgres, Sidepool, at_once, until};
use rustls_connector::Rustls;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

#[tokio::test]
async fn tokio_postgres_over_tls_on_both_ports() {
    let (postgres, certificates) = (Postgres::shared(), Certificates::new());
    let pem = certificates.server().display().to_string();
    let flags = [("pool-size", "3"), ("client-tls-certificate", &*pem), ("client-tls-key", &pem)];
    let sidepool = Sidepool::start(postgres, &flags);
    for (port, database) in [(sidepool.session().port, "rust_session"), (sidepool.transaction().port, "rust_transaction")] {
        let endpoint = postgres.new_database(database).await;
        let mut config = Config::new();
        config.host("localhost").hostaddr([127, 0, 0, 1].into()).port(port).dbname(database);
        config.user(&endpoint.user).password(&endpoint.password);
        config.ssl_mode(SslMode::Require).channel_binding(ChannelBinding::Require);
        let tls = Rustls(certificates.connector(false));
        let (mut client, connection) = config.connect(tls.clone()).await.expect("it logs in");
        tokio::spawn(connection);
        transactions(&mut client).await;
        let client = Arc::new(client);
        a_pipeline(&client).await;
        cancel(postgres, database, &client, tls).await;
    }
}

async fn transactions(client: &mut Client) {
    client.batch_execute("CREATE TABLE kept (a int PRIMARY KEY)").await.expect("it is new");
    let insert = client.prepare("INSERT INTO kept VALUES ($1)").await.expect("there is such a table");
    let mut transaction = client.transaction().await.expect("BEGIN");
    transaction.execute(&insert, &[&1]).await.expect("it is the first");
    let savepoint = transaction.savepoint("again").await.expect("SAVEPOINT");
    let twice = savepoint.execute(&insert, &[&1]).await.expect_err("it is there");
    assert_eq!(twice.code(), Some(&SqlState::UNIQUE_VIOLATION));
    savepoint.rollback().await.expect("ROLLBACK TO");
    transaction.execute(&insert, &[&2]).await.expect("it is new");
    transaction.commit().await.expect("COMMIT");
    let row = client.query_one("SELECT array_agg(a ORDER BY a) FROM kept", &[]).await.expect("there are rows");
    assert_eq!(row.get::<_, Vec<i32>>(0), [1, 2]);
}

/// What is asked at once is sent at once.
async fn a_pipeline(client: &Arc<Client>) {
    let asked = (0..100).map(|i| {
        let client = Arc::clone(client);
        async move {
            let sql = format!("SELECT $1::int + {}", i % 7);
            client.query_one(&sql, &[&i]).await.map(|row| row.get::<_, i32>(0))
        }
    });
    let values: Vec<_> = at_once(asked).await.into_iter().map(|value| value.expect("none fails")).collect();
    assert_eq!(values, (0..100).map(|i| i + i % 7).collect::<Vec<_>>());
}

/// The request to cancel goes over TLS too.
async fn cancel(postgres: &Postgres, database: &str, client: &Client, tls: Rustls) {
    let cancelled = async {
        let mut watch = postgres.direct().wire().await;
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND wait_event = 'PgSleep'");
        until("the query sleeps", async || watch.value(&sql).await == "1").await;
        client.cancel_token().cancel_query(tls).await
    };
    let (ended, cancelled) = tokio::join!(client.batch_execute("SELECT pg_sleep(1000)"), cancelled);
    cancelled.expect("it is taken");
    assert_eq!(ended.expect_err("it would take long").code(), Some(&SqlState::QUERY_CANCELED));
    client.batch_execute("SELECT 1").await.expect("only the one was cancelled");
}
