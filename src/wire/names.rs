//! Who has which statement: a client under its names, a server under ours, and the unnamed one of both.
//!
//! All of it is as it will be when everything sent has been done, and says in which batch it became so: as long as that
//! batch is pending (`Plan::is_pending`), it may turn out otherwise.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::position::Shift;
use super::sql::Effects;
use super::statement::{IdHasher, Statement};
use crate::hint::rare;

/// A statement under a client's name for it.
#[derive(Debug)]
pub struct Named {
    pub name: Box<[u8]>,
    pub statement: Arc<Statement>,
    pub about: About,
    /// The batch it was prepared in (`Plan::batch`).
    pub batch: u64,
}

/// A batch that is never pending: what is known is known.
pub const KNOWN: u64 = u64::MAX;

/// What running a statement does to other prepared statements of its client.
#[derive(Clone, Debug, Default)]
pub enum About {
    #[default]
    Nothing,
    /// Its text names one.
    Names(Arc<Naming>),
    /// `DEALLOCATE ALL`, `DISCARD ALL`
    ForgetsAll,
}

impl About {
    pub fn naming(&self) -> Option<&Arc<Naming>> {
        match self {
            Self::Names(naming) => Some(naming),
            Self::Nothing | Self::ForgetsAll => None,
        }
    }

    /// The statement whose server-side name stands in the text.
    pub fn statement(&self) -> Option<&Arc<Statement>> {
        Some(&self.naming()?.target.as_ref()?.statement)
    }
}

/// A text that names a prepared statement, with the name that it had on the server when the text was sent.
#[derive(Debug)]
pub struct Naming {
    pub does: Does,
    /// The name as the client wrote it.
    pub written: Box<[u8]>,
    /// Where the server's name stands in the text.
    pub place: Range<usize>,
    pub shift: Shift,
    /// What the client had under the name. `None`: nothing that it prepared by protocol message.
    pub target: Option<Arc<Named>>,
}

/// What a text does with the statement that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// `EXECUTE name`, `EXPLAIN … EXECUTE name`
    Executes,
    /// `PREPARE name`
    Prepares,
    /// `DEALLOCATE name`
    Forgets,
}

/// One client's names. Behind a pointer, because most clients that are idle in great number have none.
#[derive(Debug, Default)]
pub struct ClientNames(Option<Box<Names>>);

#[derive(Debug, Default)]
struct Names {
    held: HashSet<ByName, RandomState>,
    /// Names that were given up, and the batch it was done in, until that is answered.
    given_up: HashMap<Box<[u8]>, u64>,
    all_given_up: Option<u64>,
}

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
        self.0.as_ref()?.held.get(name).map(|n| &n.0)
    }

    /// The batch that gave the name its meaning, or took it away.
    #[inline]
    pub fn batch_of(&self, name: &[u8]) -> u64 {
        let Some(names) = &self.0 else { return KNOWN };
        match names.held.get(name) {
            Some(named) => named.0.batch,
            None => names.given_up.get(name).copied().or(names.all_given_up).unwrap_or(KNOWN),
        }
    }

    pub fn insert(&mut self, named: Arc<Named>) {
        self.table().held.replace(ByName(named));
    }

    /// Gives a name up in this batch. In none that is pending, there is nothing to remember.
    pub fn remove(&mut self, name: &[u8], batch: u64) -> Option<Arc<Named>> {
        let names = self.0.as_mut()?;
        let named = names.held.take(name)?.0;
        if batch != KNOWN {
            names.given_up.insert(name.into(), batch);
        }
        Some(named)
    }

    /// Takes back an [`insert`](Self::insert), unless the name means something else by now.
    pub fn take_back(&mut self, named: &Arc<Named>) {
        if self.get(&named.name).is_some_and(|now| Arc::ptr_eq(now, named)) {
            self.table().held.remove(&*named.name);
        }
    }

    /// A name that was not given up after all; if it was given anew, it keeps its new meaning.
    pub fn restore(&mut self, named: Arc<Named>) {
        self.table().held.insert(ByName(named));
    }

    /// The same for all of them.
    pub fn restore_all(&mut self, names: Self) {
        let Some(names) = names.0 else { return };
        let own = self.table();
        names.held.into_iter().for_each(|n| _ = own.held.insert(n));
    }

    /// Gives all of them up in this batch, and the table's memory: an idle client that deallocated everything holds
    /// nothing.
    pub fn take(&mut self, batch: u64) -> Self {
        let given_up = Names { all_given_up: Some(batch), ..Names::default() };
        Self(self.0.replace(Box::new(given_up)))
    }

    /// All of them become `other`'s, up to `most` in all; those beyond are gone.
    pub fn leave_to(&mut self, other: &mut Self, most: usize) {
        let Some(names) = &mut self.0 else { return };
        for named in names.held.drain() {
            if other.len() < most {
                other.table().held.replace(named);
            }
        }
    }

    /// Without a trace.
    pub fn drop_name(&mut self, name: &[u8]) {
        if let Some(names) = &mut self.0 {
            names.held.remove(name);
        }
    }

    /// Everything that was sent has been answered.
    #[inline]
    pub fn settle(&mut self) {
        let Some(names) = &mut self.0 else { return };
        if !names.given_up.is_empty() {
            rare();
            names.given_up = HashMap::new();
        }
        if names.all_given_up.take().is_some() && names.held.is_empty() {
            rare();
            self.0 = None;
        }
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |names| names.held.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of their texts.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |names| names.held.iter().map(|n| n.0.statement.rest.len()).sum())
    }

    /// Names of which it is remembered that they were given up.
    #[cfg(test)]
    pub(super) fn given_up(&self) -> usize {
        self.0.as_ref().map_or(0, |names| names.given_up.len())
    }

    /// A client's name for the statement the server calls `server_name`.
    pub fn client_name_of(&self, server_name: &[u8]) -> Option<&[u8]> {
        let names = self.0.as_ref()?;
        names.held.iter().find(|n| n.0.statement.name.as_bytes() == server_name).map(|n| &*n.0.name)
    }

    fn table(&mut self) -> &mut Names {
        self.0.get_or_insert_default()
    }
}

/// A client's unnamed statement, kept because its Bind may come in another transaction, on another server (trap 28).
#[derive(Debug)]
pub struct Unnamed {
    /// Counts what made or destroyed one, for this client.
    pub number: u64,
    pub batch: u64,
    /// `None` when there is no such statement. Boxed, because most clients that are idle in great number have none; one
    /// that takes another's place takes its box too.
    pub parsed: Option<Box<Parsed>>,
}

/// What an unnamed statement is.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The Parse body after the name.
    pub rest: Vec<u8>,
    pub effects: Effects,
    pub about: About,
}

impl Default for Unnamed {
    fn default() -> Self {
        Self { number: 0, batch: KNOWN, parsed: None }
    }
}

impl Unnamed {
    pub fn rest(&self) -> Option<&[u8]> {
        self.parsed.as_ref().map(|parsed| &*parsed.rest)
    }

    pub fn effects(&self) -> Effects {
        self.parsed.as_ref().map_or(Effects::NOTHING, |parsed| parsed.effects.clone())
    }

    pub fn about(&self) -> About {
        self.parsed.as_ref().map_or(About::Nothing, |parsed| parsed.about.clone())
    }
}

/// The unnamed statement of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holds {
    #[default]
    Nothing,
    /// The client with this id parsed it, under this number.
    Of(u64, u64),
    /// Some statement, or none.
    Anything,
}

/// The unnamed statement as it was before a message that the server may never look at.
#[derive(Debug)]
pub struct Displaced {
    /// The client's number for what took its place.
    pub by: u64,
    pub server: Holds,
    pub client: Unnamed,
}

/// What one server has prepared, least recently used first out.
#[derive(Debug, Default)]
pub struct ServerStatements {
    used: HashMap<u64, Slot, BuildHasherDefault<IdHasher>>,
    clock: u64,
    /// Slots that are being closed.
    closing: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    used_at: u64,
    held: Held,
    /// The batch that made it so (`Plan::batch`).
    batch: u64,
}

/// Whether a server has a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Surely,
    /// It may have been deallocated. A Close is no error either way, so Close and Parse make it sure.
    Perhaps,
    /// Until everything sent is answered, our Close among it.
    Closing,
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

    /// The batch that made it so.
    #[inline]
    pub fn batch_of(&self, id: u64) -> u64 {
        self.used.get(&id).map_or(KNOWN, |slot| slot.batch)
    }

    /// Prepared in this batch.
    pub fn insert(&mut self, id: u64, batch: u64) {
        self.put(id, Held::Surely, batch);
    }

    /// Takes back an [`insert`](Self::insert) in this batch, unless a later one has decided anew.
    pub fn take_back(&mut self, id: u64, batch: u64) {
        if self.used.get(&id).is_some_and(|slot| slot.batch == batch) {
            self.remove(id);
        }
    }

    /// Nobody knows any more.
    pub fn doubt(&mut self, id: u64) {
        self.put(id, Held::Perhaps, KNOWN);
    }

    fn put(&mut self, id: u64, held: Held, batch: u64) {
        self.clock += 1;
        let old = self.used.insert(id, Slot { used_at: self.clock, held, batch });
        self.closing -= usize::from(old.is_some_and(|slot| slot.held == Held::Closing));
    }

    /// Nobody knows of any any more; the moment, for [`forget_doubtful`](Self::forget_doubtful).
    pub fn doubt_all(&mut self) -> u64 {
        self.used.values_mut().for_each(|slot| (slot.held, slot.batch) = (Held::Perhaps, KNOWN));
        self.closing = 0;
        self.clock
    }

    /// What was doubted and not used since that moment is gone.
    pub fn forget_doubtful(&mut self, since: u64) {
        self.used.retain(|_, slot| slot.held != Held::Perhaps || slot.used_at > since);
    }

    pub fn remove(&mut self, id: u64) {
        let old = self.used.remove(&id);
        self.closing -= usize::from(old.is_some_and(|slot| slot.held == Held::Closing));
    }

    /// Everything that was sent has been answered: what was being closed is.
    #[inline]
    pub fn settle(&mut self) {
        if self.closing > 0 {
            rare();
            self.used.retain(|_, slot| slot.held != Held::Closing);
            self.closing = 0;
        }
    }

    /// It was deallocated, unless it was prepared again since that was asked for.
    pub fn remove_unless_sure(&mut self, id: u64) {
        if self.used.get(&id).is_some_and(|slot| slot.held != Held::Surely) {
            self.remove(id);
        }
    }

    pub fn clear(&mut self) {
        self.used.clear();
        self.closing = 0;
    }

    /// It was not closed in this batch after all; and it is there, unless something sent since deallocates it. Where a later
    /// batch closes it, that is as it was.
    pub fn reopen(&mut self, id: u64, batch: u64) {
        match self.used.get(&id) {
            Some(slot) if slot.held == Held::Closing && slot.batch == batch => self.put(id, Held::Surely, KNOWN),
            Some(slot) if slot.held == Held::Closing => {}
            _ => self.doubt(id),
        }
    }

    /// The least recently used ones of more than `limit`, to be closed in this batch: whether the server had each until now, and
    /// since when. Never the one used last, nor any of `kept`, which is sorted.
    pub fn evict(&mut self, limit: usize, kept: &[u64], batch: u64) -> Vec<(u64, Held, u64)> {
        let excess = self.len().saturating_sub(limit);
        if excess == 0 {
            return Vec::new();
        }
        let clock = self.clock;
        let may_go =
            |id: &u64, slot: &Slot| slot.held != Held::Closing && slot.used_at != clock && kept.binary_search(id).is_err();
        let candidates = self.used.iter().filter(|(id, slot)| may_go(id, slot)).map(|(id, slot)| (*id, *slot));
        let by_use = |(_, slot): &(u64, Slot)| slot.used_at;
        // Nearly always it is one; a text with many names may leave thousands.
        let evicted = if excess == 1 {
            candidates.min_by_key(by_use).into_iter().collect()
        } else {
            let mut all: Vec<_> = candidates.collect();
            all.sort_unstable_by_key(by_use);
            all.truncate(excess);
            all
        };
        for (id, _) in &evicted {
            self.put(*id, Held::Closing, batch);
            self.closing += 1;
        }
        evicted.into_iter().map(|(id, slot)| (id, slot.held, slot.batch)).collect()
    }

    /// Ids, and whether the server surely has them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Held)> {
        self.used.iter().map(|(id, slot)| (*id, slot.held))
    }

    /// Without those that are being closed.
    pub fn len(&self) -> usize {
        self.used.len() - self.closing
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::sql::Scan;
    use super::super::statement::Statements;
    use super::*;

    #[test]
    fn eviction_takes_the_least_recently_used() {
        let mut server = ServerStatements::default();
        for id in 1..=3 {
            server.insert(id, 0);
        }
        assert_eq!(server.touch(1), Some(Held::Surely));
        assert_eq!(server.evict(2, &[], 1), [(2, Held::Surely, 0)]);
        assert!(server.evict(2, &[], 1).is_empty());
        assert_eq!((server.touch(2), server.len()), (Some(Held::Closing), 2));
        server.settle();
        assert_eq!((server.touch(2), server.len()), (None, 2));
    }

    #[test]
    fn of_many_too_many_the_oldest_go_and_never_what_is_needed() {
        let mut server = ServerStatements::default();
        (1..=9).for_each(|id| server.insert(id, 0));
        server.touch(1);
        assert_eq!(
            server.evict(5, &[2, 4], 1),
            [(3, Held::Surely, 0), (5, Held::Surely, 0), (6, Held::Surely, 0), (7, Held::Surely, 0)]
        );
        assert_eq!(server.len(), 5);
        server.touch(9);
        assert_eq!(server.evict(1, &[1, 2, 4, 8], 2), [], "what was used last stays");
        assert_eq!(server.evict(1, &[1, 2, 4], 2), [(8, Held::Surely, 0)]);
    }

    #[test]
    fn what_is_doubted_goes_unless_it_was_prepared_again() {
        let mut server = ServerStatements::default();
        (1..=3).for_each(|id| server.insert(id, 0));
        let moment = server.doubt_all();
        assert_eq!(server.touch(1), Some(Held::Perhaps));
        server.insert(1, 0);
        server.insert(4, 0);
        server.doubt(4);
        server.forget_doubtful(moment);
        let mut left: Vec<_> = server.iter().collect();
        left.sort_by_key(|(id, _)| *id);
        assert_eq!(left, [(1, Held::Surely), (4, Held::Perhaps)]);
        [1, 4].into_iter().for_each(|id| server.remove_unless_sure(id));
        assert_eq!(server.iter().next(), Some((1, Held::Surely)));
    }

    #[test]
    fn what_was_prepared_again_in_a_later_batch_is_not_taken_back_with_the_earlier_one() {
        let mut server = ServerStatements::default();
        server.insert(1, 4);
        server.insert(2, 4);
        assert_eq!(server.evict(1, &[], 5), [(1, Held::Surely, 4)]);
        server.insert(1, 5);
        server.take_back(1, 4);
        server.take_back(2, 4);
        assert_eq!(server.iter().collect::<Vec<_>>(), [(1, Held::Surely)]);
        server.take_back(1, 5);
        assert!(server.is_empty());
    }

    #[test]
    fn what_a_later_batch_closes_is_not_opened_again_with_an_earlier_one() {
        let mut server = ServerStatements::default();
        server.insert(1, 3);
        server.insert(2, 4);
        assert_eq!(server.evict(1, &[], 4), [(1, Held::Surely, 3)]);
        server.insert(1, 4);
        server.insert(3, 5);
        assert_eq!(server.evict(2, &[], 5), [(2, Held::Surely, 4)]);
        assert_eq!(server.evict(1, &[], 5), [(1, Held::Surely, 4)]);
        server.take_back(1, 4);
        server.reopen(1, 4);
        server.settle();
        assert_eq!(server.iter().collect::<Vec<_>>(), [(3, Held::Surely)]);
    }

    #[test]
    fn a_name_given_up_is_remembered_until_that_is_settled() {
        let mut names = ClientNames::default();
        let statement = Statements::default().intern(b"select 1\0\0\0", Scan::default);
        let named = Arc::new(Named { name: b"a"[..].into(), statement, about: About::Nothing, batch: 3 });
        names.insert(Arc::clone(&named));
        assert_eq!((names.batch_of(b"a"), names.batch_of(b"b")), (3, KNOWN));
        names.remove(b"a", 4).unwrap();
        assert_eq!((names.batch_of(b"a"), names.batch_of(b"b")), (4, KNOWN));
        let all = names.take(5);
        assert_eq!((names.batch_of(b"a"), names.batch_of(b"b")), (5, 5));
        names.restore(named);
        names.restore_all(all);
        names.settle();
        assert_eq!((names.batch_of(b"a"), names.batch_of(b"b")), (3, KNOWN));
    }
}
