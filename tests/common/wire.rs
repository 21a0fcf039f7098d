//! A client that says exactly what it is told to, and keeps every reply.

use std::fmt::Debug;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Endpoint;
use super::PATIENCE;
use super::scram::Exchange;

pub use super::frame::*;
pub use super::reply::{Reply, show, show_in_full};

/// The longest message taken, in bytes.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// TCP, or TLS over it.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Debug> Transport for T {}

#[derive(Debug)]
pub struct Wire {
    stream: Box<dyn Transport>,
    /// Where it is connected to.
    port: u16,
    /// Body of BackendKeyData: pid and cancel key.
    pub key_data: Vec<u8>,
    /// ParameterStatus, in the order they came.
    pub parameters: Vec<(String, String)>,
}

impl Wire {
    /// Connected, and nothing said.
    pub async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap_or_else(|error| panic!("port {port}: {error}"));
        stream.set_nodelay(true).expect("it is TCP");
        Self::over(stream, port)
    }

    /// Over a connection to this port that somebody else has opened.
    pub fn over(stream: impl Transport + 'static, port: u16) -> Self {
        Self { stream: Box::new(stream), port, key_data: Vec::new(), parameters: Vec::new() }
    }

    pub async fn login(endpoint: &Endpoint) -> Self {
        let (wire, greeting) = Self::try_login(endpoint).await;
        assert!(greeting.last().is_some_and(|reply| reply.tag == b'Z'), "{}", show_in_full(&greeting));
        wire
    }

    /// With all that came after authentication, up to ReadyForQuery or the error that refused us.
    pub async fn try_login(endpoint: &Endpoint) -> (Self, Vec<Reply>) {
        let mut wire = Self::connect(endpoint.port).await;
        let greeting = wire.log_in(endpoint).await;
        (wire, greeting)
    }

    /// The same from here: a startup packet has not been sent yet.
    pub async fn log_in(&mut self, endpoint: &Endpoint) -> Vec<Reply> {
        self.send(&endpoint.packet(0)).await;
        self.authenticate(&endpoint.password).await
    }

    /// Answers what the server asks for, be it nothing, a password or SCRAM; as [`Wire::try_login`] from there.
    pub async fn authenticate(&mut self, secret: &str) -> Vec<Reply> {
        let mut scram = Exchange::new(secret);
        let mut greeting = Vec::new();
        loop {
            let reply = self.next().await;
            let (asked, rest) = reply.body.split_at_checked(4).unwrap_or((&[], &[]));
            match (reply.tag, asked) {
                (b'R', [0, 0, 0, 0]) => {}
                (b'R', [0, 0, 0, 3]) => self.send(&password(&text(secret))).await,
                (b'R', [0, 0, 0, 10]) => self.send(&password(&scram.first())).await,
                (b'R', [0, 0, 0, 11]) => self.send(&password(&scram.last(&String::from_utf8_lossy(rest)))).await,
                (b'R', [0, 0, 0, 12]) => scram.verify(&String::from_utf8_lossy(rest)),
                (b'R', asked) => panic!("this client knows no authentication {asked:?}"),
                (b'Z' | b'E', _) => {
                    greeting.push(reply);
                    return greeting;
                }
                _ => greeting.push(reply),
            }
        }
    }

    /// The process that its server claims to be.
    pub fn pid(&self) -> u32 {
        let pid = self.key_data.first_chunk().expect("BackendKeyData came");
        u32::from_be_bytes(*pid)
    }

    /// As it is, in one write.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("the server reads");
    }

    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        in_time("a write", self.stream.write_all(bytes)).await?;
        in_time("a write", self.stream.flush()).await
    }

    /// No more will be sent.
    pub async fn end(&mut self) {
        self.stream.shutdown().await.expect("it is open");
    }

    pub async fn try_end(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// One simple query, up to its ReadyForQuery.
    pub async fn query(&mut self, sql: &str) -> Vec<Reply> {
        self.exchange(&[query(sql)]).await
    }

    /// The first value of the first row.
    pub async fn value(&mut self, sql: &str) -> String {
        let replies = self.query(sql).await;
        let row = replies.iter().find(|reply| reply.tag == b'D');
        let row = row.unwrap_or_else(|| panic!("{sql}: no row in {}", show_in_full(&replies)));
        row.values().swap_remove(0).unwrap_or_else(|| panic!("{sql}: NULL"))
    }

    /// Sends them all in one write and reads up to the first ReadyForQuery.
    pub async fn exchange(&mut self, frames: &[Vec<u8>]) -> Vec<Reply> {
        self.send(&frames.concat()).await;
        self.until(b'Z').await
    }

    /// Up to and with the next message of this tag.
    pub async fn until(&mut self, tag: u8) -> Vec<Reply> {
        let mut replies = Vec::new();
        while replies.last().is_none_or(|reply: &Reply| reply.tag != tag) {
            match self.try_next().await {
                Ok(reply) => replies.push(reply),
                Err(error) => panic!("{error} after {}", show_in_full(&replies)),
            }
        }
        replies
    }

    /// All that still comes before the server closes.
    pub async fn until_closed(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        while let Ok(reply) = self.try_next().await {
            replies.push(reply);
        }
        replies
    }

    pub async fn next(&mut self) -> Reply {
        self.try_next().await.unwrap_or_else(|error| panic!("instead of a message: {error}"))
    }

    /// # Errors
    /// The connection's end, and what else reading meets.
    pub async fn try_next(&mut self) -> io::Result<Reply> {
        let mut head = [0; 5];
        in_time("a message", self.stream.read_exact(&mut head)).await?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        assert!((4..=MAX_MESSAGE_BYTES).contains(&length), "{} of {length} bytes", head[0].escape_ascii());
        let mut body = vec![0; length - 4];
        in_time("a body", self.stream.read_exact(&mut body)).await?;
        let reply = Reply { tag: head[0], body };
        self.note(&reply);
        Ok(reply)
    }

    /// Bytes that are no message: the answer to an SSLRequest.
    pub async fn byte(&mut self) -> u8 {
        in_time("a byte", self.stream.read_u8()).await.expect("the server answers")
    }

    /// Whatever comes, message or not, before the other side closes.
    pub async fn bytes_until_closed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end, too.
        let _ = in_time("an end", self.stream.read_to_end(&mut bytes)).await;
        bytes
    }

    /// The same, but no further than to this end.
    pub async fn bytes_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) {
            match in_time("an end", self.stream.read_buf(&mut bytes)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        bytes
    }

    /// Asks, on a connection of its own, that what this one runs be cancelled; done when the server has closed it.
    pub async fn cancel(&self) {
        let mut other = Self::connect(self.port).await;
        other.send(&cancel_request(&self.key_data)).await;
        assert_eq!(other.until_closed().await, [], "a cancel request has no answer");
    }

    fn note(&mut self, reply: &Reply) {
        match reply.tag {
            b'K' => self.key_data.clone_from(&reply.body),
            b'S' => {
                let mut texts = reply.body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
                self.parameters.extend(texts.next().zip(texts.next()));
            }
            _ => {}
        }
    }
}

async fn in_time<T>(what: &str, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("no {what} for {PATIENCE:?}"))
}
