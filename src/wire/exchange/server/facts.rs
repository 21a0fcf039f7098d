//! What the server's words tell: tags of commands, fields of errors.

use std::ops::Range;

use crate::wire::frame::cstr;
use crate::wire::sql::Leaves;

/// What a CommandComplete tag tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Leaves(Leaves),
    Schema,
    Deallocate,
    DeallocateAll,
    DiscardAll,
}

#[inline]
pub(super) fn effect_of(body: &[u8]) -> Effect {
    match body {
        // The tags of nearly everything, out of the way first.
        [b'S', b'E', b'L', ..] | [b'I', ..] | [b'U', b'P', ..] | [b'B', ..] => Effect::None,
        b"DISCARD ALL\0" => Effect::DiscardAll,
        b"DEALLOCATE ALL\0" => Effect::DeallocateAll,
        b"DEALLOCATE\0" => Effect::Deallocate,
        b"LISTEN\0" => Effect::Leaves(Leaves::LISTEN),
        b"PREPARE\0" => Effect::Leaves(Leaves::STATEMENTS),
        [b'A', b'L', b'T', b'E', b'R', ..] | [b'D', b'R', b'O', b'P', ..] | [b'C', b'R', b'E', b'A', b'T', b'E', ..] => {
            Effect::Schema
        }
        _ => Effect::None,
    }
}

/// The fields of an ErrorResponse that we act upon; each may be missing (CVE-2026-6666).
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) fatal: bool,
    pub(super) code: &'a [u8],
    pub(super) message: &'a [u8],
    pub(super) routine: &'a [u8],
    /// Where the body has the position in the text; nowhere: empty.
    pub(super) position: Range<usize>,
}

impl<'a> Facts<'a> {
    pub(super) fn read(mut body: &'a [u8]) -> Self {
        let (mut facts, whole) = (Self::default(), body.len());
        while let Some((&kind, rest)) = body.split_first()
            && kind != 0
            && let Some((value, rest)) = cstr(rest)
        {
            match kind {
                b'V' => facts.fatal = matches!(value, b"FATAL" | b"PANIC"),
                b'C' => facts.code = value,
                b'M' => facts.message = value,
                b'R' => facts.routine = value,
                b'P' => {
                    let start = whole - body.len() + 1;
                    facts.position = start..start + value.len();
                }
                _ => {}
            }
            body = rest;
        }
        facts
    }
}
