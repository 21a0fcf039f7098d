//! Session mode: a client has a server as if there were no pooler. The nine things that even session poolers get wrong.

mod common;

use common::wire::{self, Wire, show, show_in_full};
use common::{Postgres, Sidepool, unnamed, until};

#[tokio::test]
async fn nine_1_reset_returns_to_the_startup_packets_value() {
    let sidepool = Sidepool::with_one_server();
    let ours =
        [("datestyle", "Postgres, MDY"), ("timezone", "America/Los_Angeles"), ("options", "-c intervalstyle=postgres_verbose")];
    let endpoint = ours.iter().fold(sidepool.session(), |endpoint, (name, value)| endpoint.parameter(name, value));
    // The second client gets the server of the first.
    for _ in 0..2 {
        let mut client = endpoint.wire().await;
        client.run("SET DateStyle = 'German'; SET TimeZone = 'UTC'; SET IntervalStyle = 'iso_8601'").await;
        client.run("RESET DateStyle; RESET TimeZone; RESET ALL").await;
        assert_eq!(client.value("SHOW DateStyle").await, "Postgres, MDY");
        assert_eq!(client.value("SHOW TimeZone").await, "America/Los_Angeles");
        assert_eq!(client.value("SHOW IntervalStyle").await, "postgres_verbose");
        client.run("SET TimeZone = 'UTC'").await;
        client.run("DISCARD ALL").await;
        assert_eq!(client.value("SHOW TimeZone").await, "America/Los_Angeles");
    }
    // And one who asked for nothing gets nothing of it.
    assert_ne!(sidepool.session().value("SHOW TimeZone").await, "America/Los_Angeles");
}

#[tokio::test]
async fn nine_2_any_startup_parameter_is_accepted_and_reported() {
    let sidepool = Sidepool::with_one_server();
    let endpoint = sidepool
        .session()
        .parameter("TIMEZONE", "Asia/Tokyo")
        .parameter("statement_timeout", "12345")
        .parameter("search_path", "pg_catalog, \"A b\"")
        .parameter("options", r"-c geqo=off --work-mem=3MB -cmy.x=a\ b");
    let mut client = endpoint.wire().await;
    assert!(client.parameters.contains(&("TimeZone".into(), "Asia/Tokyo".into())), "{:?}", client.parameters);
    for (name, value) in [
        ("statement_timeout", "12345ms"),
        ("search_path", "pg_catalog, \"A b\""),
        ("geqo", "off"),
        ("work_mem", "3MB"),
        ("my.x", "a b"),
    ] {
        assert_eq!(client.value(&format!("SHOW {name}")).await, value, "{name}");
    }
}

#[tokio::test]
async fn nine_3_the_pid_is_the_real_one() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    for _ in 0..2 {
        let mut client = sidepool.session().wire().await;
        assert_eq!(client.backend().await, client.pid().to_string());
    }
    let mut client = sidepool.session().wire().await;
    client.run("LISTEN nine_3").await;
    let replies = client.query("NOTIFY nine_3").await;
    let notification = replies.iter().find(|reply| reply.tag == b'A').expect("one's own NOTIFY comes back");
    assert_eq!(notification.body[..4], client.pid().to_be_bytes());
    postgres.terminate(&client.pid().to_string()).await;
    assert_eq!(show(&client.until_closed().await), "E(57P01)");
}

#[tokio::test]
async fn nine_4_a_server_that_nobody_has_used_is_preferred() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3"), ("min-pool-size", "2")]);
    let mut first = sidepool.session().wire().await;
    first.run("CREATE TEMP TABLE nine_4 (a int)").await;
    let used = first.backend().await;
    drop(first);
    let mut fresh = sidepool.session().wire().await;
    // Either the used one was given, with nothing in it, or a fresh one.
    if fresh.backend().await == used {
        assert_eq!(fresh.shown("SELECT * FROM nine_4").await, "E(42P01) Z(I)");
    } else {
        assert_eq!(fresh.value("SELECT pg_my_temp_schema()").await, "0");
    }
}

#[tokio::test]
async fn nine_5_and_a_2_a_wrong_password_is_28p01() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let (_, greeting) = Wire::try_login(&endpoint.clone().password("wrong")).await;
        assert_eq!(show_in_full(&greeting), "E(FATAL | 28P01 | password authentication failed for user \"postgres\")");
        let (_, greeting) = Wire::try_login(&endpoint.user("nobody_at_all").password("wrong")).await;
        assert_eq!(show_in_full(&greeting), "E(FATAL | 28P01 | password authentication failed for user \"nobody_at_all\")");
    }
}

#[tokio::test]
async fn nine_6_client_encoding_is_spelt_as_the_server_spells_it() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        for spelling in ["utf-8", "UTF8", "unicode"] {
            let client = endpoint.clone().parameter("client_encoding", spelling).wire().await;
            let told: Vec<_> = client.parameters.iter().filter(|(name, _)| name == "client_encoding").collect();
            assert_eq!(told, [&("client_encoding".to_owned(), "UTF8".to_owned())], "{spelling} on port {}", endpoint.port);
        }
    }
}

#[tokio::test]
async fn nine_7_notices_of_the_start_up_reach_the_client() {
    let postgres = Postgres::shared();
    let database = postgres.new_database("nine_7").await.database;
    // A setting of the database that its library does not know (any longer) is a WARNING at the start of a session.
    postgres
        .execute("nine_7", "SET plpgsql.variable_conflict = 'error'; ALTER DATABASE nine_7 SET default_tablespace = 'not_there'")
        .await;
    postgres.execute("postgres", "ALTER DATABASE nine_7 SET temp_tablespaces = 'neither'").await;
    let (_, direct) = Wire::try_login(&postgres.direct().database(&database)).await;
    let sidepool = Sidepool::with_one_server();
    let (_, pooled) = Wire::try_login(&sidepool.session().database(&database)).await;
    let notices = |greeting: &[wire::Reply]| -> Vec<String> {
        greeting.iter().filter(|reply| reply.tag == b'N').map(wire::Reply::in_full).collect()
    };
    assert_eq!(notices(&pooled), notices(&direct));
}

#[tokio::test]
async fn nine_9_idle_servers_keep_no_database_from_being_dropped_or_copied() {
    let postgres = Postgres::shared();
    postgres.new_database("nine_9").await;
    let sidepool = Sidepool::start(postgres, &[("timeout-other-database-idle", "10min")]);
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let mut admin = endpoint.wire().await;
        let parked = endpoint.clone().database("nine_9").wire().await.backend().await;
        is_parked(&sidepool, &parked).await;
        admin.run("CREATE DATABASE nine_9_copy TEMPLATE nine_9").await;
        let parked = endpoint.clone().database("nine_9_copy").wire().await.backend().await;
        is_parked(&sidepool, &parked).await;
        admin.run("DROP DATABASE nine_9_copy").await;
    }
    // In a database that is not the upstream's own, servers go by themselves.
    let sidepool = Sidepool::start(postgres, &[("timeout-other-database-idle", "50ms")]);
    let pid = sidepool.transaction().database("nine_9").wire().await.backend().await;
    postgres.is_gone(&pid).await;
    // And dropped behind our back, it is 3D000 at the next login.
    sidepool.transaction().database("nine_9").wire().await.run("SELECT 1").await;
    postgres.execute("postgres", "DROP DATABASE nine_9 WITH (FORCE)").await;
    until("it is known that the database is gone", async || {
        let (_, greeting) = Wire::try_login(&sidepool.session().database("nine_9")).await;
        show(&greeting) == "E(3D000)"
    })
    .await;
}

/// Its client has gone, and the pooler has it back.
async fn is_parked(sidepool: &Sidepool, pid: &str) {
    sidepool.has_read().await;
    Postgres::shared().is_idle(pid).await;
    sidepool.has_read().await;
}

#[tokio::test]
async fn trap_14_a_server_is_discarded_and_reused() {
    let sidepool = Sidepool::with_one_server();
    let mut first = sidepool.session().wire().await;
    let pid = first.backend().await;
    first.run("SET statement_timeout = '5s'; SET ROLE app; CREATE TEMP TABLE trap_14 (a int)").await;
    first.run("PREPARE p AS SELECT 1; LISTEN trap_14; DECLARE c CURSOR WITH HOLD FOR SELECT 1").await;
    first.shown_batch(&[wire::parse("s", "SELECT 1"), wire::sync()], 1).await;
    first.send(&wire::terminate()).await;
    let mut second = sidepool.session().wire().await;
    assert_eq!(second.backend().await, pid);
    assert_eq!(second.value("SHOW statement_timeout").await, "0");
    assert_eq!(second.value("SELECT current_user").await, "postgres");
    assert_eq!(second.shown("SELECT * FROM trap_14").await, "E(42P01) Z(I)");
    assert_eq!(second.shown("EXECUTE p").await, "E(26000) Z(I)");
    assert_eq!(second.shown("SELECT pg_listening_channels()").await, "T C(SELECT 0) Z(I)");
    assert_eq!(second.shown("FETCH c").await, "E(34000) Z(I)");
    assert_eq!(second.shown_batch(&[wire::parse("s", "SELECT 2"), wire::sync()], 1).await, "1 Z(I)");
}

/// `DISCARD ALL` takes neither back: the connection goes with its client.
#[tokio::test]
async fn a_seed_and_a_library_are_given_to_nobody_else() {
    let sidepool = Sidepool::with_one_server();
    for text in ["SELECT setseed(0.5)", "LOAD 'plpgsql'"] {
        for frames in [wire::query(text), [unnamed(text), wire::sync()].concat()] {
            let mut first = sidepool.session().wire().await;
            let backend = first.backend().await;
            first.send(&frames).await;
            first.until(b'Z').await;
            drop(first);
            assert_ne!(sidepool.session().wire().await.backend().await, backend, "{text}");
        }
    }
}

#[tokio::test]
async fn a_12_the_next_session_has_its_own_application_name() {
    let sidepool = Sidepool::with_one_server();
    for name in ["first", "second", ""] {
        let mut client = sidepool.session().parameter("application_name", name).wire().await;
        assert_eq!(client.value("SHOW application_name").await, name);
        assert!(client.parameters.contains(&("application_name".into(), name.into())));
    }
}

#[tokio::test]
async fn locks_are_gone_at_once_when_their_client_is() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[("pool-size", "2")]);
    for says_goodbye in [true, false] {
        let mut holder = sidepool.session().wire().await;
        holder.run("SELECT pg_advisory_lock(4711); BEGIN; SELECT pg_advisory_xact_lock(4712)").await;
        let mut waiting = sidepool.session().wire().await;
        waiting.send(&wire::query("SELECT pg_advisory_lock(4711), pg_advisory_lock(4712)")).await;
        if says_goodbye {
            holder.send(&wire::terminate()).await;
        }
        drop(holder);
        assert_eq!(show(&waiting.until(b'Z').await), "T D C(SELECT 1) Z(I)");
        waiting.run("SELECT pg_advisory_unlock_all()").await;
    }
}

#[tokio::test]
async fn a_6_one_client_too_many_waits_and_is_served_in_its_turn() {
    let sidepool = Sidepool::with_one_server();
    let mut holder = sidepool.session().wire().await;
    let pid = holder.backend().await;
    let mut next = Wire::connect(sidepool.session().port).await;
    next.send(&wire::startup(&[("user", "postgres"), ("database", "postgres")])).await;
    let logging_in = tokio::spawn(async move {
        let greeting = next.authenticate("secret").await;
        (next, greeting)
    });
    assert_eq!(holder.value("SELECT 'still mine'").await, "still mine");
    holder.send(&wire::terminate()).await;
    let (mut next, greeting) = logging_in.await.unwrap();
    assert_eq!(greeting.last().map(|reply| reply.tag), Some(b'Z'), "{}", show(&greeting));
    assert_eq!(next.backend().await, pid);
}

#[tokio::test]
async fn a_6_and_a_8_a_wait_that_is_too_long_is_refused() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "1"), ("timeout-queue-wait", "300ms")]);
    let mut holder = sidepool.session().wire().await;
    let (_, greeting) = Wire::try_login(&sidepool.session()).await;
    let error = greeting.last().unwrap();
    assert_eq!((error.tag, error.field(b'S').as_deref()), (b'E', Some("FATAL")), "{}", show_in_full(&greeting));
    assert_eq!(holder.value("SELECT 'unharmed'").await, "unharmed");
}

#[tokio::test]
async fn a_1_what_is_written_through_the_pooler_is_there() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    for (table, endpoint) in [("a_1_session", sidepool.session()), ("a_1_transaction", sidepool.transaction())] {
        let client = endpoint.client().await;
        client.batch_execute(&format!("CREATE TABLE {table} (id int, name text)")).await.unwrap();
        for id in 0..10 {
            client.execute(&format!("INSERT INTO {table} VALUES ($1, $2)"), &[&id, &format!("name {id}")]).await.unwrap();
        }
        client.execute(&format!("UPDATE {table} SET name = 'changed' WHERE id = $1"), &[&3]).await.unwrap();
        client.execute(&format!("DELETE FROM {table} WHERE id >= $1"), &[&5]).await.unwrap();
        let seen = postgres.direct().value(&format!("SELECT string_agg(id || name, ',' ORDER BY id) FROM {table}")).await;
        assert_eq!(seen, "0name 0,1name 1,2name 2,3changed,4name 4");
    }
}

#[tokio::test]
async fn a_26_a_client_that_says_nothing_for_too_long_is_told_and_closed() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("timeout-client-idle", "300ms")]);
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let mut client = endpoint.wire().await;
        assert_eq!(client.value("SELECT 1").await, "1");
        let told = client.until_closed().await;
        assert_eq!(
            told.last().and_then(|reply| reply.field(b'S')).as_deref(),
            Some("FATAL"),
            "port {}: {}",
            endpoint.port,
            show(&told)
        );
        assert_eq!(told.last().and_then(|reply| reply.field(b'C')).as_deref(), Some("57P05"));
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_inside_a_transaction_is_told_and_its_server_freed() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("timeout-idle-in-transaction", "300ms"), ("pool-size", "1")]);
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let mut client = endpoint.wire().await;
        client.run("BEGIN").await;
        let told = client.until_closed().await;
        assert_eq!(told.last().and_then(|reply| reply.field(b'C')).as_deref(), Some("25P03"), "{}", show(&told));
        assert_eq!(endpoint.wire().await.value("SELECT 1").await, "1");
    }
}
