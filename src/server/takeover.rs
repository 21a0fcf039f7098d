//! One process takes the place of another on the same machine: it asks at the control socket and is sent the listening
//! sockets themselves (`SCM_RIGHTS`, unix(7)), so that there is no moment at which nobody listens, and no connection that
//! was waiting to be accepted is lost.
//!
//! ```text
//! successor                                     predecessor
//! connect, "sidepool take-over 1\n"      ─→     is it of the same user?
//!                                        ←─     "session\ntransaction\n…\n\n", and a socket for each line
//! starts, accepts
//! "go\n"                                 ─→     accepts no more, keeps its clients until they leave
//!                                        ←─     "done\n"
//! a cancel request with an unknown key   ─→     cancels, if the key is one of its own or of its own predecessor's
//! ```
//!
//! A successor that ends before "go" changes nothing. Cancel requests are PostgreSQL's own, without their length and code:
//! the process id, and the key behind its length in a byte.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::accept::Door;
use super::handed::{Handed, Purpose};
use super::listen::StartError;
use crate::wire::startup::CancelRequest;

/// The words, and their version.
const ASK: &[u8] = b"sidepool take-over 1\n";
const GO: &[u8] = b"go\n";
const DONE: &[u8] = b"done\n";
/// Ends the list of what the sockets are for.
const END: &[u8] = b"\n\n";

/// Sockets that can be handed over, in sockets: below Linux' own limit (SCM_MAX_FD, 253).
pub(super) const SOCKETS_MAX: usize = 128;
/// Longest list of what they are for, in bytes.
const LIST_BYTES_MAX: usize = 4096;
/// From the question to "go": the time a process may take to start.
const START_TIME: Duration = Duration::from_secs(30);
/// What one side waits for the other's next word, otherwise.
const PATIENCE: Duration = Duration::from_secs(10);
/// Cancel requests under way to a predecessor; more are dropped, for anybody may send them.
const CANCELS_MAX: usize = 64;
/// Pause after accept() failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A process that accepts clients in our place, and waits until we do no more.
#[derive(Debug)]
pub(super) struct Successor {
    stream: UnixStream,
    pub(super) pid: Option<i32>,
}

impl Successor {
    /// We accept no more.
    pub(super) async fn tell(&mut self) {
        // It may have gone: then nobody listens, and we cannot help it.
        let _ = self.stream.write_all(DONE).await;
    }

    /// Cancel requests that came to it and were not its own. Ends never; without a successor there are none.
    pub(super) async fn pass_cancels(mut self, door: &Arc<Door>) {
        while let Ok(request) = self.next_cancel().await {
            // The upstream may take its time; the next one does not wait for it.
            let door = Arc::clone(door);
            tokio::spawn(async move { door.cancel(request).await });
        }
        std::future::pending().await
    }

    async fn next_cancel(&mut self) -> io::Result<CancelRequest> {
        let pid = self.stream.read_i32().await?;
        let mut key = vec![0; self.stream.read_u8().await?.into()];
        self.stream.read_exact(&mut key).await?;
        Ok(CancelRequest { pid, key })
    }
}

/// Hands over the sockets to whoever may have them, until somebody has taken over.
pub(super) async fn serve(listener: UnixListener, sockets: Vec<(Purpose, OwnedFd)>, successors: mpsc::Sender<Successor>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let handed = tokio::time::timeout(START_TIME, hand_over(&mut stream, &sockets)).await;
        match handed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => {
                let _ = successors.send(Successor { stream, pid }).await;
                return;
            }
            Err(error) => tracing::warn!(%error, pid, "a process asked to take over and did not; this one goes on"),
        }
    }
}

async fn hand_over(stream: &mut UnixStream, sockets: &[(Purpose, OwnedFd)]) -> io::Result<()> {
    if stream.peer_cred()?.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's"));
    }
    expect(stream, ASK).await?;
    let mut list: String = sockets.iter().map(|(purpose, _)| format!("{}\n", purpose.as_str())).collect();
    list.push('\n');
    let fds: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("there are too many sockets"));
        }
        Ok(sendmsg(&*stream, &[IoSlice::new(list.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?)
    });
    if sent.await? < list.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    expect(stream, GO).await
}

async fn expect(stream: &mut UnixStream, words: &[u8]) -> io::Result<()> {
    let mut said = vec![0; words.len()];
    stream.read_exact(&mut said).await?;
    if said == words { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks another language")) }
}

/// The process whose place this one is about to take.
#[derive(Debug)]
pub struct Predecessor {
    stream: StdUnixStream,
}

impl Predecessor {
    /// Asks for its listening sockets. It goes on accepting clients, too, until it is told to [`let_go`](Self::let_go).
    /// Blocks: there is nothing else to be done yet.
    ///
    /// # Errors
    /// Nobody answers there, or does not hand over anything.
    pub fn ask(control: &Path) -> Result<(Self, Handed), StartError> {
        Self::try_ask(control).map_err(|error| {
            StartError::new(
                format!("cannot take over from the process at {}: {error}", control.display()),
                "It must run as the same user with the same listen.control_socket; if there is none, start without --take-over.",
            )
        })
    }

    fn try_ask(control: &Path) -> io::Result<(Self, Handed)> {
        let mut stream = StdUnixStream::connect(control)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(ASK)?;
        let mut list = [0; LIST_BYTES_MAX];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut room);
        let received = recvmsg(&stream, &mut [IoSliceMut::new(&mut list)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
        let sockets: Vec<OwnedFd> = ancillary.drain().filter_map(rights).flatten().collect();
        let Some(list) = list[..received].strip_suffix(END) else {
            let why = if received == 0 { "it refuses, and its log says why" } else { "its list of sockets is no such list" };
            return Err(io::Error::other(why));
        };
        let purposes = String::from_utf8_lossy(list);
        let mut handed = Handed::by_predecessor();
        for (name, socket) in purposes.lines().zip(sockets) {
            // Names that this version does not know are let go.
            let Some(purpose) = Purpose::parse(name) else { continue };
            handed.add(Some(purpose), socket.into())?;
        }
        Ok((Self { stream }, handed))
    }

    /// Tells it that clients are met here from now on, and waits until it accepts no more. What cancel requests are to be
    /// passed on to.
    ///
    /// # Errors
    /// It went, or does not answer: both processes may be accepting clients.
    pub async fn let_go(self) -> io::Result<Cancels> {
        self.stream.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(self.stream)?;
        let words = async {
            stream.write_all(GO).await?;
            expect(&mut stream, DONE).await
        };
        tokio::time::timeout(PATIENCE, words).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let (sender, requests) = mpsc::channel(CANCELS_MAX);
        tokio::spawn(forward(stream, requests));
        Ok(sender)
    }
}

/// Cancel requests for a predecessor.
pub type Cancels = mpsc::Sender<CancelRequest>;

/// Until it has gone.
async fn forward(mut stream: UnixStream, mut requests: mpsc::Receiver<CancelRequest>) {
    while let Some(CancelRequest { pid, key }) = requests.recv().await {
        // Longer ones are nobody's.
        let Ok(length) = u8::try_from(key.len()) else { continue };
        let request = [&pid.to_be_bytes()[..], &[length], &key].concat();
        if stream.write_all(&request).await.is_err() {
            return;
        }
    }
}

fn rights(message: RecvAncillaryMessage<'_>) -> Option<impl Iterator<Item = OwnedFd>> {
    match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    }
}
