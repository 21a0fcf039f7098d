//! Bodies of ErrorResponse and NoticeResponse as a server sends them: every field may be missing, none is trusted.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use crate::error::SqlState;
use crate::wire::reader::Reader;

/// More fields than any PostgreSQL sends (it knows 18); what follows is not looked at.
const FIELDS_MAX: usize = 64;

/// A view of one body.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    body: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn new(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// Kind and text of each field, up to the terminator or to where the body is broken.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || {
            let kind = reader.byte().filter(|kind| *kind != 0)?;
            Some((kind, reader.cstr()?))
        })
        .take(FIELDS_MAX)
    }

    /// Whether every client can read it: whole fields up to a terminator that is the last byte, and among them the three that
    /// are always present.
    pub fn is_whole(self) -> bool {
        let fields: usize = self.iter().map(|(_, text)| 1 + text.len() + 1).sum();
        let present = [b'S', b'C', b'M'].iter().all(|kind| self.get(*kind).is_some());
        present && self.body.get(fields..) == Some(&[0])
    }

    /// The first field of this kind (protocol chapter "Error and Notice Message Fields").
    pub fn get(self, kind: u8) -> Option<&'a [u8]> {
        self.iter().find_map(|(found, text)| (found == kind).then_some(text))
    }

    pub fn text(self, kind: u8) -> Option<Cow<'a, str>> {
        self.get(kind).map(String::from_utf8_lossy)
    }

    /// Untranslated where the server says so (since 9.6).
    pub fn severity(self) -> Option<Cow<'a, str>> {
        self.text(b'V').or_else(|| self.text(b'S'))
    }

    pub fn sqlstate(self) -> Option<SqlState> {
        self.get(b'C').and_then(SqlState::parse)
    }

    pub fn message(self) -> Option<Cow<'a, str>> {
        self.text(b'M')
    }

    pub fn detail(self) -> Option<Cow<'a, str>> {
        self.text(b'D')
    }

    pub fn hint(self) -> Option<Cow<'a, str>> {
        self.text(b'H')
    }

    /// Appends a whole message with `tag` (`E` or `N`) and these fields, of which the message says `message` instead.
    pub fn put_with_message(self, out: &mut BytesMut, tag: u8, message: &str) {
        let start = out.len();
        out.put_u8(tag);
        out.put_u32(0);
        for (kind, text) in self.iter().filter(|(kind, _)| *kind != b'M') {
            put_field(out, kind, text);
        }
        put_field(out, b'M', message.replace('\0', "\u{fffd}").as_bytes());
        out.put_u8(0);
        let length = (out.len() - start - 1) as u32;
        out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    }
}

fn put_field(out: &mut BytesMut, kind: u8, text: &[u8]) {
    out.put_u8(kind);
    out.put_slice(text);
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = b"SFEHLER\0VERROR\0C42601\0Msyntax error\0Hthink\0P7\0\0";

    #[test]
    fn fields_of_a_real_error() {
        let fields = Fields::new(BODY);
        assert_eq!(fields.severity().as_deref(), Some("ERROR"));
        assert_eq!(fields.sqlstate(), Some(SqlState::SYNTAX_ERROR));
        assert_eq!(fields.message().as_deref(), Some("syntax error"));
        assert_eq!(fields.hint().as_deref(), Some("think"));
        assert_eq!(fields.detail(), None);
    }

    #[test]
    fn cve_2026_6666_every_field_is_optional() {
        let fields = Fields::new(b"SERROR\0\0");
        assert_eq!((fields.sqlstate(), fields.message()), (None, None));
        assert_eq!(Fields::new(b"SERROR").severity(), None);
        assert_eq!(Fields::new(b"").severity(), None);
        assert_eq!(Fields::new(b"C123\0\0").sqlstate(), None);
        assert_eq!(Fields::new(&b"Xx\0".repeat(10_000)).iter().count(), FIELDS_MAX);
    }

    #[test]
    fn whole_with_what_is_always_there_and_nothing_behind() {
        assert!(Fields::new(b"SFATAL\0C57P03\0Mno\0\0").is_whole());
        for broken in [&b""[..], b"\0", b"SFATAL\0C57P03\0Mno\0", b"SFATAL\0C57P03\0\0", b"SFATAL\0C57P03\0Mno\0\0x"] {
            assert!(!Fields::new(broken).is_whole(), "{}", broken.escape_ascii());
        }
    }

    #[test]
    fn another_message_leaves_the_other_fields() {
        let mut out = BytesMut::from(&b"before"[..]);
        Fields::new(BODY).put_with_message(&mut out, b'E', "other\0words");
        let message = &out[6..];
        assert_eq!((message[0], u32::from_be_bytes(message[1..5].try_into().unwrap()) as usize), (b'E', message.len() - 1));
        let fields = Fields::new(&message[5..]);
        assert_eq!(fields.message().as_deref(), Some("other\u{fffd}words"));
        let others = |fields: Fields<'static>| fields.iter().filter(|(k, _)| *k != b'M').collect::<Vec<_>>();
        let kept: Vec<_> = fields.iter().filter(|(kind, _)| *kind != b'M').map(|(k, t)| (k, t.to_vec())).collect();
        assert_eq!(kept, others(Fields::new(BODY)).into_iter().map(|(k, t)| (k, t.to_vec())).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>, message: String) {
            let mut out = BytesMut::new();
            Fields::new(&body).put_with_message(&mut out, b'N', &message);
            prop_assert_eq!(Fields::new(&out[5..]).iter().last().map(|(kind, _)| kind), Some(b'M'));
        }
    }
}
