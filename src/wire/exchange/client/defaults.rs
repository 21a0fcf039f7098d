//! RESET returns to what the client asked for in its startup packet, and that is not the server's own default: it is set again
//! directly behind the text, in the same transaction, and undone with it. Under the client's timeouts there: lifted in its own
//! transaction they would stay so to its end, and no statement brings back a value that nobody has asked for before.

use super::Walk;
use crate::error::PgError;
use crate::wire::exchange::Mode;
use crate::wire::exchange::state::defaults;
use crate::wire::frame::Header;
use crate::wire::plan::Note;
use crate::wire::sql::{self, Leaves};

impl Walk<'_, '_> {
    /// Whether something was reset and nothing is behind it yet.
    #[inline]
    pub(super) fn has_reset(&self) -> bool {
        self.server.leaves.has(Leaves::RESETS) && self.client.mode == Mode::Transaction
    }

    /// Behind a query. What stands behind a RESET in the same text may have failed, and a savepoint have kept the RESET: it is
    /// done once more when the transaction has ended.
    #[cold]
    pub(super) fn restore_defaults(&mut self, text: &[u8]) {
        let is_blank = |rest: &[u8]| rest.iter().all(|b| *b == b';' || b.is_ascii_whitespace());
        let is_one = memchr::memchr(b';', text).is_none_or(|at| is_blank(&text[at..]));
        if !is_one && sql::has_word(text, b"copy") {
            // Where that reads data of the client's, a query of ours would be the end of the session.
            return self.put_off_defaults();
        }
        if let Some(sql) = self.take_defaults(is_one) {
            self.server.say(&sql, Note::Restores, self.out.settle());
        }
    }

    /// Behind an Execute, of whichever portal.
    #[cold]
    pub(super) fn restore_defaults_in_batch(&mut self) {
        if let Some(sql) = self.take_defaults(false) {
            self.write_batched(&sql, Note::Restores);
        }
    }

    /// Room for a message behind this one: all of it is here.
    pub(super) fn ends_here(&self, header: Header) -> Result<bool, Box<PgError>> {
        Ok(self.whole_body(header)?.is_some())
    }

    /// To the end of the transaction.
    fn put_off_defaults(&mut self) {
        if let Some(bare) = self.client.take_bare() {
            self.client.note_reset(&bare);
        }
    }

    fn take_defaults(&mut self, is_sure: bool) -> Option<Vec<u8>> {
        let bare = self.client.take_bare()?;
        let sql = defaults(&self.client.startup, &bare);
        if sql.is_some() && !is_sure {
            self.client.note_reset(&bare);
        }
        if !self.client.owes_defaults() {
            self.server.leaves = self.server.leaves.without(Leaves::RESETS);
        }
        sql
    }
}
