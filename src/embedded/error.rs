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

impl Error {
    /// What happened.
    pub fn message(&self) -> String {
        match self {
            Self::NotInstalled { wanted } => {
                format!("there is no {} on this machine, and no npm to fetch one with", product(*wanted))
            }
            Self::NotPublished { platform, wanted } => format!("npm has no {} for {platform}", product(*wanted)),
            Self::Tool { command, output } => format!("`{command}` failed: {output}"),
            Self::File { doing, path, source } => format!("{doing} {} failed: {source}", path.display()),
            Self::OutOfReach { path, user } => {
                format!("PostgreSQL does not run as root but as {user}, who may not enter {}", path.display())
            }
            Self::NoAccount => {
                "PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody to run it as".into()
            }
            Self::NotPrivate { path } => format!("{} should be a directory of our own, and is not", path.display()),
            Self::InUse { directory, pid } => {
                let holder = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                format!("another Sidepool{holder} runs the database in {}", directory.display())
            }
            Self::NotACluster { path } => format!("{} is there, but holds no PostgreSQL database", path.display()),
            Self::OtherMajor { directory, has, wanted } => format!(
                "the database in {} was made by PostgreSQL {has}, and PostgreSQL {wanted} cannot read it",
                directory.display()
            ),
            Self::NotStarted { reason, .. } => format!("PostgreSQL did not start: {reason}"),
            Self::NotStopped { pid } => format!("the PostgreSQL of an earlier run (pid {pid}) does not end"),
            Self::Sql { message } => format!("the embedded PostgreSQL refused what Sidepool asked of it: {message}"),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::NotInstalled { .. } => {
                "Install one of them: `apt-get install postgresql`, `brew install postgresql@17`, or Node.js, which brings npm."
            }
            Self::NotPublished { .. } => "Install one: `apt-get install postgresql` or `brew install postgresql@17`.",
            Self::Tool { .. } => "Run it by hand to see all it says.",
            Self::File { .. } => "Make it accessible, or choose another directory.",
            Self::OutOfReach { .. } => "Choose a directory that everybody may enter.",
            Self::NoAccount => "Run Sidepool as an ordinary user.",
            Self::NotPrivate { .. } => "Remove it, or choose another data directory.",
            Self::InUse { .. } => "Use that one, stop it, or choose another data directory.",
            Self::NotACluster { .. } => "Choose another data directory, or remove that by hand.",
            Self::OtherMajor { has, .. } => return format!("Start with --fresh to throw it away, or ask for version {has}."),
            Self::NotStarted { log, .. } => return format!("The whole story is in {}.", log.display()),
            Self::NotStopped { pid } => return format!("End it by hand: `kill -QUIT {pid}`."),
            Self::Sql { .. } => "Start with --fresh for a new one.",
        };
        hint.into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.message(), self.hint())
    }
}

fn product(wanted: Option<u16>) -> String {
    wanted.map_or_else(|| "PostgreSQL".into(), |major| format!("PostgreSQL {major}"))
}
