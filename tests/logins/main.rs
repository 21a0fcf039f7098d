//! Who gets in without Sidepool having been told of them: `auth_query` against a real PostgreSQL, which checks every login too.
//! Names: a number with `a_` is an acceptance case of the hosted pooler, one with `trap_` a trap of poolers before.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

#[path = "../common/mod.rs"]
mod common;

mod changes;
mod projects;
mod questions;
mod secrets;
mod switches;

use std::sync::OnceLock;

use common::{Endpoint, Plan, Postgres, Sidepool};

/// Believes nobody: what the pooler presents for a client has to be right.
fn strict() -> &'static Postgres {
    static STRICT: OnceLock<Postgres> = OnceLock::new();
    STRICT.get_or_init(|| {
        Postgres::start(Plan {
            hba: vec!["host all waved_through 127.0.0.1/32 trust".into(), "host all all 127.0.0.1/32 md5".into()],
            ..Plan::default()
        })
    })
}

async fn sql(text: &str) {
    strict().execute("postgres", text).await;
}

async fn answer(text: &str) -> String {
    strict().direct().value(text).await
}

/// Both ports, as this user.
fn ways(sidepool: &Sidepool, user: &str, password: &str) -> [Endpoint; 2] {
    [sidepool.session(), sidepool.transaction()].map(|endpoint| endpoint.user(user).password(password))
}

async fn who(endpoint: &Endpoint) -> Result<String, String> {
    match endpoint.try_client().await {
        Ok(client) => Ok(client.query_one("SELECT current_user || '/' || session_user", &[]).await.unwrap().get(0)),
        Err(error) => Err(error.code().map_or_else(|| format!("{error:?}"), |code| code.code().to_owned())),
    }
}

async fn all_in(sidepool: &Sidepool, user: &str, password: &str, role: &str) {
    for endpoint in ways(sidepool, user, password) {
        assert_eq!(who(&endpoint).await, Ok(format!("{role}/{role}")), "{user} on {}\n{}", endpoint.port, sidepool.log());
    }
}

async fn all_out(sidepool: &Sidepool, user: &str, password: &str) {
    for endpoint in ways(sidepool, user, password) {
        assert_eq!(who(&endpoint).await, Err("28P01".into()), "{user} on {}", endpoint.port);
    }
}

fn plain() -> Sidepool {
    Sidepool::start(strict(), &[])
}
