//! From the first byte to the first ReadyForQuery. Tests are named by the trap they keep shut.

mod common;

use common::wire::{self, Wire, show, show_in_full};
use common::{Endpoint, Postgres, Sidepool};

fn packet(endpoint: &Endpoint) -> Vec<u8> {
    wire::startup(&[("user", &endpoint.user), ("database", &endpoint.database)])
}

/// The same with another version word.
fn versioned(major: u16, minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = wire::startup(parameters);
    packet[4..6].copy_from_slice(&major.to_be_bytes());
    packet[6..8].copy_from_slice(&minor.to_be_bytes());
    packet
}

async fn refused(port: u16, bytes: &[u8]) -> String {
    let mut wire = Wire::connect(port).await;
    wire.send(bytes).await;
    show(&wire.until_closed().await)
}

#[tokio::test]
async fn trap_44_and_55_start_up_byte_by_byte() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let mut client = Wire::connect(endpoint.port).await;
        for byte in packet(&endpoint) {
            client.send(&[byte]).await;
            tokio::task::yield_now().await;
        }
        let greeting = client.authenticate(&endpoint.password).await;
        assert_eq!(greeting.last().map(|reply| reply.tag), Some(b'Z'));
        for byte in wire::query("SELECT 'in pieces'") {
            client.send(&[byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.awaited_value().await, "in pieces");
    }
}

#[tokio::test]
async fn trap_44_start_up_packets_of_up_to_ten_thousand_bytes() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let fitting = endpoint.clone().parameter("my.long", &"x".repeat(9_900));
        let mut client = fitting.wire().await;
        assert_eq!(client.value("SELECT length(current_setting('my.long'))").await, "9900");
        let beyond = wire::startup(&[("user", "postgres"), ("my.long", &"x".repeat(10_000))]);
        assert_eq!(refused(endpoint.port, &beyond[..200]).await, "E(08P01)");
    }
}

#[tokio::test]
async fn trap_45_gss_is_declined_and_the_login_goes_on() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("client-tls", "off")]);
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let mut client = Wire::connect(endpoint.port).await;
        client.send(&wire::gss_request()).await;
        assert_eq!(client.byte().await, b'N');
        client.send(&wire::ssl_request()).await;
        assert_eq!(client.byte().await, b'N');
        client.send(&packet(&endpoint)).await;
        assert_eq!(client.authenticate(&endpoint.password).await.last().map(|reply| reply.tag), Some(b'Z'));
        assert_eq!(client.value("SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn trap_45_bytes_behind_a_request_for_tls_are_never_taken_for_encrypted_ones() {
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    let endpoint = sidepool.transaction();
    let mut smuggler = Wire::connect(endpoint.port).await;
    smuggler.send(&[wire::ssl_request(), packet(&endpoint)].concat()).await;
    assert_eq!(smuggler.byte().await, b'S');
    // The packet is taken for a TLS record, and is none: an alert or a close, but no AuthenticationRequest.
    let rest = smuggler.bytes_until_closed().await;
    assert!(!rest.starts_with(b"R"), "{}", rest.escape_ascii());
    assert_eq!(endpoint.value("SELECT 'next'").await, "next");
}

#[tokio::test]
async fn trap_50_the_database_is_the_users_or_the_projects_where_none_is_named() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let mut client = Wire::connect(endpoint.port).await;
        client.send(&wire::startup(&[("user", "postgres")])).await;
        assert_eq!(client.authenticate("secret").await.last().map(|reply| reply.tag), Some(b'Z'));
        assert_eq!(client.value("SELECT current_database()").await, "postgres");
    }
}

#[tokio::test]
async fn trap_51_startup_parameters_of_every_kind_in_both_modes() {
    let sidepool = Sidepool::with_one_server();
    let settings = [
        ("application_name", "it's me", "it's me"),
        ("DATESTYLE", "German", "German, DMY"),
        ("timezone", "Europe/Vienna", "Europe/Vienna"),
        ("extra_float_digits", "2", "2"),
        ("statement_timeout", "54321", "54321ms"),
        ("search_path", "\"A b\", pg_catalog", "\"A b\", pg_catalog"),
        ("client_encoding", "latin1", "LATIN1"),
        ("my.own", "x y\\z", "x y\\z"),
    ];
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let plain = endpoint.clone();
        let asking = settings.iter().fold(endpoint, |endpoint, (name, value, _)| endpoint.parameter(name, value));
        // Once asked of a server, and once known.
        for _ in 0..2 {
            let mut client = asking.wire().await;
            for (name, told) in [("DateStyle", "German, DMY"), ("TimeZone", "Europe/Vienna"), ("client_encoding", "LATIN1")] {
                assert!(client.parameters.contains(&(name.into(), told.into())), "{name}: {:?}", client.parameters);
            }
            assert!(client.parameters.contains(&("application_name".into(), "it's me".into())));
            for (name, _, shown) in settings {
                assert_eq!(client.value(&format!("SHOW {name}")).await, shown, "{name}, port {}", plain.port);
            }
            if plain.port == sidepool.transaction().port {
                assert_eq!(plain.value("SHOW statement_timeout").await, "0");
                assert_eq!(client.value("SHOW statement_timeout").await, "54321ms");
            }
        }
    }
}

#[tokio::test]
async fn trap_51_an_unknown_or_wrong_parameter_has_the_servers_own_error() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    let wrong = [
        ("no_such_parameter", "1"),
        ("statement_timeout", "soon"),
        ("search_path", "\"unterminated"),
        ("TimeZone", "Nowhere/Never"),
        ("shared_buffers", "1MB"),
        ("work_mem", "1"),
    ];
    for (name, value) in wrong {
        let (_, expected) = Wire::try_login(&postgres.direct().parameter(name, value)).await;
        for endpoint in [sidepool.session(), sidepool.transaction()] {
            let port = endpoint.port;
            let (_, told) = Wire::try_login(&endpoint.clone().parameter(name, value)).await;
            let only_errors = |replies: &[wire::Reply]| show_in_full(&replies[replies.len() - 1..]);
            assert_eq!(only_errors(&told), only_errors(&expected), "{name}, port {port}");
            assert_eq!(endpoint.value("SELECT 'next'").await, "next");
        }
    }
}

#[tokio::test]
async fn trap_52_protocol_3_2_is_negotiated_once_and_its_keys_work() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let mut client = Wire::connect(endpoint.port).await;
        client.send(&versioned(3, 2, &[("user", "postgres"), ("database", "postgres")])).await;
        let greeting = client.authenticate("secret").await;
        assert!(!greeting.iter().any(|reply| reply.tag == b'v'), "3.2 is spoken: {}", show(&greeting));
        assert!((8..=260).contains(&client.key_data.len()));
        let pid = client.backend().await;
        client.send(&wire::query("SELECT pg_sleep(1000)")).await;
        postgres.sleeps(&pid).await;
        client.cancel().await;
        assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(I)");
        drop(client);

        let mut client = Wire::connect(endpoint.port).await;
        client.send(&versioned(3, 9999, &[("user", "postgres"), ("database", "postgres"), ("_pq_.new", "1")])).await;
        let mut first = client.next().await;
        let mut negotiations = Vec::new();
        while first.tag == b'v' {
            negotiations.push(first.body.clone());
            first = client.next().await;
        }
        assert_eq!(negotiations.len(), 1);
        assert_eq!(negotiations[0], [&[0, 3, 0, 2, 0, 0, 0, 1][..], b"_pq_.new\0"].concat());
    }
}

#[tokio::test]
async fn trap_53_options_in_every_spelling_and_with_escapes() {
    let sidepool = Sidepool::with_one_server();
    let options = [
        (r"-c search_path=a,\ b", "search_path", "a, b"),
        ("-csearch_path=pg_catalog", "search_path", "pg_catalog"),
        ("--search_path=pg_catalog", "search_path", "pg_catalog"),
        ("--lock-timeout=3s", "lock_timeout", "3s"),
        ("-c lock_timeout=1s -c geqo=off", "geqo", "off"),
        (r"-c my.x=back\\slash", "my.x", r"back\slash"),
        ("  -c   geqo=off  ", "geqo", "off"),
        ("-c DateStyle=German", "datestyle", "German, DMY"),
        ("", "geqo", "on"),
    ];
    for (options, name, expected) in options {
        for endpoint in [Postgres::shared().direct(), sidepool.session(), sidepool.transaction()] {
            let got = endpoint.clone().parameter("options", options).value(&format!("SHOW {name}")).await;
            assert_eq!(got, expected, "{options:?} on port {}", endpoint.port);
        }
    }
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        for options in ["-c", "--", "-c no_value", "nonsense", "-c search_path=\"x"] {
            let (_, greeting) = Wire::try_login(&endpoint.clone().parameter("options", options)).await;
            assert_eq!(greeting.last().map(|reply| reply.tag), Some(b'E'), "{options:?}: {}", show(&greeting));
        }
        assert_eq!(endpoint.value("SELECT 'next'").await, "next");
    }
}

#[tokio::test]
async fn trap_56_a_greeting_is_complete() {
    let sidepool = Sidepool::with_one_server();
    let direct = Postgres::shared().direct().wire().await;
    let mut expected = direct.parameters.clone();
    expected.sort();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        for _ in 0..2 {
            let client = endpoint.wire().await;
            let mut told = client.parameters.clone();
            told.sort();
            assert_eq!(told, expected, "port {}", endpoint.port);
            assert_eq!(client.key_data.len(), 8);
        }
    }
}

#[tokio::test]
async fn trap_57_the_servers_own_error_is_passed_on_and_not_kept() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    for (endpoint, database) in [(sidepool.session(), "trap_57_session"), (sidepool.transaction(), "trap_57_transaction")] {
        let endpoint = endpoint.database(database);
        for _ in 0..2 {
            let (_, greeting) = Wire::try_login(&endpoint).await;
            assert_eq!(show_in_full(&greeting), format!("E(FATAL | 3D000 | database \"{database}\" does not exist)"));
        }
        postgres.new_database(database).await;
        assert_eq!(endpoint.value("SELECT current_database()").await, database);
    }
}

#[tokio::test]
async fn trap_58_what_ends_a_login_is_fatal() {
    let sidepool = Sidepool::with_one_server();
    let nobody = wire::startup(&[("database", "postgres")]);
    let mut wire = Wire::connect(sidepool.transaction().port).await;
    wire.send(&nobody).await;
    let replies = wire.until_closed().await;
    assert_eq!(show_in_full(&replies), "E(FATAL | 28000 | no PostgreSQL user name specified in startup packet)");
}

#[tokio::test]
async fn trap_59_what_exists_is_told_only_to_those_who_are_in() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let (_, greeting) = Wire::try_login(&endpoint.database("no_such_database").password("wrong")).await;
        assert_eq!(show(&greeting), "E(28P01)");
    }
}

#[tokio::test]
async fn trap_60_and_a_7_more_clients_than_allowed_are_refused_until_one_leaves() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("max-clients", "2")]);
    let (first, _second) = (sidepool.transaction().wire().await, sidepool.session().wire().await);
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let (_, greeting) = Wire::try_login(&endpoint).await;
        assert!(show_in_full(&greeting).starts_with("E(FATAL | 53300 | "), "{}", show_in_full(&greeting));
    }
    drop(first);
    common::until("there is room again", async || {
        Wire::try_login(&sidepool.transaction()).await.1.last().is_some_and(|reply| reply.tag == b'Z')
    })
    .await;
}

#[tokio::test]
async fn trap_61_other_protocols_are_refused() {
    let sidepool = Sidepool::with_one_server();
    let port = sidepool.transaction().port;
    for major in [1, 2, 4, 1234] {
        let answer = refused(port, &versioned(major, 0, &[("user", "postgres")])).await;
        assert!(["E(0A000)", "E(08P01)"].contains(&&*answer), "{major}: {answer}");
    }
    let answer = refused(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(["", "E(08P01)"].contains(&&*answer), "{answer}");
}

#[tokio::test]
async fn a_15_a_search_path_by_options_and_nothing_smuggled_in() {
    let sidepool = Sidepool::with_one_server();
    let (_, greeting) = Wire::try_login(&sidepool.transaction().parameter("search_path", "a'; SET work_mem = '77MB'; --")).await;
    assert_eq!(show(&greeting[greeting.len() - 1..]), "E(22023)");
    let mut client = sidepool.transaction().parameter("application_name", "a'; SET work_mem = '77MB'; --").wire().await;
    assert_ne!(client.value("SHOW work_mem").await, "77MB");
    let mut client = sidepool.transaction().parameter("options", r"-c my.path=a\ -c\ work_mem=77MB").wire().await;
    assert_eq!(client.value("SHOW my.path").await, "a -c work_mem=77MB");
    assert_ne!(client.value("SHOW work_mem").await, "77MB");
}

#[tokio::test]
async fn a_10_a_database_dropped_under_its_clients_is_3d000_at_the_next_login() {
    let postgres = Postgres::shared();
    postgres.new_database("a_10").await;
    let sidepool = Sidepool::with_one_server();
    let endpoint = sidepool.transaction().database("a_10");
    let mut client = endpoint.wire().await;
    client.run("SELECT 1").await;
    postgres.execute("postgres", "DROP DATABASE a_10 WITH (FORCE)").await;
    let told = show(&client.query_or_end("SELECT 1").await);
    assert!(told.contains("E(3D000)") || told.contains("E(57P01)"), "{told}");
    common::until("new clients are told, too", async || {
        let (mut client, greeting) = Wire::try_login(&endpoint).await;
        show(&greeting) == "E(3D000)" || show(&client.query_or_end("SELECT 1").await) == "E(3D000)"
    })
    .await;
}
