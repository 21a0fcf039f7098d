//! A PostgreSQL of these tests' own: in a temporary directory, on a free loopback port and a socket of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

const BINARIES: &str = "/usr/lib/postgresql/15/bin";

pub(crate) struct Postgres {
    pub(crate) port: u16,
    directory: TempDir,
    server: Child,
}

impl Postgres {
    /// One server for all tests that run at the same time; the last of them stops it.
    pub(crate) fn shared() -> Arc<Self> {
        static RUNNING: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Self::start());
            *running = Arc::downgrade(&started);
            started
        })
    }

    /// Where `.s.PGSQL.<port>` is.
    pub(crate) fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn root_certificate(&self) -> PathBuf {
        self.directory.path().join("tls/ca.crt")
    }

    /// As superuser, over the Unix socket.
    pub(crate) async fn admin(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.socket_directory()).port(self.port).user("postgres").dbname("postgres");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client
    }

    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        sidepool::net::dev_cert::load_or_create(&path.join("tls")).expect("a certificate");
        for owned in [path.to_owned(), path.join("tls"), path.join("tls/server.pem"), path.join("tls/ca.crt")] {
            if let Some(user) = other_user() {
                chown(owned, Some(user), Some(user)).expect("chown");
            }
        }
        let data = path.join("data");
        let initialized = program("initdb")
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(initialized.expect("initdb").success());
        fs::write(data.join("pg_hba.conf"), include_str!("pg_hba.conf")).expect("pg_hba.conf");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let server = run(path, &data, port);
        Self { port, directory, server }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.server), Signal::QUIT);
        let _ = self.server.wait();
    }
}

/// Started, and ready to accept connections.
fn run(directory: &Path, data: &Path, port: u16) -> Child {
    let pem = directory.join("tls/server.pem");
    let mut settings = vec![format!("port={port}"), "listen_addresses=127.0.0.1".into(), "fsync=off".into(), "ssl=on".into()];
    settings.push(format!("unix_socket_directories={}", directory.display()));
    settings.push(format!("ssl_cert_file={}", pem.display()));
    settings.push(format!("ssl_key_file={}", pem.display()));
    let mut server = program("postgres")
        .arg("-D")
        .arg(data)
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .stderr(Stdio::piped())
        .spawn()
        .expect("postgres");
    let mut log = BufReader::new(server.stderr.take().expect("it is piped")).lines();
    let ready = log.by_ref().map_while(Result::ok).any(|line| line.contains("ready to accept connections"));
    assert!(ready, "postgres ended before it was ready");
    // Read to its end, or the server would block on a full pipe.
    std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
    server
}

/// PostgreSQL refuses to run as root.
fn program(name: &str) -> Command {
    let mut command = Command::new(Path::new(BINARIES).join(name));
    command.current_dir("/");
    if let Some(user) = other_user() {
        command.uid(user).gid(user);
    }
    command
}

fn other_user() -> Option<u32> {
    geteuid().is_root().then(|| {
        let told = Command::new("id").args(["-u", "postgres"]).output().expect("id").stdout;
        String::from_utf8_lossy(&told).trim().parse().expect("a user called postgres")
    })
}
