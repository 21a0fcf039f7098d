//! The settings in force, which a reload replaces.

use std::sync::Arc;

use parking_lot::RwLock;

use super::Settings;

/// Handed down like the settings themselves. Whoever takes them out goes on with what he has: a login from its beginning to
/// its end, a pool until it is told of others.
#[derive(Debug)]
pub struct Live(RwLock<Arc<Settings>>);

impl Live {
    pub fn new(settings: Arc<Settings>) -> Self {
        Self(RwLock::new(settings))
    }

    pub fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read())
    }

    pub fn set(&self, settings: Arc<Settings>) {
        *self.0.write() = settings;
    }
}
