//! ErrorResponse: whose it is, what it takes back, and in whose words it is told.

use super::facts::Facts;
use super::undo::{Account, undo};
use super::{Broken, INSPECTED_BYTES_MAX, ServerSide, Walk};
use crate::wire::frame::Header;
use crate::wire::plan::{Entry, Note, Reply};

impl Walk<'_, '_> {
    #[cold]
    pub(super) fn error(&mut self, header: Header) -> Result<bool, Broken> {
        let body = match self.body(header) {
            Some(body) => body,
            None if header.body <= INSPECTED_BYTES_MAX => return Ok(false),
            None => &[],
        };
        // Copied: errors are rare, and what follows changes the walk it is borrowed from.
        let body: Box<[u8]> = body.into();
        if let Some(Entry { note: Note::Replay | Note::Returns | Note::Departed, .. }) = self.server.plan.head() {
            return Err(Broken::Replay(body));
        }
        // Under what that owner has set, a statement_timeout for one: nothing of it was done then.
        if let Some(Entry { note: Note::Cleans, .. }) = self.server.plan.head() {
            return Err(Broken::Unclean);
        }
        if let Some(Entry { note: Note::Probe, .. }) = self.server.plan.head() {
            self.server.probe_failed();
        }
        if let Some(Entry { note: Note::Restores, .. }) = self.server.plan.head() {
            self.server.restoring_failed(self.client);
        }
        if let Some(note @ Note::Hushes) = self.server.plan.head_note() {
            *note = Note::Unhushed;
            self.server.hush_refused()?;
        }
        let warned = self.take_warned();
        let facts = Facts::read(&body);
        self.turn.fatal |= facts.fatal;
        self.mark_stale(&facts);
        let reworded = self.refused(&facts).or_else(|| self.reworded(&body, &facts));
        let ServerSide { plan, statements, unnamed, .. } = &mut *self.server;
        let client = &mut *self.client;
        let mut corrections = Vec::new();
        let reply = plan.error(|entry, fate| corrections.extend(undo(entry, fate, Account { statements, unnamed }, client)));
        corrections.into_iter().for_each(|c| c.apply(plan));
        // The client's session ends with it, though it came in answer to something of ours.
        let reply = if facts.fatal { Reply::Forward } else { reply };
        if reply == Reply::Forward {
            self.turn.errors.push(facts.code.try_into().unwrap_or(*b"XX000"));
            if let Some(warned) = warned {
                self.out.insert(&warned);
            }
        }
        let more = match reworded {
            Some(message) if reply == Reply::Forward => {
                self.out.insert(&message);
                self.pass(header, Reply::Swallow)
            }
            _ => self.pass(header, reply),
        };
        self.emit_synthetic();
        Ok(more)
    }

    /// "cached plan must not change result type": whoever prepares the text from now on gets a new statement (trap 31).
    fn mark_stale(&mut self, facts: &Facts<'_>) {
        if facts.code != b"0A000" || facts.routine != b"RevalidateCachedQuery" {
            return;
        }
        if let Some(Entry { note: Note::Uses(named) | Note::Runs(named, _), .. }) = self.server.plan.head() {
            named.statement.mark_stale();
        }
    }
}
