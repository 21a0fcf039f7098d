//! Bodies of `p` messages, which only the state of the login tells apart.
//!
//! pgwire's own decoder of SASLInitialResponse panics on a short body (0.42.1), so these are read here.

use crate::wire::reader::Reader;

/// The longest `p` message taken from a client or `R` taken from a server, body only: access tokens that serve as
/// passwords reach tens of kilobytes, and PostgreSQL stops here, too (`PG_MAX_AUTH_TOKEN_LENGTH`).
pub const AUTH_BODY_BYTES_MAX: usize = 65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    pub mechanism: &'a [u8],
    /// `None`: the client wants to be asked first.
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// `None` unless the body is exactly one SASLInitialResponse.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let mechanism = reader.cstr()?;
        let data = match reader.i32()? {
            -1 => None,
            length => Some(reader.take(usize::try_from(length).ok()?)?),
        };
        reader.is_empty().then_some(Self { mechanism, data })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::request;

    #[test]
    fn bodies_that_make_other_decoders_panic() {
        for body in
            [&b""[..], b"SCRAM", b"SCRAM\0", b"SCRAM\0\0\0", b"SCRAM\0\0\0\0\x05abcd", b"SCRAM\0\x80\0\0\0", b"S\0\0\0\0\x01ab"]
        {
            assert_eq!(SaslInitialResponse::parse(body), None, "{body:?}");
        }
    }

    #[test]
    fn a_client_may_wait_to_be_asked() {
        let parsed = SaslInitialResponse::parse(b"X\0\xff\xff\xff\xff");
        assert_eq!(parsed, Some(SaslInitialResponse { mechanism: b"X", data: None }));
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>) {
            let _ = SaslInitialResponse::parse(&body);
        }

        #[test]
        fn what_we_send_we_can_read(mechanism in "[A-Z0-9-]{1,20}", data: Vec<u8>) {
            let mut out = BytesMut::new();
            request::sasl_initial_response(&mut out, &mechanism, &data);
            let expected = SaslInitialResponse { mechanism: mechanism.as_bytes(), data: Some(&data) };
            prop_assert_eq!(SaslInitialResponse::parse(&out[5..]), Some(expected));
            prop_assert_eq!(u32::from_be_bytes([out[1], out[2], out[3], out[4]]) as usize, out.len() - 1);
        }
    }
}
