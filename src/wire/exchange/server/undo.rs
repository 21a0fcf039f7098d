//! What was noted when something was sent, taken back: it failed, or was never read.

use crate::wire::exchange::ClientSide;
use crate::wire::names::{ClientNames, Displaced, Holds, ServerStatements};
use crate::wire::plan::{Entry, Fate, Kind, Note, Plan, Reply};

/// The part of a server's state that follows what was sent and not what was answered.
pub(super) struct Account<'a> {
    pub(super) statements: &'a mut ServerStatements,
    pub(super) unnamed: &'a mut Holds,
}

/// Takes back what was noted for a message that failed, or that the server never processed (trap 6).
pub(super) fn undo(entry: Entry, fate: Fate, server: Account<'_>, client: &mut ClientSide) -> Option<Correction> {
    let held = *server.unnamed;
    match entry.note {
        Note::Learns { id, batch } => server.statements.take_back(id, batch),
        Note::Introduces(named) => {
            server.statements.take_back(named.statement.id, named.batch);
            client.names.take_back(&named);
        }
        Note::Names(named) => client.names.take_back(&named),
        note @ (Note::Unnames(_) | Note::Forgets(..) | Note::Clears(_) | Note::InTurn(_)) => restore(note, &mut client.names),
        Note::Evicts { id, batch } => server.statements.reopen(id, batch),
        Note::Doubts(id) => server.statements.doubt(id),
        Note::Unnamed(number) => {
            let its = Holds::Of(client.id, number);
            if fate == Fate::Unread && matches!(*server.unnamed, Holds::Nothing) || *server.unnamed == its {
                // A Parse destroys the unnamed statement first, and then fails.
                *server.unnamed = if fate == Fate::Failed { Holds::Nothing } else { Holds::Anything };
            }
            if entry.reply == Reply::Forward && (fate == Fate::Failed || entry.displaced.is_none()) {
                match client.unnamed.number == number {
                    true => client.unnamed.parsed = None,
                    false => return Some(Correction { number, left: its, was: None }),
                }
            }
        }
        Note::None
        | Note::Uses(_)
        | Note::Runs(..)
        | Note::Own
        | Note::Refuses(_)
        | Note::Tries(_)
        | Note::Replay
        | Note::Cleans
        | Note::Restores
        | Note::Probe
        | Note::Asks => {}
        Note::Departs | Note::Departed | Note::Returns | Note::Hushes | Note::Unhushed => {}
    }
    let displaced = entry.displaced.filter(|_| fate == Fate::Unread)?;
    let left = if entry.kind == Kind::Parse { Holds::Of(client.id, displaced.by) } else { Holds::Nothing };
    if client.unnamed.number != displaced.by {
        return Some(Correction { number: displaced.by, left, was: Some(displaced) });
    }
    // Unless something sent later has changed it again.
    if held == left || matches!(entry.kind, Kind::Synthesize(_)) {
        *server.unnamed = displaced.server;
    }
    client.unnamed = displaced.client;
    None
}

/// What was counted as given up is still there.
pub(super) fn restore(note: Note, names: &mut ClientNames) {
    match note {
        Note::Unnames(named) | Note::Forgets(named, _) => names.restore(named),
        Note::Clears(cleared) => names.restore_all(cleared.names),
        Note::InTurn(notes) => notes.forgets.into_iter().rev().for_each(|note| restore(note, names)),
        _ => {}
    }
}

/// What was displaced by something sent later was not there: it failed, or something older still was.
pub(super) struct Correction {
    number: u64,
    /// What it would have left on the server.
    left: Holds,
    was: Option<Box<Displaced>>,
}

impl Correction {
    pub(super) fn apply(self, plan: &mut Plan) {
        let Some(later) = plan.later_displaced(self.number) else { return };
        // Unless the server was given another in between, which is no statement of the client's: that one was there.
        let is_left = later.server == self.left;
        match self.was {
            Some(was) => {
                later.client = was.client;
                if is_left {
                    later.server = was.server;
                }
            }
            None => {
                later.client.parsed = None;
                if is_left {
                    later.server = Holds::Nothing;
                }
            }
        }
    }
}
