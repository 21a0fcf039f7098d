//! Pools as the hosted pooler counts them: one for each database, user, mode and `search_path` of a project, while it has clients.
//! Here a `search_path` is a setting that follows its client and makes no pool: this is the limit, and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::config::Settings;
use crate::error::hosted::Hosted;
use crate::error::{PgError, SqlState};
use crate::pool::PoolKey;
use crate::wire::startup::Startup;

/// By project; of each no more than the limit.
#[derive(Debug, Default)]
pub struct HostedPools(Mutex<HashMap<String, HashMap<Counted, Weak<Counted>>>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Counted {
    key: PoolKey,
    search_path: String,
}

/// A pool counts for as long as one of these is there.
#[derive(Clone, Debug, Default)]
pub struct PoolCount(#[expect(dead_code, reason = "it is held, and that is all")] Option<Arc<Counted>>);

impl HostedPools {
    /// # Errors
    /// One pool too many for the project.
    pub(super) fn enter(&self, key: &PoolKey, startup: &Startup, settings: &Settings) -> Result<PoolCount, PgError> {
        let limit = settings.limits.max_pools;
        if limit == 0 {
            return Ok(PoolCount(None));
        }
        let counted = Counted { key: key.clone(), search_path: search_path(startup) };
        let mut projects = self.0.lock();
        let pools = projects.entry(key.project.clone()).or_default();
        if let Some(there) = pools.get(&counted).and_then(Weak::upgrade) {
            return Ok(PoolCount(Some(there)));
        }
        pools.retain(|_, pool| pool.strong_count() > 0);
        if pools.len() >= limit {
            return Err(settings.error_texts.choose(Hosted::Pools, || too_many(limit)));
        }
        let pool = Arc::new(counted.clone());
        pools.insert(counted, Arc::downgrade(&pool));
        Ok(PoolCount(Some(pool)))
    }
}

/// What is in force: the last of those in `options`, and then the parameter's own.
fn search_path(startup: &Startup) -> String {
    let all = startup.settings().filter(|(name, _)| name.eq_ignore_ascii_case("search_path"));
    all.last().map(|(_, value)| value.to_owned()).unwrap_or_default()
}

fn too_many(limit: usize) -> PgError {
    PgError::fatal(SqlState::TOO_MANY_CONNECTIONS, "too many pools for this project")
        .with_detail(format!("There are {limit}, each of another database, user, mode or search_path."))
        .with_hint("Use fewer of them at once, or raise limits.max_pools.")
}
