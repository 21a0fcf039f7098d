//! Statements for people, without what they should not read.

use super::pieces::{dollar_length, literal_length};
use super::words::{comment_length, has_word, is_word, quoted_length};

/// Longest text in a finding of the lint or a row of the console, in bytes.
const BRIEF_BYTES_MAX: usize = 200;
/// Longest text in a line of the log, in bytes.
const LOGGED_BYTES_MAX: usize = 1024;
/// Statements with this word are about secrets: `ALTER ROLE … PASSWORD`, `CREATE USER MAPPING … OPTIONS (password …)`.
const SECRET_WORD: &[u8] = b"password";
/// In the place of such a statement.
const SECRET_SHOWN: &str = "(not shown: it is about a password)";

/// A text for the log: without its literals, and nothing at all of one that is about a password.
pub fn for_log(text: &[u8]) -> String {
    if has_word(text, SECRET_WORD) { SECRET_SHOWN.to_owned() } else { shown(text, LOGGED_BYTES_MAX) }
}

/// A statement for people who know the rest of it.
pub fn in_brief(statement: &[u8]) -> String {
    shown(statement, BRIEF_BYTES_MAX)
}

/// The statement for people: white space and comments as one space, literals and numbers as `?`. What comes after a
/// literal of which the end is unclear is left out.
fn shown(statement: &[u8], bytes_max: usize) -> String {
    let mut out = Vec::with_capacity(bytes_max);
    let mut at = 0;
    while let Some(&byte) = statement.get(at).filter(|_| out.len() <= bytes_max) {
        let rest = &statement[at..];
        at += match byte {
            b'\'' => match literal_length(rest, at.checked_sub(1).map(|before| statement[before])) {
                Some(length) => put(&mut out, b"?", length),
                None => put(&mut out, "…".as_bytes(), rest.len()),
            },
            b'$' => match dollar_length(rest) {
                0 => put(&mut out, "…".as_bytes(), rest.len()),
                1 => put(&mut out, b"$", 1),
                length => put(&mut out, b"?", length),
            },
            b'-' if rest.starts_with(b"--") => blank(&mut out, memchr::memchr(b'\n', rest).unwrap_or(rest.len())),
            b'/' if rest.starts_with(b"/*") => blank(&mut out, comment_length(rest)),
            b'"' => {
                let length = quoted_length(rest).unwrap_or(rest.len());
                put(&mut out, &rest[..length], length)
            }
            b if b.is_ascii_digit() && out.last() != Some(&b'$') => {
                put(&mut out, b"?", rest.iter().take_while(|b| is_word(**b) || **b == b'.').count())
            }
            b if is_word(b) => {
                let length = rest.iter().take_while(|b| is_word(**b)).count();
                put(&mut out, &rest[..length], length)
            }
            b if b.is_ascii_whitespace() || b == 0 => blank(&mut out, 1),
            b => put(&mut out, &[b], 1),
        };
    }
    within_bounds(String::from_utf8_lossy(out.trim_ascii()).into_owned(), bytes_max)
}

fn put(out: &mut Vec<u8>, bytes: &[u8], taken: usize) -> usize {
    out.extend_from_slice(&bytes[..bytes.len().min(LOGGED_BYTES_MAX + 1)]);
    taken
}

fn blank(out: &mut Vec<u8>, taken: usize) -> usize {
    if out.last().is_some_and(|b| *b != b' ') {
        out.push(b' ');
    }
    taken
}

fn within_bounds(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(head(&text, bytes_max - "…".len()).len());
        text.push('…');
    }
    text
}

/// As many whole characters as there are in the first `bytes_max` bytes.
pub fn head(text: &str, bytes_max: usize) -> &str {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    &text[..ends.take_while(|end| *end <= bytes_max).last().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_statements_about_passwords_nothing_is_logged() {
        for text in [
            "ALTER ROLE shop PASSWORD 'hunter2'",
            "create user shop with encrypted password 'hunter2' login",
            "CREATE USER MAPPING FOR shop SERVER s OPTIONS (user 'u', password 'hunter2')",
            "SELECT 1; ALTER ROLE shop PASSWORD $a$hunter2",
        ] {
            assert_eq!(for_log(text.as_bytes()), SECRET_SHOWN, "{text}");
        }
        let long = format!("SELECT password_hash FROM users WHERE name = 'hunter2' AND {}", "a AND ".repeat(1000));
        let logged = for_log(long.as_bytes());
        assert!(logged.starts_with("SELECT password_hash FROM users WHERE name = ? AND a") && logged.len() <= LOGGED_BYTES_MAX);
    }

    #[test]
    fn what_is_shown_has_no_literals_and_is_bounded() {
        for (text, expected) in [
            ("SET  a\n=  'secret'", "SET a = ?"),
            ("SET a = E'se\\'cret' -- secret", "SET a = E?"),
            ("SELECT $t$secret$t$, $1, /* secret */ f2(1.5e3)", "SELECT ?, $1, f2(?)"),
            ("SET a = 'it\\'s secret", "SET a = …"),
            ("SET a = 'secret", "SET a = …"),
            ("SET a = $t$secret", "SET a = …"),
            ("SET \"A\" = 5000", "SET \"A\" = ?"),
        ] {
            let shown = shown(text.as_bytes(), 200);
            assert!(shown.starts_with(expected) && !shown.contains("secret"), "{text}: {shown}");
        }
        for long in [format!("LISTEN {}", "ä".repeat(400)), format!("SET {}", "a ".repeat(400))] {
            let shown = shown(long.as_bytes(), 200);
            assert!(shown.len() <= 200 && shown.ends_with('…'), "{shown}");
        }
        assert_eq!(shown(b"LISTEN \xff\0", 200), "LISTEN \u{fffd}");
    }
}
