//! The session state a client leaves on its server: what may be there, what holds the server for it, and the question
//! that settles it.
//!
//! A server with such state stays its client's (a pin) for as long as nobody else needs it. When somebody does, the
//! server is asked (`wire::probe`): settings are taken down and replayed elsewhere; for as long as locks, temporary tables
//! and the like are really there, the server stays where it is.

use std::sync::Arc;

use super::super::extended::write_message;
use super::super::names::Holds;
use super::super::params::{Params, write_literal};
use super::super::plan::{Entry, Kind, Note};
use super::super::probe::{self, Answer, IDENTITIES, Probe};
use super::super::sql::{Effects, Leaves, NAME_BYTES_MAX, Scope, Touched};
use super::super::tag::client as tag;
use super::transfer::is_timeout;
use super::verify::Verifier;
use super::{ClientSide, ServerSide, Startup};

impl ServerSide {
    /// What the client runs now does this to the state of its session.
    #[inline]
    pub(super) fn note_effects(&mut self, client: &mut ClientSide, effects: &Effects) {
        if !effects.is_nothing() {
            self.note_some(client, effects);
        }
    }

    #[inline(never)]
    fn note_some(&mut self, client: &mut ClientSide, effects: &Effects) {
        self.leaves |= effects.leaves.without(Leaves::CURRVAL) | effects.frees.only(self.pins);
        if effects.leaves.has(Leaves::CURRVAL) {
            client.keeps = Leaves::SEQUENCES;
        }
        if let Some(names) = &effects.names {
            add(&mut client.account().touched, names);
        }
        if let Some(names) = &effects.resets {
            add(&mut client.account().bare, names);
        }
    }

    /// The client of session mode may run this: of what it does only that counts which stays behind, and what the way there may
    /// have to be rid of first.
    #[inline]
    pub(super) fn taint(&mut self, effects: &Effects) {
        self.leaves |= effects.leaves.only(Leaves::INDELIBLE | Leaves::SETTINGS | Leaves::HIDDEN);
    }

    /// Nothing is there, nor may be.
    pub fn is_clean(&self) -> bool {
        (self.leaves | self.pins).is_nothing()
    }

    /// Whether state of these kinds may be there.
    pub fn may_have(&self, kinds: Leaves) -> bool {
        (self.leaves | self.pins).has(kinds)
    }

    /// Why the server stays with its client outside a transaction; nothing: it may go.
    #[inline]
    pub fn held_for(&self, client: &ClientSide) -> Leaves {
        let here = self.leaves | self.pins;
        if here.is_nothing() { here } else { here.only(Leaves::ASKABLE | Leaves::INDELIBLE | client.keeps) }
    }

    /// Nothing holds it, and no defaults have to be restored.
    #[inline]
    pub fn is_free_of(&self, client: &ClientSide) -> bool {
        (self.leaves | self.pins).is_nothing() || (self.held_for(client).is_nothing() && !self.leaves.has(Leaves::RESETS))
    }

    /// Whether asking may find that it is held no more.
    pub fn is_worth_asking(&self) -> bool {
        self.leaves.has(Leaves::ASKABLE)
    }

    /// Nothing that any statement of ours could take away.
    pub fn is_tainted(&self) -> bool {
        self.may_have(Leaves::INDELIBLE)
    }

    /// Asks an idle server what its client left. Whatever is asked about is taken to be there until the answer has come.
    pub fn ask(&mut self, client: &mut ClientSide, to_server: &mut Vec<u8>) {
        let asked = self.leaves.only(Leaves::ASKABLE);
        // ## in doubt => being asked
        self.leaves = self.leaves.without(asked);
        self.pins |= asked;
        let touched = if asked.has(Leaves::SETTINGS) { client.take_touched() } else { None };
        self.put_question(probe::ask(asked, touched.unwrap_or_default(), &client.settings), to_server);
    }

    pub(super) fn put_question(&mut self, (sql, probe): (Vec<u8>, Probe), to_server: &mut Vec<u8>) {
        write_message(tag::QUERY, &[&sql], 0, to_server);
        self.probe = Some(Box::new(probe));
        self.plan.push(Entry::swallow(Kind::Query).noting(Note::Probe));
        self.unnamed = Holds::Nothing;
    }

    /// A question is out: what its client asks next waits for the answer, or whoever wants the server would wait for ever for
    /// a client that is never done.
    pub fn is_being_asked(&self) -> bool {
        self.probe.is_some()
    }

    /// A row for a question of ours.
    pub(super) fn probe_row(&mut self, body: &[u8]) {
        if let Some(probe) = &mut self.probe {
            probe.row(body);
        }
    }

    pub(super) fn probe_failed(&mut self) {
        if let Some(probe) = &mut self.probe {
            probe.answer = Answer::Useless;
        }
    }

    /// The answer is complete.
    pub(super) fn probe_done(&mut self, client: &mut ClientSide) {
        let Some(probe) = self.probe.take() else { return };
        let Probe { asked, touched, answer } = *probe;
        let Answer::Coming { mut remains, settings, mut channels } = answer else {
            client.verifier().into_iter().for_each(Verifier::give_up);
            // They have still to be asked about when the server is asked again: it would be free then, with these on it.
            if asked.has(Leaves::SETTINGS) {
                add(&mut client.account().touched, &touched);
            }
            return;
        };
        if asked.has(Leaves::LISTEN) {
            // By its whole name: what else is called like it is the client's.
            channels.retain(|channel| !self.is_private(channel));
            if channels.is_empty() {
                remains = remains.without(Leaves::LISTEN);
            }
            self.found = channels;
        }
        // ## being asked => (pinned | free)
        self.pins = self.pins.without(asked) | remains;
        if asked.has(Leaves::SETTINGS) {
            let own = client.catalog.params.intern(self.own_settings(settings));
            if let Some(verifier) = client.aside.as_mut().and_then(|aside| aside.verifier.as_mut()) {
                verifier.compare(remains, &client.settings, &own, &client.startup);
            }
            self.settings = Arc::clone(&own);
            client.settings = own;
        }
    }

    /// Without those that are reported, that are what they would be anyway, or that belong to a transaction.
    fn own_settings(&self, all: Params) -> Params {
        let is_own = |name: &str, value: &str| match name {
            "role" => value != "none",
            "session_authorization" => self.initial.get(name) != Some(value),
            _ => self.params.get(name).is_none() && !name.starts_with("transaction_"),
        };
        Params::from_pairs(all.iter().filter(|(name, value)| is_own(name, value)))
    }

    /// `DISCARD ALL` was done, and nothing was sent behind it: the state is that of a new session.
    pub(super) fn is_as_new(&mut self, client: &mut ClientSide) {
        self.leaves = self.leaves.only(Leaves::INDELIBLE) | Leaves::RESETS;
        self.pins = self.pins.only(Leaves::INDELIBLE);
        self.private = None;
        // Its startup parameters are set again before anybody else comes.
        self.settings = Arc::clone(&client.startup.settings);
        client.settings = Arc::clone(&client.startup.settings);
        client.account = Some(Box::new(Account { reset: Some(Touched::any()), ..Account::default() }));
    }

    /// What RESET took away comes back, if the client has startup parameters: they are its session's defaults, and not the
    /// server's. Whether there was anything to send.
    pub fn restore_defaults(&mut self, client: &mut ClientSide, to_server: &mut Vec<u8>) -> bool {
        if !self.leaves.has(Leaves::RESETS) {
            return false;
        }
        self.leaves = self.leaves.without(Leaves::RESETS);
        let Some(reset) = client.take_reset() else { return false };
        let Some(sql) = defaults(&client.startup, &reset) else { return false };
        // A timeout that is to come back must not look as if the session had set one.
        match client.startup.asked.iter().any(|(name, _)| is_timeout(name) && is_in(&reset, name)) {
            true => self.say(&sql, Note::Replay, to_server),
            false => self.say_untimed(&sql, Note::Replay, to_server),
        }
        true
    }

    /// What was to set them again did not: that is done when the transaction has ended.
    pub(super) fn restoring_failed(&mut self, client: &mut ClientSide) {
        self.leaves |= Leaves::RESETS;
        client.note_reset(&Touched::any());
    }
}

/// Sets each startup parameter that was reset, unless that was undone or it was set again since.
pub(super) fn defaults(startup: &Startup, reset: &Touched) -> Option<Vec<u8>> {
    let mut sql = b"SELECT pg_catalog.set_config(n,v,false) FROM (VALUES ".to_vec();
    let mut separator: &[u8] = b"(";
    for (name, value) in startup.asked.iter().filter(|(name, _)| is_in(reset, name)) {
        sql.extend_from_slice(separator);
        write_literal(name, &mut sql);
        sql.push(b',');
        write_literal(value, &mut sql);
        sql.push(b')');
        separator = b",(";
    }
    sql.extend_from_slice(
        b") AS startup(n,v) WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session' \
          AND pg_catalog.lower(name) OPERATOR(pg_catalog.=) pg_catalog.lower(n)) \
          AND (pg_catalog.strpos(n,'.') OPERATOR(pg_catalog.=) 0 \
          OR COALESCE(pg_catalog.current_setting(n,true),'') OPERATOR(pg_catalog.=) '')",
    );
    (separator == b",(").then_some(sql)
}

fn is_in(reset: &Touched, name: &str) -> bool {
    reset.scope == Scope::Any || reset.names.iter().any(|n| n.eq_ignore_ascii_case(name))
}

/// What texts did to the settings of a client.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Those that they may have changed.
    touched: Option<Touched>,
    /// Those that were reset since its startup parameters were last made sure of.
    reset: Option<Touched>,
    /// The same, and nothing behind the text has set them again.
    bare: Option<Touched>,
}

impl ClientSide {
    fn account(&mut self) -> &mut Account {
        self.account.get_or_insert_default()
    }

    pub(super) fn take_touched(&mut self) -> Option<Touched> {
        self.take_from_account(|account| &mut account.touched)
    }

    fn take_reset(&mut self) -> Option<Touched> {
        if let Some(bare) = self.take_bare() {
            self.note_reset(&bare);
        }
        self.take_from_account(|account| &mut account.reset)
    }

    pub(super) fn take_bare(&mut self) -> Option<Touched> {
        self.take_from_account(|account| &mut account.bare)
    }

    pub(super) fn note_reset(&mut self, reset: &Touched) {
        add(&mut self.account().reset, reset);
    }

    /// At the end of the transaction.
    pub(super) fn owes_defaults(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.reset.is_some() || account.bare.is_some())
    }

    /// The account costs nothing while it is empty.
    fn take_from_account(&mut self, part: fn(&mut Account) -> &mut Option<Touched>) -> Option<Touched> {
        let account = self.account.as_deref_mut()?;
        let taken = part(account).take();
        if account.touched.is_none() && account.reset.is_none() && account.bare.is_none() {
            self.account = None;
        }
        taken
    }

    /// Settings of its own, as far as they are known.
    pub fn settings(&self) -> &Arc<Params> {
        &self.settings
    }

    /// A setting whose name was bound as a parameter; `None`: it could not be read.
    pub(super) fn touch_bound(&mut self, name: Option<&[u8]>) {
        let name = name.filter(|n| n.len() <= NAME_BYTES_MAX).and_then(|n| std::str::from_utf8(n).ok());
        add(&mut self.account().touched, &name.map_or_else(Touched::any, Touched::named));
    }
}

fn add(account: &mut Option<Touched>, names: &Touched) {
    match account {
        Some(account) => account.add(names),
        none => *none = Some(names.clone()),
    }
}

/// Whether replaying `name` has to wait until everything else is set.
pub(super) fn is_identity(name: &str) -> bool {
    IDENTITIES.iter().any(|identity| identity.eq_ignore_ascii_case(name))
}
