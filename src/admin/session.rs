//! One session of the console: messages in, answers out.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, PgWireConnectionState};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::{Bind, Execute, Flush, Sync};
use pgwire::messages::response::ReadyForQuery;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Place;
use super::client::Client;
use super::handler::{Handler, wired};
use super::inbox::{self, BODY_BYTES_MAX, Message};
use crate::error::{PgError, SqlState};
use crate::net::stream::Stream;
use crate::session::House;
use crate::session::login::Login;
use crate::telemetry::log_connection;
use crate::wire::frame::HEADER_BYTES;
use crate::wire::reply;

pub(super) const VERSION: &str = concat!("Sidepool ", env!("CARGO_PKG_VERSION"));
/// As PgBouncer has it: drivers read the number, and people whose it is.
pub(super) const SERVER_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "/sidepool");

/// What PgBouncer tells a client of its console, by the same names.
const PARAMETERS: [(&str, &str); 8] = [
    ("server_version", SERVER_VERSION),
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("TimeZone", "GMT"),
    ("standard_conforming_strings", "on"),
    ("integer_datetimes", "on"),
    ("is_superuser", "on"),
];

/// Prepared statements and portals of one session.
const NAMES_MAX: usize = 64;
/// Answers are written when there are so many, in bytes.
const OUT_BYTES: usize = 256 * 1024;
/// What is read ahead of the message that is being answered, in bytes.
const INPUT_BYTES_MAX: usize = BODY_BYTES_MAX + HEADER_BYTES;

/// From the greeting to the end.
pub(super) async fn run(place: Place, house: Arc<House>, login: Login) {
    let user = login.who.route.user.clone();
    let peer = login.stream.peer();
    let (log, patience) = {
        let settings = house.settings.get();
        (settings.log.connections, settings.timeouts.recovery)
    };
    log_connection!(log, user, database = place.guest.about.pool.database, %peer, "client logged in at the console");
    let client = Client::new(&login.stream, &place.guest.cancel);
    let handler = Handler {
        desk: Arc::clone(&place.desk),
        house,
        project: login.who.route.project.name.clone(),
        user,
        asked: Mutex::default(),
    };
    let input = BytesMut::from(&login.early[..]);
    let mut session = Session { stream: login.stream, client, handler, names: BTreeSet::new(), input, batch: Batch::Runs };
    session.client.out.extend_from_slice(&login.greeting);
    let ended = tokio::select! {
        ended = session.converse(&place) => ended,
        () = place.guest.stopped() => session.take_leave(patience).await,
    };
    let error = ended.err();
    log_connection!(log, %peer, error = error.as_ref().map(tracing::field::display), "client left the console");
}

struct Session {
    stream: Stream,
    client: Client,
    handler: Handler,
    /// Prepared statements (`S`) and portals (`P`) that may be there.
    names: BTreeSet<(u8, String)>,
    input: BytesMut,
    batch: Batch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    Runs,
    /// Something in it failed: nothing counts up to its Sync.
    Failed,
}

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Message,
    End,
}

impl Session {
    async fn converse(&mut self, place: &Place) -> io::Result<()> {
        self.greet(place);
        loop {
            let message = match inbox::next(&mut self.input) {
                Ok(Some(message)) => message,
                Ok(None) => {
                    self.flush().await?;
                    if self.stream.read_buf(&mut self.input).await? == 0 {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => {
                    reply::error(&mut self.client.out, &error);
                    self.flush().await?;
                    return self.stream.shutdown().await;
                }
            };
            place.guest.set_busy(true);
            let next = self.answer(message).await;
            place.guest.set_busy(false);
            if next == Next::End {
                return self.stream.shutdown().await;
            }
            let asked = self.handler.asked.lock().take();
            if asked.is_some() || self.client.out.len() >= OUT_BYTES {
                self.flush().await?;
            }
            if let Some(signal) = asked {
                // It may be going down already.
                let _ = place.desk.reins.signals.send(signal);
            }
        }
    }

    fn greet(&mut self, place: &Place) {
        let out = &mut self.client.out;
        PARAMETERS.iter().for_each(|(name, value)| _ = reply::parameter_status(out, name, value));
        reply::backend_key_data(out, place.pid, &place.guest.key);
        reply::ready_for_query(out, reply::TransactionStatus::Idle);
    }

    /// Given up half-way, it goes on where it was: what has left is no more in the buffer.
    async fn flush(&mut self) -> io::Result<()> {
        if self.client.out.is_empty() {
            return Ok(());
        }
        while !self.client.out.is_empty() {
            if self.stream.write_buf(&mut self.client.out).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.stream.flush().await
    }

    /// The process ends, or somebody ended it. What it waited for is taken back.
    async fn take_leave(&mut self, patience: Duration) -> io::Result<()> {
        let why = PgError::fatal(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command");
        reply::error(&mut self.client.out, &why);
        let telling = async {
            self.flush().await?;
            self.stream.shutdown().await
        };
        tokio::time::timeout(patience, telling).await.unwrap_or(Ok(()))
    }

    /// One message; what it waits for ends with the client.
    async fn answer(&mut self, message: Message) -> Next {
        let is_simple = match &message {
            Message::Terminate => return Next::End,
            Message::Query(_) => true,
            _ => false,
        };
        // ## Failed => Runs
        match (&message, self.batch) {
            (Message::Sync, _) => self.batch = Batch::Runs,
            (_, Batch::Failed) => return Next::Message,
            (_, Batch::Runs) => {}
        }
        if let Err(error) = self.admit(&message) {
            self.failed(wired(error), is_simple);
            return Next::Message;
        }
        let (client, handler) = (&mut self.client, &self.handler);
        let answered = tokio::select! {
            answered = dispatch(client, handler, message) => answered,
            () = gone(&mut self.stream, &mut self.input) => return Next::End,
        };
        if let Err(error) = answered {
            self.failed(error, is_simple);
        }
        Next::Message
    }

    /// What pgwire does not look at itself.
    fn admit(&mut self, message: &Message) -> Result<(), PgError> {
        match message {
            Message::Parse(parse) => self.take_name(b'S', parse.name.as_deref()),
            Message::Bind(bind) => {
                no_parameters(bind)?;
                self.take_name(b'P', bind.portal_name.as_deref())
            }
            Message::Close(close) => {
                self.names.remove(&(close.target_type, close.name.clone().unwrap_or_default()));
                Ok(())
            }
            // PostgreSQL's portals end with the transaction, and here there are none.
            Message::Sync => {
                self.names.retain(|(kind, _)| *kind != b'P');
                self.client.portal_store().clear_portals();
                Ok(())
            }
            Message::Unsupported(kind) => {
                let message = format!("message type \"{}\" is not supported by the console", char::from(*kind));
                Err(PgError::error(SqlState::FEATURE_NOT_SUPPORTED, message))
            }
            _ => Ok(()),
        }
    }

    fn take_name(&mut self, kind: u8, name: Option<&str>) -> Result<(), PgError> {
        let name = (kind, name.unwrap_or_default().to_owned());
        if self.names.len() >= NAMES_MAX && !self.names.contains(&name) {
            return Err(PgError::error(SqlState::PROGRAM_LIMIT_EXCEEDED, "too many prepared statements and portals")
                .with_detail(format!("A session of the console may have {NAMES_MAX}."))
                .with_hint("Close some of them."));
        }
        self.names.insert(name);
        Ok(())
    }

    fn failed(&mut self, error: PgWireError, is_simple: bool) {
        let is_cancel = matches!(error, PgWireError::QueryCanceled);
        let mut info = ErrorInfo::from(error);
        if is_cancel {
            "canceling statement due to user request".clone_into(&mut info.message);
        }
        info.severity_nonlocalized = Some(info.severity.clone());
        let response = PgWireBackendMessage::ErrorResponse(info.into());
        let status = self.client.transaction_status().to_error_state();
        self.client.set_transaction_status(status);
        self.client.set_state(PgWireConnectionState::ReadyForQuery);
        // What cannot be written is too long, which none of them is.
        let _ = response.encode(&mut self.client.out);
        if is_simple {
            let _ = PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(status)).encode(&mut self.client.out);
        } else {
            // ## Runs => Failed
            self.batch = Batch::Failed;
        }
    }
}

async fn dispatch(client: &mut Client, handler: &Handler, message: Message) -> PgWireResult<()> {
    match message {
        Message::Query(query) => handler.on_query(client, query).await,
        Message::Parse(parse) => handler.on_parse(client, parse).await,
        Message::Bind(bind) => handler.on_bind(client, bind).await,
        Message::Describe(describe) => handler.on_describe(client, describe).await,
        Message::Execute(execute) => handler.on_execute(client, bounded(execute)).await,
        Message::Close(close) => handler.on_close(client, close).await,
        Message::Flush => handler.on_flush(client, Flush::new()).await,
        Message::Sync => handler.on_sync(client, Sync::new()).await,
        Message::Terminate | Message::Unsupported(_) => Ok(()),
    }
}

/// pgwire makes room for as many rows as are asked for, whatever there are. 0 is all.
fn bounded(execute: Execute) -> Execute {
    const ROWS_MAX: i32 = 10_000;
    let rows = if (0..=ROWS_MAX).contains(&execute.max_rows) { execute.max_rows } else { 0 };
    Execute::new(execute.name, rows)
}

fn no_parameters(bind: &Bind) -> Result<(), PgError> {
    if bind.parameters.is_empty() {
        return Ok(());
    }
    let (count, name) = (bind.parameters.len(), bind.statement_name.as_deref().unwrap_or_default());
    let message = format!("bind message supplies {count} parameters, but prepared statement \"{name}\" requires 0");
    Err(PgError::error(SqlState::PROTOCOL_VIOLATION, message)
        .with_hint("The console takes no parameters: write the values themselves."))
}

/// Until the client has gone; what it sends meanwhile is kept, within bounds.
async fn gone(stream: &mut Stream, input: &mut BytesMut) {
    while input.len() < INPUT_BYTES_MAX {
        if !matches!(stream.read_buf(input).await, Ok(read) if read > 0) {
            return;
        }
    }
    std::future::pending().await
}
