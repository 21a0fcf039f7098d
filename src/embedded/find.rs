//! PostgreSQL's own programs, as installed on this machine or fetched before.

use std::cmp::Reverse;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{Account, Error, Places};

/// The major versions that Sidepool knows how to run.
pub const MAJORS: RangeInclusive<u16> = 14..=18;

/// What is fetched when nobody asks for a version.
pub const DEFAULT_MAJOR: u16 = 17;

/// Directories whose children are versions, each with its programs in `bin`: Debian, Homebrew (Apple silicon, Intel), Postgres.app.
const PACKAGED: [(&str, &str); 4] = [
    ("/usr/lib/postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@"),
    ("/usr/local/opt", "postgresql@"),
    ("/Applications/Postgres.app/Contents/Versions", ""),
];

/// A directory with `initdb` and `postgres`, which were run and work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub directory: PathBuf,
    pub major: u16,
    /// `15.14`, `18beta1` …
    pub version: String,
}

impl Binaries {
    /// The first of: `PATH`, what packages install, what was fetched earlier; newest first where there are several.
    /// `None` when none (of the wanted major version, or of [`MAJORS`]) works.
    pub async fn find(places: &Places, wanted: Option<u16>) -> Option<Self> {
        for directory in candidates(places) {
            if let Some(found) = Self::at(&directory, &places.account).await
                && wanted.map_or(MAJORS.contains(&found.major), |wanted| found.major == wanted)
            {
                return Some(found);
            }
        }
        None
    }

    /// [`Binaries::find`], or else [`Binaries::fetch`] after `announce` was told the version that will be fetched.
    ///
    /// # Errors
    /// Those of [`Binaries::fetch`].
    pub async fn obtain(places: &Places, wanted: Option<u16>, announce: impl FnOnce(u16)) -> Result<Self, Error> {
        if let Some(found) = Self::find(places, wanted).await {
            return Ok(found);
        }
        announce(wanted.unwrap_or(DEFAULT_MAJOR));
        Self::fetch(places, wanted).await
    }

    /// What is in `directory`, if it works and `account` may run it.
    pub(super) async fn at(directory: &Path, account: &Account) -> Option<Self> {
        let postgres = directory.join("postgres");
        if !postgres.is_file() || !directory.join("initdb").is_file() || account.may_reach(&postgres).is_err() {
            return None;
        }
        let output = account.command(&postgres).arg("--version").stderr(Stdio::null()).output().await.ok()?;
        let version = version(std::str::from_utf8(&output.stdout).ok()?)?;
        Some(Self { directory: directory.to_owned(), major: major(version)?, version: version.to_owned() })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn candidates(places: &Places) -> Vec<PathBuf> {
    let mut all = places.path.clone();
    for (parent, prefix) in PACKAGED {
        all.extend(versions_in(Path::new(parent), prefix).into_iter().map(|version| version.join("bin")));
    }
    all.extend(versions_in(&places.fetched(), "").into_iter().map(|version| version.join("native/bin")));
    all
}

/// The children that are called `<prefix><version>`, newest first.
fn versions_in(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            Some((numbers(name.to_str()?.strip_prefix(prefix)?)?, entry.path()))
        })
        .collect();
    found.sort_by_key(|(numbers, _)| Reverse(numbers.clone()));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The numbers of a version name, for comparing: `17.10.0-beta.17` → 17, 10, 0, 17. `None` when it does not begin with one.
pub(super) fn numbers(version: &str) -> Option<Vec<u32>> {
    version
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect())
}

/// From `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn version(shown: &str) -> Option<&str> {
    shown.split_once("(PostgreSQL) ")?.1.split_whitespace().next()
}

pub(super) fn major(version: &str) -> Option<u16> {
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_postgres_shows_them() {
        assert_eq!(version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some("15.14"));
        assert_eq!(version("postgres (PostgreSQL) 19devel\n"), Some("19devel"));
        assert_eq!(version("bash, version 5\n"), None);
        assert_eq!([major("15.14"), major("19devel"), major("x")], [Some(15), Some(19), None]);
    }

    #[test]
    fn newest_first_by_number_and_not_by_letter() {
        let place = tempfile::tempdir().unwrap();
        for name in ["pg@9.6", "pg@17.2.0-beta.9", "pg@17.10.0-beta.17", "pg@17.10.0-beta.9", "pg@x", "other", "pg@"] {
            fs::create_dir(place.path().join(name)).unwrap();
        }
        let found = versions_in(place.path(), "pg@");
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["pg@17.10.0-beta.17", "pg@17.10.0-beta.9", "pg@17.2.0-beta.9", "pg@9.6"]);
        assert!(versions_in(&place.path().join("absent"), "").is_empty());
    }
}
