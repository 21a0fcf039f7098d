//! What makes a pool one.

use crate::telemetry::PoolName;
use crate::wire::exchange::Mode;

/// Everybody in a pool may be given the same servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    pub project: String,
    pub database: String,
    pub user: String,
    pub mode: PoolMode,
}

/// [`Mode`], as part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolMode {
    Session,
    Transaction,
}

impl PoolMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}

impl PoolKey {
    /// Under which the pool's figures are known.
    pub fn telemetry_name(&self) -> PoolName {
        let Self { project, database, user, mode } = self.clone();
        PoolName { project, database, user, mode: mode.as_str() }
    }
}

impl From<PoolMode> for Mode {
    fn from(mode: PoolMode) -> Self {
        match mode {
            PoolMode::Session => Self::Session,
            PoolMode::Transaction => Self::Transaction,
        }
    }
}
