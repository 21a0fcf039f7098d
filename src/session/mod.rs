//! One client: login, relay, recovery.

mod about;
mod admit;
pub mod closed;
mod console;
mod end;
mod farewell;
mod feed;
mod handle;
mod hold;
mod lint;
mod listen;
mod patience;
mod pools;
mod recover;
mod relay;
mod room;
mod slow;
mod startups;
mod tally;
mod told;
mod watched;

pub mod login;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

pub use about::About;
pub use admit::{House, admit};
pub use console::Console;
pub use end::End;
pub use farewell::turn_away;
pub use handle::{Handle, Sessions, Stop};
pub use lint::{Finding, Findings};
pub use relay::Relay;
pub use startups::KnownStartups;

use crate::hint::rare;
use crate::pool::PoolMode;
use crate::telemetry::log_connection;

/// A connection from its first byte to its last: what the task of a client is made of, and all that it holds.
///
/// Written out, because what an `async fn` comes to is larger, and there are as many as clients. What the end of a session
/// needs is made when the end has come.
///
/// Its stages are behind a pointer each: a task is moved about before it runs and when it is over, and what is in it with it.
pub struct Session<F, C> {
    stage: Stage<F>,
    /// Dropped last.
    _counted: C,
}

enum Stage<F> {
    /// It says who it is, and has room for what comes of that, which goes with this.
    Arriving(Pin<Box<F>>),
    Relaying(Box<Relay>),
    Leaving(Box<Farewell>),
    Over,
}

type Farewell = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F, C> Session<F, C>
where
    F: Future<Output = Option<Box<Relay>>> + Send + 'static,
{
    /// Runs the session that comes of a login, if one does; tells the client how it ended, and sees to its server. `counted` is
    /// dropped when all that is done.
    ///
    /// One task for all of it: a second one for the login took 5 000 instructions to be moved about.
    pub fn arriving(login: F, counted: C) -> Self {
        Self { stage: Stage::Arriving(Box::pin(login)), _counted: counted }
    }
}

impl<F, C> Future for Session<F, C>
where
    F: Future<Output = Option<Box<Relay>>>,
    C: Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let begun = match &mut this.stage {
            Stage::Arriving(login) => {
                rare();
                // ## Arriving => (Relaying | Over)
                this.stage = ready!(login.as_mut().poll(cx)).map_or(Stage::Over, Stage::Relaying);
                this.stage.begin(cx)
            }
            _ => Ok(()),
        };
        if let Stage::Relaying(relay) = &mut this.stage {
            let end = match begun {
                Ok(()) => ready!(relay.poll(cx)),
                Err(end) => end,
            };
            rare();
            // ## Relaying => (Leaving | Over)
            if let Stage::Relaying(relay) = std::mem::replace(&mut this.stage, Stage::Over) {
                let farewell = relay.leave(*end).map(|farewell| Box::new(Box::pin(farewell) as Farewell));
                this.stage = farewell.map_or(Stage::Over, Stage::Leaving);
            }
        }
        match &mut this.stage {
            Stage::Leaving(leaving) => (**leaving).as_mut().poll(cx),
            Stage::Arriving(_) | Stage::Relaying(_) | Stage::Over => Poll::Ready(()),
        }
    }
}

impl<F> Stage<F> {
    /// Sends the greeting.
    fn begin(&mut self, cx: &mut Context<'_>) -> Result<(), Box<End>> {
        match self {
            Self::Relaying(relay) => relay.begin_with(cx),
            _ => Ok(()),
        }
    }
}

impl Relay {
    /// Sees to its server; what is left to be told, if anything is.
    fn leave(mut self: Box<Self>, end: End) -> Option<impl Future<Output = ()> + Send> {
        let settings = self.membership.house.settings.get();
        self.log(&end, settings.log.connections);
        self.transaction_broke_off();
        tally::end(&self.membership.pool, &self.membership.house.registry, &end);
        self.held = None;
        self.listening = None;
        let deadline = settings.timeouts.recovery;
        if let Some(server) = self.take_server() {
            let pool = Arc::clone(&self.membership.pool);
            match &end {
                End::ServerLost(_) => pool.discard(server),
                _ => {
                    let side = self.detach_side();
                    self.membership.house.registry.spawner().spawn(recover::recover(
                        server,
                        side,
                        pool,
                        self.handle().id,
                        deadline,
                    ));
                }
            }
        }
        let is_due = farewell::is_due(&self.client, &self.to_client, &end);
        is_due.then_some(async move { farewell::tell(&mut self.client, &mut self.to_client, &end, deadline).await })
    }

    /// One line, whose address is that of the login's line.
    fn log(&self, end: &End, connections: bool) {
        let (session, pool, peer) = (self.handle().id, &self.membership.pool, self.client.peer());
        match end {
            End::ClientLeft => log_connection!(connections, session, %pool, %peer, "client left"),
            End::ClientFailed(error) => {
                log_connection!(connections, session, %pool, %peer, %error, "client connection failed");
            }
            End::Refused(error) => tracing::info!(session, %pool, %peer, %error, "client refused"),
            End::RefusedUpstream(_) => tracing::info!(session, %pool, %peer, "the upstream refused the client"),
            End::ServerLost(lost) => tracing::warn!(session, %pool, %peer, ?lost, "server connection lost in use"),
            End::Stopped => log_connection!(connections, session, %pool, %peer, "session ended by an administrator"),
        }
    }

    pub fn mode(&self) -> PoolMode {
        self.membership.pool.key.mode
    }
}
