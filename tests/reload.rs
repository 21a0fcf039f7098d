//! Another configuration for a running pooler. Tests are named by the acceptance case or the trap they are about.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use common::wire::{self, Wire, show_in_full};
use common::{Certificates, Endpoint, PATIENCE, Plan, Postgres, Sidepool, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn upstream() -> String {
    Postgres::shared().direct().url()
}

/// A file with one upstream, and further lines.
fn file(lines: &str) -> String {
    format!("upstream = \"{}\"\n{lines}", upstream())
}

/// A file with one project of each of these names, the last of them with further lines.
fn projects(names: &[&str], lines: &str) -> String {
    let tables = names.iter().map(|name| format!("[projects.{name}]\nupstream = \"{}\"\n", upstream()));
    format!("{}{lines}", tables.collect::<String>())
}

fn started(flags: &[(&str, &str)], file: &str) -> Sidepool {
    Sidepool::launch(&[&[("workers", "1")], flags].concat(), file).unwrap()
}

/// What a client is told that wants to log in.
async fn told(endpoint: &Endpoint) -> String {
    show_in_full(&Wire::try_login(endpoint).await.1)
}

#[tokio::test]
async fn an_unchanged_configuration_recycles_no_server() {
    let sidepool = started(&[], &file(""));
    let (mut session, mut transaction) = (sidepool.session().wire().await, sidepool.transaction().wire().await);
    let before = [session.backend().await, transaction.backend().await];
    for text in ["# A comment more.\n", "", "[limits]\npool_size = 21\n[timeouts]\nqueue_wait = \"9s\"\n"] {
        sidepool.reload(&file(text));
        assert_eq!([session.backend().await, transaction.backend().await], before, "after {text:?}");
    }
    drop((session, transaction));
    let (mut session, mut transaction) = (sidepool.session().wire().await, sidepool.transaction().wire().await);
    assert_eq!([session.backend().await, transaction.backend().await], before, "new clients get the servers there are");
}

#[tokio::test]
async fn sizes_and_servers_change_under_load_without_a_failed_transaction() {
    let sidepool = started(&[], &file("[limits]\npool_size = 2\n"));
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), "SELECT pg_sleep(0.002);\n").unwrap();
    let mut pgbench = tokio::process::Command::new("pgbench");
    pgbench.args(["--no-vacuum", "--client=8", "--transactions=800", "--file"]).arg(script.path());
    Postgres::shared().new_database("resized").await;
    let endpoint = sidepool.transaction().database("resized");
    let pgbench = pgbench.arg(endpoint.url()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut watch = Postgres::shared().direct().wire().await;
    for size in ["6", "1", "4"] {
        sidepool.reload(&file(&format!("[limits]\npool_size = {size}\n")));
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'resized'";
        until("the pool has its new size", async || watch.value(open).await == size).await;
    }
    // Another way to log in: all four are replaced, each when it comes back.
    let pids = "SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity WHERE datname = 'resized'";
    let before = watch.value(pids).await;
    sidepool.reload(&format!("upstream = \"{}?sslmode=disable\"\n[limits]\npool_size = 4\n", upstream()));
    until("all servers are new", async || {
        let now = watch.value(pids).await;
        now.split(' ').count() == 4 && now.split(' ').all(|pid| !before.split(' ').any(|old| old == pid))
    })
    .await;
    let output = tokio::time::timeout(PATIENCE, pgbench.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("processed: 6400/6400") && said.contains("failed transactions: 0 "), "{said}");
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing_and_says_why() {
    let sidepool = started(&[("http", "127.0.0.1:0")], &file("[limits]\npool_size = 1\n"));
    let mut client = sidepool.transaction().wire().await;
    let before = client.backend().await;
    let missing = "[client_tls]\ncertificate = \"no.pem\"\nkey = \"no.pem\"\n";
    let mistakes = [
        ("[limits]\npool_sise = 2\n", "unknown key `limits.pool_sise`"),
        ("[limits]\npool_size = 2\nmin_pool_size = 3\n", "limits.min_pool_size (3) is larger than limits.pool_size (2)"),
        (&*format!("[limits]\npool_size = 2\n{missing}"), "no.pem: it cannot be read: No such file"),
    ];
    for (lines, why) in mistakes {
        sidepool.reload(&file(lines));
        sidepool.log_has(why);
        assert!(sidepool.log().contains("the configuration was not reloaded, and nothing has changed"));
    }
    // Still one server: whoever comes second waits.
    client.run("BEGIN").await;
    let mut second = sidepool.transaction().wire().await;
    second.send(&wire::query("SELECT pg_backend_pid()")).await;
    sidepool.has_read().await;
    client.run("COMMIT").await;
    assert_eq!(second.awaited_value().await, before);
    let metrics = metrics(&sidepool).await;
    assert!(metrics.contains("sidepool_reloads_total{outcome=\"failed\"} 3\n"), "{metrics}");
    assert!(metrics.contains("sidepool_reloads_total{outcome=\"ok\"} 0\n"), "{metrics}");
    sidepool.reload(&file(""));
    assert!(self::metrics(&sidepool).await.contains("sidepool_reloads_total{outcome=\"ok\"} 1\n"));
}

async fn metrics(sidepool: &Sidepool) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", sidepool.http_port())).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn trap_15_another_upstream_password_is_used_from_the_next_lease_on() {
    let postgres = Postgres::start(Plan { hba: vec!["host all all 127.0.0.1/32 scram-sha-256".into()], ..Plan::default() });
    let owner = postgres.direct().user("postgres");
    let file = |password: &str| {
        let url = postgres.direct().user("moved").password(password).url();
        format!("auth_query = false\n[projects.default]\nupstream = \"{url}\"\npool_size = 1\n")
    };
    owner.client().await.batch_execute("CREATE ROLE moved LOGIN PASSWORD 'one'").await.unwrap();
    let sidepool = started(&[], &file("one"));
    let [session, transaction] = [sidepool.session(), sidepool.transaction()].map(|endpoint| endpoint.user("moved"));
    let mut in_session = session.clone().password("one").wire().await;
    let mut busy = transaction.clone().password("one").wire().await;
    busy.run("BEGIN").await;
    let old = [in_session.backend().await, busy.backend().await];

    owner.client().await.batch_execute("ALTER ROLE moved PASSWORD 'two'").await.unwrap();
    sidepool.reload(&file("two"));
    // What is under way goes on where it is.
    assert_eq!([in_session.backend().await, busy.backend().await], old);
    busy.run("COMMIT").await;
    let new = busy.backend().await;
    assert_ne!(new, old[1], "closed when it came back");
    postgres.is_gone(&old[1]).await;
    assert_eq!(in_session.backend().await, old[0], "in session mode it is the client's until it leaves");
    drop(in_session);
    postgres.is_gone(&old[0]).await;
    for endpoint in [session, transaction] {
        assert!(told(&endpoint.clone().password("one")).await.contains("28P01"), "the old one lets nobody in");
        assert_eq!(endpoint.password("two").value("SELECT current_user").await, "moved");
    }
    assert!(!sidepool.log().contains("cannot open a server connection"), "{}", sidepool.log());
}

#[tokio::test]
async fn trap_15_another_host_is_where_the_next_transaction_runs() {
    let other = Postgres::start(Plan::default());
    let sidepool = started(&[], &file(""));
    let mut client = sidepool.transaction().wire().await;
    let mut slow = sidepool.session().wire().await;
    let sleeper = slow.backend().await;
    slow.send(&wire::query("SELECT pg_sleep(60)")).await;
    Postgres::shared().sleeps(&sleeper).await;
    let port = "SELECT inet_server_port()";
    assert_eq!(client.value(port).await, Postgres::shared().port.to_string());
    client.run("SET work_mem = '7MB'").await;
    sidepool.reload(&format!("upstream = \"{}\"\n", other.direct().url()));
    until("it runs at the other", async || client.value(port).await == other.port.to_string()).await;
    assert_eq!(client.value("SHOW work_mem").await, "7MB", "with its settings");
    // What still runs at the old one is cancelled there.
    slow.cancel().await;
    assert!(show_in_full(&slow.until(b'Z').await).contains("57014"));
    assert_eq!(sidepool.session().value(port).await, other.port.to_string());
}

#[tokio::test]
async fn a_project_that_is_removed_lets_its_clients_go_and_another_comes() {
    let sidepool = started(&[], &projects(&["stays", "goes"], ""));
    let (mut stays, mut idle) =
        (sidepool.transaction().user("postgres.stays").wire().await, sidepool.transaction().user("postgres.goes").wire().await);
    let mut busy = sidepool.session().user("postgres.goes").wire().await;
    let backends = [stays.backend().await, idle.backend().await, busy.backend().await];
    busy.send(&wire::query("SELECT pg_sleep(60)")).await;
    Postgres::shared().sleeps(&backends[2]).await;

    sidepool.reload(&projects(&["stays", "comes"], ""));
    for client in [&mut idle, &mut busy] {
        let last = show_in_full(&client.until_closed().await);
        assert!(last.contains("FATAL | 57P01 | ") && last.contains("\"goes\" was removed from the configuration"), "{last}");
    }
    assert_eq!(stays.backend().await, backends[0]);
    for gone in &backends[1..] {
        Postgres::shared().is_gone(gone).await;
    }
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let refusal = told(&endpoint.clone().user("postgres.goes")).await;
        assert!(refusal.contains("project \"goes\" does not exist"), "{refusal}");
        assert_eq!(endpoint.user("postgres.comes").value("SELECT 1").await, "1");
    }
    sidepool.log_has("clients_ended=2");
}

#[tokio::test]
async fn a_14_a_banned_project_has_no_clients_new_or_connected() {
    a_14("supabase", "E(FATAL | XX000 | (EBANNED) tenant is banned: too many connections)", "E(FATAL | XX000 | (EBANNED) ").await;
}

#[tokio::test]
async fn a_14_the_same_in_postgresqls_words() {
    let refusal = "E(FATAL | 57P03 | project \"shop\" lets nobody in: too many connections";
    a_14("postgres", refusal, "E(FATAL | 57P01 | terminating connection due to administrator command").await;
}

async fn a_14(texts: &str, to_new: &str, to_connected: &str) {
    let flags = [("error-texts", texts)];
    let sidepool = started(&flags, &projects(&["other", "shop"], ""));
    let ways = [sidepool.session(), sidepool.transaction()].map(|endpoint| endpoint.user("postgres.shop"));
    let mut clients = Vec::new();
    for endpoint in &ways {
        let (idle, mut within, mut busy) = (endpoint.wire().await, endpoint.wire().await, endpoint.wire().await);
        within.run("BEGIN").await;
        let backend = busy.backend().await;
        busy.send(&wire::query("SELECT pg_sleep(60)")).await;
        Postgres::shared().sleeps(&backend).await;
        clients.extend([idle, within, busy]);
    }
    let mut other = sidepool.transaction().user("postgres.other").wire().await;
    other.run("BEGIN").await;

    sidepool.reload(&projects(&["other", "shop"], "disabled = \"too many connections\"\n"));
    for client in &mut clients {
        let last = show_in_full(&client.until_closed().await);
        assert!(last.starts_with(to_connected), "{last}");
    }
    for endpoint in &ways {
        let refusal = told(endpoint).await;
        assert!(refusal.starts_with(to_new), "{refusal}");
    }
    other.run("COMMIT").await;
    // And back.
    sidepool.reload(&projects(&["other", "shop"], "disabled = false\n"));
    for endpoint in &ways {
        assert_eq!(endpoint.value("SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn another_certificate_is_shown_from_the_next_handshake_on() {
    let [old, new] = [Certificates::new(), Certificates::new()];
    let file = |of: &Certificates| {
        let pem = of.server().display().to_string();
        file(&format!("[client_tls]\ncertificate = \"{pem}\"\nkey = \"{pem}\"\n"))
    };
    let sidepool = started(&[], &file(&old));
    let endpoint = sidepool.transaction();
    let mut connected = Wire::secured(endpoint.port, &old.connector(true)).await;
    connected.log_in(&endpoint).await;
    sidepool.reload(&file(&new));
    let mut client = Wire::secured(endpoint.port, &new.connector(true)).await;
    client.log_in(&endpoint).await;
    assert_eq!([client.value("SELECT 1").await, connected.value("SELECT 1").await], ["1", "1"]);
    assert!(Wire::direct_tls(endpoint.port, &old.connector(true)).await.is_err(), "the old one is shown no more");
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_counts() {
    let sidepool = started(&[], &file("[log]\nfilter = \"info\"\n"));
    let changed = "isolation = \"strict\"\nwatch = true\n[listen]\nhttp = \"127.0.0.1:0\"\n[log]\nfilter = \"sidepool=debug\"\n";
    sidepool.reload(&file(changed));
    for option in ["isolation", "watch", "listen.http"] {
        sidepool.log_has(&format!("{option} has changed, which needs a restart"));
    }
    assert_eq!(sidepool.log().matches("needs a restart").count(), 3, "{}", sidepool.log());
    // The filter does not need one.
    assert!(!sidepool.log().contains("client logged in"));
    sidepool.transaction().value("SELECT 1").await;
    sidepool.log_has("client logged in");
}

#[tokio::test]
async fn limits_on_clients_and_on_all_pools_of_an_upstream_change_too() {
    let sidepool = started(&[], &file(""));
    let mut clients = Vec::new();
    for user in ["postgres", "app"] {
        let mut client = sidepool.transaction().user(user).wire().await;
        client.run("SELECT 1").await;
        clients.push(client);
    }
    sidepool.reload(&file("[limits]\nmax_clients = 2\nmax_server_connections = 1\n"));
    assert!(told(&sidepool.transaction()).await.contains("53300 | sorry, too many clients already"));
    // One server for both pools: the second transaction waits for the end of the first.
    let clock = "SELECT to_char(clock_timestamp(), 'YYYYMMDDHH24MISSUS')";
    clients[0].run("BEGIN").await;
    clients[1].send(&wire::query(clock)).await;
    clients[0].run("SELECT pg_sleep(0.1)").await;
    let last = clients[0].value(clock).await;
    clients[0].run("COMMIT").await;
    assert!(clients[1].awaited_value().await > last);
}

#[tokio::test]
async fn a_file_that_is_watched_is_taken_up_when_it_changes() {
    let sidepool = started(&[], &file("watch = true\n"));
    sidepool.rewrite(&file("watch = true\nnonsense = 1\n"));
    sidepool.log_has("unknown key `nonsense`");
    sidepool.rewrite(&projects(&["first", "second"], "[limits]\npool_size = 3\n"));
    sidepool.log_has("configuration reloaded");
    sidepool.log_has("watch has changed, which needs a restart");
    assert_eq!(sidepool.transaction().user("postgres.second").value("SELECT 1").await, "1");
}

#[tokio::test]
async fn dev_watches_its_file_too_and_keeps_its_postgres() {
    let place = tempfile::tempdir().unwrap();
    // Whoever runs PostgreSQL when we are root must be able to enter it.
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let sidepool = Sidepool::dev(&place.path().join("db"), &["--watch=true"]).unwrap();
    let endpoint = sidepool.transaction().password("postgres");
    let mut client = endpoint.wire().await;
    let before = client.backend().await;
    sidepool.rewrite("[limits]\npool_size = 3\n");
    sidepool.log_has("configuration reloaded");
    assert_eq!(client.backend().await, before);
}
