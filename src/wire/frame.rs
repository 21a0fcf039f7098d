//! Five-byte headers and the limits that hold for them.

use super::tag::client;

/// Bytes of a tagged message's header: the tag and the length word.
pub const HEADER_BYTES: usize = 5;
/// PostgreSQL's `PQ_LARGE_MESSAGE_LIMIT` (`MaxAllocSize - 1`), in bytes of body.
pub const LARGE_BODY_BYTES_MAX: u32 = 0x3fff_fffe;
/// PostgreSQL's `PQ_SMALL_MESSAGE_LIMIT`, in bytes of body.
pub const SMALL_BODY_BYTES_MAX: u32 = 10_000;

/// The header of a tagged message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub tag: u8,
    /// Bytes that follow the header.
    pub body: u32,
}

impl Header {
    /// The header at the start of `buf`; `Ok(None)` while it is not all there.
    #[inline]
    pub fn read(buf: &[u8]) -> Result<Option<Self>, BadLength> {
        let Some(&[tag, a, b, c, d]) = buf.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        match length.checked_sub(4) {
            Some(body) if body <= LARGE_BODY_BYTES_MAX => Ok(Some(Self { tag, body })),
            _ => Err(BadLength { tag, length }),
        }
    }

    /// Header and body together.
    #[inline]
    pub fn message_bytes(self) -> usize {
        HEADER_BYTES + self.body as usize
    }

    /// Appends the header.
    pub fn write(self, out: &mut Vec<u8>) {
        out.push(self.tag);
        out.extend_from_slice(&(self.body + 4).to_be_bytes());
    }
}

/// A length word no message of the protocol can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLength {
    pub tag: u8,
    pub length: u32,
}

/// The longest body PostgreSQL takes from a client in a message of this type; `None` for a type it does not know
/// (`SocketBackend` in postgres.c).
#[inline]
pub fn client_body_limit(tag: u8) -> Option<u32> {
    match tag {
        client::QUERY | client::FUNCTION_CALL | client::BIND | client::PARSE | client::COPY_DATA => Some(LARGE_BODY_BYTES_MAX),
        client::CLOSE | client::DESCRIBE | client::EXECUTE | client::FLUSH | client::SYNC | client::TERMINATE => {
            Some(SMALL_BODY_BYTES_MAX)
        }
        client::COPY_DONE | client::COPY_FAIL => Some(SMALL_BODY_BYTES_MAX),
        _ => None,
    }
}

/// Names are shorter: nothing is called for them.
const NAME_BYTES: usize = 8;

/// The bytes up to the first NUL, and what follows it.
#[inline]
pub fn cstr(buf: &[u8]) -> Option<(&[u8], &[u8])> {
    let near = buf.iter().take(NAME_BYTES).position(|byte| *byte == 0);
    let nul = near.or_else(|| memchr::memchr(0, buf))?;
    Some((&buf[..nul], &buf[nul + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_needs_five_bytes_and_a_possible_length() {
        assert_eq!(Header::read(b"Q\0\0\0"), Ok(None));
        assert_eq!(Header::read(b"Q\0\0\0\x05\0"), Ok(Some(Header { tag: b'Q', body: 1 })));
        assert_eq!(Header::read(b"Q\0\0\0\x03"), Err(BadLength { tag: b'Q', length: 3 }));
        assert_eq!(Header::read(b"Q\x40\0\0\x03"), Err(BadLength { tag: b'Q', length: 0x4000_0003 }));
    }

    #[test]
    fn a_written_header_reads_back() {
        let header = Header { tag: b'P', body: 70_000 };
        let mut out = Vec::new();
        header.write(&mut out);
        assert_eq!(Header::read(&out), Ok(Some(header)));
        assert_eq!(header.message_bytes(), 70_005);
    }
}
