//! Why there is no PostgreSQL of our own.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Each shows as one sentence with what happened and one with what to do.
#[derive(Debug)]
pub enum Error {
    /// Neither PostgreSQL nor npm is installed.
    NotInstalled {
        wanted: Option<u16>,
    },
    /// npm has no PostgreSQL for this machine (`None`: of any version).
    NotPublished {
        platform: String,
        wanted: Option<u16>,
    },
    /// A program that we ran failed; `output` is the line that says why.
    Tool {
        command: String,
        output: String,
    },
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// PostgreSQL refuses to run as root, and whom it runs as instead may not enter this directory.
    OutOfReach {
        path: PathBuf,
        user: String,
    },
    /// Root, and no unprivileged user to run PostgreSQL as.
    NoAccount,
    /// A directory that should be private belongs to somebody else.
    NotPrivate {
        path: PathBuf,
    },
    /// Another Sidepool uses this directory.
    InUse {
        directory: PathBuf,
        pid: Option<u32>,
    },
    /// There is something in the data directory, but no database cluster.
    NotACluster {
        path: PathBuf,
    },
    OtherMajor {
        directory: PathBuf,
        has: u16,
        wanted: u16,
    },
    /// PostgreSQL ended, or took too long, before it accepted connections.
    NotStarted {
        log: PathBuf,
        reason: String,
    },
    /// A PostgreSQL that an earlier run left behind does not end.
    NotStopped {
        pid: i32,
    },
    /// PostgreSQL refused a statement, or ended in the middle of it.
    Sql {
        message: String,
    },
}

impl Error {
    /// For `map_err`: what was being done to which file.
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled { wanted } => write!(
                f,
                "There is no {} on this machine, and no npm to fetch one with. Install one of them: \
                 `apt-get install postgresql`, `brew install postgresql@17`, or Node.js, which brings npm.",
                product(*wanted)
            ),
            Self::NotPublished { platform, wanted } => write!(
                f,
                "npm has no {} for {platform}. Install one: `apt-get install postgresql` or `brew install postgresql@17`.",
                product(*wanted)
            ),
            Self::Tool { command, output } => write!(f, "`{command}` failed: {output}. Run it by hand to see all it says."),
            Self::File { doing, path, source } => {
                write!(f, "{doing} {} failed: {source}. Make it accessible, or choose another directory.", path.display())
            }
            Self::OutOfReach { path, user } => write!(
                f,
                "PostgreSQL does not run as root but as {user}, who may not enter {}. Choose a directory that everybody may enter.",
                path.display()
            ),
            Self::NoAccount => f.write_str(
                "PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody to run it as. \
                 Run Sidepool as an ordinary user.",
            ),
            Self::NotPrivate { path } => write!(
                f,
                "{} should be a directory of our own, and is not. Remove it, or choose another data directory.",
                path.display()
            ),
            Self::InUse { directory, pid } => in_use(f, directory, *pid),
            Self::NotACluster { path } => write!(
                f,
                "{} is there, but holds no PostgreSQL database. Choose another data directory, or remove that by hand.",
                path.display()
            ),
            Self::OtherMajor { directory, has, wanted } => write!(
                f,
                "The database in {} was made by PostgreSQL {has}; PostgreSQL {wanted} cannot read it. \
                 Start with --fresh to throw it away, or ask for version {has}.",
                directory.display()
            ),
            Self::NotStarted { log, reason } => {
                write!(f, "PostgreSQL did not start: {reason}. The whole story is in {}.", log.display())
            }
            Self::NotStopped { pid } => {
                write!(f, "The PostgreSQL of an earlier run (pid {pid}) does not end. End it by hand: `kill -QUIT {pid}`.")
            }
            Self::Sql { message } => {
                write!(
                    f,
                    "The embedded PostgreSQL refused what Sidepool asked of it: {message}. Start with --fresh for a new one."
                )
            }
        }
    }
}

fn product(wanted: Option<u16>) -> String {
    wanted.map_or_else(|| "PostgreSQL".into(), |major| format!("PostgreSQL {major}"))
}

fn in_use(f: &mut fmt::Formatter<'_>, directory: &Path, pid: Option<u32>) -> fmt::Result {
    let holder = pid.map_or_else(|| "Another Sidepool".into(), |pid| format!("Another Sidepool (pid {pid})"));
    write!(f, "{holder} runs the database in {}. Use that one, stop it, or choose another data directory.", directory.display())
}
