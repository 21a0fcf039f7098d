//! Real clients, as people install them, against both ports: the programs are in `tests/clients/`.
//!
//! With `SIDEPOOL_TEST_DIRECT=1` they run against PostgreSQL itself: what fails there too is not Sidepool's fault.

mod common;
#[path = "clients/install.rs"]
mod install;
#[path = "clients/run.rs"]
mod run;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use common::{Endpoint, Plan, Postgres, Sidepool};
use install::{Place, Recipe, needs, succeed};
use run::skip;
use tempfile::TempDir;

/// Servers of a pool. The programs know it: in session mode they hold no more sessions at once.
const POOL_SIZE: &str = "10";

/// How often sessions are opened at once there, and more than [`POOL_SIZE`] by far.
const MAX_CONNECTIONS: &str = "600";

const SYSTEM: Recipe = Recipe {
    name: "system",
    versions: None,
    files: &["clients/psql.py", "clients/check.py", "clients/pgbench.sh"],
    install: |_| Ok(()),
};

const NODE: Recipe = Recipe {
    name: "node",
    versions: Some("clients/package.json"),
    files: &[
        "clients/node-postgres.mjs",
        "clients/postgres-js.mjs",
        "clients/drizzle.mjs",
        "clients/kysely.mjs",
        "clients/check.mjs",
    ],
    install: install::npm,
};

const PYTHON: Recipe = Recipe {
    name: "python",
    versions: Some("clients/requirements.txt"),
    files: &[
        "clients/psycopg3.py",
        "clients/asyncpg_.py",
        "clients/sqlalchemy_.py",
        "clients/alembic_.py",
        "clients/django_.py",
        "clients/check.py",
    ],
    install: |place| {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(place))?;
        let quiet = ["install", "--quiet", "--disable-pip-version-check", "-r"];
        succeed(Command::new(place.join("bin/pip")).args(quiet).arg(place.join("requirements.txt")))
    },
};

/// Where Debian has the driver (`libpostgresql-jdbc-java`).
const JDBC: &str = "/usr/share/java/postgresql.jar";

const JAVA: Recipe = Recipe { name: "java", versions: None, files: &["clients/Jdbc.java"], install: |_| Ok(()) };

const SQLX: Recipe = Recipe {
    name: "rust",
    versions: Some("clients/sqlx/Cargo.toml"),
    files: &["clients/sqlx/main.rs"],
    install: |place| {
        let manifest = place.join("sqlx/Cargo.toml");
        succeed(Command::new("cargo").args(["build", "--quiet", "--manifest-path"]).arg(manifest))
    },
};

#[tokio::test]
async fn psql() {
    run("psql", system(&["psql", "python3"]), &["python3", "psql.py"]).await;
}

/// The lines of `sidepool urls`, pasted into a shell as they are.
#[tokio::test]
async fn psql_by_the_printed_lines() {
    if let Err(missing) = needs(&["psql", "sh"]) {
        return skip("psql", &missing);
    }
    let postgres = Postgres::shared();
    let sidepool = Sidepool::start(postgres, &[]);
    let ports = [sidepool.session().port, sidepool.transaction().port];
    let [session, transaction] = ports;
    let listening = format!("--session-port={session} --transaction-port={transaction} --listen-addresses=127.0.0.1");
    let arguments: Vec<_> = listening.split(' ').chain(["--show-passwords"]).collect();
    let urls = Sidepool::once("urls", &arguments, &format!("upstream = \"{}\"\n", postgres.direct().url()));
    assert_eq!(urls.code, Some(0), "{urls:?}");
    let lines: Vec<_> = urls.stdout.lines().filter(|line| line.starts_with("psql ")).collect();
    let told: Vec<_> = lines.iter().map(|line| pasted(line)).collect();
    assert_eq!(told, ports.map(|port| format!("{port} postgres.local postgres postgres\n")), "{lines:?}");
}

/// What psql says of where it is, and PostgreSQL of who that is.
fn pasted(line: &str) -> String {
    const ASKED: &str = "SELECT current_user AS who, current_database() AS place \\gset\n\\echo :PORT :USER :who :place\n";
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).env_clear().env("PATH", std::env::var_os("PATH").expect("psql is in it"));
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it is there");
    shell.stdin.take().expect("it is piped").write_all(ASKED.as_bytes()).expect("psql reads it");
    let output = shell.wait_with_output().expect("it is our child");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_29_pgbench() {
    run("pgbench", system(&["pgbench", "bash", "timeout"]), &["bash", "pgbench.sh"]).await;
}

#[tokio::test]
async fn node_postgres() {
    run("node-postgres", node(), &["node", "--no-warnings", "node-postgres.mjs"]).await;
}

#[tokio::test]
async fn postgres_js() {
    run("postgres.js", node(), &["node", "postgres-js.mjs"]).await;
}

#[tokio::test]
async fn drizzle() {
    run("Drizzle", node(), &["node", "--no-warnings", "drizzle.mjs"]).await;
}

#[tokio::test]
async fn kysely() {
    run("Kysely", node(), &["node", "--no-warnings", "kysely.mjs"]).await;
}

#[tokio::test]
async fn psycopg() {
    run("psycopg", python(), &["bin/python", "psycopg3.py"]).await;
}

#[tokio::test]
async fn asyncpg() {
    run("asyncpg", python(), &["bin/python", "asyncpg_.py"]).await;
}

#[tokio::test]
async fn sqlalchemy() {
    run("SQLAlchemy", python(), &["bin/python", "sqlalchemy_.py"]).await;
}

#[tokio::test]
async fn alembic() {
    run("Alembic", python(), &["bin/python", "alembic_.py"]).await;
}

#[tokio::test]
async fn django() {
    run("Django", python(), &["bin/python", "django_.py"]).await;
}

#[tokio::test]
async fn jdbc() {
    run("JDBC", java(), &["java", "-cp", JDBC, "Jdbc.java"]).await;
}

#[tokio::test]
async fn sqlx() {
    // Which builds the program anew where that alone has changed.
    run("sqlx", rust(), &["cargo", "run", "--quiet", "--manifest-path", "sqlx/Cargo.toml"]).await;
}

fn rust() -> Result<Place, String> {
    needs(&["cargo"])?;
    static PREPARED: OnceLock<Result<Place, String>> = OnceLock::new();
    PREPARED.get_or_init(|| SQLX.prepare()).clone()
}

fn java() -> Result<Place, String> {
    // `java` compiles the one file itself, where there is a compiler.
    needs(&["java", "javac"])?;
    if !Path::new(JDBC).exists() {
        return Err(format!("{JDBC} is not there"));
    }
    static PREPARED: OnceLock<Result<Place, String>> = OnceLock::new();
    PREPARED.get_or_init(|| JAVA.prepare()).clone()
}

fn system(programs: &[&str]) -> Result<Place, String> {
    needs(programs)?;
    static PREPARED: OnceLock<Result<Place, String>> = OnceLock::new();
    PREPARED.get_or_init(|| SYSTEM.prepare()).clone()
}

fn node() -> Result<Place, String> {
    needs(&["node", "npm"])?;
    static PREPARED: OnceLock<Result<Place, String>> = OnceLock::new();
    PREPARED.get_or_init(|| NODE.prepare()).clone()
}

fn python() -> Result<Place, String> {
    needs(&["python3"])?;
    static PREPARED: OnceLock<Result<Place, String>> = OnceLock::new();
    PREPARED.get_or_init(|| PYTHON.prepare()).clone()
}

/// Runs the program on each port over TLS, and once without, in a database of its own each time.
async fn run(name: &str, place: Result<Place, String>, command: &[&str]) {
    let place = match place {
        Ok(place) => place,
        Err(missing) => return skip(name, &missing),
    };
    let target = Target::start();
    for (mode, tls) in [("session", true), ("transaction", true), ("transaction", false)] {
        let transport = if tls { "tls" } else { "plain" };
        let database = format!("{}_{mode}_{transport}", name.to_lowercase().replace(['.', '-'], "_"));
        postgres().new_database(&database).await;
        let endpoint = if mode == "session" { target.session() } else { target.transaction() };
        let url = endpoint.database(&database).url();
        let url = if tls { url + target.tls() } else { url };
        let mut environment = vec![("DATABASE_URL", url), ("MODE", mode.to_owned())];
        environment.extend(target.console().map(|url| ("CONSOLE_URL", if tls { url + target.tls() } else { url })));
        // node-postgres takes `require` for verify-full; this is how all of Node is told of an authority.
        environment.extend(target.authority().map(|file| ("NODE_EXTRA_CA_CERTS", file.display().to_string())));
        run::run(&database, &place, command, &environment).await;
    }
}

/// The shared one has too little room where the programs talk to it themselves.
fn postgres() -> &'static Postgres {
    static POSTGRES: OnceLock<Postgres> = OnceLock::new();
    let settings = vec![("max_connections".into(), MAX_CONNECTIONS.into())];
    POSTGRES.get_or_init(|| Postgres::start(Plan { settings, ..Plan::default() }))
}

enum Target {
    /// With its state, where the development certificate is.
    Sidepool(Sidepool, TempDir),
    Direct,
}

impl Target {
    fn start() -> Self {
        match std::env::var("SIDEPOOL_TEST_DIRECT").as_deref() {
            Ok("1") => Self::Direct,
            _ => {
                let state = tempfile::tempdir().expect("the temporary directory is writable");
                let directory = state.path().display().to_string();
                let flags = [("pool-size", POOL_SIZE), ("state-dir", directory.as_str())];
                Self::Sidepool(Sidepool::start(postgres(), &flags), state)
            }
        }
    }

    fn session(&self) -> Endpoint {
        match self {
            Self::Sidepool(sidepool, _) => sidepool.session(),
            Self::Direct => postgres().direct(),
        }
    }

    fn transaction(&self) -> Endpoint {
        match self {
            Self::Sidepool(sidepool, _) => sidepool.transaction(),
            Self::Direct => postgres().direct(),
        }
    }

    /// PostgreSQL itself speaks none here.
    fn tls(&self) -> &'static str {
        match self {
            Self::Sidepool(..) => "?sslmode=require",
            Self::Direct => "",
        }
    }

    /// PostgreSQL itself has none.
    fn console(&self) -> Option<String> {
        match self {
            Self::Sidepool(sidepool, _) => Some(sidepool.transaction().database("sidepool").url()),
            Self::Direct => None,
        }
    }

    fn authority(&self) -> Option<PathBuf> {
        match self {
            Self::Sidepool(_, state) => Some(state.path().join("ca.crt")),
            Self::Direct => None,
        }
    }
}
