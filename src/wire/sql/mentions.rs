//! Names of prepared statements in a text of several statements.
//!
//! The scan takes every semicolon for the end of a statement, and so may see names inside of literals. What is to be
//! written differently has to be found exactly; that walk, over tokens, is for the texts where the scan saw something.

use std::ops::Range;

use super::verb::{self, Verb};
use super::words::{Words, is_word};

/// A statement about a prepared statement; the range is the name as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mention {
    Prepare(Range<usize>),
    /// `EXECUTE name`, `EXPLAIN … EXECUTE name`.
    Execute(Range<usize>),
    Deallocate(Range<usize>),
    /// `DEALLOCATE ALL`, `DISCARD ALL`.
    All,
}

/// How a backslash in a plain literal reads (`standard_conforming_strings`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backslash {
    IsItself,
    Escapes,
}

/// Statements of the text that prepare, run or forget one, in order.
pub fn mentions(text: &[u8], backslash: Backslash) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut lexer = Lexer { text, at: 0, backslash };
    while lexer.at < text.len() {
        let mut words = Words { text, at: lexer.at };
        found.extend(mention(&mut words));
        lexer.at = words.at;
        lexer.skip_statement();
    }
    found
}

/// What a statement mentions, by its first words.
fn mention(words: &mut Words<'_>) -> Option<Mention> {
    let text = words.text;
    let is = |word: &Range<usize>, keyword: &[u8]| text[word.clone()].eq_ignore_ascii_case(keyword);
    let verb = words.next_word()?;
    if is(&verb, b"execute") {
        words.next_word().map(Mention::Execute)
    } else if is(&verb, b"explain") {
        match verb::explain(words) {
            Verb::Execute(name) => Some(Mention::Execute(name)),
            _ => None,
        }
    } else if is(&verb, b"deallocate") {
        verb::deallocated(words).map(|name| if is(&name, b"all") { Mention::All } else { Mention::Deallocate(name) })
    } else if is(&verb, b"discard") {
        words.next_word().filter(|what| is(what, b"all")).map(|_| Mention::All)
    } else if is(&verb, b"prepare") {
        let name = words.next_word()?;
        // PREPARE TRANSACTION names none.
        let next = words.peek();
        (next == Some(b'(') || words.next_word().is_some_and(|word| is(&word, b"as"))).then_some(Mention::Prepare(name))
    } else {
        None
    }
}

/// Tokens, as far as it takes to know which semicolon ends a statement (PostgreSQL's `scan.l`).
struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    backslash: Backslash,
}

impl Lexer<'_> {
    /// To behind the next semicolon that is one.
    fn skip_statement(&mut self) {
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b';' => {
                    self.at += 1;
                    return;
                }
                b'\'' => self.skip_literal(self.backslash),
                b'"' => self.skip_to_behind(b"\"", 1),
                b'$' => self.skip_dollar(),
                b'-' if self.text[self.at..].starts_with(b"--") => self.skip_line(),
                b'/' if self.text[self.at..].starts_with(b"/*") => self.skip_comment(),
                byte if byte.is_ascii_digit() => self.skip_while(|b| b.is_ascii_alphanumeric() || b == b'_'),
                byte if is_word(byte) => self.skip_word(),
                _ => self.at += 1,
            }
        }
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        self.at += self.text[self.at..].iter().take_while(|b| wanted(**b)).count();
    }

    /// An identifier or keyword, or the letter of an `E'…'` with its literal.
    fn skip_word(&mut self) {
        let start = self.at;
        self.skip_while(is_word);
        if self.text[start..self.at].eq_ignore_ascii_case(b"e") && self.text.get(self.at) == Some(&b'\'') {
            self.skip_literal(Backslash::Escapes);
        }
    }

    /// Two quotes in a row end one and begin another: the same to us.
    fn skip_literal(&mut self, backslash: Backslash) {
        self.at += 1;
        while let Some(&byte) = self.text.get(self.at) {
            self.at += if byte == b'\\' && backslash == Backslash::Escapes { 2 } else { 1 };
            if byte == b'\'' {
                return;
            }
        }
        self.at = self.text.len();
    }

    /// `$tag$ … $tag$`, or a parameter.
    fn skip_dollar(&mut self) {
        let rest = &self.text[self.at + 1..];
        let tag = rest.iter().take_while(|b| is_word(**b) && **b != b'$').count();
        let opens = rest.get(tag) == Some(&b'$') && !rest[0].is_ascii_digit();
        match opens {
            true => self.skip_to_behind(&self.text[self.at..self.at + tag + 2], tag + 2),
            false => self.at += 1 + tag,
        }
    }

    /// To behind the next `end` that follows the first `opening` bytes.
    fn skip_to_behind(&mut self, end: &[u8], opening: usize) {
        let from = self.at + opening;
        self.at = memchr::memmem::find(&self.text[from..], end).map_or(self.text.len(), |length| from + length + end.len());
    }

    fn skip_line(&mut self) {
        self.skip_while(|b| b != b'\n' && b != b'\r');
    }

    fn skip_comment(&mut self) {
        let mut words = Words { text: self.text, at: self.at };
        words.skip_blank();
        self.at = words.at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> String {
        let shown = mentions(text.as_bytes(), Backslash::IsItself).into_iter().map(|mention| match mention {
            Mention::Prepare(name) => format!("prepare {}", &text[name]),
            Mention::Execute(name) => format!("execute {}", &text[name]),
            Mention::Deallocate(name) => format!("deallocate {}", &text[name]),
            Mention::All => "all".into(),
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn every_statement_is_looked_at() {
        for (text, expected) in [
            ("begin; DEALLOCATE t; commit", "deallocate t"),
            (
                "deallocate prepare \"T x\";execute b(1, ';');; explain (analyze) execute c",
                "deallocate \"T x\", execute b, execute c",
            ),
            ("prepare a as select 1; prepare b (int) as select $1; execute a", "prepare a, prepare b, execute a"),
            ("select 1; deallocate all; discard all; discard temp; deallocate \"all\"", "all, all, deallocate \"all\""),
            ("prepare transaction 'x'; prepare", ""),
            ("/* a */ -- b\n ; /* ; execute x; /* */ ; */ execute y", "execute y"),
            (";;execute a", "execute a"),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_quoted_is_no_statement() {
        for text in [
            "select '; execute a; '",
            "select ';'';execute a'",
            "select e'\\'; execute a'",
            "select E'\\\\', '; execute a'",
            "select \"; execute a\"",
            "select \"\"\"; execute a\"",
            "do $$ begin; execute a; end $$",
            "do $x$ begin; $$; execute a; $y$ end $x$",
            "select a$b$; create trigger t before insert on x execute function f()",
            "select $1; select 2 -- ; execute a",
            "select /* ; execute a; */ 1",
            "select 'open; execute a",
            "select $q$open; execute a",
        ] {
            assert_eq!(found(text), "", "{text}");
        }
        assert_eq!(found("select '\\'; execute a"), "execute a");
        assert_eq!(mentions(b"select '\\'; execute a'", Backslash::Escapes), []);
        assert_eq!(found("select $1; execute a"), "execute a");
        assert_eq!(found("select x$y$; execute a; select x$y$"), "execute a");
    }

    proptest! {
        #[test]
        fn any_text_is_walked_to_its_end(pieces in proptest::collection::vec(
            prop_oneof!["/\\*", "\\*/", "--", "\"", "'", "e'", "\\\\", "\\$", "\\$a\\$", ";", "\\(", "deallocate ", "explain ", "execute ", "prepare ", " ", "\n", "x"], 0..16))
        {
            let text = pieces.concat();
            for backslash in [Backslash::IsItself, Backslash::Escapes] {
                for mention in mentions(text.as_bytes(), backslash) {
                    if let Mention::Prepare(name) | Mention::Execute(name) | Mention::Deallocate(name) = mention {
                        prop_assert!(text.get(name).is_some_and(|n| !n.is_empty()));
                    }
                }
            }
        }
    }
}
