//! What a statement does by its first words.

use std::ops::Range;

use super::words::{Words, identifier};

/// What the first statement does that a pooler must act upon.
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
    /// DROP DATABASE, or anything else that wants the database to itself.
    EmptiesDatabase(Box<[u8]>),
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
        Keyword::Database => database(&mut words),
    };
    (verb, at)
}

enum Keyword {
    Plain,
    Deallocate,
    Execute,
    Explain,
    Database,
}

fn keyword(word: &[u8]) -> Keyword {
    let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
    match word.first().map(u8::to_ascii_lowercase) {
        Some(b'd') if is(b"deallocate") => Keyword::Deallocate,
        Some(b'd') if is(b"drop") => Keyword::Database,
        Some(b'a') if is(b"alter") => Keyword::Database,
        Some(b'c') if is(b"create") => Keyword::Database,
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

fn explain(words: &mut Words<'_>) -> Verb {
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

/// `DROP DATABASE [IF EXISTS] x`, `ALTER DATABASE x …`, `CREATE DATABASE … TEMPLATE x`.
fn database(words: &mut Words<'_>) -> Verb {
    let text = words.text;
    let is = |word: &Range<usize>, keyword: &[u8]| text[word.clone()].eq_ignore_ascii_case(keyword);
    if !words.next_word().is_some_and(|w| is(&w, b"database")) {
        return Verb::Other;
    }
    let created = text.trim_ascii_start().first().is_some_and(|b| b.eq_ignore_ascii_case(&b'c'));
    let mut name = None;
    while let Some(word) = words.next_word() {
        words.skip_equals();
        if created && is(&word, b"template") {
            name = words.next_word();
            break;
        }
        if !created && !is(&word, b"if") && !is(&word, b"exists") {
            name = Some(word);
            break;
        }
    }
    name.map_or(Verb::Other, |n| Verb::EmptiesDatabase(identifier(&text[n]).into()))
}

/// `DISCARD ALL`, `DEALLOCATE [PREPARE] ALL`.
pub(super) fn forgets_all(statement: &[u8]) -> bool {
    if !matches!(statement.trim_ascii_start().first(), Some(b'd' | b'D' | b'/' | b'-')) {
        return false;
    }
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
fn deallocated(words: &mut Words<'_>) -> Option<Range<usize>> {
    let name = words.next_word()?;
    match words.text[name.clone()].eq_ignore_ascii_case(b"prepare") {
        true => words.next_word().or(Some(name)),
        false => Some(name),
    }
}
