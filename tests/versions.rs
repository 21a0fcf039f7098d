//! Logins, both modes and prepared statements on every PostgreSQL that is supported besides the one the other tests use.
//! One server per version, and the same cases for each.

mod common;

use common::wire::{self, Wire, show, show_in_full};
use common::{Certificates, Endpoint, Plan, Postgres, Proxy, Sidepool, unnamed};

/// Since which version PostgreSQL reports `search_path`, speaks protocol 3.2, and takes TLS without being asked for it.
const REPORTS_SEARCH_PATH: u16 = 18;
const SPEAKS_3_2: u16 = 18;
const TAKES_DIRECT_TLS: u16 = 17;

/// Who must use TLS is `app`.
const HBA: [&str; 2] = ["hostssl all app 127.0.0.1/32 scram-sha-256", "host all app 127.0.0.1/32 reject"];

#[tokio::test]
async fn postgresql_14() {
    every_case(14).await;
}

#[tokio::test]
async fn postgresql_16() {
    every_case(16).await;
}

#[tokio::test]
async fn postgresql_17() {
    every_case(17).await;
}

#[tokio::test]
async fn postgresql_18() {
    every_case(18).await;
}

async fn every_case(major: u16) {
    let certificates = Certificates::new();
    let hba = HBA.map(str::to_owned).to_vec();
    let postgres = Postgres::start(Plan { major: Some(major), settings: certificates.settings(), hba, ..Plan::default() });
    assert_eq!(postgres.version.split('.').next(), Some(&*major.to_string()));
    logins(major, &postgres, &certificates).await;
    let sidepool = Sidepool::start(&postgres, &[("pool-size", "1"), ("workers", "1")]);
    greetings(major, &postgres, &sidepool).await;
    session_mode(&postgres, &sidepool).await;
    transaction_mode(major, &sidepool).await;
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        copies(&endpoint).await;
        cancels(&postgres, &endpoint).await;
        protocol_3_2(&postgres, &endpoint).await;
    }
    statements(&sidepool).await;
    listening(&postgres, &sidepool).await;
    schema_changes(&postgres, &sidepool).await;
    the_same_errors(&postgres, &sidepool).await;
    if major >= SPEAKS_3_2 {
        long_keys_upstream(&postgres).await;
    }
}

/// Away from its server and back, whenever the version delivers what a backend notifies itself of.
async fn listening(postgres: &Postgres, sidepool: &Sidepool) {
    let (mut one, mut direct) = (sidepool.transaction().wire().await, postgres.direct().wire().await);
    let mut sent = 0;
    let mut told = Vec::new();
    for step in ["LISTEN a", "SELECT 1", "BEGIN; UNLISTEN a; ROLLBACK", "LISTEN b", "BEGIN", "UNLISTEN *", "ROLLBACK", "LISTEN a"]
    {
        told.extend(one.query(step).await);
        if step == "BEGIN" || step == "UNLISTEN *" {
            continue;
        }
        for _ in 0..2 {
            sent += 1;
            direct.run(&format!("NOTIFY a, '{sent}'")).await;
            sidepool.transaction().wire().await.backend().await;
        }
    }
    let heard = |replies: &[wire::Reply]| replies.iter().filter(|r| r.tag == b'A').map(ToString::to_string).collect::<Vec<_>>();
    while heard(&told).len() < sent {
        told.extend(one.until(b'A').await);
    }
    assert_eq!(heard(&told), (1..=sent).map(|n| format!("A(a,{n})")).collect::<Vec<_>>());
    one.run("UNLISTEN *").await;
    assert_eq!(sidepool.transaction().wire().await.value("SELECT count(*) FROM pg_listening_channels()").await, "0");
}

/// SCRAM to Sidepool, and to PostgreSQL whatever its pg_hba.conf has for the user; TLS as the URL has it.
async fn logins(major: u16, postgres: &Postgres, certificates: &Certificates) {
    let (port, root) = (postgres.port, certificates.root().display().to_string());
    let url = |user: &str, host: &str, more: &str| format!("\"postgres://{user}:secret@{host}:{port}/postgres?{more}\"");
    let file = format!(
        "[projects.default]\nupstream = {}\n[projects.tls]\nupstream = {}\n[projects.clear]\nupstream = {}\n\
         [projects.direct]\nupstream = {}\n",
        url("postgres", "127.0.0.1", "sslmode=disable"),
        url("app", "localhost", &format!("sslmode=verify-full&sslrootcert={root}")),
        url("app", "127.0.0.1", "sslmode=disable"),
        url("app", "localhost", "sslmode=require&sslnegotiation=direct"),
    );
    let users = ["p_md5", "p_clear", "p_scram"].map(|name| format!("[[users]]\nname = \"{name}\"\npassword = \"secret\"\n"));
    let sidepool = Sidepool::launch(&[], &format!("{file}{}", users.concat())).expect("it starts");
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        for user in ["postgres", "p_md5", "p_clear", "p_scram"] {
            assert_eq!(endpoint.clone().user(user).value("SELECT current_user").await, user);
            let (_, greeting) = Wire::try_login(&endpoint.clone().user(user).password("wrong")).await;
            let expected = format!("E(FATAL | 28P01 | password authentication failed for user \"{user}\")");
            assert!(show_in_full(&greeting).starts_with(expected.trim_end_matches(')')), "{}", show_in_full(&greeting));
        }
        let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert_eq!(endpoint.clone().user("app.tls").value(encrypted).await, "t");
        assert_eq!(endpoint.value(encrypted).await, "f");
        let (_, greeting) = Wire::try_login(&endpoint.clone().user("app.clear")).await;
        assert_eq!(show(&greeting), "E(28000)");
        let direct = endpoint.clone().user("app.direct");
        if major >= TAKES_DIRECT_TLS {
            assert_eq!(direct.value(encrypted).await, "t");
        } else {
            assert_eq!(show(&Wire::try_login(&direct).await.1), "E(08006)");
        }
    }
}

/// What PostgreSQL reports at login is what clients of both ports are told, whatever the version reports.
async fn greetings(major: u16, postgres: &Postgres, sidepool: &Sidepool) {
    let mut expected = postgres.direct().wire().await.parameters;
    expected.sort();
    let version = expected.iter().find(|(name, _)| name == "server_version").expect("it is reported");
    assert!(version.1.starts_with(&major.to_string()), "{version:?}");
    assert_eq!(expected.iter().any(|(name, _)| name == "search_path"), major >= REPORTS_SEARCH_PATH);
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        // Asked of a server, and then known.
        for _ in 0..2 {
            let mut told = endpoint.wire().await.parameters;
            told.sort();
            assert_eq!(told, expected);
        }
    }
}

async fn session_mode(postgres: &Postgres, sidepool: &Sidepool) {
    let endpoint = sidepool.session();
    let asking =
        endpoint.clone().parameter("options", "-c statement_timeout=54321 -c my.own=x").parameter("TimeZone", "Asia/Tokyo");
    let mut client = asking.wire().await;
    assert!(client.parameters.contains(&("TimeZone".into(), "Asia/Tokyo".into())), "{:?}", client.parameters);
    assert_eq!(client.backend().await, client.pid().to_string());
    for (name, value) in [("statement_timeout", "54321ms"), ("my.own", "x"), ("TimeZone", "Asia/Tokyo")] {
        assert_eq!(client.value(&format!("SHOW {name}")).await, value);
    }
    client.run("SET TimeZone = 'UTC'; SET work_mem = '5MB'; CREATE TEMP TABLE t (a int); LISTEN here").await;
    client.run("SELECT pg_advisory_lock(42)").await;
    client.run("RESET TimeZone").await;
    assert_eq!(client.value("SHOW TimeZone").await, "Asia/Tokyo");
    let pid = client.backend().await;
    client.send(&wire::terminate()).await;
    assert_eq!(client.until_closed().await, []);
    let mut next = asking.wire().await;
    assert_eq!(next.backend().await, pid);
    assert_eq!(next.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").await, "0");
    assert_ne!(next.value("SHOW work_mem").await, "5MB");
    assert_eq!(next.shown("SELECT * FROM t").await, "E(42P01) Z(I)");
    drop(next);
    postgres.is_idle(&pid).await;
}

/// One server, two clients in turn.
async fn transaction_mode(major: u16, sidepool: &Sidepool) {
    let endpoint = sidepool.transaction();
    let mut one = endpoint.clone().parameter("application_name", "one").parameter("lock_timeout", "7s").wire().await;
    let mut two = endpoint.clone().parameter("options", "-c DateStyle=German").wire().await;
    assert_eq!(one.backend().await, two.backend().await);
    let reported = [
        ("application_name", "it's \"me\""),
        ("DateStyle", "Postgres, MDY"),
        ("IntervalStyle", "iso_8601"),
        ("TimeZone", "Europe/Vienna"),
        ("client_encoding", "LATIN1"),
        ("standard_conforming_strings", "off"),
    ];
    let others: Vec<String> = two.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    for (name, value) in reported {
        let value = value.replace('\'', "''");
        let set = if name == "DateStyle" { "SET DateStyle = Postgres, MDY".into() } else { format!("SET {name} = '{value}'") };
        one.run(&set).await;
    }
    if major >= REPORTS_SEARCH_PATH {
        assert_eq!(one.shown("SET search_path = \"A b\", public").await, "C(SET) S(search_path=\"A b\", public) Z(I)");
    }
    for _ in 0..2 {
        for (name, value) in reported {
            assert_eq!(one.value(&format!("SHOW {name}")).await, value);
            assert!(others.contains(&format!("{name}={}", two.value(&format!("SHOW {name}")).await)), "{name}");
        }
        assert_eq!(one.value("SHOW lock_timeout").await, "7s");
        assert_eq!(two.value("SHOW lock_timeout").await, "0");
        let expected = if major >= REPORTS_SEARCH_PATH { "\"A b\", public" } else { "\"$user\", public" };
        assert_eq!(one.value("SHOW search_path").await, expected);
        assert_eq!(two.value("SHOW search_path").await, "\"$user\", public");
    }
    two.run("BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SET IntervalStyle = 'sql_standard'").await;
    two.run("ROLLBACK").await;
    one.run("SELECT 1").await;
    assert_eq!(two.value("SHOW IntervalStyle").await, "postgres");
    assert_ne!(two.value("SHOW TimeZone").await, "Asia/Tokyo");
    // Of this the server is asked, in every version's own views.
    one.run("SET work_mem = '9MB'; DO $$ BEGIN PERFORM set_config('app.x', 'mine', false); END $$").await;
    assert_eq!(two.value("SHOW work_mem").await, "4MB");
    assert_eq!(one.value("SHOW work_mem").await, "9MB");
    one.run("CREATE TEMP TABLE mine (a int); LISTEN here; SELECT pg_advisory_lock(7); PREPARE p AS SELECT 1").await;
    one.run("DECLARE c CURSOR WITH HOLD FOR SELECT 1").await;
    one.run("DROP TABLE mine; UNLISTEN here; SELECT pg_advisory_unlock(7); DEALLOCATE p; CLOSE c").await;
    assert_eq!(two.shown("SELECT * FROM mine").await, "E(42P01) Z(I)");
    one.run("CREATE TEMP TABLE mine (a int); LISTEN here").await;
    one.run("BEGIN; SELECT 1").await;
    drop(one);
    assert_eq!(two.shown("SELECT * FROM mine").await, "E(42P01) Z(I)");
}

async fn copies(endpoint: &Endpoint) {
    let mut client = endpoint.wire().await;
    client.run("BEGIN; CREATE TEMP TABLE copied (a int) ON COMMIT DROP").await;
    client.send(&[wire::query("COPY copied FROM STDIN"), wire::copy_data(b"1\n2\n"), wire::copy_done()].concat()).await;
    assert_eq!(show(&client.until(b'Z').await), "G C(COPY 2) Z(T)");
    let out = [unnamed("COPY copied TO STDOUT"), wire::sync()];
    assert_eq!(show_in_full(&client.exchange(&out).await), "1 2 H d(1\\n) d(2\\n) c C(COPY 2) Z(T)");
    client.send(&[wire::query("COPY copied FROM STDIN"), wire::copy_fail("enough")].concat()).await;
    assert_eq!(show(&client.until(b'Z').await), "G E(57014) Z(E)");
    assert_eq!(client.shown("ROLLBACK").await, "C(ROLLBACK) Z(I)");
}

async fn cancels(postgres: &Postgres, endpoint: &Endpoint) {
    let mut client = endpoint.wire().await;
    sleeps_and_is_cancelled(postgres, &mut client).await;
    assert_eq!(client.value("SELECT 'next'").await, "next");
}

async fn sleeps_and_is_cancelled(postgres: &Postgres, client: &mut Wire) {
    let pid = client.backend().await;
    client.send(&wire::query("SELECT pg_sleep(1000)")).await;
    postgres.sleeps(&pid).await;
    client.cancel().await;
    assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(I)");
}

/// Clients may speak it whatever the server speaks; what is newer is negotiated down once.
async fn protocol_3_2(postgres: &Postgres, endpoint: &Endpoint) {
    let mut client = Wire::connect(endpoint.port).await;
    client.send(&endpoint.packet(2)).await;
    let greeting = client.authenticate(&endpoint.password).await;
    assert!(greeting.iter().all(|reply| reply.tag != b'v'), "{}", show(&greeting));
    assert!(client.key_data.len() > 8, "3.2 has longer keys: {}", client.key_data.len());
    sleeps_and_is_cancelled(postgres, &mut client).await;
    drop(client);
    let mut client = Wire::connect(endpoint.port).await;
    client.send(&endpoint.clone().parameter("_pq_.unheard_of", "1").packet(77)).await;
    let first = client.next().await;
    assert_eq!((first.tag, &first.body[..]), (b'v', &b"\0\x03\0\x02\0\0\0\x01_pq_.unheard_of\0"[..]));
    let greeting = client.authenticate(&endpoint.password).await;
    assert!(greeting.iter().all(|reply| reply.tag != b'v'), "{}", show(&greeting));
    assert_eq!(client.value("SELECT 'next'").await, "next");
}

/// Sidepool asks for protocol 3.0, and so is given short keys. Whoever is in between and speaks 3.2 to the server passes on
/// the long ones, which have to be kept and sent back whole (trap 43).
async fn long_keys_upstream(postgres: &Postgres) {
    const CANCEL: [u8; 4] = 80_877_102_u32.to_be_bytes();
    let proxy = Proxy::to(postgres.port, |packet| {
        if packet[4..8] == [0, 3, 0, 0] {
            packet[7] = 2;
        }
    })
    .await;
    let url = format!("postgres://postgres:secret@127.0.0.1:{}/postgres?sslmode=disable", proxy.port);
    let sidepool = Sidepool::launch(&[], &format!("upstream = \"{url}\"")).expect("it starts");
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        cancels(postgres, &endpoint).await;
    }
    let said = proxy.said();
    let keys: Vec<usize> = said.iter().filter(|said| said[4..8] == CANCEL).map(|said| said.len() - 12).collect();
    assert_eq!(keys, [32, 32]);
}

async fn statements(sidepool: &Sidepool) {
    let endpoint = sidepool.transaction();
    let (mut one, mut two) = (endpoint.wire().await, endpoint.wire().await);
    let run = |name: &str, value| [wire::bind("", name, &[Some(value)]), wire::execute("", 0), wire::sync()].concat();
    for client in [&mut one, &mut two] {
        assert_eq!(client.shown_batch(&[wire::parse("s", "SELECT $1::int + 1"), wire::sync()], 1).await, "1 Z(I)");
    }
    for client in [&mut one, &mut two] {
        assert_eq!(show_in_full(&client.exchange(&[run("s", "41")]).await), "2 D(42) C(SELECT 1) Z(I)");
    }
    assert_eq!(two.value("SELECT count(*) FROM pg_prepared_statements").await, "1", "the two share one");
    one.shown_batch(&[wire::parse("", "SELECT $1 || '!'"), wire::sync()], 1).await;
    two.shown_batch(&[unnamed("SELECT 'between'"), wire::sync()], 1).await;
    assert_eq!(show_in_full(&one.exchange(&[run("", "mine")]).await), "2 D(mine!) C(SELECT 1) Z(I)");
    assert_eq!(one.shown("DEALLOCATE s").await, "C(DEALLOCATE) Z(I)");
    assert_eq!(one.shown_batch(&[run("s", "1")], 1).await, "E(26000) Z(I)");
    assert_eq!(two.shown_batch(&[run("s", "1")], 1).await, "2 D C(SELECT 1) Z(I)");
    assert_eq!(two.shown_batch(&[wire::parse("s", "SELECT 1"), wire::sync()], 1).await, "E(42P05) Z(I)");
    two.run("DEALLOCATE ALL").await;
    assert_eq!(two.shown_batch(&[run("s", "1")], 1).await, "E(26000) Z(I)");
    for _ in 0..2 {
        assert_eq!(two.shown("BEGIN").await, "C(BEGIN) Z(T)");
        assert_eq!(two.shown("DEALLOCATE ALL").await, "C(DEALLOCATE ALL) Z(T)");
        let batch = [wire::parse("s0", "SELECT $1::int"), wire::describe_statement("s0"), run("s0", "1")];
        assert_eq!(two.shown_batch(&batch, 1).await, "1 t T 2 D C(SELECT 1) Z(T)");
        assert_eq!(two.shown("COMMIT").await, "C(COMMIT) Z(I)");
        one.run("SELECT 1").await;
    }
}

/// "cached plan must not change result type" goes away by itself.
async fn schema_changes(postgres: &Postgres, sidepool: &Sidepool) {
    postgres.execute("postgres", "CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)").await;
    let text = "SELECT * FROM changing";
    let run = [wire::bind("", "s", &[]), wire::execute("", 0), wire::sync()].concat();
    let mut old = sidepool.transaction().wire().await;
    assert_eq!(old.shown_batch(&[wire::parse("s", text), run.clone()], 1).await, "1 2 D C(SELECT 1) Z(I)");
    postgres.execute("postgres", "ALTER TABLE changing ADD COLUMN b int").await;
    let told = old.shown_batch(std::slice::from_ref(&run), 1).await;
    assert!(["E(0A000) Z(I)", "2 D C(SELECT 1) Z(I)"].contains(&&*told), "{told}");
    let anew = [wire::close_statement("s"), wire::parse("s", text), run.clone()];
    assert_eq!(old.shown_batch(&anew, 1).await, "3 1 2 D C(SELECT 1) Z(I)");
    let mut new = sidepool.transaction().wire().await;
    assert_eq!(new.shown_batch(&[wire::parse("s", text), run], 1).await, "1 2 D C(SELECT 1) Z(I)");
}

/// The words are the server's, which may differ from version to version.
async fn the_same_errors(postgres: &Postgres, sidepool: &Sidepool) {
    let script = [
        vec![wire::query("SELECT 1; SELECT no; SELECT 2")],
        vec![wire::parse("e", "SELECT 1"), wire::parse("e", "SELECT 2"), wire::sync()],
        vec![wire::bind("", "unknown", &[]), wire::sync()],
        vec![wire::describe_portal("unknown"), wire::sync()],
        vec![unnamed("SELECT 1/0"), unnamed("SELECT 1"), wire::sync()],
        vec![wire::query("SET no_such_parameter = 1")],
        vec![wire::query("DO $$ BEGIN RAISE NOTICE 'n' USING HINT = 'h'; END $$")],
    ];
    let mut direct = postgres.direct().wire().await;
    let mut expected = Vec::new();
    for step in &script {
        expected.push(show_in_full(&direct.exchange(step).await));
    }
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let mut client = endpoint.wire().await;
        for (step, expected) in script.iter().zip(&expected) {
            assert_eq!(show_in_full(&client.exchange(step).await), *expected);
        }
    }
}
