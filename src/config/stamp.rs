//! Whether a file has changed since it was read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// By which a file is known to be another one: a rename over it changes the inode, a write its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// `None` while there is no such file. To be taken before the file is read: a change in between is then seen, and at
    /// worst read twice.
    pub fn of(file: &Path) -> Option<Self> {
        let facts = fs::metadata(file).ok()?;
        let modified = (facts.mtime(), facts.mtime_nsec());
        Some(Self { device: facts.dev(), inode: facts.ino(), bytes: facts.len(), modified })
    }
}
