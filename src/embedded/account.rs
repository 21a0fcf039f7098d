//! Whom PostgreSQL runs as: it refuses to run as root.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use tokio::process::Command;

use super::Error;

/// An operating-system user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// Whoever runs this process.
    Ourselves { uid: u32 },
    /// We are root; this one is not.
    Unprivileged { name: String, uid: u32, gid: u32 },
}

impl Account {
    /// Ourselves; as root, `postgres` where a package made that user, else `nobody`.
    ///
    /// # Errors
    /// [`Error::NoAccount`] when root finds neither.
    pub fn to_run_postgres() -> Result<Self, Error> {
        let uid = rustix::process::geteuid();
        if !uid.is_root() {
            return Ok(Self::Ourselves { uid: uid.as_raw() });
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"].iter().find_map(|name| lookup(&users, name)).ok_or(Error::NoAccount)
    }

    pub fn is_root_beside(&self) -> bool {
        matches!(self, Self::Unprivileged { .. })
    }

    pub fn uid(&self) -> u32 {
        match self {
            Self::Ourselves { uid } | Self::Unprivileged { uid, .. } => *uid,
        }
    }

    /// A command that runs as this user, in a group of its own (Ctrl-C in the terminal is for Sidepool, which then stops
    /// its children in order), and that none of the caller's `PG*` variables steer.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env("LC_ALL", "C").process_group(0).stdin(std::process::Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if let Self::Unprivileged { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
        command
    }

    /// Whether this user gets as far as `path`, by the permissions of every directory above it.
    ///
    /// # Errors
    /// [`Error::OutOfReach`] with the first directory that may not be entered.
    pub(super) fn may_reach(&self, path: &Path) -> Result<(), Error> {
        let Self::Unprivileged { name, uid, gid } = self else { return Ok(()) };
        let path = fs::canonicalize(path).map_err(Error::file("looking for", path))?;
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for directory in above {
            let seen = fs::metadata(directory).map_err(Error::file("looking at", directory))?;
            if !may_enter(&seen, *uid, *gid) {
                return Err(Error::OutOfReach { path: directory.to_owned(), user: name.clone() });
            }
        }
        Ok(())
    }

    /// Makes `path` a directory (mode 0700) of this user's, or checks that it is one.
    ///
    /// # Errors
    /// [`Error::NotPrivate`] when it is there and somebody else's, or open to others: in a shared directory such as `/tmp`
    /// another user may have put it there to be the server our clients talk to.
    pub(super) fn private_directory(&self, path: &Path) -> Result<(), Error> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.give(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.check_private(path),
            Err(error) => Err(Error::file("making", path)(error)),
        }
    }

    /// Makes `path` and what is missing above it. Where somebody else runs PostgreSQL, they may enter, whatever our umask is.
    pub(super) fn shared_directory(&self, path: &Path) -> Result<(), Error> {
        if path.is_dir() {
            return Ok(());
        }
        path.parent().map_or(Ok(()), |parent| self.shared_directory(parent))?;
        match fs::create_dir(path) {
            Ok(()) if self.is_root_beside() => {
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(Error::file("opening", path))
            }
            // Somebody else may have made it meanwhile.
            Err(error) if !path.is_dir() => Err(Error::file("making", path)(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn give(&self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Ourselves { .. } => Ok(()),
            Self::Unprivileged { uid, gid, .. } => {
                std::os::unix::fs::chown(path, Some(*uid), Some(*gid)).map_err(Error::file("giving away", path))
            }
        }
    }

    fn check_private(&self, path: &Path) -> Result<(), Error> {
        let seen = fs::symlink_metadata(path).map_err(Error::file("looking at", path))?;
        if !seen.is_dir() || seen.uid() != self.uid() {
            return Err(Error::NotPrivate { path: path.to_owned() });
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(Error::file("closing", path))
    }
}

/// `name:password:uid:gid:…`, a line a user (`passwd(5)`).
fn lookup(users: &str, wanted: &str) -> Option<Account> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| *name == wanted)?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then(|| Account::Unprivileged { name: name.into(), uid, gid })
    })
}

/// The execute bit that applies: the owner's, else the group's, else everybody's.
fn may_enter(directory: &Metadata, uid: u32, gid: u32) -> bool {
    let bit = match (directory.uid() == uid, directory.gid() == gid) {
        (true, _) => 0o100,
        (false, true) => 0o010,
        (false, false) => 0o001,
    };
    directory.mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name_and_never_root() {
        let users =
            "root:x:0:0::/root:/bin/sh\npostgresql:x:7:7::/:/bin/sh\npostgres:x:101:104:a:/var:/bin/bash\ntoor:x:0:0::/:\n";
        let expected = Account::Unprivileged { name: "postgres".into(), uid: 101, gid: 104 };
        assert_eq!(lookup(users, "postgres"), Some(expected));
        assert_eq!(lookup(users, "toor"), None);
        assert_eq!(lookup(users, "nobody"), None);
    }

    #[test]
    fn a_directory_open_to_its_owner_alone_stops_others() {
        let place = tempfile::tempdir().unwrap();
        let inner = place.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = Account::Unprivileged { name: "stranger".into(), uid: 54_321, gid: 54_321 };
        let refused = stranger.may_reach(&inner).unwrap_err();
        let shut = fs::canonicalize(place.path()).unwrap();
        assert!(matches!(refused, Error::OutOfReach { path, .. } if path == shut));
    }

    #[test]
    fn what_is_no_directory_of_ours_is_not_private() {
        let place = tempfile::tempdir().unwrap();
        let ours = Account::Ourselves { uid: rustix::process::geteuid().as_raw() };
        let link = place.path().join("link");
        std::os::unix::fs::symlink(place.path(), &link).unwrap();
        assert!(matches!(ours.private_directory(&link), Err(Error::NotPrivate { .. })));

        let open = place.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        ours.private_directory(&open).unwrap();
        assert_eq!(fs::metadata(&open).unwrap().mode() & 0o777, 0o700);

        let strangers = Account::Ourselves { uid: ours.uid() + 1 };
        assert!(matches!(strangers.private_directory(&open), Err(Error::NotPrivate { .. })));
    }
}
