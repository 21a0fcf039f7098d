//! What a statement's text tells a pooler: state it may leave behind, names of prepared statements in it.
//!
//! Not a parser (an SQL parser costs 5–40 µs a query, this a few tens of ns). It may see state where there is none,
//! which costs a cleaning later; the tags of CommandComplete back it up where it sees nothing.

use std::ops::{BitOr, BitOrAssign, Range};

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

/// The scan of one message's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub leaves: Leaves,
    pub verb: Verb,
}

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

/// Scans the text of a Query or Parse message.
pub fn scan(text: &[u8]) -> Scan {
    let mut words = Words { text, at: 0 };
    let mut scan = Scan { leaves: calls(text), verb: Verb::Other };
    let mut at = 0;
    // A text may begin with a parenthesis or a semicolon just as well.
    if let Some(first) = words.next_word() {
        at = first.start;
        match keyword(&text[first]) {
            Keyword::Plain => {}
            Keyword::Deallocate => scan.verb = deallocate(&mut words),
            Keyword::Execute => scan.verb = words.next_word().map_or(Verb::Other, Verb::Execute),
            Keyword::Explain => scan.verb = explain(&mut words),
            Keyword::Database => scan.verb = database(&mut words),
        }
    }
    if memchr::memchr(b';', text).is_some_and(|semicolon| !text[semicolon + 1..].trim_ascii().is_empty()) {
        // The pieces below may begin inside a literal or a comment; what has no tag of its own is looked for in all of it.
        scan.leaves |= hidden(text);
    }
    for statement in (Statements { text, at }) {
        let statement = &text[statement];
        scan.leaves |= leaves(statement);
        if scan.verb == Verb::Other && forgets_all(statement) {
            scan.verb = Verb::ForgetsAll;
        }
    }
    if scan.leaves.has(Leaves::SETTINGS) && has_word(text, b"pg_temp") {
        // A search_path that makes tables temporary without another word.
        scan.leaves |= Leaves::TEMP;
    }
    scan
}

/// The name a client means by an identifier in its text: unquoted ones are folded.
pub fn identifier(written: &[u8]) -> Vec<u8> {
    match written.strip_prefix(b"\"").and_then(|w| w.strip_suffix(b"\"")) {
        None => written.to_ascii_lowercase(),
        Some(quoted) => {
            let mut name = Vec::with_capacity(quoted.len());
            let mut bytes = quoted.iter().peekable();
            while let Some(&byte) = bytes.next() {
                name.push(byte);
                if byte == b'"' && bytes.peek() == Some(&&b'"') {
                    bytes.next();
                }
            }
            name
        }
    }
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

/// What one statement leaves behind, by its verb.
fn leaves(statement: &[u8]) -> Leaves {
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
fn hidden(text: &[u8]) -> Leaves {
    let temp = if has_temp(text) { Leaves::TEMP } else { Leaves::NOTHING };
    temp | if has_word(text, b"hold") { Leaves::CURSORS } else { Leaves::NOTHING }
}

fn has_temp(text: &[u8]) -> bool {
    has_word(text, b"temp") || has_word(text, b"temporary") || has_word(text, b"pg_temp")
}

/// `DISCARD ALL`, `DEALLOCATE [PREPARE] ALL`.
fn forgets_all(statement: &[u8]) -> bool {
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

/// What the functions called leave behind. A call needs a parenthesis: text without one costs a single `memchr`.
fn calls(text: &[u8]) -> Leaves {
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

/// SELECT INTO, which answers with SELECT's own tag. Looked for in every query, so by its first letter: 15 ns per 100
/// bytes where a walk over all words takes 100.
fn has_into(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'i', b'I', text).any(|at| text[at..].get(..4).is_some_and(|w| w.eq_ignore_ascii_case(b"into")))
}

fn has_word(text: &[u8], wanted: &[u8]) -> bool {
    let mut words = Words { text, at: 0 };
    while words.skip_to_word() {
        let start = words.at;
        words.at += text[start..].iter().take_while(|b| is_word(**b)).count();
        if text[start..words.at].eq_ignore_ascii_case(wanted) {
            return true;
        }
    }
    false
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Starts of statements, split at every semicolon, quoted or not.
struct Statements<'a> {
    text: &'a [u8],
    at: usize,
}

impl Iterator for Statements<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.text.get(self.at..).filter(|r| !r.is_empty())?;
        let start = self.at;
        let end = memchr::memchr(b';', rest).map_or(self.text.len(), |semicolon| start + semicolon);
        self.at = end + 1;
        Some(start..end)
    }
}

/// Words one after the other: identifiers, quoted identifiers, keywords.
struct Words<'a> {
    text: &'a [u8],
    at: usize,
}

impl Words<'_> {
    /// The next word if nothing but white space and comments stands before it.
    fn next_word(&mut self) -> Option<Range<usize>> {
        self.skip_blank();
        let start = self.at;
        let rest = self.text.get(start..)?;
        let length = match rest.first()? {
            b'"' => quoted_length(rest)?,
            _ => rest.iter().take_while(|b| is_word(**b)).count(),
        };
        self.at = start + length;
        (length > 0).then_some(start..self.at)
    }

    fn at_end(&mut self) -> bool {
        self.skip_blank();
        self.text[self.at..].iter().all(|b| matches!(b, b';' | b'\0') || b.is_ascii_whitespace())
    }

    /// Over anything that is no word.
    fn skip_to_word(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let skip = rest.iter().take_while(|b| !is_word(**b)).count();
        self.at += skip;
        skip < rest.len()
    }

    fn skip_equals(&mut self) {
        self.skip_blank();
        self.at += usize::from(self.text.get(self.at) == Some(&b'='));
    }

    /// Over one parenthesis without nesting: EXPLAIN's options.
    fn skip_parenthesis(&mut self) {
        self.skip_blank();
        if self.text.get(self.at) == Some(&b'(')
            && let Some(close) = memchr::memchr(b')', &self.text[self.at..])
        {
            self.at += close + 1;
        }
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let blank = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let rest = &rest[blank..];
            let comment = if rest.starts_with(b"--") {
                memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1)
            } else if rest.starts_with(b"/*") {
                comment_length(rest)
            } else {
                0
            };
            self.at += blank + comment;
            if comment == 0 {
                return;
            }
        }
    }
}

fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr(b'"', text.get(at..)?)? + 1;
        if text.get(at) != Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

/// Comments nest in PostgreSQL.
fn comment_length(text: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1usize);
    while depth > 0 {
        let Some(next) = memchr::memchr2(b'*', b'/', &text[at..]) else { return text.len() };
        at += next;
        match (text[at], text.get(at + 1)) {
            (b'*', Some(b'/')) => (depth, at) = (depth - 1, at + 2),
            (b'/', Some(b'*')) => (depth, at) = (depth + 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verb(text: &str) -> Verb {
        scan(text.as_bytes()).verb
    }

    fn named(text: &str) -> Option<String> {
        match verb(text) {
            Verb::Deallocate(range) => Some(format!("-{}", &text[range])),
            Verb::Execute(range) => Some(format!("+{}", &text[range])),
            _ => None,
        }
    }

    #[test]
    fn deallocate_in_all_its_spellings() {
        for text in ["DEALLOCATE ALL", " deallocate prepare all ; ", "/* a /* b */ */ Deallocate -- x\n ALL;"] {
            assert_eq!(verb(text), Verb::DeallocateAll, "{text}");
        }
        for text in ["DEALLOCATE ALL; SELECT 1", "select 1; deallocate prepare all", "; discard all", "/* x */ discard all"] {
            assert_eq!(verb(text), Verb::ForgetsAll, "{text}");
        }
        assert_eq!(named("DEALLOCATE s0"), Some("-s0".into()));
        assert_eq!(named("deallocate prepare \"S\"\"0\";"), Some("-\"S\"\"0\"".into()));
        assert_eq!(named("DEALLOCATE PREPARE"), Some("-PREPARE".into()));
    }

    #[test]
    fn execute_also_behind_explain() {
        assert_eq!(named("EXECUTE s5(1, NULL)"), Some("+s5".into()));
        assert_eq!(named("EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE s5(NULL,NULL)"), Some("+s5".into()));
        assert_eq!(named("explain analyze verbose execute s5"), Some("+s5".into()));
        assert_eq!(named("explain select 'execute s5'"), None);
    }

    #[test]
    fn databases_that_must_be_empty() {
        let empties = |text: &str| match verb(text) {
            Verb::EmptiesDatabase(name) => Some(String::from_utf8_lossy(&name).into_owned()),
            _ => None,
        };
        assert_eq!(empties("DROP DATABASE IF EXISTS \"prisma_Shadow\" WITH (FORCE)"), Some("prisma_Shadow".into()));
        assert_eq!(empties("drop database Foo"), Some("foo".into()));
        assert_eq!(empties("create database a with owner = x template = b"), Some("b".into()));
        assert_eq!(empties("create database a template b"), Some("b".into()));
        assert_eq!(empties("alter database a rename to b"), Some("a".into()));
        assert_eq!(empties("drop table database"), None);
    }

    #[test]
    fn state_is_seen_where_it_is_made() {
        let cases = [
            ("select 1", Leaves::NOTHING),
            ("SELECT count(*) FROM t WHERE a IN (1,2)", Leaves::NOTHING),
            ("select 1; set work_mem = '1MB'", Leaves::SETTINGS),
            ("RESET ALL", Leaves::SETTINGS),
            ("select pg_catalog.Set_Config ('a','b',false)", Leaves::SETTINGS),
            ("select pg_advisory_lock(72707369)", Leaves::LOCKS),
            ("select pg_advisory_xact_lock(1)", Leaves::NOTHING),
            ("prepare p as select 1", Leaves::STATEMENTS),
            ("create TEMP table t(a int)", Leaves::TEMP),
            ("create table pg_temp.t(a int)", Leaves::TEMP),
            ("select 1 into temp t", Leaves::TEMP),
            ("listen x", Leaves::LISTEN),
            ("declare c cursor with hold for select 1", Leaves::CURSORS),
            ("declare c cursor for select 1", Leaves::NOTHING),
            ("select nextval('s')", Leaves::SEQUENCES),
            ("do $$ begin end $$", Leaves::ANYTHING),
            ("(select pg_advisory_lock(1))", Leaves::LOCKS),
            ("select \"pg_advisory_lock\" (1)", Leaves::LOCKS),
            ("; create temp table t(a int)", Leaves::TEMP),
            ("select 1; /* ; */ create temp table t(a int)", Leaves::TEMP),
            ("select ';' into temp t", Leaves::TEMP),
            ("select 1; -- it's ;\ndeclare c cursor with hold for select 1", Leaves::CURSORS),
            ("with a as (select 1) select * into temp t from a", Leaves::TEMP),
            ("with a as (select 1) insert into t select * from a", Leaves::NOTHING),
            ("explain analyze create temporary table t as select 1", Leaves::TEMP),
            ("set search_path to pg_temp", Leaves::SETTINGS | Leaves::TEMP),
        ];
        for (text, expected) in cases {
            assert_eq!(scan(text.as_bytes()).leaves, expected, "{text}");
        }
    }

    #[test]
    fn identifiers_fold_and_unquote() {
        assert_eq!(identifier(b"S0"), b"s0");
        assert_eq!(identifier(b"\"S\"\"0\""), b"S\"0");
    }

    proptest! {
        #[test]
        fn any_text_is_scanned_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&text);
        }

        #[test]
        fn text_made_of_sharp_pieces_too(pieces in proptest::collection::vec(
            prop_oneof!["/\\*", "\\*/", "--", "\"", "\"\"", ";", "\\(", "\\)", "deallocate ", "explain ", "execute ", "drop database ", " ", "\n", "x"], 0..12))
        {
            let _ = scan(pieces.concat().as_bytes());
        }
    }
}
