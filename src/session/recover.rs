//! Bringing a server back whose client left in the middle of something.
//!
//! What the client began is cancelled, what the server still owes is taken and dropped, an open transaction is rolled
//! back. All that within a deadline, else the connection is closed: either way nothing of it reaches the next client, and
//! no query runs on for nobody (traps 10, 11).

use std::sync::Arc;
use std::time::Duration;

use crate::pool::{Aim, Pool, PoolMode, Server};
use crate::wire::exchange::ClientSide;
use crate::wire::plan::Status;

/// Gives the server of session `id` back to its pool, clean, or closes it.
pub(super) async fn recover(mut server: Box<Server>, mut side: ClientSide, pool: Arc<Pool>, id: u64, deadline: Duration) {
    let busy = !server.side.is_settled();
    let broken = side.owes_bytes();
    let recovered = tokio::time::timeout(deadline, async {
        if busy {
            cancel(&server, &pool, id).await;
        }
        !broken && bring_back(&mut server, &mut side, pool.key.mode).await
    })
    .await;
    match recovered {
        Ok(true) if !server.side.is_tainted() => pool.release(server),
        _ => {
            tracing::debug!(server = server.handle.id, pid = server.handle.key.pid, pool = %pool, "not recovered: closed");
            pool.discard(server);
        }
    }
}

async fn cancel(server: &Server, pool: &Arc<Pool>, id: u64) {
    server.handle.lease_to(id);
    if let Aim::Hit(_in_flight) = server.handle.begin_cancel(id)
        && let Err(error) = pool.cancel_upstream(&server.handle).await
    {
        tracing::warn!(error = %error, pid = server.handle.key.pid, "cannot cancel what a client left behind");
    }
}

async fn bring_back(server: &mut Server, side: &mut ClientSide, mode: PoolMode) -> bool {
    while !server.side.is_settled() {
        server.side.wind_up(server.out.buffer());
        if server.drain(side).await.is_err() {
            return false;
        }
    }
    if server.side.status() != Status::Idle {
        server.side.roll_back(server.out.buffer());
        if server.drain(side).await.is_err() {
            return false;
        }
    }
    if mode == PoolMode::Transaction && server.side.clean_up(server.out.buffer()) && server.drain(side).await.is_err() {
        return false;
    }
    if mode == PoolMode::Session {
        server.side.discard_all(server.out.buffer());
        if server.drain(side).await.is_err() {
            return false;
        }
    }
    server.side.is_idle()
}
