//! Who hears what over the shared connection: channels with their subscribers, and the LISTENs that are still to be said.

use std::collections::{HashMap, VecDeque};

use super::{Marker, Notification, write_statement};

/// Channels that are listened to, or no more, by one statement of ours; and its length, in bytes, but for the last of them.
const CHANGES_MAX: usize = 200;
const CHANGES_BYTES_MAX: usize = 8 * 1024;

/// The account of one connection's channels. `T` is where a subscriber's notifications go.
#[derive(Debug)]
pub struct Hub<T> {
    private: Box<[u8]>,
    channels: HashMap<Box<[u8]>, Channel>,
    subscribers: HashMap<u64, Subscriber<T>>,
    /// Channels of which the connection may not know yet what is wanted.
    dirty: VecDeque<Box<[u8]>>,
    /// Of the statement that has no answer yet.
    asked: Option<Vec<Box<[u8]>>>,
    /// Channels that somebody listens to.
    listened: usize,
}

#[derive(Debug, Default)]
struct Channel {
    connection: Connection,
    subscribers: Vec<u64>,
}

/// Whether the connection listens to a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Connection {
    #[default]
    Deaf,
    /// LISTEN was sent.
    Joining,
    Listens,
    /// UNLISTEN was sent.
    Parting,
}

#[derive(Debug)]
struct Subscriber<T> {
    to: T,
    channels: Vec<Box<[u8]>>,
    phase: Phase,
}

/// How far a subscription has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many of its channels are not listened to yet.
    Missing(usize),
    /// All are. The client's own server still hears for it, up to the marker.
    Ready,
    Open,
}

/// What a subscriber is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The connection listens to all its channels.
    Ready,
    /// The body of a NotificationResponse.
    Notification(&'a [u8]),
    /// Its marker: this was all.
    Home,
}

impl<T> Hub<T> {
    /// Nothing is listened to yet but the private channel, which is for the caller to see to.
    pub fn new(private: &str) -> Self {
        Self {
            private: private.as_bytes().into(),
            channels: HashMap::new(),
            subscribers: HashMap::new(),
            dirty: VecDeque::new(),
            asked: None,
            listened: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    pub fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    /// Those that somebody listens to.
    pub fn channels(&self) -> usize {
        self.listened
    }

    pub fn subscribe(&mut self, id: u64, channels: &[Box<[u8]>], to: T, mut tell: impl FnMut(&T, Heard<'_>)) {
        let mut missing = 0;
        for name in channels {
            let channel = self.channels.entry(name.clone()).or_default();
            self.listened += usize::from(channel.subscribers.is_empty());
            channel.subscribers.push(id);
            if channel.connection != Connection::Listens {
                missing += 1;
                self.dirty.push_back(name.clone());
            }
        }
        // ## => (Missing | Ready)
        let phase = if missing == 0 { Phase::Ready } else { Phase::Missing(missing) };
        if phase == Phase::Ready {
            tell(&to, Heard::Ready);
        }
        self.subscribers.insert(id, Subscriber { to, channels: channels.into(), phase });
    }

    pub fn unsubscribe(&mut self, id: u64) {
        let Some(gone) = self.subscribers.remove(&id) else { return };
        for name in gone.channels {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            channel.subscribers.retain(|other| *other != id);
            if channel.subscribers.is_empty() {
                self.listened -= 1;
                self.dirty.push_back(name);
            }
        }
    }

    /// Everybody, when the connection is gone; whether they were listening by it already.
    pub fn disband(self) -> impl Iterator<Item = (T, bool)> {
        self.subscribers.into_values().map(|s| (s.to, s.phase == Phase::Open))
    }

    pub fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// The next text for the connection, if there is anything to say and the last one was answered.
    pub fn ask(&mut self) -> Option<Vec<u8>> {
        if self.is_asking() {
            return None;
        }
        let (mut sql, mut asked) = (Vec::new(), Vec::new());
        while asked.len() < CHANGES_MAX
            && sql.len() < CHANGES_BYTES_MAX
            && let Some(name) = self.dirty.pop_front()
        {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            match (channel.connection, channel.subscribers.is_empty()) {
                (Connection::Deaf, false) => {
                    // ## Deaf => Joining
                    channel.connection = Connection::Joining;
                    write_statement("LISTEN", &name, &mut sql);
                    asked.push(name);
                }
                (Connection::Listens, true) => {
                    // ## Listens => Parting
                    channel.connection = Connection::Parting;
                    write_statement("UNLISTEN", &name, &mut sql);
                    asked.push(name);
                }
                (Connection::Deaf, true) => _ = self.channels.remove(&name),
                // As it is wanted, or looked at again when what is under way was answered.
                _ => {}
            }
        }
        if asked.is_empty() {
            return None;
        }
        self.asked = Some(asked);
        Some(sql)
    }

    /// Asks for a sign of life, if nothing else is being asked.
    pub fn check(&mut self) -> Option<Vec<u8>> {
        if self.is_asking() {
            return None;
        }
        self.asked = Some(Vec::new());
        Some(Vec::new())
    }

    /// ReadyForQuery, and no error before it: what was asked is done.
    pub fn answered(&mut self, mut tell: impl FnMut(&T, Heard<'_>)) {
        for name in self.asked.take().unwrap_or_default() {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            // ## (Joining | Parting) => (Listens | Deaf)
            let joined = channel.connection == Connection::Joining;
            channel.connection = if joined { Connection::Listens } else { Connection::Deaf };
            if channel.subscribers.is_empty() == joined {
                self.dirty.push_back(name.clone());
            }
            if joined {
                for id in &channel.subscribers {
                    if let Some(subscriber) = self.subscribers.get_mut(id) {
                        subscriber.joined(&mut tell);
                    }
                }
            } else if channel.subscribers.is_empty() {
                self.channels.remove(&name);
            }
        }
    }

    /// The body of a NotificationResponse.
    pub fn hear(&mut self, body: &[u8], mut tell: impl FnMut(&T, Heard<'_>)) {
        let Some(Notification { channel, payload }) = Notification::read(body) else { return };
        if *channel == *self.private {
            return self.pass(Marker::read(payload), tell);
        }
        let Some(channel) = self.channels.get(channel) else { return };
        for id in &channel.subscribers {
            if let Some(Subscriber { to, phase: Phase::Open, .. }) = self.subscribers.get(id) {
                tell(to, Heard::Notification(body));
            }
        }
    }

    fn pass(&mut self, marker: Option<Marker>, mut tell: impl FnMut(&T, Heard<'_>)) {
        match marker {
            Some(Marker::Away(id)) => {
                if let Some(subscriber) = self.subscribers.get_mut(&id).filter(|s| s.phase == Phase::Ready) {
                    // ## Ready => Open
                    subscriber.phase = Phase::Open;
                }
            }
            Some(Marker::Home(id)) => {
                if let Some(subscriber) = self.subscribers.get(&id).filter(|s| s.phase == Phase::Open) {
                    tell(&subscriber.to, Heard::Home);
                    self.unsubscribe(id);
                }
            }
            None => {}
        }
    }
}

impl<T> Subscriber<T> {
    fn joined(&mut self, tell: &mut impl FnMut(&T, Heard<'_>)) {
        if let Phase::Missing(missing) = &mut self.phase {
            *missing -= 1;
            if *missing == 0 {
                // ## Missing => Ready
                self.phase = Phase::Ready;
                tell(&self.to, Heard::Ready);
            }
        }
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
