//! Names in the messages of the extended protocol: where they stand, and a message with another name in their place.

use super::frame::{Header, cstr};

/// A Parse body (protocol: `name\0 text\0 int16 int32…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    pub name: &'a [u8],
    /// Text, NUL, count and types: what makes two statements the same.
    pub rest: &'a [u8],
    pub text: &'a [u8],
}

impl<'a> Parse<'a> {
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let (name, rest) = cstr(body)?;
        let (text, types) = cstr(rest)?;
        let count = types.first_chunk::<2>().map(|n| usize::from(u16::from_be_bytes(*n)))?;
        (types.len() == 2 + 4 * count).then_some(Self { name, rest, text })
    }
}

/// The names at the head of a Bind body; the rest of it is never looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindNames<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
}

impl<'a> BindNames<'a> {
    /// `None` while both names are not all there.
    pub fn read(prefix: &'a [u8]) -> Option<Self> {
        let (portal, rest) = cstr(prefix)?;
        let (statement, _) = cstr(rest)?;
        Some(Self { portal, statement })
    }

    /// Bytes of both names with their NULs.
    pub fn bytes(&self) -> usize {
        self.portal.len() + self.statement.len() + 2
    }
}

/// The parameter `$number` of a Bind body, if so much of it is here and it is not NULL.
pub fn bound_value(body: &[u8], number: u16) -> Option<&[u8]> {
    let (_, rest) = cstr(body)?;
    let (_, rest) = cstr(rest)?;
    let (formats, rest) = rest.split_first_chunk::<2>()?;
    let rest = rest.get(2 * usize::from(u16::from_be_bytes(*formats))..)?;
    let (count, mut rest) = rest.split_first_chunk::<2>()?;
    let count = u16::from_be_bytes(*count);
    for at in 1..=number.min(count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let value = match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => Some(after.get(..length)?),
            Err(_) => None,
        };
        if at == number {
            return value;
        }
        rest = &after[value.map_or(0, <[u8]>::len)..];
    }
    None
}

/// What a Describe or Close is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    Statement(&'a [u8]),
    Portal(&'a [u8]),
}

impl<'a> Target<'a> {
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = body.split_first()?;
        let (name, rest) = cstr(rest)?;
        match (kind, rest.is_empty()) {
            (b'S', true) => Some(Self::Statement(name)),
            (b'P', true) => Some(Self::Portal(name)),
            _ => None,
        }
    }
}

/// Appends a message whose body is `parts`, one after the other, followed by `later` bytes that the caller lets through.
pub fn write_message(tag: u8, parts: &[&[u8]], later: usize, out: &mut Vec<u8>) {
    let here: usize = parts.iter().map(|p| p.len()).sum();
    Header { tag, body: u32::try_from(here + later).unwrap_or(u32::MAX) }.write(out);
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parse_wants_exactly_its_types() {
        let body = b"s1\0select $1\0\0\x01\0\0\0\x17";
        let parse = Parse::read(body).unwrap();
        assert_eq!((parse.name, parse.text), (&b"s1"[..], &b"select $1"[..]));
        assert_eq!(parse.rest, &body[3..]);
        assert_eq!(Parse::read(b"s1\0select 1\0\0\x01"), None);
        assert_eq!(Parse::read(b"s1\0select 1\0\0\0x"), None);
        assert_eq!(Parse::read(b"s1\0select 1"), None);
    }

    #[test]
    fn bind_names_wait_for_both() {
        assert_eq!(BindNames::read(b"p\0s"), None);
        let names = BindNames::read(b"p\0s1\0\0\0rest").unwrap();
        assert_eq!((names.portal, names.statement, names.bytes()), (&b"p"[..], &b"s1"[..], 5));
    }

    proptest! {
        #[test]
        fn hostile_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Parse::read(&body);
            let _ = BindNames::read(&body);
            let _ = Target::read(&body);
            let _ = bound_value(&body, 3);
        }
    }
}
