//! Messages of a server that is being logged in to: whole, bounded, and nothing allocated from a length alone.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::stream::Stream;
use crate::upstream::error::{ConnectError, ServerError};
use crate::wire::password::AUTH_BODY_BYTES_MAX;

/// The longest message of a login, length word included.
const MESSAGE_BYTES_MAX: usize = 4 + AUTH_BODY_BYTES_MAX;
/// Messages of one login; PostgreSQL sends about twenty.
const MESSAGES_MAX: usize = 1024;
/// Notices that are kept for the client; later ones are dropped.
const NOTICES_MAX: usize = 32;
const NOTICE_BYTES_MAX: usize = 64 * 1024;
/// Room made for each read: a login fits in one or two.
const READ_BYTES: usize = 2048;
const HEADER_BYTES: usize = 5;

pub(crate) struct Intake {
    stream: Stream,
    /// What errors call the server.
    target: String,
    buffer: BytesMut,
    messages: usize,
    notices: Vec<Bytes>,
}

/// One message, header included.
#[derive(Debug)]
pub(crate) struct Message(Bytes);

impl Message {
    pub(crate) fn tag(&self) -> u8 {
        self.0[0]
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.0[HEADER_BYTES..]
    }

    /// For errors.
    pub(crate) fn describe(&self) -> String {
        format!("an unexpected message '{}'", self.tag().escape_ascii())
    }
}

impl Intake {
    pub(crate) fn new(stream: Stream, target: String) -> Self {
        Self { stream, target, buffer: BytesMut::new(), messages: 0, notices: Vec::new() }
    }

    pub(crate) async fn send(&mut self, message: &[u8]) -> Result<(), ConnectError> {
        let sent = async {
            self.stream.write_all(message).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| self.lost(error))
    }

    /// The next message that is neither a notice, which is kept, nor an error, which is the end.
    pub(crate) async fn next(&mut self) -> Result<Message, ConnectError> {
        loop {
            if let Some(message) = self.next_or_notice().await? {
                return Ok(message);
            }
        }
    }

    /// The same, but `None` for a notice: behind the last message that is sure to come, nothing more may be waited for.
    pub(crate) async fn next_or_notice(&mut self) -> Result<Option<Message>, ConnectError> {
        let message = self.any().await?;
        match message.tag() {
            b'N' => self.keep_notice(message),
            b'E' => return Err(ConnectError::Refused(ServerError::new(message.0.slice(HEADER_BYTES..)))),
            _ => return Ok(Some(message)),
        }
        Ok(None)
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// For a further question after the login: its messages are counted anew, and notices of the last are dropped.
    pub(crate) fn renew(&mut self) {
        self.messages = 0;
        self.notices.clear();
    }

    /// Whether nothing has arrived of a further message.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(crate) fn finish(self) -> (Stream, Vec<Bytes>) {
        (self.stream, self.notices)
    }

    async fn any(&mut self) -> Result<Message, ConnectError> {
        self.messages += 1;
        if self.messages > MESSAGES_MAX {
            return Err(ConnectError::protocol(format!("it sent more than {MESSAGES_MAX} messages")));
        }
        loop {
            if let Some(length) = self.whole()? {
                return Ok(Message(self.buffer.split_to(length).freeze()));
            }
            self.buffer.reserve(READ_BYTES);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
    }

    /// The length of the message at the front, header included, once all of it has arrived.
    fn whole(&self) -> Result<Option<usize>, ConnectError> {
        let Some([tag, a, b, c, d]) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(ConnectError::protocol(format!("a message '{}' of {length} bytes", tag.escape_ascii())));
        }
        Ok((self.buffer.len() > length).then_some(1 + length))
    }

    fn keep_notice(&mut self, notice: Message) {
        let kept: usize = self.notices.iter().map(Bytes::len).sum();
        if self.notices.len() < NOTICES_MAX && kept + notice.0.len() <= NOTICE_BYTES_MAX {
            self.notices.push(notice.0);
        }
    }

    fn lost(&self, error: io::Error) -> ConnectError {
        // Under TLS 1.3 a server refuses our certificate only after the handshake is over for us.
        if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            return ConnectError::Tls { target: self.target.clone(), reason: error.to_string() };
        }
        ConnectError::Unreachable { target: self.target.clone(), error }
    }
}
