//! `profile = "supabase"`: the hosted pooler's limits and refusals. Tests are named by its acceptance cases.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

mod common;

use common::wire::{self, Wire, show_in_full};
use common::{Endpoint, Postgres, Sidepool};

fn supabase(flags: &[(&str, &str)]) -> Sidepool {
    Sidepool::start(Postgres::shared(), &[&[("profile", "supabase")], flags].concat())
}

/// The last message before the end, an error: its severity, code and text.
async fn refusal(endpoint: &Endpoint) -> [String; 3] {
    let (mut wire, mut told) = Wire::try_login(endpoint).await;
    told.extend(wire.until_closed().await);
    fields(&told.last().unwrap().body)
}

fn fields(error: &[u8]) -> [String; 3] {
    let field = |kind: u8| error.split(|b| *b == 0).find_map(|field| field.strip_prefix(&[kind]));
    [b'S', b'C', b'M'].map(|kind| String::from_utf8_lossy(field(kind).unwrap_or_default()).into_owned())
}

fn hosted(text: &str) -> [String; 3] {
    ["FATAL", "XX000", text].map(str::to_owned)
}

#[tokio::test]
async fn a_03_an_unknown_project_is_told_of_in_the_hosted_words() {
    let upstream = Postgres::shared().direct().url();
    let file = format!("profile = \"supabase\"\n[projects.shop]\nupstream = \"{upstream}\"\n");
    let sidepool = Sidepool::launch(&[], &file).unwrap();
    let told = refusal(&sidepool.transaction().user("postgres.nonexistent_tenant")).await;
    assert_eq!(told, hosted("(ENOTFOUND) tenant/user postgres.nonexistent_tenant not found"));
}

#[tokio::test]
async fn a_06_session_mode_has_as_many_clients_as_servers() {
    let sidepool = supabase(&[]);
    let mut clients = Vec::new();
    for _ in 0..15 {
        clients.push(sidepool.session().wire().await);
    }
    let text = "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15";
    assert_eq!(refusal(&sidepool.session()).await, hosted(text));
    // Whoever was refused takes nobody's place, and the transaction port is another pool.
    assert_eq!(refusal(&sidepool.session()).await, hosted(text));
    sidepool.transaction().wire().await.run("SELECT 1").await;
    drop(clients.pop());
    common::until("a place is free", async || {
        let (_, told) = Wire::try_login(&sidepool.session()).await;
        told.last().is_some_and(|reply| reply.tag == b'Z')
    })
    .await;
}

#[tokio::test]
async fn a_06_the_same_in_postgresqls_words() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("session-overflow", "refuse"), ("pool-size", "1")]);
    let _one = sidepool.session().wire().await;
    let [severity, code, message] = refusal(&sidepool.session()).await;
    assert_eq!([&*severity, &code, &message], ["FATAL", "53300", "sorry, too many clients already"]);
}

#[tokio::test]
async fn a_07_clients_beyond_the_limit() {
    let sidepool = supabase(&[("max-clients", "1")]);
    let _one = sidepool.transaction().wire().await;
    assert_eq!(refusal(&sidepool.transaction()).await, hosted("(EMAXCONN) max client connections reached, limit: 1"));
}

#[tokio::test]
async fn a_08_no_server_in_time_ends_the_connection() {
    let sidepool = supabase(&[("pool-size", "1"), ("timeout-queue-wait", "500ms")]);
    let mut one = sidepool.transaction().wire().await;
    one.run("BEGIN").await;
    let mut two = sidepool.transaction().wire().await;
    two.send(&wire::query("SELECT 1")).await;
    let told = two.until_closed().await;
    let text = "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after 500ms in Transaction mode";
    assert_eq!(fields(&told.last().unwrap().body), hosted(text));
    one.run("COMMIT").await;
}

#[tokio::test]
async fn a_13_more_search_paths_than_pools() {
    for (flags, refused) in [
        (&[("profile", "supabase"), ("max-pools", "3")][..], hosted("(EMAXPOOLSREACHED) max pools count reached")),
        (&[("max-pools", "3")], ["FATAL", "53300", "too many pools for this project"].map(str::to_owned)),
    ] {
        let sidepool = Sidepool::start(Postgres::shared(), flags);
        let with = |path: &str| sidepool.transaction().parameter("search_path", path);
        let mut clients = Vec::new();
        for path in ["a", "b", "c", "c", "a"] {
            clients.push(with(path).wire().await);
        }
        assert_eq!(refusal(&with("d")).await, refused);
        // Another mode is another pool, and `options` says it as well.
        assert_eq!(refusal(&sidepool.session().parameter("search_path", "a")).await, refused);
        assert_eq!(refusal(&sidepool.transaction().parameter("options", "-c search_path=d")).await, refused);
        assert_eq!(with("b").wire().await.value("SHOW search_path").await, "b");
        // The last client of one of them makes room.
        drop(clients.remove(1));
        common::until("there is room", async || {
            let (_, told) = Wire::try_login(&with("d")).await;
            told.last().is_some_and(|reply| reply.tag == b'Z')
        })
        .await;
    }
}

#[tokio::test]
async fn a_15_settings_at_login_are_dropped_but_for_the_search_path() {
    let sidepool = supabase(&[]);
    for (endpoint, application) in [(sidepool.session(), "shop"), (sidepool.transaction(), "")] {
        let endpoint = endpoint
            .parameter("options", "-c work_mem=7MB -c search_path=pg_catalog")
            .parameter("application_name", "shop")
            .parameter("TimeZone", "Asia/Tokyo");
        let mut wire = endpoint.wire().await;
        assert_eq!(wire.value("SHOW work_mem").await, "4MB");
        assert_ne!(wire.value("SHOW TimeZone").await, "Asia/Tokyo");
        assert_eq!(wire.value("SHOW search_path").await, "pg_catalog");
        assert_eq!(wire.value("SHOW application_name").await, application);
    }
}

#[tokio::test]
async fn each_switch_wins_over_the_profile() {
    let flags = [
        ("error-texts", "postgres"),
        ("startup-parameters", "apply"),
        ("session-overflow", "wait"),
        ("named-statements", "keep"),
        ("pool-size", "1"),
    ];
    let sidepool = supabase(&flags);
    let mut client = sidepool.transaction().wire().await;
    prepare(&mut client, "s0").await;
    assert!(use_named(&mut client, "s0").await.starts_with("2 D"));
    let mut one = sidepool.session().parameter("options", "-c work_mem=7MB").wire().await;
    assert_eq!(one.value("SHOW work_mem").await, "7MB");
    // It waits for the only server, and gets it.
    let endpoint = sidepool.session();
    let mut waiting = Box::pin(endpoint.wire());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), &mut waiting).await.is_err());
    drop(one);
    waiting.await.run("SELECT 1").await;
}

/// What stands in section 2 of our notes on the hosted pooler and can happen here, each where it happens. Its words by
/// themselves are in `src/error/hosted.rs`; those with a test of their own are above.
#[tokio::test]
async fn every_refusal_of_a_login_has_the_hosted_words() {
    let bad_names = "(EINVALIDUSERINFO) Authentication error, reason: \"Invalid format for user or db_name\"";
    let no_tls = "(ESSLREQUIRED) SSL connection is required for user: postgres";
    let elsewhere = "(EADDRNOTALLOWED) address not in tenant allow_list: {127, 0, 0, 1}";
    let no_role = "(EAUTHQUERY) user not found in the database";
    let no_query = "(EAUTHQUERY) no auth_query configured for this tenant";
    let bad_query = "(EAUTHQUERY) authentication query returned wrong format";
    let wrong = "password authentication failed for user \"postgres\"";
    let as_is = |endpoint: Endpoint| endpoint;
    let nobody = |endpoint: Endpoint| endpoint.user("nobody_at_all.ref");
    type Case<'a> = (&'a [(&'a str, &'a str)], fn(Endpoint) -> Endpoint, &'a str, &'a str);
    let cases: [Case<'_>; 9] = [
        (&[], |endpoint| endpoint.user("two\nlines"), "XX000", bad_names),
        (&[], |endpoint| endpoint.database("bell\u{7}"), "XX000", bad_names),
        (&[("require-tls", "true")], as_is, "XX000", no_tls),
        (&[("allow", "10.0.0.0/8")], as_is, "XX000", elsewhere),
        (&[], nobody, "XX000", no_role),
        (&[("auth-query", "false")], nobody, "XX000", no_query),
        (&[("auth-query", "SELECT rolname FROM pg_authid WHERE rolname = $1")], nobody, "XX000", bad_query),
        // The user without its project, and no code.
        (&[], |endpoint| endpoint.user("postgres.ref").password("wrong"), "28P01", wrong),
        (&[], |endpoint| endpoint.database("no_such_database"), "3D000", "database \"no_such_database\" does not exist"),
    ];
    for (flags, change, code, text) in cases {
        let sidepool = supabase(flags);
        for endpoint in [sidepool.session(), sidepool.transaction()] {
            assert_eq!(refusal(&change(endpoint)).await, ["FATAL", code, text], "{flags:?}");
        }
    }
}

#[tokio::test]
async fn a_05_startup_packets_that_the_hosted_pooler_does_not_take() {
    let sidepool = supabase(&[]);
    let mut garbled = sidepool.session().packet(0);
    *garbled.last_mut().unwrap() = b'x';
    let anonymous = wire::startup(&[("database", "postgres")]);
    // 1 024 bytes are taken.
    let padded = |bytes: usize| {
        let endpoint = sidepool.transaction();
        let missing = bytes - endpoint.clone().parameter("padding", "").packet(0).len();
        endpoint.parameter("padding", &"x".repeat(missing)).packet(0)
    };
    let at_most = padded(1024);
    assert_eq!(at_most.len(), 1024);
    for (packet, text) in [
        (garbled, "(ESTARTUPMESSAGE) Invalid startup message: :bad_startup_payload"),
        (anonymous, "(ESTARTUPMESSAGE) Invalid startup message: :missing_user"),
        (padded(1108), "(ESTARTUPPACKETTOOLARGE) Startup packet too large: 1108 bytes (max 1024 bytes)"),
    ] {
        for endpoint in [sidepool.session(), sidepool.transaction()] {
            let mut client = Wire::connect(endpoint.port).await;
            client.send(&packet).await;
            let told = client.until_closed().await;
            assert_eq!(fields(&told.last().unwrap().body), ["FATAL", "08P01", text]);
        }
    }
    let mut client = Wire::connect(sidepool.transaction().port).await;
    client.send(&at_most).await;
    assert_eq!(client.next().await.tag, b'R');
}

#[tokio::test]
async fn a_login_that_breaks_the_protocol_or_does_not_go_on() {
    let sidepool = supabase(&[("timeout-client-login", "500ms")]);
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let texts = [
            (&wire::query("SELECT 1")[..], "08P01", "(EAUTHPROTOCOL) protocol violation during authentication"),
            (
                &wire::password(b"SCRAM-SHA-256\0\0\0\0\x04nope"),
                "08P01",
                "(EAUTHPROTOCOL) protocol violation during authentication",
            ),
            (b"p", "08006", "(EAUTHTIMEOUT) timeout while waiting for message"),
        ];
        for (said, code, text) in texts {
            let mut client = Wire::connect(endpoint.port).await;
            client.send(&[&endpoint.packet(0), said].concat()).await;
            let told = client.until_closed().await;
            assert_eq!(fields(&told.last().unwrap().body), ["FATAL", code, text], "{}", show_in_full(&told));
        }
    }
}

#[tokio::test]
async fn a_11_too_many_failures() {
    let sidepool = supabase(&[("lockout-failures", "3")]);
    let text = "(ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked";
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        // Somebody unknown counts as a wrong password does.
        for endpoint in [endpoint.clone().password("wrong"), endpoint.clone().user("nobody_at_all")].iter().cycle().take(3) {
            let _ = refusal(endpoint).await;
        }
        assert_eq!(refusal(&endpoint).await, hosted(text));
        assert_eq!(refusal(&endpoint.clone().user("nobody_at_all")).await, hosted(text));
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_and_one_without_tls() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let there = Postgres::shared().port;
    for (port, query, how) in [(free, "", "econnrefused"), (there, "?sslmode=require", "ssl_not_available")] {
        let file = format!("upstream = \"postgres://postgres:secret@127.0.0.1:{port}/postgres{query}\"\n");
        let flags = [("profile", "supabase"), ("timeout-server-down", "300ms")];
        let sidepool = Sidepool::launch(&flags, &file).unwrap();
        for endpoint in [sidepool.session(), sidepool.transaction()] {
            let text = format!("Failed to connect to database: {{:error, :{how}}}");
            // The upstream's own user, and one whom it has to be asked about.
            for user in ["postgres", "somebody"] {
                let told = refusal(&endpoint.clone().user(user)).await;
                if how == "ssl_not_available" && user == "somebody" {
                    let text = "(EAUTHQUERY) authentication query failed: connection to database not available";
                    assert_eq!(told, hosted(text));
                } else {
                    assert_eq!(told, ["FATAL", "08006", &text], "{user}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_17_more_statements_than_a_client_may_have() {
    let sidepool = supabase(&[("named-statements", "keep"), ("prepared-statements-per-client", "2")]);
    let mut client = sidepool.transaction().wire().await;
    for name in ["a", "b"] {
        client.exchange(&[wire::parse(name, "SELECT 1"), wire::sync()]).await;
    }
    client.send(&[wire::parse("c", "SELECT 1"), wire::sync()].concat()).await;
    let told = client.until_closed().await;
    let text = "(EMAXPREPARED) max prepared statements limit reached. Limit: 2 per connection";
    assert_eq!(fields(&told.last().unwrap().body), hosted(text));
}

/// One use of a statement with a name, as drivers make it.
async fn use_named(client: &mut Wire, name: &str) -> String {
    show_in_full(&client.exchange(&[wire::bind("", name, &[]), wire::execute("", 0), wire::sync()]).await)
}

async fn prepare(client: &mut Wire, name: &str) -> String {
    show_in_full(&client.exchange(&[wire::parse(name, "SELECT 1"), wire::describe_statement(name), wire::sync()]).await)
}

#[tokio::test]
async fn a_name_lasts_for_its_transaction_on_6543_and_for_the_session_on_5432() {
    let gone = "E(ERROR | 26000 | prepared statement \"s0\" does not exist) Z(I)";
    let taken = "E(ERROR | 42P05 | prepared statement \"s0\" already exists) Z(I)";
    for flags in [&[("profile", "supabase")][..], &[("named-statements", "forget")]] {
        let flags = [flags, &[("pool-size", "1")]].concat();
        let sidepool = Sidepool::start(Postgres::shared(), &flags);
        let mut first = sidepool.transaction().wire().await;
        first.run("BEGIN").await;
        assert!(prepare(&mut first, "s0").await.starts_with("1 t"));
        assert!(use_named(&mut first, "s0").await.starts_with("2 D"));
        first.run("COMMIT").await;
        assert_eq!(use_named(&mut first, "s0").await, gone);
        // The server connection has the name still: that is what applications on the hosted pooler meet.
        let mut second = sidepool.transaction().wire().await;
        for client in [&mut first, &mut second] {
            assert_eq!(prepare(client, "s0").await, taken);
            // Nobody ever runs what another client prepared.
            assert_eq!(use_named(client, "s0").await, gone);
        }
        let mut in_session = sidepool.session().wire().await;
        assert!(prepare(&mut in_session, "s0").await.starts_with("1 t"));
        for _ in 0..2 {
            assert!(use_named(&mut in_session, "s0").await.starts_with("2 D"));
        }
    }
}

/// Prisma 6 with `pgbouncer=true`, which the hosted pooler takes: each query in a transaction that begins with a clean table.
#[tokio::test]
async fn what_prisma_does_for_pgbouncer_works() {
    let sidepool = supabase(&[("pool-size", "1")]);
    let mut clients = [sidepool.transaction().wire().await, sidepool.transaction().wire().await];
    for _ in 0..3 {
        for client in &mut clients {
            client.run("BEGIN").await;
            client.run("DEALLOCATE ALL").await;
            assert!(prepare(client, "s0").await.starts_with("1 t"));
            assert!(use_named(client, "s0").await.starts_with("2 D"));
            client.run("COMMIT").await;
        }
    }
}
