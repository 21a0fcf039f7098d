//! A query of several statements of which some name prepared statements: `BEGIN; DEALLOCATE t; COMMIT`.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::Walk;
use super::prepared::{estranged, is_ours, quoted};
use crate::wire::extended::write_message;
use crate::wire::frame::Header;
use crate::wire::names::{About, Does, Named};
use crate::wire::plan::{Entry, InTurn, Kind, Note};
use crate::wire::position::Shift;
use crate::wire::sql::{self, Backslash, Effects, Mention};
use crate::wire::statement::SERVER_NAME_PREFIX;
use crate::wire::tag::client as tag;

/// What a statement of the text does, in the client's terms.
enum Step {
    /// Runs what was prepared by protocol message.
    Uses(Range<usize>, Arc<Named>),
    /// Wants to take its name: an error.
    Collides(Range<usize>, Arc<Named>),
    Forgets(Range<usize>, Arc<Named>),
    /// It is about the text's own, or about nothing.
    Own(Range<usize>, Vec<u8>, Does),
    ForgetsAll,
}

impl Walk<'_, '_> {
    /// The text goes with the server's names in it, behind what it takes to have them there.
    pub(super) fn query_mentioning(&mut self, header: Header, text: &[u8]) -> bool {
        let mentions = sql::mentions(text, self.backslash());
        if mentions.iter().any(|mention| self.mention_must_wait(text, mention)) {
            return false;
        }
        let mut steps = self.steps(text, mentions);
        for step in &mut steps {
            if let Step::Uses(_, named) = step {
                match self.current(Arc::clone(named)) {
                    Some(now) => *named = now,
                    None => return false,
                }
            }
        }
        if steps.iter().any(|step| self.takes_preparing(step)) && self.sync_must_wait() {
            return false;
        }
        self.prepare_for(&steps);
        let displaced = self.displace_unnamed(None);
        let (mut written, shifts) = rewritten(text, &steps);
        written.push(b'\0');
        self.write_query(&[&written]);
        let notes = InTurn { shifts, ..self.notes(steps) };
        let is_nothing = notes.forgets.is_empty() && notes.uses.is_empty();
        let note = if is_nothing { Note::None } else { Note::InTurn(Box::new(notes)) };
        self.server.plan.push(Entry::forward(Kind::Query).noting(note).displacing(displaced));
        self.at += header.message_bytes();
        true
    }

    /// `PREPARE name`, alone in its text as the extended protocol has it.
    pub(super) fn name_prepared_in(&self, text: &[u8]) -> Option<Range<usize>> {
        match sql::mentions(text, self.backslash()).as_slice() {
            [Mention::Prepare(name)] => Some(name.clone()),
            _ => None,
        }
    }

    fn backslash(&self) -> Backslash {
        match self.client.params.get("standard_conforming_strings") {
            Some("off") => Backslash::Escapes,
            _ => Backslash::IsItself,
        }
    }

    fn mention_must_wait(&mut self, text: &[u8], mention: &Mention) -> bool {
        match mention {
            Mention::All => self.must_wait_for_all(),
            Mention::Prepare(name) | Mention::Execute(name) | Mention::Deallocate(name) => {
                self.name_must_wait(&sql::identifier(&text[name.clone()]))
            }
        }
    }

    /// What each name means where it stands: a statement before it may have forgotten it.
    fn steps(&self, text: &[u8], mentions: Vec<Mention>) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::with_capacity(mentions.len());
        let (mut all_gone, mut gone) = (false, HashSet::new());
        for mention in mentions {
            let (range, does) = match mention {
                Mention::All => {
                    all_gone = true;
                    steps.push(Step::ForgetsAll);
                    continue;
                }
                Mention::Prepare(range) => (range, Does::Prepares),
                Mention::Execute(range) => (range, Does::Executes),
                Mention::Deallocate(range) => (range, Does::Forgets),
            };
            let name = sql::identifier(&text[range.clone()]);
            let held = self.client.names.get(&name).filter(|_| !all_gone && !gone.contains(&name));
            if does == Does::Forgets && held.is_some() {
                gone.insert(name.clone());
            }
            steps.push(match (held, does) {
                (Some(named), Does::Prepares) => Step::Collides(range, Arc::clone(named)),
                (Some(named), Does::Executes) => Step::Uses(range, Arc::clone(named)),
                (Some(named), Does::Forgets) => Step::Forgets(range, Arc::clone(named)),
                (None, _) => Step::Own(range, name, does),
            });
        }
        steps
    }

    fn takes_preparing(&mut self, step: &Step) -> bool {
        match step {
            Step::Uses(_, named) | Step::Collides(_, named) => !self.has_named(named),
            Step::Forgets(..) => true,
            Step::Own(..) | Step::ForgetsAll => false,
        }
    }

    /// What the text runs is put to the server, and something to be deallocated in place of what it forgets: the
    /// statement itself may be wanted under another name, and be everybody's.
    fn prepare_for(&mut self, steps: &[Step]) {
        let in_batch = self.server.plan.is_in_batch();
        let (mut sent, mut forgotten, mut kept) = (false, 0, Vec::new());
        for step in steps {
            match step {
                Step::Uses(_, named) | Step::Collides(_, named) => {
                    kept.extend(named.about.statement().map(|s| s.id));
                    kept.push(named.statement.id);
                    sent |= self.put_named(named);
                    self.server.note_effects(self.client, &named.statement.scan.effects);
                }
                Step::Forgets(..) => {
                    forgotten += 1;
                    self.write_stand_in(&stand_in(forgotten));
                    sent = true;
                }
                // Prepared in SQL: what its text would do was noted then, and not what it does now.
                Step::Own(.., Does::Executes) => self.server.note_effects(self.client, &Effects::anything()),
                Step::Own(..) | Step::ForgetsAll => {}
            }
        }
        if sent {
            kept.sort_unstable();
            self.evict(&kept);
        }
        if sent && !in_batch {
            self.sync();
        }
    }

    fn write_stand_in(&mut self, name: &str) {
        write_message(tag::CLOSE, &[b"S", name.as_bytes(), b"\0"], 0, self.out.settle());
        self.server.plan.push(Entry::swallow(Kind::Close));
        // No statement at all: that is taken in a failed transaction too.
        self.write_parse(name, b"\0\0\0");
        self.server.plan.push(Entry::swallow(Kind::Parse));
    }

    /// Taken for done at once, because what the client sends next counts on it.
    fn notes(&mut self, steps: Vec<Step>) -> InTurn {
        let (mut notes, mut uses) = (VecDeque::new(), Vec::new());
        let collides = steps.iter().position(|step| matches!(step, Step::Collides(..)));
        for (at, step) in steps.into_iter().enumerate() {
            if let Step::Uses(_, named) | Step::Collides(_, named) = &step
                && collides.is_none_or(|last| at <= last)
            {
                uses.push(Arc::clone(named));
            }
            match step {
                Step::Forgets(_, named) => {
                    self.client.names.remove(&named.name, self.server.plan.batch());
                    notes.push_back(Note::Unnames(named));
                }
                Step::Own(.., Does::Forgets) => notes.push_back(Note::Own),
                Step::ForgetsAll => notes.push_back(self.clear_names()),
                Step::Uses(_, named) if forgets(&named.about) => {
                    notes.push_back(Note::Uses(named));
                }
                Step::Uses(..) | Step::Collides(..) | Step::Own(..) => {}
            }
        }
        InTurn { forgets: notes, uses, shifts: Vec::new() }
    }
}

/// Whether running it answers as DEALLOCATE does.
fn forgets(about: &About) -> bool {
    matches!(about, About::ForgetsAll) || about.naming().is_some_and(|naming| naming.does == Does::Forgets)
}

/// The text with the server's names in it, and where.
fn rewritten(text: &[u8], steps: &[Step]) -> (Vec<u8>, Vec<Shift>) {
    let (mut written, mut from, mut forgotten) = (Vec::with_capacity(text.len() + 32), 0, 0);
    let mut places = Vec::new();
    let mut replace = |range: &Range<usize>, name: &[u8]| {
        written.extend_from_slice(&text[from..range.start]);
        places.push((range.clone(), written.len()..written.len() + name.len()));
        written.extend_from_slice(name);
        from = range.end;
    };
    for step in steps {
        match step {
            Step::Uses(range, named) | Step::Collides(range, named) => replace(range, named.statement.name.as_bytes()),
            Step::Forgets(range, _) => {
                forgotten += 1;
                replace(range, stand_in(forgotten).as_bytes());
            }
            Step::Own(range, name, _) if is_ours(name) => replace(range, &quoted(&estranged(name))),
            Step::Own(..) | Step::ForgetsAll => {}
        }
    }
    written.extend_from_slice(&text[from..]);
    let shifts = Shift::all(text, &written, places);
    (written, shifts)
}

/// The server's name for what is deallocated in place of the text's nth statement that is forgotten. Ids of ours begin at 1.
fn stand_in(nth: usize) -> String {
    format!("{SERVER_NAME_PREFIX}0_{nth}")
}
