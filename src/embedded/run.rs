//! PostgreSQL as our child.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::Child;
use tokio::time::{Instant, timeout};

use super::cluster::{LOOK_AGAIN, PidFile};
use super::watcher::Watcher;
use super::{Account, Binaries, Cluster, Error};

/// From its start until it accepts connections; after a crash it first replays its log.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Fast shutdown: it rolls open transactions back and writes a checkpoint.
const FAST_LIMIT: Duration = Duration::from_secs(20);

/// Immediate shutdown: as after a crash.
const IMMEDIATE_LIMIT: Duration = Duration::from_secs(5);

/// The port in the name of the Unix socket where there is no TCP.
const SOCKET_PORT: u16 = 5432;

/// The part of the log that is searched for why it did not start, in bytes.
const LOG_TAIL: usize = 16 * 1024;

/// What to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// See [`Cluster`].
    pub directory: PathBuf,
    pub storage: Storage,
    /// Listen on 127.0.0.1 too.
    pub tcp_port: Option<u16>,
    /// Lines of `pg_hba.conf`. What none of them is for is trusted over the Unix socket, and needs SCRAM over TCP.
    pub hba: Vec<String>,
    /// Names and values as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

impl Spec {
    /// Kept, on the Unix socket alone.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), storage: Storage::Kept, tcp_port: None, hba: Vec::new(), settings: Vec::new() }
    }
}

/// What becomes of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    #[default]
    Kept,
    /// Any earlier content is replaced.
    Fresh,
    /// Nothing is flushed to the disk, and the whole directory is removed at the end.
    Throwaway,
}

/// A PostgreSQL that accepts connections. Dropping it stops it, some time later; so does the end of this process, however it ends.
#[derive(Debug)]
pub struct Server {
    child: Child,
    watcher: Option<Watcher>,
    cluster: Cluster,
    storage: Storage,
    version: String,
    tcp_port: Option<u16>,
}

impl Server {
    /// # Errors
    /// [`Error`] has them all but those of npm.
    pub async fn start(binaries: &Binaries, account: &Account, spec: &Spec) -> Result<Self, Error> {
        let cluster = Cluster::open(&spec.directory, account.clone())?;
        if spec.storage == Storage::Fresh {
            cluster.discard().await?;
        }
        cluster.prepare(binaries, spec.storage).await?;
        cluster.write_hba(&spec.hba)?;
        let child = spawn(binaries, &cluster, spec)?;
        let mut server = Self {
            child,
            watcher: None,
            cluster,
            storage: spec.storage,
            version: binaries.version.clone(),
            tcp_port: spec.tcp_port,
        };
        let pid = server.pid().ok_or_else(|| server.not_started("it ended at once"))?;
        server.watcher = Some(Watcher::over(pid, &server.to_remove())?);
        server.ready().await?;
        Ok(server)
    }

    /// The directory of the socket, for `host=`; the port that goes with it is [`Server::socket_port`].
    pub fn socket_directory(&self) -> PathBuf {
        self.cluster.socket_directory()
    }

    /// That of TCP, where there is one.
    pub fn socket_port(&self) -> u16 {
        self.tcp_port.unwrap_or(SOCKET_PORT)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.socket_directory().join(format!(".s.PGSQL.{}", self.socket_port()))
    }

    pub fn tcp_port(&self) -> Option<u16> {
        self.tcp_port
    }

    /// As PostgreSQL calls it: `17.10`.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn directory(&self) -> &Path {
        self.cluster.directory()
    }

    pub fn log(&self) -> PathBuf {
        self.cluster.log()
    }

    /// `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it ends by itself. May be dropped and called again.
    ///
    /// # Errors
    /// The system's, about waiting.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Fast shutdown, and when that takes too long, harder ones. Afterwards it is gone, with its directory if that was
    /// [`Storage::Throwaway`].
    ///
    /// # Errors
    /// [`Error::NotStopped`], [`Error::File`].
    pub async fn stop(mut self) -> Result<(), Error> {
        let pid = self.pid();
        for (signal, patience) in [(Signal::INT, FAST_LIMIT), (Signal::QUIT, IMMEDIATE_LIMIT), (Signal::KILL, IMMEDIATE_LIMIT)] {
            self.send(signal);
            if timeout(patience, self.child.wait()).await.is_ok() {
                return self.clear().await;
            }
        }
        Err(Error::NotStopped { pid: pid.map_or(0, u32::cast_signed) })
    }

    async fn clear(mut self) -> Result<(), Error> {
        if let Some(watcher) = self.watcher.take() {
            watcher.dismiss().await;
        }
        match self.storage {
            Storage::Kept | Storage::Fresh => Ok(()),
            Storage::Throwaway => self.cluster.remove(),
        }
    }

    fn send(&self, signal: Signal) {
        // While the child is not waited for, its pid is nobody else's.
        if let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn to_remove(&self) -> Vec<PathBuf> {
        match self.storage {
            Storage::Kept | Storage::Fresh => Vec::new(),
            Storage::Throwaway => vec![self.socket_directory(), self.cluster.directory().to_owned()],
        }
    }

    /// PostgreSQL tells nobody when it is ready, but writes it into its pid file.
    async fn ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let state = PidFile::read(&self.cluster.data());
            if state.is_some_and(|state| state.ready && self.pid() == Some(state.pid.cast_unsigned())) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.not_started(&format!("it was not ready after {} s", START_LIMIT.as_secs())));
            }
            if timeout(LOOK_AGAIN, self.child.wait()).await.is_ok() {
                return Err(self.not_started("it ended at once"));
            }
        }
    }

    fn not_started(&self, otherwise: &str) -> Error {
        let log = std::fs::read(self.log()).unwrap_or_default();
        let reason = complaint(&log[log.len().saturating_sub(LOG_TAIL)..]).unwrap_or_else(|| otherwise.to_owned());
        Error::NotStarted { log: self.log(), reason }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The watcher sees to the rest; after `stop` there is nothing left.
        self.send(Signal::INT);
    }
}

fn spawn(binaries: &Binaries, cluster: &Cluster, spec: &Spec) -> Result<Child, Error> {
    let log = cluster.new_log()?;
    let errors = log.try_clone().map_err(Error::file("opening", &cluster.log()))?;
    let program = binaries.program("postgres");
    let mut command = cluster.account.command(&program);
    command.arg("-D").arg(cluster.data());
    for (name, value) in settings(cluster, spec) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command.stdout(Stdio::from(log)).stderr(Stdio::from(errors));
    command.spawn().map_err(|error| Error::Tool { command: program.display().to_string(), output: error.to_string() })
}

/// On the command line, where what an earlier run wrote with ALTER SYSTEM does not win.
fn settings(cluster: &Cluster, spec: &Spec) -> Vec<(String, String)> {
    let sockets = cluster.socket_directory().display().to_string();
    let address = if spec.tcp_port.is_some() { "127.0.0.1" } else { "" };
    let mut all = vec![
        ("listen_addresses".into(), address.into()),
        ("port".into(), spec.tcp_port.unwrap_or(SOCKET_PORT).to_string()),
        // A list, in which quotes let a name have commas and spaces.
        ("unix_socket_directories".into(), format!("\"{}\"", sockets.replace('"', "\"\""))),
        ("logging_collector".into(), "off".into()),
        ("log_destination".into(), "stderr".into()),
    ];
    if spec.storage == Storage::Throwaway {
        let fast = ["fsync", "synchronous_commit", "full_page_writes"].map(|name| (name.to_owned(), "off".to_owned()));
        all.extend(fast);
    }
    all.extend(spec.settings.iter().cloned());
    all
}

/// What PostgreSQL says last before it ends: `2026-… FATAL:  could not …`; or whoever could not even start it.
fn complaint(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log);
    let after = |word| text.lines().rev().find_map(|line| line.split_once(word).map(|(_, said)| said));
    let said = after("FATAL:").or_else(|| after("PANIC:")).or_else(|| text.lines().last())?;
    Some(said.trim().trim_end_matches('.').to_owned())
}
