//! A statement about channels, of a client whose channels are at the shared listener: they come back first.

use super::Walk;
use crate::wire::extended::write_message;
use crate::wire::plan::{Entry, Kind, Note, Status};
use crate::wire::sql;
use crate::wire::statement::SERVER_NAME_PREFIX;
use crate::wire::tag::client as tag;

impl Walk<'_, '_> {
    /// Has the client's channels on its server before what comes next, in the same transaction if there is one: when that is
    /// rolled back they never came. `text` is what comes next, if it is a simple query. `false`: it must wait.
    #[cold]
    pub(super) fn bring_home(&mut self, text: Option<&[u8]>) -> bool {
        if self.client.is_returning() {
            return self.wait();
        }
        // An earlier text may have brought them home, or may not; and ended the transaction, or not.
        if self.must_wait_for_all() {
            return false;
        }
        let Some(moved) = self.client.moved().cloned() else { return true };
        let mut sql = Vec::new();
        if self.server.plan.wants_data() {
            return true;
        }
        if self.server.plan.is_in_batch() {
            moved.write_return_once(&mut sql);
            self.server.expect_home(&moved);
            self.write_batched(&sql, Note::None);
            self.client.recalls_in(self.server.plan.batch());
            return true;
        }
        match self.server.status() {
            Status::InTransaction | Status::Failed if text.is_some_and(sql::begins_with_rollback) => {
                // What it rolls back they are not to be part of: that is done first, and there is something to roll back again.
                self.server.say(b"ROLLBACK", Note::None, self.out.settle());
                self.server.fetch_home(self.client, self.out.settle());
                self.server.say(b"BEGIN", Note::None, self.out.settle());
            }
            Status::Idle => self.server.fetch_home(self.client, self.out.settle()),
            Status::InTransaction => {
                moved.write_return_once(&mut sql);
                self.server.expect_home(&moved);
                self.server.say(&sql, Note::Returns, self.out.settle());
            }
            // All that can be said now is no.
            Status::Failed => {}
        }
        true
    }

    /// In front of a Bind of a statement of this text, with channels elsewhere. `false`: it must wait.
    pub(super) fn may_bind(&mut self, text: &[u8], is_about_channels: bool) -> bool {
        if !self.rejoin_late() || (is_about_channels && !self.bring_home(None)) {
            return false;
        }
        let batch = self.server.plan.batch();
        if self.client.is_recalled_in(batch) && reads_data(text) {
            self.client.rejoins_behind(batch);
        }
        true
    }

    /// Behind a text inside a transaction that may have been `UNLISTEN *`: the marker of the way back is to be heard all the
    /// same, should there be one.
    #[cold]
    pub(super) fn rejoin(&mut self, text: &[u8]) {
        match self.server.plan.batch().checked_sub(1) {
            Some(its) if reads_data(text) => self.client.rejoins_behind(its),
            _ => self.listen_for_marker(),
        }
    }

    /// What was put off is done in front of the client's next statement. `false`: that must wait.
    #[cold]
    pub(super) fn rejoin_late(&mut self) -> bool {
        let Some(batch) = self.client.rejoins_late() else { return true };
        if self.must_wait(batch) {
            return false;
        }
        match self.server.status() {
            Status::InTransaction => {
                self.client.rejoins_no_more();
                self.listen_for_marker();
            }
            // A savepoint may keep the way back.
            Status::Failed => {}
            // The way back was taken with the transaction, or was not.
            Status::Idle => self.client.rejoins_no_more(),
        }
        true
    }

    /// The same at the end of a batch in which that may have been.
    #[cold]
    pub(super) fn rejoin_in_batch(&mut self) {
        if self.client.is_recalled_in(self.server.plan.batch()) && !self.server.plan.is_skipping() {
            self.listen_for_marker();
        }
    }

    fn listen_for_marker(&mut self) {
        let Some(moved) = self.client.moved() else { return };
        let mut sql = Vec::new();
        moved.write_rejoin(&mut sql);
        match self.server.plan.is_in_batch() {
            true => self.write_batched(&sql, Note::None),
            false => self.server.say(&sql, Note::None, self.out.settle()),
        }
    }

    /// Whether `text` may be part of a transaction with the way back in it. One that begins with ROLLBACK is not: what was sent in
    /// front of it has taken the way back whole, and the server is to hear markers no more.
    #[cold]
    pub(super) fn is_recalling(&self, text: &[u8]) -> bool {
        let may =
            self.client.moved().is_some() && self.server.status() == Status::InTransaction && !self.server.plan.is_in_batch();
        may && !sql::begins_with_rollback(text)
    }

    /// A statement of ours among those of the client's batch, under names of its own. The note is of when it is done.
    pub(super) fn write_batched(&mut self, sql: &[u8], note: Note) {
        let name = format!("{SERVER_NAME_PREFIX}0_ours");
        let name = name.as_bytes();
        let messages: [(u8, Kind, &[&[u8]]); 5] = [
            // Left by a batch that failed half-way: that it is not there is no error.
            (tag::CLOSE, Kind::Close, &[b"S", name, b"\0"]),
            (tag::PARSE, Kind::Parse, &[name, b"\0", sql, b"\0\0\0"]),
            (tag::BIND, Kind::Bind, &[name, b"\0", name, b"\0\0\0\0\0\0\0"]),
            (tag::EXECUTE, Kind::Execute, &[name, b"\0\0\0\0\0"]),
            (tag::CLOSE, Kind::Close, &[b"P", name, b"\0"]),
        ];
        for (tag, kind, parts) in messages {
            write_message(tag, parts, 0, self.out.settle());
            self.server.plan.push(Entry::swallow(kind));
        }
        write_message(tag::CLOSE, &[b"S", name, b"\0"], 0, self.out.settle());
        self.server.plan.push(Entry::swallow(Kind::Close).noting(note));
    }
}

/// COPY may be among it: where that reads data of the client's, a message of ours would be the end of the session.
fn reads_data(text: &[u8]) -> bool {
    sql::has_word(text, b"copy")
}
