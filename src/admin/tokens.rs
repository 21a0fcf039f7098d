//! Words of a console's statement: names, numbers, literals, and little else.

use std::fmt;

use crate::error::{PgError, SqlState};

/// Statements in one message.
const STATEMENTS_MAX: usize = 20;
/// Words of one statement.
const TOKENS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// As written, quotation marks taken off.
    Word(String),
    Symbol(char),
}

impl Token {
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Symbol(_) => None,
        }
    }

    pub(super) fn is(&self, keyword: &str) -> bool {
        self.word().is_some_and(|word| word.eq_ignore_ascii_case(keyword))
    }
}

/// As written, but for the quotation marks.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Symbol(symbol) => symbol.fmt(f),
        }
    }
}

/// The statements of a text, those without a word left out.
///
/// # Errors
/// 42601 for what ends in the middle of something, 42P02 for parameters, 54000 for too much.
pub(super) fn statements(text: &str) -> Result<Vec<Vec<Token>>, PgError> {
    let mut found = Vec::new();
    let mut current = Vec::new();
    let mut rest = text;
    while let Some((piece, after)) = next(rest)? {
        rest = after;
        match piece {
            Some(Token::Symbol(';')) if current.is_empty() => {}
            Some(Token::Symbol(';')) => found.push(std::mem::take(&mut current)),
            Some(token) => current.push(token),
            None => {}
        }
        if current.len() > TOKENS_MAX || found.len() >= STATEMENTS_MAX {
            return Err(PgError::error(SqlState::PROGRAM_LIMIT_EXCEEDED, "this is too long for the console")
                .with_hint(format!("Send at most {STATEMENTS_MAX} statements at once.")));
        }
    }
    if !current.is_empty() {
        found.push(current);
    }
    Ok(found)
}

/// The first token, or `None` for what means nothing, and what follows it.
fn next(text: &str) -> Result<Option<(Option<Token>, &str)>, PgError> {
    let Some(first) = text.chars().next() else { return Ok(None) };
    let rest = &text[first.len_utf8()..];
    Ok(Some(match first {
        c if c.is_whitespace() => (None, rest),
        '-' if rest.starts_with('-') => (None, rest.split_once('\n').map_or("", |(_, after)| after)),
        '/' if rest.starts_with('*') => (None, rest[1..].split_once("*/").ok_or_else(|| unterminated("/* comment"))?.1),
        '"' | '\'' => {
            let (word, after) = quoted(rest, first)?;
            (Some(Token::Word(word)), after)
        }
        '$' if rest.starts_with(|c: char| c.is_ascii_digit()) => return Err(parameter(text)),
        c if is_word(c) => {
            let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
            (Some(Token::Word(text[..end].to_owned())), &text[end..])
        }
        other => (Some(Token::Symbol(other)), rest),
    }))
}

/// Up to the closing mark; two of them are one.
fn quoted(text: &str, mark: char) -> Result<(String, &str), PgError> {
    let mut word = String::new();
    let mut rest = text;
    loop {
        let what = if mark == '"' { "quoted identifier" } else { "quoted string" };
        let (piece, after) = rest.split_once(mark).ok_or_else(|| unterminated(what))?;
        word.push_str(piece);
        match after.strip_prefix(mark) {
            Some(after) => {
                word.push(mark);
                rest = after;
            }
            None => return Ok((word, after)),
        }
    }
}

/// Database and project names have more than SQL allows without quotation marks.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "_.-+:%".contains(c)
}

fn unterminated(what: &str) -> PgError {
    PgError::error(SqlState::SYNTAX_ERROR, format!("unterminated {what}"))
}

fn parameter(text: &str) -> PgError {
    let end = text[1..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |end| end + 1);
    PgError::error(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {}", &text[..end]))
        .with_hint("The console takes no parameters: write the value itself.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        let show = |token: &Token| match token {
            Token::Word(word) => word.clone(),
            Token::Symbol(symbol) => format!("<{symbol}>"),
        };
        statements(text).unwrap().iter().map(|s| s.iter().map(show).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn statements_are_split_and_comments_left_out() {
        assert_eq!(words("SHOW pools; -- and\n/* now; */ show STATS ;; "), ["SHOW pools", "show STATS"]);
        assert_eq!(words("PAUSE \"a \"\"b\"; PAUSE 'it''s'; set a='b;'"), ["PAUSE a \"b", "PAUSE it's", "set a <=> b;"]);
        assert_eq!(words("KILL my-db.ref-1;SELECT 1"), ["KILL my-db.ref-1", "SELECT 1"]);
        assert!(words(" ; -- ping").is_empty());
    }

    #[test]
    fn what_does_not_end_and_what_has_no_end_is_refused() {
        for (text, code) in [
            ("PAUSE \"a", SqlState::SYNTAX_ERROR),
            ("PAUSE 'a''", SqlState::SYNTAX_ERROR),
            ("/* PAUSE", SqlState::SYNTAX_ERROR),
            ("KILL_CLIENT $1", SqlState::UNDEFINED_PARAMETER),
        ] {
            assert_eq!(statements(text).unwrap_err().code, code, "{text}");
        }
        assert_eq!(statements("KILL_CLIENT $12;").unwrap_err().message, "there is no parameter $12");
        for text in ["a;".repeat(STATEMENTS_MAX + 1), "a ".repeat(TOKENS_MAX + 1)] {
            assert_eq!(statements(&text).unwrap_err().code, SqlState::PROGRAM_LIMIT_EXCEEDED);
        }
    }

    proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = statements(&text);
        }
    }
}
