//! What a command did, by its tag: to what we account for, and to what was counted as done when it was sent.

use super::facts::{Effect, effect_of};
use super::{Broken, ServerSide, TAG_BYTES_MAX, Walk};
use crate::wire::exchange::Schema;
use crate::wire::frame::Header;
use crate::wire::names::{Does, KNOWN, Naming};
use crate::wire::plan::{Note, Plan, Reply};
use crate::wire::sql::Effects;

impl Walk<'_, '_> {
    pub(super) fn command_complete(&mut self, header: Header) -> Result<bool, Broken> {
        let body = self.body(header);
        if body.is_none() && header.body as usize <= TAG_BYTES_MAX {
            return Ok(false);
        }
        let effect = match self.current_reply() {
            Reply::Forward => body.map_or(Effect::None, effect_of),
            Reply::Swallow => Effect::None,
        };
        self.take_effect(effect);
        let (reply, done) = self.server.plan.answer(header.tag)?;
        let more = self.pass(header, reply);
        self.completed(done);
        Ok(more)
    }

    /// What was counted as done when it was sent has been done: its note goes. Where nothing was, it is counted now.
    #[inline(never)]
    fn take_effect(&mut self, effect: Effect) {
        let ServerSide { plan, statements, leaves, schema, .. } = &mut *self.server;
        match effect {
            Effect::None => {}
            Effect::Leaves(kind) => *leaves |= kind,
            Effect::Schema => {
                // ## Unchanged => Changing
                *schema = Schema::Changing;
                self.client.catalog.statements.schema_changed();
            }
            Effect::Deallocate => match take_note(plan) {
                Note::Forgets(named, shift) => {
                    statements.remove_unless_sure(named.statement.id);
                    // More of its text may follow.
                    put_back(plan, Note::Runs(named, shift));
                }
                // One that stood in for a statement of ours, or the client's own.
                Note::Unnames(_) | Note::Own => {}
                note => {
                    // Run by EXECUTE behind other statements.
                    if let Note::Uses(named) = &note
                        && let Some(Naming { does: Does::Forgets, target: Some(target), .. }) = named.about.naming().map(|n| &**n)
                    {
                        self.client.names.take_back(target);
                    }
                    put_back(plan, note);
                    statements.doubt_all();
                }
            },
            Effect::DeallocateAll | Effect::DiscardAll => {
                match take_note(plan) {
                    Note::Clears(cleared) => statements.forget_doubtful(cleared.moment),
                    note => {
                        put_back(plan, note);
                        self.client.names.take(KNOWN);
                        statements.doubt_all();
                    }
                }
                if effect == Effect::DiscardAll {
                    if plan.ends_with_head() {
                        self.server.is_as_new(self.client);
                    } else {
                        // What was sent behind it may have left something since.
                        self.server.note_effects(self.client, &Effects::anything());
                    }
                }
            }
        }
    }
}

/// The note of what is done now: of a query of several statements, the next one's.
fn take_note(plan: &mut Plan) -> Note {
    match plan.head_note() {
        Some(Note::InTurn(notes)) => notes.forgets.pop_front().unwrap_or_default(),
        Some(note) => std::mem::take(note),
        None => Note::None,
    }
}

fn put_back(plan: &mut Plan, note: Note) {
    match plan.head_note() {
        None | Some(Note::InTurn(_)) => {}
        Some(place) => *place = note,
    }
}
