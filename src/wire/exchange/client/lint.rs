//! Remarks on what a client runs, for the lint, and its texts for `verify`. Off, each costs one comparison for each statement.

use super::super::ClientSide;
use super::prepared::text_of;
use crate::hint::rare;
use crate::wire::sql::{self, Effects, Hazard, Leaves, Remark};

/// Remarks kept until the session takes them; it does so after every read.
const REMARKS_MAX: usize = 64;

impl ClientSide {
    /// Whether anything looks at the text of a statement that does this: most are not even sought in their message.
    #[inline]
    pub(super) fn remembers(&self, effects: &Effects) -> bool {
        self.is_held_by(effects) || self.aside.as_ref().is_some_and(|aside| aside.noted.is_some() || aside.verifier.is_some())
    }

    /// Remembers the statement, if it may leave something that keeps a server; all others cost one comparison ([`remembers`](Self::remembers)).
    #[inline(never)]
    pub(super) fn blame(&mut self, text: &[u8], effects: &Effects) {
        self.ran(text);
        if self.is_held_by(effects) {
            self.aside().culprit = Some(sql::in_brief(text));
        }
    }

    #[inline]
    pub(super) fn blame_unnamed(&mut self, effects: &Effects) {
        if self.is_verified()
            && let Some(rest) = self.unnamed.rest().map(<[u8]>::to_vec)
        {
            self.ran(text_of(&rest));
        }
        if self.is_held_by(effects) {
            let culprit = self.unnamed.rest().map(|rest| sql::in_brief(text_of(rest)));
            self.aside().culprit = culprit;
        }
    }

    /// Kinds that hold a server, as `ServerSide::held_for` has them. An INSERT, which may have used a sequence, holds it for few.
    #[inline]
    fn is_held_by(&self, effects: &Effects) -> bool {
        effects.leaves.has(Leaves::ASKABLE.with(Leaves::INDELIBLE).with(self.keeps))
    }

    pub(super) fn is_linted(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.remarks.is_some())
    }

    #[inline]
    pub(super) fn lint(&mut self, text: &[u8], effects: &Effects) {
        if let Some(remarks) = self.remarks() {
            rare();
            let room = REMARKS_MAX.saturating_sub(remarks.len());
            remarks.extend(sql::remarks(text, effects).into_iter().take(room));
        }
    }

    /// The same for a Parse, whose name may be a hazard by itself.
    #[inline]
    pub(super) fn lint_named(&mut self, name: &[u8], text: &[u8], effects: &Effects) {
        self.lint(text, effects);
        if let Some(remarks) = self.remarks().filter(|r| !name.is_empty() && r.len() < REMARKS_MAX) {
            remarks.push(Remark::new(Hazard::NamedStatement, text));
        }
    }
}
