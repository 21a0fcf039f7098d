//! Options that are set while the pooler runs, over everything that it was started with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Password;
use super::file::ConfigFile;

/// The file as it was read, if there was one.
#[derive(Clone, Default)]
pub struct FileRead(pub(super) Option<Arc<ConfigFile>>);

/// It holds passwords.
impl fmt::Debug for FileRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileRead").field(&self.0.as_ref().map(|file| &file.name)).finish()
    }
}

/// Values that win over the file, the variables and the flags, by the option's key.
///
/// They are laid over the file *as it was read*: who sets one option has not asked for what else may stand there by now, nor
/// to be refused for a mistake in it.
#[derive(Clone, Debug, Default)]
pub struct Amended {
    pub(super) file: FileRead,
    pub(super) values: BTreeMap<&'static str, Password>,
}

impl Amended {
    /// Nothing, over this file.
    pub fn over(file: FileRead) -> Self {
        Self { file, values: BTreeMap::new() }
    }

    /// This option is as configured without a value; an empty one leaves it unset, where it has no default.
    #[must_use]
    pub fn with(mut self, option: &'static str, value: Option<Password>) -> Self {
        match value {
            Some(value) => _ = self.values.insert(option, value),
            None => _ = self.values.remove(option),
        }
        self
    }

    /// What is set.
    pub fn options(&self) -> impl Iterator<Item = &'static str> {
        self.values.keys().copied()
    }
}
