//! Where things are kept when nobody says otherwise.

use std::env;
use std::path::PathBuf;

use super::{Account, Error};

/// The directories of one user, and whom PostgreSQL runs as for them.
#[derive(Clone, Debug)]
pub struct Places {
    pub account: Account,
    /// Fetched PostgreSQL versions are below `postgres/` in here; may be thrown away at any time.
    pub cache: PathBuf,
    /// Databases are kept below this.
    pub data: PathBuf,
    /// Where programs are looked for first (`PATH`).
    pub path: Vec<PathBuf>,
}

impl Places {
    /// By the XDG base directory specification; root's are below `/var`, because the user PostgreSQL then runs as may not
    /// enter root's home.
    ///
    /// # Errors
    /// [`Error::NoAccount`].
    pub fn of_this_user() -> Result<Self, Error> {
        let account = Account::to_run_postgres()?;
        let path = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
        let (cache, data) = if account.is_root_beside() {
            ("/var/cache/sidepool".into(), "/var/lib/sidepool".into())
        } else {
            (base("XDG_CACHE_HOME", ".cache").join("sidepool"), base("XDG_STATE_HOME", ".local/state").join("sidepool"))
        };
        Ok(Self { account, cache, data, path })
    }

    /// The versions that were fetched.
    pub(super) fn fetched(&self) -> PathBuf {
        self.cache.join("postgres")
    }
}

/// Relative values are to be ignored (XDG base directory specification, "Environment variables").
fn base(variable: &str, below_home: &str) -> PathBuf {
    let named = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    named.unwrap_or_else(|| env::home_dir().unwrap_or_else(env::temp_dir).join(below_home))
}
