//! What a client says goes where it belongs, and a server is leased for it, or waited for.

use std::task::Context;

use super::end::End;
use super::handle::Membership;
use super::relay::{Relay, State};
use super::tally;
use crate::error::{PgError, SqlState};
use crate::hint::rare;
use crate::pool::{Refusal, Server, Vacancy, Want};
use crate::wire::exchange::{Mode, Unleased};
use crate::wire::reply;

impl Relay {
    pub(super) fn client_said(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Box<End>> {
        if self.carry.is_empty() {
            let taken = self.feed(bytes, cx)?;
            if taken < bytes.len() {
                rare();
                self.carry.extend_from_slice(&bytes[taken..]);
            }
            Ok(())
        } else {
            rare();
            self.carry.extend_from_slice(bytes);
            self.feed_carry(cx)
        }
    }

    #[inline]
    pub(super) fn feed_carry(&mut self, cx: &mut Context<'_>) -> Result<(), Box<End>> {
        if self.carry.is_empty() { Ok(()) } else { self.feed_carried(cx) }
    }

    #[inline(never)]
    fn feed_carried(&mut self, cx: &mut Context<'_>) -> Result<(), Box<End>> {
        let mut bytes = std::mem::take(&mut self.carry);
        let taken = self.feed(&bytes, cx)?;
        if taken < bytes.len() {
            bytes.drain(..taken);
            self.carry = bytes;
        }
        Ok(())
    }

    /// The client's bytes go where they belong; how many were taken.
    fn feed(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<usize, Box<End>> {
        let mut at = 0;
        loop {
            match &mut self.state {
                State::Queued => return Ok(at),
                State::Serving(server) if server.side.is_being_asked() => {
                    rare();
                    return Ok(at);
                }
                State::Idle => {
                    let (taken, next) = self.side.turn_unleased(&bytes[at..], self.to_client.buffer()).map_err(End::refused)?;
                    at += taken;
                    self.lint_client();
                    tally::client_alone(&self.membership.pool, &mut self.side);
                    match next {
                        Unleased::More => {
                            rare();
                            return self.flush_client(cx).map(|()| at);
                        }
                        Unleased::Terminated => {
                            rare();
                            return Err(End::ClientLeft.into());
                        }
                        Unleased::Wants => {
                            self.slow_wants();
                            self.lease(cx);
                        }
                    }
                }
                State::Serving(_) => {
                    self.slow_runs();
                    let State::Serving(server) = &mut self.state else { return Ok(at) };
                    if self.side.mode() == Mode::Session {
                        self.membership.handle().begins();
                    }
                    let rest = &bytes[at..];
                    let turn = self
                        .side
                        .turn(&mut server.side, rest, server.out.buffer(), self.to_client.buffer())
                        .map_err(End::refused)?;
                    at += turn.consumed;
                    let empties = turn.empties.is_some();
                    if let Some(database) = turn.empties {
                        // Before the statement leaves: PostgreSQL looks at once, and then every 100 ms.
                        vacate(&self.membership, &mut self.vacancy, &database);
                    }
                    server.send(&rest[turn.direct], cx)?;
                    tally::client(&server.account, &mut self.side);
                    self.lint_client();
                    if turn.terminated {
                        rare();
                        return Err(End::ClientLeft.into());
                    }
                    if turn.consumed == 0 || !(empties || self.release_if_idle(cx)) {
                        return Ok(at);
                    }
                }
            }
        }
    }

    /// ## Idle => (Serving | Queued)
    fn lease(&mut self, cx: &mut Context<'_>) {
        let startup = self.startup.as_deref().unwrap_or(&self.membership.pool.no_startup);
        let want = Want { home: self.home, params: &self.side.params, settings: self.side.settings(), startup };
        match self.membership.pool.try_lease(want) {
            Some(server) => self.begin(server),
            None => self.queue(cx),
        }
    }

    /// ## Idle => Queued
    #[inline(never)]
    fn queue(&mut self, cx: &Context<'_>) {
        let startup = self.startup.as_deref().unwrap_or(&self.membership.pool.no_startup);
        self.membership.pool.queue(&self.handle().ticket, startup, cx.waker());
        self.state = State::Queued;
    }

    /// ## (Idle | Queued) => Serving
    pub(super) fn begin(&mut self, mut server: Box<Server>) {
        let id = self.handle().id;
        let owner = server.side.owner();
        server.side.take_over(&mut self.side, server.out.buffer(), self.to_client.buffer());
        tally::lease(&server.account, owner.is_some_and(|owner| owner != id), !server.side.owes_nothing());
        match server.side.owes_nothing() {
            true => server.handle.lease_to(id),
            false => server.handle.prepare_for(id),
        }
        if self.home != server.handle.id {
            self.home = server.handle.id;
            self.handle().follow(&server.handle, &self.membership.pool);
        }
        self.handle().leased(server.leased_at(), self.side.prepared_statements());
        self.state = State::Serving(server);
    }

    /// ## Queued => Idle
    #[cold]
    pub(super) fn refused(&mut self, refusal: Refusal, cx: &mut Context<'_>) -> Result<(), Box<End>> {
        self.state = State::Idle;
        self.transaction_broke_off();
        tally::refusal(self.membership.house.registry.telemetry(), &refusal);
        let error = match refusal {
            Refusal::Upstream(body) => return Err(End::RefusedUpstream(body).into()),
            Refusal::Final(error) => return Err(End::Refused(error).into()),
            Refusal::Pooler(error) => error,
            Refusal::Canceled => PgError::error(SqlState::QUERY_CANCELED, "canceling statement due to user request"),
        };
        let mut message = bytes::BytesMut::new();
        reply::error(&mut message, &error);
        self.side.refuse(&message, self.to_client.buffer());
        self.feed_carry(cx)
    }
}

/// Our idle servers in this database go.
#[cold]
fn vacate(membership: &Membership, vacancy: &mut Option<Box<Vacancy>>, database: &[u8]) {
    let database = String::from_utf8_lossy(database);
    membership.house.registry.vacate(&membership.pool.project(), &database, vacancy.get_or_insert_default());
}
