//! Messages of low rate that Sidepool itself sends to clients, written with pgwire's structs; and those few that every client
//! is sent at its login, which are short and written as they are.
//!
//! Each is appended whole or not at all: pgwire writes the tag before it notices that a message is too long.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use pgwire::messages::startup::{self as pg, NegotiateProtocolVersion, ParameterStatus};

use crate::error::{PgError, Severity};
use crate::wire::authentication::Authentication;
use crate::wire::startup::{CANCEL_KEY_BYTES, MAJOR, Startup};
use crate::wire::tag;

const LENGTH_BYTES: usize = 4;
const PID_BYTES: usize = 4;

/// The byte of a ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    Open,
    Failed,
}

/// `false` where the request is of a kind that Sidepool never makes ([`Authentication::Other`]) or too long.
pub fn authentication(out: &mut BytesMut, request: &Authentication<'_>) -> bool {
    let message = match request {
        Authentication::Ok => {
            out.extend_from_slice(b"R\0\0\0\x08\0\0\0\0");
            return true;
        }
        Authentication::CleartextPassword => pg::Authentication::CleartextPassword,
        Authentication::Md5Password(salt) => pg::Authentication::MD5Password(salt.to_vec()),
        Authentication::Sasl(names) => pg::Authentication::SASL(names.iter().map(|name| clean(name)).collect()),
        Authentication::SaslContinue(data) => pg::Authentication::SASLContinue(Bytes::copy_from_slice(data)),
        Authentication::SaslFinal(data) => pg::Authentication::SASLFinal(Bytes::copy_from_slice(data)),
        Authentication::Other(_) => return false,
    };
    append(out, &message)
}

/// `false` for a value that no client would take: libpq's limit on this message is 30 000 bytes.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) -> bool {
    append(out, &ParameterStatus::new(clean(name), clean(value)))
}

/// `false` for a key that has not 4 to 256 bytes. Before protocol 3.2 clients expect exactly four.
pub fn backend_key_data(out: &mut impl BufMut, pid: i32, key: &[u8]) -> bool {
    let length = u32::try_from(LENGTH_BYTES + PID_BYTES + key.len()).ok().filter(|_| CANCEL_KEY_BYTES.contains(&key.len()));
    let Some(length) = length else { return false };
    out.put_u8(tag::server::BACKEND_KEY_DATA);
    out.put_u32(length);
    out.put_i32(pid);
    out.put_slice(key);
    true
}

pub fn ready_for_query(out: &mut impl BufMut, status: TransactionStatus) {
    let status = match status {
        TransactionStatus::Idle => b'I',
        TransactionStatus::Open => b'T',
        TransactionStatus::Failed => b'E',
    };
    out.put_slice(&[tag::server::READY_FOR_QUERY, 0, 0, 0, 5, status]);
}

/// What a client that asked for more than we speak is owed: the version agreed on, whole as PostgreSQL sends it, and
/// the protocol options that we do not know.
pub fn negotiate_protocol_version(out: &mut BytesMut, startup: &Startup) {
    let version = i32::from(MAJOR) << 16 | i32::from(startup.minor());
    let unknown = startup.unknown_protocol_options.iter().map(|name| clean(name)).collect();
    append(out, &NegotiateProtocolVersion::new(version, unknown));
}

/// An ErrorResponse, or for a notice or warning a NoticeResponse.
pub fn error(out: &mut BytesMut, error: &PgError) {
    let fields = fields_of(error);
    match error.severity {
        Severity::Error | Severity::Fatal => append(out, &ErrorResponse::new(fields)),
        Severity::Notice | Severity::Warning => append(out, &NoticeResponse::new(fields)),
    };
}

fn fields_of(error: &PgError) -> Vec<(u8, String)> {
    let severity = error.severity.as_str().to_owned();
    let mut fields = vec![
        (b'S', severity.clone()),
        // Clients since 9.6 read the untranslated severity and treat its absence as an old server.
        (b'V', severity),
        (b'C', error.code.as_str().to_owned()),
        (b'M', clean(&error.message)),
    ];
    fields.extend(error.detail.iter().map(|detail| (b'D', clean(detail))));
    fields.extend(error.hint.iter().map(|hint| (b'H', clean(hint))));
    fields
}

/// A C string: a NUL inside would end it and make the rest of the message something else.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn append(out: &mut BytesMut, message: &impl Message) -> bool {
    let start = out.len();
    let written = message.encode(out).is_ok();
    if !written {
        out.truncate(start);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SqlState;
    use crate::wire::fields::Fields;
    use crate::wire::startup::FirstPacket;

    fn written(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
        let mut out = BytesMut::new();
        write(&mut out);
        assert_eq!(u32::from_be_bytes([out[1], out[2], out[3], out[4]]) as usize, out.len() - 1, "{out:?}");
        out
    }

    #[test]
    fn authentication_requests_can_be_read_back() {
        for request in [
            Authentication::Ok,
            Authentication::CleartextPassword,
            Authentication::Md5Password(*b"salt"),
            Authentication::Sasl(vec!["SCRAM-SHA-256", "X"]),
            Authentication::SaslContinue(b"r=1"),
            Authentication::SaslFinal(b"v=1"),
        ] {
            let out = written(|out| assert!(authentication(out, &request)));
            assert_eq!(out[0], b'R');
            assert_eq!(Authentication::parse(&out[5..]), Some(request));
        }
        assert!(!authentication(&mut BytesMut::new(), &Authentication::Other(7)));
    }

    #[test]
    fn the_greeting_byte_by_byte() {
        let mut out = BytesMut::new();
        assert!(parameter_status(&mut out, "a", "b"));
        assert!(backend_key_data(&mut out, 5, b"1234"));
        ready_for_query(&mut out, TransactionStatus::Idle);
        assert_eq!(&out[..], b"S\0\0\0\x08a\0b\0K\0\0\0\x0c\0\0\0\x051234Z\0\0\0\x05I");
    }

    #[test]
    fn what_is_too_long_leaves_no_trace() {
        let mut out = BytesMut::from(&b"before"[..]);
        assert!(!authentication(&mut out, &Authentication::SaslContinue(&[0; 40_000])));
        assert!(!backend_key_data(&mut out, 5, &[0; 257]));
        assert!(!backend_key_data(&mut out, 5, &[0; 3]));
        assert_eq!(&out[..], b"before");
    }

    #[test]
    fn trap_43_keys_of_256_bytes() {
        let out = written(|out| assert!(backend_key_data(out, 5, &[9; 256])));
        assert_eq!(out.len(), 1 + 4 + 4 + 256);
    }

    #[test]
    fn trap_52_negotiation_names_the_version_and_the_unknown_options() {
        let negotiation = |minor: u16, options: &[u8]| {
            let mut packet = vec![0, 0, 0, (8 + options.len()) as u8, 0, 3];
            packet.extend(minor.to_be_bytes());
            packet.extend(options);
            let FirstPacket::Startup(startup) = FirstPacket::parse(&packet).unwrap() else { panic!("no startup") };
            written(|out| negotiate_protocol_version(out, &startup))
        };
        assert_eq!(&negotiation(9999, b"user\0a\0\0")[..], b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0");
        let unknown = negotiation(0, b"user\0a\0_pq_.x\x001\0\0");
        assert_eq!(&unknown[..], b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0");
    }

    #[test]
    fn errors_carry_every_field_and_their_severity_twice() {
        let error_ = PgError::fatal(SqlState::INVALID_PASSWORD, "no\0t\0you").with_detail("d").with_hint("h");
        let out = written(|out| error(out, &error_));
        assert_eq!(out[0], b'E');
        let fields: Vec<_> = Fields::new(&out[5..]).iter().collect();
        let expected: [(u8, &[u8]); 6] = [
            (b'S', b"FATAL"),
            (b'V', b"FATAL"),
            (b'C', b"28P01"),
            (b'M', "no\u{fffd}t\u{fffd}you".as_bytes()),
            (b'D', b"d"),
            (b'H', b"h"),
        ];
        assert_eq!(fields, expected);
        assert_eq!(written(|out| error(out, &PgError::notice("n")))[0], b'N');
    }
}
