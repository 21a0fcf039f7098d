//! Protocol-level prepared statements: one shared statement per distinct text and parameter types.
//!
//! A client's name for a statement means something to that client alone. What the server sees is a name of ours, the
//! same for everybody who prepared the same text.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::sql::Scan;

/// Every server-side name starts with this; a client's own name that does so too is kept apart in `exchange`.
pub const SERVER_NAME_PREFIX: &str = "sidepool_";

/// The table is swept of statements nobody holds when it has grown to twice its size after the last sweep, but not
/// below this many,
const SWEEP_AT_LEAST: usize = 1024;

/// and when its texts have: one may be as long as a message.
const SWEEP_AT_LEAST_BYTES: usize = 4 << 20;

/// A statement as servers have it.
#[derive(Debug)]
pub struct Statement {
    pub id: u64,
    /// Name on the server.
    pub name: Box<str>,
    /// The Parse body after the name: text, NUL, parameter types.
    pub rest: Box<[u8]>,
    /// Scanned once, here, and never again when it is executed.
    pub scan: Scan,
    epoch: u64,
    /// The server said that its result type changed under it: whoever prepares the text anew gets a new statement.
    stale: AtomicBool,
    /// A server has taken it: the text is good.
    proven: AtomicBool,
}

impl Statement {
    pub fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    pub fn mark_stale(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }
}

struct ByRest(Arc<Statement>);

impl Borrow<[u8]> for ByRest {
    fn borrow(&self) -> &[u8] {
        &self.0.rest
    }
}

impl Hash for ByRest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.rest.hash(state);
    }
}

impl PartialEq for ByRest {
    fn eq(&self, other: &Self) -> bool {
        self.0.rest == other.0.rest
    }
}

impl Eq for ByRest {}

/// All statements of one database.
#[derive(Default)]
pub struct Statements {
    table: Mutex<Table>,
    next_id: AtomicU64,
    epoch: AtomicU64,
}

#[derive(Default)]
struct Table {
    known: HashSet<ByRest>,
    sweep_at: usize,
    bytes: usize,
    sweep_at_bytes: usize,
}

impl std::fmt::Debug for Statements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statements").field("known", &self.len()).finish_non_exhaustive()
    }
}

impl Statements {
    /// The statement for this text and these types, shared unless its result type may have changed since it was first
    /// prepared: a schema change that passed through here, or the server's word for one that did not. Clients that hold
    /// the older one keep it, and get from the server what they would get on a connection of their own.
    pub fn intern(&self, rest: &[u8], scan: impl FnOnce() -> Scan) -> Arc<Statement> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let mut table = self.table.lock();
        if let Some(ByRest(known)) = table.known.get(rest)
            && known.epoch == epoch
            && !known.stale.load(Ordering::Relaxed)
        {
            return Arc::clone(known);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("{SERVER_NAME_PREFIX}{id}").into();
        let new = Arc::new(Statement {
            id,
            name,
            rest: rest.into(),
            scan: scan(),
            epoch,
            stale: AtomicBool::default(),
            proven: AtomicBool::default(),
        });
        table.sweep();
        table.bytes += rest.len();
        if let Some(ByRest(old)) = table.known.replace(ByRest(Arc::clone(&new))) {
            table.bytes -= old.rest.len();
        }
        new
    }

    /// A statement of this text and these types that a server has taken since the last schema change.
    pub fn proven(&self, rest: &[u8]) -> Option<Arc<Statement>> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let table = self.table.lock();
        let ByRest(known) = table.known.get(rest)?;
        let is_good = known.epoch == epoch && known.proven.load(Ordering::Relaxed) && !known.stale.load(Ordering::Relaxed);
        is_good.then(|| Arc::clone(known))
    }

    /// A schema change was seen: statements prepared from now on are new ones.
    pub fn schema_changed(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub fn len(&self) -> usize {
        self.table.lock().known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    fn sweep(&mut self) {
        let is_full = self.known.len() >= self.sweep_at.max(SWEEP_AT_LEAST);
        if is_full || self.bytes >= self.sweep_at_bytes.max(SWEEP_AT_LEAST_BYTES) {
            self.known.retain(|s| Arc::strong_count(&s.0) > 1);
            self.bytes = self.known.iter().map(|s| s.0.rest.len()).sum();
            self.sweep_at = self.known.len() * 2;
            self.sweep_at_bytes = self.bytes * 2;
        }
    }
}

/// The server-side name of statement `id`.
pub fn server_name(id: u64) -> String {
    let mut name = String::with_capacity(SERVER_NAME_PREFIX.len() + 20);
    let _ = write!(name, "{SERVER_NAME_PREFIX}{id}");
    name
}

/// Ids are dense and ours: one multiplication spreads them, nothing hostile can collide them.
#[derive(Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intern(statements: &Statements, rest: &[u8]) -> Arc<Statement> {
        statements.intern(rest, Scan::default)
    }

    #[test]
    fn one_statement_per_text_and_types() {
        let all = Statements::default();
        let a = intern(&all, b"select 1\0\0\0");
        assert!(Arc::ptr_eq(&a, &intern(&all, b"select 1\0\0\0")));
        assert_ne!(a.id, intern(&all, b"select 1\0\0\x01\0\0\0\x17").id);
        assert_eq!(*a.name, server_name(a.id));
    }

    #[test]
    fn a_schema_change_or_the_servers_word_ends_sharing_for_new_preparations_only() {
        let all = Statements::default();
        let old = intern(&all, b"select * from t\0\0\0");
        all.schema_changed();
        let new = intern(&all, b"select * from t\0\0\0");
        assert_ne!(old.id, new.id);
        new.mark_stale();
        assert_ne!(new.id, intern(&all, b"select * from t\0\0\0").id);
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn the_table_forgets_what_nobody_holds() {
        let all = Statements::default();
        let kept = intern(&all, b"kept\0\0\0");
        for i in 0..3 * SWEEP_AT_LEAST {
            intern(&all, format!("select {i}\0\0\0").as_bytes());
        }
        assert!(all.len() <= SWEEP_AT_LEAST + 1, "{}", all.len());
        assert!(Arc::ptr_eq(&kept, &intern(&all, b"kept\0\0\0")));
    }

    #[test]
    fn long_texts_that_nobody_holds_are_forgotten_sooner() {
        let all = Statements::default();
        let kept = intern(&all, b"kept\0\0\0");
        let text = |i| format!("{i}{}\0\0\0", "x".repeat(SWEEP_AT_LEAST_BYTES / 4));
        for i in 0..100 {
            intern(&all, text(i).as_bytes());
            assert!(all.len() <= 6, "{}", all.len());
        }
        assert!(Arc::ptr_eq(&kept, &intern(&all, b"kept\0\0\0")));
        let held: Vec<_> = (0..8).map(|i| intern(&all, text(i).as_bytes())).collect();
        assert!(held.iter().enumerate().all(|(i, held)| Arc::ptr_eq(held, &intern(&all, text(i).as_bytes()))));
    }
}
