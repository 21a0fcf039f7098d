//! The command line: `run`, `dev`, `lint`, `check`, `urls`, `health`, `top`.

mod args;
pub mod check;
pub mod dev;
pub mod health;
pub mod lint;
pub mod probe;
pub mod report;
pub mod serve;
pub mod top;
pub mod urls;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::{ConfigError, Env, Prepared, Sources};

pub use crate::config::Loaded;

/// What the arguments ask for, with the settings it needs.
#[derive(Debug)]
pub enum Command {
    Run {
        loaded: Loaded,
        /// To be read again.
        sources: Sources,
        begin: serve::Begin,
    },
    Dev {
        /// To be finished with the embedded PostgreSQL's address once that has started.
        prepared: Box<Prepared>,
        wishes: dev::Wishes,
        sources: Sources,
    },
    Lint {
        prepared: Box<Prepared>,
        wishes: dev::Wishes,
        /// With its arguments; never empty.
        program: Vec<OsString>,
    },
    Check(Loaded),
    /// Where an upstream leads is the affair of the process that runs; so in `Top`.
    Health(Box<Prepared>),
    Top {
        prepared: Box<Prepared>,
        once: bool,
    },
    Urls {
        loaded: Loaded,
        passwords: urls::Passwords,
    },
}

/// Why there is nothing to do.
#[derive(Debug)]
pub enum CliError {
    /// Also `--help` and `--version`, which clap takes for errors.
    Arguments(Box<clap::Error>),
    Config(ConfigError),
}

/// Reads the arguments, the file they name or the one in the current directory, and the environment.
///
/// # Errors
/// The first mistake; nothing has been started by then.
pub fn parse(argv: impl IntoIterator<Item = OsString>, env: Env) -> Result<Command, CliError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    args::read(argv, Sources { env, cores, ..Sources::default() })
}

/// `sidepool urls`: the strings to standard output, notes to standard error.
pub fn print_urls(loaded: &Loaded, passwords: urls::Passwords, colour: bool) -> ExitCode {
    report::print_notes(&loaded.notes, colour);
    let endpoint = urls::Endpoint::of(&loaded.settings.listen);
    let text = urls::lines(&loaded.settings, &endpoint, passwords).join("\n") + "\n";
    match io::stdout().write_all(text.as_bytes()) {
        // `sidepool urls | head -1` has what it wants.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

impl CliError {
    /// Tells people, and says with which code to end: 0 for `--help`, otherwise [`report::MISTAKE`].
    pub fn report(&self, colour: bool) -> ExitCode {
        match self {
            Self::Arguments(error) => {
                let _ = error.print();
                u8::try_from(error.exit_code()).unwrap_or(report::MISTAKE).into()
            }
            Self::Config(error) => {
                report::print_error(error, colour);
                report::MISTAKE.into()
            }
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
