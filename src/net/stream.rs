//! Plain or under TLS: what is read from and written to after a connection was set up.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{CipherSuite, ProtocolVersion};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::net::socket::{Peer, Socket};
use crate::net::tls::x509;

/// An enum and no trait object, and only the rarer kind boxed: the relay reads and writes through it for every turn.
#[derive(Debug)]
pub enum Stream {
    Plain(Socket),
    Tls(Box<Secured>),
}

/// A TLS session, and what its own side has to remember of the handshake.
#[derive(Debug)]
pub struct Secured {
    pub(super) tls: TlsStream<Socket>,
    /// As a server: the channel binding of the certificate we showed.
    pub(super) end_point: Option<Arc<[u8]>>,
    /// What ended the session behind bytes that were good: for the read after theirs.
    failed: Option<io::Error>,
}

/// What one read brought.
#[derive(Debug)]
pub enum Received<'a> {
    /// Straight from the socket.
    Plain(&'a [u8]),
    /// Decrypted.
    Tls(ReadBuf<'a>),
}

impl Received<'_> {
    /// Empty at the end of the stream.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Tls(buf) => buf.filled(),
        }
    }
}

/// For logs and `check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    pub version: ProtocolVersion,
    pub cipher: CipherSuite,
}

impl Stream {
    /// What TLS is to begin on.
    ///
    /// # Errors
    /// It is under TLS already.
    pub fn into_plain(self) -> io::Result<Socket> {
        match self {
            Self::Plain(socket) => Ok(socket),
            Self::Tls(_) => Err(io::Error::other("TLS inside of TLS")),
        }
    }

    pub fn peer(&self) -> Peer {
        self.socket().peer()
    }

    /// Our own address, over TCP.
    pub fn local(&self) -> Option<std::net::SocketAddr> {
        self.socket().local()
    }

    /// `None` without TLS.
    pub fn tls_facts(&self) -> Option<TlsFacts> {
        let Self::Tls(secured) = self else { return None };
        let (_, session) = secured.tls.get_ref();
        Some(TlsFacts { version: session.protocol_version()?, cipher: session.negotiated_cipher_suite()?.suite() })
    }

    /// The name the client asked for (SNI), if this is the server's side of a TLS stream.
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::Tls(secured) => match &secured.tls {
                TlsStream::Server(tls) => tls.get_ref().1.server_name(),
                TlsStream::Client(_) => None,
            },
            Self::Plain(_) => None,
        }
    }

    #[inline]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The channel binding `tls-server-end-point` (RFC 5929): a hash of the certificate that the server's side showed, whichever
    /// side this is. `None` without TLS, and for a certificate whose signature has no hash.
    pub fn end_point(&self) -> Option<Arc<[u8]>> {
        let Self::Tls(secured) = self else { return None };
        match &secured.tls {
            TlsStream::Server(_) => secured.end_point.clone(),
            TlsStream::Client(tls) => x509::end_point(tls.get_ref().1.peer_certificates()?.first()?).map(Arc::from),
        }
    }

    /// Whom a client's certificate names, if it showed one, which then was verified. `None` on the client's side.
    pub fn client_names(&self) -> Option<Vec<String>> {
        let Self::Tls(secured) = self else { return None };
        match &secured.tls {
            TlsStream::Server(tls) => tls.get_ref().1.peer_certificates()?.first().map(|leaf| x509::names(leaf)),
            TlsStream::Client(_) => None,
        }
    }

    /// Whether something arrived that has not been read, or the connection ended: see [`Socket::readable_now`].
    ///
    /// Under TLS it may be a record without data for us, so that the read which follows finds nothing yet.
    pub fn readable_now(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.readable_now(),
            // A TLS session that wants nothing read has plaintext to give, or was closed by its peer.
            Self::Tls(secured) => {
                let (socket, session) = secured.tls.get_ref();
                secured.failed.is_some() || !session.wants_read() || socket.readable_now()
            }
        }
    }

    /// Reads what is there, for the relay. Not counted in tokio's budget for a task.
    #[inline]
    pub fn poll_recv<'a>(&mut self, cx: &mut Context<'_>, room: &'a mut [MaybeUninit<u8>]) -> Poll<io::Result<Received<'a>>> {
        match self {
            Self::Plain(socket) => socket.poll_recv(cx, room).map_ok(Received::Plain),
            Self::Tls(secured) => secured.poll_recv(cx, room),
        }
    }

    /// Sends some of it, if that can be done without waiting and without keeping anything: how much. What stands in the way is
    /// for [`poll_write`](AsyncWrite::poll_write) to find out.
    #[inline]
    pub fn send_now(&self, bytes: &[u8]) -> usize {
        match self {
            Self::Plain(socket) if !bytes.is_empty() => socket.send_now(bytes),
            Self::Plain(_) | Self::Tls(_) => 0,
        }
    }

    /// Nothing is here that the reactor has told of, and the task will be woken by what comes. Never under TLS, where something
    /// may have been read and not been asked for.
    #[inline]
    pub fn will_wake(&self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Plain(socket) => socket.will_wake(cx),
            Self::Tls(_) => false,
        }
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(secured) => secured.tls.get_ref().0,
        }
    }
}

impl Secured {
    pub(super) fn new(tls: TlsStream<Socket>, end_point: Option<Arc<[u8]>>) -> Self {
        Self { tls, end_point, failed: None }
    }

    #[inline(never)]
    fn poll_recv<'a>(&mut self, cx: &mut Context<'_>, room: &'a mut [MaybeUninit<u8>]) -> Poll<io::Result<Received<'a>>> {
        let mut buf = ReadBuf::uninit(room);
        self.poll_read(cx, &mut buf).map_ok(|()| Received::Tls(buf))
    }

    /// In place of tokio-rustls' own, which goes through rustls at every poll and once more behind every record. The relay
    /// polls both sides at each wake-up, so that four of five passes for a transaction found nothing, at some 600
    /// instructions each. Here rustls is entered when it has bytes for us, or the socket has some for it.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        loop {
            match self.poll_record(cx, buf) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                nothing if buf.filled().len() == before => return nothing.map_ok(|_| ()),
                Poll::Pending => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// What was decrypted of one record, as much as there is room for; 0 if there is no room, or at the end.
    fn poll_record(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(0));
        }
        let (socket, session) = self.tls.get_ref();
        // All records that had come whole were decrypted when they were read, so that without plaintext only the socket
        // can bring something new.
        if session.wants_read() {
            ready!(socket.poll_read_ready(cx))?;
        }
        let bytes = match ready!(Pin::new(&mut self.tls).poll_fill_buf(cx)) {
            // Many peers close without TLS's close_notify. The protocol above has its own end (Terminate), so a
            // truncation shows there, and this is the end of the stream like any other.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
            read => read?,
        };
        let taken = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..taken]);
        Pin::new(&mut self.tls).consume(taken);
        Poll::Ready(Ok(taken))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(secured) => secured.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(secured) => Pin::new(&mut secured.tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(secured) => Pin::new(&mut secured.tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(secured) => secured.tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(secured) => Pin::new(&mut secured.tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(secured) => Pin::new(&mut secured.tls).poll_shutdown(cx),
        }
    }
}
