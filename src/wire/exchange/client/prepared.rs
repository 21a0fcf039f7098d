//! Prepared statements: the client's names in, the server's names out.

use std::ops::Range;
use std::sync::Arc;

use super::{Walk, malformed, too_large, too_many_statements};
use crate::error::PgError;
use crate::wire::exchange::{Intake, Mode, SCANNED_BYTES};
use crate::wire::extended::{BindNames, Parse, Target, write_message};
use crate::wire::frame::{HEADER_BYTES, Header, cstr};
use crate::wire::plan::{Entry, Kind, Named, Note, Status, Synthetic};
use crate::wire::sql::{self, Leaves, Scan, Verb};
use crate::wire::statement::{SERVER_NAME_PREFIX, Statement, server_name};
use crate::wire::tag::client as tag;

impl Walk<'_, '_> {
    /// `EXECUTE s0`, `DEALLOCATE s0` about a statement prepared by protocol message: with the server's name for it.
    pub(super) fn query_naming(&mut self, header: Header, name: Range<usize>, forgets: bool) -> bool {
        let start = self.at + HEADER_BYTES;
        let body = &self.input[start..start + header.body as usize];
        let name_sent = sql::identifier(&body[name.clone()]);
        let Some(statement) = self.client.names.get(&name_sent).cloned() else {
            self.forget_unnamed();
            return self.pass(header, Kind::Query);
        };
        if self.ensure(&statement) {
            // The statement must be there before a message that is not of its batch.
            write_message(tag::SYNC, &[], 0, self.out.settle());
            self.server.plan.push(Entry::swallow(Kind::Sync));
        }
        self.forget_unnamed();
        let (before, after) = (&body[..name.start], &body[name.end..]);
        write_message(tag::QUERY, &[before, statement.name.as_bytes(), after], 0, self.out.settle());
        let entry = Entry::forward(Kind::Query);
        self.server.plan.push(match forgets {
            true => entry.noting(Note::Forgets(Box::new(Named { name: name_sent.into(), statement }))),
            false => entry.noting(Note::Uses(statement.id)),
        });
        self.at += header.message_bytes();
        true
    }

    pub(super) fn parse(&mut self, header: Header) -> Result<bool, PgError> {
        if self.client.mode == Mode::Session {
            return Ok(self.parse_of_session(header));
        }
        let Some(body) = self.whole_body(header)? else { return Ok(false) };
        // Out of the walk's borrow: the input outlives it.
        let start = self.at + HEADER_BYTES;
        let end = start + body.len();
        let Some(parse) = Parse::read(&self.input[start..end]) else { return Err(malformed("Parse")) };
        let scan = sql::scan(parse.text);
        if let Verb::Deallocate(name) | Verb::Execute(name) = &scan.verb
            && let Some(rest) = self.with_server_name(&parse, name.clone(), matches!(scan.verb, Verb::Deallocate(_)))
        {
            self.parse_as(header, parse.name, &rest, scan)?;
        } else {
            self.parse_as(header, parse.name, parse.rest, scan)?;
        }
        Ok(true)
    }

    /// The Parse with the server's name for the client's statement in its text, which is made sure of.
    fn with_server_name(&mut self, parse: &Parse<'_>, name: Range<usize>, forgets: bool) -> Option<Vec<u8>> {
        let client_name = sql::identifier(&parse.text[name.clone()]);
        let statement = Arc::clone(self.client.names.get(&client_name)?);
        self.ensure(&statement);
        if forgets {
            self.client.names.remove(&client_name);
            self.server.statements.remove(statement.id);
        }
        let mut rest = Vec::with_capacity(parse.rest.len() + statement.name.len());
        rest.extend_from_slice(&parse.rest[..name.start]);
        rest.extend_from_slice(statement.name.as_bytes());
        rest.extend_from_slice(&parse.rest[name.end..]);
        Some(rest)
    }

    fn parse_as(&mut self, header: Header, name: &[u8], rest: &[u8], scan: Scan) -> Result<(), PgError> {
        if name.is_empty() {
            self.parse_unnamed(header, rest, scan);
            return Ok(());
        }
        if let Some(used) = self.client.names.get(name).cloned() {
            // The server says 42P05, after whatever it says of the text first.
            self.ensure(&used);
            self.write_parse(&used.name, rest);
            self.server.plan.push(Entry::forward(Kind::Parse).noting(Note::Uses(used.id)));
        } else {
            self.parse_named(name, rest, scan)?;
        }
        self.at += header.message_bytes();
        Ok(())
    }

    fn parse_named(&mut self, name: &[u8], rest: &[u8], scan: Scan) -> Result<(), PgError> {
        if self.client.names.len() >= self.client.bounds.statements_per_client {
            return Err(too_many_statements(self.client.bounds.statements_per_client));
        }
        let name: Arc<[u8]> = name.into();
        let leaves = scan.leaves;
        let statement = self.client.catalog.statements.intern(rest, || scan);
        let named = Box::new(Named { name: Arc::clone(&name), statement: Arc::clone(&statement) });
        let is_there = self.server.statements.touch(statement.id);
        if is_there && self.server.plan.status() != Status::Failed {
            self.client.names.insert(name, statement);
            self.synthesize(Synthetic::ParseComplete, Note::Names(named));
            return Ok(());
        }
        self.server.leaves |= leaves;
        if is_there {
            // In a failed transaction only the server knows which statements it still takes: asked under no name.
            self.server.unnamed = None;
            self.write_parse("", rest);
        } else {
            self.write_parse(&statement.name, rest);
            self.server.statements.insert(statement.id);
        }
        self.server.plan.push(Entry::forward(Kind::Parse).noting(Note::Names(named)));
        self.client.names.insert(name, statement);
        self.evict();
        Ok(())
    }

    fn parse_unnamed(&mut self, header: Header, rest: &[u8], scan: Scan) {
        let unnamed = &mut self.client.unnamed;
        unnamed.last = unnamed.last.wrapping_add(1);
        unnamed.live = Some(unnamed.last);
        unnamed.rest.clear();
        unnamed.rest.extend_from_slice(rest);
        self.server.unnamed = Some((self.client.id, unnamed.last));
        self.note_scan(scan);
        self.server.plan.push(Entry::forward(Kind::Parse).noting(Note::Unnamed));
        if rest.len() + 1 == header.body as usize {
            self.forward(header);
        } else {
            self.write_parse("", rest);
            self.at += header.message_bytes();
        }
    }

    /// The text is only scanned for what concerns others; names are the client's own.
    fn parse_of_session(&mut self, header: Header) -> bool {
        let Some(body) = self.body(header, SCANNED_BYTES) else { return false };
        if let Some((_, rest)) = cstr(body) {
            let text = cstr(rest).map_or(rest, |(text, _)| text);
            self.note_scan(sql::scan(text));
        }
        self.pass(header, Kind::Parse)
    }

    pub(super) fn bind(&mut self, header: Header) -> Result<bool, PgError> {
        if self.client.mode == Mode::Session {
            return Ok(self.pass(header, Kind::Bind));
        }
        let Some(prefix) = self.body(header, 2) else { return Ok(false) };
        let here = prefix.len();
        let start = self.at + HEADER_BYTES;
        let Some(names) = BindNames::read(&self.input[start..start + here]) else {
            return match here == header.body as usize {
                true => Err(malformed("Bind")),
                false if here > self.client.bounds.statement_bytes => {
                    Err(too_large(header.body, self.client.bounds.statement_bytes))
                }
                false => Ok(false),
            };
        };
        if names.statement.is_empty() {
            self.ensure_unnamed();
            return Ok(self.pass(header, Kind::Bind));
        }
        let Some(statement) = self.client.names.get(names.statement).cloned() else {
            return Ok(self.bind_unknown(header, names));
        };
        self.ensure(&statement);
        self.server.leaves |= statement.scan.leaves;
        self.bind_as(header, names, statement.name.as_bytes(), Note::Uses(statement.id));
        Ok(self.at < self.input.len())
    }

    /// A name this client never prepared: the server's own 26000. A name that looks like one of ours must not reach it.
    fn bind_unknown(&mut self, header: Header, names: BindNames<'_>) -> bool {
        if names.statement.starts_with(SERVER_NAME_PREFIX.as_bytes()) {
            self.bind_as(header, names, &estranged(names.statement), Note::None);
            return self.at < self.input.len();
        }
        self.pass(header, Kind::Bind)
    }

    /// The Bind with another statement name; what follows the names is let through.
    fn bind_as(&mut self, header: Header, names: BindNames<'_>, statement: &[u8], note: Note) {
        let later = header.body as usize - names.bytes();
        write_message(tag::BIND, &[names.portal, b"\0", statement, b"\0"], later, self.out.settle());
        self.server.plan.push(Entry::forward(Kind::Bind).noting(note));
        self.at += HEADER_BYTES + names.bytes();
        if later > 0 {
            // ## Boundary => Forward
            self.client.intake = Intake::Forward(later as u32);
        }
    }

    pub(super) fn describe_or_close(&mut self, header: Header) -> Result<bool, PgError> {
        let closes = header.tag == tag::CLOSE;
        let kind = if closes { Kind::Close } else { Kind::Describe };
        if self.client.mode == Mode::Session {
            return Ok(self.pass(header, kind));
        }
        let Some(_) = self.whole_body(header)? else { return Ok(false) };
        let start = self.at + HEADER_BYTES;
        let input = self.input;
        match Target::read(&input[start..start + header.body as usize]) {
            None => Err(malformed(if closes { "Close" } else { "Describe" })),
            Some(Target::Portal(_)) => Ok(self.pass(header, kind)),
            Some(Target::Statement(b"")) if closes => Ok(self.close_unnamed(header)),
            Some(Target::Statement(b"")) => {
                self.ensure_unnamed();
                Ok(self.pass(header, kind))
            }
            Some(Target::Statement(name)) if closes => Ok(self.close(header, name)),
            Some(Target::Statement(name)) => Ok(self.describe(header, name)),
        }
    }

    fn describe(&mut self, header: Header, name: &[u8]) -> bool {
        let (server_name, note) = match self.client.names.get(name).cloned() {
            Some(statement) => {
                self.ensure(&statement);
                (statement.name.as_bytes().to_vec(), Note::Uses(statement.id))
            }
            None if name.starts_with(SERVER_NAME_PREFIX.as_bytes()) => (estranged(name), Note::None),
            None => return self.pass(header, Kind::Describe),
        };
        write_message(tag::DESCRIBE, &[b"S", &server_name, b"\0"], 0, self.out.settle());
        self.server.plan.push(Entry::forward(Kind::Describe).noting(note));
        self.at += header.message_bytes();
        true
    }

    /// Closing a name that means nothing is no error either (trap 25).
    fn close(&mut self, header: Header, name: &[u8]) -> bool {
        let closed = self.client.names.remove(name);
        if closed.is_none() && self.server.leaves.has(Leaves::STATEMENTS) && !name.starts_with(SERVER_NAME_PREFIX.as_bytes()) {
            return self.pass(header, Kind::Close);
        }
        let note = closed.map_or(Note::None, |(name, statement)| Note::Unnames(Box::new(Named { name, statement })));
        self.skip(header);
        self.synthesize(Synthetic::CloseComplete, note);
        true
    }

    fn close_unnamed(&mut self, header: Header) -> bool {
        self.forget_unnamed();
        self.pass(header, Kind::Close)
    }

    /// Makes sure the server has the statement before what follows; whether it had to be sent (trap 23).
    pub(super) fn ensure(&mut self, statement: &Statement) -> bool {
        if self.server.statements.touch(statement.id) {
            return false;
        }
        self.write_parse(&statement.name, &statement.rest);
        self.server.plan.push(Entry::swallow(Kind::Parse).noting(Note::Learns(statement.id)));
        self.server.statements.insert(statement.id);
        self.evict();
        true
    }

    /// Makes sure that the server's unnamed statement is this client's, or none at all (trap 28).
    fn ensure_unnamed(&mut self) {
        let mine = self.client.unnamed.live.map(|number| (self.client.id, number));
        if self.server.unnamed == mine {
            return;
        }
        if mine.is_some() {
            let rest = std::mem::take(&mut self.client.unnamed.rest);
            self.write_parse("", &rest);
            self.client.unnamed.rest = rest;
            self.server.plan.push(Entry::swallow(Kind::Parse).noting(Note::Unnamed));
        } else {
            write_message(tag::CLOSE, &[b"S\0"], 0, self.out.settle());
            self.server.plan.push(Entry::swallow(Kind::Close));
        }
        self.server.unnamed = mine;
    }

    /// Closes what is over the server's limit; should the Close not be processed, the statement is still there (trap 26).
    fn evict(&mut self) {
        while let Some(id) = self.server.statements.evict(self.client.bounds.statements_per_server) {
            write_message(tag::CLOSE, &[b"S", server_name(id).as_bytes(), b"\0"], 0, self.out.settle());
            self.server.plan.push(Entry::swallow(Kind::Close).noting(Note::Evicts(id)));
        }
    }

    fn write_parse(&mut self, name: &str, rest: &[u8]) {
        write_message(tag::PARSE, &[name.as_bytes(), b"\0", rest], 0, self.out.settle());
    }
}

/// A name no server has, from which the client's own is found again.
fn estranged(name: &[u8]) -> Vec<u8> {
    [name, b"?"].concat()
}
