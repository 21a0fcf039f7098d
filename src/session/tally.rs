//! What a session counts.

use std::time::Duration;

use super::end::End;
use crate::error::{Fault, PgError};
use crate::pool::{Pool, Refusal, Registry};
use crate::telemetry::{Telemetry, Turnover, fault_of};
use crate::wire::exchange::{ClientSide, ServerTurn};
use crate::wire::fields::Fields;

/// What a server's turn came to.
#[inline]
pub(super) fn turn(turnover: &Turnover, registry: &Registry, turn: &ServerTurn) {
    if turn.ready > 0 {
        turnover.queries.add(turn.ready.into());
        turnover.transactions.add(turn.transactions.into());
    }
    if !turn.errors.is_empty() {
        count_errors(registry, &turn.errors);
    }
}

#[cold]
fn count_errors(registry: &Registry, codes: &[[u8; 5]]) {
    codes.iter().for_each(|code| registry.telemetry().errors.count(Fault::Server, code));
}

/// What a client sent about prepared statements, to this server.
#[inline]
pub(super) fn client(turnover: &Turnover, side: &mut ClientSide) {
    if let Some(counted) = side.take_counted() {
        turnover.client_parses.add(counted.client_parses.into());
        turnover.server_parses.add(counted.server_parses.into());
        turnover.binds.add(counted.binds.into());
    }
}

/// The same, without a server.
#[inline]
pub(super) fn client_alone(pool: &Pool, side: &mut ClientSide) {
    if let Some(counted) = side.take_counted() {
        pool.tally.client_parses.add(counted.client_parses.into());
    }
}

/// A transaction of session mode has ended.
pub(super) fn session_transaction(pool: &Pool, took: Duration) {
    pool.tally.session_time_ns.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// A client has a server: another client's, that first had to be told something, or neither.
#[inline]
pub(super) fn lease(turnover: &Turnover, is_transfer: bool, is_replay: bool) {
    if is_transfer {
        turnover.transfers.one();
    }
    if is_replay {
        turnover.replays.one();
    }
}

pub(super) fn refusal(telemetry: &Telemetry, refusal: &Refusal) {
    match refusal {
        Refusal::Pooler(error) => refused(telemetry, error),
        // Counted as the end that it is.
        Refusal::Upstream(_) | Refusal::Final(_) => {}
        Refusal::Canceled => telemetry.errors.count(Fault::Client, b"57014"),
    }
}

/// In our own words.
pub(super) fn refused(telemetry: &Telemetry, error: &PgError) {
    telemetry.errors.count(fault_of(error.code.as_str()), error.code.as_str().as_bytes());
}

/// How a session, or the admission to one, ended.
pub(super) fn end(pool: &Pool, registry: &Registry, end: &End) {
    let errors = &registry.telemetry().errors;
    match end {
        End::Refused(error) => refused(registry.telemetry(), error),
        End::RefusedUpstream(body) => upstream(registry.telemetry(), body),
        End::ServerLost(_) => pool.tally.servers_lost.one(),
        End::Stopped => errors.count(Fault::Pooler, b"57P01"),
        End::ClientLeft | End::ClientFailed(_) => {}
    }
}

fn upstream(telemetry: &Telemetry, body: &[u8]) {
    telemetry.errors.count(Fault::Server, Fields::new(body).get(b'C').unwrap_or_default());
}
