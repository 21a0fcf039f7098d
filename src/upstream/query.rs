//! Questions to a server that nobody else uses: for `check` and `top`, not for clients.

use bytes::{BufMut, BytesMut};

use crate::upstream::intake::{Intake, Message};
use crate::upstream::{ConnectError, Connected};
use crate::wire::reader::Reader;

/// Rows one answer may have. (The intake bounds each message, and their number.)
const ROWS_MAX: usize = 256;

/// A row of a result, as text; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// Asks by the simple query protocol, and says good-bye. Not bounded in time: the caller's timeout is.
///
/// # Errors
/// [`ConnectError::Refused`] is the server's answer to the statement; the others are as at login.
pub async fn query(server: Connected, target: String, sql: &str) -> Result<Vec<Row>, ConnectError> {
    Ok(queries(server, target, &[sql]).await?.swap_remove(0))
}

/// The same for several questions, one after the other: as many answers.
///
/// # Errors
/// As [`query`]; the first ends it.
pub async fn queries(server: Connected, target: String, all: &[impl AsRef<str>]) -> Result<Vec<Vec<Row>>, ConnectError> {
    let mut conversation = Conversation::new(server, target);
    let mut answers = Vec::with_capacity(all.len());
    for sql in all {
        answers.push(conversation.ask(sql.as_ref()).await?);
    }
    conversation.end().await;
    Ok(answers)
}

/// The same, one question at a time, for as long as the caller likes.
pub struct Conversation(Intake);

impl Conversation {
    /// `target` is its address, for errors.
    pub fn new(server: Connected, target: String) -> Self {
        Self(Intake::new(server.stream, target))
    }

    /// # Errors
    /// As [`query`].
    pub async fn ask(&mut self, sql: &str) -> Result<Vec<Row>, ConnectError> {
        ask(&mut self.0, sql).await
    }

    /// Says good-bye.
    pub async fn end(mut self) {
        // It has answered: whether it hears the rest changes nothing.
        let _ = self.0.send(b"X\0\0\0\x04").await;
    }
}

/// One question, and all of its answer.
pub(super) async fn ask(intake: &mut Intake, sql: &str) -> Result<Vec<Row>, ConnectError> {
    intake.send(&simple_query(sql)).await?;
    answer(intake).await
}

fn simple_query(sql: &str) -> BytesMut {
    let mut packet = BytesMut::new();
    packet.put_u8(b'Q');
    packet.put_u32(4 + sql.len() as u32 + 1);
    packet.put_slice(sql.as_bytes());
    packet.put_u8(0);
    packet
}

async fn answer(intake: &mut Intake) -> Result<Vec<Row>, ConnectError> {
    let mut rows = Vec::new();
    loop {
        let message = intake.next().await?;
        match message.tag() {
            b'Z' => return Ok(rows),
            b'D' if rows.len() < ROWS_MAX => rows.push(row(&message)?),
            b'D' => return Err(ConnectError::protocol(format!("it answered with more than {ROWS_MAX} rows"))),
            b'T' | b'C' | b'S' | b'I' => {}
            _ => return Err(ConnectError::protocol(message.describe())),
        }
    }
}

fn row(message: &Message) -> Result<Row, ConnectError> {
    values(message.body()).ok_or_else(|| ConnectError::protocol("a DataRow that is cut short"))
}

/// DataRow: the number of values, and each with its length, -1 for NULL.
fn values(body: &[u8]) -> Option<Row> {
    let mut reader = Reader::new(body);
    let count = u16::from_be_bytes(reader.take(2)?.try_into().ok()?);
    let mut values = Vec::new();
    for _ in 0..count {
        let length = reader.i32()?;
        values.push(match usize::try_from(length) {
            Ok(length) => Some(String::from_utf8_lossy(reader.take(length)?).into_owned()),
            Err(_) => None,
        });
    }
    reader.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_broken_ones_refused() {
        let body = [&[0, 3][..], &[0, 0, 0, 2], b"ab", &[255; 4], &[0; 4]].concat();
        assert_eq!(values(&body), Some(vec![Some("ab".into()), None, Some(String::new())]));
        for cut in 0..body.len() {
            assert_eq!(values(&body[..cut]), None, "{cut}");
        }
        assert_eq!(values(&[&body[..], b"x"].concat()), None);
        assert_eq!(values(&[0, 1, 127, 255, 255, 255]), None, "a length is not believed");
    }
}
