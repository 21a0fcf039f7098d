//! What a statement's text tells a pooler: what it does to the session's state, names of prepared statements in it.
//!
//! Not a parser (an SQL parser costs 5–40 µs a query, this a few tens of ns). It may see state where there is none,
//! which costs a question to the server later; where it sees nothing, there is nothing but what a trigger, an operator
//! or a view did by a function of its own.

mod calls;
mod effects;
mod hazards;
mod leaves;
mod mentions;
mod pieces;
mod plain;
mod shown;
mod verb;
mod verbs;
mod words;

pub(super) use effects::NAME_BYTES_MAX;
pub use effects::{Effects, Scope, Touched};
pub use hazards::{Hazard, Remark, remarks};
pub use leaves::Leaves;
pub use mentions::{Backslash, Mention, mentions};
pub(super) use plain::is_plain;
pub use shown::{for_log, head, in_brief};
pub use verb::{Verb, begins_with_rollback};
pub(super) use words::has_word;
pub use words::identifier;

use pieces::{Pieces, Split};
use words::Statements;

/// The scan of one message's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub effects: Effects,
    pub verb: Verb,
}

/// Scans the text of a Query or Parse message.
pub fn scan(text: &[u8]) -> Scan {
    if is_plain(text) { Scan::default() } else { look_into(text) }
}

/// The same for one that is not [`plain`].
#[inline(never)]
pub(super) fn look_into(text: &[u8]) -> Scan {
    let (mut verb, at) = verb::first(text);
    let mut effects = calls::effects(text);
    for (nth, statement) in (Statements { text, at }).enumerate() {
        verb = verb.and(&text[statement], nth);
    }
    let mut pieces = Pieces { text, at };
    loop {
        match pieces.next_piece() {
            Split::Statement(range) => effects.add(verbs::effects(&text[range])),
            Split::Unclear => {
                effects.add(verbs::effects_anywhere(text));
                break;
            }
            Split::End => break,
        }
    }
    Scan { effects, verb }
}

#[cfg(test)]
mod tests;
