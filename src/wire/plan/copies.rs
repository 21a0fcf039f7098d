//! COPY FROM STDIN in the plan: what the server ignored while it copied, and what nobody knows until it answers.
//!
//! PostgreSQL ignores Sync and Flush while it reads the data, reads what is left behind a failure up to the next Sync,
//! and may fail before any of the data was read (a BEFORE STATEMENT trigger) or anywhere in it (traps 18, 19).

use super::{Entry, Kind, Note, Plan, Reading, Sent};

/// How a COPY ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    Failed,
}

impl Plan {
    /// What is sent while skipping is skipped, unless a Sync was read behind the COPY that failed and not within it.
    pub fn may_read_on(&self) -> bool {
        self.doubtful > 0
    }

    /// What the server reads now is to be known, where it may say nothing of itself: it skips, or it waits for data. Whether
    /// that takes a question: a Sync, a Close of nothing and a Sync. The answer to the Close comes behind everything
    /// that decides. A server that copies ends the session at the Close, as it would at what the client sent.
    pub fn asks(&mut self) -> bool {
        if self.is_asked() {
            return false;
        }
        let was_skipping = self.is_skipping();
        self.push(Entry::swallow(Kind::Sync));
        self.push(Entry::swallow(Kind::Close).noting(Note::Asks));
        self.push(Entry::swallow(Kind::Sync));
        if was_skipping {
            // ## SkipToSync => Asked
            self.reading = Reading::Asked;
        }
        true
    }

    /// Data of a COPY, or its end.
    #[inline(never)]
    pub(super) fn push_of_copy(&mut self, entry: Entry) {
        // Nothing asked for that could be a copy: the server ignores it, and nothing is owed (trap 19).
        if self.owed.is_empty() || self.is_skipping() {
            return;
        }
        if entry.kind == Kind::CopyData && self.owed.back().is_some_and(|last| last.kind != Kind::Sync) {
            return;
        }
        if entry.kind == Kind::CopyEnd && self.sent == Sent::Whole {
            // ## Whole => EndOfCopy
            self.sent = Sent::EndOfCopy;
        }
        self.of_copies += 1;
        self.owed.push_back(entry);
    }

    pub(super) fn is_asked(&self) -> bool {
        self.owed.iter().any(|e| matches!(e.note, Note::Asks))
    }

    /// How many ReadyForQuery come before a reply that stands here is known: no COPY is under way, nor did one just fail.
    pub fn knows_order(&self) -> bool {
        self.doubtful == 0 && self.of_copies == 0 && !matches!(self.reading, Reading::CopyIn | Reading::CopyFailed(_))
    }

    /// Data of a COPY or its end was sent behind a Sync, and whether that was data's neighbour or a Sync is not known: so is
    /// what becomes of anything behind it but another Sync.
    #[inline]
    pub fn is_undecided(&self) -> bool {
        self.of_copies > 0 && self.owes_a_sync()
    }

    #[cold]
    fn owes_a_sync(&self) -> bool {
        self.owed.iter().any(|e| e.kind == Kind::Sync)
    }

    /// Nothing was sent yet that ends what is undecided: the server may copy, and wait for more.
    pub fn is_undecided_for_ever(&self) -> bool {
        self.owed.iter().any(|e| e.kind == Kind::CopyData) && !self.owed.iter().any(|e| e.kind == Kind::CopyEnd)
    }

    /// The server waits for the end of a COPY, and nothing has been sent that it would take for it, or stumble over.
    pub fn wants_data(&self) -> bool {
        let is_ignored = |entry: &Entry| matches!(entry.kind, Kind::Sync | Kind::CopyData | Kind::Synthesize(_));
        self.reading == Reading::CopyIn && self.owed.iter().skip(1).all(is_ignored)
    }

    /// Something was answered that was sent behind the doubtful Syncs: no more ReadyForQuery comes for them.
    pub(super) fn settle_doubt(&mut self) {
        self.doubtful = 0;
        if self.reading == Reading::Asked {
            // ## Asked => SkipToSync, Whole => Batch: the Sync that the server read was ours, and the client's is still to come.
            self.reading = Reading::SkipToSync;
            self.sent = Sent::Batch;
        }
    }

    /// Drops the Syncs that the server may have ignored while it copied: those between the head and the end of its data, and
    /// that end if it was sent; how many there were. None where something else was sent behind them and no data: a server
    /// that is still copying would not survive that, so it read them as Syncs.
    pub(super) fn forget_ignored(&mut self, how: End) -> usize {
        let (mut end, mut syncs) = (0, 0);
        let mut rest = self.owed.iter().enumerate().skip(1);
        let is_all = loop {
            match rest.next() {
                None => break true,
                Some((at, entry)) => match entry.kind {
                    Kind::CopyEnd => {
                        end = at + 1;
                        break false;
                    }
                    Kind::CopyData => end = at + 1,
                    Kind::Sync => syncs += 1,
                    // What we answer would have been a message to the server, had it not been copying.
                    Kind::Synthesize(_) if how == End::Completed || syncs == 0 => {}
                    _ => break false,
                },
            }
        };
        let kept = self.owed.split_off(if is_all { self.owed.len() } else { end.max(1) });
        let (mut at, mut syncs) = (0, 0);
        self.owed.retain(|entry| {
            at += 1;
            let goes = at > 1 && !matches!(entry.kind, Kind::Synthesize(_));
            if goes {
                syncs += usize::from(entry.kind == Kind::Sync);
                self.awaited -= entry.is_awaited();
                self.of_copies -= usize::from(entry.is_of_copy());
            }
            !goes
        });
        self.owed.extend(kept);
        syncs
    }
}
