//! The question that is put to the upstream, and whom it can be about.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use sidepool::auth::keys::ScramKeys;
use sidepool::auth::verifier::Verifier;

use crate::common::Sidepool;
use crate::common::wire::{Wire, show_in_full};
use crate::{all_in, all_out, answer, plain, sql, strict, ways, who};

#[tokio::test]
async fn trap_66_cve_2025_12819_nothing_of_a_client_reaches_the_question() {
    // A pg_authid of the attacker's, in which the victim has the attacker's password.
    let keys = ScramKeys::derive("attacker", b"salt", NonZeroU32::MIN);
    let verifier = Verifier::from_keys(&keys, b"salt", NonZeroU32::MIN).to_text();
    sql(&format!(
        "CREATE ROLE victim LOGIN PASSWORD 'victims';
         CREATE SCHEMA evil;
         CREATE TABLE evil.pg_authid AS SELECT rolname, '{verifier}'::text AS rolpassword, NULL::timestamptz AS rolvaliduntil,
                true AS rolcanlogin FROM pg_authid;
         CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''1999-01-01''::timestamptz'"
    ))
    .await;
    let sidepool = plain();
    for endpoint in ways(&sidepool, "victim.ref", "attacker") {
        for (name, value) in [("search_path", "evil, pg_catalog"), ("role", "postgres"), ("session_authorization", "postgres")] {
            let (_, told) = Wire::try_login(&endpoint.clone().parameter(name, value)).await;
            assert!(show_in_full(&told).contains("28P01"), "{name}: {}", show_in_full(&told));
        }
    }
    all_in(&sidepool, "victim.ref", "victims", "victim").await;
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sidepool auth_query' AND query ";
    assert_ne!(answer(&format!("{asked} LIKE 'SELECT rolname, CASE%' AND usename = 'postgres'")).await, "0");
    assert_eq!(answer(&format!("{asked} ~* 'set|evil|role postgres'")).await, "0");
}

#[tokio::test]
async fn names_are_values_and_never_sql() {
    sql("CREATE ROLE \"o'brien\" LOGIN PASSWORD 'pw'; CREATE ROLE \"we\"\"ird $1 \\\" LOGIN PASSWORD 'pw'; CREATE ROLE \"Größe\" LOGIN PASSWORD 'pw'")
        .await;
    let sidepool = plain();
    for role in ["o'brien", "we\"ird $1 \\", "Größe"] {
        all_in(&sidepool, &format!("{role}.ref"), "pw", role).await;
    }
    for role in ["' OR true --", "postgres'--", "größe", "O'BRIEN", "%"] {
        all_out(&sidepool, role, "pw").await;
    }
}

#[tokio::test]
async fn trap_66_cve_2015_6817_the_one_who_asks_is_not_the_one_who_logs_in() {
    sql("CREATE ROLE asker LOGIN PASSWORD 'askers';
         CREATE ROLE asked LOGIN PASSWORD 'askeds';
         CREATE FUNCTION secret_of(name text, OUT name_of text, OUT secret text) LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
             AS 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1';
         REVOKE ALL ON FUNCTION secret_of(text) FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION secret_of(text) TO asker;
         CREATE ROLE unprivileged LOGIN PASSWORD 'unprivileged'")
    .await;
    let upstream = strict().direct().user("unprivileged").password("unprivileged").url();
    let file = format!(
        "[projects.one]\nupstream = \"{upstream}\"\nauth_user = \"asker\"\nauth_password = \"askers\"\n\
         auth_query = \"SELECT * FROM secret_of($1)\"\n"
    );
    let sidepool = Sidepool::launch(&[("log", "debug")], &file).unwrap();
    all_in(&sidepool, "asked.one", "askeds", "asked").await;
    all_in(&sidepool, "asker.one", "askers", "asker").await;
    all_in(&sidepool, "unprivileged.one", "unprivileged", "unprivileged").await;
    for password in ["askers", "unprivileged", "secret", ""] {
        all_out(&sidepool, "nobody_here.one", password).await;
        all_out(&sidepool, "asked.one", password).await;
    }
    let log = sidepool.log();
    for secret in ["askers", "askeds", "SCRAM-SHA-256$"] {
        assert!(!log.contains(secret), "{secret} is logged");
    }
}

#[tokio::test]
async fn queries_that_do_not_answer_the_question_admit_nobody() {
    sql("CREATE ROLE misled LOGIN PASSWORD 'pw'; CREATE TABLE secrets (name text, secret text);
         INSERT INTO secrets VALUES ('misled', 'plain text'), ('twice', 'pw'), ('twice', 'pw'), ('null', NULL), ('empty', '')")
    .await;
    for (query, complaint) in [
        ("SELECT rolname FROM pg_authid WHERE rolname = $1", "does not return two columns"),
        ("SELECT rolname, rolpassword, 1 FROM pg_authid WHERE rolname = $1", "does not return two columns"),
        ("SELECT $1::text, $2::text", "does not take one parameter"),
        ("SELECT * FROM no_such_table WHERE x = $1", "(SQLSTATE 42P01)"),
        ("SELECT 'postgres'::text, 'pw'::text WHERE $1 <> ''", "answered with another user"),
        ("SELECT name, secret FROM secrets WHERE name = 'twice' OR name = $1", "several rows"),
    ] {
        let sidepool = Sidepool::start(strict(), &[("auth-query", query)]);
        let endpoint = sidepool.session().user("misled.ref").password("pw");
        assert_eq!(who(&endpoint).await, Err("28P01".into()), "{query}");
        sidepool.log_has(complaint);
        assert_eq!(who(&sidepool.session()).await, Ok("postgres/postgres".into()), "the upstream's own user needs no question");
    }
    let plain = Sidepool::start(strict(), &[("auth-query", "SELECT name, secret FROM secrets WHERE name = $1")]);
    sql("ALTER ROLE misled PASSWORD 'plain text'").await;
    all_in(&plain, "misled", "plain text", "misled").await;
    for user in ["null", "empty", "twice"] {
        all_out(&plain, user, "").await;
        all_out(&plain, user, "pw").await;
    }
}

#[tokio::test]
async fn an_upstream_user_who_may_not_read_verifiers_is_told_of_and_does_no_harm() {
    sql("CREATE ROLE modest LOGIN PASSWORD 'modest'; CREATE ROLE unread LOGIN PASSWORD 'pw'").await;
    let upstream = strict().direct().user("modest").password("modest").url();
    let sidepool = Sidepool::launch(&[], &format!("upstream = \"{upstream}\"\n")).unwrap();
    all_out(&sidepool, "unread.ref", "pw").await;
    all_in(&sidepool, "modest.ref", "modest", "modest").await;
    sidepool.log_has("may not read their verifiers; name one who may as auth_user");
    assert_eq!(sidepool.log().matches("may not read their verifiers").count(), 1, "{}", sidepool.log());
}

#[tokio::test]
async fn clients_that_wait_share_one_question() {
    sql("CREATE ROLE popular LOGIN PASSWORD 'pw'; CREATE SEQUENCE asked_times;
         CREATE FUNCTION slowly(name text, OUT name_of text, OUT secret text) LANGUAGE plpgsql AS
         'BEGIN PERFORM nextval(''asked_times''), pg_sleep(0.3);
          SELECT rolname, rolpassword INTO name_of, secret FROM pg_authid WHERE rolname = $1; END'")
    .await;
    let sidepool = Sidepool::start(strict(), &[("auth-query", "SELECT * FROM slowly($1)")]);
    let endpoint = sidepool.transaction().user("popular").password("pw");
    let logins = (0..40).map(|_| {
        tokio::spawn({
            let endpoint = endpoint.clone();
            async move { who(&endpoint).await }
        })
    });
    for login in logins.collect::<Vec<_>>() {
        assert_eq!(login.await.unwrap(), Ok("popular/popular".into()));
    }
    let asked: i64 = answer("SELECT last_value FROM asked_times").await.parse().unwrap();
    assert!(asked <= 8, "40 logins were {asked} questions");
    let desks =
        answer("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sidepool auth_query' AND query LIKE '%slowly%'");
    assert_eq!(desks.await, "1");
}

#[tokio::test]
async fn an_upstream_that_is_away_is_named_and_is_no_wrong_password() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = format!("upstream = \"postgres://postgres:secret@{free}/postgres\"\n");
    let sidepool = Sidepool::launch(&[("timeout-server-down", "300ms")], &file).unwrap();
    for endpoint in ways(&sidepool, "somebody", "pw") {
        let started = Instant::now();
        assert_eq!(who(&endpoint).await, Err("08006".into()));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
