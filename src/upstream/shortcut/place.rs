//! Where the socket may be, and who may listen there.
//!
//! Whoever can write to a directory can put a socket there, to be told passwords. So it is the process at the other end that is
//! looked at (SO_PEERCRED; libpq's `requirepeer`), before a byte is sent. PostgreSQL runs as the user that owns the directory
//! of its socket, where packages make one for it. In `/tmp` the owner says nothing, and it has to be our own user or root.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::declined::Declined;
use crate::config::UpstreamSocket;
use crate::net::socket::{Peer, Socket};

/// Debian and Red Hat; older ones of both; PostgreSQL's own default.
const USUAL_DIRECTORIES: [&str; 3] = ["/run/postgresql", "/var/run/postgresql", "/tmp"];

/// S_IWOTH.
const WRITABLE_BY_ALL: u32 = 0o002;

/// What tells one file from another that is put in its place.
type FileId = (u64, u64);

/// A socket that is there.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    file: FileId,
    directory: Directory,
}

#[derive(Clone, Copy, Debug)]
struct Directory {
    owner: u32,
    writable_by_all: bool,
}

/// The process that listens at a socket. A server that was started anew is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) path: PathBuf,
    file: FileId,
    uid: u32,
    pid: i32,
}

/// The sockets that there may be, best first.
pub(super) fn sought(socket: &UpstreamSocket, port: u16) -> Vec<PathBuf> {
    let name = format!(".s.PGSQL.{port}");
    match socket {
        UpstreamSocket::Off => Vec::new(),
        UpstreamSocket::Auto => USUAL_DIRECTORIES.iter().map(|directory| Path::new(directory).join(&name)).collect(),
        UpstreamSocket::In(directory) => vec![directory.join(&name)],
    }
}

/// Those of them that are there, each once (`/var/run` is mostly a link to `/run`).
pub(super) fn present(sought: &[PathBuf]) -> Vec<Place> {
    let mut found: Vec<Place> = Vec::new();
    for place in sought.iter().filter_map(|path| Place::at(path).ok()) {
        if found.iter().all(|other| other.file != place.file) {
            found.push(place);
        }
    }
    found
}

impl Place {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let file = fs::metadata(path)?;
        let directory = fs::metadata(path.parent().unwrap_or(path))?;
        if !file.file_type().is_socket() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let directory = Directory { owner: directory.uid(), writable_by_all: directory.mode() & WRITABLE_BY_ALL != 0 };
        Ok(Self { path: path.to_owned(), file: (file.dev(), file.ino()), directory })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Connects, and says nothing yet.
    pub(super) async fn connect(self) -> Result<(Socket, Listener), Declined> {
        let Self { path, file, directory } = self;
        let socket = match Socket::connect_unix(&path).await {
            Ok(socket) => socket,
            Err(error) => return Err(Declined::of_connecting(path, error)),
        };
        let Peer::Unix { pid: Some(pid @ 1..) } = socket.peer() else { return Err(Declined::Nameless { path }) };
        let Some(uid) = socket.peer_user() else { return Err(Declined::Nameless { path }) };
        if u32::try_from(pid) == Ok(std::process::id()) {
            return Err(Declined::Ourselves { path });
        }
        if !directory.may_be_listened_in(uid, rustix::process::geteuid().as_raw()) {
            return Err(Declined::Stranger { path, uid });
        }
        Ok((socket, Listener { path, file, uid, pid }))
    }
}

impl Directory {
    fn may_be_listened_in(self, uid: u32, ourselves: u32) -> bool {
        uid == 0 || uid == ourselves || (uid == self.owner && !self.writable_by_all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_directory_that_all_may_write_to_its_owner_says_nothing() {
        let (root, ourselves, postgres, somebody) = (0, 1000, 101, 1001);
        let own = Directory { owner: postgres, writable_by_all: false };
        let open = Directory { owner: postgres, writable_by_all: true };
        for (directory, trusted) in [(own, [true, true, true, false]), (open, [true, true, false, false])] {
            let verdicts = [root, ourselves, postgres, somebody].map(|uid| directory.may_be_listened_in(uid, ourselves));
            assert_eq!(verdicts, trusted, "{directory:?}");
        }
    }

    #[test]
    fn a_socket_is_found_once_and_a_file_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(".s.PGSQL.5432");
        let sought = [path.clone(), place.path().join("sub/../.s.PGSQL.5432"), place.path().join(".s.PGSQL.5433")];
        assert!(present(&sought).is_empty());
        fs::create_dir(place.path().join("sub")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        fs::write(&sought[2], "").unwrap();
        let found: Vec<_> = present(&sought).iter().map(|place| place.path().to_owned()).collect();
        assert_eq!(found, [path]);
    }

    #[tokio::test]
    async fn a_socket_of_our_own_is_no_upstream() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(".s.PGSQL.5432");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let reached = Place::at(&path).unwrap().connect().await;
        assert!(matches!(reached, Err(Declined::Ourselves { .. })), "{reached:?}");
    }
}
