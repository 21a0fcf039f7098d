//! The directory of one database cluster: who may use it, what made it, what an earlier run left in it.
//!
//! ```text
//! lock           held (flock) while a Sidepool uses the directory; its pid is in it
//! data/          PostgreSQL's data directory
//! run/           the Unix socket; for its owner alone
//! postgres.log   of this run; the one of the run before beside it
//! ```

use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::time::Instant;

use super::find::major;
use super::{Account, Binaries, Error, Storage};

/// The longest name of a socket in its directory; the port is in it even where no TCP is listened on.
const LONGEST_SOCKET: &str = ".s.PGSQL.65535";

/// `sun_path` less its final zero, in bytes (unix(7); macOS has four less than Linux).
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// The superuser.
pub(super) const SUPERUSER: &str = "postgres";

/// What a left-over PostgreSQL is given to end after each signal: fast shutdown, immediate shutdown, kill.
const SIGNALS: [(Signal, Duration); 3] =
    [(Signal::INT, Duration::from_secs(20)), (Signal::QUIT, Duration::from_secs(5)), (Signal::KILL, Duration::from_secs(5))];

/// How often something that sends no event is looked at.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A directory that no other Sidepool uses.
#[derive(Debug)]
pub struct Cluster {
    directory: PathBuf,
    pub(super) account: Account,
    /// Unlocked when it is closed.
    _lock: File,
}

impl Cluster {
    /// Makes the directory where it is missing, and takes it.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::OutOfReach`], [`Error::File`].
    pub fn open(directory: &Path, account: Account) -> Result<Self, Error> {
        account.shared_directory(directory)?;
        let directory = fs::canonicalize(directory).map_err(Error::file("opening", directory))?;
        let path = directory.join("lock");
        let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut lock = options.map_err(Error::file("opening", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { directory, pid: holder(&mut lock) }),
            Err(TryLockError::Error(error)) => return Err(Error::file("locking", &path)(error)),
        }
        account.may_reach(&path)?;
        let written = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        written.map_err(Error::file("writing", &path))?;
        Ok(Self { directory, account, _lock: lock })
    }

    /// [`Error::InUse`], if another Sidepool has the directory now.
    pub fn held_by_another(directory: &Path) -> Option<Error> {
        let directory = fs::canonicalize(directory).ok()?;
        let mut lock = File::open(directory.join("lock")).ok()?;
        let is_held = matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock));
        is_held.then(|| Error::InUse { directory, pid: holder(&mut lock) })
    }

    /// The major version that made what is in `directory`; `None` when nothing is.
    pub fn major_in(directory: &Path) -> Option<u16> {
        major(fs::read_to_string(directory.join("data/PG_VERSION")).ok()?.trim())
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn log(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }

    /// Where the socket is: below the directory, or, as the path of a socket is short, below `/tmp`.
    pub fn socket_directory(&self) -> PathBuf {
        let near = self.directory.join("run");
        if near.join(LONGEST_SOCKET).as_os_str().len() <= MAX_SOCKET_PATH {
            return near;
        }
        let mut hasher = DefaultHasher::new();
        self.directory.hash(&mut hasher);
        PathBuf::from(format!("/tmp/sidepool-{}-{:x}", self.account.uid(), hasher.finish()))
    }

    /// Throws the database away, and nothing that is not one: `data` is a name that others give to directories too.
    ///
    /// # Errors
    /// [`Error::NotACluster`], [`Error::NotStopped`], [`Error::File`].
    pub async fn discard(&self) -> Result<(), Error> {
        if Self::major_in(&self.directory).is_none() && self.data().exists() {
            return Err(Error::NotACluster { path: self.data() });
        }
        self.end_left_over().await?;
        remove(&self.data())
    }

    /// Afterwards there is a database of the version of `binaries`, and nobody runs it.
    ///
    /// # Errors
    /// [`Error::OtherMajor`], [`Error::NotACluster`], [`Error::Tool`] from `initdb`, [`Error::NotStopped`].
    pub(super) async fn prepare(&self, binaries: &Binaries, storage: Storage) -> Result<(), Error> {
        self.end_left_over().await?;
        self.account.private_directory(&self.socket_directory())?;
        match Self::major_in(&self.directory) {
            Some(has) if has == binaries.major => Ok(()),
            Some(has) => Err(Error::OtherMajor { directory: self.directory.clone(), has, wanted: binaries.major }),
            None if self.data().exists() => Err(Error::NotACluster { path: self.data() }),
            None => self.initialize(binaries, storage).await,
        }
    }

    /// Beside its place, and then moved there: an `initdb` that was interrupted leaves nothing that looks like a database.
    async fn initialize(&self, binaries: &Binaries, storage: Storage) -> Result<(), Error> {
        let unfinished = self.directory.join("data.unfinished");
        remove(&unfinished)?;
        self.account.private_directory(&unfinished)?;
        // Linux has C.UTF-8 nearly everywhere, macOS since 14; C orders the same, but knows no letters beyond ASCII.
        if self.initdb(binaries, storage, &unfinished, "C.UTF-8").await.is_err() {
            self.initdb(binaries, storage, &unfinished, "C").await?;
        }
        if storage != Storage::Throwaway {
            flush(&unfinished).await?;
        }
        fs::rename(&unfinished, self.data()).map_err(Error::file("naming", &self.data()))
    }

    async fn initdb(&self, binaries: &Binaries, storage: Storage, into: &Path, locale: &str) -> Result<(), Error> {
        let program = binaries.program("initdb");
        let mut command = self.account.command(&program);
        command.args(["--username", SUPERUSER, "--encoding", "UTF8", "--auth-local", "trust", "--auth-host", "scram-sha-256"]);
        command.arg("--locale").arg(locale).arg("--pgdata").arg(into);
        if storage == Storage::Throwaway || cfg!(target_os = "linux") {
            command.arg("--no-sync");
        }
        let failed = |output| Error::Tool { command: program.display().to_string(), output };
        let output = command.kill_on_drop(true).output().await.map_err(|error| failed(error.to_string()))?;
        if output.status.success() { Ok(()) } else { Err(failed(super::fetch::reason(&output.stderr))) }
    }

    /// We hold the lock, so that a PostgreSQL which runs here belongs to a Sidepool that was killed.
    async fn end_left_over(&self) -> Result<(), Error> {
        let pid_file = self.data().join("postmaster.pid");
        let Some(pid) = PidFile::read(&self.data()).and_then(|file| Pid::from_raw(file.pid)) else { return Ok(()) };
        if runs_in(pid, &self.data()) {
            for (signal, patience) in SIGNALS {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(pid, signal);
                if gone(pid, &self.data(), patience).await {
                    break;
                }
            }
            if runs_in(pid, &self.data()) {
                return Err(Error::NotStopped { pid: pid.as_raw_nonzero().get() });
            }
        }
        // PostgreSQL would take any process that has this pid by now for itself, and not start.
        match fs::remove_file(&pid_file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("removing", &pid_file)(error)),
            _ => Ok(()),
        }
    }

    /// Written at each start, so that what a run was given holds for that run.
    pub(super) fn write_hba(&self, lines: &[String]) -> Result<(), Error> {
        let path = self.data().join("pg_hba.conf");
        let own = ["local all all trust", "local replication all trust", "host all all all scram-sha-256"];
        let mut text = String::from("# Written by Sidepool at each start. The socket is in a directory for its owner alone.\n");
        for line in lines.iter().map(String::as_str).chain(own) {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(&path, text).map_err(Error::file("writing", &path))
    }

    /// The log of the run before is kept beside it.
    pub(super) fn new_log(&self) -> Result<File, Error> {
        let path = self.log();
        // There is none before the first run.
        let _ = fs::rename(&path, self.directory.join("postgres.log.before"));
        File::create(&path).map_err(Error::file("making", &path))
    }

    /// With all that is in it.
    pub(super) fn remove(&self) -> Result<(), Error> {
        [self.socket_directory(), self.directory.clone()].iter().try_for_each(|path| remove(path))
    }
}

/// It need not be there.
fn remove(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("removing", directory)(error)),
        _ => Ok(()),
    }
}

/// The whole file system at once: measured, 0.2 s for what takes `initdb` 2 to 7 s file by file.
#[cfg(target_os = "linux")]
async fn flush(directory: &Path) -> Result<(), Error> {
    let path = directory.to_owned();
    let flushed = tokio::task::spawn_blocking(move || Ok(rustix::fs::syncfs(File::open(path)?)?));
    flushed.await.unwrap_or_else(|error| Err(error.into())).map_err(Error::file("flushing", directory))
}

/// `initdb` has done it.
#[cfg(not(target_os = "linux"))]
async fn flush(_: &Path) -> Result<(), Error> {
    Ok(())
}

fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.rewind().ok()?;
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// `postmaster.pid`, line by line (PostgreSQL, `miscadmin.h`): 1 pid, 2 data directory, … 8 status.
pub(super) struct PidFile {
    pub(super) pid: i32,
    pub(super) ready: bool,
}

impl PidFile {
    pub(super) fn read(data: &Path) -> Option<Self> {
        let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        Some(Self { pid, ready: lines.nth(6).is_some_and(|status| status.trim() == "ready") })
    }
}

/// Whether the process is a PostgreSQL of this data directory, in which it then stands; where the system does not tell that,
/// whether it is a PostgreSQL.
fn runs_in(pid: Pid, data: &Path) -> bool {
    let number = pid.as_raw_nonzero().get();
    if Path::new("/proc/self/cwd").exists() {
        return fs::read_link(format!("/proc/{number}/cwd")).is_ok_and(|cwd| cwd == data);
    }
    let shown = std::process::Command::new("ps").args(["-o", "comm=", "-p", &number.to_string()]).output();
    shown.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("postgres"))
}

async fn gone(pid: Pid, data: &Path, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while runs_in(pid, data) {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    true
}
