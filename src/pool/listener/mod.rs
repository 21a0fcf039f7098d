//! One connection that listens for all clients of a pool that listen to anything.
//!
//! Opened when a client's LISTEN keeps a server that somebody else wants, closed when nobody has listened for a while. It takes a
//! place of the upstream's limit and none of the pool's. Where it cannot be had, the client keeps its server.

mod connection;
mod mailbox;

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Pool, Server};
use crate::wire::listen::{Moved, private_channel};
use mailbox::Mailbox;
pub use mailbox::{MAILBOX_BYTES_MAX, Standing};

/// After the listener could not be had, nobody asks for it for so long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The pool's end of it.
#[derive(Debug)]
pub(super) struct Listener {
    state: Mutex<State>,
    /// The channel on which the pooler talks to itself.
    private: Arc<str>,
}

#[derive(Debug)]
struct State {
    line: Line,
    subscriptions: u64,
}

#[derive(Debug)]
enum Line {
    Closed,
    /// It could not be had then.
    Refused(Instant),
    Open(Open),
}

#[derive(Debug)]
struct Open {
    commands: UnboundedSender<Command>,
    /// Of the subscription that it was opened for.
    number: u64,
    /// What it is connected to: the number of the pool's generation.
    generation: u64,
    /// Clients that it listens for, and their channels: for people.
    listening: (usize, usize),
}

#[derive(Debug)]
enum Command {
    Subscribe(Order),
    Unsubscribe(u64),
    /// Its database is wanted without others in it.
    CloseIfUnused,
    /// What it is connected to is not what the pool connects to any more.
    End,
}

#[derive(Debug)]
struct Order {
    id: u64,
    channels: Arc<[Box<[u8]>]>,
    /// The client's, in which it named its channels and wants to be told.
    encoding: Box<str>,
    mailbox: Arc<Mailbox>,
}

/// One client's part in the pool's listener, until dropped.
#[derive(Debug)]
pub struct Subscription {
    mailbox: Arc<Mailbox>,
    commands: UnboundedSender<Command>,
    moved: Moved,
    encoding: Box<str>,
}

impl Listener {
    pub(super) fn new() -> Self {
        let mut random = [0; 16];
        if SystemRandom::new().fill(&mut random).is_err() {
            tracing::error!("the system gives no random bytes: another pooler may take our channel");
        }
        Self { state: Mutex::new(State { line: Line::Closed, subscriptions: 0 }), private: private_channel(random) }
    }

    pub(super) fn close_if_unused(&self) {
        if let Line::Open(open) = &self.state.lock().line {
            let _ = open.commands.send(Command::CloseIfUnused);
        }
    }

    /// Whether there is a connection, or will be.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state.lock().line, Line::Open(_))
    }

    /// Its clients are ended, as by a connection that was lost: what they listen to may be somewhere else now.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        // ## (Open | Refused) => Closed
        if let Line::Open(open) = std::mem::replace(&mut state.line, Line::Closed) {
            let _ = open.commands.send(Command::End);
        }
    }

    /// Nobody is sent there any more; what was sent meanwhile is left in the receiver.
    fn closes(&self, number: u64, line: Line) {
        let mut state = self.state.lock();
        if state.is_open(number) {
            // ## Open => (Closed | Refused)
            state.line = line;
        }
    }

    /// The same, unless somebody has been sent there.
    fn closes_unless_wanted(&self, number: u64, receiver: &UnboundedReceiver<Command>) -> bool {
        let mut state = self.state.lock();
        let closes = receiver.is_empty();
        if closes && state.is_open(number) {
            // ## Open => Closed
            state.line = Line::Closed;
        }
        closes
    }

    /// Clients and channels of one that may have been closed since.
    fn count(&self, number: u64, listening: (usize, usize)) {
        if let Line::Open(open) = &mut self.state.lock().line
            && open.number == number
        {
            open.listening = listening;
        }
    }
}

impl State {
    /// Not closed, nor another opened in its place.
    fn is_open(&self, number: u64) -> bool {
        matches!(&self.line, Line::Open(open) if open.number == number)
    }
}

impl Pool {
    /// Asks the pool's listener to listen to these channels for a client with this `client_encoding`; `waker` is woken when
    /// there is news. `None`: it could not be had a moment ago, or is connected to something else than `server`, which listens
    /// for the client now.
    pub fn subscribe(
        self: &Arc<Self>,
        channels: &[Box<[u8]>],
        encoding: &str,
        server: &Server,
        waker: &Waker,
    ) -> Option<Subscription> {
        if !self.may_listen_for(server) {
            return None;
        }
        let mut names = channels.to_vec();
        names.sort_unstable();
        names.dedup();
        let mailbox = Arc::new(Mailbox::new(waker));
        let mut state = self.listener.state.lock();
        // Again: whoever begins anew ends the listener after that.
        if server.generation_number() != self.generation_number() {
            return None;
        }
        state.subscriptions += 1;
        let moved = Moved { id: state.subscriptions, names: names.into(), private: Arc::clone(&self.listener.private) };
        let commands = match &state.line {
            Line::Open(open) => open.commands.clone(),
            Line::Closed | Line::Refused(_) => {
                let (commands, receiver) = unbounded_channel();
                // ## (Closed | Refused) => Open
                let (number, generation) = (state.subscriptions, server.generation_number());
                state.line = Line::Open(Open { commands: commands.clone(), number, generation, listening: (0, 0) });
                self.opener.spawner.spawn(connection::serve(Arc::clone(self), number, receiver));
                commands
            }
        };
        let (channels, encoding) = (Arc::clone(&moved.names), Box::from(encoding));
        let order = Order { id: moved.id, channels, encoding: Box::clone(&encoding), mailbox: Arc::clone(&mailbox) };
        // The line is closed under the lock that we have.
        let _ = commands.send(Command::Subscribe(order));
        drop(state);
        Some(Subscription { mailbox, commands, moved, encoding })
    }

    /// Whether there is a listener, or may be.
    pub(super) fn may_listen(&self) -> bool {
        !matches!(self.listener.state.lock().line, Line::Refused(at) if at.elapsed() < RETRY_AFTER)
    }

    /// The same, for what `server` listens to.
    pub fn may_listen_for(&self, server: &Server) -> bool {
        let current = self.generation_number();
        let meets = match &self.listener.state.lock().line {
            Line::Open(open) => open.generation == current,
            Line::Closed | Line::Refused(_) => true,
        };
        meets && server.generation_number() == current && self.may_listen()
    }

    /// Clients that the listener listens for, and their channels.
    pub fn listening(&self) -> (usize, usize) {
        match &self.listener.state.lock().line {
            Line::Open(open) => open.listening,
            Line::Closed | Line::Refused(_) => (0, 0),
        }
    }
}

impl Subscription {
    pub fn standing(&self) -> Standing {
        self.mailbox.standing()
    }

    pub fn moved(&self) -> &Moved {
        &self.moved
    }

    /// The `client_encoding` of what is heard.
    pub fn encoding(&self) -> &str {
        &self.encoding
    }

    /// Messages for the client, in order, until there are `room` bytes of them or no more; how many, and whether these
    /// were all.
    pub fn take(&self, out: &mut Vec<u8>, room: usize) -> (u64, bool) {
        self.mailbox.take(out, room)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Unsubscribe(self.moved.id));
    }
}
