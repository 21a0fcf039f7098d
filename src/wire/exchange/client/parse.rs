//! Parse: what a client prepares, under a name of ours or under none.

use std::borrow::Cow;
use std::sync::Arc;

use super::held::NewUnnamed;
use super::prepared::{estranged, is_ours};
use super::{Walk, malformed};
use crate::error::PgError;
use crate::error::hosted::{ErrorTexts, Hosted};
use crate::hint::rare;
use crate::wire::exchange::{Mode, SCANNED_BYTES};
use crate::wire::extended::{Parse, write_message};
use crate::wire::frame::{HEADER_BYTES, Header, cstr};
use crate::wire::names::{About, Does, Held, Holds, KNOWN, Named};
use crate::wire::plan::{Entry, Excess, Kind, Note, Synthetic};
use crate::wire::sql::{self, Leaves, Scan, Verb};
use crate::wire::statement::SERVER_NAME_PREFIX;
use crate::wire::tag::client as tag;

impl Walk<'_, '_> {
    pub(super) fn parse(&mut self, header: Header) -> Result<bool, Box<PgError>> {
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
        let named = match &scan.verb {
            Verb::Deallocate(name) => Some((name.clone(), Does::Forgets)),
            Verb::Execute(name) => Some((name.clone(), Does::Executes)),
            // PREPARE of a name that is in use: it is to be refused when it is run.
            Verb::Mentions => self.name_prepared_in(parse.text).map(|name| (name, Does::Prepares)),
            _ => None,
        };
        if let Some((name, _)) = &named
            && self.name_must_wait(&sql::identifier(&parse.text[name.clone()]))
        {
            return Ok(false);
        }
        // With them, it may look at them: in its own batch it could not.
        let is_in_batch = self.server.plan.is_in_batch();
        if !self.client.channels.is_here() && scan.effects.is_about_channels() && !is_in_batch && !self.bring_home(None) {
            return Ok(false);
        }
        let (rest, about) = match (&scan.verb, named) {
            (_, Some((name, does))) => self.with_server_name(&parse, &name, does),
            (Verb::DeallocateAll | Verb::ForgetsAll, None) => (Cow::Borrowed(parse.rest), About::ForgetsAll),
            _ => (Cow::Borrowed(parse.rest), About::Nothing),
        };
        self.client.note_text(parse.text);
        let (before, effects) = (self.at, self.client.is_linted().then(|| scan.effects.clone()));
        let more = self.parse_as(header, parse.name, rest, scan, about)?;
        // One that waits is scanned again.
        if let Some(effects) = effects.filter(|_| self.at > before) {
            self.client.lint_named(parse.name, parse.text, &effects);
        }
        Ok(more)
    }

    fn parse_as(
        &mut self,
        header: Header,
        name: &[u8],
        rest: Cow<'_, [u8]>,
        scan: Scan,
        about: About,
    ) -> Result<bool, Box<PgError>> {
        if name.is_empty() {
            return Ok(self.parse_unnamed(header, rest, scan, about));
        }
        if self.name_must_wait(name) {
            return Ok(false);
        }
        if let Some(used) = self.in_use(name) {
            // The server says 42P05, after whatever it says of the text first.
            self.ensure_named(&used);
            self.write_parse(&used.statement.name, &rest);
            self.server.plan.push(Entry::forward(Kind::Parse).noting(Note::Uses(used)));
        } else {
            return self.parse_named(header, name, &rest, scan, about);
        }
        self.at += header.message_bytes();
        Ok(true)
    }

    fn parse_named(&mut self, header: Header, name: &[u8], rest: &[u8], scan: Scan, about: About) -> Result<bool, Box<PgError>> {
        if let Some(excess) = self.client.excess(name.len() + rest.len(), &about) {
            rare();
            return match excess {
                Excess::Statements(most) if self.client.bounds.texts == ErrorTexts::Supabase => {
                    Err(Box::new(Hosted::Statements { limit: most as usize }.into()))
                }
                excess => Ok(!self.must_wait_for_all() && self.refuse_parse(header, excess)),
            };
        }
        let statement = self.client.catalog.statements.intern(rest, || scan);
        if self.statement_must_wait(&statement) {
            return Ok(false);
        }
        self.collide(name, rest);
        let id = statement.id;
        let held = self.server.statements.touch(id);
        let is_answered = held == Some(Held::Surely) && self.may_synthesize() && self.server.plan.owes_nothing();
        let batch = if is_answered { KNOWN } else { self.server.plan.batch() };
        let named = Arc::new(Named { name: name.into(), statement, about, batch });
        match held {
            Some(Held::Surely) if self.may_synthesize() => {
                let entry = Entry::forward(Kind::Synthesize(Synthetic::ParseComplete));
                self.synthesize(entry.noting(Note::Names(Arc::clone(&named))));
            }
            Some(Held::Surely) => {
                // In a failed transaction only the server knows which statements it still takes: asked under no name.
                self.server_holds(Holds::Anything);
                self.write_parse("", rest);
                self.server.plan.push(Entry::forward(Kind::Parse).noting(Note::Names(Arc::clone(&named))));
            }
            held => {
                self.close_doubtful(id, held);
                self.write_parse(&named.statement.name, rest);
                self.server.plan.push(Entry::forward(Kind::Parse).noting(Note::Introduces(Arc::clone(&named))));
                self.server.statements.insert(id, batch);
                self.evict(named.about.statement().map(|s| s.id).as_slice());
            }
        }
        self.client.names.insert(named);
        self.at += header.message_bytes();
        Ok(true)
    }

    /// A name that PREPARE may have taken is tried with this very text: what the server says then is what it would say to
    /// the client, that the name is in use or that the text will not do. Else it is free again for what comes.
    fn collide(&mut self, name: &[u8], rest: &[u8]) {
        if !self.server.may_have(Leaves::STATEMENTS) {
            return;
        }
        let own: Cow<'_, [u8]> = if is_ours(name) { estranged(name).into() } else { name.into() };
        write_message(tag::PARSE, &[&own, b"\0", rest], 0, self.out.settle());
        self.server.plan.push(Entry::swallow(Kind::Parse).noting(Note::Tries(Box::default())));
        write_message(tag::CLOSE, &[b"S", &own, b"\0"], 0, self.out.settle());
        self.server.plan.push(Entry::swallow(Kind::Close));
    }

    /// One statement too many is an error like any other: what follows is skipped up to the Sync, the transaction fails.
    /// The server is made to do all that by a Bind that cannot succeed, and its error gives way to ours.
    fn refuse_parse(&mut self, header: Header, excess: Excess) -> bool {
        let unknown = estranged(SERVER_NAME_PREFIX.as_bytes());
        write_message(tag::BIND, &[b"\0", &unknown, b"\0\0\0\0\0\0\0"], 0, self.out.settle());
        self.server.plan.push(Entry::forward(Kind::Bind).noting(Note::Refuses(excess)));
        self.at += header.message_bytes();
        true
    }

    fn parse_unnamed(&mut self, header: Header, rest: Cow<'_, [u8]>, scan: Scan, about: About) -> bool {
        let displaced = self.displace_unnamed(Some(NewUnnamed { rest: &rest, effects: scan.effects, about }));
        let number = self.client.unnamed.number;
        self.server_holds(Holds::Of(self.client.id, number));
        self.note_verb(scan.verb);
        self.server.plan.push(Entry::forward(Kind::Parse).noting(Note::Unnamed(number)).displacing(displaced));
        match rest {
            Cow::Borrowed(_) => {
                self.client.aside().counted.server_parses += 1;
                self.forward(header)
            }
            Cow::Owned(rest) => {
                self.write_parse("", &rest);
                self.at += header.message_bytes();
                true
            }
        }
    }

    /// The text is only scanned for what concerns others; names are the client's own.
    fn parse_of_session(&mut self, header: Header) -> bool {
        let input = self.input;
        let start = self.at + HEADER_BYTES;
        let Some(length) = self.body(header, SCANNED_BYTES).map(<[u8]>::len) else { return false };
        if let Some((name, rest)) = cstr(&input[start..start + length]) {
            let text = cstr(rest).map_or(rest, |(text, _)| text);
            let scan = sql::scan(text);
            self.note_verb(scan.verb);
            self.server.taint(&scan.effects);
            self.client.note_session_parse(name, text);
        }
        self.client.aside().counted.server_parses += 1;
        self.pass(header, Kind::Parse)
    }
}
