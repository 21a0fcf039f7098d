//! Remarks on what a client runs, for the lint. Off, it costs one comparison for each statement.

use super::super::ClientSide;
use crate::wire::sql::{self, Effects, Hazard, Remark};

/// Remarks kept until the session takes them; it does so after every read.
const REMARKS_MAX: usize = 64;

impl ClientSide {
    pub(super) fn is_linted(&self) -> bool {
        self.remarks.is_some()
    }

    #[inline]
    pub(super) fn lint(&mut self, text: &[u8], effects: &Effects) {
        if let Some(remarks) = self.remarks.as_mut().map(|r| &mut r.0) {
            let room = REMARKS_MAX.saturating_sub(remarks.len());
            remarks.extend(sql::remarks(text, effects).into_iter().take(room));
        }
    }

    /// The same for a Parse, whose name may be a hazard by itself.
    #[inline]
    pub(super) fn lint_named(&mut self, name: &[u8], text: &[u8], effects: &Effects) {
        self.lint(text, effects);
        if let Some(remarks) = self.remarks.as_mut().map(|r| &mut r.0).filter(|r| !name.is_empty() && r.len() < REMARKS_MAX) {
            remarks.push(Remark::new(Hazard::NamedStatement, text));
        }
    }
}
