//! What a statement's text tells a pooler: state it may leave behind, names of prepared statements in it.
//!
//! Not a parser (an SQL parser costs 5–40 µs a query, this a few tens of ns). It may see state where there is none,
//! which costs a cleaning later; the tags of CommandComplete back it up where it sees nothing.

mod leaves;
mod mentions;
mod verb;
mod words;

pub use leaves::Leaves;
pub use mentions::{Backslash, Mention, mentions};
pub use verb::Verb;
pub use words::identifier;

use words::{Statements, has_word};

/// The scan of one message's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub leaves: Leaves,
    pub verb: Verb,
}

/// Scans the text of a Query or Parse message.
pub fn scan(text: &[u8]) -> Scan {
    let (mut verb, at) = verb::first(text);
    let mut leaves = leaves::by_calls(text);
    if memchr::memchr(b';', text).is_some_and(|semicolon| !text[semicolon + 1..].trim_ascii().is_empty()) {
        // The pieces below may begin inside a literal or a comment; what has no tag of its own is looked for in all of it.
        leaves |= leaves::hidden(text);
    }
    for (nth, statement) in (Statements { text, at }).enumerate() {
        let statement = &text[statement];
        leaves |= leaves::by_verb(statement);
        verb = verb.and(statement, nth);
    }
    if leaves.has(Leaves::SETTINGS) && has_word(text, b"pg_temp") {
        // A search_path that makes tables temporary without another word.
        leaves |= Leaves::TEMP;
    }
    Scan { leaves, verb }
}

#[cfg(test)]
mod tests;
