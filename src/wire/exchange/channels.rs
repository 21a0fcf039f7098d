//! A client's channels leave its server for the pool's shared listener, and come back. `wire::listen` says why the cut is
//! exact.

use std::sync::Arc;

use super::super::extended::write_message;
use super::super::listen::{CHANNELS_MAX, Marker, Moved, is_like_private};
use super::super::names::Holds;
use super::super::plan::{Entry, Kind, Note, Status};
use super::super::probe::UNTIMED;
use super::super::sql::Leaves;
use super::super::tag::client as tag;
use super::{Broken, ClientSide, ServerSide};

/// As often as this in a row a server may say no to an UNLISTEN of the pooler's own channel. It has no reason to but that
/// somebody cancels it.
const HUSH_REFUSALS_MAX: u8 = 3;

/// Where a client's channels are listened to. Here, on its own server, if anywhere, costs a pointer.
#[derive(Debug, Default)]
pub(super) struct Channels(Option<Box<Elsewhere>>);

#[derive(Debug)]
struct Elsewhere {
    stage: Stage,
    moved: Moved,
    /// The batch in which they were called back last, together with statements of the client's.
    recalled_in: Option<u64>,
    /// The batch behind which the marker of the way back is yet to be made heard.
    rejoins_behind: Option<u64>,
}

/// The pooler's own channel, which a server may hear.
#[derive(Debug)]
pub(super) struct Private {
    name: Arc<str>,
    /// So often it has said no when it was to hear it no more.
    refusals: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its server has been asked to say the marker; nothing of the client's is sent to it meanwhile.
    Leaving,
    /// The marker was there: the listener hears for the client, and what its server still hears is not told.
    Left,
    /// The same, and the server has been told to listen no more.
    Parting,
    /// The listener hears for it.
    Away,
    /// Its server has said the marker of the way back: what the listener heard before it comes first.
    Returning,
}

/// Where a client's channels are, for who moves them.
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

impl Elsewhere {
    fn leaving(moved: Moved) -> Self {
        Self { stage: Stage::Leaving, moved, recalled_in: None, rejoins_behind: None }
    }
}

impl Private {
    fn new(moved: &Moved) -> Self {
        Self { name: Arc::clone(&moved.private), refusals: 0 }
    }
}

impl Channels {
    #[inline]
    pub(super) const fn is_here(&self) -> bool {
        self.0.is_none()
    }

    #[inline]
    fn stage(&self) -> Option<Stage> {
        self.0.as_ref().map(|elsewhere| elsewhere.stage)
    }

    /// A marker that the client's server has heard.
    pub(super) fn pass(&mut self, marker: Option<Marker>) {
        let Some(Elsewhere { stage, moved, .. }) = self.0.as_deref_mut() else { return };
        *stage = match (*stage, marker) {
            // ## Leaving => Left
            (Stage::Leaving, Some(Marker::Away(id))) if id == moved.id => Stage::Left,
            // ## Away => Returning
            (Stage::Away, Some(Marker::Home(id))) if id == moved.id => Stage::Returning,
            (same, _) => same,
        };
    }

    /// Whether the listener tells the client what comes on this channel, and not its server.
    pub(super) fn are_elsewhere(&self, channel: &[u8]) -> bool {
        let Some(Elsewhere { stage, moved, .. }) = self.0.as_deref() else { return false };
        matches!(stage, Stage::Left | Stage::Parting | Stage::Away) && moved.has(channel)
    }
}

impl ClientSide {
    pub fn place(&self) -> Place {
        match self.channels.stage() {
            None => Place::Here,
            Some(Stage::Leaving | Stage::Parting) => Place::Leaving,
            Some(Stage::Left) => Place::Left,
            Some(Stage::Away) => Place::Away,
            Some(Stage::Returning) => Place::Returning,
        }
    }

    #[inline]
    pub fn is_returning(&self) -> bool {
        self.channels.stage() == Some(Stage::Returning)
    }

    /// Its server is the pooler's for a moment.
    #[inline]
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.channels.stage(), Some(Stage::Leaving | Stage::Left | Stage::Parting))
    }

    /// All that the listener had is told; or the client is gone, and nothing more is.
    pub fn returned(&mut self) {
        // ## Returning => here
        self.channels = Channels::default();
    }

    /// Its channels, if they are away.
    pub(super) fn moved(&self) -> Option<&Moved> {
        self.channels.0.as_deref().filter(|elsewhere| elsewhere.stage == Stage::Away).map(|elsewhere| &elsewhere.moved)
    }

    /// They are called back in this batch, together with statements of the client's.
    pub(super) fn recalls_in(&mut self, batch: u64) {
        if let Some(elsewhere) = &mut self.channels.0 {
            elsewhere.recalled_in = Some(batch);
        }
    }

    pub(super) fn is_recalled_in(&self, batch: u64) -> bool {
        self.channels.0.as_ref().is_some_and(|elsewhere| elsewhere.recalled_in == Some(batch))
    }

    /// The marker is made heard behind this batch, and not within it.
    pub(super) fn rejoins_behind(&mut self, batch: u64) {
        if let Some(elsewhere) = &mut self.channels.0 {
            elsewhere.recalled_in = None;
            elsewhere.rejoins_behind = Some(batch);
        }
    }

    pub(super) fn rejoins_late(&self) -> Option<u64> {
        self.channels.0.as_ref().and_then(|elsewhere| elsewhere.rejoins_behind)
    }

    pub(super) fn rejoins_no_more(&mut self) {
        if let Some(elsewhere) = &mut self.channels.0 {
            elsewhere.rejoins_behind = None;
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
            && self.found.len() <= CHANNELS_MAX
            // One of these may be the listener's own.
            && !self.found.iter().any(|name| is_like_private(name));
        may.then_some(&*self.found)
    }

    /// The listener hears what the client's server hears. From a marker on, the listener's word counts; until that is through
    /// the server is the pooler's alone.
    pub fn depart(&mut self, client: &mut ClientSide, moved: Moved, to_server: &mut Vec<u8>) {
        let (mut listen, mut notify) = (Vec::new(), Vec::new());
        moved.write_departure(&mut listen, &mut notify);
        self.private = Some(Private::new(&moved));
        // ## here => Leaving
        client.channels = Channels(Some(Box::new(Elsewhere::leaving(moved))));
        self.say(&listen, Note::None, to_server);
        self.say(&notify, Note::Departs, to_server);
    }

    /// The marker is through.
    pub fn part(&mut self, client: &mut ClientSide, to_server: &mut Vec<u8>) {
        if let Some(Elsewhere { stage: stage @ Stage::Left, .. }) = client.channels.0.as_deref_mut() {
            // ## Left => Parting
            *stage = Stage::Parting;
            self.say(b"UNLISTEN *", Note::Departed, to_server);
        }
    }

    /// Brings the client's channels back to this server, which is idle.
    pub fn fetch_home(&mut self, client: &ClientSide, to_server: &mut Vec<u8>) {
        let Some(moved) = client.moved() else { return };
        let (mut sql, mut hush) = (Vec::new(), Vec::new());
        moved.write_return(&mut sql);
        super::super::listen::write_statement("UNLISTEN", moved.private.as_bytes(), &mut hush);
        self.expect_home(moved);
        self.say_untimed(&sql, Note::Returns, to_server);
        self.say(&hush, Note::Hushes, to_server);
    }

    /// Channels may be listened to here from now on, and markers.
    pub(super) fn expect_home(&mut self, moved: &Moved) {
        self.private = Some(Private::new(moved));
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

    /// Whether it is the pooler's own channel that this server may hear.
    pub(super) fn is_private(&self, channel: &[u8]) -> bool {
        self.private.as_ref().is_some_and(|private| private.name.as_bytes() == channel)
    }

    /// It is to hear markers no more: nobody shall see the pooler's own channel among his.
    pub fn hush(&mut self, to_server: &mut Vec<u8>) {
        let Some(private) = &self.private else { return };
        let mut sql = Vec::new();
        super::super::listen::write_statement("UNLISTEN", private.name.as_bytes(), &mut sql);
        self.say(&sql, Note::Hushes, to_server);
    }

    /// It hears markers still, and is told again at the end of this or the next transaction of its client's.
    ///
    /// # Errors
    /// It will not be told.
    pub(super) fn hush_refused(&mut self) -> Result<(), Broken> {
        let Some(private) = &mut self.private else { return Ok(()) };
        private.refusals += 1;
        if private.refusals < HUSH_REFUSALS_MAX { Ok(()) } else { Err(Broken::Unclean) }
    }

    /// A statement of ours about channels was answered.
    pub(super) fn channels_done(&mut self, client: &mut ClientSide, done: &Note) {
        match done {
            // The marker would be there, had it been sent.
            // ## Leaving => here
            Note::Departs if client.channels.stage() == Some(Stage::Leaving) => client.channels = Channels::default(),
            Note::Departed => {
                self.leaves = self.leaves.without(Leaves::LISTEN);
                self.pins = self.pins.without(Leaves::LISTEN);
                self.found = Vec::new();
                self.private = None;
                if let Some(Elsewhere { stage: stage @ Stage::Parting, .. }) = client.channels.0.as_deref_mut() {
                    // ## Parting => Away
                    *stage = Stage::Away;
                }
            }
            Note::Hushes if self.status() == Status::Idle => self.private = None,
            _ => {}
        }
    }

    /// To a server that is idle, and not under what its client has set: it would be ended for what is not its doing.
    pub(super) fn say_untimed(&mut self, sql: &[u8], note: Note, to_server: &mut Vec<u8>) {
        self.say(&[UNTIMED, sql].concat(), note, to_server);
    }

    pub(super) fn say(&mut self, sql: &[u8], note: Note, to_server: &mut Vec<u8>) {
        write_message(tag::QUERY, &[sql, b"\0"], 0, to_server);
        self.plan.push(Entry::swallow(Kind::Query).noting(note));
        self.unnamed = Holds::Nothing;
    }
}
