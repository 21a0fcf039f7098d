//! The lexer, as far as there is one: words, comments, semicolons.

use std::ops::Range;

/// Words one after the other: identifiers, quoted identifiers, keywords.
pub(super) struct Words<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

impl Words<'_> {
    /// The next word if nothing but white space and comments stands before it.
    pub(super) fn next_word(&mut self) -> Option<Range<usize>> {
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

    /// Whether the next word is this keyword; it is taken either way.
    pub(super) fn next_is(&mut self, keyword: &[u8]) -> bool {
        self.next_word().is_some_and(|word| self.text[word].eq_ignore_ascii_case(keyword))
    }

    /// The inside of the plain string literal that comes next.
    pub(super) fn next_literal(&mut self) -> Option<Range<usize>> {
        self.skip_blank();
        let start = self.at + 1;
        let rest = self.text.get(self.at..)?.strip_prefix(b"'")?;
        let length = memchr::memchr(b'\'', rest)?;
        self.at = start + length + 1;
        Some(start..start + length)
    }

    /// The first byte that is neither white space nor of a comment.
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.skip_blank();
        self.text.get(self.at).copied()
    }

    pub(super) fn at_end(&mut self) -> bool {
        self.skip_blank();
        self.text[self.at..].iter().all(|b| matches!(b, b';' | b'\0') || b.is_ascii_whitespace())
    }

    /// Over a dot, if there is one.
    pub(super) fn skip_dot(&mut self) -> bool {
        self.skip_blank();
        let is_dot = self.text.get(self.at) == Some(&b'.');
        self.at += usize::from(is_dot);
        is_dot
    }

    pub(super) fn skip_equals(&mut self) {
        self.skip_blank();
        self.at += usize::from(self.text.get(self.at) == Some(&b'='));
    }

    /// Over one parenthesis without nesting: EXPLAIN's options.
    pub(super) fn skip_parenthesis(&mut self) {
        self.skip_blank();
        if self.text.get(self.at) == Some(&b'(')
            && let Some(close) = memchr::memchr(b')', &self.text[self.at..])
        {
            self.at += close + 1;
        }
    }

    pub(super) fn skip_blank(&mut self) {
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

/// Starts of statements, split at every semicolon, quoted or not.
pub(super) struct Statements<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
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

/// Looked for by its first letter: four times as fast as a walk over all words.
pub(in crate::wire) fn has_word(text: &[u8], wanted: &[u8]) -> bool {
    let Some(first) = wanted.first() else { return false };
    let ends = |byte: Option<&u8>| byte.is_none_or(|b| !is_word(*b));
    memchr::memchr2_iter(first.to_ascii_lowercase(), first.to_ascii_uppercase(), text).any(|at| {
        let (before, rest) = text.split_at(at);
        rest.get(..wanted.len()).is_some_and(|word| word.eq_ignore_ascii_case(wanted))
            && ends(before.last())
            && ends(rest.get(wanted.len()))
    })
}

pub(super) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

pub(super) fn quoted_length(text: &[u8]) -> Option<usize> {
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
pub(super) fn comment_length(text: &[u8]) -> usize {
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
