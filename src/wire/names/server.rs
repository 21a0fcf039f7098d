//! A server's prepared statements, under our names for them.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::KNOWN;
use crate::hint::rare;
use crate::wire::statement::IdHasher;

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
}
