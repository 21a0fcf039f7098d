//! Who has which statement: a client under its names, a server under ours, and the unnamed one of both.
//!
//! All of it is as it will be when everything sent has been done, and says in which batch it became so: as long as that
//! batch is pending (`Plan::is_pending`), it may turn out otherwise.

mod client;
mod server;

use std::ops::Range;
use std::sync::Arc;

use super::position::Shift;
use super::sql::{Effects, Scan, Verb};
use super::statement::Statement;
pub use client::ClientNames;
pub use server::{Held, ServerStatements};

/// A statement under a client's name for it.
#[derive(Debug)]
pub struct Named {
    pub name: Box<[u8]>,
    pub statement: Arc<Statement>,
    pub about: About,
    /// The batch it was prepared in (`Plan::batch`).
    pub batch: u64,
}

impl Named {
    /// Of name and text, and of what the text names, as if none were shared.
    pub fn bytes(&self) -> usize {
        self.name.len() + self.statement.rest.len() + self.about.bytes()
    }

    /// Running it leaves nothing, and has to do with no other statement.
    #[inline]
    pub fn is_plain(&self) -> bool {
        let Scan { effects, verb } = &self.statement.scan;
        effects.is_nothing() && *verb == Verb::Other && matches!(self.about, About::Nothing)
    }
}

/// Statements that may stand behind one, each of which names the next (`EXECUTE a`, where `a` is `EXECUTE b`). Each keeps the next,
/// after its Close as well: without a bound a client could make a chain of them, holding one name at a time, whose end would
/// take more stack than there is.
pub const DEPTH_MAX: usize = 16;

/// A batch that is never pending: what is known is known.
pub const KNOWN: u64 = u64::MAX;

/// What running a statement does to other prepared statements of its client.
#[derive(Clone, Debug, Default)]
pub enum About {
    #[default]
    Nothing,
    /// Its text names one.
    Names(Arc<Naming>),
    /// `DEALLOCATE ALL`, `DISCARD ALL`
    ForgetsAll,
}

impl About {
    pub fn naming(&self) -> Option<&Arc<Naming>> {
        match self {
            Self::Names(naming) => Some(naming),
            Self::Nothing | Self::ForgetsAll => None,
        }
    }

    /// The statement whose server-side name stands in the text.
    pub fn statement(&self) -> Option<&Arc<Statement>> {
        Some(&self.target()?.statement)
    }

    fn target(&self) -> Option<&Arc<Named>> {
        self.naming()?.target.as_ref()
    }

    /// How many statements it leads to, each of which names the next.
    pub fn depth(&self) -> usize {
        std::iter::successors(self.target(), |named| named.about.target()).count()
    }

    /// What it keeps in memory: the name as it was written, and whatever has it, closed or not.
    pub fn bytes(&self) -> usize {
        self.naming().map_or(0, |naming| naming.written.len()) + self.target().map_or(0, |named| named.bytes())
    }
}

/// A text that names a prepared statement, with the name that it had on the server when the text was sent.
#[derive(Debug)]
pub struct Naming {
    pub does: Does,
    /// The name as the client wrote it.
    pub written: Box<[u8]>,
    /// Where the server's name stands in the text.
    pub place: Range<usize>,
    pub shift: Shift,
    /// What the client had under the name. `None`: nothing that it prepared by protocol message.
    pub target: Option<Arc<Named>>,
}

/// What a text does with the statement that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// `EXECUTE name`, `EXPLAIN … EXECUTE name`
    Executes,
    /// `PREPARE name`
    Prepares,
    /// `DEALLOCATE name`
    Forgets,
}

/// A client's unnamed statement, kept because its Bind may come in another transaction, on another server (trap 28).
#[derive(Debug)]
pub struct Unnamed {
    /// Counts what made or destroyed one, for this client.
    pub number: u64,
    pub batch: u64,
    /// `None` when there is no such statement. Boxed, because most clients that are idle in great number have none; one
    /// that takes another's place takes its box too.
    pub parsed: Option<Box<Parsed>>,
}

/// What an unnamed statement is.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The Parse body after the name.
    pub rest: Vec<u8>,
    pub effects: Effects,
    pub about: About,
}

impl Default for Unnamed {
    fn default() -> Self {
        Self { number: 0, batch: KNOWN, parsed: None }
    }
}

impl Unnamed {
    pub fn rest(&self) -> Option<&[u8]> {
        self.parsed.as_ref().map(|parsed| &*parsed.rest)
    }

    pub fn effects(&self) -> Effects {
        self.parsed.as_ref().map_or(Effects::NOTHING, |parsed| parsed.effects.clone())
    }

    pub fn about(&self) -> About {
        self.parsed.as_ref().map_or(About::Nothing, |parsed| parsed.about.clone())
    }
}

/// The unnamed statement of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holds {
    #[default]
    Nothing,
    /// The client with this id parsed it, under this number.
    Of(u64, u64),
    /// Some statement, or none.
    Anything,
}

/// The unnamed statement as it was before a message that the server may never look at.
#[derive(Debug)]
pub struct Displaced {
    /// The client's number for what took its place.
    pub by: u64,
    pub server: Holds,
    pub client: Unnamed,
}
