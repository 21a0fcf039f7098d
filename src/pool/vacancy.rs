//! A database that somebody wants for himself.

use std::sync::Arc;

use super::{Pool, State};

/// As long as this lives, its pools keep no idle server and open none that nobody waits for: what DROP DATABASE and the
/// like need. PostgreSQL waits 5 s for others to leave before it says 55006 (`CountOtherDBBackends` in procarray.c), and
/// what is busy when the statement comes may go idle in that time.
#[derive(Debug)]
pub struct Vacancy(Vec<Arc<Pool>>);

impl Vacancy {
    pub(super) fn of(pools: Vec<Arc<Pool>>) -> Self {
        for pool in &pools {
            pool.state.lock().vacancies += 1;
            pool.close_idle();
        }
        Self(pools)
    }
}

impl Drop for Vacancy {
    fn drop(&mut self) {
        self.0.iter().for_each(|pool| pool.state.lock().vacancies -= 1);
    }
}

impl State {
    pub(super) fn is_vacated(&self) -> bool {
        self.vacancies > 0
    }
}
