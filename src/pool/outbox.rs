//! Bytes on their way out to one peer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::error::PgError;
use crate::hint::rare;
use crate::net::stream::Stream;
use crate::wire::reply;

/// Capacity kept when the buffer has been emptied, in bytes: a large row or a long pipeline gives its memory back.
const KEPT_BYTES: usize = 4096;

/// What a peer has not taken yet. Empty, and without memory of its own, as long as the peer keeps up.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Of those. Four bytes, because every client has one of these.
    sent: u32,
    /// TLS holds ciphertext back until it is flushed.
    unflushed: Flush,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flush {
    #[default]
    Done,
    Due,
}

impl Flush {
    /// A write.
    #[inline]
    fn after(stream: &Stream) -> Self {
        if stream.is_tls() { Self::Due } else { Self::Done }
    }
}

impl Outbox {
    /// To append to. Nothing is sent until [`poll_send`](Self::poll_send).
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.sent() == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
        &mut self.bytes
    }

    /// Appends an error or a notice of the pooler's own.
    pub fn say(&mut self, error: &PgError) {
        let mut message = bytes::BytesMut::new();
        reply::error(&mut message, error);
        self.buffer().extend_from_slice(&message);
    }

    /// Everything was handed to the socket.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.sent() == self.bytes.len() && self.unflushed == Flush::Done
    }

    /// Bytes waiting, for back-pressure.
    #[inline]
    pub fn pending_bytes(&self) -> usize {
        self.bytes.len() - self.sent()
    }

    /// Sends `direct` without copying it where nothing stands before it; what the socket does not take is kept.
    #[inline]
    pub fn send(&mut self, stream: &mut Stream, direct: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        // Nearly always the one or the other is all there is, the socket takes all of it, and there is nothing else to see to.
        let mut rest = direct;
        if self.pending_bytes() == 0 {
            rest = &rest[stream.send_now(rest)..];
        } else if direct.is_empty() {
            self.send_held(stream);
        }
        if rest.is_empty() && self.is_empty() { Ok(()) } else { self.send_rest(stream, rest, cx) }
    }

    #[inline(never)]
    fn send_held(&mut self, stream: &Stream) {
        self.advance(stream.send_now(&self.bytes[self.sent()..]));
        if self.pending_bytes() == 0 {
            self.shrink();
        }
    }

    #[inline(never)]
    fn send_rest(&mut self, stream: &mut Stream, direct: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        let mut rest = direct;
        if self.pending_bytes() == 0 {
            while !rest.is_empty() {
                match Pin::new(&mut *stream).poll_write(cx, rest)? {
                    Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(taken) => rest = &rest[taken..],
                    Poll::Pending => break,
                }
                self.unflushed = Flush::after(stream);
            }
        }
        if !rest.is_empty() {
            self.buffer().extend_from_slice(rest);
        }
        match self.poll_send(stream, cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Sends what is held until it is gone or the socket takes no more.
    #[inline]
    pub fn poll_send(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_empty() {
            return Poll::Ready(Ok(()));
        }
        // Asked at every step of a session, and nearly never is there anything; under TLS, where there is, a jump is nothing beside it.
        rare();
        self.poll_send_held(stream, cx)
    }

    #[inline(never)]
    fn poll_send_held(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent() < self.bytes.len() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.sent()..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.advance(taken),
            }
            self.unflushed = Flush::after(stream);
        }
        self.shrink();
        if self.unflushed == Flush::Due {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = Flush::Done;
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn sent(&self) -> usize {
        self.sent as usize
    }

    fn advance(&mut self, taken: usize) {
        match u32::try_from(self.sent() + taken) {
            Ok(sent) => self.sent = sent,
            // Nobody who heeds `pending_bytes` has 4 GiB here.
            Err(_) => {
                self.bytes.drain(..self.sent() + taken);
                self.sent = 0;
            }
        }
    }

    fn shrink(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
    }

    /// An idle peer holds no buffer.
    pub fn release_memory(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
            self.sent = 0;
        }
    }
}
