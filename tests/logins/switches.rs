//! What may be switched on: passwords in clear, addresses, TLS, lock-out.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use sidepool::auth::keys::ScramKeys;
use sidepool::auth::verifier::Verifier;
use tokio_postgres::error::SqlState;

use crate::common::wire::{Wire, show_in_full};
use crate::common::{Plan, Postgres, Sidepool};
use crate::{all_in, all_out, sql, strict, ways, who};

#[tokio::test]
async fn passthrough_tries_the_password_upstream() {
    sql("CREATE ROLE tried LOGIN PASSWORD 'pw'").await;
    let flags = [("auth-query", "false"), ("passthrough", "true")];
    let sidepool = Sidepool::start(strict(), &flags);
    all_in(&sidepool, "tried.ref", "pw", "tried").await;
    all_out(&sidepool, "tried.ref", "wp").await;
    all_out(&sidepool, "tried.ref", "").await;
    all_out(&sidepool, "nobody_there.ref", "pw").await;
    // The new one at the first try, and then the old one no more.
    sql("ALTER ROLE tried PASSWORD 'new'").await;
    all_in(&sidepool, "tried.ref", "new", "tried").await;
    all_out(&sidepool, "tried.ref", "pw").await;
    // One whom the upstream believes anything is not believed.
    sql("CREATE ROLE waved_through LOGIN").await;
    assert_eq!(who(&sidepool.session().user("waved_through").password("anything")).await, Err("28000".into()));

    let each_time = Sidepool::start(strict(), &[flags[0], flags[1], ("passthrough-max-age", "0")]);
    all_in(&each_time, "tried.ref", "new", "tried").await;
    sql("ALTER ROLE tried PASSWORD 'newer'").await;
    all_out(&each_time, "tried.ref", "new").await;
}

#[tokio::test]
async fn trap_67_a_password_may_have_sixty_thousand_bytes() {
    // PostgreSQL takes that much in clear only.
    let token = "t".repeat(60_000);
    let postgres = Postgres::start(Plan { hba: vec!["host all tokened 127.0.0.1/32 password".into()], ..Plan::default() });
    postgres.execute("postgres", &format!("CREATE ROLE tokened LOGIN PASSWORD '{token}'")).await;
    let sidepool = Sidepool::start(&postgres, &[("auth-query", "false"), ("passthrough", "true")]);
    all_in(&sidepool, "tokened", &token, "tokened").await;
    all_out(&sidepool, "tokened", &token[1..]).await;
    // By its verifier the pooler knows whose it is, but not the password that this server insists on (trap 65).
    let by_verifier = Sidepool::start(&postgres, &[]);
    assert_eq!(who(&by_verifier.session().user("tokened").password(&token)).await, Err("28000".into()));
}

#[tokio::test]
async fn a_11_addresses_tls_and_lockout_where_they_are_asked_for() {
    let refused = async |flags: &[(&str, &str)], expected: &str| {
        let sidepool = Sidepool::start(strict(), flags);
        for endpoint in ways(&sidepool, "postgres", "secret") {
            let (_, told) = Wire::try_login(&endpoint).await;
            assert!(show_in_full(&told).contains(expected), "{}", show_in_full(&told));
        }
    };
    refused(&[("allow", "10.0.0.0/8,::1")], "28000 | connections from 127.0.0.1 are not allowed").await;
    refused(&[("require-tls", "true")], "28000 | SSL connection is required").await;
    let allowing = Sidepool::start(strict(), &[("allow", "127.0.0.0/8"), ("failure-delay", "200ms"), ("lockout-failures", "3")]);
    let started = Instant::now();
    for _ in 0..3 {
        assert_eq!(who(&allowing.session().password("wrong")).await, Err("28P01".into()));
    }
    assert!(started.elapsed() >= Duration::from_millis(600));
    let (_, told) = Wire::try_login(&allowing.session()).await;
    assert!(show_in_full(&told).contains("28000 | too many authentication failures"), "{}", show_in_full(&told));
}

#[tokio::test]
async fn trap_65_a_key_that_the_server_does_not_take_is_said_to_be_one() {
    // The secret that clients are checked against is not the upstream's.
    sql("CREATE ROLE twofaced LOGIN PASSWORD 'upstreams'").await;
    let keys = ScramKeys::derive("clients", b"another salt", NonZeroU32::new(4096).unwrap());
    let verifier = Verifier::from_keys(&keys, b"another salt", NonZeroU32::new(4096).unwrap()).to_text();
    let sidepool = Sidepool::configured(strict(), &[], &format!("[users]\ntwofaced = \"{verifier}\"\n"));
    for endpoint in ways(&sidepool, "twofaced", "clients") {
        let refused = endpoint.try_client().await.err().unwrap();
        assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD));
    }
    all_out(&sidepool, "twofaced", "upstreams").await;
}
