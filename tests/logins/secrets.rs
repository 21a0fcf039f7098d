//! Roles of every kind, against what PostgreSQL keeps of them.

use std::num::NonZeroU32;

use sidepool::auth::keys::ScramKeys;
use sidepool::auth::verifier::Verifier;

use crate::common::wire::{self, Wire, show_in_full};
use crate::common::{Postgres, Sidepool};
use crate::{all_in, all_out, plain, sql, ways};

#[tokio::test]
async fn the_role_of_the_guide_logs_in_by_any_reference_without_the_pooler_being_told() {
    sql("DROP ROLE prisma").await;
    let sidepool = plain();
    all_out(&sidepool, "prisma.abcdefghijklmnopqrst", "custom password").await;
    sql("create user \"prisma\" with password 'custom password' bypassrls createdb;
         grant \"prisma\" to \"postgres\";
         grant usage on schema public to prisma;
         grant create on schema public to prisma;
         grant all on all tables in schema public to prisma;
         grant all on all routines in schema public to prisma;
         grant all on all sequences in schema public to prisma;
         alter default privileges for role postgres in schema public grant all on tables to prisma;")
    .await;
    for user in ["prisma.abcdefghijklmnopqrst", "prisma.other", "prisma"] {
        all_in(&sidepool, user, "custom password", "prisma").await;
        all_out(&sidepool, user, "custom passwor").await;
    }
    let client = ways(&sidepool, "prisma.abcdefghijklmnopqrst", "custom password")[1].client().await;
    client.batch_execute("CREATE DATABASE shadow_of_the_guide").await.unwrap();
    client.batch_execute("DROP DATABASE shadow_of_the_guide").await.unwrap();
}

#[tokio::test]
async fn verifiers_of_any_iteration_count() {
    let sidepool = plain();
    for (count, salt) in [(1, "s"), (4095, "sixteen bytes!!!"), (20_000, "a longer salt than PostgreSQL would make, and odd")] {
        let iterations = NonZeroU32::new(count).unwrap();
        let keys = ScramKeys::derive("pw", salt.as_bytes(), iterations);
        let verifier = Verifier::from_keys(&keys, salt.as_bytes(), iterations).to_text();
        let role = format!("iterations_{count}");
        sql(&format!("CREATE ROLE {role} LOGIN PASSWORD '{verifier}'")).await;
        all_in(&sidepool, &role, "pw", &role).await;
        all_out(&sidepool, &role, "Pw").await;
    }
}

#[tokio::test]
async fn a_25_and_trap_67_a_role_with_an_md5_secret_logs_in_by_md5() {
    let sidepool = plain();
    sql("SET password_encryption = 'md5'; CREATE ROLE old_fashioned LOGIN PASSWORD 'pw'").await;
    all_in(&sidepool, "old_fashioned.ref", "pw", "old_fashioned").await;
    all_out(&sidepool, "old_fashioned.ref", "wp").await;
    all_out(&sidepool, "old_fashioned.ref", "").await;
    // By its own name md5 will do; as user.project the client would hash a name that is not the role's.
    for (user, asked) in [("old_fashioned", 5), ("old_fashioned.ref", 3)] {
        let mut client = Wire::connect(sidepool.session().port).await;
        client.send(&wire::startup(&[("user", user), ("database", "postgres")])).await;
        assert_eq!(client.next().await.body[3], asked, "{user}");
    }
    all_in(&sidepool, "old_fashioned", "pw", "old_fashioned").await;
    all_out(&sidepool, "old_fashioned", "wp").await;
    sql("SET password_encryption = 'scram-sha-256'; ALTER ROLE old_fashioned PASSWORD 'pw'").await;
    all_in(&sidepool, "old_fashioned", "pw", "old_fashioned").await;
}

#[tokio::test]
async fn a_25_upstreams_of_every_method_with_a_stored_password() {
    let postgres = Postgres::shared();
    for user in ["p_md5", "p_scram", "p_clear"] {
        let file = format!("[projects.one]\nupstream = \"{}\"\n", postgres.direct().user(user).url());
        let sidepool = Sidepool::launch(&[], &file).unwrap();
        all_in(&sidepool, &format!("{user}.one"), "secret", user).await;
        all_out(&sidepool, &format!("{user}.one"), "Secret").await;
    }
}

#[tokio::test]
async fn trap_66_cve_2025_2291_roles_that_may_not_log_in() {
    sql("CREATE ROLE expired LOGIN PASSWORD 'pw' VALID UNTIL '2020-01-01';
         CREATE ROLE valid_for_ever LOGIN PASSWORD 'pw' VALID UNTIL 'infinity';
         CREATE ROLE valid_still LOGIN PASSWORD 'pw' VALID UNTIL '2999-01-01';
         CREATE ROLE nologin NOLOGIN PASSWORD 'pw';
         CREATE ROLE without_password LOGIN")
    .await;
    let sidepool = plain();
    for (role, password) in
        [("expired", "pw"), ("nologin", "pw"), ("without_password", ""), ("without_password", "pw"), ("nobody_at_all", "pw")]
    {
        all_out(&sidepool, role, password).await;
    }
    all_in(&sidepool, "valid_for_ever", "pw", "valid_for_ever").await;
    all_in(&sidepool, "valid_still", "pw", "valid_still").await;
    // And from one moment to the next.
    sql("ALTER ROLE valid_still VALID UNTIL '2020-01-01'").await;
    all_out(&sidepool, "valid_still", "pw").await;
}

#[tokio::test]
async fn a_02_a_wrong_password_has_postgresqls_words_whoever_it_is() {
    sql("CREATE ROLE known_here LOGIN PASSWORD 'pw'").await;
    let sidepool = plain();
    for user in ["known_here", "unknown_here", "postgres"] {
        for endpoint in ways(&sidepool, &format!("{user}.ref"), "wrong") {
            let (_, told) = Wire::try_login(&endpoint).await;
            assert_eq!(show_in_full(&told), format!("E(FATAL | 28P01 | password authentication failed for user \"{user}\")"));
        }
    }
}

#[tokio::test]
async fn trap_59_somebody_unknown_is_shown_what_somebody_known_is() {
    let iterations = NonZeroU32::new(7777).unwrap();
    let keys = ScramKeys::derive("pw", b"sixteen bytes!!!", iterations);
    let verifier = Verifier::from_keys(&keys, b"sixteen bytes!!!", iterations).to_text();
    sql(&format!("CREATE ROLE real_one LOGIN PASSWORD '{verifier}'")).await;
    let sidepool = plain();
    let shown = async |user: &str| {
        let mut client = Wire::connect(sidepool.session().port).await;
        client.send(&wire::startup(&[("user", user), ("database", "postgres")])).await;
        client.next().await;
        client.send(&wire::password(b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc")).await;
        let first = String::from_utf8(client.next().await.body[4..].to_vec()).unwrap();
        first.split_once(",s=").unwrap().1.to_owned()
    };
    let real = shown("real_one").await;
    assert!(real.ends_with(",i=7777"), "{real}");
    let mock = shown("no_such_one").await;
    assert_eq!((mock.len(), &mock[24..], mock == shown("no_such_one").await), (real.len(), ",i=7777", true));
}
