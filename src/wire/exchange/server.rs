//! What a server sends.

mod effects;
mod errors;
mod facts;
mod reworded;
mod tried;
mod undo;

use std::ops::Range;
use std::sync::Arc;

use super::super::cut::Cut;
use super::super::frame::{HEADER_BYTES, Header};
use super::super::listen::{Marker, Notification};
use super::super::params::{self, Params};
use super::super::plan::{Done, Entry, Kind, Note, Reply, Status, Unexpected};
use super::super::sql::Leaves;
use super::super::tag::server as tag;
use super::{Catalog, ClientSide, Intake, Missed, NamedStatements, Schema, ServerSide};
use crate::hint::rare;
use facts::{Effect, effect_of};
use undo::restore;

/// Messages up to this size are looked into; longer ones pass by their header, in bytes.
const INSPECTED_BYTES_MAX: u32 = 64 * 1024;
/// CommandComplete tags are short; a longer one says nothing we know.
const TAG_BYTES_MAX: usize = 64;

/// What one turn over a server's bytes came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServerTurn {
    pub consumed: usize,
    /// A stretch of the input that may be written to the client as it is.
    pub direct: Range<usize>,
    /// ReadyForQuery messages that were answers to the client.
    pub ready: u32,
    /// Those of them that said idle: ends of transactions.
    pub transactions: u32,
    /// SQLSTATEs of errors that were answers to the client. Empty, it costs nothing.
    pub errors: Vec<[u8; 5]>,
    /// The server said FATAL: it is about to close.
    pub fatal: bool,
    /// The settings of a new owner are in force: its own statements run from here on.
    pub replayed: bool,
    /// A question of ours has its answer.
    pub asked: bool,
    /// What the texts that ran had not shown.
    pub missed: Option<Box<Missed>>,
}

/// The server cannot be used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It sent what nobody asked for.
    Unexpected(u8),
    /// It sent something malformed, of this type.
    Malformed(u8),
    /// It refused the settings of its new owner: the body of its ErrorResponse.
    Replay(Box<[u8]>),
    /// It did not take away what its last owner left.
    Unclean,
}

impl From<Unexpected> for Broken {
    fn from(unexpected: Unexpected) -> Self {
        Self::Unexpected(unexpected.0)
    }
}

impl ServerSide {
    /// Takes messages off `input` for the client that holds this server; what leaves goes to `to_client`, or stays in
    /// `input` as one run.
    ///
    /// # Errors
    /// The server is not to be used again. What came before is in `to_client` and may still be sent.
    pub fn turn(&mut self, client: &mut ClientSide, input: &[u8], to_client: &mut Vec<u8>) -> Result<ServerTurn, Broken> {
        if client.is_returning() {
            rare();
            return Ok(ServerTurn::default());
        }
        let out = Cut::new(input, to_client);
        let mut walk = Walk { server: self, client, input, at: 0, out, turn: ServerTurn::default() };
        loop {
            match walk.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(broken) => {
                    rare();
                    walk.out.settle();
                    return Err(broken);
                }
            }
        }
        let mut turn = walk.turn;
        turn.consumed = walk.at;
        turn.direct = walk.out.finish();
        Ok(turn)
    }

    /// Takes what an idle server says of its own accord.
    ///
    /// # Errors
    /// Anything but notices, notifications and parameters means that it is about to go.
    pub fn turn_idle(&mut self, catalog: &Catalog, input: &[u8]) -> Result<usize, Broken> {
        let mut at = 0;
        while let Some(header) = Header::read(&input[at..]).map_err(|bad| Broken::Malformed(bad.tag))? {
            let Some(body) = input[at..].get(HEADER_BYTES..header.message_bytes()) else { break };
            match header.tag {
                tag::NOTICE | tag::NOTIFICATION => {}
                tag::PARAMETER_STATUS => {
                    let (name, value) = params::parse_status(body).ok_or(Broken::Malformed(header.tag))?;
                    self.params = catalog.params.change(&self.params, name, value);
                    self.initial = catalog.params.change(&self.initial, name, value);
                }
                other => return Err(Broken::Unexpected(other)),
            }
            at += header.message_bytes();
        }
        Ok(at)
    }
}

struct Walk<'a, 'b> {
    server: &'a mut ServerSide,
    client: &'a mut ClientSide,
    input: &'b [u8],
    at: usize,
    out: Cut<'b>,
    turn: ServerTurn,
}

impl Walk<'_, '_> {
    /// One message or the rest of one; `false` when more bytes must come first.
    #[inline]
    fn step(&mut self) -> Result<bool, Broken> {
        if !matches!(self.server.intake, Intake::Boundary) {
            return Ok(self.rest_of_body());
        }
        let Some(header) = Header::read(&self.input[self.at..]).map_err(|bad| Broken::Malformed(bad.tag))? else {
            return Ok(false);
        };
        match header.tag {
            tag::READY_FOR_QUERY => self.ready(header),
            tag::DATA_ROW | tag::COPY_DATA if self.stream() => Ok(true),
            tag::ROW_DESCRIPTION | tag::COMMAND_COMPLETE if self.server.plan.streams() == Some(Kind::Query) && self.stream() => {
                Ok(true)
            }
            tag::COMMAND_COMPLETE => self.command_complete(header),
            tag::ERROR => self.error(header),
            tag::PARAMETER_STATUS => self.parameter_status(header),
            tag::NOTICE => Ok(self.notice(header)),
            tag::NOTIFICATION => self.notification(header),
            tag::DATA_ROW if matches!(self.server.plan.head(), Some(Entry { note: Note::Probe, .. })) => self.probe_row(header),
            _ => {
                let (reply, done) = self.server.plan.answer(header.tag)?;
                let more = self.pass(header, reply);
                self.completed(done);
                Ok(more)
            }
        }
    }

    /// It is the client's, whatever question of ours the server is answering; unless what listens is a former client's LISTEN.
    #[cold]
    fn notification(&mut self, header: Header) -> Result<bool, Broken> {
        let mut reply = self.current_reply();
        if self.server.may_have(Leaves::LISTEN | Leaves::HIDDEN) {
            reply = Reply::Forward;
        }
        if !self.server.hears_markers() && self.client.channels.is_here() {
            return Ok(self.pass(header, reply));
        }
        let input = self.input;
        let Some(body) = input[self.at..].get(HEADER_BYTES..header.message_bytes()) else {
            return if header.body > INSPECTED_BYTES_MAX { Err(Broken::Malformed(header.tag)) } else { Ok(false) };
        };
        let notification = Notification::read(body).ok_or(Broken::Malformed(header.tag))?;
        let is_told = self.server.is_private(notification.channel);
        if is_told {
            self.client.channels.pass(Marker::read(notification.payload));
        }
        if is_told || self.client.channels.are_elsewhere(notification.channel) {
            reply = Reply::Swallow;
        }
        // What the listener heard before the marker comes first.
        Ok(self.pass(header, reply) && !self.client.is_returning())
    }

    #[inline(never)]
    fn rest_of_body(&mut self) -> bool {
        let left = self.input.len() - self.at;
        let (body, forwards) = match self.server.intake {
            Intake::Forward(body) => (body, true),
            Intake::Drop(body) => (body, false),
            Intake::Boundary | Intake::Waits | Intake::Refuse | Intake::RefuseBatch(_) => return true,
        };
        let taken = left.min(body as usize);
        if forwards {
            self.out.forward(self.at..self.at + taken);
        }
        self.at += taken;
        let remaining = body - taken as u32;
        // ## (Forward | Drop) => (Forward | Drop | Boundary)
        self.server.intake = match (remaining, forwards) {
            (0, _) => Intake::Boundary,
            (_, true) => Intake::Forward(remaining),
            (_, false) => Intake::Drop(remaining),
        };
        self.emit_synthetic();
        remaining == 0
    }

    /// Lets a message through, or drops it, by its header alone.
    #[inline]
    fn pass(&mut self, header: Header, reply: Reply) -> bool {
        let here = header.message_bytes().min(self.input.len() - self.at);
        if reply == Reply::Forward {
            self.out.forward(self.at..self.at + here);
        }
        self.at += here;
        let remaining = (header.message_bytes() - here) as u32;
        if remaining > 0 {
            // ## Boundary => (Forward | Drop)
            self.server.intake = if reply == Reply::Forward { Intake::Forward(remaining) } else { Intake::Drop(remaining) };
        }
        remaining == 0
    }

    /// Lets through, without a look at the plan for each, what stands at the head of the input and changes nothing: rows, what
    /// describes them, and the ends of statements that are not the end of the query. Nothing, if that is not next.
    ///
    /// That is all but the last message of most answers, and was two thirds of what they cost.
    #[inline]
    fn stream(&mut self) -> bool {
        let Some(kind) = self.server.plan.streams() else { return false };
        let start = self.at;
        while let Ok(Some(header)) = Header::read(&self.input[self.at..])
            && let Some(body) = self.body(header)
        {
            let changes_nothing = match header.tag {
                tag::DATA_ROW | tag::COPY_DATA => true,
                tag::ROW_DESCRIPTION => kind == Kind::Query,
                tag::COMMAND_COMPLETE => kind == Kind::Query && effect_of(body) == Effect::None,
                _ => false,
            };
            if !changes_nothing {
                break;
            }
            self.at += header.message_bytes();
        }
        self.out.forward(start..self.at);
        self.at > start
    }

    /// What becomes of messages that answer nothing: they belong to whatever is being answered.
    fn current_reply(&self) -> Reply {
        self.server.plan.head().map_or(Reply::Forward, |e| e.reply)
    }

    /// The whole body, once it is here.
    fn body(&self, header: Header) -> Option<&'_ [u8]> {
        self.input[self.at..].get(HEADER_BYTES..header.message_bytes())
    }

    #[inline]
    fn ready(&mut self, header: Header) -> Result<bool, Broken> {
        let Some(body) = self.body(header) else {
            rare();
            return if header.body == 1 { Ok(false) } else { Err(Broken::Malformed(header.tag)) };
        };
        let status = match body {
            [byte] => Status::from_byte(*byte).ok_or(Broken::Malformed(header.tag))?,
            _ => return Err(Broken::Malformed(header.tag)),
        };
        let (reply, done) = self.server.plan.ready(status)?;
        self.turn.ready += u32::from(reply == Reply::Forward);
        self.turn.transactions += u32::from(reply == Reply::Forward && status == Status::Idle);
        if status == Status::Idle && self.server.schema == Schema::Changing {
            rare();
            // ## Changing => Unchanged: others see it from here on.
            self.server.schema = Schema::Unchanged;
            self.client.catalog.statements.schema_changed();
        }
        let more = self.pass(header, reply);
        self.completed(done);
        if self.client.catalog.named_statements == NamedStatements::Forgotten {
            self.leave_names();
        }
        Ok(more)
    }

    /// Names end with the transaction, unless the client has sent more by then: that would have reached the server in the
    /// same go.
    #[cold]
    fn leave_names(&mut self) {
        if self.server.is_idle() && self.client.intake == Intake::Boundary {
            let (most, bytes) = (self.client.bounds.statements_per_server as usize, self.client.bounds.prepared_bytes as usize);
            self.client.names.leave_to(&mut self.server.left, most, bytes);
        }
    }

    /// After a reply: what hangs on it, and the replies of ours that stand next.
    #[inline]
    fn completed(&mut self, done: Done) {
        match done {
            Done::No => return,
            Done::Yes => {}
            Done::Noted(note) => {
                rare();
                self.noted(note);
            }
        }
        match self.server.plan.owes_nothing() {
            true => self.settle(),
            false => self.emit_synthetic(),
        }
    }

    #[inline(never)]
    fn noted(&mut self, note: Note) {
        match note {
            Note::Replay => {
                self.turn.replayed = true;
                self.adopt_params();
            }
            Note::Restores => self.adopt_params(),
            // Still there: no tag said that it was done.
            Note::Forgets(..) | Note::Clears(_) | Note::InTurn(_) => restore(note, &mut self.client.names),
            Note::Introduces(named) => named.statement.prove(),
            Note::Probe => {
                self.turn.asked = true;
                self.server.probe_done(self.client);
                self.turn.missed = self.client.take_missed();
            }
            Note::Departs | Note::Departed | Note::Hushes => {
                self.turn.asked = true;
                self.server.channels_done(self.client, &note);
            }
            Note::Returns | Note::Unhushed => self.turn.asked = true,
            _ => {}
        }
    }

    /// With everything answered, what was sent has been done, or was taken back.
    #[inline]
    fn settle(&mut self) {
        if self.server.plan.owes_nothing() {
            self.server.statements.settle();
            self.client.names.settle();
        }
    }

    /// Never inside a message that is still on its way through.
    #[inline]
    fn emit_synthetic(&mut self) {
        if self.server.intake != Intake::Boundary {
            return;
        }
        if matches!(self.server.plan.head(), Some(Entry { kind: Kind::Synthesize(_) | Kind::CopyData | Kind::CopyEnd, .. })) {
            rare();
            let out = self.out.settle();
            self.server.emit_synthetic(out);
            self.settle();
        }
    }

    /// The server has its new owner's settings now; where it spells or has them otherwise, the client is told (trap 71).
    fn adopt_params(&mut self) {
        if !Arc::ptr_eq(&self.client.params, &self.server.params) {
            write_changes(&self.client.params, &self.server.params, self.out.settle());
            self.client.params = Arc::clone(&self.server.params);
        }
    }

    /// The answer to a question of ours.
    #[cold]
    fn probe_row(&mut self, header: Header) -> Result<bool, Broken> {
        if header.body > INSPECTED_BYTES_MAX {
            self.server.probe_failed();
        } else {
            let Some(body) = self.input[self.at..].get(HEADER_BYTES..header.message_bytes()) else { return Ok(false) };
            self.server.probe_row(body);
        }
        let (reply, _) = self.server.plan.answer(header.tag)?;
        Ok(self.pass(header, reply))
    }

    #[cold]
    fn parameter_status(&mut self, header: Header) -> Result<bool, Broken> {
        if header.body > INSPECTED_BYTES_MAX {
            return Err(Broken::Malformed(header.tag));
        }
        let Some(body) = self.body(header) else { return Ok(false) };
        let (name, value) = params::parse_status(body).ok_or(Broken::Malformed(header.tag))?;
        self.server.params = self.client.catalog.params.change(&self.server.params, name, value);
        let reply = self.current_reply();
        if reply == Reply::Forward {
            self.client.params = Arc::clone(&self.server.params);
        }
        Ok(self.pass(header, reply))
    }
}

/// ParameterStatus for everything that is other in `new`.
pub(super) fn write_changes(old: &Params, new: &Params, out: &mut Vec<u8>) {
    for (name, value) in new.iter().filter(|(name, value)| old.get(name) != Some(value)) {
        params::write_status(name, value, out);
    }
}
