//! What an administrator holds up: pools that give no servers, databases that take no clients, servers that are to go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::{Gate, Pool, PoolKey, Registry};

/// What a command is about: the pools it covers, also those that are made later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    All,
    Project(String),
    Database { project: String, database: String },
}

impl Scope {
    pub fn covers(&self, key: &PoolKey) -> bool {
        match self {
            Self::All => true,
            Self::Project(project) => *project == key.project,
            Self::Database { project, database } => *project == key.project && *database == key.database,
        }
    }

    /// Whether everything that `other` covers is covered.
    fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Project(own), Self::Project(project) | Self::Database { project, .. }) => own == project,
            _ => self == other,
        }
    }
}

/// As commanded, and not taken back.
#[derive(Debug, Default)]
pub(super) struct Gates {
    /// Each with the number of the command that has the last word on it.
    paused: HashMap<Scope, u64>,
    /// Commands that paused so far.
    pauses: u64,
    disabled: HashSet<Scope>,
}

/// One PAUSE. Whoever pauses or resumes the same after it has the last word on that.
#[derive(Debug)]
pub struct Pause {
    scope: Scope,
    number: u64,
}

impl Registry {
    /// Clients get no server any more, idle servers are closed, the others as they come back (PgBouncer: PAUSE). `None` where the
    /// same scope is paused already.
    pub fn pause(&self, scope: Scope) -> Option<Pause> {
        let mut gates = self.gates.lock();
        if gates.paused.contains_key(&scope) {
            return None;
        }
        let number = gates.pause(scope.clone());
        self.apply(&gates);
        Some(Pause { scope, number })
    }

    /// The same, whoever has paused it before: what they began is not theirs to take back any more.
    pub fn keep_paused(&self, scope: Scope) {
        let mut gates = self.gates.lock();
        gates.pause(scope);
        self.apply(&gates);
    }

    /// Takes just this one back, if nobody else has had a say since.
    pub fn take_back(&self, pause: &Pause) {
        let mut gates = self.gates.lock();
        if gates.paused.get(&pause.scope) == Some(&pause.number) {
            gates.paused.remove(&pause.scope);
            self.apply(&gates);
        }
    }

    /// Takes back every pause of `scope` and of what is inside it; whether there was one.
    pub fn resume(&self, scope: &Scope) -> bool {
        let mut gates = self.gates.lock();
        let before = gates.paused.len();
        gates.paused.retain(|paused, _| !scope.includes(paused));
        self.apply(&gates);
        gates.paused.len() < before
    }

    /// Whether a pause of just this scope is on.
    pub fn has_pause(&self, scope: &Scope) -> bool {
        self.gates.lock().paused.contains_key(scope)
    }

    /// New clients are refused from now on (PgBouncer: DISABLE).
    pub fn disable(&self, scope: Scope) {
        self.gates.lock().disabled.insert(scope);
    }

    /// Takes that back for `scope` and for what is inside it; whether there was anything to take back.
    pub fn enable(&self, scope: &Scope) -> bool {
        let disabled = &mut self.gates.lock().disabled;
        let before = disabled.len();
        disabled.retain(|disabled| !scope.includes(disabled));
        disabled.len() < before
    }

    pub fn is_paused(&self, key: &PoolKey) -> bool {
        self.gates.lock().paused.keys().any(|scope| scope.covers(key))
    }

    /// Whether anything is.
    pub fn has_paused(&self) -> bool {
        !self.gates.lock().paused.is_empty()
    }

    pub fn is_disabled(&self, key: &PoolKey) -> bool {
        self.gates.lock().disabled.iter().any(|scope| scope.covers(key))
    }

    pub fn covered(&self, scope: &Scope) -> Vec<Arc<Pool>> {
        self.all().into_iter().filter(|pool| scope.covers(&pool.key)).collect()
    }

    /// A pool that somebody comes to, which may have been made a moment ago.
    pub(super) fn hold_at_gate(&self, pool: &Arc<Pool>) {
        let gates = self.gates.lock();
        if !gates.paused.is_empty() {
            pool.set_gate(gates.gate(&pool.key));
        }
    }

    /// Under the lock, so that of two commands the later one has the last word on every pool.
    fn apply(&self, gates: &MutexGuard<'_, Gates>) {
        self.all().iter().for_each(|pool| pool.set_gate(gates.gate(&pool.key)));
    }
}

impl Gates {
    /// The number of the command.
    fn pause(&mut self, scope: Scope) -> u64 {
        self.pauses += 1;
        self.paused.insert(scope, self.pauses);
        self.pauses
    }

    fn gate(&self, key: &PoolKey) -> Gate {
        if self.paused.keys().any(|scope| scope.covers(key)) { Gate::Paused } else { Gate::Open }
    }
}

impl Pool {
    /// ## Open => Paused, Paused => Open
    fn set_gate(self: &Arc<Self>, gate: Gate) {
        let before = std::mem::replace(&mut self.state.lock().gate, gate);
        match (before, gate) {
            (Gate::Open, Gate::Paused) => _ = self.close_idle(),
            (Gate::Paused, Gate::Open) => self.open_soon(),
            _ => {}
        }
    }

    /// Neither servers nor logins that would bring some.
    pub fn has_no_servers(&self) -> bool {
        let state = self.state.lock();
        self.open_count() == 0 && state.opening == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::PoolMode;

    fn key(project: &str, database: &str) -> PoolKey {
        PoolKey { project: project.into(), database: database.into(), user: "u".into(), mode: PoolMode::Session }
    }

    fn database(project: &str, database: &str) -> Scope {
        Scope::Database { project: project.into(), database: database.into() }
    }

    #[test]
    fn a_scope_covers_its_own_and_includes_smaller_ones() {
        let scopes = [Scope::All, Scope::Project("p".into()), database("p", "d")];
        let covered = |key: &PoolKey| scopes.iter().map(|scope| scope.covers(key)).collect::<Vec<_>>();
        assert_eq!(covered(&key("p", "d")), [true, true, true]);
        assert_eq!(covered(&key("p", "e")), [true, true, false]);
        assert_eq!(covered(&key("q", "d")), [true, false, false]);
        for (at, wide) in scopes.iter().enumerate() {
            for (other, narrow) in scopes.iter().enumerate() {
                assert_eq!(wide.includes(narrow), at <= other, "{wide:?} {narrow:?}");
            }
        }
        assert!(!database("p", "d").includes(&database("p", "e")));
    }

    #[test]
    fn any_scope_that_covers_a_pool_pauses_it() {
        let mut gates = Gates::default();
        gates.pause(database("p", "d"));
        assert_eq!(gates.gate(&key("p", "d")), Gate::Paused);
        assert_eq!(gates.gate(&key("p", "e")), Gate::Open);
        gates.pause(Scope::All);
        assert_eq!(gates.gate(&key("q", "e")), Gate::Paused);
    }
}
