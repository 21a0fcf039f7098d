//! One client: login, relay, recovery.

mod about;
mod admit;
pub mod closed;
mod console;
mod end;
mod farewell;
mod handle;
mod hold;
mod lint;
mod listen;
mod patience;
mod pools;
mod recover;
mod relay;
mod slow;
mod tally;
mod watched;

pub mod login;

use std::sync::Arc;

pub use about::About;
pub use admit::{House, KnownStartups, admit};
pub use console::Console;
pub use end::End;
pub use farewell::turn_away;
pub use handle::{Handle, Sessions, Stop};
pub use lint::{Finding, Findings};
pub use relay::Relay;

use crate::pool::PoolMode;
use crate::telemetry::log_connection;

impl Relay {
    /// Runs the session, tells the client how it ended, and sees to its server.
    ///
    /// What comes of it is held by every idle client: what the end of a session needs is made when the end has come.
    /// `counted` is dropped last.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` holds its arguments twice")]
    pub fn serve<C: Send>(mut self, house: Arc<House>, counted: C) -> impl Future<Output = ()> + Send {
        async move {
            let end = self.run().await;
            Box::pin(self.leave(end, &house)).await;
            drop(counted);
        }
    }

    async fn leave(mut self, end: End, house: &House) {
        self.log(&end, house.settings.get().log.connections);
        self.transaction_broke_off();
        tally::end(&self.pool, &self.registry, &end);
        self.held = None;
        self.listening = None;
        let deadline = house.settings.get().timeouts.recovery;
        if let Some(server) = self.take_server() {
            let pool = Arc::clone(&self.pool);
            match &end {
                End::ServerLost(_) => pool.discard(server),
                _ => {
                    let side = self.detach_side();
                    tokio::spawn(recover::recover(server, side, pool, self.handle().id, deadline));
                }
            }
        }
        farewell::tell(&mut self.client, &mut self.to_client, &end, deadline).await;
    }

    /// One line, whose address is that of the login's line.
    fn log(&self, end: &End, connections: bool) {
        let (session, pool, peer) = (self.handle().id, &self.pool, self.client.peer());
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
        self.pool.key.mode
    }
}
