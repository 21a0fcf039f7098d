//! Databases that somebody wants for himself.

use std::sync::Arc;

use super::{Pool, State};

/// As long as this lives, its pools keep no idle server and open none that nobody waits for: what DROP DATABASE and the
/// like need. PostgreSQL waits 5 s for others to leave before it says 55006 (`CountOtherDBBackends` in procarray.c), and
/// what is busy when the statement comes may go idle in that time.
///
/// One client's statements may want several databases before the first of them is answered. Each is here once, so that there
/// are never more than there are pools.
#[derive(Debug, Default)]
pub struct Vacancy(Vec<Vacated>);

impl Vacancy {
    /// Pools of one database more; or of one that is wanted again, which may have other pools by now.
    pub(super) fn extend(&mut self, pools: Vec<Arc<Pool>>) {
        let Some(database) = pools.first().map(|pool| pool.key.database.clone()) else { return };
        let new = Vacated::of(pools);
        match self.0.iter_mut().find(|old| old.is_in(&database)) {
            Some(old) => *old = new,
            None => self.0.push(new),
        }
    }
}

/// The pools of one database.
#[derive(Debug)]
struct Vacated(Vec<Arc<Pool>>);

impl Vacated {
    fn of(pools: Vec<Arc<Pool>>) -> Self {
        for pool in &pools {
            pool.state.lock().vacancies += 1;
            pool.close_idle();
        }
        Self(pools)
    }

    fn is_in(&self, database: &str) -> bool {
        self.0.first().is_some_and(|pool| pool.key.database == database)
    }
}

impl Drop for Vacated {
    fn drop(&mut self) {
        self.0.iter().for_each(|pool| pool.state.lock().vacancies -= 1);
    }
}

impl State {
    pub(super) fn is_vacated(&self) -> bool {
        self.vacancies > 0
    }
}
