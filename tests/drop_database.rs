//! Whoever wants a database for himself never meets 55006 because of our servers.
//!
//! PostgreSQL waits 5 s for others to leave the database. In that time we close whatever is idle, and keep nothing that
//! goes idle: that is all the trying again there needs to be.

mod common;

use common::wire::{self, show};
use common::{Endpoint, Postgres, Sidepool, until};

const DROPPED: &str = "C(DROP DATABASE) Z(I)";

/// Servers that nobody closes by the clock.
const PARKED: (&str, &str) = ("timeout-other-database-idle", "0");

impl Sidepool {
    fn both_ports(&self) -> [Endpoint; 2] {
        [self.session(), self.transaction()]
    }
}

/// Waits until so many servers, none of them busy, are in the database.
async fn holds(postgres: &Postgres, database: &str, servers: &str) {
    let mut watch = postgres.direct().wire().await;
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND state = 'idle'");
    until("the servers are parked", async || watch.value(&sql).await == servers).await;
}

#[tokio::test]
async fn idle_servers_of_every_pool_make_way() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE ROLE other SUPERUSER LOGIN PASSWORD 'secret'").await;
    let users = "[[users]]\nname = \"other\"\npassword = \"secret\"\n";
    let sidepool = Sidepool::configured(postgres, &[PARKED], users);
    for admin in sidepool.both_ports() {
        postgres.new_database("way").await;
        let mut still_there = Vec::new();
        for endpoint in sidepool.both_ports() {
            for user in ["postgres", "other"] {
                let mut client = endpoint.clone().database("way").user(user).wire().await;
                client.run("SELECT 1").await;
                still_there.push(client);
            }
        }
        // In session mode a server is its client's until that goes.
        still_there.drain(..2);
        holds(postgres, "way", "4").await;
        assert_eq!(admin.wire().await.shown("DROP DATABASE way").await, DROPPED);
    }
}

#[tokio::test]
async fn servers_that_are_busy_when_it_begins_make_way_when_they_are_done() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[PARKED, ("min-pool-size", "1")]);
    for admin in sidepool.both_ports() {
        postgres.new_database("busy").await;
        let mut client = sidepool.transaction().database("busy").wire().await;
        let pid = client.backend().await;
        client.send(&wire::query("SELECT pg_sleep(1)")).await;
        postgres.sleeps(&pid).await;
        assert_eq!(admin.wire().await.shown("DROP DATABASE busy").await, DROPPED);
        assert_eq!(show(&client.until(b'Z').await), "T D C(SELECT 1) Z(I)");
    }
}

#[tokio::test]
async fn servers_of_clients_that_have_just_left_make_way() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[PARKED]);
    for endpoint in sidepool.both_ports() {
        postgres.new_database("just_left").await;
        let mut client = endpoint.clone().database("just_left").wire().await;
        let pid = client.backend().await;
        client.run("BEGIN").await;
        client.send(&wire::query("SELECT pg_sleep(1000)")).await;
        postgres.sleeps(&pid).await;
        let mut admin = endpoint.wire().await;
        admin.run("SELECT 1").await;
        drop(client);
        assert_eq!(admin.shown("DROP DATABASE just_left").await, DROPPED);
    }
}

#[tokio::test]
async fn so_it_is_by_the_extended_protocol_and_for_copies_and_new_names() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[PARKED]);
    for admin in sidepool.both_ports() {
        let mut admin = admin.wire().await;
        postgres.new_database("first").await;
        for (database, sql) in [
            ("first", "CREATE DATABASE copy TEMPLATE first"),
            ("first", "ALTER DATABASE first RENAME TO second"),
            ("copy", "DROP DATABASE copy"),
            ("second", "DROP DATABASE second"),
        ] {
            sidepool.transaction().database(database).wire().await.run("SELECT 1").await;
            holds(postgres, database, "1").await;
            let told = show(&admin.exchange(&[common::unnamed(sql), wire::sync()]).await);
            assert!(told.starts_with("1 2 C("), "{sql}: {told}");
        }
    }
}

#[tokio::test]
async fn every_database_of_a_pipeline_makes_way() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[PARKED]);
    for admin in sidepool.both_ports() {
        let mut admin = admin.wire().await;
        postgres.new_database("original").await;
        for (databases, sql) in [
            (vec!["original"], vec!["CREATE DATABASE one TEMPLATE original", "CREATE DATABASE two TEMPLATE original"]),
            (vec!["one", "two"], vec!["ALTER DATABASE one RENAME TO uno", "ALTER DATABASE two RENAME TO due"]),
            (vec!["uno", "original", "due"], vec!["DROP DATABASE uno", "DROP DATABASE original", "DROP DATABASE due"]),
        ] {
            for database in databases {
                sidepool.transaction().database(database).wire().await.run("SELECT 1").await;
                holds(postgres, database, "1").await;
            }
            admin.send(&sql.iter().flat_map(|sql| wire::query(sql)).collect::<Vec<_>>()).await;
            for sql in sql {
                let told = show(&admin.until(b'Z').await);
                assert!(told.starts_with("C("), "{sql}: {told}");
            }
        }
    }
}

/// Any client can make any error: what it says is no reason to close the servers of others.
#[tokio::test]
async fn an_error_that_a_client_raises_closes_nobodys_servers() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[PARKED]);
    postgres.new_database("not_in_use").await;
    let mut client = sidepool.transaction().database("not_in_use").wire().await;
    let backend = client.backend().await;
    for admin in sidepool.both_ports() {
        let raise = "DO $$ BEGIN RAISE EXCEPTION 'in use' USING ERRCODE = '55006'; END $$";
        assert_eq!(admin.wire().await.shown(raise).await, "E(55006) Z(I)");
        assert_eq!(client.backend().await, backend);
    }
}

#[tokio::test]
async fn a_client_that_really_is_in_it_is_told_of() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[PARKED]);
    postgres.new_database("in_use").await;
    let mut client = sidepool.transaction().database("in_use").wire().await;
    client.run("BEGIN").await;
    let mut admin = sidepool.transaction().wire().await;
    assert_eq!(admin.shown("DROP DATABASE in_use").await, "E(55006) Z(I)");
    client.run("COMMIT").await;
    // Once it was answered, servers stay with their clients again.
    let kept = client.backend().await;
    assert_eq!(client.backend().await, kept);
    assert_eq!(admin.shown("DROP DATABASE in_use").await, DROPPED);
}
