//! The listener's connection, and the task that has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedReceiver;

use super::mailbox::{Crowd, Mailbox, Standing};
use super::{Command, Line, Order};
use crate::config::Timeouts;
use crate::net::stream::Stream;
use crate::pool::Pool;
use crate::pool::budget::Permit;
use crate::telemetry::log_connection;
use crate::wire::fields::Fields;
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::listen::{Heard, Hub, write_identifier};
use crate::wire::tag::{client, server};

/// Read at once, in bytes.
const READ_BYTES: usize = 16 * 1024;
/// A message longer than this is none of those that a listener is sent, in bytes. A payload is shorter than 8 000.
const MESSAGE_BYTES_MAX: u32 = 256 * 1024;
/// How long the connection stays when nobody listens any more.
const LINGER: Duration = Duration::from_secs(10);
/// Until it is looked again whether a client that is slower than a burst has read some of it.
const CROWD_PAUSE: Duration = Duration::from_millis(5);
/// As people see it in pg_stat_activity.
const APPLICATION_NAME: &str = "sidepool listener";

/// The listener's connection.
struct Connection {
    pool: Arc<Pool>,
    /// Among all that the pool has opened.
    number: u64,
    /// Of the server's process.
    pid: i32,
    stream: Stream,
    encoding: String,
    timeouts: Timeouts,
    hub: Hub<Arc<Mailbox>>,
    input: Vec<u8>,
    crowd: Crowd,
    /// When what it is asked now was sent, or when it said something last.
    since: Instant,
    /// When it is closed; `None` while anybody listens.
    closes_at: Option<Instant>,
    _permit: Permit,
}

/// Why a listener's connection ended.
#[derive(Debug)]
enum Lost {
    Io(std::io::Error),
    Closed,
    Silent,
    /// The pool connects to something else now, or not at all.
    Replaced,
    /// A statement of ours was refused, or something came that nobody asked for.
    Said(String),
}

/// Opens the connection and keeps it while anybody listens.
pub(super) async fn serve(pool: Arc<Pool>, number: u64, mut commands: UnboundedReceiver<Command>) {
    let Some(mut connection) = open(&pool, number).await else {
        pool.listener.closes(number, Line::Refused(Instant::now()));
        return refuse_all(&mut commands);
    };
    match connection.run(&mut commands).await {
        Ok(()) => {
            let (log, pid) = (pool.terms().settings.log.connections, connection.pid);
            log_connection!(log, pid, %pool, "listening connection closed: nobody listens");
            let _ = connection.stream.write_all(b"X\0\0\0\x04").await;
            let _ = connection.stream.shutdown().await;
        }
        Err(lost) => connection.lost(&lost, &mut commands),
    }
}

fn refuse_all(commands: &mut UnboundedReceiver<Command>) {
    while let Ok(command) = commands.try_recv() {
        if let Command::Subscribe(order) = command {
            // ## Asked => Refused
            order.mailbox.becomes(Standing::Refused);
        }
    }
}

async fn open(pool: &Arc<Pool>, number: u64) -> Option<Connection> {
    let terms = pool.terms();
    let Some(permit) = pool.budget.spare(pool) else {
        tracing::warn!(
            %pool,
            "no connection is left for a listener: clients that LISTEN keep a server each. Raise limits.max_server_connections"
        );
        return None;
    };
    let parameters = [("application_name".to_owned(), APPLICATION_NAME.to_owned())];
    let connected = match pool.connect(&terms, &pool.opener.credential.get(), &parameters).await {
        Ok(connected) => connected,
        Err(error) => {
            tracing::warn!(%pool, %error, "cannot open a connection that listens for clients");
            return None;
        }
    };
    let pid = connected.key.pid;
    log_connection!(terms.settings.log.connections, pid, %pool, "listening connection opened");
    let encoding = connected.parameters.iter().find(|(name, _)| name == "client_encoding");
    let mut connection = Connection {
        pool: Arc::clone(pool),
        number,
        pid,
        stream: connected.stream,
        encoding: encoding.map(|(_, value)| value.clone()).unwrap_or_default(),
        timeouts: terms.settings.timeouts.clone(),
        hub: Hub::new(&pool.listener.private),
        input: Vec::new(),
        crowd: Crowd::default(),
        since: Instant::now(),
        closes_at: None,
        _permit: permit,
    };
    let mut sql = b"LISTEN ".to_vec();
    write_identifier(pool.listener.private.as_bytes(), &mut sql);
    connection.hub.check();
    connection.send(&sql).await.ok()?;
    Some(connection)
}

impl Connection {
    /// Until nobody listens any more.
    async fn run(&mut self, commands: &mut UnboundedReceiver<Command>) -> Result<(), Lost> {
        let mut room = vec![0; READ_BYTES];
        loop {
            self.say_what_is_due().await?;
            let deadline = self.deadline();
            let reads = self.has_room();
            let crowd = tokio::time::sleep(CROWD_PAUSE);
            tokio::select! {
                () = crowd, if !reads => {}
                read = self.stream.read(&mut room), if reads => match read.map_err(Lost::Io)? {
                    0 => return Err(Lost::Closed),
                    read => {
                        self.input.extend_from_slice(&room[..read]);
                        self.since = Instant::now();
                        self.hear()?;
                    }
                },
                command = commands.recv() => match command {
                    Some(Command::Subscribe(order)) => self.subscribe(order),
                    Some(Command::Unsubscribe(id)) => self.hub.unsubscribe(id),
                    Some(Command::CloseIfUnused) => self.closes_at = Some(Instant::now()),
                    Some(Command::End) => return Err(Lost::Replaced),
                    None => {}
                },
                () = at(deadline) => self.look_at_the_clock().await?,
            }
            self.count();
            if self.is_unused() && self.pool.listener.closes_unless_wanted(self.number, commands) {
                return Ok(());
            }
        }
    }

    /// Whether nobody who is reading has very many notifications waiting: then the server's own socket fills, as with a client
    /// of its own that is slower than a burst.
    fn has_room(&mut self) -> bool {
        let has_room = !self.crowd.is_reading();
        if !has_room {
            self.since = Instant::now();
        }
        has_room
    }

    fn subscribe(&mut self, order: Order) {
        if *order.encoding != *self.encoding {
            tracing::debug!(pool = %self.pool, encoding = %order.encoding, "a client of another encoding keeps its server");
            // ## Asked => Refused
            return order.mailbox.becomes(Standing::Refused);
        }
        self.hub.subscribe(order.id, &order.channels, order.mailbox, tell);
    }

    fn count(&mut self) {
        self.pool.listener.count(self.number, (self.hub.subscribers(), self.hub.channels()));
        let linger = || Instant::now() + LINGER;
        self.closes_at = self.hub.is_empty().then(|| self.closes_at.unwrap_or_else(linger));
    }

    fn is_unused(&self) -> bool {
        self.closes_at.is_some_and(|at| at <= Instant::now())
    }

    /// When something is to be done that nothing else wakes us for.
    fn deadline(&self) -> Option<Instant> {
        let timeouts = &self.timeouts;
        let silence = match self.hub.is_asking() {
            true => Some(timeouts.recovery),
            false => Some(timeouts.server_check).filter(|after| !after.is_zero()),
        };
        let deadline = silence.map(|silence| self.since + silence);
        [deadline, self.closes_at].into_iter().flatten().min()
    }

    /// A connection that a firewall forgot shows no end of file: it is asked for a sign of life (trap 16).
    async fn look_at_the_clock(&mut self) -> Result<(), Lost> {
        if self.deadline().is_none_or(|deadline| Instant::now() < deadline) || self.is_unused() {
            return Ok(());
        }
        match self.hub.check() {
            Some(sql) => self.send(&sql).await,
            None => Err(Lost::Silent),
        }
    }

    async fn say_what_is_due(&mut self) -> Result<(), Lost> {
        match self.hub.ask() {
            Some(sql) => self.send(&sql).await,
            None => Ok(()),
        }
    }

    /// One statement at a time, of a few KiB: the server reads it without being read from meanwhile.
    async fn send(&mut self, sql: &[u8]) -> Result<(), Lost> {
        let mut message = Vec::with_capacity(HEADER_BYTES + sql.len() + 1);
        Header { tag: client::QUERY, body: u32::try_from(sql.len() + 1).unwrap_or(u32::MAX) }.write(&mut message);
        message.extend_from_slice(sql);
        message.push(0);
        self.since = Instant::now();
        self.stream.write_all(&message).await.map_err(Lost::Io)?;
        self.stream.flush().await.map_err(Lost::Io)
    }

    /// Whole messages of the input.
    fn hear(&mut self) -> Result<(), Lost> {
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some(header) = Header::read(&input[at..]).map_err(|bad| unexpected(bad.tag))? {
            if header.body > MESSAGE_BYTES_MAX {
                return Err(unexpected(header.tag));
            }
            let Some(message) = input.get(at..at + header.message_bytes()) else { break };
            self.hear_message(header.tag, message)?;
            at += message.len();
        }
        self.input = input;
        self.input.drain(..at);
        Ok(())
    }

    fn hear_message(&mut self, tag: u8, message: &[u8]) -> Result<(), Lost> {
        let body = &message[HEADER_BYTES..];
        match tag {
            server::NOTIFICATION => {
                // Copied once, for all who are told.
                let mut shared = None;
                let crowd = &mut self.crowd;
                self.hub.hear(body, |mailbox, heard| match heard {
                    Heard::Notification(_) => {
                        if mailbox.put(shared.get_or_insert_with(|| Bytes::copy_from_slice(message))) {
                            crowd.add(mailbox);
                        }
                    }
                    heard => tell(mailbox, heard),
                });
            }
            server::READY_FOR_QUERY => self.hub.answered(tell),
            server::ERROR => {
                return Err(Lost::Said(Fields::new(body).message().unwrap_or_default().into_owned()));
            }
            server::COMMAND_COMPLETE | server::EMPTY_QUERY | server::NOTICE | server::PARAMETER_STATUS => {}
            tag => return Err(unexpected(tag)),
        }
        Ok(())
    }

    /// Nobody knows what was sent between now and the next connection: PostgreSQL ends a session whose connection broke, and
    /// the client looks again at what it waits for. So do we.
    fn lost(self, lost: &Lost, commands: &mut UnboundedReceiver<Command>) {
        let Self { pool, number, pid, hub, .. } = self;
        let log = pool.terms().settings.log.connections;
        match hub.subscribers() {
            0 => log_connection!(log, pid, %pool, %lost, "listening connection closed: it was lost, and nobody listens"),
            clients => {
                tracing::warn!(pid, %pool, %lost, clients, "the connection that listens for clients was lost: they are ended");
                pool.tally.listeners_lost.one();
            }
        }
        pool.listener.closes(number, Line::Closed);
        for (mailbox, is_moved) in hub.disband() {
            // ## (Asked | Ready) => (Refused | Lost)
            mailbox.becomes(if is_moved { Standing::Lost } else { Standing::Refused });
        }
        refuse_all(commands);
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Closed => f.write_str("the server closed it"),
            Self::Silent => f.write_str("it gave no sign of life"),
            Self::Replaced => f.write_str("the pool begins anew"),
            Self::Said(what) => write!(f, "the server said {what}"),
        }
    }
}

/// Never, for no deadline.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn tell(mailbox: &Arc<Mailbox>, heard: Heard<'_>) {
    match heard {
        // ## Asked => Ready
        Heard::Ready => mailbox.becomes(Standing::Ready),
        // ## Ready => Over
        Heard::Home => mailbox.becomes(Standing::Over),
        Heard::Notification(_) => {}
    }
}

fn unexpected(tag: u8) -> Lost {
    Lost::Said(format!("a message of type {}", tag.escape_ascii()))
}
