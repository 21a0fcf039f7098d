//! What a client sends.

mod defaults;
mod held;
mod home;
mod lint;
mod mentions;
mod naming;
mod noted;
mod parse;
mod prepared;
mod query;
mod unleased;

use std::ops::Range;
use std::sync::Arc;

use super::super::cut::Cut;
use super::super::extended::write_message;
use super::super::frame::{HEADER_BYTES, Header, client_body_limit};
use super::super::names::{About, Does, Naming};
use super::super::plan::{Entry, Kind, Note, OWED_MAX, Status, Synthetic};
use super::super::sql::{Effects, Verb};
use super::super::statement::SERVER_NAME_PREFIX;
use super::super::tag::client as tag;
use super::{ClientSide, Intake, ServerSide};
use crate::error::{PgError, SqlState};
use crate::hint::rare;
pub(super) use noted::Noted;
use prepared::estranged;
pub use unleased::Unleased;

/// What one turn over a client's bytes came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientTurn {
    /// The rest waits for more of the client's bytes, or for the server's replies: what is left over is to be tried again
    /// after each turn of the server's. Behind a statement that `empties` a database it waits for nothing: it is to be tried
    /// at once.
    pub consumed: usize,
    /// A stretch of the input that may be written to the server as it is; empty if all went into the buffer.
    pub direct: Range<usize>,
    /// The client said goodbye.
    pub terminated: bool,
    /// A database that a statement needs empty: our idle servers in it must go. The turn ends behind that statement, so that
    /// each has its own turn, however many come at once.
    pub empties: Option<Box<[u8]>>,
}

impl ClientSide {
    /// Takes messages off `input`, for a server this client holds. What leaves goes to `to_server`, or stays in `input`
    /// as one run; replies of our own go to `to_client`.
    ///
    /// # Errors
    /// The client broke the protocol or a bound: the error is its last message. What came before it is in `to_server`
    /// and still has to leave, for its replies are owed.
    pub fn turn(
        &mut self,
        server: &mut ServerSide,
        input: &[u8],
        to_server: &mut Vec<u8>,
        to_client: &mut Vec<u8>,
    ) -> Result<ClientTurn, Box<PgError>> {
        if self.intake == Intake::Waits {
            // ## Waits => Boundary
            self.intake = Intake::Boundary;
        }
        let mut walk =
            Walk { client: self, server, input, at: 0, out: Cut::new(input, to_server), to_client, turn: ClientTurn::default() };
        loop {
            match walk.step() {
                Ok(true) if walk.turn.empties.is_none() => {}
                Ok(_) => break,
                Err(error) => {
                    rare();
                    walk.out.settle();
                    return Err(error);
                }
            }
        }
        let mut turn = walk.turn;
        turn.consumed = walk.at;
        turn.direct = walk.out.finish();
        Ok(turn)
    }
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
    fn step(&mut self) -> Result<bool, Box<PgError>> {
        if !matches!(self.client.intake, Intake::Boundary) {
            return self.rest_of_body();
        }
        let rest = &self.input[self.at..];
        let Some(header) = checked_header(rest)? else { return Ok(false) };
        if header.tag == tag::TERMINATE {
            rare();
            self.turn.terminated = true;
            return Ok(false);
        }
        if self.server.plan.is_full() && !self.may_exceed(header)? {
            return Ok(false);
        }
        if self.client.is_leaving() {
            rare();
            return Ok(self.wait());
        }
        if self.server.plan.is_skipping() && header.tag != tag::SYNC {
            return Ok(self.skip_to_sync(header));
        }
        if self.server.plan.is_undecided() && !matches!(header.tag, tag::SYNC | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL)
        {
            return Ok(self.wait_for_copy());
        }
        let before = self.at;
        let more = match header.tag {
            tag::QUERY => self.query(header),
            tag::PARSE => self.parse(header),
            tag::BIND => self.bind(header),
            tag::DESCRIBE | tag::CLOSE => self.describe_or_close(header),
            tag::EXECUTE => self.execute(header),
            tag::SYNC => {
                if !self.client.channels.is_here() {
                    self.rejoin_in_batch();
                }
                Ok(self.pass(header, Kind::Sync))
            }
            _ => Ok(self.other(header)),
        }?;
        // One that waits is tried again.
        if self.at > before {
            match header.tag {
                tag::PARSE => self.client.aside().counted.client_parses += 1,
                tag::BIND => self.client.aside().counted.binds += 1,
                _ => {}
            }
        }
        Ok(more)
    }

    /// Too much is owed: whether the message may be let through all the same. Else it waits.
    ///
    /// # Errors
    /// It would wait for ever: the server copies, and owes nothing before the end of the data.
    #[cold]
    fn may_exceed(&mut self, header: Header) -> Result<bool, Box<PgError>> {
        if self.server.plan.wants_data() {
            let is_of_copy = matches!(header.tag, tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL);
            return if is_of_copy { Ok(true) } else { Err(too_many_within_copy()) };
        }
        // Most of it may be ours to answer: what the server said before that need not fill its buffer.
        self.flush();
        Ok(self.wait())
    }

    #[inline(never)]
    fn rest_of_body(&mut self) -> Result<bool, Box<PgError>> {
        let left = self.input.len() - self.at;
        if let Intake::Forward(body) = self.client.intake {
            let taken = left.min(body as usize);
            self.out.forward(self.at..self.at + taken);
            self.at += taken;
            // ## Forward => (Forward | Boundary)
            let remaining = body - taken as u32;
            self.client.intake = if remaining == 0 { Intake::Boundary } else { Intake::Forward(remaining) };
        } else {
            let taken = self.client.drop_body(&self.input[self.at..], self.to_client)?;
            self.at += taken;
            if taken == 0 && self.client.intake != Intake::Boundary {
                return Ok(false);
            }
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
            rare();
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

    /// As the server does, if it does: where that is not known it is asked, but not about what it ignores either way.
    #[cold]
    fn skip_to_sync(&mut self, header: Header) -> bool {
        let is_ignored = matches!(header.tag, tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL);
        if is_ignored || !self.server.plan.may_read_on() {
            self.skip(header);
            return true;
        }
        self.ask();
        self.wait()
    }

    /// What becomes of the message is known when the COPY is through, or never was one.
    #[cold]
    fn wait_for_copy(&mut self) -> bool {
        match self.server.plan.is_undecided_for_ever() {
            true => self.ask(),
            false => self.flush(),
        }
        self.wait()
    }

    fn ask(&mut self) {
        if self.server.plan.asks() {
            let nothing = estranged(SERVER_NAME_PREFIX.as_bytes());
            let out = self.out.settle();
            write_message(tag::SYNC, &[], 0, out);
            write_message(tag::CLOSE, &[b"S", &nothing, b"\0"], 0, out);
            write_message(tag::SYNC, &[], 0, out);
        }
    }

    #[inline(never)]
    fn other(&mut self, header: Header) -> bool {
        if self.server.plan.owes_nothing() && header.tag != tag::FUNCTION_CALL {
            // A COPY that failed before its data came, or a Flush of nothing: the server would ignore it (trap 19).
            self.skip(header);
            return true;
        }
        match header.tag {
            tag::FUNCTION_CALL => self.server.plan.push(Entry::forward(Kind::FunctionCall)),
            tag::COPY_DATA => self.server.plan.push(Entry::forward(Kind::CopyData)),
            tag::COPY_DONE | tag::COPY_FAIL => self.server.plan.push(Entry::forward(Kind::CopyEnd)),
            _ => {}
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
    fn whole_body(&self, header: Header) -> Result<Option<&'_ [u8]>, Box<PgError>> {
        let limit = self.client.bounds.statement_bytes as usize;
        if header.body as usize > limit {
            rare();
            return Err(too_large(header.body, limit));
        }
        Ok(self.body(header, header.body as usize))
    }

    fn note_effects(&mut self, effects: &Effects) {
        self.server.note_effects(self.client, effects);
    }

    fn note_verb(&mut self, verb: Verb) {
        if let Verb::EmptiesDatabase(name) = verb {
            self.turn.empties = Some(name);
        }
    }

    fn execute(&mut self, header: Header) -> Result<bool, Box<PgError>> {
        if !matches!(self.client.bound, About::Nothing) || self.has_reset() {
            rare();
            return self.execute_noted(header);
        }
        Ok(self.pass(header, Kind::Execute))
    }

    #[inline(never)]
    fn execute_noted(&mut self, header: Header) -> Result<bool, Box<PgError>> {
        let has_reset = self.has_reset();
        if has_reset && !self.ends_here(header)? {
            return Ok(false);
        }
        let waits = match &self.client.bound {
            About::Nothing => false,
            About::Names(naming) => match &**naming {
                Naming { does: Does::Forgets, target: Some(named), .. } => {
                    self.must_wait(self.client.names.batch_of(&named.name))
                }
                _ => false,
            },
            About::ForgetsAll => self.must_wait_for_all(),
        };
        if waits {
            return Ok(false);
        }
        let note = match std::mem::take(&mut self.client.bound) {
            About::Nothing => Note::None,
            About::Names(naming) => match (naming.does, &naming.target) {
                (Does::Forgets, Some(named)) => self.forget(Arc::clone(named), naming.shift),
                (Does::Forgets, None) => Note::Own,
                (Does::Executes | Does::Prepares, Some(named)) => self.runs(Arc::clone(named), naming.shift),
                (Does::Executes | Does::Prepares, None) => Note::None,
            },
            About::ForgetsAll => self.clear_names(),
        };
        self.server.plan.push(Entry::forward(Kind::Execute).noting(note));
        let more = self.forward(header);
        if has_reset {
            self.restore_defaults_in_batch();
        }
        Ok(more)
    }

    /// What came of an earlier batch decides what the next message means, and is not known yet: it waits for the answers,
    /// as it would have waited behind them in the server's own queue.
    fn must_wait(&mut self, batch: u64) -> bool {
        self.server.plan.is_pending(batch) && !self.wait_for_answers()
    }

    fn wait_for_answers(&mut self) -> bool {
        match self.server.plan.wants_data() {
            true => self.ask(),
            false => self.flush(),
        }
        self.wait()
    }

    /// The message is tried again when the server has said more; not now.
    fn wait(&mut self) -> bool {
        // ## Boundary => Waits
        self.client.intake = Intake::Waits;
        false
    }

    /// The same for what concerns every name: any earlier batch.
    fn must_wait_for_all(&mut self) -> bool {
        self.server.plan.batch().checked_sub(1).is_some_and(|last| self.must_wait(last))
    }

    /// What was sent is to be answered.
    fn flush(&mut self) {
        if self.server.plan.needs_flush() {
            write_message(tag::FLUSH, &[], 0, self.out.settle());
        }
    }

    /// A reply of ours, at its place among the server's (trap 7).
    fn synthesize(&mut self, entry: Entry) {
        self.server.plan.push(entry);
        self.server.emit_synthetic(self.to_client);
    }
}

impl ServerSide {
    /// Writes the replies of ours whose turn has come, if the server's message before them is through.
    #[inline(never)]
    pub(super) fn emit_synthetic(&mut self, to_client: &mut Vec<u8>) {
        if self.intake != Intake::Boundary {
            return;
        }
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

#[inline]
fn checked_header(input: &[u8]) -> Result<Option<Header>, Box<PgError>> {
    let header = match Header::read(input) {
        Ok(Some(header)) => header,
        Ok(None) => return Ok(None),
        Err(bad) if client_body_limit(bad.tag).is_none() => return Err(unknown_type(bad.tag)),
        Err(_) => return Err(bad_length()),
    };
    match client_body_limit(header.tag) {
        None => Err(unknown_type(header.tag)),
        Some(limit) if header.body > limit => Err(bad_length()),
        Some(_) => Ok(Some(header)),
    }
}

#[cold]
fn bad_length() -> Box<PgError> {
    Box::new(PgError::fatal(SqlState::PROTOCOL_VIOLATION, "invalid message length"))
}

#[cold]
fn unknown_type(tag: u8) -> Box<PgError> {
    Box::new(PgError::fatal(SqlState::PROTOCOL_VIOLATION, format!("invalid frontend message type {tag}")))
}

#[cold]
fn malformed(message: &str) -> Box<PgError> {
    Box::new(PgError::fatal(SqlState::PROTOCOL_VIOLATION, format!("invalid {message} message")))
}

#[cold]
fn too_many_within_copy() -> Box<PgError> {
    Box::new(
        PgError::fatal(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!("more than {OWED_MAX} Sync messages within the data of one COPY"),
        )
        .with_hint("PostgreSQL ignores them there: send Sync when the data has ended."),
    )
}

#[cold]
fn too_large(bytes: u32, limit: usize) -> Box<PgError> {
    Box::new(
        PgError::fatal(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("a statement of {bytes} bytes is longer than {limit} bytes"))
            .with_hint("Raise limits.statement_bytes, or send large values as parameters."),
    )
}
