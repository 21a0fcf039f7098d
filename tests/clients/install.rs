//! The clients and what they run on, installed below `target/clients/` once for each list of versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a program runs: the programs are copied there, beside what they import.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
}

/// What a place is made of. Files are named below `tests/`, and copied to the same path without its first component.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    /// The list that `install` goes by, which happens again only when that has changed.
    pub(crate) versions: Option<&'static str>,
    pub(crate) files: &'static [&'static str],
    pub(crate) install: fn(&Path) -> Result<(), String>,
}

impl Recipe {
    /// # Errors
    /// What could not be copied or installed, and why.
    pub(crate) fn prepare(&self) -> Result<Place, String> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is target/tmp");
        let directory = target.join("clients").join(self.name);
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        for file in self.files {
            copy(file, &directory)?;
        }
        if let Some(versions) = self.versions {
            let wanted = fs::read_to_string(source(versions)).map_err(|error| format!("{versions}: {error}"))?;
            let done = directory.join("installed");
            if fs::read_to_string(&done).ok().as_ref() != Some(&wanted) {
                copy(versions, &directory)?;
                (self.install)(&directory)?;
                fs::write(&done, wanted).map_err(|error| format!("{}: {error}", done.display()))?;
            }
        }
        Ok(Place { directory })
    }
}

/// `Err` names the first of these programs that the machine does not have.
pub(crate) fn needs(programs: &[&str]) -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    programs.iter().find(|program| !there(program)).map_or(Ok(()), |missing| Err(format!("{missing} is not installed")))
}

pub(crate) fn npm(place: &Path) -> Result<(), String> {
    let quiet = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--silent"];
    succeed(Command::new("npm").arg("install").args(quiet).current_dir(place))
}

pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let [said, complained] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Err(format!("{shown}: {}\n{said}{complained}", output.status))
}

fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file)
}

fn copy(file: &str, directory: &Path) -> Result<(), String> {
    let below = Path::new(file).components().skip(1).collect::<PathBuf>();
    let to = directory.join(below);
    let made = to.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::copy(source(file), &to).map(drop)).map_err(|error| format!("{file}: {error}"))
}
