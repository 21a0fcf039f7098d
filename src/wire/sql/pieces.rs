//! A text of several statements in its pieces, where it can be told for certain where each begins.

use std::ops::Range;

use super::words::{comment_length, is_word, quoted_length};

/// A text, cut at semicolons outside literals and comments.
pub(super) struct Pieces<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

/// The next piece of a text.
pub(super) enum Split {
    Statement(Range<usize>),
    /// A literal or comment has no end, so that it may as well have begun elsewhere.
    Unclear,
    End,
}

impl Pieces<'_> {
    pub(super) fn next_piece(&mut self) -> Split {
        let start = self.at;
        if self.text.get(start..).is_none_or(<[u8]>::is_empty) {
            return Split::End;
        }
        if memchr::memchr(b';', &self.text[start..]).is_none_or(|at| self.is_rest_blank(start + at + 1)) {
            // One statement, as nearly always: what is quoted in it does not matter.
            self.at = self.text.len();
            return Split::Statement(start..self.at);
        }
        while let Some(&byte) = self.text.get(self.at) {
            let rest = &self.text[self.at..];
            let length = match byte {
                b';' => {
                    self.at += 1;
                    return Split::Statement(start..self.at - 1);
                }
                b'\'' => literal_length(rest, self.text[..self.at].last().copied()),
                b'"' => quoted_length(rest),
                b'$' => Some(dollar_length(rest)).filter(|l| *l > 0),
                b'-' if rest.starts_with(b"--") => Some(memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1)),
                b'/' if rest.starts_with(b"/*") => Some(comment_length(rest)),
                b if is_word(b) => Some(rest.iter().take_while(|b| is_word(**b)).count()),
                _ => Some(1),
            };
            let Some(length) = length else { return Split::Unclear };
            self.at += length;
        }
        Split::Statement(start..self.text.len())
    }

    fn is_rest_blank(&self, from: usize) -> bool {
        self.text[from..].iter().all(|b| matches!(b, b';' | b'\0') || b.is_ascii_whitespace())
    }
}

/// A literal with its quotes. `E'…'` has escapes; without the E it depends on a setting, and a backslash before a quote
/// makes it unclear where the literal ends.
pub(super) fn literal_length(text: &[u8], before: Option<u8>) -> Option<usize> {
    let escapes = matches!(before, Some(b'e' | b'E'));
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'\'', b'\\', text.get(at..)?)?;
        match (text[at], text.get(at + 1)) {
            (b'\\', Some(b'\'')) if !escapes => return None,
            (b'\\', _) if escapes => at += 2,
            (b'\'', Some(b'\'')) => at += 2,
            (b'\'', _) => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// `$tag$ … $tag$`, or a parameter's dollar alone; 0 where the end is missing.
pub(super) fn dollar_length(text: &[u8]) -> usize {
    let tag = 1 + text[1..].iter().take_while(|b| is_word(**b) && **b != b'$').count();
    if text.get(tag) != Some(&b'$') || text[1..tag].first().is_some_and(u8::is_ascii_digit) {
        return 1;
    }
    let opening = &text[..=tag];
    memchr::memmem::find(&text[opening.len()..], opening).map_or(0, |end| 2 * opening.len() + end)
}
