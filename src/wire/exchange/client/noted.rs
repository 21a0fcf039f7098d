//! What a client ran last, for a log of what took long. Off, it costs one comparison for each message with a text.

use std::collections::HashMap;

use super::super::ClientSide;
use crate::wire::extended::BindNames;

/// Kept of a text, in bytes: more than is shown, for literals and comments are left out of that.
const NOTED_BYTES_MAX: usize = 4096;
/// Prepared statements of one client in session mode whose texts are kept; of further ones only the name is told.
const NAMES_MAX: usize = 100;

/// The beginnings of texts.
#[derive(Debug, Default)]
pub(in super::super) struct Noted {
    last: Vec<u8>,
    /// In session mode, where names are the client's own business.
    named: HashMap<Box<[u8]>, Vec<u8>>,
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
        if noted.named.len() < NAMES_MAX || noted.named.contains_key(name) {
            noted.named.insert(name.into(), noted.last.clone());
        }
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
    fn note(&mut self, text: &[u8]) {
        self.last.clear();
        self.last.extend_from_slice(&text[..text.len().min(NOTED_BYTES_MAX)]);
    }
}
