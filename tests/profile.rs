//! `profile = "supabase"`: the hosted pooler's limits and refusals. Tests are named by its acceptance cases.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

mod common;

use common::wire::Wire;
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
    two.send(&common::wire::query("SELECT 1")).await;
    let told = two.until_closed().await;
    let text = "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after 500ms in Transaction mode";
    assert_eq!(fields(&told.last().unwrap().body), hosted(text));
    one.run("COMMIT").await;
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
    let flags = [("error-texts", "postgres"), ("startup-parameters", "apply"), ("session-overflow", "wait"), ("pool-size", "1")];
    let sidepool = supabase(&flags);
    let mut one = sidepool.session().parameter("options", "-c work_mem=7MB").wire().await;
    assert_eq!(one.value("SHOW work_mem").await, "7MB");
    // It waits for the only server, and gets it.
    let endpoint = sidepool.session();
    let mut waiting = Box::pin(endpoint.wire());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), &mut waiting).await.is_err());
    drop(one);
    waiting.await.run("SELECT 1").await;
}
