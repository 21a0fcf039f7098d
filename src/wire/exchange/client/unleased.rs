//! What a client may send without a server: leftovers of a failed COPY, goodbyes, and requests that are refused.

use std::sync::Arc;

use super::{checked_header, write_ready};
use crate::error::PgError;
use crate::hint::rare;
use crate::wire::exchange::{ClientSide, Intake, Mode, NamedStatements};
use crate::wire::extended::{Parse, write_message};
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::names::{About, KNOWN, Named};
use crate::wire::plan::Status;
use crate::wire::sql::Verb;
use crate::wire::tag::{client as tag, server};

impl ClientSide {
    /// Takes what needs no server off the front of `input`: leftovers of a failed COPY, Flush, what was refused.
    pub fn turn_unleased(&mut self, input: &[u8], to_client: &mut Vec<u8>) -> Result<(usize, Unleased), Box<PgError>> {
        let mut at = 0;
        loop {
            if !matches!(self.intake, Intake::Boundary | Intake::Waits | Intake::Forward(_)) {
                rare();
                at += self.drop_body(&input[at..], to_client)?;
            }
            if at == input.len() && !matches!(self.intake, Intake::Boundary | Intake::Waits) {
                rare();
                return Ok((at, Unleased::More));
            }
            let Some(header) = checked_header(&input[at..])? else { return Ok((at, Unleased::More)) };
            match header.tag {
                tag::TERMINATE => {
                    rare();
                    return Ok((at, Unleased::Terminated));
                }
                tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL | tag::FLUSH => {
                    rare();
                    at += HEADER_BYTES;
                    self.intake = Intake::Drop(header.body);
                }
                // Outside a transaction, with nothing owed, the server has but one answer to this.
                tag::SYNC if header.body == 0 => {
                    rare();
                    at += HEADER_BYTES;
                    write_ready(Status::Idle, to_client);
                }
                tag::PARSE if self.parse_proven(&input[at..], header) => {
                    at += header.message_bytes();
                    self.aside().counted.client_parses += 1;
                    write_message(server::PARSE_COMPLETE, &[], 0, to_client);
                }
                _ => return Ok((at, Unleased::Wants)),
            }
        }
    }

    /// A named statement that a server has taken before, from whomever, is as good as prepared: it is sent where it is
    /// bound. A client that prepares ahead (libpq's PQprepare, which blocks) waits for no server, while those who have one
    /// may be waiting for this client's thread.
    fn parse_proven(&mut self, input: &[u8], header: Header) -> bool {
        if self.mode == Mode::Session || self.catalog.named_statements == NamedStatements::Forgotten {
            return false;
        }
        let Some(body) = input.get(HEADER_BYTES..header.message_bytes()) else { return false };
        let Some(parse) = Parse::read(body) else { return false };
        let is_new = !parse.name.is_empty() && self.names.get(parse.name).is_none();
        if !is_new || self.excess(parse.name.len() + parse.rest.len(), &About::Nothing).is_some() {
            return false;
        }
        let Some(statement) = self.catalog.statements.proven(parse.rest) else { return false };
        if statement.scan.verb != Verb::Other {
            return false;
        }
        self.lint_named(parse.name, parse.text, &statement.scan.effects);
        self.names.insert(Arc::new(Named { name: parse.name.into(), statement, about: About::Nothing, batch: KNOWN }));
        true
    }

    /// Refuses the request that comes next, without a server: `error` (a whole message) now, and ReadyForQuery where the
    /// request ends. What belongs to it is dropped by [`turn_unleased`](Self::turn_unleased).
    pub fn refuse(&mut self, error: &[u8], to_client: &mut Vec<u8>) {
        to_client.extend_from_slice(error);
        // ## Boundary => Refuse
        self.intake = Intake::Refuse;
    }

    /// Drops what is to be dropped; the number of bytes taken.
    pub(super) fn drop_body(&mut self, input: &[u8], to_client: &mut Vec<u8>) -> Result<usize, Box<PgError>> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let (taken, intake) = match self.intake {
                Intake::Boundary | Intake::Waits | Intake::Forward(_) => return Ok(at),
                Intake::Drop(body) => match left(body, rest) {
                    // ## Drop => Boundary
                    (taken, 0) => (taken, Intake::Boundary),
                    (taken, body) => (taken, Intake::Drop(body)),
                },
                Intake::RefuseBatch(body) if body > 0 => {
                    let (taken, body) = left(body, rest);
                    (taken, Intake::RefuseBatch(body))
                }
                Intake::Refuse | Intake::RefuseBatch(_) => match checked_header(rest)? {
                    None => return Ok(at),
                    Some(header) => self.refuse_message(header, to_client),
                },
            };
            self.intake = intake;
            at += taken;
            if taken == 0 {
                return Ok(at);
            }
        }
    }

    /// One message of what is refused: bytes taken, and what of it is still to come.
    fn refuse_message(&self, header: Header, to_client: &mut Vec<u8>) -> (usize, Intake) {
        if header.tag == tag::TERMINATE {
            // ## (Refuse | RefuseBatch) => Boundary: nobody waits for an answer.
            return (0, Intake::Boundary);
        }
        let is_whole = self.intake == Intake::Refuse && matches!(header.tag, tag::QUERY | tag::FUNCTION_CALL);
        let ends = is_whole || header.tag == tag::SYNC;
        if ends {
            write_ready(Status::Idle, to_client);
        }
        // ## (Refuse | RefuseBatch) => (RefuseBatch | Drop)
        (HEADER_BYTES, if ends { Intake::Drop(header.body) } else { Intake::RefuseBatch(header.body) })
    }
}

/// Bytes of a body that are here, and bytes that are not.
fn left(body: u32, input: &[u8]) -> (usize, u32) {
    let taken = input.len().min(body as usize);
    (taken, body - taken as u32)
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
