//! What is made of files, and made again when they change: no connection is dropped for it, and a bad new file leaves what
//! was made of the old one in use.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::config::Stamp;
use crate::net::tls::TlsSetupError;

/// Between two looks at the files, of which none happens without a handshake that asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Watched<T> {
    /// For the log: what the files are about.
    name: &'static str,
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, TlsSetupError> + Send + Sync>,
    made: RwLock<Arc<T>>,
    look: Mutex<Look>,
}

struct Look {
    at: Instant,
    seen: Vec<Option<Stamp>>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Makes it for the first time. Reads files: not for a data worker.
    pub(crate) fn new(
        name: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, TlsSetupError> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, TlsSetupError> {
        // Before they are read: a change in between is then seen, and at worst read twice.
        let look = Look { at: Instant::now(), seen: stamps(&files) };
        let made = RwLock::new(Arc::new(make()?));
        Ok(Arc::new(Self { name, files, make: Box::new(make), made, look: Mutex::new(look) }))
    }

    /// What is in use, once changed files have been read: they are looked at once a second at most, on a thread for blocking
    /// work.
    pub(crate) async fn current(self: &Arc<Self>) -> Arc<T> {
        if !self.files.is_empty() && self.is_due(Instant::now()) {
            let this = Arc::clone(self);
            // It fails only while the runtime is being shut down.
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
        self.made()
    }

    pub(crate) fn made(&self) -> Arc<T> {
        self.made.read().clone()
    }

    /// Makes it anew, whether or not the files look changed. Where they are bad, what was made before stays in use.
    pub(crate) fn reload(&self) -> Result<(), TlsSetupError> {
        self.look.lock().seen = stamps(&self.files);
        let made = (self.make)()?;
        *self.made.write() = Arc::new(made);
        Ok(())
    }

    /// To one caller in each second.
    fn is_due(&self, now: Instant) -> bool {
        let mut look = self.look.lock();
        let due = now.saturating_duration_since(look.at) >= LOOK_EVERY;
        if due {
            look.at = now;
        }
        due
    }

    /// A failure is told once: until the files change again there is nothing new to tell.
    fn look(&self) {
        if stamps(&self.files) == self.look.lock().seen {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!("{} changed, and is in use for new connections", self.name),
            Err(error) => tracing::error!(
                "{} changed, but cannot be used: {error}; what was read before stays in use, correct the file",
                self.name
            ),
        }
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("name", &self.name).field("files", &self.files).finish_non_exhaustive()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| Stamp::of(file)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A file that is made into its text, if that is not `bad`, and how often it was read.
    fn watched(file: &Path) -> (Arc<Watched<String>>, Arc<AtomicUsize>) {
        let (path, reads) = (file.to_owned(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&reads);
        let make = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            match fs::read_to_string(&path) {
                Ok(text) if text != "bad" => Ok(text),
                _ => Err(TlsSetupError::at(&path, "bad")),
            }
        };
        (Watched::new("a file", vec![file.to_owned()], make).unwrap(), reads)
    }

    #[test]
    fn trap_48_each_state_of_a_file_is_read_once_and_a_bad_one_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "old").unwrap();
        let (watched, reads) = watched(&file);
        let look = |expected: &str, total: usize| {
            watched.look();
            watched.look();
            assert_eq!((watched.made().as_str(), reads.load(Ordering::Relaxed)), (expected, total));
        };
        look("old", 1);
        fs::write(&file, "bad").unwrap();
        look("old", 2);
        fs::remove_file(&file).unwrap();
        look("old", 3);
        // Another file of the same length, put in its place by a rename.
        fs::write(directory.path().join("next"), "new").unwrap();
        fs::rename(directory.path().join("next"), &file).unwrap();
        look("new", 4);
    }

    #[test]
    fn files_are_looked_at_once_a_second_and_by_one_caller() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (watched, _) = watched(file.path());
        let now = watched.look.lock().at + LOOK_EVERY;
        assert!(!watched.is_due(now - LOOK_EVERY / 2));
        assert_eq!([watched.is_due(now), watched.is_due(now), watched.is_due(now + LOOK_EVERY)], [true, false, true]);
    }
}
