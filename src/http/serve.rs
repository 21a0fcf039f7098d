//! Connections: one request, one answer, closed.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::answer::{Answer, Desk};
use super::request::{HEAD_BYTES_MAX, Method, Request};
use crate::server::Closing;

/// Served at once; whoever comes beyond that waits to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// For the whole of a connection.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// What a client may have sent beyond its head, and is read so that our answer is not lost to a reset, in bytes.
const EXCESS_BYTES_MAX: usize = 64 * 1024;
/// Pause after accept() failed, as it does when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process ends, new connections until it is told that others do.
pub(super) fn run(listener: TcpListener, mut closing: Closing, desk: Desk) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "cannot serve HTTP: no runtime"),
    };
    runtime.block_on(async {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let desk = Arc::new(desk);
                tokio::select! {
                    () = accept(&listener, &desk) => {}
                    () = closing.asked() => {}
                }
                // Who has connected is answered: closing would reset them.
                let _ = tokio::time::timeout(Duration::ZERO, accept(&listener, &desk)).await;
                drop((listener, closing));
                // For those who were accepted.
                std::future::pending().await
            }
            Err(error) => tracing::error!(%error, "cannot serve HTTP: no listener"),
        }
    });
}

async fn accept(listener: &tokio::net::TcpListener, desk: &Arc<Desk>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let desk = Arc::clone(desk);
        tokio::spawn(async move {
            // What fails here fails for this client alone, and it knows.
            let _ = tokio::time::timeout(CONNECTION_TIME, converse(stream, peer, &desk)).await;
            drop(place);
        });
    }
}

async fn converse(mut stream: TcpStream, peer: SocketAddr, desk: &Desk) -> io::Result<()> {
    let mut head = Vec::new();
    let (method, answer) = match read_head(&mut stream, &mut head).await? {
        Head::Gone => return Ok(()),
        Head::TooLong => (Method::Get, Answer::plain(431, "the head of this request is too long\n")),
        Head::Whole(length) => match Request::parse(&head[..length]) {
            Some(request) => (request.method, desk.answer(&request, peer).await),
            None => (Method::Get, Answer::plain(400, "this is no HTTP/1.1 request\n")),
        },
    };
    let told = async {
        stream.write_all(&answer.bytes(method)).await?;
        stream.shutdown().await
    };
    let told = told.await;
    desk.said(&answer);
    told?;
    let mut excess = stream.take(EXCESS_BYTES_MAX as u64);
    tokio::io::copy(&mut excess, &mut tokio::io::sink()).await.map(drop)
}

enum Head {
    /// Its length in bytes, with the empty line.
    Whole(usize),
    TooLong,
    /// It went without having asked for anything.
    Gone,
}

async fn read_head(stream: &mut TcpStream, head: &mut Vec<u8>) -> io::Result<Head> {
    loop {
        // The end may be in two reads.
        let from = head.len().saturating_sub(3);
        if stream.read_buf(head).await? == 0 {
            return Ok(Head::Gone);
        }
        if let Some(at) = memchr::memmem::find(&head[from..], b"\r\n\r\n").map(|at| from + at + 4)
            && at <= HEAD_BYTES_MAX
        {
            return Ok(Head::Whole(at));
        }
        if head.len() > HEAD_BYTES_MAX {
            return Ok(Head::TooLong);
        }
    }
}
