//! Session state that a text may leave behind.

use std::ops::{BitOr, BitOrAssign};

use super::words::{Words, has_word, is_word};

/// Kinds of session state a server may carry for its owner, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaves(u8);

impl Leaves {
    pub const NOTHING: Self = Self(0);
    /// SET, set_config, SET ROLE, SET SESSION AUTHORIZATION.
    pub const SETTINGS: Self = Self(1);
    /// SQL-level PREPARE.
    pub const STATEMENTS: Self = Self(1 << 1);
    /// Temporary tables and whatever else lives in pg_temp.
    pub const TEMP: Self = Self(1 << 2);
    pub const LISTEN: Self = Self(1 << 3);
    /// Session-level advisory locks.
    pub const LOCKS: Self = Self(1 << 4);
    /// Cursors WITH HOLD.
    pub const CURSORS: Self = Self(1 << 5);
    /// currval and lastval.
    pub const SEQUENCES: Self = Self(1 << 6);
    /// What text that was not scanned may leave: whatever no CommandComplete tag tells of.
    pub const UNSEEN: Self = Self(Self::SETTINGS.0 | Self::TEMP.0 | Self::LOCKS.0 | Self::CURSORS.0 | Self::SEQUENCES.0);
    /// LOAD, DO, CALL: any of it, and more.
    pub const ANYTHING: Self = Self(0xff);

    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }

    pub const fn has(self, kind: Self) -> bool {
        self.0 & kind.0 != 0
    }
}

impl BitOr for Leaves {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Leaves {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What one statement leaves behind, by its verb.
pub(super) fn by_verb(statement: &[u8]) -> Leaves {
    let mut words = Words { text: statement, at: 0 };
    let Some(verb) = words.next_word() else { return Leaves::NOTHING };
    let verb = &statement[verb];
    let is = |keyword: &[u8]| verb.eq_ignore_ascii_case(keyword);
    match verb.first().map_or(0, u8::to_ascii_lowercase) {
        b's' if is(b"set") => Leaves::SETTINGS,
        b's' if is(b"select") && has_into(statement) => Leaves::TEMP,
        b'r' if is(b"reset") => Leaves::SETTINGS,
        b'p' if is(b"prepare") => Leaves::STATEMENTS,
        b'l' if is(b"listen") => Leaves::LISTEN,
        b'l' if is(b"load") => Leaves::ANYTHING,
        b'd' if is(b"declare") && has_word(statement, b"hold") => Leaves::CURSORS,
        b'd' if is(b"do") => Leaves::ANYTHING,
        b'c' if is(b"call") => Leaves::ANYTHING,
        b'c' if is(b"create") && has_temp(statement) => Leaves::TEMP,
        b'w' if is(b"with") && has_into(statement) && has_temp(statement) => Leaves::TEMP,
        b'e' if is(b"explain") && has_temp(statement) => Leaves::TEMP,
        _ => Leaves::NOTHING,
    }
}

/// What statements that cannot be told apart leave, of the kinds that no tag tells of.
pub(super) fn hidden(text: &[u8]) -> Leaves {
    let temp = if has_temp(text) { Leaves::TEMP } else { Leaves::NOTHING };
    temp | if has_word(text, b"hold") { Leaves::CURSORS } else { Leaves::NOTHING }
}

fn has_temp(text: &[u8]) -> bool {
    has_word(text, b"temp") || has_word(text, b"temporary") || has_word(text, b"pg_temp")
}

/// SELECT INTO, which answers with SELECT's own tag. Looked for in every query, so by its first letter: 15 ns per 100
/// bytes where a walk over all words takes 100.
fn has_into(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'i', b'I', text).any(|at| text[at..].get(..4).is_some_and(|w| w.eq_ignore_ascii_case(b"into")))
}

/// What the functions called leave behind. A call needs a parenthesis: text without one costs a single `memchr`.
pub(super) fn by_calls(text: &[u8]) -> Leaves {
    let mut found = Leaves::NOTHING;
    for open in memchr::memchr_iter(b'(', text) {
        let before = text[..open].trim_ascii_end();
        let before = before.strip_suffix(b"\"").unwrap_or(before);
        let start = before.iter().rposition(|b| !is_word(*b)).map_or(0, |at| at + 1);
        found |= call(&before[start..]);
    }
    found
}

fn call(name: &[u8]) -> Leaves {
    let is = |function: &[u8]| name.eq_ignore_ascii_case(function);
    match name.first().map_or(0, u8::to_ascii_lowercase) {
        b's' if is(b"set_config") => Leaves::SETTINGS,
        b's' if is(b"setval") => Leaves::SEQUENCES,
        b's' if is(b"setseed") => Leaves::ANYTHING,
        b'n' if is(b"nextval") => Leaves::SEQUENCES,
        b'p' if is(b"pg_advisory_lock") || is(b"pg_advisory_lock_shared") => Leaves::LOCKS,
        b'p' if is(b"pg_try_advisory_lock") || is(b"pg_try_advisory_lock_shared") => Leaves::LOCKS,
        b'd' if name.len() >= 6 && name[..6].eq_ignore_ascii_case(b"dblink") => Leaves::ANYTHING,
        _ => Leaves::NOTHING,
    }
}
