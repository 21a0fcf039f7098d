//! Errors in the client's terms: its own names for statements, and positions in its own texts.

use std::ops::Range;
use std::sync::Arc;

use super::Walk;
use super::facts::Facts;
use crate::error::{PgError, SqlState};
use crate::wire::exchange::Mode;
use crate::wire::extended::write_message;
use crate::wire::frame::HEADER_BYTES;
use crate::wire::names::{About, Named};
use crate::wire::plan::{Entry, Excess, InTurn, Note};
use crate::wire::position::{Shift, in_clients_text};
use crate::wire::reply;
use crate::wire::statement::SERVER_NAME_PREFIX;
use crate::wire::tag::server as tag;

impl Walk<'_, '_> {
    /// The error that the client gets in place of the one that was provoked.
    pub(super) fn refused(&self, facts: &Facts<'_>) -> Option<Vec<u8>> {
        let Some(Entry { note: Note::Refuses(excess), .. }) = self.server.plan.head() else { return None };
        let mut message = bytes::BytesMut::new();
        reply::error(&mut message, &too_much_prepared(*excess));
        (facts.code == b"26000").then(|| message.to_vec())
    }

    /// The error with the client's name for the statement in place of ours, and its position in the client's text.
    pub(super) fn reworded(&self, body: &[u8], facts: &Facts<'_>) -> Option<Vec<u8>> {
        if self.client.mode == Mode::Session {
            return None;
        }
        let mut changes: Vec<_> = self.renamed(body, facts).into_iter().chain(self.moved(body, facts)).collect();
        changes.sort_unstable_by_key(|(place, _)| place.start);
        let (mut parts, mut from) = (Vec::new(), 0);
        for (place, text) in &changes {
            parts.extend([&body[from..place.start], text]);
            from = place.end;
        }
        parts.push(&body[from..]);
        let mut message = Vec::with_capacity(body.len() + 2 * HEADER_BYTES);
        write_message(tag::ERROR, &parts, 0, &mut message);
        (!changes.is_empty()).then_some(message)
    }

    /// Where our name for a statement stands, and the client's.
    fn renamed(&self, body: &[u8], facts: &Facts<'_>) -> Option<(Range<usize>, Vec<u8>)> {
        let at = memchr::memmem::find(facts.message, SERVER_NAME_PREFIX.as_bytes())?;
        let name = facts.message[at..].split(|b| *b == b'"').next()?;
        let client_name = match (name.strip_suffix(b"?"), self.server.plan.head()) {
            (Some(own), _) => own,
            (None, Some(Entry { note: Note::Uses(named) | Note::Runs(named, _) | Note::Forgets(named, _), .. }))
                if named.statement.name.as_bytes() == name =>
            {
                &named.name
            }
            (None, Some(Entry { note: Note::InTurn(notes), .. })) if let Some(own) = name_in(notes, name, facts) => own,
            _ => self.client.names.client_name_of(name)?,
        };
        let offset = memchr::memmem::find(body, name)?;
        Some((offset..offset + name.len(), client_name.to_vec()))
    }

    /// Where the position stands, and the one that it is in the client's text.
    fn moved(&self, body: &[u8], facts: &Facts<'_>) -> Option<(Range<usize>, Vec<u8>)> {
        let sent = std::str::from_utf8(&body[facts.position.clone()]).ok()?.parse().ok()?;
        let moved = in_clients_text(sent, self.shifts())?;
        Some((facts.position.clone(), moved.to_string().into_bytes()))
    }

    /// Names of ours in the text that is being answered.
    fn shifts(&self) -> &[Shift] {
        match self.server.plan.head().map(|head| &head.note) {
            Some(Note::Runs(_, shift) | Note::Forgets(_, shift)) => std::slice::from_ref(shift),
            Some(Note::InTurn(notes)) => &notes.shifts,
            Some(Note::Introduces(named) | Note::Names(named)) => shift_in(&named.about),
            Some(Note::Unnamed(number)) if *number == self.client.unnamed.number => {
                self.client.unnamed.parsed.as_ref().map_or(&[], |parsed| shift_in(&parsed.about))
            }
            _ => &[],
        }
    }
}

fn shift_in(about: &About) -> &[Shift] {
    about.naming().map_or(&[], |naming| std::slice::from_ref(&naming.shift))
}

/// The client's name for the server's, among those in a query of several statements.
fn name_in<'a>(notes: &'a InTurn, server_name: &[u8], facts: &Facts<'_>) -> Option<&'a [u8]> {
    let is_it = |named: &&Arc<Named>| named.statement.name.as_bytes() == server_name;
    let used = match facts.code {
        b"42P05" => notes.uses.iter().rev().find(is_it),
        _ => notes.uses.iter().find(is_it),
    };
    let forgotten = notes.forgets.iter().find_map(|note| match note {
        Note::Uses(named) | Note::Unnames(named) => Some(named).filter(is_it),
        _ => None,
    });
    used.or(forgotten).map(|named| &*named.name)
}

fn too_much_prepared(excess: Excess) -> PgError {
    let (message, limit) = match excess {
        Excess::Statements(most) => {
            (format!("this client holds {most} prepared statements, the most it may"), "prepared_statements_per_client")
        }
        Excess::Bytes(most) => {
            let message = format!("with this one, the prepared statements of this client would take more than {most} bytes");
            (message, "prepared_bytes_per_client")
        }
        Excess::Depth(most) => {
            let message = format!("more than {most} prepared statements would each name the next");
            return PgError::error(SqlState::STATEMENT_TOO_COMPLEX, message)
                .with_hint("Prepare the statement itself in place of an EXECUTE of it.");
        }
    };
    PgError::error(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
        .with_hint(format!("Close statements that are no longer used, or raise limits.{limit}."))
}
