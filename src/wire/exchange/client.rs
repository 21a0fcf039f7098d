//! What a client sends.

use std::ops::Range;
use std::sync::Arc;

use super::super::cut::Cut;
use super::super::extended::{BindNames, Parse, Target, write_message};
use super::super::frame::{HEADER_BYTES, Header, client_body_limit, cstr};
use super::super::plan::{Entry, Kind, Named, Note, Status, Synthetic};
use super::super::sql::{self, Leaves, Scan, Verb};
use super::super::statement::{SERVER_NAME_PREFIX, Statement, server_name};
use super::super::tag::client as tag;
use super::{ClientSide, Intake, Mode, SCANNED_BYTES, ServerSide};
use crate::error::{PgError, SqlState};

/// What one turn over a client's bytes came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientTurn {
    /// The rest waits for more.
    pub consumed: usize,
    /// A stretch of the input that may be written to the server as it is; empty if all went into the buffer.
    pub direct: Range<usize>,
    /// The client said goodbye.
    pub terminated: bool,
    /// A database that a statement needs empty: our idle servers in it must go.
    pub empties: Option<Box<[u8]>>,
}

impl ClientSide {
    /// Takes messages off `input`, for a server this client holds. What leaves goes to `to_server`, or stays in `input`
    /// as one run; replies of our own go to `to_client`.
    ///
    /// # Errors
    /// The client broke the protocol or a bound: the error is its last message.
    pub fn turn(
        &mut self,
        server: &mut ServerSide,
        input: &[u8],
        to_server: &mut Vec<u8>,
        to_client: &mut Vec<u8>,
    ) -> Result<ClientTurn, PgError> {
        let mut walk =
            Walk { client: self, server, input, at: 0, out: Cut::new(input, to_server), to_client, turn: ClientTurn::default() };
        while walk.step()? {}
        let mut turn = walk.turn;
        turn.consumed = walk.at;
        turn.direct = walk.out.finish();
        Ok(turn)
    }

    /// Takes what needs no server off the front of `input`: leftovers of a failed COPY, Flush, Terminate. `None` when the
    /// next message needs one.
    pub fn turn_unleased(&mut self, input: &[u8], to_client: &mut Vec<u8>) -> Result<(usize, Unleased), PgError> {
        let mut at = 0;
        loop {
            at += self.drop_body(&input[at..], to_client)?;
            if at == input.len() && !matches!(self.intake, Intake::Boundary) {
                return Ok((at, Unleased::More));
            }
            let Some(header) = checked_header(&input[at..])? else { return Ok((at, Unleased::More)) };
            match header.tag {
                tag::TERMINATE => return Ok((at, Unleased::Terminated)),
                tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL | tag::FLUSH => {
                    at += HEADER_BYTES;
                    self.intake = Intake::Drop(header.body);
                }
                _ => return Ok((at, Unleased::Wants)),
            }
        }
    }

    /// Refuses the request that comes next, without a server: `error` (a whole message) now, and ReadyForQuery where the
    /// request ends. What belongs to it is dropped by [`turn_unleased`](Self::turn_unleased).
    pub fn refuse(&mut self, error: &[u8], to_client: &mut Vec<u8>) {
        to_client.extend_from_slice(error);
        // ## Boundary => Refuse
        self.intake = Intake::Refuse { body: 0 };
    }

    /// Drops what is to be dropped; the number of bytes taken.
    fn drop_body(&mut self, input: &[u8], to_client: &mut Vec<u8>) -> Result<usize, PgError> {
        let mut at = 0;
        loop {
            let left = (input.len() - at).min(u32::MAX as usize) as u32;
            match self.intake {
                Intake::Boundary | Intake::Forward(_) => return Ok(at),
                Intake::Drop(body) => {
                    let taken = body.min(left);
                    at += taken as usize;
                    self.intake = if taken == body { Intake::Boundary } else { Intake::Drop(body - taken) };
                    if taken < body {
                        return Ok(at);
                    }
                }
                Intake::Refuse { body } => {
                    let taken = body.min(left);
                    at += taken as usize;
                    self.intake = Intake::Refuse { body: body - taken };
                    if taken < body {
                        return Ok(at);
                    }
                    let Some(header) = checked_header(&input[at..])? else { return Ok(at) };
                    if header.tag == tag::TERMINATE {
                        self.intake = Intake::Boundary;
                        return Ok(at);
                    }
                    at += HEADER_BYTES;
                    // ## Refuse => (Refuse | Drop): a Query, a FunctionCall or a Sync ends what was refused.
                    self.intake = if matches!(header.tag, tag::QUERY | tag::FUNCTION_CALL | tag::SYNC) {
                        write_ready(Status::Idle, to_client);
                        Intake::Drop(header.body)
                    } else {
                        Intake::Refuse { body: header.body }
                    };
                }
            }
        }
    }
}

/// What a client without a server wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unleased {
    /// Nothing yet: more bytes must come.
    More,
    /// A server.
    Wants,
    Terminated,
}

/// One walk over a chunk of the client's bytes.
struct Walk<'a, 'b> {
    client: &'a mut ClientSide,
    server: &'a mut ServerSide,
    input: &'b [u8],
    at: usize,
    out: Cut<'b>,
    to_client: &'a mut Vec<u8>,
    turn: ClientTurn,
}

impl Walk<'_, '_> {
    /// One message or the rest of one; `false` when more bytes must come first.
    fn step(&mut self) -> Result<bool, PgError> {
        if !matches!(self.client.intake, Intake::Boundary) {
            return self.rest_of_body();
        }
        let rest = &self.input[self.at..];
        let Some(header) = checked_header(rest)? else { return Ok(false) };
        if header.tag == tag::TERMINATE {
            self.turn.terminated = true;
            return Ok(false);
        }
        if self.server.plan.is_skipping() && header.tag != tag::SYNC {
            self.skip(header);
            return Ok(true);
        }
        match header.tag {
            tag::QUERY => self.query(header),
            tag::PARSE => self.parse(header),
            tag::BIND => self.bind(header),
            tag::DESCRIBE | tag::CLOSE => self.describe_or_close(header),
            tag::EXECUTE => Ok(self.pass(header, Kind::Execute)),
            tag::SYNC => Ok(self.pass(header, Kind::Sync)),
            tag::FUNCTION_CALL => Ok(self.pass(header, Kind::FunctionCall)),
            _ => Ok(self.flush_or_copy(header)),
        }
    }

    fn rest_of_body(&mut self) -> Result<bool, PgError> {
        let left = self.input.len() - self.at;
        if let Intake::Forward(body) = self.client.intake {
            let taken = left.min(body as usize);
            self.out.forward(self.at..self.at + taken);
            self.at += taken;
            // ## Forward => (Forward | Boundary)
            let remaining = body - taken as u32;
            self.client.intake = if remaining == 0 { Intake::Boundary } else { Intake::Forward(remaining) };
        } else {
            self.at += self.client.drop_body(&self.input[self.at..], self.to_client)?;
        }
        Ok(self.at < self.input.len())
    }

    /// Lets the message through by its header alone.
    fn pass(&mut self, header: Header, kind: Kind) -> bool {
        self.server.plan.push(Entry::forward(kind));
        self.forward(header)
    }

    fn forward(&mut self, header: Header) -> bool {
        let here = header.message_bytes().min(self.input.len() - self.at);
        self.out.forward(self.at..self.at + here);
        self.at += here;
        let remaining = (header.message_bytes() - here) as u32;
        if remaining > 0 {
            // ## Boundary => Forward
            self.client.intake = Intake::Forward(remaining);
        }
        remaining == 0
    }

    /// Takes the message off and sends nothing of it.
    fn skip(&mut self, header: Header) {
        self.at += HEADER_BYTES;
        // ## Boundary => Drop
        self.client.intake = Intake::Drop(header.body);
    }

    fn flush_or_copy(&mut self, header: Header) -> bool {
        if self.server.plan.owes_nothing() {
            // A COPY that failed before its data came, or a Flush of nothing: the server would ignore it (trap 19).
            self.skip(header);
            return true;
        }
        if matches!(header.tag, tag::COPY_DONE | tag::COPY_FAIL) {
            self.server.plan.push(Entry::forward(Kind::CopyEnd));
        }
        self.forward(header)
    }

    /// The body as far as it is here, if at least `wanted` bytes of it are.
    fn body(&self, header: Header, wanted: usize) -> Option<&'_ [u8]> {
        let start = self.at + HEADER_BYTES;
        let here = (self.input.len() - start).min(header.body as usize);
        (here >= wanted.min(header.body as usize)).then(|| &self.input[start..start + here])
    }

    /// The whole body, once it is here.
    fn whole_body(&self, header: Header) -> Result<Option<&'_ [u8]>, PgError> {
        let limit = self.client.bounds.statement_bytes;
        if header.body as usize > limit {
            return Err(too_large(header.body, limit));
        }
        Ok(self.body(header, header.body as usize))
    }

    fn query(&mut self, header: Header) -> Result<bool, PgError> {
        let Some(body) = self.body(header, SCANNED_BYTES) else { return Ok(false) };
        let is_whole = body.len() == header.body as usize;
        let text = cstr(body).map_or(body, |(text, _)| text);
        let scan = sql::scan(text);
        if self.client.mode == Mode::Transaction {
            match &scan.verb {
                Verb::DeallocateAll if is_whole && self.may_synthesize() => return Ok(self.deallocate_all(header)),
                Verb::Deallocate(name) if is_whole => {
                    let name = name.clone();
                    return Ok(self.query_naming(header, name, true));
                }
                Verb::Execute(name) if is_whole => {
                    let name = name.clone();
                    return Ok(self.query_naming(header, name, false));
                }
                _ => {}
            }
        }
        self.note_scan(scan);
        self.forget_unnamed();
        Ok(self.pass(header, Kind::Query))
    }

    fn note_scan(&mut self, scan: Scan) {
        self.server.leaves |= scan.leaves;
        if let Verb::EmptiesDatabase(name) = scan.verb {
            self.turn.empties = Some(name);
        }
    }

    /// A simple query destroys the unnamed statement (protocol chapter "Extended Query").
    fn forget_unnamed(&mut self) {
        self.server.unnamed = None;
        self.client.unnamed.live = None;
    }

    /// Whether a reply of ours is what the server would say: not in a failed transaction.
    fn may_synthesize(&self) -> bool {
        self.server.plan.status() != Status::Failed && !self.server.leaves.has(Leaves::STATEMENTS)
    }

    /// `DEALLOCATE ALL` is about this client's names; the server's statements are everybody's (trap 29).
    fn deallocate_all(&mut self, header: Header) -> bool {
        self.client.names.clear();
        self.client.unnamed.live = None;
        self.skip(header);
        self.synthesize(Synthetic::DeallocatedAll, Note::None);
        true
    }

    /// `EXECUTE s0`, `DEALLOCATE s0` about a statement prepared by protocol message: with the server's name for it.
    fn query_naming(&mut self, header: Header, name: Range<usize>, forgets: bool) -> bool {
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

    fn parse(&mut self, header: Header) -> Result<bool, PgError> {
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

    fn bind(&mut self, header: Header) -> Result<bool, PgError> {
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

    fn describe_or_close(&mut self, header: Header) -> Result<bool, PgError> {
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
    fn ensure(&mut self, statement: &Statement) -> bool {
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

    /// A reply of ours, at its place among the server's (trap 7).
    fn synthesize(&mut self, reply: Synthetic, note: Note) {
        self.server.plan.push(Entry::forward(Kind::Synthesize(reply)).noting(note));
        self.server.emit_synthetic(self.to_client);
    }
}

impl ServerSide {
    /// Writes the replies of ours whose turn has come.
    pub(super) fn emit_synthetic(&mut self, to_client: &mut Vec<u8>) {
        while let Some((reply, _)) = self.plan.next_synthetic() {
            match reply {
                Synthetic::ParseComplete => write_message(b'1', &[], 0, to_client),
                Synthetic::CloseComplete => write_message(b'3', &[], 0, to_client),
                Synthetic::DeallocatedAll => {
                    write_message(b'C', &[b"DEALLOCATE ALL\0"], 0, to_client);
                    write_ready(self.plan.status(), to_client);
                }
            }
        }
    }
}

fn write_ready(status: Status, out: &mut Vec<u8>) {
    write_message(b'Z', &[&[status.byte()]], 0, out);
}

/// A name no server has, from which the client's own is found again.
fn estranged(name: &[u8]) -> Vec<u8> {
    [name, b"?"].concat()
}

fn checked_header(input: &[u8]) -> Result<Option<Header>, PgError> {
    let header = match Header::read(input) {
        Ok(Some(header)) => header,
        Ok(None) => return Ok(None),
        Err(bad) if client_body_limit(bad.tag).is_none() => return Err(unknown_type(bad.tag)),
        Err(_) => return Err(PgError::fatal(SqlState::PROTOCOL_VIOLATION, "invalid message length")),
    };
    match client_body_limit(header.tag) {
        None => Err(unknown_type(header.tag)),
        Some(limit) if header.body > limit => Err(PgError::fatal(SqlState::PROTOCOL_VIOLATION, "invalid message length")),
        Some(_) => Ok(Some(header)),
    }
}

fn unknown_type(tag: u8) -> PgError {
    PgError::fatal(SqlState::PROTOCOL_VIOLATION, format!("invalid frontend message type {tag}"))
}

fn malformed(message: &str) -> PgError {
    PgError::fatal(SqlState::PROTOCOL_VIOLATION, format!("invalid {message} message"))
}

fn too_large(bytes: u32, limit: usize) -> PgError {
    PgError::fatal(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("a statement of {bytes} bytes is longer than {limit} bytes"))
        .with_hint("Raise limits.statement_bytes, or send large values as parameters.")
}

fn too_many_statements(limit: usize) -> PgError {
    PgError::fatal(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("this client holds {limit} prepared statements, the most it may"))
        .with_hint("Close statements that are no longer used, or raise limits.prepared_statements_per_client.")
}
