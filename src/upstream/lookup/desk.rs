//! The connection that questions are asked on. It is the pooler's own: no client is ever given it, and nothing of a client's
//! but the user's name, as a parameter's value, ever goes there (CVE-2025-12819).

use bytes::{BufMut, BytesMut};

use super::{Answer, LookupError, Shared};
use crate::upstream::connect::{ConnectSpec, connect};
use crate::upstream::dial::Dial;
use crate::upstream::intake::{Intake, Message};
use crate::upstream::{ConnectError, ServerError};
use crate::wire::reader::Reader;

/// The one statement of the connection.
const STATEMENT: &str = "auth_query";
/// Rows of one answer that are looked at; a right one has one.
const ROWS_MAX: usize = 2;

/// One for each user asked about, in their order.
pub(super) type Answers = Vec<Result<Answer, LookupError>>;

pub(super) struct Desk {
    intake: Intake,
}

impl Desk {
    /// Connects, and prepares the query.
    pub(super) async fn open(shared: &Shared) -> Result<Self, LookupError> {
        let upstream = &shared.project.upstream;
        let name = [("application_name".to_owned(), "sidepool auth_query".to_owned())];
        let spec = ConnectSpec {
            upstream,
            tls: &shared.tls,
            keys: &shared.keys,
            user: &shared.user,
            database: &upstream.database,
            credential: &shared.credential,
            parameters: &name,
        };
        let connected = connect(&spec).await?;
        let target = Dial { upstream, tls: &shared.tls, address: None }.target();
        let mut desk = Self { intake: Intake::new(connected.stream, target) };
        desk.prepare(&shared.sql).await?;
        Ok(desk)
    }

    /// The outer error ends the connection, an inner one is of that question alone: what some user's name does to a query
    /// keeps nobody else out.
    pub(super) async fn ask(&mut self, users: &[&str]) -> Result<Answers, LookupError> {
        let mut out = BytesMut::new();
        users.iter().for_each(|user| put_question(&mut out, user));
        self.send(&out).await?;
        let mut answers = Vec::with_capacity(users.len());
        for user in users {
            answers.push(self.answer(user).await?);
        }
        Ok(answers)
    }

    /// Whether the server hears of it changes nothing.
    pub(super) async fn close(mut self) {
        let _ = self.intake.send(b"X\0\0\0\x04").await;
    }

    async fn prepare(&mut self, sql: &str) -> Result<(), LookupError> {
        let mut out = BytesMut::new();
        put(&mut out, b'P', &[STATEMENT.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"]);
        put(&mut out, b'D', &[b"S", STATEMENT.as_bytes(), b"\0"]);
        put(&mut out, b'S', &[]);
        self.send(&out).await?;
        loop {
            let message = self.next().await?;
            let count = || Reader::new(message.body()).take(2).map(|count| u16::from_be_bytes([count[0], count[1]]));
            match message.tag() {
                b't' if count() != Some(1) => return Err(LookupError::Shape("the query does not take one parameter, the name")),
                b'T' if count() != Some(2) => {
                    return Err(LookupError::Shape("the query does not return two columns, user and secret"));
                }
                b'n' => return Err(LookupError::Shape("the query returns nothing")),
                b'Z' => return Ok(()),
                b'1' | b't' | b'T' | b'S' => {}
                _ => return Err(unexpected(&message)),
            }
        }
    }

    async fn answer(&mut self, user: &str) -> Result<Result<Answer, LookupError>, LookupError> {
        let (mut first, mut rows, mut failed) = (None, 0, None);
        self.intake.renew();
        loop {
            let message = match (self.next().await, failed.take()) {
                (Ok(message), None) => message,
                // An error skips up to the Sync.
                (Ok(message), Some(error)) if message.tag() == b'Z' => return Ok(Err(error)),
                (Ok(message), Some(_)) => return Err(unexpected(&message)),
                (Err(error @ LookupError::Refused(_)), None) => {
                    failed = Some(error);
                    continue;
                }
                (Err(error), _) => return Err(error),
            };
            match message.tag() {
                b'Z' => break,
                b'D' => {
                    rows = (rows + 1).min(ROWS_MAX);
                    first.get_or_insert(message);
                }
                b'2' | b'C' | b'S' | b's' => {}
                _ => return Err(unexpected(&message)),
            }
        }
        let row = "a DataRow that is not two values";
        Answer::read(user, first.as_ref(), rows).map(Ok).ok_or_else(|| ConnectError::protocol(row).into())
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), LookupError> {
        self.intake.renew();
        Ok(self.intake.send(bytes).await?)
    }

    /// An error ends the question, and the connection with it.
    async fn next(&mut self) -> Result<Message, LookupError> {
        self.intake.next().await.map_err(|error| match error {
            ConnectError::Refused(error) => refused(error),
            other => other.into(),
        })
    }
}

/// A server that goes down says so to whoever is connected: that is no answer.
fn refused(error: ServerError) -> LookupError {
    let error = ConnectError::Refused(error);
    match error {
        ConnectError::Refused(said) if !ConnectError::Refused(said.clone()).is_passing() => LookupError::Refused(said),
        passing => LookupError::Connect(passing),
    }
}

fn unexpected(message: &Message) -> LookupError {
    ConnectError::protocol(message.describe()).into()
}

/// Bind, Execute for as many rows as are looked at, Sync: an error of one question is its own.
fn put_question(out: &mut BytesMut, user: &str) {
    let length = (user.len() as u32).to_be_bytes();
    put(out, b'B', &[b"\0", STATEMENT.as_bytes(), b"\0", b"\0\0", b"\0\x01", &length, user.as_bytes(), b"\0\0"]);
    put(out, b'E', &[b"\0", &(ROWS_MAX as u32).to_be_bytes()]);
    put(out, b'S', &[]);
}

fn put(out: &mut BytesMut, tag: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.put_u8(tag);
    out.put_u32(4 + length as u32);
    parts.iter().for_each(|part| out.put_slice(part));
}
