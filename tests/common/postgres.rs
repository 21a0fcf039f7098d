//! The PostgreSQL that is pooled: on a Unix socket and on a free loopback port, gone with the test binary.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal};
use sidepool::embedded::{Binaries, Error, Places, Role, Row, Server, Spec, Storage};
use tokio::sync::oneshot;

use super::Endpoint;

/// Attempts at a port that nobody takes between our looking and PostgreSQL's listening.
const PORT_ATTEMPTS: usize = 5;

/// Everybody's password.
const PASSWORD: &str = "secret";

/// By the name of the role: md5, SCRAM, in clear, or nothing asked.
const HBA: [&str; 7] = [
    "host all p_md5 127.0.0.1/32 md5",
    "host all p_scram 127.0.0.1/32 scram-sha-256",
    "host all p_clear 127.0.0.1/32 password",
    "local all p_md5 md5",
    "local all p_scram scram-sha-256",
    "local all p_clear password",
    "host all all 127.0.0.1/32 trust",
];

/// What a test asks of it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// `None`: what is installed.
    pub major: Option<u16>,
    /// `None`: a free one.
    pub port: Option<u16>,
    pub settings: Vec<(String, String)>,
    /// Before the lines that are there for all.
    pub hba: Vec<String>,
}

/// Owned by a thread with a runtime of its own, so that it serves the runtimes of many tests.
#[derive(Debug)]
pub struct Postgres {
    pub socket_directory: PathBuf,
    pub port: u16,
    pub version: String,
    /// The postmaster.
    pub pid: u32,
    owner: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Postgres {
    /// The one that all tests of this binary share, so that none of them may stop or reconfigure it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Plan::default()))
    }

    /// One of a major version (14 to 18), fetched where it is not installed.
    pub fn of_version(major: u16) -> Self {
        Self::start(Plan { major: Some(major), ..Plan::default() })
    }

    /// One of one's own; stopped when it is dropped.
    pub fn start(plan: Plan) -> Self {
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || own(&plan, &tell, stopped));
        let started: Result<Self, Error> = told.recv().expect("the thread tells before it ends");
        let mut started = started.unwrap_or_else(|error| panic!("no PostgreSQL to test with: {error}"));
        started.owner = Some((stop, thread));
        started
    }

    /// As `pg_ctl stop -m smart` (TERM) or `-m fast` (INT) does it.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid.cast_signed()).expect("a process has a pid");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Over TCP, as the superuser.
    pub fn direct(&self) -> Endpoint {
        Endpoint::new(self.port)
    }

    /// Runs set-up statements as the superuser.
    pub async fn execute(&self, database: &str, sql: &str) {
        let client = self.direct().database(database).client().await;
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// A database that no other test knows.
    pub async fn new_database(&self, name: &str) -> Endpoint {
        self.execute("postgres", &format!("CREATE DATABASE {name}")).await;
        self.direct().database(name)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.owner.take() {
            // Both fail only when the thread has ended before us, and then there is nothing left to stop.
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

fn own(plan: &Plan, tell: &mpsc::Sender<Result<Postgres, Error>>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs but a few files");
    runtime.block_on(async {
        match start(plan).await {
            Err(error) => drop(tell.send(Err(error))),
            Ok(server) => {
                let postgres = Postgres {
                    socket_directory: server.socket_directory(),
                    port: server.socket_port(),
                    version: server.version().to_owned(),
                    pid: server.pid().expect("it has just said that it is ready"),
                    owner: None,
                };
                drop(tell.send(Ok(postgres)));
                // Never, for the shared one: it goes with the process.
                drop(stopped.await);
                server.stop().await.expect("PostgreSQL stops");
            }
        }
    });
}

async fn start(plan: &Plan) -> Result<Server, Error> {
    let places = Places::of_this_user()?;
    let binaries = Binaries::obtain(&places, plan.major, |major| eprintln!("fetching PostgreSQL {major}")).await?;
    let mut attempt = 0;
    let server = loop {
        attempt += 1;
        match Server::start(&binaries, &places.account, &spec(plan)).await {
            Err(Error::NotStarted { .. }) if attempt < PORT_ATTEMPTS => {}
            started => break started?,
        }
    };
    make_roles(&server).await?;
    Ok(server)
}

fn spec(plan: &Plan) -> Spec {
    // Room for what the pooler may open, and for those who look at it from beside.
    let mut settings = vec![("max_connections".into(), "300".into()), ("max_prepared_transactions".into(), "20".into())];
    settings.extend(plan.settings.iter().cloned());
    Spec {
        storage: Storage::Throwaway,
        tcp_port: Some(plan.port.unwrap_or_else(free_port)),
        hba: plan.hba.iter().cloned().chain(HBA.map(str::to_owned)).collect(),
        settings,
        ..Spec::new(directory())
    }
}

/// Whoever runs PostgreSQL when we are root must be able to enter it.
fn directory() -> PathBuf {
    let made = tempfile::Builder::new().prefix("sidepool-test-").tempdir().expect("the temporary directory is writable");
    let path = made.keep();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

async fn make_roles(server: &Server) -> Result<Vec<Row>, Error> {
    for (name, attributes) in [("postgres", ""), ("app", ""), ("p_scram", ""), ("p_clear", ""), ("prisma", "CREATEDB")] {
        server.create_role(&Role { name, password: Some(PASSWORD), attributes }).await?;
    }
    let md5 = format!("SET password_encryption = 'md5'; CREATE ROLE p_md5 LOGIN PASSWORD '{PASSWORD}'");
    server.execute("postgres", &md5).await?;
    let open = "GRANT ALL ON SCHEMA public TO PUBLIC; GRANT CREATE ON DATABASE postgres TO PUBLIC";
    server.execute("postgres", open).await
}
