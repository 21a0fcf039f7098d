//! What a client sends while it logs in.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};

use zeroize::{Zeroize, Zeroizing};

use crate::net::stream::Stream;

/// Asked for at once, in bytes. Nearly every message of a login is shorter, and takes one read; and a read that is not filled
/// by what was there need not be followed by one that finds nothing.
const ROOM_BYTES: usize = 1024;

/// Bytes that have arrived, and that nobody has taken yet: passwords may be among them.
///
/// What is in it behind the last message that was waited for is the client's next words, whatever becomes of the connection
/// in between: they are handed on, to TLS where that comes next, and otherwise to the session.
#[derive(Debug, Default)]
pub(super) struct Inbox(Zeroizing<Vec<u8>>);

impl Inbox {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Waits until there are so many bytes. Its memory grows as they arrive.
    ///
    /// # Errors
    /// `UnexpectedEof` where the client goes before.
    pub(super) async fn fill(&mut self, stream: &mut Stream, length: usize) -> io::Result<()> {
        if self.0.len() >= length {
            return Ok(());
        }
        poll_fn(|cx| self.poll_fill(stream, length, cx)).await
    }

    /// Read to the stack: whoever says nothing has no memory here, and who does as much as is said.
    fn poll_fill(&mut self, stream: &mut Stream, length: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.0.len() < length {
            let mut room = [MaybeUninit::uninit(); ROOM_BYTES];
            let count = {
                let received = ready!(stream.poll_recv(cx, &mut room))?;
                self.0.extend_from_slice(received.bytes());
                received.bytes().len()
            };
            room[..count].zeroize();
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The first bytes have been looked at.
    pub(super) fn take(&mut self, count: usize) {
        let count = count.min(self.0.len());
        self.0.drain(..count);
    }

    /// What is left, which nobody waited for.
    pub(super) fn rest(self) -> Vec<u8> {
        if self.0.is_empty() { Vec::new() } else { self.0.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;
    use crate::net::socket::Socket;

    fn pair() -> (UnixStream, Stream) {
        let (client, ours) = UnixStream::pair().unwrap();
        (client, Stream::Plain(Socket::unix(ours.into_std().unwrap()).unwrap()))
    }

    #[tokio::test]
    async fn what_came_too_early_is_kept_for_later() {
        let (mut client, mut stream) = pair();
        client.write_all(b"onetwothree").await.unwrap();
        let mut inbox = Inbox::default();
        inbox.fill(&mut stream, 3).await.unwrap();
        assert_eq!(inbox.bytes(), b"onetwothree", "in one read");
        inbox.take(3);
        inbox.fill(&mut stream, 3).await.unwrap();
        inbox.take(3);
        assert_eq!(inbox.rest(), b"three");
    }

    #[tokio::test]
    async fn a_long_message_is_waited_for_and_no_room_is_made_for_what_does_not_come() {
        let (mut client, mut stream) = pair();
        let mut inbox = Inbox::default();
        assert!(poll_fn(|cx| Poll::Ready(inbox.poll_fill(&mut stream, 1 << 30, cx).is_pending())).await);
        assert_eq!(inbox.0.capacity(), 0, "nothing has been said");
        client.write_all(&[7; 3 * ROOM_BYTES]).await.unwrap();
        inbox.fill(&mut stream, 3 * ROOM_BYTES).await.unwrap();
        assert_eq!(inbox.bytes(), [7; 3 * ROOM_BYTES]);
        drop(client);
        let error = inbox.fill(&mut stream, 1 << 30).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(inbox.0.capacity() <= 8 * ROOM_BYTES, "{}", inbox.0.capacity());
    }
}
