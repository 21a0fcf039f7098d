//! What a server says while somebody logs in: authentication requests, parameters, the cancel key.

use std::borrow::Cow;

use crate::wire::reader::Reader;
use crate::wire::startup::CANCEL_KEY_BYTES;

/// An Authentication message (`R`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    Ok,
    CleartextPassword,
    Md5Password([u8; 4]),
    /// The mechanisms offered, best first.
    Sasl(Vec<&'a str>),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    /// Kerberos, GSS, SSPI and whatever is to come.
    Other(i32),
}

impl<'a> Authentication<'a> {
    /// `None` for a body that is not well formed.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        Some(match reader.i32()? {
            0 => Self::Ok,
            3 => Self::CleartextPassword,
            5 => Self::Md5Password(reader.take(4)?.try_into().ok()?),
            10 => Self::Sasl(mechanisms(reader)?),
            11 => Self::SaslContinue(reader.rest()),
            12 => Self::SaslFinal(reader.rest()),
            other => Self::Other(other),
        })
    }
}

/// Name and value of a ParameterStatus (`S`), of which only names and values in another encoding lose something.
pub fn parameter_status(body: &[u8]) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let mut reader = Reader::new(body);
    let (name, value) = (reader.cstr()?, reader.cstr()?);
    reader.is_empty().then(|| (String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
}

/// Process id and cancel key of a BackendKeyData (`K`).
pub fn backend_key_data(body: &[u8]) -> Option<(i32, &[u8])> {
    let mut reader = Reader::new(body);
    let pid = reader.i32()?;
    let key = reader.rest();
    CANCEL_KEY_BYTES.contains(&key.len()).then_some((pid, key))
}

fn mechanisms(mut reader: Reader<'_>) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    loop {
        match reader.cstr()? {
            b"" => return reader.is_empty().then_some(names),
            name => names.push(std::str::from_utf8(name).ok()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_from_their_bytes() {
        for (body, expected) in [
            (&b"\0\0\0\0"[..], Some(Authentication::Ok)),
            (b"\0\0\0\x03", Some(Authentication::CleartextPassword)),
            (b"\0\0\0\x05abcd", Some(Authentication::Md5Password(*b"abcd"))),
            (b"\0\0\0\x05abc", None),
            (b"\0\0\0\x07", Some(Authentication::Other(7))),
            (b"\0\0\0\x0aA\0B\0\0", Some(Authentication::Sasl(vec!["A", "B"]))),
            (b"\0\0\0\x0aA\0", None),
            (b"\0\0\0\x0aA\0\0x", None),
            (b"\0\0\0\x0bxyz", Some(Authentication::SaslContinue(b"xyz"))),
            (b"\0\0\0", None),
        ] {
            assert_eq!(Authentication::parse(body), expected, "{body:?}");
        }
    }

    #[test]
    fn keys_have_four_to_256_bytes() {
        assert_eq!(backend_key_data(b"\0\0\0\x09abcd"), Some((9, &b"abcd"[..])));
        assert_eq!(backend_key_data(&[0; 4 + 256]).map(|(_, key)| key.len()), Some(256));
        assert_eq!(backend_key_data(&[0; 4 + 257]), None);
        assert_eq!(backend_key_data(b"\0\0\0\x09abc"), None);
    }

    #[test]
    fn a_parameter_is_two_strings_and_no_more() {
        let (name, value) = parameter_status(b"TimeZone\0\0").unwrap();
        assert_eq!((name.as_ref(), value.as_ref()), ("TimeZone", ""));
        assert_eq!(parameter_status(b"TimeZone\0UTC"), None);
        assert_eq!(parameter_status(b"a\0b\0c"), None);
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>) {
            let _ = (Authentication::parse(&body), parameter_status(&body), backend_key_data(&body));
        }
    }
}
