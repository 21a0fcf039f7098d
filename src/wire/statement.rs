//! Protocol-level prepared statements: one shared statement per distinct text and parameter types.
//!
//! A client's name for a statement means something to that client alone. What the server sees is a name of ours, the
//! same for everybody who prepared the same text.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::sql::{Leaves, Scan};

/// Every server-side name starts with this; a client's own name that does so too is kept apart in `exchange`.
pub const SERVER_NAME_PREFIX: &str = "sidepool_";

/// The table is swept of statements nobody holds when it has grown to twice its size after the last sweep, but not
/// below this many.
const SWEEP_AT_LEAST: usize = 1024;

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
        table.known.replace(ByRest(Arc::clone(&new)));
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
        if self.known.len() >= self.sweep_at.max(SWEEP_AT_LEAST) {
            self.known.retain(|s| Arc::strong_count(&s.0) > 1);
            self.sweep_at = self.known.len() * 2;
        }
    }
}

/// A statement under a client's name for it.
#[derive(Debug)]
pub struct Named {
    pub name: Box<[u8]>,
    pub statement: Arc<Statement>,
    pub about: About,
}

/// What running a statement does to other prepared statements of its client.
#[derive(Clone, Debug, Default)]
pub enum About {
    #[default]
    Nothing,
    /// `EXECUTE name`
    Executes(Arc<Named>),
    /// `DEALLOCATE name`
    Forgets(Arc<Named>),
    /// `DEALLOCATE ALL`, `DISCARD ALL`
    ForgetsAll,
}

impl About {
    /// The statement whose server-side name stands in the text.
    pub fn statement(&self) -> Option<&Arc<Statement>> {
        match self {
            Self::Executes(named) | Self::Forgets(named) => Some(&named.statement),
            Self::Nothing | Self::ForgetsAll => None,
        }
    }
}

/// One client's names.
#[derive(Debug, Default)]
pub struct ClientNames(HashSet<ByName>);

#[derive(Debug)]
struct ByName(Arc<Named>);

impl Borrow<[u8]> for ByName {
    fn borrow(&self) -> &[u8] {
        &self.0.name
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl ClientNames {
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Named>> {
        self.0.get(name).map(|n| &n.0)
    }

    pub fn insert(&mut self, named: Arc<Named>) {
        self.0.replace(ByName(named));
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<Named>> {
        self.0.take(name).map(|n| n.0)
    }

    /// Takes back an [`insert`](Self::insert), unless the name means something else by now.
    pub fn take_back(&mut self, named: &Arc<Named>) {
        if self.get(&named.name).is_some_and(|now| Arc::ptr_eq(now, named)) {
            self.0.remove(&*named.name);
        }
    }

    /// Names that were not given up after all; one that was given anew keeps its new meaning.
    pub fn restore(&mut self, names: Self) {
        names.0.into_iter().for_each(|n| _ = self.0.insert(n));
    }

    /// All of them, and the table's memory: an idle client that deallocated everything holds nothing.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A client's name for the statement the server calls `server_name`.
    pub fn client_name_of(&self, server_name: &[u8]) -> Option<&[u8]> {
        self.0.iter().find(|n| n.0.statement.name.as_bytes() == server_name).map(|n| &*n.0.name)
    }
}

/// A client's last unnamed Parse, kept because its Bind may come in another transaction, on another server (trap 28).
#[derive(Debug, Default)]
pub struct Unnamed {
    /// Its number among the client's; `None` when the statement is gone.
    pub live: Option<u32>,
    /// The Parse body after the name.
    pub rest: Vec<u8>,
    pub leaves: Leaves,
    pub about: About,
}

/// The unnamed statement of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holds {
    #[default]
    Nothing,
    /// The client with this id parsed it, as its so many-th.
    Of(u64, u32),
    /// Some statement, or none.
    Anything,
}

/// The unnamed statement as it was before a message that the server may never look at.
#[derive(Debug)]
pub struct Displaced {
    pub server: Holds,
    pub client: Unnamed,
}

/// What one server has prepared, least recently used first out.
#[derive(Debug, Default)]
pub struct ServerStatements {
    used: HashMap<u64, Slot, BuildHasherDefault<IdHasher>>,
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    used_at: u64,
    held: Held,
}

/// Whether a server has a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Surely,
    /// It may have been deallocated. A Close is no error either way, so Close and Parse make it sure.
    Perhaps,
}

impl ServerStatements {
    /// Whether the server has it; it counts as used now.
    #[inline]
    pub fn touch(&mut self, id: u64) -> Option<Held> {
        self.clock += 1;
        let slot = self.used.get_mut(&id)?;
        slot.used_at = self.clock;
        Some(slot.held)
    }

    pub fn insert(&mut self, id: u64) {
        self.put(id, Held::Surely);
    }

    /// Nobody knows any more.
    pub fn doubt(&mut self, id: u64) {
        self.put(id, Held::Perhaps);
    }

    fn put(&mut self, id: u64, held: Held) {
        self.clock += 1;
        self.used.insert(id, Slot { used_at: self.clock, held });
    }

    /// Nobody knows of any any more; the moment, for [`forget_doubtful`](Self::forget_doubtful).
    pub fn doubt_all(&mut self) -> u64 {
        self.used.values_mut().for_each(|slot| slot.held = Held::Perhaps);
        self.clock
    }

    /// What was doubted and not used since that moment is gone.
    pub fn forget_doubtful(&mut self, since: u64) {
        self.used.retain(|_, slot| slot.held == Held::Surely || slot.used_at > since);
    }

    pub fn remove(&mut self, id: u64) {
        self.used.remove(&id);
    }

    /// It was deallocated, unless it was prepared again since it was doubted.
    pub fn remove_doubtful(&mut self, id: u64) {
        if self.used.get(&id).is_some_and(|slot| slot.held == Held::Perhaps) {
            self.used.remove(&id);
        }
    }

    pub fn clear(&mut self) {
        self.used.clear();
    }

    /// The least recently used one, taken out, where there are more than `limit`.
    pub fn evict(&mut self, limit: usize) -> Option<(u64, Held)> {
        if self.used.len() <= limit {
            return None;
        }
        let (&id, &Slot { held, .. }) = self.used.iter().min_by_key(|(_, slot)| slot.used_at)?;
        self.used.remove(&id);
        Some((id, held))
    }

    /// Ids, and whether the server surely has them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Held)> {
        self.used.iter().map(|(id, slot)| (*id, slot.held))
    }

    pub fn len(&self) -> usize {
        self.used.len()
    }

    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
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
    fn eviction_takes_the_least_recently_used() {
        let mut server = ServerStatements::default();
        for id in 1..=3 {
            server.insert(id);
        }
        assert_eq!(server.touch(1), Some(Held::Surely));
        assert_eq!(server.evict(2), Some((2, Held::Surely)));
        assert_eq!(server.evict(2), None);
        assert_eq!(server.touch(2), None);
    }

    #[test]
    fn what_is_doubted_goes_unless_it_was_prepared_again() {
        let mut server = ServerStatements::default();
        (1..=3).for_each(|id| server.insert(id));
        let moment = server.doubt_all();
        assert_eq!(server.touch(1), Some(Held::Perhaps));
        server.insert(1);
        server.insert(4);
        server.doubt(4);
        server.forget_doubtful(moment);
        let mut left: Vec<_> = server.iter().collect();
        left.sort_by_key(|(id, _)| *id);
        assert_eq!(left, [(1, Held::Surely), (4, Held::Perhaps)]);
        [1, 4].into_iter().for_each(|id| server.remove_doubtful(id));
        assert_eq!(server.iter().next(), Some((1, Held::Surely)));
    }
}
