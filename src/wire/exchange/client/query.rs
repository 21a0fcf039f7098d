//! A simple query, and what it may do to everybody's statements.

use super::Walk;
use crate::error::PgError;
use crate::wire::exchange::{Mode, SCANNED_BYTES};
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::names::{ClientNames, Displaced, Does, KNOWN, Unnamed};
use crate::wire::plan::{Cleared, Entry, Kind, Note, Status, Synthetic};
use crate::wire::sql::{self, Effects, Leaves, Scan, Verb};

impl Walk<'_, '_> {
    pub(super) fn query(&mut self, header: Header) -> Result<bool, Box<PgError>> {
        let input = self.input;
        let start = self.at + HEADER_BYTES;
        let Some(length) = self.body(header, SCANNED_BYTES).map(<[u8]>::len) else { return Ok(false) };
        let body = &input[start..start + length];
        let is_whole = body.len() == header.body as usize;
        // With another NUL in it PostgreSQL refuses the message.
        let text = match body {
            [text @ .., 0] if is_whole => text,
            text => text,
        };
        let is_plain = sql::is_plain(text);
        if is_plain && is_whole && self.is_ordinary() {
            return Ok(self.pass_query(header, Note::None));
        }
        let scan = if is_plain { Scan::default() } else { sql::look_into(text) };
        self.query_looked_into(header, text, is_whole, scan)
    }

    /// Nobody wants to know what its client runs, and nothing is to be done in front of that or behind it.
    #[inline]
    fn is_ordinary(&self) -> bool {
        self.client.channels.is_here() && self.client.aside.is_none() && !self.has_reset()
    }

    #[inline(never)]
    fn query_looked_into(&mut self, header: Header, text: &[u8], is_whole: bool, scan: Scan) -> Result<bool, Box<PgError>> {
        let Scan { effects, verb } = scan;
        let before = self.at;
        let is_elsewhere = !self.client.channels.is_here();
        if is_elsewhere && !self.rejoin_late() {
            return Ok(false);
        }
        let is_about_channels = is_elsewhere && (effects.is_about_channels() || !is_whole);
        if is_about_channels && !self.bring_home(Some(text)) {
            return Ok(false);
        }
        let rejoins = is_about_channels && is_whole && self.is_recalling(text);
        let more = if self.client.mode == Mode::Session || !is_whole {
            self.note_verb(verb);
            self.pass_query(header, Note::None)
        } else {
            self.query_of_transaction(header, text, verb)
        };
        // One that waits is scanned again.
        if self.at > before {
            self.client.lint(text, &effects);
            if self.client.remembers(&effects) {
                self.client.blame(text, &effects);
                self.client.note_text(text);
            }
            match is_whole {
                true => self.note_effects(&effects),
                false => self.note_effects(&Effects::anything()),
            }
            if rejoins {
                self.rejoin(text);
            }
            if self.has_reset() && is_whole {
                self.restore_defaults(text);
            }
        }
        Ok(more)
    }

    fn query_of_transaction(&mut self, header: Header, text: &[u8], verb: Verb) -> bool {
        if matches!(verb, Verb::DeallocateAll | Verb::ForgetsAll) && self.must_wait_for_all() {
            return false;
        }
        match verb {
            Verb::DeallocateAll if self.may_answer_deallocate_all() => self.deallocate_all(header),
            Verb::DeallocateAll | Verb::ForgetsAll => {
                let note = self.clear_names();
                self.pass_query(header, note)
            }
            Verb::Deallocate(name) => self.query_naming(header, &name, Does::Forgets),
            Verb::Execute(name) => self.query_naming(header, &name, Does::Executes),
            Verb::Mentions => self.query_mentioning(header, text),
            verb => {
                self.note_verb(verb);
                self.pass_query(header, Note::None)
            }
        }
    }

    #[inline]
    pub(super) fn pass_query(&mut self, header: Header, note: Note) -> bool {
        let displaced = self.displace_unnamed(None);
        self.server.plan.push(Entry::forward(Kind::Query).noting(note).displacing(displaced));
        self.forward(header)
    }

    /// Whether a reply of ours is what the server would say, which in a failed transaction it is not: the status must be
    /// known, and not be that; and its place among the server's replies must be.
    pub(super) fn may_synthesize(&self) -> bool {
        let plan = &self.server.plan;
        plan.knows_status() && plan.status() != Status::Failed && plan.knows_order()
    }

    /// What PREPARE made is there to be deallocated, and a query that ends a batch has to reach the server.
    fn may_answer_deallocate_all(&self) -> bool {
        self.may_synthesize() && !self.server.may_have(Leaves::STATEMENTS) && !self.server.plan.is_in_batch()
    }

    /// `DEALLOCATE ALL` is about this client's names; the server's statements are everybody's (trap 29).
    fn deallocate_all(&mut self, header: Header) -> bool {
        // With nothing owed it is done at once.
        let batch = if self.server.plan.owes_nothing() { KNOWN } else { self.server.plan.batch() };
        self.client.unnamed_changes += 1;
        let by = self.client.unnamed_changes;
        let none = Unnamed { number: by, batch, ..Unnamed::default() };
        let client = std::mem::replace(&mut self.client.unnamed, none);
        self.server.left = ClientNames::default();
        let displaced = Displaced { by, server: self.server.unnamed, client };
        let note = Note::Clears(Box::new(Cleared { names: self.client.names.take(batch), moment: 0 }));
        self.skip(header);
        let entry = Entry::forward(Kind::Synthesize(Synthetic::DeallocatedAll)).noting(note);
        self.synthesize(entry.displacing(Some(Box::new(displaced))));
        true
    }

    /// Everything is about to be deallocated. Taken for done at once, because what the client sends next counts on it.
    pub(super) fn clear_names(&mut self) -> Note {
        let moment = self.server.statements.doubt_all();
        self.server.left = ClientNames::default();
        Note::Clears(Box::new(Cleared { names: self.client.names.take(self.server.plan.batch()), moment }))
    }
}
