//! The clients and what they run on, installed below `target/clients/` once for each list of versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where a program runs: the programs are copied there, beside what they import.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
}

/// Programs of the machine; `Err` names one that is missing.
pub(crate) fn system(programs: &[&str]) -> Result<Place, String> {
    needs(programs)?;
    static COPIED: OnceLock<Result<Place, String>> = OnceLock::new();
    COPIED.get_or_init(|| prepare("system", "", &["psql.py", "check.py", "pgbench.sh"], |_| Ok(()))).clone()
}

pub(crate) fn node() -> Result<Place, String> {
    needs(&["node", "npm"])?;
    static INSTALLED: OnceLock<Result<Place, String>> = OnceLock::new();
    let files = ["node-postgres.mjs", "postgres-js.mjs", "check.mjs"];
    INSTALLED.get_or_init(|| prepare("node", "package.json", &files, npm_install)).clone()
}

pub(crate) fn prisma() -> Result<Place, String> {
    needs(&["node", "npm", "npx"])?;
    static INSTALLED: OnceLock<Result<Place, String>> = OnceLock::new();
    let files = ["prisma.mjs", "check.mjs", "schema.prisma", "prisma.config.mjs"];
    let install = |place: &Path| {
        npm_install(place)?;
        // Its engine for migrations is fetched from outside npm, and only looked for here: the client does without.
        let mut generate = Command::new("npx");
        generate.args(["--no-install", "prisma", "generate"]).current_dir(place);
        generate
            .env("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/true")
            .env("PRISMA_HIDE_UPDATE_MESSAGE", "1")
            .env("CHECKPOINT_DISABLE", "1");
        succeed(&mut generate)
    };
    INSTALLED.get_or_init(|| prepare("prisma", "prisma.package.json", &files, install)).clone()
}

pub(crate) fn python() -> Result<Place, String> {
    needs(&["python3"])?;
    static INSTALLED: OnceLock<Result<Place, String>> = OnceLock::new();
    let install = |place: &Path| {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(place))?;
        let requirements = place.join("requirements.txt");
        succeed(
            Command::new(place.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(requirements),
        )
    };
    INSTALLED.get_or_init(|| prepare("python", "requirements.txt", &["psycopg3.py", "asyncpg_.py", "check.py"], install)).clone()
}

fn npm_install(place: &Path) -> Result<(), String> {
    let quiet = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--silent"];
    succeed(Command::new("npm").arg("install").args(quiet).current_dir(place))
}

/// `versions` is the list that `install` goes by; it is installed again only when that has changed.
fn prepare(name: &str, versions: &str, files: &[&str], install: impl Fn(&Path) -> Result<(), String>) -> Result<Place, String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is target/tmp");
    let directory = target.join("clients").join(name);
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let copy = |from: &str, to: &str| {
        fs::copy(sources.join(from), directory.join(to)).map(drop).map_err(|error| format!("{from}: {error}"))
    };
    for file in files {
        copy(file, file)?;
    }
    if !versions.is_empty() {
        let wanted = fs::read_to_string(sources.join(versions)).map_err(|error| format!("{versions}: {error}"))?;
        let done = directory.join("installed");
        if fs::read_to_string(&done).ok().as_ref() != Some(&wanted) {
            copy(versions, versions.trim_start_matches("prisma."))?;
            install(&directory)?;
            fs::write(&done, wanted).map_err(|error| format!("{}: {error}", done.display()))?;
        }
    }
    Ok(Place { directory })
}

fn needs(programs: &[&str]) -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    programs.iter().find(|program| !there(program)).map_or(Ok(()), |missing| Err(format!("{missing} is not installed")))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let [said, complained] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Err(format!("{shown}: {}\n{said}{complained}", output.status))
}
