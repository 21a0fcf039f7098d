//! Which process ids clients were told.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::handle::Handle;

/// Places that are kept however few are taken.
const PLACES_MIN: usize = 64;

/// Sessions by process id. Nearly every one has its own; those told one that another was told before stand beside.
#[derive(Debug, Default)]
pub(super) struct Told {
    first: HashMap<u32, Arc<Handle>, RandomState>,
    /// By process id and session.
    others: BTreeMap<(u32, u64), Arc<Handle>>,
}

impl Told {
    /// In place of what the same session was told before, if that was the same.
    pub(super) fn insert(&mut self, handle: &Arc<Handle>) {
        match self.first.entry(handle.pid) {
            Entry::Occupied(mut first) if first.get().id == handle.id => _ = first.insert(Arc::clone(handle)),
            Entry::Occupied(_) => _ = self.others.insert((handle.pid, handle.id), Arc::clone(handle)),
            Entry::Vacant(place) => _ = place.insert(Arc::clone(handle)),
        }
    }

    /// Just this one: a session that was entered anew may have been told the same process id again.
    pub(super) fn remove(&mut self, handle: &Handle) {
        let is_it = |known: &Arc<Handle>| std::ptr::eq(&raw const **known, handle);
        if let Entry::Occupied(first) = self.first.entry(handle.pid)
            && is_it(first.get())
        {
            first.remove();
            self.give_back();
        } else if self.others.get(&(handle.pid, handle.id)).is_some_and(is_it) {
            self.others.remove(&(handle.pid, handle.id));
        }
    }

    pub(super) fn with_pid(&self, pid: u32) -> impl Iterator<Item = &Arc<Handle>> {
        let others = self.others.range((pid, 0)..=(pid, u64::MAX)).map(|(_, handle)| handle);
        self.first.get(&pid).into_iter().chain(others)
    }

    pub(super) fn has(&self, pid: u32) -> bool {
        self.first.contains_key(&pid) || !self.others.is_empty() && self.with_pid(pid).next().is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Handle>> {
        self.first.values().chain(self.others.values())
    }

    pub(super) fn len(&self) -> usize {
        self.first.len() + self.others.len()
    }

    /// A burst leaves no room behind. Twice as much as is needed stays, so that it is seldom done.
    fn give_back(&mut self) {
        let places = self.first.capacity();
        if places > PLACES_MIN && self.first.len() < places / 4 {
            self.first.shrink_to((places / 2).max(PLACES_MIN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{About, Sessions};
    use super::*;

    #[test]
    fn a_burst_leaves_no_room_behind() {
        let (sessions, about) = (Sessions::default(), About::of("one"));
        let burst: Vec<_> = (1..=5000).map(|id| sessions.enter(id, None, false, &about)).collect();
        let mut told = Told::default();
        burst.iter().for_each(|handle| told.insert(handle));
        assert!(told.len() == 5000 && burst.iter().all(|handle| told.has(handle.pid)));
        burst.iter().for_each(|handle| told.remove(handle));
        assert!(told.len() == 0 && told.first.capacity() <= 4 * PLACES_MIN, "{}", told.first.capacity());
    }

    #[test]
    fn of_those_told_the_same_each_is_found_until_it_leaves() {
        let (sessions, about) = (Sessions::default(), About::of("one"));
        let [a, b, again] = [1, 2, 1].map(|id| sessions.enter(id, Some(7), false, &about));
        let mut told = Told::default();
        let ids = |told: &Told| told.with_pid(7).map(|handle| handle.id).collect::<Vec<_>>();
        told.insert(&a);
        told.insert(&b);
        told.insert(&again);
        assert_eq!((ids(&told), told.len()), (vec![1, 2], 2));
        told.remove(&a);
        assert_eq!(ids(&told), [1, 2], "it was entered anew");
        told.remove(&again);
        assert!(ids(&told) == [2] && told.has(7) && told.iter().count() == 1);
        told.remove(&b);
        assert!(!told.has(7));
    }
}
