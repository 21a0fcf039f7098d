//! What a client ran last, for a log of what took long. Off, it costs one comparison for each message with a text.

use std::collections::HashMap;

use super::super::ClientSide;
use crate::wire::extended::BindNames;

/// Kept of a text, in bytes: more than is shown, for literals and comments are left out of that.
const NOTED_BYTES_MAX: usize = 4096;
/// Kept of one client in session mode for what it prepared, names and texts together, in bytes; of further ones only the name is
/// told.
const NAMED_BYTES_MAX: usize = 64 * 1024;
/// What a statement counts for besides, so that many short ones come to an end too.
const ENTRY_BYTES: usize = 64;

/// The beginnings of texts.
#[derive(Debug, Default)]
pub(in super::super) struct Noted {
    last: Vec<u8>,
    /// In session mode, where names are the client's own business.
    named: HashMap<Box<[u8]>, Vec<u8>>,
    /// Of those names and texts.
    named_bytes: usize,
}

impl ClientSide {
    /// Texts are remembered from now on.
    #[must_use]
    pub fn noting_texts(mut self) -> Self {
        self.aside().noted = Some(Noted::default());
        self
    }

    /// As it was sent, and cut off at 4 KiB. Holds literals: not to be shown as it is.
    pub fn noted_text(&self) -> &[u8] {
        self.aside.as_ref().and_then(|aside| aside.noted.as_ref()).map(|noted| &*noted.last).unwrap_or_default()
    }

    #[inline]
    pub(super) fn note_text(&mut self, text: &[u8]) {
        if let Some(noted) = self.noted() {
            noted.note(text);
        }
    }

    /// The beginning of a Parse body in session mode.
    pub(super) fn note_session_parse(&mut self, name: &[u8], text: &[u8]) {
        let Some(noted) = self.noted() else { return };
        noted.note(text);
        noted.keep(name);
    }

    /// The beginning of a Bind body in session mode.
    pub(super) fn note_session_bind(&mut self, body: &[u8]) {
        let Some(noted) = self.noted() else { return };
        let Some(names) = BindNames::read(body) else { return };
        match noted.named.remove_entry(names.statement) {
            Some((name, text)) => {
                noted.note(&text);
                noted.named.insert(name, text);
            }
            None => noted.note(&[b"(prepared statement \"", names.statement, b"\")"].concat()),
        }
    }

    fn noted(&mut self) -> Option<&mut Noted> {
        self.aside.as_mut()?.noted.as_mut()
    }
}

impl Noted {
    /// The last text has this name.
    fn keep(&mut self, name: &[u8]) {
        let bytes = |name: &[u8], text: &[u8]| ENTRY_BYTES + name.len() + text.len();
        if let Some((name, text)) = self.named.remove_entry(name) {
            self.named_bytes -= bytes(&name, &text);
        }
        let more = bytes(name, &self.last);
        if self.named_bytes + more <= NAMED_BYTES_MAX {
            self.named_bytes += more;
            self.named.insert(name.into(), self.last.clone());
        }
    }

    fn note(&mut self, text: &[u8]) {
        self.last.clear();
        self.last.extend_from_slice(&text[..text.len().min(NOTED_BYTES_MAX)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(noted: &Noted) -> usize {
        noted.named.iter().map(|(name, text)| name.len() + text.capacity()).sum()
    }

    #[test]
    fn what_is_kept_of_one_client_is_bounded_in_all() {
        let mut noted = Noted::default();
        for nth in 0..10_000 {
            noted.note(b"select 1");
            noted.keep(format!("s{nth}").as_bytes());
        }
        assert!(noted.named.len() > 500 && noted.named.len() < 2000, "{}", noted.named.len());
        let long = [b'n'; 16 * 1024];
        for nth in 0..100 {
            noted.note(&long);
            noted.keep(&long[nth..]);
        }
        assert!(kept(&noted) <= NAMED_BYTES_MAX, "{}", kept(&noted));
    }

    #[test]
    fn a_name_that_is_given_again_counts_once() {
        let mut noted = Noted::default();
        for _ in 0..100 {
            noted.note(&[b'x'; NOTED_BYTES_MAX]);
            noted.keep(b"s1");
        }
        noted.note(b"select 1");
        noted.keep(b"s1");
        assert_eq!((noted.named.len(), noted.named_bytes), (1, ENTRY_BYTES + 10));
    }
}
