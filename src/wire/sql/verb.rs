//! What a statement does by its first words.

use std::ops::Range;

use super::words::{Words, identifier};

/// What a text does that a pooler must act upon: its first statement, where none behind it has to do with names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verb {
    #[default]
    Other,
    /// `DEALLOCATE ALL`, alone in its message.
    DeallocateAll,
    /// `DISCARD ALL`, or `DEALLOCATE ALL` among other statements.
    ForgetsAll,
    /// `DEALLOCATE name`; the range is the name as written.
    Deallocate(Range<usize>),
    /// `EXECUTE name`, `EXPLAIN … EXECUTE name`.
    Execute(Range<usize>),
    /// PREPARE, or names of prepared statements behind another statement: [`mentions`](super::mentions()) tells which,
    /// and whether it is so.
    Mentions,
    /// DROP DATABASE, or anything else that wants the database to itself.
    EmptiesDatabase(Box<[u8]>),
}

impl Verb {
    /// The verb of the text up to here with its next piece, which is not looked at twice unless it begins like one that
    /// matters.
    pub(super) fn and(self, statement: &[u8], nth: usize) -> Self {
        let (forgets, mentions) = match statement.trim_ascii_start().first() {
            Some(b'd' | b'D') => (forgets_all(statement), nth > 0 && is_about_one(statement)),
            Some(b'e' | b'E') => (false, nth > 0 && is_about_one(statement)),
            Some(b'p' | b'P') => (false, prepares(statement)),
            Some(b'/' | b'-') => (forgets_all(statement), nth > 0 && is_about_one(statement) || prepares(statement)),
            _ => return self,
        };
        match self {
            Self::Other if forgets => Self::ForgetsAll,
            Self::Execute(_) | Self::Deallocate(_) if forgets || mentions => Self::Mentions,
            Self::Other | Self::ForgetsAll if mentions => Self::Mentions,
            verb => verb,
        }
    }
}

/// `(ROLLBACK | ABORT) [WORK | TRANSACTION];` and more behind it.
pub fn begins_with_rollback(text: &[u8]) -> bool {
    let mut words = Words { text, at: 0 };
    let Some(verb) = words.next_word() else { return false };
    let is_one_of =
        |word: Range<usize>, keywords: [&[u8]; 2]| keywords.iter().any(|k| text[word.clone()].eq_ignore_ascii_case(k));
    if !is_one_of(verb, [b"rollback", b"abort"]) {
        return false;
    }
    words.peek() == Some(b';')
        || (words.next_word().is_some_and(|word| is_one_of(word, [b"work", b"transaction"])) && words.peek() == Some(b';'))
}

fn is_about_one(statement: &[u8]) -> bool {
    matches!(first(statement).0, Verb::Deallocate(_) | Verb::Execute(_))
}

fn prepares(statement: &[u8]) -> bool {
    let mut words = Words { text: statement, at: 0 };
    words.next_word().is_some_and(|word| statement[word].eq_ignore_ascii_case(b"prepare"))
}

/// What the text's first words say, and where they begin. It may begin with a parenthesis or a semicolon just as well.
pub(super) fn first(text: &[u8]) -> (Verb, usize) {
    let mut words = Words { text, at: 0 };
    let Some(word) = words.next_word() else { return (Verb::Other, 0) };
    let at = word.start;
    let verb = match keyword(&text[word]) {
        Keyword::Plain => Verb::Other,
        Keyword::Deallocate => deallocate(&mut words),
        Keyword::Execute => words.next_word().map_or(Verb::Other, Verb::Execute),
        Keyword::Explain => explain(&mut words),
        Keyword::Drop => alone(dropped, &mut words),
        Keyword::Alter => alone(altered, &mut words),
        Keyword::Create => alone(copied, &mut words),
    };
    (verb, at)
}

enum Keyword {
    Plain,
    Deallocate,
    Execute,
    Explain,
    Drop,
    Alter,
    Create,
}

fn keyword(word: &[u8]) -> Keyword {
    let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
    match word.first().map(u8::to_ascii_lowercase) {
        Some(b'd') if is(b"deallocate") => Keyword::Deallocate,
        Some(b'd') if is(b"drop") => Keyword::Drop,
        Some(b'a') if is(b"alter") => Keyword::Alter,
        Some(b'c') if is(b"create") => Keyword::Create,
        Some(b'e') if is(b"execute") => Keyword::Execute,
        Some(b'e') if is(b"explain") => Keyword::Explain,
        _ => Keyword::Plain,
    }
}

/// `DEALLOCATE [PREPARE] (name | ALL)` and nothing after it.
fn deallocate(words: &mut Words<'_>) -> Verb {
    let Some(name) = deallocated(words) else { return Verb::Other };
    let alone = words.at_end();
    match words.text[name.clone()].eq_ignore_ascii_case(b"all") {
        true if alone => Verb::DeallocateAll,
        true => Verb::Other,
        false => Verb::Deallocate(name),
    }
}

pub(super) fn explain(words: &mut Words<'_>) -> Verb {
    words.skip_parenthesis();
    while let Some(word) = words.next_word() {
        let word = &words.text[word];
        if word.eq_ignore_ascii_case(b"execute") {
            return words.next_word().map_or(Verb::Other, Verb::Execute);
        }
        if !word.eq_ignore_ascii_case(b"analyze") && !word.eq_ignore_ascii_case(b"verbose") {
            break;
        }
    }
    Verb::Other
}

/// Statements of databases, told apart by `named`, which finds the one that must have no other users.
fn alone(named: fn(&mut Words<'_>) -> Option<Vec<u8>>, words: &mut Words<'_>) -> Verb {
    let name = if words.next_is(b"database") { named(words) } else { None };
    name.map_or(Verb::Other, |name| Verb::EmptiesDatabase(name.into()))
}

/// `DROP DATABASE [IF EXISTS] name`.
fn dropped(words: &mut Words<'_>) -> Option<Vec<u8>> {
    let name = words.next_word()?;
    let conditional = words.text[name.clone()].eq_ignore_ascii_case(b"if") && words.next_is(b"exists");
    let name = if conditional { words.next_word()? } else { name };
    Some(identifier(&words.text[name]))
}

/// `ALTER DATABASE name (RENAME | SET TABLESPACE)`; all else can be altered while it is in use.
fn altered(words: &mut Words<'_>) -> Option<Vec<u8>> {
    let name = words.next_word()?;
    let what = words.next_word()?;
    let what = &words.text[what];
    let alone = what.eq_ignore_ascii_case(b"rename") || (what.eq_ignore_ascii_case(b"set") && words.next_is(b"tablespace"));
    alone.then(|| identifier(&words.text[name]))
}

/// `CREATE DATABASE … [TEMPLATE [=] name]`.
fn copied(words: &mut Words<'_>) -> Option<Vec<u8>> {
    while !words.at_end() {
        let Some(word) = words.next_word() else {
            words.next_literal()?;
            continue;
        };
        words.skip_equals();
        if words.text[word].eq_ignore_ascii_case(b"template") {
            return match words.next_word() {
                Some(name) => Some(identifier(&words.text[name])),
                None => words.next_literal().map(|name| words.text[name].to_vec()),
            };
        }
    }
    Some(b"template1".to_vec())
}

/// `DISCARD ALL`, `DEALLOCATE [PREPARE] ALL`.
fn forgets_all(statement: &[u8]) -> bool {
    let mut words = Words { text: statement, at: 0 };
    let Some(verb) = words.next_word() else { return false };
    let what = match &statement[verb] {
        verb if verb.eq_ignore_ascii_case(b"discard") => words.next_word(),
        verb if verb.eq_ignore_ascii_case(b"deallocate") => deallocated(&mut words),
        _ => None,
    };
    what.is_some_and(|w| statement[w].eq_ignore_ascii_case(b"all"))
}

/// The name in `DEALLOCATE [PREPARE] name`, behind its verb.
pub(super) fn deallocated(words: &mut Words<'_>) -> Option<Range<usize>> {
    let name = words.next_word()?;
    match words.text[name.clone()].eq_ignore_ascii_case(b"prepare") {
        true => words.next_word().or(Some(name)),
        false => Some(name),
    }
}
