//! A client's prepared statements, under its names for them.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::{KNOWN, Named};
use crate::hint::rare;

/// One client's names. Behind a pointer, because most clients that are idle in great number have none.
#[derive(Debug, Default)]
pub struct ClientNames(Option<Box<Names>>);

#[derive(Debug, Default)]
struct Names {
    held: HashSet<ByName, RandomState>,
    /// Of what is held.
    bytes: usize,
    /// Names that were given up, and the batch it was done in, until that is answered.
    given_up: HashMap<Box<[u8]>, u64>,
    all_given_up: Option<u64>,
}

impl Names {
    fn replace(&mut self, named: ByName) {
        self.bytes += named.0.bytes();
        let old = self.held.replace(named);
        self.bytes -= old.map_or(0, |old| old.0.bytes());
    }

    /// Unless it has another meaning by now.
    fn restore(&mut self, named: ByName) {
        let bytes = named.0.bytes();
        if self.held.insert(named) {
            self.bytes += bytes;
        }
    }

    fn take(&mut self, name: &[u8]) -> Option<ByName> {
        let named = self.held.take(name)?;
        self.bytes -= named.0.bytes();
        Some(named)
    }
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
        self.table().replace(ByName(named));
    }

    /// Gives a name up in this batch. In none that is pending, there is nothing to remember.
    pub fn remove(&mut self, name: &[u8], batch: u64) -> Option<Arc<Named>> {
        let names = self.0.as_mut()?;
        let named = names.take(name)?.0;
        if batch != KNOWN {
            names.given_up.insert(name.into(), batch);
        }
        Some(named)
    }

    /// Takes back an [`insert`](Self::insert), unless the name means something else by now.
    pub fn take_back(&mut self, named: &Arc<Named>) {
        if self.get(&named.name).is_some_and(|now| Arc::ptr_eq(now, named)) {
            self.table().take(&named.name);
        }
    }

    /// A name that was not given up after all; if it was given anew, it keeps its new meaning.
    pub fn restore(&mut self, named: Arc<Named>) {
        self.table().restore(ByName(named));
    }

    /// The same for all of them.
    pub fn restore_all(&mut self, names: Self) {
        let Some(names) = names.0 else { return };
        let own = self.table();
        names.held.into_iter().for_each(|n| own.restore(n));
    }

    /// Gives all of them up in this batch, and the table's memory: an idle client that deallocated everything holds
    /// nothing.
    pub fn take(&mut self, batch: u64) -> Self {
        let given_up = Names { all_given_up: Some(batch), ..Names::default() };
        Self(self.0.replace(Box::new(given_up)))
    }

    /// All of them become `other`'s, up to `most` in all, and `most_bytes` of them; those beyond are gone.
    pub fn leave_to(&mut self, other: &mut Self, most: usize, most_bytes: usize) {
        let Some(names) = &mut self.0 else { return };
        names.bytes = 0;
        for named in names.held.drain() {
            if other.len() < most && other.bytes() + named.0.bytes() <= most_bytes {
                other.table().replace(named);
            }
        }
    }

    /// Without a trace.
    pub fn drop_name(&mut self, name: &[u8]) {
        if let Some(names) = &mut self.0 {
            names.take(name);
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

    /// Of names and texts, as if none were shared.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |names| names.bytes)
    }

    /// [`bytes`](Self::bytes), counted anew.
    #[cfg(test)]
    pub(in crate::wire) fn recounted(&self) -> usize {
        self.0.as_ref().map_or(0, |names| names.held.iter().map(|n| n.0.bytes()).sum())
    }

    /// Names of which it is remembered that they were given up.
    #[cfg(test)]
    pub(in crate::wire) fn given_up(&self) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::names::{About, Does, Naming};
    use crate::wire::position::Shift;
    use crate::wire::sql::Scan;
    use crate::wire::statement::Statements;

    fn named(name: &[u8], rest: &[u8]) -> Arc<Named> {
        let statement = Statements::default().intern(rest, Scan::default);
        Arc::new(Named { name: name.into(), statement, about: About::Nothing, batch: KNOWN })
    }

    #[test]
    fn bytes_are_those_of_what_is_held() {
        let (mut one, mut other) = (ClientNames::default(), ClientNames::default());
        let (short, long) = (named(b"a", b"select 1"), named(b"a", b"select 1, 2"));
        one.insert(Arc::clone(&short));
        one.insert(Arc::clone(&long));
        one.take_back(&short);
        one.restore(short);
        assert_eq!((one.len(), one.bytes()), (1, 12));
        one.insert(named(b"bc", b"select 3"));
        let all = one.take(1);
        assert_eq!((all.bytes(), one.bytes()), (22, 0));
        one.restore_all(all);
        one.take_back(&long);
        one.drop_name(b"none");
        assert_eq!((one.len(), one.bytes()), (1, 10));
        one.insert(named(b"d", b"select 4"));
        one.leave_to(&mut other, 9, 11);
        assert_eq!((one.bytes(), other.len(), other.bytes()), (0, 1, other.recounted()));
        let left = other.0.as_ref().unwrap().held.iter().next().unwrap().0.name.clone();
        other.remove(&left, KNOWN);
        assert_eq!(other.bytes(), 0);
    }

    #[test]
    fn what_a_text_names_is_kept_with_it() {
        let target = Some(named(b"end", b"select 1"));
        let shift = Shift::new(b"execute ", b"END", b"end", b"");
        let naming = Naming { does: Does::Executes, written: b"END"[..].into(), place: 8..11, shift, target };
        let about = About::Names(Arc::new(naming));
        let first = Arc::new(Named { about, ..Arc::into_inner(named(b"a", b"execute end")).unwrap() });
        assert_eq!((first.bytes(), first.about.depth()), (1 + 11 + 3 + 3 + 8, 1));
    }

    #[test]
    fn a_name_given_up_is_remembered_until_that_is_settled() {
        let mut names = ClientNames::default();
        let named = Arc::new(Named { batch: 3, ..Arc::into_inner(named(b"a", b"select 1\0\0\0")).unwrap() });
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
