//! Another configuration for a process that serves: read again as at the start, or with one option set since, checked as a
//! whole, and only then taken up.
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
use crate::config::{Amended, ConfigError, Loaded, Log, Password, Settings, Stamp};
use crate::session::closed;

/// Between two looks at a file that is watched.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Projects named in one line of the log.
const NAMED_MAX: usize = 10;

/// As at the start: the same variables, flags and file, or what was set over that.
pub type Read = dyn Fn(Option<&Amended>) -> Result<Loaded, ConfigError> + Send + Sync;

/// Where another configuration comes from, and who has a part of it that is not the server's.
pub struct Source {
    pub read: Box<Read>,
    /// Logs by another filter from now on.
    pub log: Box<dyn Fn(&Log) + Send + Sync>,
}

/// Takes other configurations up, one at a time.
pub struct Reloader {
    door: Arc<Door>,
    source: Source,
    /// What the process began with, which is what it keeps of the options that need a restart.
    began: Loaded,
    /// Locked for as long as another takes its place.
    in_force: Mutex<InForce>,
}

/// What the settings in force were made of, and what was said of them.
#[derive(Clone)]
struct InForce {
    amended: Amended,
    notes: Vec<String>,
    needs_restart: Vec<&'static str>,
}

/// What another configuration came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Options that have another value now which counts from the next start on.
    pub needs_restart: Vec<&'static str>,
    /// Options that had been set, and are as configured again.
    pub unset: Vec<&'static str>,
    /// What people should know though it is no error.
    pub notes: Vec<String>,
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
        let (amended, notes) = (Amended::over(began.read.clone()), began.notes.clone());
        let in_force = Mutex::new(InForce { amended, notes, needs_restart: Vec::new() });
        let reloader = Self { door: Arc::clone(door), source, began, in_force };
        reloader.took();
        Arc::new(reloader)
    }

    /// Reads the configuration again and takes it up, or changes nothing. Either is logged.
    ///
    /// # Errors
    /// What is wrong with it, to be told to whoever asked.
    pub async fn reload(self: &Arc<Self>) -> Result<Reloaded, Refused> {
        let this = Arc::clone(self);
        off_the_workers(move || this.reload_now()).await
    }

    /// Sets one option of those that a reload takes up, until the next one; without a value it is as configured again. The
    /// file is not read again. Either is logged, the value where it is no secret.
    ///
    /// # Errors
    /// What is wrong with the value, or with it beside the others; nothing has changed then.
    pub async fn set(self: &Arc<Self>, option: &'static str, value: Option<Password>) -> Result<Reloaded, Refused> {
        let this = Arc::clone(self);
        off_the_workers(move || this.set_now(option, value)).await
    }

    fn reload_now(&self) -> Result<Reloaded, Refused> {
        let mut in_force = self.in_force.lock();
        let reloads = &self.door.house.registry.telemetry().reloads;
        match self.take_up(&mut in_force, None) {
            Ok(reloaded) => {
                reloads.ok.one();
                self.took();
                reloaded.log("configuration reloaded", None);
                Ok(reloaded)
            }
            Err(refused) => {
                reloads.failed.one();
                tracing::error!("the configuration was not reloaded, and nothing has changed: {refused}");
                Err(refused)
            }
        }
    }

    fn set_now(&self, option: &'static str, value: Option<Password>) -> Result<Reloaded, Refused> {
        let mut in_force = self.in_force.lock();
        let what = if value.is_some() { "option set until the next reload" } else { "option is as configured again" };
        let amended = in_force.amended.clone().with(option, value);
        let InForce { notes, needs_restart, .. } = InForce::clone(&in_force);
        match self.take_up(&mut in_force, Some(amended)) {
            Ok(mut reloaded) => {
                let settings = self.door.house.settings.get();
                let value = settings.shown.iter().find(|shown| shown.option == option).and_then(|shown| shown.value.as_deref());
                // What was told before is not about this option.
                reloaded.needs_restart.retain(|option| !needs_restart.contains(option));
                reloaded.notes.retain(|note| !notes.contains(note));
                reloaded.unset.clear();
                reloaded.log(what, Some((option, value)));
                Ok(reloaded)
            }
            Err(refused) => {
                tracing::warn!(option, "the option was not set, and nothing has changed: {refused}");
                Err(refused)
            }
        }
    }

    /// `None` reads everything again.
    fn take_up(&self, in_force: &mut InForce, amended: Option<Amended>) -> Result<Reloaded, Refused> {
        let Loaded { settings, notes, fixed, read, .. } = (self.source.read)(amended.as_ref())?;
        let house = &self.door.house;
        let before = house.settings.get();
        let settings = Arc::new(Settings::clone(&settings).in_place_of(&before));
        self.door.adopt(&settings)?;
        (self.source.log)(&settings.log);
        let mut reloaded = Reloaded::between(&before, &settings);
        reloaded.needs_restart = fixed.changed_since(&self.began.fixed);
        reloaded.ended = house.sessions.end(|pool| {
            let why = house.registry.check(&pool.project).err()?;
            Some(closed::to_connected(&why, &pool.project, &settings))
        });
        let amended = amended.unwrap_or_else(|| Amended::over(read));
        reloaded.unset = in_force.amended.options().filter(|option| amended.options().all(|set| set != *option)).collect();
        reloaded.notes.clone_from(&notes);
        *in_force = InForce { amended, notes, needs_restart: reloaded.needs_restart.clone() };
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

/// It reads files. It fails by itself only while the runtime is being shut down, or by a fault of ours.
async fn off_the_workers(work: impl FnOnce() -> Result<Reloaded, Refused> + Send + 'static) -> Result<Reloaded, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refused("the reload was interrupted".to_owned())))
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

    /// `set` is the option, and its value where that may be shown.
    fn log(&self, what: &str, set: Option<(&str, Option<&str>)>) {
        let (option, value) = (set.map(|(option, _)| option), set.and_then(|(_, value)| value));
        let Self { added, changed, removed, ended, needs_restart, unset, notes } = self;
        notes.iter().for_each(|note| tracing::warn!("{note}"));
        let named = |names: &[String]| {
            let more = if names.len() > NAMED_MAX { " and others" } else { "" };
            format!("{}{more}", names[..names.len().min(NAMED_MAX)].join(", "))
        };
        let (added, changed, removed) = (named(added), named(changed), named(removed));
        tracing::info!(option, value, added, changed, removed, clients_ended = ended, "{what}");
        for option in unset {
            tracing::info!("{option} had been set, and is as configured again");
        }
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
