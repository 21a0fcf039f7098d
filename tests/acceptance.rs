//! What the hosted pooler's own tests expect, as far as no other test of this project has it; named by the case's number in
//! our list of them.

mod common;

use std::sync::Arc;

use common::wire::{self, Wire, show, show_in_full};
use common::{Plan, Postgres, Sidepool, at_once, until};
use rustix::process::Signal;

#[tokio::test]
async fn a_01_what_is_written_through_either_port_stands_at_the_origin() {
    let sidepool = Sidepool::with_one_server();
    let origin = Postgres::shared().direct();
    for (endpoint, table) in [(sidepool.session(), "a_01_session"), (sidepool.transaction(), "a_01_transaction")] {
        let steps = [
            (format!("CREATE TABLE {table} AS SELECT 1 AS id, 'one' AS text"), "1 one"),
            (format!("INSERT INTO {table} VALUES (2, 'two')"), "1 one, 2 two"),
            (format!("UPDATE {table} SET text = 'changed' WHERE id = 1"), "1 changed, 2 two"),
            (format!("DELETE FROM {table} WHERE id = 2"), "1 changed"),
        ];
        let read = format!("SELECT string_agg(id || ' ' || text, ', ' ORDER BY id) FROM {table}");
        for (written, found) in steps {
            Wire::login(&endpoint).await.query(&written).await;
            assert_eq!(origin.value(&read).await, found, "{written}");
            assert_eq!(endpoint.value(&read).await, found, "{written}");
        }
        origin.value(&format!("DROP TABLE {table}; SELECT 1")).await;
    }
}

#[tokio::test]
async fn a_03_a_project_that_does_not_exist_is_named_to_this_machine() {
    let url = Postgres::shared().direct().url();
    let file = format!("[projects.shop]\nupstream = \"{url}\"\n[projects.default]\nupstream = \"{url}\"\n");
    let sidepool = Sidepool::launch(&[], &file).unwrap();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let nowhere = [
            endpoint.clone().user("postgres.nonexistent_tenant"),
            endpoint.clone().parameter("options", "-c reference=nonexistent_tenant"),
            endpoint.clone().user("postgres.nonexistent_tenant").password("wrong"),
        ];
        for endpoint in nowhere {
            let (mut client, told) = Wire::try_login(&endpoint).await;
            let told = show_in_full(&told);
            assert!(told.starts_with("E(FATAL | 28000 | project \"nonexistent_tenant\" does not exist | "), "{told}");
            assert!(told.contains("\"shop\"") && told.contains("\"default\""), "{told}");
            assert_eq!(client.until_closed().await, []);
        }
        for user in ["postgres.shop", "postgres.default", "postgres"] {
            assert_eq!(endpoint.clone().user(user).value("SELECT current_user").await, "postgres");
        }
    }
}

#[tokio::test]
async fn a_03_without_listed_projects_every_name_is_the_one_upstream() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let endpoint = endpoint.user("postgres.abcdefghijklmnopqrst");
        assert_eq!(endpoint.value("SELECT current_user || ' ' || current_database()").await, "postgres postgres");
    }
}

#[tokio::test]
async fn a_05_names_that_cannot_be_and_packets_that_cannot_be_read() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        for name in ["two\nlines".to_owned(), "bell\u{7}".to_owned(), "x".repeat(64)] {
            for endpoint in [endpoint.clone().user(&name), endpoint.clone().database(&name)] {
                let (_, told) = Wire::try_login(&endpoint).await;
                let told = show_in_full(&told);
                assert!(told.starts_with("E(FATAL | 28000 | invalid user or database name | "), "{told}");
            }
        }
        for options in ["", " "] {
            assert_eq!(endpoint.clone().parameter("options", options).value("SELECT 1").await, "1");
        }
        let mut packet = endpoint.packet(0);
        *packet.last_mut().unwrap() = b'x';
        let mut client = Wire::connect(endpoint.port).await;
        client.send(&packet).await;
        assert_eq!(show(&client.until_closed().await), "E(08P01)");
    }
}

#[tokio::test]
async fn a_16_twenty_queries_at_once_on_one_connection_prepared_and_not() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let client = Arc::new(endpoint.client().await);
        for round in 0..5_i32 {
            let asked = at_once((0..20_i32).map(|i| {
                let client = Arc::clone(&client);
                async move {
                    let statement = client.prepare("SELECT $1::int + 1").await.unwrap();
                    client.query_one(&statement, &[&(i * round)]).await.unwrap().get::<_, i32>(0)
                }
            }));
            assert_eq!(asked.await, (0..20).map(|i| i * round + 1).collect::<Vec<_>>());
            let simple = at_once((0..20).map(|i| {
                let client = Arc::clone(&client);
                async move { client.simple_query(&format!("SELECT {i}")).await.unwrap().len() }
            }));
            // RowDescription, row, CommandComplete.
            assert_eq!(simple.await, [3; 20]);
        }
        drop(client);
        assert_eq!(endpoint.value("SELECT 'next'").await, "next");
    }
}

#[tokio::test]
async fn a_21_a_smart_shutdown_lets_transactions_finish_and_tells_newcomers() {
    let postgres = Postgres::start(Plan::default());
    let sidepool = Sidepool::start(&postgres, &[("timeout-server-down", "300ms"), ("workers", "1")]);
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        endpoint.wire().await.run("SELECT 1").await;
    }
    let mut in_session = sidepool.session().wire().await;
    let mut in_transaction = sidepool.transaction().wire().await;
    for client in [&mut in_session, &mut in_transaction] {
        client.run("BEGIN; CREATE TABLE IF NOT EXISTS a_21 (a int)").await;
        client.run("COMMIT; BEGIN; INSERT INTO a_21 VALUES (1)").await;
    }
    postgres.signal(Signal::TERM);
    until("PostgreSQL shuts down", async || {
        let (_, told) = Wire::try_login(&postgres.direct()).await;
        show(&told) == "E(57P03)"
    })
    .await;
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        // Who needs a server of their own, and who needs a database that nobody has been in.
        let others = endpoint.clone().database("template1");
        let (_, told) = Wire::try_login(&others).await;
        assert_eq!(show_in_full(&told), "E(FATAL | 57P03 | the database system is shutting down)");
    }
    for client in [&mut in_session, &mut in_transaction] {
        assert_eq!(client.shown("INSERT INTO a_21 VALUES (2)").await, "C(INSERT 0 1) Z(T)");
        assert_eq!(client.shown("COMMIT").await, "C(COMMIT) Z(I)");
    }
    assert_eq!(in_session.value("SELECT count(*) FROM a_21").await, "4");
}

#[tokio::test]
async fn a_21_a_fast_shutdown_ends_who_holds_a_server_and_no_other() {
    let postgres = Postgres::start(Plan::default());
    let sidepool = Sidepool::start(&postgres, &[("timeout-server-down", "300ms"), ("workers", "1")]);
    let mut idle = sidepool.transaction().wire().await;
    idle.run("SELECT 1").await;
    let mut in_session = sidepool.session().wire().await;
    let mut in_transaction = sidepool.transaction().wire().await;
    in_transaction.run("BEGIN").await;
    postgres.signal(Signal::INT);
    for client in [&mut in_session, &mut in_transaction] {
        let told = client.until_closed().await;
        assert_eq!(show_in_full(&told), "E(FATAL | 57P01 | terminating connection due to administrator command)");
    }
    // Whoever comes while it is down is told so, in time, and so is who was idle at its next query.
    let told = show(&idle.query_or_end("SELECT 1").await);
    assert!(["E(57P03) Z(I)", "E(08006) Z(I)"].contains(&&*told), "{told}");
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let (mut client, greeting) = Wire::try_login(&endpoint).await;
        let told = match greeting.last().map(|reply| reply.tag) {
            Some(b'Z') => show(&client.query_or_end("SELECT 1").await),
            _ => show(&greeting),
        };
        assert!(["E(57P03)", "E(08006)", "E(57P03) Z(I)", "E(08006) Z(I)"].contains(&&*told), "{told}");
    }
}

#[tokio::test]
async fn a_23_a_postgresql_that_is_replaced_by_the_next_version() {
    let old = Postgres::of_version(15);
    let port = old.port;
    let sidepool = Sidepool::start(&old, &[("workers", "1"), ("timeout-server-down", "20s")]);
    let mut idle = sidepool.transaction().parameter("application_name", "idle").wire().await;
    idle.run("SET TimeZone = 'Asia/Tokyo'").await;
    idle.exchange(&[wire::parse("s", "SELECT current_setting('server_version_num')"), wire::sync()]).await;
    let mut in_session = sidepool.session().wire().await;
    in_session.run("SELECT 1").await;
    drop(old);
    let told = show(&in_session.until_closed().await);
    assert!(["", "E(57P01)"].contains(&&*told), "{told}");
    let new = Postgres::start(Plan { major: Some(16), port: Some(port), ..Plan::default() });

    // Who was idle goes on with what it has set and prepared, and hears of the new version.
    let run = [wire::bind("", "s", &[]), wire::execute("", 0), wire::sync()].concat();
    let replies = idle.exchange(&[run]).await;
    let row = replies.iter().find(|reply| reply.tag == b'D').unwrap_or_else(|| panic!("{}", show_in_full(&replies)));
    assert!(row.values()[0].as_ref().is_some_and(|version| version.starts_with("16")), "{}", show_in_full(&replies));
    let told = idle.parameters.iter().rev().find(|(name, _)| name == "server_version");
    assert!(told.is_some_and(|(_, version)| version.starts_with("16")), "{told:?}");
    assert_eq!(idle.value("SHOW TimeZone").await, "Asia/Tokyo");
    assert_eq!(idle.value("SHOW application_name").await, "idle");

    let mut expected = new.direct().wire().await.parameters;
    expected.sort();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let mut client = endpoint.wire().await;
        let mut told = client.parameters.clone();
        told.sort();
        assert_eq!(told, expected);
        assert_eq!(client.value("SHOW server_version_num").await[..2], *"16");
    }
}

#[tokio::test]
async fn a_25_stored_passwords_serve_every_method_and_a_verifier_only_scram() {
    let postgres = Postgres::shared();
    let stored = ["p_md5", "p_clear", "p_scram"].map(|name| format!("[[users]]\nname = \"{name}\"\npassword = \"secret\"\n"));
    let sidepool = Sidepool::configured(postgres, &[], &stored.concat());
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        for user in ["p_md5", "p_clear", "p_scram"] {
            assert_eq!(endpoint.clone().user(user).value("SELECT current_user").await, user);
        }
    }
    // With the same verifier on both sides the client's own key opens the upstream; the others need the password itself.
    let kept = postgres.direct().value("SELECT rolpassword FROM pg_authid WHERE rolname = 'p_scram'").await;
    let users = ["p_md5", "p_clear", "p_scram"].map(|name| format!("[[users]]\nname = \"{name}\"\npassword = \"{kept}\"\n"));
    let sidepool = Sidepool::configured(postgres, &[], &users.concat());
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        assert_eq!(endpoint.clone().user("p_scram").value("SELECT current_user").await, "p_scram");
        for user in ["p_md5", "p_clear"] {
            let (_, told) = Wire::try_login(&endpoint.clone().user(user)).await;
            let told = show_in_full(&told);
            let expected = "E(FATAL | 28000 | the pooler has no credential that the upstream server accepts";
            assert!(told.starts_with(expected) && told.contains("scram-sha-256"), "the hint says what to do: {told}");
        }
    }
    // And who lists md5's hash is told at the start.
    let hash = "[[users]]\nname = \"p_md5\"\npassword = \"md5a3556571e93b0d20722ba62be61e8c2d\"\n";
    let refusal = Sidepool::launch(&[], &format!("upstream = \"{}\"\n{hash}", postgres.direct().url())).unwrap_err();
    assert!(refusal.contains("has an md5 hash for a password"), "{refusal}");
}
