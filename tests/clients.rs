//! Real clients, as people install them, against both ports: the programs are in `tests/clients/`.
//!
//! With `SIDEPOOL_TEST_DIRECT=1` they run against PostgreSQL itself: what fails there too is not Sidepool's fault.

mod common;
#[path = "clients/install.rs"]
mod install;

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use common::{Endpoint, Plan, Postgres, Sidepool};
use install::Place;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

/// The programs bound themselves; this is for when that fails.
const LIMIT: Duration = Duration::from_secs(150);

/// Servers of a pool. The programs know it: in session mode they hold no more sessions at once.
const POOL_SIZE: &str = "10";

/// How often sessions are opened at once there, and more than [`POOL_SIZE`] by far.
const MAX_CONNECTIONS: &str = "600";

#[tokio::test]
async fn psql() {
    run("psql", install::system(&["psql", "python3"]), &["python3", "psql.py"]).await;
}

#[tokio::test]
async fn a_29_pgbench() {
    run("pgbench", install::system(&["pgbench", "bash", "timeout"]), &["bash", "pgbench.sh"]).await;
}

#[tokio::test]
async fn node_postgres() {
    run("node-postgres", install::node(), &["node", "--no-deprecation", "node-postgres.mjs"]).await;
}

#[tokio::test]
async fn postgres_js() {
    run("postgres.js", install::node(), &["node", "postgres-js.mjs"]).await;
}

#[tokio::test]
async fn psycopg() {
    run("psycopg", install::python(), &["bin/python", "psycopg3.py"]).await;
}

#[tokio::test]
async fn asyncpg() {
    run("asyncpg", install::python(), &["bin/python", "asyncpg_.py"]).await;
}

#[tokio::test]
async fn prisma() {
    run("Prisma", install::prisma(), &["node", "prisma.mjs"]).await;
}

/// Runs the program on each port, in a database of its own each time.
async fn run(name: &str, place: Result<Place, String>, command: &[&str]) {
    let place = match place {
        Ok(place) => place,
        Err(missing) => return skip(name, &missing),
    };
    let target = Target::start();
    for mode in ["session", "transaction"] {
        let database = format!("{}_{mode}", name.to_lowercase().replace(['.', '-'], "_"));
        postgres().new_database(&database).await;
        let session = target.session().database(&database).url();
        let under_test = if mode == "session" { session.clone() } else { target.transaction().database(&database).url() };
        let environment = [("DATABASE_URL", under_test), ("SESSION_URL", session), ("MODE", mode.to_owned())];
        let output = place.directory.join(format!("{database}.out"));
        if let Err(why) = finish(&place.directory, command, &environment, &output).await {
            panic!("{name}, {mode} mode: {why}\n{}", fs::read_to_string(&output).unwrap_or_default());
        }
    }
}

/// Where it matters, nothing is skipped.
fn skip(name: &str, missing: &str) {
    eprintln!("skipped: {name}: {missing}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} cannot be skipped here: {missing}");
}

/// The shared one has too little room where the programs talk to it themselves.
fn postgres() -> &'static Postgres {
    static POSTGRES: OnceLock<Postgres> = OnceLock::new();
    let settings = vec![("max_connections".into(), MAX_CONNECTIONS.into())];
    POSTGRES.get_or_init(|| Postgres::start(Plan { settings, ..Plan::default() }))
}

enum Target {
    Sidepool(Sidepool),
    Direct,
}

impl Target {
    fn start() -> Self {
        match std::env::var("SIDEPOOL_TEST_DIRECT").as_deref() {
            Ok("1") => Self::Direct,
            _ => Self::Sidepool(Sidepool::start(postgres(), &[("pool-size", POOL_SIZE)])),
        }
    }

    fn session(&self) -> Endpoint {
        match self {
            Self::Sidepool(sidepool) => sidepool.session(),
            Self::Direct => postgres().direct(),
        }
    }

    fn transaction(&self) -> Endpoint {
        match self {
            Self::Sidepool(sidepool) => sidepool.transaction(),
            Self::Direct => postgres().direct(),
        }
    }
}

/// It succeeds, in time, and has said `ok …` about each of its cases and nothing else.
async fn finish(directory: &Path, command: &[&str], environment: &[(&str, String)], output: &Path) -> Result<(), String> {
    let file = File::create(output).expect("it is ours");
    let program = if command[0].contains('/') { directory.join(command[0]) } else { command[0].into() };
    let mut child = Command::new(&program)
        .args(&command[1..])
        .current_dir(directory)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("it is open"))
        .stderr(file)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("nobody has waited for it");
    let Ok(status) = tokio::time::timeout(LIMIT, child.wait()).await else {
        // With the programs that it started.
        kill_process_group(group, Signal::KILL).expect("it has not ended");
        return Err(format!("it took more than {LIMIT:?}"));
    };
    let said = fs::read_to_string(output).map_err(|error| error.to_string())?;
    match status {
        Ok(status) if !status.success() => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
        Ok(_) if said.is_empty() => Err("it tried nothing".into()),
        Ok(_) => said.lines().find(|line| !line.starts_with("ok ")).map_or(Ok(()), |line| Err(format!("it said {line:?}"))),
    }
}
