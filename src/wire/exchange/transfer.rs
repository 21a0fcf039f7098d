//! A server changes hands: clean what its owner left, set what the new owner has, in front of the new owner's bytes.

use std::sync::Arc;

use super::super::extended::write_message;
use super::super::names::Holds;
use super::super::params::{self, Params, is_settable};
use super::super::plan::{Entry, Kind, Note};
use super::super::probe::IDENTITIES;
use super::super::sql::Leaves;
use super::super::tag::client as tag;
use super::server::write_changes;
use super::state::is_identity;
use super::{ClientSide, Isolation, Owner, ServerSide};

/// State that another client must not find, and what takes it away. Settings go first: what the rest of it may take and wait
/// for is among them ([`TIMEOUTS`]).
const STEPS: [(Leaves, &[u8]); 7] = [
    (Leaves::SETTINGS, b"RESET ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;"),
    (Leaves::CURSORS, b"CLOSE ALL;"),
    (Leaves::LISTEN, b"UNLISTEN *;"),
    (Leaves::LOCKS, b"SELECT pg_catalog.pg_advisory_unlock_all();"),
    (Leaves::TEMP, b"DISCARD TEMP;"),
    (Leaves::SEQUENCES, b"DISCARD SEQUENCES;"),
    (Leaves::STATEMENTS, b"DEALLOCATE ALL;"),
];

/// What a function may have left that nobody looked into; statements it prepared are left, since theirs are everybody's.
const HIDDEN: Leaves = Leaves::ANYTHING.without(Leaves::STATEMENTS);

/// May be too short for what the pooler does, and it would be the next owner who is told of it: in front of that those of the
/// last owner are lifted, and behind it come those of the next. PostgreSQL looks at `statement_timeout` before each statement of
/// a message. Of the others, `idle_in_transaction_session_timeout` meets no transaction of ours that is idle.
const TIMEOUTS: [&str; 3] = ["lock_timeout", "statement_timeout", "transaction_timeout"];

/// By far the most frequent cleaning, behind every INSERT. PostgreSQL forgets a table in its memory, and nothing is lifted
/// for that: it would take longer itself.
const INSTANT: &[u8] = b"DISCARD SEQUENCES;";

impl ServerSide {
    /// Makes this server `client`'s. What must run first goes to `to_server`, to leave in one write with the client's own
    /// bytes; its replies are swallowed. What changed on the server's side alone is told to the client.
    ///
    /// Nothing happens where this is the server the client had last: state stays with its owner until somebody else needs
    /// the server.
    #[inline]
    pub fn take_over(&mut self, client: &mut ClientSide, to_server: &mut Vec<u8>, to_client: &mut Vec<u8>) {
        if self.owner == Some(Owner { client: client.id, lease: client.leases }) {
            if !Arc::ptr_eq(&self.params, &client.params) {
                self.tell_params(client, to_client);
            }
            return;
        }
        self.change_hands(client, to_server, to_client);
    }

    #[inline(never)]
    fn change_hands(&mut self, client: &mut ClientSide, to_server: &mut Vec<u8>, to_client: &mut Vec<u8>) {
        client.leases += 1;
        let owner = self.owner.replace(Owner { client: client.id, lease: client.leases });
        if owner.is_some() && client.catalog.isolation == Isolation::Strict {
            self.leaves |= Leaves::ANYTHING;
        }
        if self.has_nothing_to_change(client) {
            return;
        }
        let sql = self.prelude(client);
        if sql.is_empty() {
            return self.tell_params(client, to_client);
        }
        write_message(tag::QUERY, &[&sql, b"\0"], 0, to_server);
        self.plan.push(Entry::swallow(Kind::Query).noting(Note::Replay));
        self.unnamed = Holds::Nothing;
    }

    #[cold]
    fn tell_params(&self, client: &mut ClientSide, to_client: &mut Vec<u8>) {
        write_changes(&client.params, &self.params, to_client);
        client.params = Arc::clone(&self.params);
    }

    /// How well this server suits a client that never had it: 3 as it is, 2 after a few settings, 1 after cleaning.
    pub fn rank_for(&self, params: &Arc<Params>, settings: &Arc<Params>) -> u8 {
        match (self.leaves | self.pins).is_nothing() {
            true if Arc::ptr_eq(&self.params, params) && Arc::ptr_eq(&self.settings, settings) => 3,
            true => 2,
            false => 1,
        }
    }

    #[inline]
    fn has_nothing_to_change(&self, client: &ClientSide) -> bool {
        (self.leaves | self.pins).is_nothing()
            && Arc::ptr_eq(&self.params, &client.params)
            && Arc::ptr_eq(&self.settings, &client.settings)
    }

    /// One multi-statement query: all of it takes effect, or none.
    fn prelude(&mut self, client: &ClientSide) -> Vec<u8> {
        let resets = self.is_to_reset();
        let before = std::mem::replace(&mut self.settings, Arc::clone(&client.settings));
        let (from, reported) = match resets {
            true => (&Arc::clone(&self.initial_settings), &Arc::clone(&self.initial)),
            false => (&before, &Arc::clone(&self.params)),
        };
        let mut sql = Vec::new();
        lift_timeouts(from, &mut sql);
        let lifted = sql.len();
        self.clean(&mut sql);
        change_settings(from, &client.settings, &mut sql);
        for (name, value) in client.params.iter().filter(|(name, value)| is_settable(name) && reported.get(name) != Some(value)) {
            // A default stays one, and follows the configuration.
            match self.initial.get(name) == Some(value) {
                true => params::write_reset(name, &mut sql),
                false => params::write_set(name, value, &mut sql),
            }
        }
        // An identity may not be allowed what the login is: it comes behind all that it might be refused.
        for (name, value) in IDENTITIES.iter().filter_map(|name| Some((*name, client.settings.get(name)?))) {
            if resets || !Arc::ptr_eq(from, &client.settings) {
                params::write_set(name, value, &mut sql);
            }
        }
        let lifts = !matches!(&sql[lifted..], b"" | INSTANT);
        if !lifts {
            sql.drain(..lifted);
        }
        change_timeouts(from, &client.settings, lifts, &mut sql);
        sql
    }

    /// Whether a cleaning resets all settings.
    fn is_to_reset(&self) -> bool {
        self.may_have(Leaves::SETTINGS | Leaves::HIDDEN)
    }

    /// Only what may be dirty; what DISCARD ALL would do, but for the statements that everybody shares.
    fn clean(&mut self, sql: &mut Vec<u8>) {
        let mut dirty = std::mem::take(&mut self.leaves) | self.pins;
        self.pins = dirty.only(Leaves::INDELIBLE);
        if dirty.has(Leaves::HIDDEN) {
            dirty |= HIDDEN;
        }
        if self.private.is_some() {
            dirty |= Leaves::LISTEN;
        }
        STEPS.iter().filter(|(kind, _)| dirty.has(*kind)).for_each(|(_, step)| sql.extend_from_slice(step));
        if dirty.has(Leaves::STATEMENTS) {
            self.statements.clear();
        }
        if dirty.has(Leaves::LISTEN) {
            self.private = None;
        }
    }

    /// At once, when a client left: locks and the like are not to wait for the next client. Whether there was anything.
    pub fn clean_up(&mut self, to_server: &mut Vec<u8>) -> bool {
        if !self.may_have(Leaves::ASKABLE) && self.private.is_none() {
            return false;
        }
        if self.is_to_reset() {
            self.settings = Arc::clone(&self.initial_settings);
        }
        let mut sql = Vec::new();
        lift_timeouts(&self.settings, &mut sql);
        self.clean(&mut sql);
        change_timeouts(&self.settings, &self.settings, true, &mut sql);
        sql.push(0);
        self.own_query(&sql, Note::Cleans, to_server);
        self.owner = None;
        true
    }

    /// A reset by the pooler itself, between two owners in session mode: all replies are swallowed (traps 14, 30). What it does
    /// not undo, nothing does ([`is_tainted`](Self::is_tainted)).
    pub fn discard_all(&mut self, to_server: &mut Vec<u8>) {
        if self.is_to_reset() {
            // In a message of its own, which DISCARD ALL wants to be in: under what its client set that might take too long.
            self.own_query(b"RESET ALL\0", Note::Cleans, to_server);
        }
        self.own_query(b"DISCARD ALL\0", Note::Cleans, to_server);
        self.statements.clear();
        self.unnamed = Holds::Nothing;
        self.leaves = self.leaves.only(Leaves::INDELIBLE);
        self.pins = self.pins.only(Leaves::INDELIBLE);
        self.private = None;
        self.settings = Arc::clone(&self.initial_settings);
        self.owner = None;
    }

    /// Ends whatever a client that left had begun: a COPY fails, and the transaction of a batch without its Sync is rolled
    /// back, as the server does when a client's connection ends. To be called again when all of it is answered
    /// ([`has_answered`](Self::has_answered)), until the server is settled: what is to be done next depends on the answers.
    pub fn wind_up(&mut self, to_server: &mut Vec<u8>) {
        self.plan.forget_synthetic();
        if self.is_settled() {
            return;
        }
        if self.is_skipping() {
            write_message(tag::SYNC, &[], 0, to_server);
            self.plan.push(Entry::swallow(Kind::Sync));
        } else if !self.owes_nothing() {
            // Not a Sync: that would commit what its client had not ended.
            write_message(tag::COPY_FAIL, &[b"client left\0"], 0, to_server);
            write_message(tag::FLUSH, &[], 0, to_server);
            self.plan.push(Entry::swallow(Kind::CopyEnd));
        } else if self.plan.is_in_batch() {
            self.roll_back(to_server);
        } else {
            self.check(to_server);
        }
    }

    /// Ends a transaction that was left open.
    pub fn roll_back(&mut self, to_server: &mut Vec<u8>) {
        self.own_query(b"ROLLBACK\0", Note::None, to_server);
    }

    /// Asks for a sign of life: the empty query is the cheapest (trap 16).
    pub fn check(&mut self, to_server: &mut Vec<u8>) {
        self.own_query(b"\0", Note::None, to_server);
    }

    fn own_query(&mut self, text: &[u8], note: Note, to_server: &mut Vec<u8>) {
        write_message(tag::QUERY, &[text], 0, to_server);
        self.plan.push(Entry::swallow(Kind::Query).noting(note));
    }
}

fn has_identity(settings: &Params) -> bool {
    IDENTITIES.iter().any(|name| settings.get(name).is_some())
}

/// From the settings of one session to those of another, but for [`TIMEOUTS`]. Who has an identity of its own sheds it first.
fn change_settings(from: &Arc<Params>, to: &Arc<Params>, sql: &mut Vec<u8>) {
    if Arc::ptr_eq(from, to) {
        return;
    }
    if has_identity(from) {
        sql.extend_from_slice(b"SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;");
    }
    let is_apart = |name: &str| is_timeout(name) || is_identity(name);
    for (name, _) in from.iter().filter(|(name, _)| !is_apart(name) && to.get(name).is_none()) {
        params::write_reset(name, sql);
    }
    for (name, value) in to.iter().filter(|(name, value)| !is_apart(name) && from.get(name) != Some(value)) {
        params::write_set(name, value, sql);
    }
}

/// As a startup packet may spell it.
pub(super) fn is_timeout(name: &str) -> bool {
    TIMEOUTS.iter().any(|timeout| timeout.eq_ignore_ascii_case(name))
}

fn lift_timeouts(settings: &Params, sql: &mut Vec<u8>) {
    for name in TIMEOUTS.iter().filter(|name| settings.get(name).is_some()) {
        sql.extend_from_slice(b"SET ");
        sql.extend_from_slice(name.as_bytes());
        sql.extend_from_slice(b"=0;");
    }
}

/// Behind everything else, so that only the end of the message runs under them.
fn change_timeouts(from: &Params, to: &Params, are_lifted: bool, sql: &mut Vec<u8>) {
    for name in TIMEOUTS {
        match (from.get(name), to.get(name)) {
            (was, Some(value)) if are_lifted || was != Some(value) => params::write_set(name, value, sql),
            (Some(_), None) => params::write_reset(name, sql),
            _ => {}
        }
    }
}
