//! The fixture against plain PostgreSQL: what the other tests take for granted.

mod common;

use common::wire::{self, show, show_in_full};
use common::{Plan, Postgres};

#[tokio::test]
async fn every_version_can_be_had() {
    for major in sidepool::embedded::MAJORS {
        let postgres = Postgres::of_version(major);
        assert!(postgres.version.starts_with(&major.to_string()), "{}", postgres.version);
        let mut wire = postgres.direct().wire().await;
        assert_eq!(wire.value("SHOW server_version_num").await[..2], major.to_string());
    }
}

#[tokio::test]
async fn the_wire_client_logs_in_by_every_method() {
    let postgres = Postgres::shared();
    for user in ["app", "p_clear", "p_scram"] {
        let mut wire = postgres.direct().user(user).wire().await;
        assert_eq!(wire.value("SELECT current_user").await, user);
        assert_eq!(wire.value("SELECT pg_backend_pid()").await, wire.pid().to_string());
        assert!(wire.parameters.contains(&("client_encoding".into(), "UTF8".into())), "{:?}", wire.parameters);
    }
    for user in ["app", "p_clear", "p_scram", "p_md5"] {
        let row = postgres.direct().user(user).client().await.query_one("SELECT current_user::text", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), user);
    }
    for user in ["p_clear", "p_scram"] {
        let (_, greeting) = wire::Wire::try_login(&postgres.direct().user(user).password("wrong")).await;
        assert_eq!(show(&greeting), "E(28P01)");
    }
    let refused = postgres.direct().user("p_md5").password("wrong").try_client().await.unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("28P01"));
}

#[tokio::test]
async fn replies_are_shown_as_they_came() {
    let mut wire = Postgres::shared().direct().parameter("application_name", "shown").wire().await;
    assert_eq!(show(&wire.query("SET application_name = 'x'").await), "C(SET) S(application_name=x) Z(I)");
    let simple = wire.query("SELECT 1 AS a, NULL AS b; BEGIN; SELECT no").await;
    assert_eq!(show(&simple), "T D C(SELECT 1) C(BEGIN) E(42703) Z(E)");
    let full = show_in_full(&simple);
    assert!(full.starts_with("T(a,b) D(1,NULL) C(SELECT 1)"), "{full}");
    assert!(full.contains("E(ERROR | 42703 | column \"no\" does not exist | 41)"), "{full}");

    wire.query("ROLLBACK").await;

    let extended = [
        wire::parse("s", "SELECT $1::int + 1"),
        wire::describe_statement("s"),
        wire::bind("p", "s", &[Some("41")]),
        wire::describe_portal("p"),
        wire::execute("p", 0),
        wire::close_portal("p"),
        wire::bind("", "s", &[None]),
        wire::execute("", 1),
        wire::close_statement("s"),
        wire::sync(),
    ];
    let extended = wire.exchange(&extended).await;
    assert_eq!(show(&extended), "1 t T 2 T D C(SELECT 1) 3 2 D s 3 Z(I)");
    assert_eq!(extended.iter().find(|reply| reply.tag == b'D').unwrap().in_full(), "D(42)");

    wire.send(&[wire::parse("", "LISTEN here"), wire::flush()].concat()).await;
    assert_eq!(show(&wire.until(b'1').await), "1");
    wire.exchange(&[wire::bind("", "", &[]), wire::execute("", 0), wire::sync()]).await;
    assert_eq!(show(&wire.query("NOTIFY here, 'hello'").await), "C(NOTIFY) A(here,hello) Z(I)");
}

#[tokio::test]
async fn copy_both_ways() {
    let mut wire = Postgres::shared().direct().wire().await;
    wire.query("CREATE TEMP TABLE t (a int, b text)").await;
    wire.send(&[wire::query("COPY t FROM STDIN"), wire::copy_data(b"1\tone\n2\ttwo\n"), wire::copy_done()].concat()).await;
    assert_eq!(show(&wire.until(b'Z').await), "G C(COPY 2) Z(I)");
    assert_eq!(show_in_full(&wire.query("COPY t TO STDOUT").await), "H d(1\\tone\\n) d(2\\ttwo\\n) c C(COPY 2) Z(I)");
    wire.send(&[wire::query("COPY t FROM STDIN"), wire::copy_fail("no more")].concat()).await;
    assert_eq!(show(&wire.until(b'Z').await), "G E(57014) Z(I)");
}

#[tokio::test]
async fn a_cancel_request_reaches_the_query() {
    let postgres = Postgres::shared();
    let mut wire = postgres.direct().parameter("application_name", "to be cancelled").wire().await;
    wire.send(&wire::query("SELECT pg_sleep(1000)")).await;
    let watch = postgres.direct().client().await;
    common::until("the query sleeps", async || {
        let sleeping = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'to be cancelled' AND wait_event = 'PgSleep'";
        !watch.query(sleeping, &[]).await.unwrap().is_empty()
    })
    .await;
    wire.cancel().await;
    assert_eq!(show(&wire.until(b'Z').await), "T E(57014) Z(I)");
    wire.send(&wire::terminate()).await;
    assert_eq!(wire.until_closed().await, []);
}

#[tokio::test]
async fn one_of_ones_own_has_its_own_settings_and_is_gone_when_dropped() {
    let postgres = Postgres::start(Plan {
        settings: vec![("work_mem".into(), "5MB".into())],
        hba: vec!["host all app 127.0.0.1/32 reject".into()],
        ..Plan::default()
    });
    assert_eq!(postgres.new_database("other").await.wire().await.value("SHOW work_mem").await, "5MB");
    let refused = postgres.direct().user("app").try_client().await.unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("28000"));
    let port = postgres.port;
    drop(postgres);
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err());
}
