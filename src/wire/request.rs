//! What is sent to a server before and while logging in, and to cancel.

use bytes::{BufMut, BytesMut};

use crate::error::{PgError, SqlState};
use crate::wire::startup::{CANCEL_CODE, MAJOR, STARTUP_BYTES_MAX};

pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// StartupMessage for protocol 3.`minor`, with the parameters in the order given (`user` among them).
///
/// # Errors
/// 08P01 where PostgreSQL would refuse the packet, or read it as something else; `out` is then as it was.
pub fn startup<'a>(
    out: &mut BytesMut,
    minor: u16,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<(), PgError> {
    let start = out.len();
    out.put_u32(0);
    out.put_u32(u32::from(MAJOR) << 16 | u32::from(minor));
    for (name, value) in parameters {
        if name.is_empty() || name.contains('\0') || value.contains('\0') {
            out.truncate(start);
            return Err(unsendable("a startup parameter has no name, or a NUL in it"));
        }
        put_cstr(out, name);
        put_cstr(out, value);
    }
    out.put_u8(0);
    let length = out.len() - start;
    if length > 4 + STARTUP_BYTES_MAX {
        out.truncate(start);
        return Err(unsendable("the startup parameters are longer than 10000 bytes"));
    }
    out[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(())
}

/// CancelRequest; the key has whatever length the server gave it.
pub fn cancel(out: &mut BytesMut, pid: i32, key: &[u8]) {
    out.put_u32(12 + key.len() as u32);
    out.put_u32(CANCEL_CODE);
    out.put_i32(pid);
    out.put_slice(key);
}

/// PasswordMessage: the password itself, or its md5 answer.
pub fn password(out: &mut BytesMut, text: &str) {
    put_tagged(out, text.len() + 1);
    put_cstr(out, text);
}

pub fn sasl_initial_response(out: &mut BytesMut, mechanism: &str, data: &[u8]) {
    put_tagged(out, mechanism.len() + 1 + 4 + data.len());
    put_cstr(out, mechanism);
    out.put_u32(data.len() as u32);
    out.put_slice(data);
}

pub fn sasl_response(out: &mut BytesMut, data: &[u8]) {
    put_tagged(out, data.len());
    out.put_slice(data);
}

fn put_tagged(out: &mut BytesMut, body: usize) {
    out.put_u8(b'p');
    out.put_u32(4 + body as u32);
}

fn put_cstr(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

fn unsendable(message: &'static str) -> PgError {
    PgError::fatal(SqlState::PROTOCOL_VIOLATION, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_startup_packet_byte_by_byte() {
        let mut out = BytesMut::from(&b"before"[..]);
        startup(&mut out, 0, [("user", "ann"), ("database", "")]).unwrap();
        assert_eq!(&out[..], b"before\0\0\0\x1c\0\x03\0\0user\0ann\0database\0\0\0");
    }

    #[test]
    fn what_cannot_be_sent_leaves_no_trace() {
        let long = "x".repeat(STARTUP_BYTES_MAX);
        for pair in [("a\0b", "c"), ("a", "b\0c"), ("", "x"), ("a", &long)] {
            let mut out = BytesMut::from(&b"before"[..]);
            assert!(startup(&mut out, 0, [("user", "ann"), pair]).is_err());
            assert_eq!(&out[..], b"before");
        }
    }

    #[test]
    fn a_cancel_request_byte_by_byte() {
        let mut out = BytesMut::new();
        cancel(&mut out, 258, &[1, 2, 3, 4, 5]);
        assert_eq!(&out[..], b"\0\0\0\x11\x04\xd2\x16\x2e\0\0\x01\x02\x01\x02\x03\x04\x05");
    }
}
