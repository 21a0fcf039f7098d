//! What the server warns of at a Parse of ours that tries a name with the client's text: the client hears it if that fails,
//! in front of the error. If it does not, the Parse behind it says it again.

use super::{INSPECTED_BYTES_MAX, Walk};
use crate::wire::frame::Header;
use crate::wire::plan::Note;

impl Walk<'_, '_> {
    /// Up to 64 KiB of them are kept for one Parse.
    #[cold]
    pub(super) fn notice(&mut self, header: Header) -> bool {
        let input = self.input;
        if let Some(Note::Tries(kept)) = self.server.plan.head_note()
            && kept.len() + header.message_bytes() <= INSPECTED_BYTES_MAX as usize
        {
            let Some(message) = input[self.at..].get(..header.message_bytes()) else { return false };
            *kept = [kept, message].concat().into();
        }
        self.pass(header, self.current_reply())
    }

    pub(super) fn take_warned(&mut self) -> Option<Box<[u8]>> {
        match self.server.plan.head_note() {
            Some(Note::Tries(kept)) if !kept.is_empty() => Some(std::mem::take(kept)),
            _ => None,
        }
    }
}
