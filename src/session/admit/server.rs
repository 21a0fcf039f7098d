//! What a client needs a server for before it is greeted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::packet::split;
use super::{Arriving, House};
use crate::error::{PgError, Severity, SqlState};
use crate::pool::{Lost, Outcome, Pool, Refusal, Server, StartupKey, Ticket, Want};
use crate::session::end::End;
use crate::session::relay::QUEUED_BYTES_MAX;
use crate::session::startups::Accepted;
use crate::wire::exchange::Broken;
use crate::wire::fields::Fields;
use crate::wire::params::Params;
use crate::wire::plan::Status;

/// For any server, or for another than the idle ones.
pub(super) type Queue = fn(&Arc<Pool>, &Arc<Ticket>, &StartupKey, &Waker);

impl Arriving {
    /// Puts startup parameters to a server: its error is the client's, its spelling is remembered.
    pub(super) async fn ask_server(&mut self, asked: &StartupKey, house: &House) -> Result<Accepted, End> {
        let startup = StartupKey::default();
        let mut server = self.first_server(&startup).await?;
        let (params, settings) = split(asked, server.side.initial_params());
        let settings = self.pool.catalog.startup(settings, &params);
        let params = self.pool.catalog.params.intern(params);
        let mut side = self.side(params, &settings);
        let mut unsent = Vec::new();
        server.side.take_over(&mut side, server.out.buffer(), &mut unsent);
        match server.drain(&mut side).await {
            Ok(()) if server.side.status() == Status::Idle => {
                let accepted = Accepted::new(Arc::clone(&side.params), settings);
                house.startups.learn(server.generation_number(), asked, accepted.clone());
                self.pool.release(server);
                Ok(accepted)
            }
            Err(Lost::Broken(Broken::Replay(body))) => {
                // The refusal ended its own query and nothing else, but the server is cheaper to replace than to trust.
                self.pool.discard(server);
                Err(End::RefusedUpstream(as_fatal(&body).into()))
            }
            Ok(()) => {
                self.pool.discard(server);
                Err(End::ServerLost(Lost::Closed))
            }
            Err(lost) => {
                self.pool.discard(server);
                Err(End::ServerLost(lost))
            }
        }
    }

    /// A server, waited for in the queue like everybody's, unless the client goes first.
    pub(super) async fn first_server(&mut self, startup: &StartupKey) -> Result<Box<Server>, End> {
        let nobody = Arc::new(Params::default());
        match self.pool.try_lease(Want { home: 0, params: &nobody, settings: &nobody, startup }) {
            Some(server) => Ok(server),
            None => self.queued_server(startup, Pool::queue).await,
        }
    }

    pub(super) async fn queued_server(&mut self, startup: &StartupKey, queue: Queue) -> Result<Box<Server>, End> {
        let mut queued = false;
        std::future::poll_fn(|cx| {
            if !std::mem::replace(&mut queued, true) {
                self.membership.handle().watch(cx.waker());
                queue(&self.pool, &self.membership.handle().ticket, startup, cx.waker());
            }
            self.poll_first_server(cx)
        })
        .await
    }

    /// A client that has not been greeted has no transaction: it need not be served before the end.
    fn poll_first_server(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Server>, End>> {
        if self.membership.handle().stop_wanted().is_some() {
            return Poll::Ready(Err(self.membership.handle().end()));
        }
        match self.membership.handle().ticket.outcome() {
            Outcome::Served(server) => return Poll::Ready(Ok(server)),
            Outcome::Refused(refusal) => return Poll::Ready(Err(end_of(refusal))),
            Outcome::Notice => self.out.say(&self.pool.waiting_notice()),
            Outcome::Waiting => {}
        }
        if let Poll::Ready(Err(error)) = self.out.poll_send(&mut self.stream, cx) {
            return Poll::Ready(Err(End::ClientFailed(error)));
        }
        self.watch_client(cx)
    }

    /// A client that gives up while it waits is noticed; what it sends is for later.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Server>, End>> {
        while self.early.len() < QUEUED_BYTES_MAX {
            let mut room = [0; 1024];
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(End::ClientFailed(error))),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(Err(End::ClientLeft)),
                Poll::Ready(Ok(())) => self.early.extend_from_slice(buf.filled()),
            }
        }
        Poll::Pending
    }
}

fn end_of(refusal: Refusal) -> End {
    match refusal {
        Refusal::Upstream(body) => End::RefusedUpstream(body),
        Refusal::Final(error) => End::Refused(error),
        Refusal::Pooler(error) => End::Refused(PgError { severity: Severity::Fatal, ..error }),
        Refusal::Canceled => {
            End::Refused(PgError::fatal(SqlState::QUERY_CANCELED, "canceling authentication due to user request"))
        }
    }
}

/// The server's own words about a startup parameter, as it says them at its own login: FATAL.
fn as_fatal(body: &[u8]) -> Vec<u8> {
    let mut fatal = Vec::with_capacity(body.len());
    for (kind, value) in Fields::new(body).iter() {
        fatal.push(kind);
        fatal.extend_from_slice(if matches!(kind, b'S' | b'V') { b"FATAL" } else { value });
        fatal.push(0);
    }
    fatal.push(0);
    fatal
}
