//! Messages of a client of the console, whole and checked, as pgwire's structs.
//!
//! pgwire's own decoders trust lengths and counts (0.42.1): they are not used.

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::extendedquery::{Bind, Close, Describe, Execute, Parse};
use pgwire::messages::simplequery::Query;

use crate::error::{PgError, SqlState};
use crate::wire::frame::{HEADER_BYTES, Header, client_body_limit};
use crate::wire::reader::Reader;
use crate::wire::tag::client as tag;

/// Longest message, in bytes of its body: what is said here is short.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Query(Query),
    Parse(Parse),
    Bind(Bind),
    Describe(Describe),
    Execute(Execute),
    Close(Close),
    Flush,
    Sync,
    Terminate,
    /// FunctionCall, and what belongs to COPY.
    Unsupported(u8),
}

/// Takes the next message off `input`; `None` while it is not all there.
///
/// # Errors
/// FATAL: the client does not speak the protocol, or says more than is listened to.
pub(super) fn next(input: &mut BytesMut) -> Result<Option<Message>, PgError> {
    let header = match Header::read(input) {
        Ok(None) => return Ok(None),
        Ok(Some(header)) => header,
        Err(_) => return Err(violation("invalid message length")),
    };
    let Some(limit) = client_body_limit(header.tag) else {
        return Err(violation(format!("invalid frontend message type {}", header.tag)));
    };
    if header.body as usize > BODY_BYTES_MAX.min(limit as usize) {
        return Err(PgError::fatal(SqlState::PROGRAM_LIMIT_EXCEEDED, "this message is too long for the console")
            .with_detail(format!("It has {} bytes, of {BODY_BYTES_MAX} at most.", header.body)));
    }
    if input.len() < header.message_bytes() {
        return Ok(None);
    }
    let mut message = input.split_to(header.message_bytes());
    message.advance(HEADER_BYTES);
    read(header.tag, &message).map(Some)
}

fn read(kind: u8, body: &[u8]) -> Result<Message, PgError> {
    let mut reader = Reader::new(body);
    let message = match kind {
        tag::QUERY => text(&mut reader)?.map(|text| Message::Query(Query::new(text))),
        tag::PARSE => parse(&mut reader)?.map(Message::Parse),
        tag::BIND => bind(&mut reader)?.map(Message::Bind),
        tag::DESCRIBE => target(&mut reader)?.map(|(kind, name)| Message::Describe(Describe::new(kind, name))),
        tag::CLOSE => target(&mut reader)?.map(|(kind, name)| Message::Close(Close::new(kind, name))),
        tag::EXECUTE => execute(&mut reader)?.map(Message::Execute),
        tag::FLUSH => Some(Message::Flush),
        tag::SYNC => Some(Message::Sync),
        tag::TERMINATE => Some(Message::Terminate),
        other => return Ok(Message::Unsupported(other)),
    };
    message.filter(|_| reader.is_empty()).ok_or_else(|| violation("invalid message format"))
}

fn parse(reader: &mut Reader<'_>) -> Result<Option<Parse>, PgError> {
    let (Some(name), Some(query)) = (name(reader)?, text(reader)?) else { return Ok(None) };
    let types = (|| (0..count(reader)?).map(|_| reader.i32().map(i32::cast_unsigned)).collect::<Option<Vec<_>>>())();
    Ok(types.map(|types| Parse::new(name, query, types)))
}

fn bind(reader: &mut Reader<'_>) -> Result<Option<Bind>, PgError> {
    let (Some(portal), Some(statement)) = (name(reader)?, name(reader)?) else { return Ok(None) };
    Ok((|| {
        let parameter_formats = codes(reader)?;
        let values = (0..count(reader)?).map(|_| value(reader)).collect::<Option<Vec<_>>>()?;
        let result_formats = codes(reader)?;
        Some(Bind::new(portal, statement, parameter_formats, values, result_formats))
    })())
}

fn execute(reader: &mut Reader<'_>) -> Result<Option<Execute>, PgError> {
    let Some(portal) = name(reader)? else { return Ok(None) };
    Ok(reader.i32().map(|rows| Execute::new(portal, rows)))
}

fn target(reader: &mut Reader<'_>) -> Result<Option<(u8, Option<String>)>, PgError> {
    let kind = reader.byte().filter(|kind| matches!(kind, b'S' | b'P'));
    let name = name(reader)?;
    Ok(kind.zip(name))
}

fn value(reader: &mut Reader<'_>) -> Option<Option<Bytes>> {
    match usize::try_from(reader.i32()?) {
        Ok(length) => Some(Some(Bytes::copy_from_slice(reader.take(length)?))),
        Err(_) => Some(None),
    }
}

fn codes(reader: &mut Reader<'_>) -> Option<Vec<i16>> {
    (0..count(reader)?).map(|_| count(reader).map(u16::cast_signed)).collect()
}

fn count(reader: &mut Reader<'_>) -> Option<u16> {
    reader.take(2)?.try_into().ok().map(u16::from_be_bytes)
}

/// The empty name is none.
#[expect(clippy::option_option, reason = "whether it is there, and whether it is a name")]
fn name(reader: &mut Reader<'_>) -> Result<Option<Option<String>>, PgError> {
    Ok(text(reader)?.map(|name| Some(name).filter(|name| !name.is_empty())))
}

/// `None`: it does not end.
fn text(reader: &mut Reader<'_>) -> Result<Option<String>, PgError> {
    let Some(bytes) = reader.cstr() else { return Ok(None) };
    let text = std::str::from_utf8(bytes)
        .map_err(|_| PgError::fatal(SqlState::CHARACTER_NOT_IN_REPERTOIRE, "invalid byte sequence for encoding \"UTF8\""))?;
    Ok(Some(text.to_owned()))
}

fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> PgError {
    PgError::fatal(SqlState::PROTOCOL_VIOLATION, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(bytes: &[u8]) -> Result<Option<Message>, PgError> {
        next(&mut BytesMut::from(bytes))
    }

    #[test]
    fn whole_messages_are_read_and_no_more() {
        let mut input = BytesMut::from(&b"Q\0\0\0\x07ab\0S\0\0\0\x04P\0"[..]);
        assert_eq!(next(&mut input), Ok(Some(Message::Query(Query::new("ab".into())))));
        assert_eq!(next(&mut input), Ok(Some(Message::Sync)));
        assert_eq!(next(&mut input), Ok(None));
        let bind = b"B\0\0\0\x1bp\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x01\0\x01";
        let expected =
            Bind::new(Some("p".into()), Some("s".into()), vec![1], vec![Some(Bytes::from_static(b"x")), None], vec![1]);
        assert_eq!(taken(bind), Ok(Some(Message::Bind(expected))));
        let parse = b"P\0\0\0\x0d\0q\0\0\x01\0\0\0\x17";
        assert_eq!(taken(parse), Ok(Some(Message::Parse(Parse::new(None, "q".into(), vec![23])))));
    }

    #[test]
    fn what_is_too_long_or_too_short_is_the_end() {
        for (bytes, code) in [
            (&b"Q\0\0\0\x03"[..], SqlState::PROTOCOL_VIOLATION),
            (b"?\0\0\0\x04", SqlState::PROTOCOL_VIOLATION),
            (b"Q\0\0\0\x06ab", SqlState::PROTOCOL_VIOLATION),
            (b"Q\0\0\0\x08ab\0c", SqlState::PROTOCOL_VIOLATION),
            (b"B\0\0\0\x08\0\0\xff\xff", SqlState::PROTOCOL_VIOLATION),
            (b"D\0\0\0\x06x\0", SqlState::PROTOCOL_VIOLATION),
            (b"S\0\0\0\x05x", SqlState::PROTOCOL_VIOLATION),
            (b"Q\0\x02\0\0", SqlState::PROGRAM_LIMIT_EXCEEDED),
            (b"Q\0\0\0\x06\xff\0", SqlState::CHARACTER_NOT_IN_REPERTOIRE),
        ] {
            assert_eq!(taken(bytes).expect_err(&bytes.escape_ascii().to_string()).code, code, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn never_panics(kind in proptest::sample::select(b"QPBDECHSXFdcf".to_vec()), body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut message = Vec::new();
            Header { tag: kind, body: body.len() as u32 }.write(&mut message);
            message.extend(body);
            let _ = taken(&message);
        }
    }
}
