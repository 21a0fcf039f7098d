//! Prepared statements: the client's names in, the server's names out.
//!
//! The account of what a client and its server have is that of the moment when everything sent has been done: the client
//! goes on from there without waiting. What turns out not to have been done is taken back (`undo` in `server.rs`).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::{Walk, malformed, too_large, too_many_statements};
use crate::error::PgError;
use crate::wire::exchange::{Intake, Mode, SCANNED_BYTES};
use crate::wire::extended::{BindNames, Parse, Target, write_message};
use crate::wire::frame::{HEADER_BYTES, Header, cstr};
use crate::wire::plan::{Entry, Kind, Note, Synthetic};
use crate::wire::sql::{self, Leaves, Scan, Verb};
use crate::wire::statement::{About, Displaced, Held, Holds, Named, SERVER_NAME_PREFIX, Statement, server_name};
use crate::wire::tag::client as tag;

/// What a text does with the statement it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Execute,
    Deallocate,
}

impl Walk<'_, '_> {
    /// `EXECUTE s0`, `DEALLOCATE s0` about a statement prepared by protocol message: with the server's name for it.
    pub(super) fn query_naming(&mut self, header: Header, name: Range<usize>, naming: Naming) -> bool {
        let start = self.at + HEADER_BYTES;
        let body = &self.input[start..start + header.body as usize];
        let client_name = sql::identifier(&body[name.clone()]);
        let Some(named) = self.client.names.get(&client_name).cloned() else {
            if !is_ours(&client_name) {
                return self.pass_query(header, Note::None);
            }
            let displaced = self.displace_unnamed();
            self.server.plan.push(Entry::forward(Kind::Query).displacing(displaced));
            self.write_query(&[&body[..name.start], &quoted(&estranged(&client_name)), &body[name.end..]]);
            self.at += header.message_bytes();
            return true;
        };
        let in_batch = self.server.plan.is_in_batch();
        if self.ensure(&named.statement) && !in_batch {
            // An error of this Parse is not to skip the query.
            write_message(tag::SYNC, &[], 0, self.out.settle());
            self.server.plan.push(Entry::swallow(Kind::Sync));
        }
        let displaced = self.displace_unnamed();
        self.write_query(&[&body[..name.start], named.statement.name.as_bytes(), &body[name.end..]]);
        let note = match naming {
            Naming::Deallocate => self.forget(named),
            Naming::Execute => {
                self.server.leaves |= named.statement.scan.leaves;
                Note::Uses(named)
            }
        };
        self.server.plan.push(Entry::forward(Kind::Query).noting(note).displacing(displaced));
        self.at += header.message_bytes();
        true
    }

    /// A statement of the client is about to be deallocated. Taken for done at once, because what the client sends next
    /// counts on it.
    pub(super) fn forget(&mut self, named: Arc<Named>) -> Note {
        self.client.names.take_back(&named);
        self.server.statements.doubt(named.statement.id);
        Note::Forgets(named)
    }

    pub(super) fn parse(&mut self, header: Header) -> Result<bool, PgError> {
        if self.client.mode == Mode::Session {
            return Ok(self.parse_of_session(header));
        }
        if self.whole_body(header)?.is_none() {
            return Ok(false);
        }
        let start = self.at + HEADER_BYTES;
        let input = self.input;
        let Some(parse) = Parse::read(&input[start..start + header.body as usize]) else { return Err(malformed("Parse")) };
        let scan = sql::scan(parse.text);
        let (rest, about) = match &scan.verb {
            Verb::DeallocateAll | Verb::ForgetsAll => (Cow::Borrowed(parse.rest), About::ForgetsAll),
            Verb::Deallocate(name) => self.with_server_name(&parse, name.clone(), About::Forgets),
            Verb::Execute(name) => self.with_server_name(&parse, name.clone(), About::Executes),
            _ => (Cow::Borrowed(parse.rest), About::Nothing),
        };
        self.parse_as(header, parse.name, rest, scan, about)
    }

    /// The Parse with the server's name for the client's statement in its text, which is made sure of.
    fn with_server_name<'p>(
        &mut self,
        parse: &Parse<'p>,
        name: Range<usize>,
        about: fn(Arc<Named>) -> About,
    ) -> (Cow<'p, [u8]>, About) {
        let client_name = sql::identifier(&parse.text[name.clone()]);
        let with = |name_sent: &[u8]| [&parse.rest[..name.start], name_sent, &parse.rest[name.end..]].concat().into();
        match self.client.names.get(&client_name).cloned() {
            Some(named) => {
                self.ensure(&named.statement);
                (with(named.statement.name.as_bytes()), about(named))
            }
            None if is_ours(&client_name) => (with(&quoted(&estranged(&client_name))), About::Nothing),
            None => (Cow::Borrowed(parse.rest), About::Nothing),
        }
    }

    fn parse_as(&mut self, header: Header, name: &[u8], rest: Cow<'_, [u8]>, scan: Scan, about: About) -> Result<bool, PgError> {
        if name.is_empty() {
            return Ok(self.parse_unnamed(header, rest, scan, about));
        }
        if let Some(used) = self.client.names.get(name).cloned() {
            // The server says 42P05, after whatever it says of the text first.
            self.ensure(&used.statement);
            self.write_parse(&used.statement.name, &rest);
            self.server.plan.push(Entry::forward(Kind::Parse).noting(Note::Uses(used)));
        } else {
            self.parse_named(name, &rest, scan, about)?;
        }
        self.at += header.message_bytes();
        Ok(true)
    }

    fn parse_named(&mut self, name: &[u8], rest: &[u8], scan: Scan, about: About) -> Result<(), PgError> {
        if self.client.names.len() >= self.client.bounds.statements_per_client {
            return Err(too_many_statements(self.client.bounds.statements_per_client));
        }
        let statement = self.client.catalog.statements.intern(rest, || scan);
        let id = statement.id;
        let named = Arc::new(Named { name: name.into(), statement, about });
        match self.server.statements.touch(id) {
            Some(Held::Surely) if self.may_synthesize() => {
                let entry = Entry::forward(Kind::Synthesize(Synthetic::ParseComplete));
                self.synthesize(entry.noting(Note::Names(Arc::clone(&named))));
            }
            Some(Held::Surely) => {
                // In a failed transaction only the server knows which statements it still takes: asked under no name.
                self.server.unnamed = Holds::Anything;
                self.write_parse("", rest);
                self.server.plan.push(Entry::forward(Kind::Parse).noting(Note::Names(Arc::clone(&named))));
            }
            held => {
                self.close_doubtful(id, held);
                self.write_parse(&named.statement.name, rest);
                self.server.plan.push(Entry::forward(Kind::Parse).noting(Note::Introduces(Arc::clone(&named))));
                self.server.statements.insert(id);
                self.evict();
            }
        }
        self.client.names.insert(named);
        Ok(())
    }

    fn parse_unnamed(&mut self, header: Header, rest: Cow<'_, [u8]>, scan: Scan, about: About) -> bool {
        let displaced = self.displace_unnamed();
        self.client.parses = self.client.parses.wrapping_add(1);
        let unnamed = &mut self.client.unnamed;
        unnamed.live = Some(self.client.parses);
        unnamed.rest.clear();
        unnamed.rest.extend_from_slice(&rest);
        unnamed.leaves = scan.leaves;
        unnamed.about = about;
        self.server.unnamed = Holds::Of(self.client.id, self.client.parses);
        self.note_verb(scan.verb);
        self.server.plan.push(Entry::forward(Kind::Parse).noting(Note::Unnamed).displacing(displaced));
        match rest {
            Cow::Borrowed(_) => self.forward(header),
            Cow::Owned(rest) => {
                self.write_parse("", &rest);
                self.at += header.message_bytes();
                true
            }
        }
    }

    /// The text is only scanned for what concerns others; names are the client's own.
    fn parse_of_session(&mut self, header: Header) -> bool {
        let Some(body) = self.body(header, SCANNED_BYTES) else { return false };
        if let Some((_, rest)) = cstr(body) {
            let text = cstr(rest).map_or(rest, |(text, _)| text);
            let scan = sql::scan(text);
            self.server.leaves |= scan.leaves;
            self.note_verb(scan.verb);
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
        let input = self.input;
        let Some(names) = BindNames::read(&input[start..start + here]) else {
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
            self.server.leaves |= self.client.unnamed.leaves;
            self.client.bound = self.client.unnamed.about.clone();
            return Ok(self.pass(header, Kind::Bind));
        }
        let Some(named) = self.client.names.get(names.statement).cloned() else {
            return Ok(self.bind_unknown(header, names));
        };
        self.ensure_about(&named.about);
        self.ensure(&named.statement);
        self.server.leaves |= named.statement.scan.leaves;
        self.note_verb(named.statement.scan.verb.clone());
        self.client.bound = named.about.clone();
        self.bind_as(header, names, named.statement.name.as_bytes(), Note::Uses(Arc::clone(&named)));
        Ok(self.at < self.input.len())
    }

    /// A name this client never prepared: the server's own 26000. A name that looks like one of ours must not reach it.
    fn bind_unknown(&mut self, header: Header, names: BindNames<'_>) -> bool {
        if is_ours(names.statement) {
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
        if self.whole_body(header)?.is_none() {
            return Ok(false);
        }
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
            Some(named) => {
                self.ensure_about(&named.about);
                self.ensure(&named.statement);
                (named.statement.name.as_bytes().to_vec(), Note::Uses(named))
            }
            None if is_ours(name) => (estranged(name), Note::None),
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
        if closed.is_none() && self.server.leaves.has(Leaves::STATEMENTS) && !is_ours(name) {
            return self.pass(header, Kind::Close);
        }
        self.skip(header);
        let entry = Entry::forward(Kind::Synthesize(Synthetic::CloseComplete));
        self.synthesize(entry.noting(closed.map_or(Note::None, Note::Unnames)));
        true
    }

    fn close_unnamed(&mut self, header: Header) -> bool {
        let displaced = self.displace_unnamed();
        self.server.plan.push(Entry::forward(Kind::Close).displacing(displaced));
        self.forward(header)
    }

    /// Makes sure the server has the statement before what follows; whether it had to be sent (trap 23).
    fn ensure(&mut self, statement: &Statement) -> bool {
        let held = self.server.statements.touch(statement.id);
        if held == Some(Held::Surely) {
            return false;
        }
        self.close_doubtful(statement.id, held);
        self.write_parse(&statement.name, &statement.rest);
        self.server.plan.push(Entry::swallow(Kind::Parse).noting(Note::Learns(statement.id)));
        self.server.statements.insert(statement.id);
        self.evict();
        true
    }

    /// A statement that may be there or not is closed before it is parsed: that is no error either way.
    fn close_doubtful(&mut self, id: u64, held: Option<Held>) {
        if held == Some(Held::Perhaps) {
            self.write_close(id, Note::Doubts(id));
        }
    }

    fn ensure_about(&mut self, about: &About) {
        if let Some(statement) = about.statement() {
            self.ensure(statement);
            self.server.leaves |= statement.scan.leaves;
        }
    }

    /// Makes sure that the server's unnamed statement is this client's, or none at all (trap 28).
    fn ensure_unnamed(&mut self) {
        let about = self.client.unnamed.about.clone();
        self.ensure_about(&about);
        let mine = self.client.unnamed.live.map_or(Holds::Nothing, |number| Holds::Of(self.client.id, number));
        if self.server.unnamed == mine {
            return;
        }
        if mine == Holds::Nothing {
            write_message(tag::CLOSE, &[b"S\0"], 0, self.out.settle());
            self.server.plan.push(Entry::swallow(Kind::Close).noting(Note::Unnamed));
        } else {
            let rest = std::mem::take(&mut self.client.unnamed.rest);
            self.write_parse("", &rest);
            self.client.unnamed.rest = rest;
            self.server.plan.push(Entry::swallow(Kind::Parse).noting(Note::Unnamed));
        }
        self.server.unnamed = mine;
    }

    /// The unnamed statement goes: a Parse of another, a Close, and every simple query destroys it (protocol chapter
    /// "Extended Query"). What was there is kept as long as the server may not come to look at the message.
    pub(super) fn displace_unnamed(&mut self) -> Option<Box<Displaced>> {
        let server = std::mem::take(&mut self.server.unnamed);
        let client = &mut self.client.unnamed;
        let was_there = client.live.is_some() || server != Holds::Nothing;
        if !was_there || self.server.plan.owes_nothing() {
            client.live = None;
            client.leaves = Leaves::NOTHING;
            client.about = About::Nothing;
            return None;
        }
        Some(Box::new(Displaced { server, client: std::mem::take(client) }))
    }

    /// Closes what is over the server's limit; should the Close not be processed, the statement is still there (trap 26).
    fn evict(&mut self) {
        while let Some((id, held)) = self.server.statements.evict(self.client.bounds.statements_per_server) {
            self.write_close(id, if held == Held::Surely { Note::Evicts(id) } else { Note::Doubts(id) });
        }
    }

    fn write_close(&mut self, id: u64, note: Note) {
        write_message(tag::CLOSE, &[b"S", server_name(id).as_bytes(), b"\0"], 0, self.out.settle());
        self.server.plan.push(Entry::swallow(Kind::Close).noting(note));
    }

    fn write_parse(&mut self, name: &str, rest: &[u8]) {
        write_message(tag::PARSE, &[name.as_bytes(), b"\0", rest], 0, self.out.settle());
    }

    fn write_query(&mut self, parts: &[&[u8]]) {
        write_message(tag::QUERY, parts, 0, self.out.settle());
    }
}

/// A client's own name that looks like one of ours.
fn is_ours(name: &[u8]) -> bool {
    name.starts_with(SERVER_NAME_PREFIX.as_bytes())
}

/// A name no server has, from which the client's own is found again.
fn estranged(name: &[u8]) -> Vec<u8> {
    [name, b"?"].concat()
}

/// As an identifier in a text.
fn quoted(name: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for &byte in name {
        quoted.extend(std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 }));
    }
    quoted.push(b'"');
    quoted
}
