//! A client's channels leave its server for the pool's shared listener, and come back. `wire::listen` says why the cut is
//! exact.

use std::sync::Arc;

use super::super::extended::write_message;
use super::super::listen::{CHANNELS_MAX, Marker, Moved};
use super::super::names::Holds;
use super::super::plan::{Entry, Kind, Note, Status};
use super::super::sql::Leaves;
use super::super::tag::client as tag;
use super::{ClientSide, ServerSide};

/// Where a client's channels are listened to.
#[derive(Debug)]
pub(super) enum Channels {
    /// On its own server, if anywhere.
    Here,
    /// Its server has been asked to say the marker; nothing of the client's is sent to it meanwhile.
    Leaving(Box<Moved>),
    /// The marker was there: the listener hears for the client, and what its server still hears is not told.
    Left(Box<Moved>),
    /// The same, and the server has been told to listen no more.
    Parting(Box<Moved>),
    /// By the listener.
    Away(Box<Moved>),
    /// Its server has said the marker of the way back: what the listener heard before it comes first.
    Returning,
}

/// [`Channels`], for who moves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Here,
    /// On their way, and not to be told of yet by the listener.
    Leaving,
    /// Its server has heard the marker and is still to be told to listen no more ([`ServerSide::part`]).
    Left,
    Away,
    /// The listener's words are to be told up to its last one, and the server's after that ([`ClientSide::returned`]).
    Returning,
}

impl Channels {
    #[inline]
    pub(super) const fn is_here(&self) -> bool {
        matches!(self, Self::Here)
    }

    /// A marker that the client's server has heard.
    pub(super) fn pass(&mut self, marker: Option<Marker>) {
        *self = match (std::mem::replace(self, Self::Here), marker) {
            // ## Leaving => Left
            (Self::Leaving(moved), Some(Marker::Away(id))) if id == moved.id => Self::Left(moved),
            // ## Away => Returning
            (Self::Away(moved), Some(Marker::Home(id))) if id == moved.id => Self::Returning,
            (same, _) => same,
        };
    }

    /// Whether the listener tells the client what comes on this channel, and not its server.
    pub(super) fn are_elsewhere(&self, channel: &[u8]) -> bool {
        match self {
            Self::Left(moved) | Self::Parting(moved) | Self::Away(moved) => moved.has(channel),
            Self::Here | Self::Leaving(_) | Self::Returning => false,
        }
    }
}

impl ClientSide {
    pub fn place(&self) -> Place {
        match self.channels {
            Channels::Here => Place::Here,
            Channels::Leaving(_) | Channels::Parting(_) => Place::Leaving,
            Channels::Left(_) => Place::Left,
            Channels::Away(_) => Place::Away,
            Channels::Returning => Place::Returning,
        }
    }

    #[inline]
    pub const fn is_returning(&self) -> bool {
        matches!(self.channels, Channels::Returning)
    }

    /// Its server is the pooler's for a moment.
    #[inline]
    pub(super) const fn is_leaving(&self) -> bool {
        matches!(self.channels, Channels::Leaving(_) | Channels::Left(_) | Channels::Parting(_))
    }

    /// All that the listener had is told; or the client is gone, and nothing more is.
    pub fn returned(&mut self) {
        // ## Returning => Here
        self.channels = Channels::Here;
    }

    pub(super) fn moved(&self) -> Option<&Moved> {
        match &self.channels {
            Channels::Away(moved) => Some(moved),
            _ => None,
        }
    }
}

impl ServerSide {
    /// The channels that hold it for its client, if nothing else does and they can be moved.
    pub fn movable(&self, client: &ClientSide) -> Option<&[Box<[u8]>]> {
        let may = client.channels.is_here()
            && self.pins.has(Leaves::LISTEN)
            && !self.leaves.has(Leaves::ASKABLE)
            && self.held_for(client) == Leaves::LISTEN
            && !self.found.is_empty()
            && self.found.len() <= CHANNELS_MAX;
        may.then_some(&*self.found)
    }

    /// The listener hears what the client's server hears. From a marker on, the listener's word counts; until that is through
    /// the server is the pooler's alone.
    pub fn depart(&mut self, client: &mut ClientSide, moved: Moved, to_server: &mut Vec<u8>) {
        let (mut listen, mut notify) = (Vec::new(), Vec::new());
        moved.write_departure(&mut listen, &mut notify);
        self.private = Some(Arc::clone(&moved.private));
        // ## Here => Leaving
        client.channels = Channels::Leaving(Box::new(moved));
        self.say(&listen, Note::None, to_server);
        self.say(&notify, Note::Departs, to_server);
    }

    /// The marker is through.
    pub fn part(&mut self, client: &mut ClientSide, to_server: &mut Vec<u8>) {
        match std::mem::replace(&mut client.channels, Channels::Here) {
            Channels::Left(moved) => {
                // ## Left => Parting
                client.channels = Channels::Parting(moved);
                self.say(b"UNLISTEN *", Note::Departed, to_server);
            }
            other => client.channels = other,
        }
    }

    /// Brings the client's channels back to this server, which is idle.
    pub fn fetch_home(&mut self, client: &ClientSide, to_server: &mut Vec<u8>) {
        let Some(moved) = client.moved() else { return };
        let (mut sql, mut hush) = (Vec::new(), Vec::new());
        moved.write_return(&mut sql);
        super::super::listen::write_statement("UNLISTEN", moved.private.as_bytes(), &mut hush);
        self.expect_home(moved);
        self.say(&sql, Note::Returns, to_server);
        self.say(&hush, Note::Hushes, to_server);
    }

    /// Channels may be listened to here from now on, and markers.
    pub(super) fn expect_home(&mut self, moved: &Moved) {
        self.private = Some(Arc::clone(&moved.private));
        self.leaves |= Leaves::LISTEN;
    }

    /// Channels that a statement listened to behind the scan's back, while its client's others are at the listener.
    pub fn has_strays(&self, client: &ClientSide) -> bool {
        client.moved().is_some() && self.pins.has(Leaves::LISTEN) && !self.leaves.has(Leaves::LISTEN) && !self.found.is_empty()
    }

    /// Whether it may hear markers, that are not for it any more.
    pub fn hears_markers(&self) -> bool {
        self.private.is_some()
    }

    /// It is to hear markers no more: nobody shall see the pooler's own channel among his.
    pub fn hush(&mut self, to_server: &mut Vec<u8>) {
        let Some(private) = self.private.clone() else { return };
        let mut sql = Vec::new();
        super::super::listen::write_statement("UNLISTEN", private.as_bytes(), &mut sql);
        self.say(&sql, Note::Hushes, to_server);
    }

    /// A statement of ours about channels was answered.
    pub(super) fn channels_done(&mut self, client: &mut ClientSide, done: &Note) {
        match done {
            // The marker would be there, had it been sent.
            // ## Leaving => Here
            Note::Departs if matches!(client.channels, Channels::Leaving(_)) => client.channels = Channels::Here,
            Note::Departed => {
                self.leaves = self.leaves.without(Leaves::LISTEN);
                self.pins = self.pins.without(Leaves::LISTEN);
                self.found = Vec::new();
                self.private = None;
                client.channels = match std::mem::replace(&mut client.channels, Channels::Here) {
                    // ## Parting => Away
                    Channels::Parting(moved) => Channels::Away(moved),
                    other => other,
                };
            }
            Note::Hushes if self.status() == Status::Idle => self.private = None,
            _ => {}
        }
    }

    pub(super) fn say(&mut self, sql: &[u8], note: Note, to_server: &mut Vec<u8>) {
        write_message(tag::QUERY, &[sql, b"\0"], 0, to_server);
        self.plan.push(Entry::swallow(Kind::Query).noting(note));
        self.unnamed = Holds::Nothing;
    }
}
