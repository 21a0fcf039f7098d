//! What stands in the plan: a message that the server was sent, what becomes of its replies, and what hangs on it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::wire::names::{ClientNames, Displaced, Named};
use crate::wire::position::Shift;

/// The transaction status of ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Idle,
    InTransaction,
    Failed,
}

impl Status {
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }

    pub const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Query,
    FunctionCall,
    Sync,
    Parse,
    Bind,
    Describe,
    Execute,
    Close,
    /// CopyData behind a Sync, the first of it: no reply of its own, but if the server copies, it ignored that Sync.
    CopyData,
    /// CopyDone or CopyFail: no reply of its own, but the end of what the server ignored while it copied.
    CopyEnd,
    /// The client asked, the server never saw it.
    Synthesize(Synthetic),
}

impl Kind {
    /// ReadyForQuery is its last reply.
    pub(super) const fn ends_batch(self) -> bool {
        matches!(self, Self::Query | Self::FunctionCall | Self::Sync)
    }
}

/// Replies we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synthetic {
    ParseComplete,
    CloseComplete,
    /// CommandComplete `DEALLOCATE ALL` and ReadyForQuery.
    DeallocatedAll,
}

/// What becomes of the replies to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Forward,
    /// We asked; the client must not see it.
    Swallow,
}

/// What else hangs on an entry: what to take back should the server never process it, or do when it has.
#[derive(Debug, Default)]
pub enum Note {
    #[default]
    None,
    /// About the shared statement of this name: errors may carry the server's name for it.
    Uses(Arc<Named>),
    /// It is run by a text that names it, otherwise than the client does.
    Runs(Arc<Named>, Shift),
    /// Injected Parse, in this batch: the server has the statement only if this succeeds.
    Learns { id: u64, batch: u64 },
    /// The client's Parse of a statement that the server has.
    Names(Arc<Named>),
    /// The client's Parse of a statement that is new to the server.
    Introduces(Arc<Named>),
    /// Our Parse of the client's text under its own name, in front of its Parse under ours; and what the server warned of,
    /// which is the client's to hear if this fails, and is said again if it does not.
    Tries(Box<[u8]>),
    /// The client's Close.
    Unnames(Arc<Named>),
    /// Our Close of an evicted statement, in this batch.
    Evicts { id: u64, batch: u64 },
    /// Our Close of a statement the server may have or not.
    Doubts(u64),
    /// Parse of the client's unnamed statement of this number, by the client or injected; or our Close of another's.
    Unnamed(u64),
    /// `DEALLOCATE name`: forgotten when it was sent, and remembered if it was not done.
    Forgets(Arc<Named>, Shift),
    /// `DEALLOCATE ALL`, `DISCARD ALL`: likewise.
    Clears(Box<Cleared>),
    /// `DEALLOCATE name` of what the server knows under that name.
    Own,
    /// What a query of several statements does with those that have names.
    InTurn(Box<InTurn>),
    /// The client holds as much as it may: what stands here for its Parse will fail.
    Refuses(Excess),
    /// Settings of a new owner.
    Replay,
    /// What the last owner left is taken away.
    Cleans,
    /// Startup parameters of the client, behind its RESET.
    Restores,
    /// A question about what the client left.
    Probe,
    /// A question about what the server reads ([`Plan::asks`](super::Plan::asks)).
    Asks,
    /// A marker that says where the shared listener begins to hear for the client.
    Departs,
    /// The server listens to nothing any more: the listener does.
    Departed,
    /// The client's channels come back to its server.
    Returns,
    /// The server need not hear markers any more.
    Hushes,
    /// The same, and it said no: it hears them still.
    Unhushed,
}

/// Of what a client would hold too much, with the most it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    Statements(u32),
    /// Names and texts of statements.
    Bytes(u32),
    /// Statements behind one another, each of which names the next.
    Depth(usize),
}

impl Note {
    fn kept_bytes(&self) -> usize {
        match self {
            Self::Unnames(named) | Self::Forgets(named, _) => named.bytes(),
            Self::Clears(cleared) => cleared.names.bytes(),
            Self::InTurn(notes) => notes.forgets.iter().map(Self::kept_bytes).sum(),
            _ => 0,
        }
    }
}

/// Boxed, so that a plan of many entries stays small.
#[derive(Debug)]
pub struct InTurn {
    /// A note for each DEALLOCATE, in the order of their tags.
    pub forgets: VecDeque<Note>,
    /// What it runs, in order, up to the one whose name it wants to PREPARE: that is an error.
    pub uses: Vec<Arc<Named>>,
    /// Names of ours in the text, in order.
    pub shifts: Vec<Shift>,
}

/// What a client and its server knew before everything was deallocated.
#[derive(Debug)]
pub struct Cleared {
    pub names: ClientNames,
    /// The moment in the server's account ([`ServerStatements::doubt_all`](crate::wire::names::ServerStatements::doubt_all)).
    pub moment: u64,
}

/// The entry will never be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its answer was the error.
    Failed,
    /// The server never looked at it.
    Unread,
}

/// Whether a reply was the last to the message that it answers.
#[derive(Debug)]
pub enum Done {
    No,
    /// And nobody wants to know.
    Yes,
    /// And this hangs on it.
    Noted(Note),
}

#[derive(Debug)]
pub struct Entry {
    pub kind: Kind,
    pub reply: Reply,
    pub note: Note,
    /// The unnamed statement that this destroys, if the server looks at it.
    pub displaced: Option<Box<Displaced>>,
}

impl Note {
    /// Nobody asks for it when the message has been done.
    #[inline]
    pub(super) fn is_of_errors(&self) -> bool {
        matches!(self, Self::None | Self::Uses(_))
    }
}

impl Entry {
    pub const fn forward(kind: Kind) -> Self {
        Self { kind, reply: Reply::Forward, note: Note::None, displaced: None }
    }

    pub const fn swallow(kind: Kind) -> Self {
        Self { kind, reply: Reply::Swallow, note: Note::None, displaced: None }
    }

    pub fn displacing(mut self, displaced: Option<Box<Displaced>>) -> Self {
        self.displaced = displaced;
        self
    }

    pub fn noting(mut self, note: Note) -> Self {
        self.note = note;
        self
    }

    pub(super) fn is_of_copy(&self) -> bool {
        matches!(self.kind, Kind::CopyData | Kind::CopyEnd)
    }

    /// Of texts that nobody has any more but for this.
    pub(super) fn kept_bytes(&self) -> usize {
        let displaced = self.displaced.as_ref().and_then(|displaced| displaced.client.rest()).map_or(0, <[u8]>::len);
        displaced + self.note.kept_bytes()
    }

    pub(super) fn is_awaited(&self) -> usize {
        usize::from(self.kind.ends_batch() && self.reply == Reply::Forward)
    }
}
