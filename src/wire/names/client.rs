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
    use crate::wire::names::About;
    use crate::wire::sql::Scan;
    use crate::wire::statement::Statements;

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
