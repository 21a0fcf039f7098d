//! A server changes hands: clean what its owner left, set what the new owner has, in front of the new owner's bytes.

use std::sync::Arc;

use super::super::extended::write_message;
use super::super::names::Holds;
use super::super::params::{self, Params, is_settable};
use super::super::plan::{Entry, Kind, Note};
use super::super::sql::Leaves;
use super::super::tag::client as tag;
use super::server::write_changes;
use super::{ClientSide, Owner, ServerSide, Startup};

impl ServerSide {
    /// Makes this server `client`'s. What must run first goes to `to_server`, to leave in one write with the client's own
    /// bytes; its replies are swallowed. What changed on the server's side alone is told to the client.
    ///
    /// Nothing happens where this is the server the client had last: state stays with its owner until somebody else needs
    /// the server.
    pub fn take_over(&mut self, client: &mut ClientSide, to_server: &mut Vec<u8>, to_client: &mut Vec<u8>) {
        if self.owner == Some(Owner { client: client.id, lease: client.leases }) {
            if !Arc::ptr_eq(&self.params, &client.params) {
                write_changes(&client.params, &self.params, to_client);
                client.params = Arc::clone(&self.params);
            }
            return;
        }
        client.leases += 1;
        self.owner = Some(Owner { client: client.id, lease: client.leases });
        if self.has_nothing_to_change(client) {
            return;
        }
        let sql = self.prelude(client);
        if sql.is_empty() {
            write_changes(&client.params, &self.params, to_client);
            client.params = Arc::clone(&self.params);
            return;
        }
        write_message(tag::QUERY, &[&sql, b"\0"], 0, to_server);
        self.plan.push(Entry::swallow(Kind::Query).noting(Note::Replay));
        self.unnamed = Holds::Nothing;
    }

    /// How well this server suits a client that never had it: 3 as it is, 2 after a few settings, 1 after cleaning.
    pub fn rank_for(&self, params: &Arc<Params>, startup: &Startup) -> u8 {
        match self.leaves.is_nothing() {
            true if Arc::ptr_eq(&self.params, params) && self.startup == *startup => 3,
            true => 2,
            false => 1,
        }
    }

    #[inline]
    fn has_nothing_to_change(&self, client: &ClientSide) -> bool {
        self.leaves.is_nothing() && Arc::ptr_eq(&self.params, &client.params) && self.has_startup_of(client)
    }

    fn has_startup_of(&self, client: &ClientSide) -> bool {
        Arc::ptr_eq(&self.startup, &client.startup) || self.startup == client.startup
    }

    /// One multi-statement query: all of it takes effect, or none.
    fn prelude(&mut self, client: &ClientSide) -> Vec<u8> {
        let mut sql = Vec::new();
        let leaves = std::mem::take(&mut self.leaves);
        self.clean(leaves, &mut sql);
        let resets = leaves.has(Leaves::SETTINGS) || !self.has_startup_of(client);
        if resets {
            sql.extend_from_slice(b"RESET ALL;");
            client.startup.iter().for_each(|(name, value)| params::write_set(name, value, &mut sql));
            self.startup = Arc::clone(&client.startup);
        }
        let base = if resets { &self.initial } else { &self.params };
        for (name, value) in client.params.iter().filter(|(name, value)| is_settable(name) && base.get(name) != Some(value)) {
            params::write_set(name, value, &mut sql);
        }
        sql
    }

    /// Only what is dirty; what DISCARD ALL would do, but for the statements that everybody shares.
    fn clean(&mut self, leaves: Leaves, sql: &mut Vec<u8>) {
        const STEPS: [(Leaves, &[u8]); 7] = [
            (Leaves::CURSORS, b"CLOSE ALL;"),
            (Leaves::SETTINGS, b"SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;"),
            (Leaves::LISTEN, b"UNLISTEN *;"),
            (Leaves::LOCKS, b"SELECT pg_catalog.pg_advisory_unlock_all();"),
            (Leaves::TEMP, b"DISCARD TEMP;"),
            (Leaves::SEQUENCES, b"DISCARD SEQUENCES;"),
            (Leaves::STATEMENTS, b"DEALLOCATE ALL;"),
        ];
        STEPS.iter().filter(|(kind, _)| leaves.has(*kind)).for_each(|(_, step)| sql.extend_from_slice(step));
        if leaves.has(Leaves::STATEMENTS) {
            self.statements.clear();
        }
    }

    /// A reset by the pooler itself, between two owners in session mode: all replies are swallowed (traps 14, 30).
    pub fn discard_all(&mut self, to_server: &mut Vec<u8>) {
        self.own_query(b"DISCARD ALL\0", to_server);
        self.statements.clear();
        self.unnamed = Holds::Nothing;
        self.leaves = Leaves::NOTHING;
        self.startup = Arc::clone(&self.initial_startup);
        self.owner = None;
    }

    /// Ends whatever a client that left had begun: a COPY fails, and the transaction of a batch without its Sync is rolled
    /// back, as the server does when a client's connection ends. To be called again when all of it is answered
    /// ([`has_answered`](Self::has_answered)), until the server is settled: what is to be done next depends on the answers.
    pub fn wind_up(&mut self, to_server: &mut Vec<u8>) {
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
        self.own_query(b"ROLLBACK\0", to_server);
    }

    /// Asks for a sign of life: the empty query is the cheapest (trap 16).
    pub fn check(&mut self, to_server: &mut Vec<u8>) {
        self.own_query(b"\0", to_server);
    }

    fn own_query(&mut self, text: &[u8], to_server: &mut Vec<u8>) {
        write_message(tag::QUERY, &[text], 0, to_server);
        self.plan.push(Entry::swallow(Kind::Query));
    }
}
