//! Another configuration for a process that serves: read again as at the start, checked as a whole, and only then taken up.
//!
//! ```text
//! read ─→ checked ─→ certificates loaded ─→ pools ─→ logins ─→ sessions of projects that are gone told
//!   └────────┴───────────────┴─→ refused: nothing has changed
//! ```

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::accept::Door;
use super::listen::StartError;
use crate::config::{ConfigError, Loaded, Log, Settings, Stamp};
use crate::session::closed;

/// Between two looks at a file that is watched.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Projects named in one line of the log.
const NAMED_MAX: usize = 10;

/// Where another configuration comes from, and who has a part of it that is not the server's.
pub struct Source {
    /// As at the start: the same file, variables and flags.
    pub read: Box<dyn Fn() -> Result<Loaded, ConfigError> + Send + Sync>,
    /// Logs by another filter from now on.
    pub log: Box<dyn Fn(&Log) + Send + Sync>,
}

/// Takes other configurations up, one at a time.
pub struct Reloader {
    door: Arc<Door>,
    source: Source,
    /// What the process began with, which is what it keeps of the options that need a restart.
    began: Loaded,
    turn: Mutex<()>,
}

/// What a reload came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Options that have another value now which counts from the next start on.
    pub needs_restart: Vec<&'static str>,
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    /// Clients of projects that are gone or disabled now.
    pub ended: usize,
}

/// Why nothing was changed: one sentence with what is wrong, one with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(String);

impl Reloader {
    pub(super) fn new(door: &Arc<Door>, began: Loaded, source: Source) -> Arc<Self> {
        let reloader = Self { door: Arc::clone(door), source, began, turn: Mutex::new(()) };
        reloader.took();
        Arc::new(reloader)
    }

    /// Reads the configuration again and takes it up, or changes nothing. Either is logged.
    ///
    /// # Errors
    /// What is wrong with it, to be told to whoever asked.
    pub async fn reload(self: &Arc<Self>) -> Result<Reloaded, Refused> {
        let this = Arc::clone(self);
        // It reads files. It fails by itself only while the runtime is being shut down, or by a fault of ours.
        let done = tokio::task::spawn_blocking(move || this.reload_now()).await;
        done.unwrap_or_else(|_| Err(Refused("the reload was interrupted".to_owned())))
    }

    fn reload_now(&self) -> Result<Reloaded, Refused> {
        let _turn = self.turn.lock();
        let reloads = &self.door.house.registry.telemetry().reloads;
        match self.try_reload() {
            Ok(reloaded) => {
                reloads.ok.one();
                self.took();
                reloaded.log();
                Ok(reloaded)
            }
            Err(refused) => {
                reloads.failed.one();
                tracing::error!("the configuration was not reloaded, and nothing has changed: {refused}");
                Err(refused)
            }
        }
    }

    fn try_reload(&self) -> Result<Reloaded, Refused> {
        let Loaded { settings, notes, fixed, .. } = (self.source.read)()?;
        let house = &self.door.house;
        let before = house.settings.get();
        let settings = Arc::new(Settings::clone(&settings).in_place_of(&before));
        self.door.adopt(&settings)?;
        (self.source.log)(&settings.log);
        notes.iter().for_each(|note| tracing::warn!("{note}"));
        let mut reloaded = Reloaded::between(&before, &settings);
        reloaded.needs_restart = fixed.changed_since(&self.began.fixed);
        reloaded.ended = house.sessions.end(|pool| {
            let why = house.registry.check(&pool.project).err()?;
            Some(closed::to_connected(&why, &pool.project, &settings))
        });
        Ok(reloaded)
    }

    /// The configuration in force was read now.
    fn took(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.door.house.registry.telemetry().reloads.last_success.store(now.as_secs(), Ordering::Relaxed);
    }

    /// Reloads whenever the file has changed and then stayed as it is, so that one that is being written is not read
    /// half-way. For ever, or not at all where that is not wanted.
    pub async fn watch(self: Arc<Self>) {
        let Some((file, mut taken)) = self.began.file.clone().filter(|_| self.began.settings.watch) else { return };
        let mut seen = taken.clone();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = look(&file).await;
            if now == seen && now != taken {
                // It has been logged, and until the file changes again there is nothing new to say.
                let _ = self.reload().await;
                taken.clone_from(&now);
            }
            seen = now;
        }
    }
}

/// Away from the data workers.
async fn look(file: &Path) -> Option<Stamp> {
    let file = file.to_owned();
    tokio::task::spawn_blocking(move || Stamp::of(&file)).await.ok().flatten()
}

impl Reloaded {
    fn between(before: &Settings, now: &Settings) -> Self {
        let names = |of: &Settings| of.projects.iter().map(|project| project.name.clone()).collect::<Vec<_>>();
        let (old, new) = (names(before), names(now));
        let is_kept =
            |name: &String| before.projects.iter().any(|b| b.name == *name && now.projects.iter().any(|n| Arc::ptr_eq(b, n)));
        Self {
            added: new.iter().filter(|name| !old.contains(name)).cloned().collect(),
            changed: new.iter().filter(|name| old.contains(name) && !is_kept(name)).cloned().collect(),
            removed: old.into_iter().filter(|name| !new.contains(name)).collect(),
            ..Self::default()
        }
    }

    fn log(&self) {
        let Self { added, changed, removed, ended, needs_restart } = self;
        let named = |names: &[String]| {
            let more = if names.len() > NAMED_MAX { " and others" } else { "" };
            format!("{}{more}", names[..names.len().min(NAMED_MAX)].join(", "))
        };
        let (added, changed, removed) = (named(added), named(changed), named(removed));
        tracing::info!(added, changed, removed, clients_ended = ended, "configuration reloaded");
        for option in needs_restart {
            tracing::warn!("{option} has changed, which needs a restart: it stays as it was");
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl From<ConfigError> for Refused {
    fn from(error: ConfigError) -> Self {
        Self(error.to_string())
    }
}

impl From<StartError> for Refused {
    fn from(error: StartError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("began", &self.began.source).finish_non_exhaustive()
    }
}
