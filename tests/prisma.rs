//! Prisma as npm has it: the client, the CLI, and Supabase's guide step by step. The programs are in `tests/prisma/`.

mod common;
#[path = "clients/install.rs"]
mod install;
#[path = "clients/run.rs"]
mod run;

use std::process::Command;
use std::sync::OnceLock;

use common::wire::{self, Wire, show, show_in_full};
use common::{Endpoint, Plan, Postgres, Sidepool};
use install::{Place, Recipe, needs, succeed};
use run::skip;

const PRISMA: Recipe = Recipe {
    name: "prisma",
    versions: Some("prisma/package.json"),
    files: &[
        "clients/check.mjs",
        "prisma/schema-engine.mjs",
        "prisma/client.mjs",
        "prisma/client/schema.prisma",
        "prisma/client/prisma.config.mjs",
        "prisma/guide.mjs",
        "prisma/guide/index.ts",
        "prisma/guide/exercise.ts",
        "prisma/guide/models.prisma",
        "prisma/guide/prisma.config.ts",
        "prisma/guide/prisma/schema.prisma",
    ],
    install: install::npm,
};

/// Servers of a pool. The programs know it: in session mode they hold no more sessions at once.
const POOL_SIZE: (&str, &str) = ("pool-size", "10");

fn prisma() -> Result<Place, String> {
    needs(&["node", "npm"])?;
    static PREPARED: OnceLock<Result<Place, String>> = OnceLock::new();
    PREPARED.get_or_init(|| PRISMA.prepare()).clone()
}

#[tokio::test]
async fn the_client() {
    let place = match prisma() {
        Ok(place) => place,
        Err(missing) => return skip("Prisma", &missing),
    };
    generate(&place).unwrap_or_else(|why| panic!("{why}"));
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[POOL_SIZE]);
    for mode in ["session", "transaction"] {
        let database = format!("client_{mode}");
        postgres.new_database(&database).await;
        // What node-postgres needs to read `require` as everybody else does.
        let url = |endpoint: Endpoint| endpoint.database(&database).url() + "?sslmode=require&uselibpqcompat=true";
        let session = url(sidepool.session());
        let under_test = if mode == "session" { session.clone() } else { url(sidepool.transaction()) };
        let environment = [("DATABASE_URL", under_test), ("SESSION_URL", session), ("MODE", mode.to_owned())];
        run::run(&database, &place, &["node", "client.mjs"], &environment).await;
    }
}

fn generate(place: &Place) -> Result<(), String> {
    let mut command = Command::new(place.directory.join("node_modules/.bin/prisma"));
    command.arg("generate").current_dir(place.directory.join("client"));
    command.env("PRISMA_SCHEMA_ENGINE_BINARY", place.directory.join("schema-engine.mjs"));
    succeed(command.env("PRISMA_HIDE_UPDATE_MESSAGE", "1").env("CHECKPOINT_DISABLE", "1"))
}

#[tokio::test]
async fn the_guide() {
    let place = match prisma() {
        Ok(place) => place,
        Err(missing) => return skip("the Prisma guide", &missing),
    };
    let postgres = as_a_new_project_is().await;
    // Nobody tells it the password of the user that the guide makes.
    let sidepool = Sidepool::start(&postgres, &[POOL_SIZE]);
    let superuser = sidepool.session();
    let environment = [
        ("SESSION_PORT", superuser.port.to_string()),
        ("TRANSACTION_PORT", sidepool.transaction().port.to_string()),
        ("SUPERUSER_PASSWORD", superuser.password),
        ("LIMIT_MS", "280000".to_owned()),
    ];
    run::run("guide", &place, &["node", "guide.mjs"], &environment).await;
}

/// Nobody has made a user for Prisma, only PostgreSQL's own privileges are there, and passwords are asked for.
async fn as_a_new_project_is() -> Postgres {
    let hba = vec!["host all all 127.0.0.1/32 scram-sha-256".into()];
    let postgres = Postgres::start(Plan { hba, ..Plan::default() });
    let undo = "DROP ROLE prisma; REVOKE CREATE ON SCHEMA public FROM PUBLIC; REVOKE CREATE ON DATABASE postgres FROM PUBLIC";
    postgres.execute("postgres", undo).await;
    postgres
}

/// Prisma up to version 6 without `pgbouncer=true`, from its native engine's sources; with it is trap 29 of `prepared.rs`.
///
/// Every process counts its statements from `s0`, asks for the types before it runs one, and throws out the least recently
/// used without waiting for the answer.
struct NativeEngine {
    wire: Wire,
    /// The number and the text of each statement, the least recently used first.
    cached: Vec<(usize, String)>,
    prepared: usize,
    /// Answers to Close that nobody has waited for.
    unread: usize,
}

impl NativeEngine {
    /// What the engine keeps is 100; fewer are thrown out sooner.
    const CACHE: usize = 10;

    fn new(wire: Wire) -> Self {
        Self { wire, cached: Vec::new(), prepared: 0, unread: 0 }
    }

    /// The value, as the statement's only column, of its only parameter; both are binary.
    async fn run(&mut self, sql: &str, value: i32) -> i32 {
        let number = self.statement(sql).await;
        let name = wire::text(&format!("s{number}"));
        let binary = [0, 1, 0, 1];
        let body = [b"\0", &name[..], &binary, &[0, 1, 0, 0, 0, 4], &value.to_be_bytes(), &binary].concat();
        let replies = self.exchange(&[wire::frame(b'B', &body), wire::execute("", 0), wire::sync()]).await;
        let row = replies.iter().find(|reply| reply.tag == b'D').unwrap_or_else(|| panic!("{sql}: {}", show_in_full(&replies)));
        let (_, value) = row.body.split_last_chunk().expect("an int4");
        i32::from_be_bytes(*value)
    }

    async fn statement(&mut self, sql: &str) -> usize {
        if let Some(at) = self.cached.iter().position(|(_, text)| text == sql) {
            let used = self.cached.remove(at);
            self.cached.push(used);
        } else {
            self.prepare(sql).await;
        }
        self.cached[self.cached.len() - 1].0
    }

    async fn prepare(&mut self, sql: &str) {
        if self.cached.len() == Self::CACHE {
            let (oldest, _) = self.cached.remove(0);
            self.wire.send(&[wire::close_statement(&format!("s{oldest}")), wire::sync()].concat()).await;
            self.unread += 1;
        }
        let number = self.prepared;
        self.prepared += 1;
        let name = format!("s{number}");
        let replies = self.exchange(&[wire::parse(&name, sql), wire::describe_statement(&name), wire::sync()]).await;
        assert!(show(&replies).starts_with("1 t T Z("), "{sql}: {}", show_in_full(&replies));
        self.cached.push((number, sql.to_owned()));
    }

    async fn exchange(&mut self, frames: &[Vec<u8>]) -> Vec<wire::Reply> {
        self.wire.send(&frames.concat()).await;
        for _ in 0..std::mem::take(&mut self.unread) {
            let closed = show(&self.wire.until(b'Z').await);
            assert!(closed.starts_with("3 Z("), "{closed}");
        }
        self.wire.until(b'Z').await
    }
}

#[tokio::test]
async fn the_native_engine_of_version_6_from_many_processes_at_once() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", r#"CREATE SCHEMA "LabCase"; CREATE TYPE "LabCase".mood AS ENUM ('good', 'bad')"#).await;
    let sidepool = Sidepool::start(postgres, &[("pool-size", "3")]);
    let processes = (0..20).map(|process| {
        // `?schema=LabCase`.
        let endpoint = sidepool.transaction().parameter("search_path", "\"LabCase\"");
        async move {
            let mut engine = NativeEngine::new(endpoint.wire().await);
            for round in 0..60 {
                // Some are in the cache, some have been thrown out of it; the same name is another statement elsewhere.
                let which = (round * 7 + process) % 13;
                let sql = format!("SELECT $1::int + {which} WHERE current_schema = 'LabCase'");
                let in_transaction = round % 3 == 0;
                if in_transaction {
                    engine.exchange(&[wire::query("BEGIN")]).await;
                }
                assert_eq!(engine.run(&sql, 100 * process).await, 100 * process + which, "s{} of {process}", engine.prepared);
                // What a type is that the engine does not know it looks up in between.
                engine.prepare(&format!("SELECT 'good'::mood, $1::int -- {round}")).await;
                engine.run("SELECT oid::int FROM pg_type WHERE typname = 'mood' AND $1::int = 7", 7).await;
                if in_transaction {
                    engine.exchange(&[wire::query("COMMIT")]).await;
                }
            }
        }
    });
    common::at_once(processes).await;
}
