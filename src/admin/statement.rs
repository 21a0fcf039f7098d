//! What a client of the console asks for.

use super::commands::{self, Argument, Command};
use super::setting;
use super::tokens::{Token, statements};
use super::views::{self, View};
use crate::error::{PgError, SqlState};

#[derive(Clone, Debug)]
pub(super) enum Statement {
    /// With the most rows that are wanted.
    View(&'static View, Option<usize>),
    Help,
    Command(&'static Command, Argument),
    /// What drivers ask any server: the column's name, and its value.
    Constant(&'static str, &'static str),
    /// `SELECT 1`, by which pools of connections see whether one lives.
    One,
    /// What would change a session that has nothing to change: the command's tag.
    Ignored(&'static str),
    Begin(&'static str),
    End(&'static str),
}

/// Settings that drivers show or set when they connect; PgBouncer answers for the first five.
const CONSTANTS: [(&str, &str); 9] = [
    ("client_encoding", "UTF8"),
    ("default_transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("datestyle", "ISO"),
    ("timezone", "GMT"),
    ("transaction_isolation", "read committed"),
    ("server_encoding", "UTF8"),
    ("integer_datetimes", "on"),
    ("server_version", super::session::SERVER_VERSION),
];

/// Settings that drivers set and nobody asks for.
const IGNORED: [&str; 10] = [
    "application_name",
    "bytea_output",
    "client_min_messages",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "search_path",
    "statement_timeout",
    "transaction",
];

impl Statement {
    /// Every statement of a text.
    ///
    /// # Errors
    /// The first that is none, and then none of them is run.
    pub(super) fn parse(text: &str) -> Result<Vec<Self>, PgError> {
        statements(text)?.iter().map(|tokens| Self::read(tokens)).collect()
    }

    fn read(tokens: &[Token]) -> Result<Self, PgError> {
        let first = tokens[0].word().unwrap_or_default().to_ascii_uppercase();
        let rest = &tokens[1..];
        match first.as_str() {
            "SHOW" | "SELECT" => Self::show(tokens),
            "SET" => Self::set(rest),
            "RESET" if !matches!(rest, [Token::Word(name)] if setting::is_known(&name.to_ascii_lowercase())) => {
                Ok(Self::Ignored("RESET"))
            }
            "DISCARD" if is(rest, "ALL") => Ok(Self::Ignored("DISCARD ALL")),
            "DEALLOCATE" if is(rest, "ALL") => Ok(Self::Ignored("DEALLOCATE ALL")),
            "CLOSE" if is(rest, "ALL") => Ok(Self::Ignored("CLOSE CURSOR ALL")),
            "UNLISTEN" => Ok(Self::Ignored("UNLISTEN")),
            "BEGIN" => Ok(Self::Begin("BEGIN")),
            "START" if rest.first().is_some_and(|t| t.is("TRANSACTION")) => Ok(Self::Begin("START TRANSACTION")),
            "COMMIT" | "END" => Ok(Self::End("COMMIT")),
            "ROLLBACK" | "ABORT" => Ok(Self::End("ROLLBACK")),
            _ => match commands::named(&first) {
                Some(command) => Self::command(command, rest),
                None => Err(invalid(tokens)),
            },
        }
    }

    fn show(tokens: &[Token]) -> Result<Self, PgError> {
        let names: Option<Vec<String>> = tokens[1..].iter().map(|t| t.word().map(str::to_ascii_lowercase)).collect();
        // `SHOW TRANSACTION ISOLATION LEVEL` is SQL's way to say it.
        if let Some([name, limit, rows]) = names.as_deref()
            && limit == "limit"
            && let (Some(view), Ok(rows)) = (views::named(name), rows.parse())
        {
            return Ok(Self::View(view, Some(rows)));
        }
        let name = match names.as_deref() {
            Some([name]) => name.as_str(),
            Some([a, b, c]) if [a, b, c] == ["transaction", "isolation", "level"] => "transaction_isolation",
            _ => return Err(invalid(tokens)),
        };
        if let Some(view) = views::named(name) {
            return Ok(Self::View(view, None));
        }
        if let Some((name, value)) = CONSTANTS.iter().find(|(known, _)| *known == name) {
            return Ok(Self::Constant(name, value));
        }
        match name {
            "help" => Ok(Self::Help),
            "1" if tokens[0].is("SELECT") => Ok(Self::One),
            _ => Err(invalid(tokens)),
        }
    }

    fn set(rest: &[Token]) -> Result<Self, PgError> {
        let bare = if rest.first().is_some_and(|t| t.is("SESSION") || t.is("LOCAL")) { &rest[1..] } else { rest };
        let name = bare.first().and_then(Token::word).unwrap_or_default().to_ascii_lowercase();
        // `SET TIME ZONE …`, `SET NAMES …`, `SET SESSION CHARACTERISTICS AS TRANSACTION …`
        let is_sql = ["time", "names", "characteristics"].contains(&name.as_str());
        if is_sql || IGNORED.contains(&name.as_str()) || CONSTANTS.iter().any(|(known, _)| *known == name) {
            return Ok(Self::Ignored("SET"));
        }
        Self::command(&commands::SET, rest)
    }

    fn command(command: &'static Command, rest: &[Token]) -> Result<Self, PgError> {
        Ok(Self::Command(command, command.takes.read(command, rest)?))
    }
}

fn is(rest: &[Token], keyword: &str) -> bool {
    matches!(rest, [token] if token.is(keyword))
}

/// In PgBouncer's words.
fn invalid(tokens: &[Token]) -> PgError {
    let words = tokens.iter().map(ToString::to_string);
    let text: String = words.collect::<Vec<_>>().join(" ").chars().take(100).collect();
    PgError::error(SqlState::PROTOCOL_VIOLATION, format!("invalid command '{text}', use SHOW HELP;"))
        .with_hint("This is the console of the pooler, not a database: SHOW HELP lists what it answers.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Statement, PgError> {
        Statement::parse(text).map(|mut all| all.remove(0))
    }

    #[test]
    fn show_and_select_are_the_same_whatever_their_case() {
        for text in ["SHOW POOLS", "show pools;", "SELECT Pools", "select \"pools\" ;;"] {
            let Ok(Statement::View(view, None)) = read(text) else { panic!("{text}") };
            assert_eq!(view.name, "pools");
        }
        assert!(matches!(read("SHOW CLIENTS LIMIT 10"), Ok(Statement::View(_, Some(10)))));
        assert!(matches!(read("SHOW HELP"), Ok(Statement::Help)));
        assert!(matches!(read("SHOW TimeZone"), Ok(Statement::Constant("timezone", "GMT"))));
        assert!(matches!(read("SHOW TRANSACTION ISOLATION LEVEL"), Ok(Statement::Constant("transaction_isolation", _))));
        assert!(matches!(read("SELECT 1"), Ok(Statement::One)));
    }

    #[test]
    fn what_drivers_say_is_harmless() {
        for text in [
            "SET extra_float_digits = 3",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET client_encoding TO 'UTF8'",
            "SET TIME ZONE 'UTC'",
            "DISCARD ALL",
            "RESET ALL",
            "UNLISTEN *",
        ] {
            assert!(matches!(read(text), Ok(Statement::Ignored(_))), "{text}");
        }
        assert!(matches!(read("BEGIN ISOLATION LEVEL SERIALIZABLE"), Ok(Statement::Begin("BEGIN"))));
        assert!(matches!(read("START TRANSACTION READ ONLY"), Ok(Statement::Begin(_))));
        assert!(matches!(read("ABORT"), Ok(Statement::End("ROLLBACK"))));
        assert!(matches!(read("END"), Ok(Statement::End("COMMIT"))));
    }

    #[test]
    fn everything_else_is_refused_before_anything_is_run() {
        for (text, code) in [
            ("SHOW POOLZ", SqlState::PROTOCOL_VIOLATION),
            ("SHOW FDS", SqlState::PROTOCOL_VIOLATION),
            ("SHOW POOLS LIMIT ALL", SqlState::PROTOCOL_VIOLATION),
            ("SHOW POOLS, STATS", SqlState::PROTOCOL_VIOLATION),
            ("SELECT * FROM pools", SqlState::PROTOCOL_VIOLATION),
            ("DROP TABLE x", SqlState::PROTOCOL_VIOLATION),
            ("SHOW POOLS; DROP TABLE x", SqlState::PROTOCOL_VIOLATION),
            ("SET workers = 3", SqlState::CANT_CHANGE_RUNTIME_PARAM),
            ("SET LOCAL limits.pool_size = 3", SqlState::SYNTAX_ERROR),
            ("SET pool_sise = 3", SqlState::UNDEFINED_OBJECT),
            ("= 1", SqlState::PROTOCOL_VIOLATION),
        ] {
            assert_eq!(Statement::parse(text).expect_err(text).code, code, "{text}");
        }
    }
}
