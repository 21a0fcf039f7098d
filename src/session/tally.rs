//! What a session counts.

use super::end::End;
use crate::error::Fault;
use crate::pool::{Pool, Refusal, Registry};
use crate::telemetry::{Telemetry, fault_of};
use crate::wire::exchange::ServerTurn;
use crate::wire::fields::Fields;

/// What a server's turn came to.
#[inline]
pub(super) fn turn(pool: &Pool, registry: &Registry, turn: &ServerTurn) {
    if turn.ready > 0 {
        pool.tally.queries.add(turn.ready.into());
        pool.tally.transactions.add(turn.transactions.into());
    }
    turn.errors.iter().for_each(|code| registry.telemetry().errors.count(Fault::Server, code));
}

/// A client has a server: another client's, that first had to be told something, or neither.
#[inline]
pub(super) fn lease(pool: &Pool, is_transfer: bool, is_replay: bool) {
    if is_transfer {
        pool.tally.transfers.one();
    }
    if is_replay {
        pool.tally.replays.one();
    }
}

pub(super) fn refusal(telemetry: &Telemetry, refusal: &Refusal) {
    match refusal {
        Refusal::Pooler(error) => telemetry.errors.count(fault_of(error.code.as_str()), error.code.as_str().as_bytes()),
        // Counted as the end that it is.
        Refusal::Upstream(_) | Refusal::Final(_) => {}
        Refusal::Canceled => telemetry.errors.count(Fault::Client, b"57014"),
    }
}

/// How a session, or the admission to one, ended.
pub(super) fn end(pool: &Pool, registry: &Registry, end: &End) {
    let errors = &registry.telemetry().errors;
    match end {
        End::Refused(error) => errors.count(fault_of(error.code.as_str()), error.code.as_str().as_bytes()),
        End::RefusedUpstream(body) => upstream(registry.telemetry(), body),
        End::ServerLost(_) => pool.tally.servers_lost.one(),
        End::Stopped => errors.count(Fault::Pooler, b"57P01"),
        End::ClientLeft | End::ClientFailed(_) => {}
    }
}

fn upstream(telemetry: &Telemetry, body: &[u8]) {
    telemetry.errors.count(Fault::Server, Fields::new(body).get(b'C').unwrap_or_default());
}
