//! What a text does that goes wrong behind a transaction-mode pooler which neither tracks nor cleans sessions, as the
//! hosted ones: for the lint.
//!
//! Statements outside literals only: what a DO block or a function sets in passing is not seen, but for the functions of
//! [`calls`] that are called in a block's own text.

use super::calls;
use super::effects::Effects;
use super::leaves::Leaves;
use super::pieces::{Pieces, Split};
use super::shown::in_brief;
use super::words::{Words, has_word, is_word};

/// What would go wrong, in the order people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hazard {
    /// A session's setting: SET or `set_config(…, false)`.
    Setting,
    /// A session-level advisory lock.
    Lock,
    /// A temporary table that outlives its transaction.
    TempTable,
    Listen,
    /// A cursor WITH HOLD.
    HeldCursor,
    /// PREPARE in SQL.
    Prepare,
    /// A prepared statement of the protocol with a name.
    NamedStatement,
    /// Silence for seconds inside a transaction.
    IdleTransaction,
    /// More of them at once than may be.
    Clients,
}

/// A hazard and the statement it is in, as far as people are shown it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Remark {
    pub hazard: Hazard,
    /// Without literals and comments, so that it holds no secret, and texts that differ in values only are one.
    pub statement: Box<str>,
}

impl Hazard {
    pub const ALL: [Self; 9] = [
        Self::Setting,
        Self::Lock,
        Self::TempTable,
        Self::Listen,
        Self::HeldCursor,
        Self::Prepare,
        Self::NamedStatement,
        Self::IdleTransaction,
        Self::Clients,
    ];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Setting => "a setting of the session",
            Self::Lock => "an advisory lock of the session",
            Self::TempTable => "a temporary table that outlives its transaction",
            Self::Listen => "LISTEN",
            Self::HeldCursor => "a cursor WITH HOLD",
            Self::Prepare => "PREPARE",
            Self::NamedStatement => "a prepared statement with a name",
            Self::IdleTransaction => "a transaction left idle for seconds",
            Self::Clients => "too many clients at once",
        }
    }

    /// What happens on a hosted transaction-mode port, in one sentence.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Setting => "The next transaction may run on another server connection, without it, and other clients get it.",
            Self::Lock => "The lock stays with the server connection, where this client cannot be sure to release it.",
            Self::TempTable => {
                "The next transaction may run on another server connection, where the table is not; other clients find it."
            }
            Self::Listen => "Notifications come to the server connection, not to this client, and are dropped.",
            Self::HeldCursor => "The next transaction may run on another server connection, where the cursor is not.",
            Self::Prepare => {
                "The statement is on one server connection, and the next transaction may run on another (26000); a second PREPARE may meet it there (42P05)."
            }
            Self::NamedStatement => {
                "The name is on one server connection: the next transaction may not find it (26000), and another client may find it taken (42P05)."
            }
            Self::IdleTransaction => "It keeps one of the pool's few server connections from everybody else.",
            Self::Clients => "On the smallest instance further ones are refused (EMAXCONN, EMAXCONNSESSION).",
        }
    }

    /// What to write instead, in one sentence.
    pub const fn fix(self) -> &'static str {
        match self {
            Self::Setting => {
                "Use SET LOCAL or set_config(…, true) inside a transaction, ALTER ROLE … SET for good, or port 5432."
            }
            Self::Lock => {
                "Use pg_advisory_xact_lock inside a transaction, or port 5432, where migrations belong (Prisma: DIRECT_URL)."
            }
            Self::TempTable => "Create it inside a transaction with ON COMMIT DROP, or use port 5432.",
            Self::Listen => "Listen on port 5432; NOTIFY works on both.",
            Self::HeldCursor => "Read the cursor inside one transaction, without WITH HOLD, or use port 5432.",
            Self::Prepare => "Send parameters by the protocol instead, as all drivers do, or use port 5432.",
            Self::NamedStatement => {
                "Switch names off: ?pgbouncer=true (Prisma up to 6), prepare: false (postgres.js, Drizzle), prepare_threshold=None (psycopg), statement_cache_size=0 (asyncpg), prepareThreshold=0 (JDBC)."
            }
            Self::IdleTransaction => "Do the slow work before BEGIN or after COMMIT.",
            Self::Clients => {
                "Let each process keep fewer connections (connection_limit, max), and use port 6543, where many clients share few servers."
            }
        }
    }
}

/// The remarks on a text, where `effects` is what its scan came to.
pub fn remarks(text: &[u8], effects: &Effects) -> Vec<Remark> {
    let mut found = Vec::new();
    if !effects.leaves.has(Leaves::ASKABLE) && !may_set(text) {
        return found;
    }
    let mut pieces = Pieces { text, at: 0 };
    loop {
        let from = pieces.at;
        let (statement, is_last) = match pieces.next_piece() {
            Split::Statement(range) => (&text[range], false),
            Split::Unclear => (&text[from..], true),
            Split::End => return found,
        };
        found.extend(hazards(statement).into_iter().map(|hazard| Remark::new(hazard, statement)));
        if is_last {
            return found;
        }
    }
}

impl Remark {
    pub fn new(hazard: Hazard, statement: &[u8]) -> Self {
        Self { hazard, statement: in_brief(statement).into() }
    }
}

/// Settings that the server reports have no effect that the scan would tell of.
fn may_set(text: &[u8]) -> bool {
    let is_one =
        memchr::memchr(b';', text).is_none_or(|at| text[at..].iter().all(|b| matches!(b, b';') || b.is_ascii_whitespace()));
    !is_one || Words { text, at: 0 }.next_is(b"set")
}

fn hazards(statement: &[u8]) -> Vec<Hazard> {
    let called = calls::effects(statement).leaves;
    let of_calls = [(Leaves::SETTINGS, Hazard::Setting), (Leaves::LOCKS, Hazard::Lock)];
    let calls = of_calls.into_iter().filter(|(kind, _)| called.has(*kind)).map(|(_, hazard)| hazard);
    let mut found: Vec<_> = calls.collect();
    found.extend(by_verb(statement));
    found
}

fn by_verb(statement: &[u8]) -> Option<Hazard> {
    let mut words = Words { text: statement, at: 0 };
    let verb = statement[words.next_word()?].to_ascii_lowercase();
    match &*verb {
        b"set" => sets_session(&mut words).then_some(Hazard::Setting),
        b"listen" => Some(Hazard::Listen),
        b"prepare" => (!words.next_is(b"transaction")).then_some(Hazard::Prepare),
        b"declare" => (has_word(statement, b"hold") && !has_word(statement, b"without")).then_some(Hazard::HeldCursor),
        b"create" => (makes_temporary(&mut words) && !is_dropped(statement)).then_some(Hazard::TempTable),
        b"select" | b"with" => selects_into_temporary(statement).then_some(Hazard::TempTable),
        _ => None,
    }
}

/// `SET [SESSION] …`, and not what ends with the transaction.
fn sets_session(words: &mut Words<'_>) -> bool {
    let Some(word) = words.next_word() else { return true };
    ![&b"local"[..], b"transaction", b"constraints"].iter().any(|w| words.text[word.clone()].eq_ignore_ascii_case(w))
}

/// `CREATE [OR REPLACE] [LOCAL | GLOBAL] TEMPORARY …`, or something in pg_temp.
fn makes_temporary(words: &mut Words<'_>) -> bool {
    while let Some(word) = words.next_word() {
        match &*words.text[word].to_ascii_lowercase() {
            b"or" | b"replace" | b"local" | b"global" => {}
            word => return is_temporary(word) || has_word(words.text, b"pg_temp"),
        }
    }
    false
}

fn selects_into_temporary(statement: &[u8]) -> bool {
    memchr::memchr2_iter(b'i', b'I', statement).any(|at| {
        let mut words = Words { text: statement, at };
        let is_word_start = at == 0 || !is_word(statement[at - 1]);
        is_word_start && words.next_is(b"into") && makes_temporary(&mut words)
    })
}

fn is_temporary(word: &[u8]) -> bool {
    matches!(word, b"temp" | b"temporary")
}

/// `ON COMMIT DROP`.
fn is_dropped(statement: &[u8]) -> bool {
    memchr::memchr2_iter(b'c', b'C', statement).any(|at| {
        let mut words = Words { text: statement, at };
        words.next_is(b"commit") && words.next_is(b"drop")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sql::scan;

    fn found(text: &str) -> Vec<Hazard> {
        remarks(text.as_bytes(), &scan(text.as_bytes()).effects).into_iter().map(|r| r.hazard).collect()
    }

    #[test]
    fn what_would_break_is_found() {
        for (text, hazard) in [
            ("SET statement_timeout = 5000", Hazard::Setting),
            ("set session TimeZone to 'UTC'", Hazard::Setting),
            ("SET TIME ZONE 'UTC'", Hazard::Setting),
            ("SET ROLE shop", Hazard::Setting),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Hazard::Setting),
            ("SELECT set_config('app.user', $1, false)", Hazard::Setting),
            ("SELECT 1; SET application_name = 'x'", Hazard::Setting),
            ("SELECT pg_advisory_lock(72707369)", Hazard::Lock),
            ("SELECT pg_try_advisory_lock_shared(1, 2)", Hazard::Lock),
            ("DO $$ BEGIN PERFORM pg_advisory_lock(1); END $$", Hazard::Lock),
            ("CREATE TEMP TABLE t (a int)", Hazard::TempTable),
            ("CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1", Hazard::TempTable),
            ("create table pg_temp.t (a int)", Hazard::TempTable),
            ("CREATE TEMP TABLE t (a int) ON COMMIT DELETE ROWS", Hazard::TempTable),
            ("SELECT 1 AS a INTO TEMP t", Hazard::TempTable),
            ("LISTEN jobs", Hazard::Listen),
            ("/* q */ DECLARE c CURSOR WITH HOLD FOR SELECT 1", Hazard::HeldCursor),
            ("PREPARE p AS SELECT 1", Hazard::Prepare),
        ] {
            assert_eq!(found(text), [hazard], "{text}");
        }
        assert_eq!(found("LISTEN a; SELECT 1; SET b = 1"), [Hazard::Listen, Hazard::Setting]);
    }

    #[test]
    fn what_ends_with_its_transaction_is_not() {
        for text in [
            "SET LOCAL statement_timeout = 5000",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET CONSTRAINTS ALL DEFERRED",
            "SELECT set_config('app.user', $1, true)",
            "SELECT pg_advisory_xact_lock(1)",
            "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
            "CREATE TABLE t (temp int, hold int)",
            "INSERT INTO temp VALUES (1)",
            "SELECT 1 AS a INTO t",
            "UPDATE t SET a = 1",
            "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1",
            "PREPARE TRANSACTION 'x'",
            "DO $$ BEGIN CREATE TABLE t (a int); END $$",
            "NOTIFY jobs; UNLISTEN jobs; RESET ALL; DEALLOCATE ALL",
            "SELECT 'SET a = 1; LISTEN b'",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }
}
