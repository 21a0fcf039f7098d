//! Texts that name prepared statements: with the server's names in them, and what they mean when they are run.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::Walk;
use super::prepared::{estranged, is_ours, quoted, text_of};
use crate::wire::extended::Parse;
use crate::wire::frame::{HEADER_BYTES, Header, cstr};
use crate::wire::names::{About, Does, KNOWN, Named, Naming};
use crate::wire::plan::{Entry, Kind, Note};
use crate::wire::position::Shift;
use crate::wire::sql::{self, Effects};

/// What a name in a text means when that is run.
pub(super) enum Meaning {
    /// It is still to be seen.
    Waits,
    /// What it meant when the text was sent.
    Same,
    /// Another statement, or none that was prepared by protocol message.
    Other(Option<Arc<Named>>),
}

impl Walk<'_, '_> {
    /// `EXECUTE s0`, `DEALLOCATE s0` about a statement prepared by protocol message: with the server's name for it.
    pub(super) fn query_naming(&mut self, header: Header, name: &Range<usize>, does: Does) -> bool {
        let start = self.at + HEADER_BYTES;
        let body = &self.input[start..start + header.body as usize];
        let client_name = sql::identifier(&body[name.clone()]);
        if self.name_must_wait(&client_name) {
            return false;
        }
        let Some(named) = self.client.names.get(&client_name).cloned() else {
            let note = if does == Does::Forgets { Note::Own } else { Note::None };
            if !is_ours(&client_name) {
                if does == Does::Executes {
                    // Prepared in SQL: what its text would do was noted then, and not what it does now.
                    self.note_effects(&Effects::anything());
                }
                return self.pass_query(header, note);
            }
            let displaced = self.displace_unnamed(None);
            self.server.plan.push(Entry::forward(Kind::Query).noting(note).displacing(displaced));
            self.write_query(&[&body[..name.start], &quoted(&estranged(&client_name)), &body[name.end..]]);
            self.at += header.message_bytes();
            return true;
        };
        let named = match does {
            Does::Executes => match self.current(named) {
                Some(named) => named,
                None => return false,
            },
            Does::Prepares | Does::Forgets => named,
        };
        if !self.has_named(&named) && self.sync_must_wait() {
            return false;
        }
        let in_batch = self.server.plan.is_in_batch();
        if self.ensure_named(&named) && !in_batch {
            self.sync();
        }
        let displaced = self.displace_unnamed(None);
        let sent = named.statement.name.as_bytes();
        let shift =
            Shift::new(&body[..name.start], &body[name.clone()], sent, cstr(&body[name.end..]).map_or(b"", |(text, _)| text));
        self.write_query(&[&body[..name.start], sent, &body[name.end..]]);
        let note = match does {
            Does::Forgets => self.forget(named, shift),
            Does::Executes | Does::Prepares => {
                self.note_effects(&named.statement.scan.effects);
                self.client.ran(text_of(&named.statement.rest));
                self.runs(named, shift)
            }
        };
        self.server.plan.push(Entry::forward(Kind::Query).noting(note).displacing(displaced));
        self.at += header.message_bytes();
        true
    }

    /// A statement of the client is about to be deallocated. Taken for done at once, because what the client sends next
    /// counts on it.
    pub(super) fn forget(&mut self, named: Arc<Named>, shift: Shift) -> Note {
        if self.client.names.get(&named.name).is_some_and(|now| Arc::ptr_eq(now, &named)) {
            self.client.names.remove(&named.name, self.server.plan.batch());
        }
        self.server.statements.doubt(named.statement.id);
        Note::Forgets(named, shift)
    }

    /// What EXECUTE runs may itself be a DEALLOCATE.
    pub(super) fn runs(&mut self, named: Arc<Named>, shift: Shift) -> Note {
        let is_held = |named: &Arc<Named>| self.client.names.get(&named.name).is_some_and(|now| Arc::ptr_eq(now, named));
        match named.about.naming().map(|naming| &**naming) {
            Some(Naming { does: Does::Forgets, target: Some(forgotten), .. }) if is_held(forgotten) => {
                self.forget(Arc::clone(forgotten), shift)
            }
            _ => Note::Runs(named, shift),
        }
    }

    /// The Parse with the server's name for the client's statement in its text, which is made sure of.
    pub(super) fn with_server_name<'p>(&mut self, parse: &Parse<'p>, name: &Range<usize>, does: Does) -> (Cow<'p, [u8]>, About) {
        let target = self.client.names.get(&sql::identifier(&parse.text[name.clone()])).cloned();
        if let Some(named) = &target {
            self.ensure_named(named);
        }
        let (rest, naming) = with_name_of(target, parse.rest, name, &parse.text[name.clone()], does);
        (rest, About::Names(Arc::new(naming)))
    }

    /// The statement as it is run now. `None`: that is still to be seen.
    pub(super) fn current(&mut self, named: Arc<Named>) -> Option<Arc<Named>> {
        let (About::Names(naming), meaning) = (&named.about, self.meaning(&named.about)) else { return Some(named) };
        let now = match meaning {
            Meaning::Waits => return None,
            Meaning::Same => return Some(named),
            Meaning::Other(target) => self.with_target(&named.name, &named.statement.rest, naming, target),
        };
        (!self.statements_must_wait(&now.statement, &now.about)).then_some(now)
    }

    /// PostgreSQL looks up a name in a text when it runs that, not when it is prepared.
    pub(super) fn meaning(&mut self, about: &About) -> Meaning {
        let About::Names(naming) = about else { return Meaning::Same };
        let name = sql::identifier(&naming.written);
        if self.name_must_wait(&name) {
            return Meaning::Waits;
        }
        match (self.client.names.get(&name), &naming.target) {
            (Some(now), Some(then)) if Arc::ptr_eq(now, then) => Meaning::Same,
            (None, None) => Meaning::Same,
            (now, _) => Meaning::Other(now.cloned()),
        }
    }

    /// A statement whose text names another one than it did, for one run.
    pub(super) fn with_target(&self, name: &[u8], rest: &[u8], naming: &Naming, target: Option<Arc<Named>>) -> Arc<Named> {
        let (rest, naming) = with_name_of(target, rest, &naming.place, &naming.written, naming.does);
        let statement = self.client.catalog.statements.intern(&rest, || sql::scan(text_of(&rest)));
        Arc::new(Named { name: name.into(), statement, about: About::Names(Arc::new(naming)), batch: KNOWN })
    }
}

/// A text with the server's name for what it names, and how the client has it.
fn with_name_of<'r>(
    target: Option<Arc<Named>>,
    rest: &'r [u8],
    place: &Range<usize>,
    written: &[u8],
    does: Does,
) -> (Cow<'r, [u8]>, Naming) {
    let own = sql::identifier(written);
    let name: Cow<'_, [u8]> = match &target {
        Some(named) => named.statement.name.as_bytes().into(),
        None if is_ours(&own) => quoted(&estranged(&own)).into(),
        None => written.into(),
    };
    let shift = Shift::new(&rest[..place.start], written, &name, text_of(&rest[place.end..]));
    let rest = match rest[place.clone()] == *name {
        true => rest.into(),
        false => [&rest[..place.start], &name, &rest[place.end..]].concat().into(),
    };
    let place = place.start..place.start + name.len();
    (rest, Naming { does, written: written.into(), place, shift, target })
}
