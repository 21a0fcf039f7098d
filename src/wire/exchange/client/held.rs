//! What a server is to hold before the client's message: statements under our names, and the unnamed one.

use super::Walk;
use crate::wire::extended::write_message;
use crate::wire::names::{About, Displaced, Held, Holds, Named, Unnamed};
use crate::wire::plan::{Entry, Kind, Note};
use crate::wire::sql::Effects;
use crate::wire::statement::{Statement, server_name};
use crate::wire::tag::client as tag;

/// Room for a text that an unnamed statement leaves to the next, in bytes.
const KEPT_TEXT_BYTES: usize = 4096;

/// A statement that becomes the unnamed one.
pub(super) struct NewUnnamed<'a> {
    /// The Parse body after the name.
    pub(super) rest: &'a [u8],
    pub(super) effects: Effects,
    pub(super) about: About,
}

impl Walk<'_, '_> {
    /// Makes sure the server has the statement, and the one that it names, before what follows; whether anything had to be
    /// sent (trap 23).
    pub(super) fn ensure_named(&mut self, named: &Named) -> bool {
        let sent = self.put_named(named);
        if sent {
            self.evict(named.about.statement().map(|s| s.id).as_slice());
        }
        sent
    }

    /// The same, over the server's limit if need be.
    pub(super) fn put_named(&mut self, named: &Named) -> bool {
        let sent_other = self.put_about(&named.about);
        self.put(&named.statement) || sent_other
    }

    /// Whether there is nothing to be sent for that.
    pub(super) fn has_named(&mut self, named: &Named) -> bool {
        let ids = [Some(&named.statement), named.about.statement()].into_iter().flatten().map(|s| s.id);
        ids.map(|id| self.server.statements.touch(id)).all(|held| held == Some(Held::Surely))
    }

    pub(super) fn put_about(&mut self, about: &About) -> bool {
        let Some(statement) = about.statement() else { return false };
        self.server.note_effects(self.client, &statement.scan.effects);
        self.put(statement)
    }

    fn put(&mut self, statement: &Statement) -> bool {
        let held = self.server.statements.touch(statement.id);
        if held == Some(Held::Surely) {
            return false;
        }
        self.close_doubtful(statement.id, held);
        self.write_parse(&statement.name, &statement.rest);
        let (id, batch) = (statement.id, self.server.plan.batch());
        self.server.plan.push(Entry::swallow(Kind::Parse).noting(Note::Learns { id, batch }));
        self.server.statements.insert(id, batch);
        true
    }

    /// A statement that may be there or not is closed before it is parsed: that is no error either way.
    pub(super) fn close_doubtful(&mut self, id: u64, held: Option<Held>) {
        if held == Some(Held::Perhaps) {
            self.write_close(id, Note::Doubts(id));
        }
    }

    pub(super) fn unnamed_must_wait(&mut self) -> bool {
        let about = self.client.unnamed.about();
        let (client, server) = (self.client.unnamed.batch, self.server.unnamed_batch);
        self.must_wait(client) || self.must_wait(server) || about.statement().is_some_and(|s| self.statement_must_wait(s))
    }

    /// Makes sure that the server's unnamed statement is this client's, or none at all (trap 28).
    pub(super) fn ensure_unnamed(&mut self) {
        let about = self.client.unnamed.about();
        if self.put_about(&about) {
            self.evict(&[]);
        }
        let (number, rest) = (self.client.unnamed.number, self.client.unnamed.rest());
        let mine = if rest.is_some() { Holds::Of(self.client.id, number) } else { Holds::Nothing };
        if self.server.unnamed == mine {
            return;
        }
        let entry = match rest {
            Some(rest) => {
                write_message(tag::PARSE, &[b"\0", rest], 0, self.out.settle());
                Entry::swallow(Kind::Parse)
            }
            None => {
                write_message(tag::CLOSE, &[b"S\0"], 0, self.out.settle());
                Entry::swallow(Kind::Close)
            }
        };
        self.server.plan.push(entry.noting(Note::Unnamed(number)));
        self.server_holds(mine);
    }

    pub(super) fn server_holds(&mut self, unnamed: Holds) {
        self.server.unnamed = unnamed;
        self.server.unnamed_batch = self.server.plan.batch();
    }

    /// The unnamed statement goes, and perhaps another takes its place: a Parse, a Close, and every simple query destroys
    /// it (protocol chapter "Extended Query"). What was there is kept as long as the server may not come to look at the
    /// message.
    #[inline]
    pub(super) fn displace_unnamed(&mut self, new: Option<NewUnnamed<'_>>) -> Option<Box<Displaced>> {
        let (client, plan) = (&self.client.unnamed, &self.server.plan);
        // It may be there once more if what destroyed it was not done.
        let may_return = !plan.owes_nothing() && (plan.is_pending(client.batch) || client.batch == plan.batch());
        let was_there = client.parsed.is_some() || self.server.unnamed != Holds::Nothing || may_return;
        if !was_there && new.is_none() { None } else { self.displace(new, was_there) }
    }

    #[inline(never)]
    fn displace(&mut self, new: Option<NewUnnamed<'_>>, was_there: bool) -> Option<Box<Displaced>> {
        let server = self.server.unnamed;
        self.server_holds(Holds::Nothing);
        self.client.unnamed_changes += 1;
        let by = self.client.unnamed_changes;
        let none = Unnamed { number: by, batch: self.server.plan.batch(), parsed: None };
        let client = &mut self.client.unnamed;
        let mut old = std::mem::replace(client, none);
        let keeps = was_there && !self.server.plan.owes_nothing();
        client.parsed = new.map(|NewUnnamed { rest, effects, about }| {
            let mut parsed = if keeps { Box::default() } else { old.parsed.take().unwrap_or_default() };
            parsed.rest.clear();
            // One long text does not keep its room for all the short ones to come.
            parsed.rest.shrink_to(rest.len().max(KEPT_TEXT_BYTES));
            parsed.rest.extend_from_slice(rest);
            (parsed.effects, parsed.about) = (effects, about);
            parsed
        });
        keeps.then(|| Box::new(Displaced { by, server, client: old }))
    }

    /// Closes what is over the server's limit, but nothing of `kept`; should the Close not be processed, the statement is
    /// still there (trap 26).
    pub(super) fn evict(&mut self, kept: &[u64]) {
        let (limit, batch) = (self.client.bounds.statements_per_server as usize, self.server.plan.batch());
        for (id, held, since) in self.server.statements.evict(limit, kept, batch) {
            // What this very batch put there falls with it.
            let is_there = held == Held::Surely && since != batch && !self.server.plan.is_pending(since);
            self.write_close(id, if is_there { Note::Evicts { id, batch } } else { Note::Doubts(id) });
        }
    }

    fn write_close(&mut self, id: u64, note: Note) {
        write_message(tag::CLOSE, &[b"S", server_name(id).as_bytes(), b"\0"], 0, self.out.settle());
        self.server.plan.push(Entry::swallow(Kind::Close).noting(note));
    }

    pub(super) fn write_parse(&mut self, name: &str, rest: &[u8]) {
        self.client.aside().counted.server_parses += 1;
        write_message(tag::PARSE, &[name.as_bytes(), b"\0", rest], 0, self.out.settle());
    }

    pub(super) fn write_query(&mut self, parts: &[&[u8]]) {
        write_message(tag::QUERY, parts, 0, self.out.settle());
    }
}
