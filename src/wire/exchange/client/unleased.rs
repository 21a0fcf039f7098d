//! What a client may send without a server: leftovers of a failed COPY, goodbyes, and requests that are refused.

use super::{checked_header, write_ready};
use crate::error::PgError;
use crate::wire::exchange::{ClientSide, Intake};
use crate::wire::frame::HEADER_BYTES;
use crate::wire::plan::Status;
use crate::wire::tag::client as tag;

impl ClientSide {
    /// Takes what needs no server off the front of `input`: leftovers of a failed COPY, Flush, Terminate. `None` when the
    /// next message needs one.
    pub fn turn_unleased(&mut self, input: &[u8], to_client: &mut Vec<u8>) -> Result<(usize, Unleased), PgError> {
        let mut at = 0;
        loop {
            at += self.drop_body(&input[at..], to_client)?;
            if at == input.len() && !matches!(self.intake, Intake::Boundary) {
                return Ok((at, Unleased::More));
            }
            let Some(header) = checked_header(&input[at..])? else { return Ok((at, Unleased::More)) };
            match header.tag {
                tag::TERMINATE => return Ok((at, Unleased::Terminated)),
                tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL | tag::FLUSH => {
                    at += HEADER_BYTES;
                    self.intake = Intake::Drop(header.body);
                }
                _ => return Ok((at, Unleased::Wants)),
            }
        }
    }

    /// Refuses the request that comes next, without a server: `error` (a whole message) now, and ReadyForQuery where the
    /// request ends. What belongs to it is dropped by [`turn_unleased`](Self::turn_unleased).
    pub fn refuse(&mut self, error: &[u8], to_client: &mut Vec<u8>) {
        to_client.extend_from_slice(error);
        // ## Boundary => Refuse
        self.intake = Intake::Refuse { body: 0 };
    }

    /// Drops what is to be dropped; the number of bytes taken.
    pub(super) fn drop_body(&mut self, input: &[u8], to_client: &mut Vec<u8>) -> Result<usize, PgError> {
        let mut at = 0;
        loop {
            let left = (input.len() - at).min(u32::MAX as usize) as u32;
            match self.intake {
                Intake::Boundary | Intake::Forward(_) => return Ok(at),
                Intake::Drop(body) => {
                    let taken = body.min(left);
                    at += taken as usize;
                    self.intake = if taken == body { Intake::Boundary } else { Intake::Drop(body - taken) };
                    if taken < body {
                        return Ok(at);
                    }
                }
                Intake::Refuse { body } => {
                    let taken = body.min(left);
                    at += taken as usize;
                    self.intake = Intake::Refuse { body: body - taken };
                    if taken < body {
                        return Ok(at);
                    }
                    let Some(header) = checked_header(&input[at..])? else { return Ok(at) };
                    if header.tag == tag::TERMINATE {
                        self.intake = Intake::Boundary;
                        return Ok(at);
                    }
                    at += HEADER_BYTES;
                    // ## Refuse => (Refuse | Drop): a Query, a FunctionCall or a Sync ends what was refused.
                    self.intake = if matches!(header.tag, tag::QUERY | tag::FUNCTION_CALL | tag::SYNC) {
                        write_ready(Status::Idle, to_client);
                        Intake::Drop(header.body)
                    } else {
                        Intake::Refuse { body: header.body }
                    };
                }
            }
        }
    }
}

/// What a client without a server wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unleased {
    /// Nothing yet: more bytes must come.
    More,
    /// A server.
    Wants,
    Terminated,
}
