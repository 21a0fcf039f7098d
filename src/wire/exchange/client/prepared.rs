//! Prepared statements: the client's names in, the server's names out.
//!
//! The account of what a client and its server have is that of the moment when everything sent has been done: the client
//! goes on from there without waiting. What turns out not to have been done is taken back (`server/undo.rs`). Only
//! a message that means one thing if an earlier batch was done, and another if it was dropped, waits to know.

use std::sync::Arc;

use super::naming::Meaning;
use super::{Walk, malformed, too_large};
use crate::error::PgError;
use crate::hint::rare;
use crate::wire::exchange::{Intake, Mode};
use crate::wire::extended::{BindNames, Target, bound_value, write_message};
use crate::wire::frame::{HEADER_BYTES, Header, cstr};
use crate::wire::names::{About, Does, KNOWN, Named};
use crate::wire::plan::{Entry, Kind, Note, Synthetic};
use crate::wire::sql::{Effects, Leaves};
use crate::wire::statement::{SERVER_NAME_PREFIX, Statement};
use crate::wire::tag::client as tag;

impl Walk<'_, '_> {
    /// A Sync of ours: an error of what was injected is not to skip the query behind it.
    pub(super) fn sync(&mut self) {
        write_message(tag::SYNC, &[], 0, self.out.settle());
        self.server.plan.push(Entry::swallow(Kind::Sync));
    }

    /// Such a Sync would wake a server that skips to the client's own: where that may be, it is known first.
    pub(super) fn sync_must_wait(&mut self) -> bool {
        let plan = &self.server.plan;
        !plan.is_in_batch() && plan.may_skip() && !self.wait_for_answers()
    }

    /// Whether a name means what it seems to mean, and its statement is where it seems to be, is still to be seen.
    pub(super) fn name_must_wait(&mut self, name: &[u8]) -> bool {
        // No batch is pending.
        if self.server.plan.owes_nothing() {
            return false;
        }
        let waits = self.must_wait(self.client.names.batch_of(name));
        waits || self.in_use(name).is_some_and(|named| self.statements_must_wait(&named.statement, &named.about))
    }

    /// By this client, or by one that left it on the server.
    pub(super) fn in_use(&self, name: &[u8]) -> Option<Arc<Named>> {
        self.client.names.get(name).or_else(|| self.server.left.get(name)).cloned()
    }

    pub(super) fn statements_must_wait(&mut self, statement: &Statement, about: &About) -> bool {
        self.statement_must_wait(statement) || about.statement().is_some_and(|s| self.statement_must_wait(s))
    }

    pub(super) fn statement_must_wait(&mut self, statement: &Statement) -> bool {
        self.must_wait(self.server.statements.batch_of(statement.id))
    }

    pub(super) fn bind(&mut self, header: Header) -> Result<bool, Box<PgError>> {
        let start = self.at + HEADER_BYTES;
        let input = self.input;
        if self.client.mode == Mode::Session {
            rare();
            self.client.note_session_bind(self.body(header, 0).map_or(b"", |body| &input[start..start + body.len()]));
            return Ok(self.pass(header, Kind::Bind));
        }
        let Some(here) = self.body(header, 2).map(<[u8]>::len) else {
            rare();
            return Ok(false);
        };
        let Some(names) = BindNames::read(&input[start..start + here]) else {
            return self.bind_without_names(header, here);
        };
        if names.statement.is_empty() {
            return Ok(self.bind_unnamed(header, names, &input[start..start + here]));
        }
        if self.name_must_wait(names.statement) {
            return Ok(false);
        }
        let Some(named) = self.client.names.get(names.statement).cloned() else {
            return Ok(self.bind_unknown(header, names));
        };
        let Some(named) = self.current(named) else { return Ok(false) };
        Ok(self.bind_named(header, names, named, &input[start..start + here]))
    }

    /// So much of it is here, and its names are not whole.
    #[cold]
    fn bind_without_names(&self, header: Header, here: usize) -> Result<bool, Box<PgError>> {
        let limit = self.client.bounds.statement_bytes as usize;
        match here == header.body as usize {
            true => Err(malformed("Bind")),
            false if here > limit => Err(too_large(header.body, limit)),
            false => Ok(false),
        }
    }

    #[inline(never)]
    fn bind_unnamed(&mut self, header: Header, names: BindNames<'_>, body: &[u8]) -> bool {
        if self.unnamed_must_wait() {
            return false;
        }
        let about = self.client.unnamed.about();
        if let (About::Names(naming), Some(rest)) = (&about, self.client.unnamed.rest()) {
            let rest = rest.to_vec();
            match self.meaning(&about) {
                Meaning::Waits => return false,
                Meaning::Same => {}
                Meaning::Other(target) => {
                    let named = self.with_target(b"", &rest, naming, target);
                    let waits = self.statements_must_wait(&named.statement, &named.about);
                    return !waits && self.bind_named(header, names, named, body);
                }
            }
        }
        let effects = self.client.unnamed.effects();
        if !self.client.channels.is_here() && !self.may_bind_unnamed(&effects) {
            return false;
        }
        self.ensure_unnamed();
        self.client.blame_unnamed(&effects);
        self.note_unnamed();
        self.note_bound(&effects, body);
        self.note_run(&about);
        self.client.bound = about;
        self.pass(header, Kind::Bind)
    }

    fn bind_named(&mut self, header: Header, names: BindNames<'_>, named: Arc<Named>, body: &[u8]) -> bool {
        let is_about_channels = named.statement.scan.effects.is_about_channels();
        if !self.client.channels.is_here() && !self.may_bind(text_of(&named.statement.rest), is_about_channels) {
            rare();
            return false;
        }
        self.ensure_named(&named);
        if !named.is_plain() || self.client.remembers(&named.statement.scan.effects) {
            rare();
            self.note_named(&named, body);
        } else {
            self.client.bound = About::Nothing;
        }
        self.bind_as(header, names, named.statement.name.as_bytes());
        self.server.plan.push(Entry::forward(Kind::Bind).noting(Note::Uses(named)));
        self.at < self.input.len()
    }

    #[inline(never)]
    fn note_named(&mut self, named: &Named, body: &[u8]) {
        let (text, scan) = (text_of(&named.statement.rest), &named.statement.scan);
        if self.client.remembers(&scan.effects) {
            self.client.blame(text, &scan.effects);
            self.client.note_text(text);
        }
        self.note_bound(&scan.effects, body);
        self.note_verb(scan.verb.clone());
        self.note_run(&named.about);
        self.client.bound = named.about.clone();
    }

    /// What PREPARE made is run: what its text would do was noted then, and not what it does now.
    fn note_run(&mut self, about: &About) {
        if let About::Names(naming) = about
            && naming.does == Does::Executes
            && naming.target.is_none()
        {
            self.note_effects(&Effects::anything());
        }
    }

    fn may_bind_unnamed(&mut self, effects: &Effects) -> bool {
        let rest = self.client.unnamed.rest().map(<[u8]>::to_vec).unwrap_or_default();
        self.may_bind(text_of(&rest), effects.is_about_channels())
    }

    fn note_unnamed(&mut self) {
        if let Some(parsed) = self.client.unnamed.parsed.take() {
            self.client.note_text(text_of(&parsed.rest));
            self.client.unnamed.parsed = Some(parsed);
        }
    }

    /// What a bound statement does; `set_config($1, …)` says only now which setting it changes.
    fn note_bound(&mut self, effects: &Effects, bind: &[u8]) {
        self.note_effects(effects);
        if let Some(names) = &effects.names {
            names.bound.iter().for_each(|number| self.client.touch_bound(bound_value(bind, *number)));
        }
    }

    /// A name this client never prepared: the server's own 26000. A name that looks like one of ours must not reach it.
    #[cold]
    fn bind_unknown(&mut self, header: Header, names: BindNames<'_>) -> bool {
        if is_ours(names.statement) {
            self.bind_as(header, names, &estranged(names.statement));
            self.server.plan.push(Entry::forward(Kind::Bind));
            return self.at < self.input.len();
        }
        self.pass(header, Kind::Bind)
    }

    /// The Bind with another statement name; what follows the names is let through.
    fn bind_as(&mut self, header: Header, names: BindNames<'_>, statement: &[u8]) {
        let later = header.body as usize - names.bytes();
        write_message(tag::BIND, &[names.portal, b"\0", statement, b"\0"], later, self.out.settle());
        self.at += HEADER_BYTES + names.bytes();
        if later > 0 {
            // ## Boundary => Forward
            self.client.intake = Intake::Forward(later as u32);
        }
    }

    pub(super) fn describe_or_close(&mut self, header: Header) -> Result<bool, Box<PgError>> {
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
            Some(Target::Portal(_)) => Ok(self.pass(header, kind)),
            Some(Target::Statement(name)) => Ok(self.describe_or_close_statement(header, name)),
            None => Err(malformed(if closes { "Close" } else { "Describe" })),
        }
    }

    #[inline(never)]
    fn describe_or_close_statement(&mut self, header: Header, name: &[u8]) -> bool {
        let closes = header.tag == tag::CLOSE;
        match name {
            b"" if closes => self.close_unnamed(header),
            b"" if self.unnamed_must_wait() => false,
            b"" => {
                self.ensure_unnamed();
                self.pass(header, Kind::Describe)
            }
            name if self.name_must_wait(name) => false,
            name if closes => self.close(header, name),
            name => self.describe(header, name),
        }
    }

    fn describe(&mut self, header: Header, name: &[u8]) -> bool {
        let (server_name, note) = match self.client.names.get(name).cloned() {
            Some(named) => {
                self.ensure_named(&named);
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

    /// Closing a name that means nothing is no error either (trap 25); where only the server knows when to say so, it is
    /// asked to close such a one. It does where a ReadyForQuery is awaited: should what stands before that Sync be a COPY, the
    /// server is still reading its data, and ends the session at a Close.
    fn close(&mut self, header: Header, name: &[u8]) -> bool {
        let plan = &self.server.plan;
        let may_answer = plan.knows_order() && plan.knows_status();
        // With nothing owed it is done at once.
        let batch = if may_answer && plan.owes_nothing() { KNOWN } else { plan.batch() };
        let closed = self.client.names.remove(name, batch);
        self.server.left.drop_name(name);
        let is_prepared_in_sql = closed.is_none() && self.server.may_have(Leaves::STATEMENTS);
        if is_prepared_in_sql && !is_ours(name) {
            return self.pass(header, Kind::Close);
        }
        let note = closed.map_or(Note::None, Note::Unnames);
        if may_answer && !is_prepared_in_sql {
            self.skip(header);
            self.synthesize(Entry::forward(Kind::Synthesize(Synthetic::CloseComplete)).noting(note));
        } else {
            let other = estranged(if is_ours(name) { name } else { SERVER_NAME_PREFIX.as_bytes() });
            write_message(tag::CLOSE, &[b"S", &other, b"\0"], 0, self.out.settle());
            self.server.plan.push(Entry::forward(Kind::Close).noting(note));
            self.at += header.message_bytes();
        }
        true
    }

    fn close_unnamed(&mut self, header: Header) -> bool {
        let displaced = self.displace_unnamed(None);
        self.server.plan.push(Entry::forward(Kind::Close).displacing(displaced));
        self.forward(header)
    }
}

/// Of a Parse, what stands before its types.
pub(super) fn text_of(rest: &[u8]) -> &[u8] {
    cstr(rest).map_or(rest, |(text, _)| text)
}

/// A client's own name that looks like one of ours.
pub(super) fn is_ours(name: &[u8]) -> bool {
    name.starts_with(SERVER_NAME_PREFIX.as_bytes())
}

/// A name no server has, from which the client's own is found again.
pub(super) fn estranged(name: &[u8]) -> Vec<u8> {
    [name, b"?"].concat()
}

/// As an identifier in a text.
pub(super) fn quoted(name: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for &byte in name {
        quoted.extend(std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 }));
    }
    quoted.push(b'"');
    quoted
}
