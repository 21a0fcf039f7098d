//! The reply plan: everything a server still owes, in order, and what becomes of each reply.
//!
//! Every rule here is a numbered trap of the poolers before us; the tests carry the numbers.

mod copies;
mod entry;

use std::collections::VecDeque;

use super::names::Displaced;
use super::tag::server;
use crate::hint::rare;
use copies::End;
pub use entry::{Cleared, Done, Entry, Excess, Fate, InTurn, Kind, Note, Reply, Status, Synthetic};

/// Entries kept allocated for the next transaction.
const KEPT_CAPACITY: usize = 64;

/// Replies a server may owe, in entries of 48 bytes; a client that pipelines more waits for some of them. Above what
/// PostgreSQL holds back until a Sync or Flush (8 KiB of at least 5 bytes each), so that waiting always ends. But for a server
/// that copies: it ignores Sync, and a client that sends so many of them is refused.
pub const OWED_MAX: usize = 16 * 1024;

/// The same for the texts that are kept only to be put back should a message not be processed, in bytes: each may be as long as a
/// statement may be.
pub const OWED_BYTES_MAX: usize = 8 << 20;

/// How the server reads what is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Messages,
    /// CopyIn: Sync and Flush are ignored until CopyDone or CopyFail.
    CopyIn,
    /// A COPY of the simple protocol failed: ReadyForQuery comes next, then perhaps those of so many Syncs.
    CopyFailed(usize),
    /// After an error in the extended protocol: everything is ignored until Sync.
    SkipToSync,
    /// The same, unless one of the doubtful Syncs was that Sync: the server has been asked.
    Asked,
}

/// Where what was sent to the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// With a Query, a FunctionCall or a Sync: ReadyForQuery ends it.
    Whole,
    /// The same, and the end of a COPY behind it: if the server took that Sync for data's neighbour, it has not ended.
    EndOfCopy,
    /// Inside a batch whose Sync is still to come: its implicit transaction is open, whatever the last status was.
    Batch,
    /// The same, and with a Flush of ours behind it.
    FlushedBatch,
}

/// A message that answers nothing that was asked: the server, or our account of it, is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unexpected(pub u8);

#[derive(Debug)]
pub struct Plan {
    owed: VecDeque<Entry>,
    status: Status,
    reading: Reading,
    sent: Sent,
    /// ReadyForQuery that will be forwarded.
    awaited: usize,
    /// CopyData, CopyDone and CopyFail among what is owed.
    of_copies: usize,
    /// Of the texts in what was pushed since nothing was owed.
    kept_bytes: usize,
    /// Batches that have ended in what was sent; a query is one.
    batch: u64,
    /// How many had when something was last asked of a server that owed nothing.
    settled: u64,
    /// Syncs of which nobody knows whether the server read them inside a COPY that failed, and ignored them, or behind
    /// it: PostgreSQL does either (a BEFORE STATEMENT trigger fails before the first of the data is read). That many
    /// more ReadyForQuery may come; until a reply to something later tells, the server stays with its client.
    doubtful: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            owed: VecDeque::new(),
            status: Status::Idle,
            reading: Reading::Messages,
            sent: Sent::Whole,
            awaited: 0,
            of_copies: 0,
            kept_bytes: 0,
            batch: 0,
            settled: 0,
            doubtful: 0,
        }
    }
}

impl Plan {
    pub fn status(&self) -> Status {
        self.status
    }

    /// Nothing owed and nothing half done: with status `I`, the server may change hands (traps 1, 2).
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.owed.is_empty() && self.reading == Reading::Messages && !self.is_in_batch() && self.doubtful == 0
    }

    /// Nothing is known to be owed, and yet a ReadyForQuery may come. Any query answers the question.
    pub fn is_doubtful(&self) -> bool {
        self.owed.is_empty() && self.doubtful > 0
    }

    /// Messages of the extended protocol were sent since the last Sync.
    pub fn is_in_batch(&self) -> bool {
        matches!(self.sent, Sent::Batch | Sent::FlushedBatch)
    }

    /// Messages of the extended protocol are owed and no Sync behind them: should one fail, whatever was sent since is ignored
    /// up to a Sync that is still to come, the queries among it.
    pub fn may_skip(&self) -> bool {
        let of_batch = |kind| matches!(kind, Kind::Parse | Kind::Bind | Kind::Describe | Kind::Execute | Kind::Close);
        self.owed.iter().rev().take_while(|e| e.kind != Kind::Sync).any(|e| of_batch(e.kind))
    }

    /// The number of the batch that is being sent.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// That batch has been sent, and whether it was done or dropped is not known yet.
    #[inline]
    pub fn is_pending(&self, batch: u64) -> bool {
        !self.owed.is_empty() && (self.settled..self.batch).contains(&batch)
    }

    /// The server is to answer what was sent of a batch: whether that takes a Flush.
    pub fn needs_flush(&mut self) -> bool {
        // ## EndOfCopy => Whole, Batch => FlushedBatch
        let (needs, sent) = match self.sent {
            Sent::EndOfCopy => (true, Sent::Whole),
            Sent::Batch => (true, Sent::FlushedBatch),
            sent => (false, sent),
        };
        self.sent = sent;
        needs
    }

    /// Nothing more is to be asked before some of what is owed has come; of texts, all of it. A server that copies in would owe
    /// them until the end of its data: they wait no longer then, and no more of them come.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.owed.len() >= OWED_MAX
            || self.kept_bytes >= OWED_BYTES_MAX && !self.owed.is_empty() && self.reading != Reading::CopyIn
    }

    pub fn owes_nothing(&self) -> bool {
        self.owed.is_empty()
    }

    pub fn is_skipping(&self) -> bool {
        matches!(self.reading, Reading::SkipToSync | Reading::Asked)
    }

    pub fn is_copying_in(&self) -> bool {
        self.reading == Reading::CopyIn
    }

    pub fn head(&self) -> Option<&Entry> {
        self.owed.front()
    }

    pub fn head_note(&mut self) -> Option<&mut Note> {
        self.owed.front_mut().map(|e| &mut e.note)
    }

    /// What was sent later displaced the client's unnamed statement of this number.
    pub fn later_displaced(&mut self, number: u64) -> Option<&mut Displaced> {
        let displaced = self.owed.iter_mut().filter_map(|e| e.displaced.as_deref_mut());
        displaced.into_iter().find(|d| d.client.number == number)
    }

    /// Nothing that could do anything was sent behind the head.
    pub fn ends_with_head(&self) -> bool {
        self.owed.iter().skip(1).all(|e| e.kind == Kind::Sync)
    }

    /// The status is what the last ReadyForQuery said, or will be when this batch ends: no other is on its way to the
    /// client that could tell of a failed transaction.
    pub fn knows_status(&self) -> bool {
        self.awaited == 0
    }

    /// Something was sent to the server, or is to be answered at this place.
    #[inline]
    pub fn push(&mut self, entry: Entry) {
        if entry.is_of_copy() {
            rare();
            return self.push_of_copy(entry);
        }
        // ## (SkipToSync | Asked) => Messages: the server reads on from a Sync.
        if self.is_skipping() && entry.kind == Kind::Sync {
            self.reading = Reading::Messages;
        }
        if self.owed.is_empty() {
            self.settled = self.batch;
            self.kept_bytes = 0;
        }
        // Nearly none does, and to count it was thirty instructions for each.
        if entry.displaced.is_some() || !matches!(entry.note, Note::None) {
            self.kept_bytes += entry.kept_bytes();
        }
        // ## (Whole | EndOfCopy | Batch | FlushedBatch) => (Whole | Batch)
        if entry.kind.ends_batch() {
            self.sent = Sent::Whole;
            self.batch += 1;
            self.awaited += entry.is_awaited();
        } else if !matches!(entry.kind, Kind::Synthesize(_)) {
            self.sent = Sent::Batch;
        }
        self.owed.push_back(entry);
    }

    /// The reply we owe at the head, if the server's own replies before it are all there.
    pub fn next_synthetic(&mut self) -> Option<(Synthetic, Note)> {
        loop {
            match self.owed.front()?.kind {
                Kind::Synthesize(reply) => return self.owed.pop_front().map(|e| (reply, e.note)),
                // The server was not copying when it came: ignored there, nothing owed here (trap 19).
                Kind::CopyData | Kind::CopyEnd => {
                    self.owed.pop_front();
                    self.of_copies -= 1;
                }
                _ => return None,
            }
        }
    }

    /// What the client asked for, whose rows may be let through as they come: nothing but the end of the answer can change
    /// how the server reads on. `None` where any message might.
    #[inline]
    pub fn streams(&self) -> Option<Kind> {
        match self.owed.front() {
            Some(&Entry { kind: kind @ (Kind::Query | Kind::Execute), reply: Reply::Forward, .. })
                if self.doubtful == 0 && self.reading == Reading::Messages =>
            {
                Some(kind)
            }
            _ => None,
        }
    }

    /// The client has gone: what we would have answered is no sign any more of how the server read what stands before it.
    pub fn forget_synthetic(&mut self) {
        self.owed.retain(|e| !matches!(e.kind, Kind::Synthesize(_)));
    }

    /// What becomes of this message, and of the entry if that completes it. Not for errors, nor for notices, notifications
    /// and parameters, which answer nothing.
    #[inline]
    pub fn answer(&mut self, tag: u8) -> Result<(Reply, Done), Unexpected> {
        let Entry { kind, reply, .. } = *self.owed.front().ok_or(Unexpected(tag))?;
        if self.doubtful > 0 {
            rare();
            self.settle_doubt();
        }
        let completes = match (tag, kind) {
            (server::DATA_ROW, Kind::Query | Kind::Execute) => false,
            (server::PARSE_COMPLETE, Kind::Parse) => true,
            (server::BIND_COMPLETE, Kind::Bind) => true,
            (server::CLOSE_COMPLETE, Kind::Close) => true,
            (server::ROW_DESCRIPTION | server::NO_DATA, Kind::Describe) => true,
            (server::COMMAND_COMPLETE | server::EMPTY_QUERY | server::PORTAL_SUSPENDED, Kind::Execute) => true,
            (server::COMMAND_COMPLETE | server::EMPTY_QUERY | server::ROW_DESCRIPTION, Kind::Query) => false,
            (server::PARAMETER_DESCRIPTION, Kind::Describe) => false,
            (server::FUNCTION_RESULT, Kind::FunctionCall) => false,
            (server::COPY_OUT | server::COPY_DATA | server::COPY_DONE, Kind::Query | Kind::Execute) => false,
            (server::COPY_IN | server::COPY_BOTH, Kind::Query | Kind::Execute) => {
                // ## Messages => CopyIn
                self.reading = Reading::CopyIn;
                false
            }
            _ => return Err(Unexpected(tag)),
        };
        if tag == server::COMMAND_COMPLETE && self.reading == Reading::CopyIn {
            rare();
            // ## CopyIn => Messages: what the server ignored while it copied answers nothing (trap 18).
            self.reading = Reading::Messages;
            self.forget_ignored(End::Completed);
            if self.owed.iter().all(|e| !e.kind.ends_batch()) {
                // ## Whole => Batch: the Sync that stood for it was one of those.
                self.sent = Sent::Batch;
            }
        }
        Ok((reply, if completes { self.finish_head() } else { Done::No }))
    }

    /// Takes the head off. It is moved only where something hangs on it, which nearly never is.
    #[inline]
    fn finish_head(&mut self) -> Done {
        if self.owed.front().is_some_and(|head| !head.note.is_of_errors()) {
            rare();
            return self.owed.pop_front().map_or(Done::Yes, |head| Done::Noted(head.note));
        }
        drop(self.owed.pop_front());
        Done::Yes
    }

    /// ReadyForQuery.
    #[inline]
    pub fn ready(&mut self, status: Status) -> Result<(Reply, Done), Unexpected> {
        let head = self.owed.front().map(|e| e.kind);
        // Something else always comes before the ReadyForQuery of a query, and that would have ended the doubt.
        let stray = self.doubtful > 0 && head != Some(Kind::Sync);
        if !stray && !head.is_some_and(Kind::ends_batch) {
            rare();
            return Err(Unexpected(server::READY_FOR_QUERY));
        }
        self.status = status;
        if stray {
            rare();
            self.doubtful -= 1;
            if self.is_skipping() {
                // ## (SkipToSync | Asked) => Messages: the server did read that Sync as one.
                self.reading = Reading::Messages;
                self.sent = Sent::Whole;
            }
            return Ok((Reply::Forward, Done::Yes));
        }
        if let Reading::CopyFailed(syncs) = self.reading {
            rare();
            self.doubtful = syncs;
        }
        if !self.is_skipping() {
            // ## (CopyIn | CopyFailed) => Messages
            self.reading = Reading::Messages;
        }
        let head = self.owed.front().ok_or(Unexpected(server::READY_FOR_QUERY))?;
        let reply = head.reply;
        self.awaited -= head.is_awaited();
        Ok((reply, self.finish_head()))
    }

    /// ErrorResponse. `dropped` gets the entries the server will never answer, last first, so that what they changed in
    /// our account can be taken back in order (trap 6).
    pub fn error(&mut self, mut dropped: impl FnMut(Entry, Fate)) -> Reply {
        let Some(head) = self.owed.front() else { return Reply::Forward };
        let (reply, kind) = (head.reply, head.kind);
        self.settle_doubt();
        let was_copying = self.reading == Reading::CopyIn;
        let ignored = if was_copying { self.forget_ignored(End::Failed) } else { 0 };
        if kind.ends_batch() {
            if was_copying {
                // ## CopyIn => CopyFailed
                self.reading = Reading::CopyFailed(ignored);
            }
            if self.is_asked() {
                // It ended the session at our question, in place of what the client sent.
                return Reply::Forward;
            }
            return reply;
        }
        self.doubtful = ignored;
        // ## (Messages | CopyIn) => (Messages | SkipToSync | Asked): the batch is dead up to its Sync (trap 5). One that the server may have
        // ignored while it copied is not it.
        let sync = self.owed.iter().position(|e| e.kind == Kind::Sync);
        let of_sync = sync.map_or(Reply::Forward, |at| self.owed[at].reply);
        // What was the client's is told the client, though it was a Sync of ours that the server skipped to.
        let reply = if reply == Reply::Forward { reply } else { of_sync };
        self.reading = match sync {
            None => Reading::SkipToSync,
            Some(_) if of_sync == Reply::Forward || !self.is_asked() => Reading::Messages,
            Some(_) if self.doubtful > 0 => Reading::Asked,
            Some(_) => {
                // The Sync of the client's batch is still to come.
                self.sent = Sent::Batch;
                Reading::SkipToSync
            }
        };
        let kept = self.owed.split_off(sync.unwrap_or(self.owed.len()));
        while let Some(entry) = self.owed.pop_back() {
            self.awaited -= entry.is_awaited();
            self.of_copies -= usize::from(entry.is_of_copy());
            dropped(entry, if self.owed.is_empty() { Fate::Failed } else { Fate::Unread });
        }
        self.owed.extend(kept);
        reply
    }

    /// Memory back after a long pipeline.
    pub fn shrink(&mut self) {
        if self.owed.capacity() > KEPT_CAPACITY && self.owed.is_empty() {
            rare();
            self.owed.shrink_to(KEPT_CAPACITY);
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
