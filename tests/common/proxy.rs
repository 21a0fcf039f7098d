//! What stands between two others, listens, and may change the first thing that is said.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Room for what comes at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Changes the first packet of a connection.
type Edit = fn(&mut Vec<u8>);

/// What the connecting sides said, one connection each, in the order in which they came.
type Said = Arc<Mutex<Vec<Vec<u8>>>>;

#[derive(Debug)]
pub struct Proxy {
    pub port: u16,
    said: Said,
    pieces: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// In front of a port of this machine.
    pub async fn to(port: u16, edit: Edit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let own = listener.local_addr().expect("it is bound").port();
        let said = Said::default();
        let pieces = Arc::default();
        let accepting = tokio::spawn(accept(listener, port, edit, Arc::clone(&said), Arc::clone(&pieces)));
        Self { port: own, said, pieces, accepting }
    }

    /// So far.
    pub fn said(&self) -> Vec<Vec<u8>> {
        self.said.lock().expect("nobody panics here").clone()
    }

    /// In how many pieces it came: what waits for an answer in the middle makes one more.
    pub fn pieces(&self) -> usize {
        self.pieces.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, port: u16, edit: Edit, said: Said, pieces: Arc<AtomicUsize>) {
    while let Ok((one, _)) = listener.accept().await {
        let Ok(other) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
        let (from_one, mut to_one) = one.into_split();
        let (mut from_other, to_other) = other.into_split();
        let index = {
            let mut said = said.lock().expect("nobody panics here");
            said.push(Vec::new());
            said.len() - 1
        };
        tokio::spawn(carry(from_one, to_other, edit, index, Arc::clone(&said), Arc::clone(&pieces)));
        tokio::spawn(async move {
            // However it ends, it ends: what is left of the connection is dropped.
            let _ = tokio::io::copy(&mut from_other, &mut to_one).await;
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, edit: Edit, index: usize, said: Said, pieces: Arc<AtomicUsize>) {
    let mut chunk = first_packet(&mut from).await;
    edit(&mut chunk);
    while !chunk.is_empty() {
        said.lock().expect("nobody panics here")[index].extend(&chunk);
        pieces.fetch_add(1, Ordering::AcqRel);
        if to.write_all(&chunk).await.is_err() {
            return;
        }
        chunk.clear();
        // So that no piece is cut by us.
        chunk.reserve(PIECE_BYTES);
        // 0 and an error are both the end.
        let _ = from.read_buf(&mut chunk).await;
    }
}

/// By its length word; whole even if it came in pieces.
async fn first_packet(from: &mut OwnedReadHalf) -> Vec<u8> {
    let Ok(length) = from.read_u32().await else { return Vec::new() };
    let mut packet = length.to_be_bytes().to_vec();
    let rest = u64::from(length).saturating_sub(4);
    let _ = from.take(rest).read_to_end(&mut packet).await;
    packet
}
