//! Everything through which others come in, and how it is closed.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::handed::{Handed, Purpose};
use super::listen::{self, Listener, RemovedOnDrop, StartError};
use super::takeover::{self, SOCKETS_MAX, Successor};
use crate::config::Listen;
use crate::net::spawner::Stoppable;

/// For HTTP to close its listener.
const HTTP_CLOSES: Duration = Duration::from_secs(1);

/// Open while the process serves.
#[derive(Debug, Default)]
pub(super) struct Doors {
    /// What accepts, and the keeper of the pools.
    pub(super) tasks: Vec<Stoppable>,
    /// The files of our Unix sockets.
    pub(super) files: Vec<RemovedOnDrop>,
    /// What a successor is handed.
    pub(super) sockets: Vec<(Purpose, OwnedFd)>,
    pub(super) http: Option<HttpDoor>,
    pub(super) successors: Option<mpsc::Receiver<Successor>>,
}

/// HTTP accepts until this is dropped.
#[derive(Debug)]
pub(super) struct HttpDoor {
    _open: oneshot::Sender<()>,
    closed: oneshot::Receiver<()>,
}

/// HTTP's end of it. Dropped, it says that its listener is closed.
#[derive(Debug)]
pub struct Closing {
    asked: oneshot::Receiver<()>,
    _closed: oneshot::Sender<()>,
}

impl Closing {
    /// Waits until the listener is to be closed.
    pub async fn asked(&mut self) {
        let _ = (&mut self.asked).await;
    }
}

impl HttpDoor {
    async fn close(self) {
        let Self { _open: open, closed } = self;
        drop(open);
        // It is on a thread of its own, and busy at most with answers.
        let _ = tokio::time::timeout(HTTP_CLOSES, closed).await;
    }
}

impl Doors {
    /// For a successor. Sockets that cannot be duplicated would have to be closed; that is so when file descriptors have run out.
    pub(super) fn offer(&mut self, purpose: Purpose, socket: &impl AsFd) -> Result<(), StartError> {
        let copy = socket.as_fd().try_clone_to_owned().map_err(|error| {
            StartError::new(format!("cannot duplicate a socket: {error}"), "Look at the limits of this user: ulimit -n.")
        })?;
        self.sockets.push((purpose, copy));
        Ok(())
    }

    pub(super) fn offer_listener(&mut self, listener: &Listener) -> Result<(), StartError> {
        self.offer(listener.mode.into(), &listener.socket)
    }

    pub(super) fn with_http(&mut self, listener: &TcpListener) -> Result<Closing, StartError> {
        self.offer(Purpose::Http, listener)?;
        let (open, asked) = oneshot::channel();
        let (closing, closed) = oneshot::channel();
        self.http = Some(HttpDoor { _open: open, closed });
        Ok(Closing { asked, _closed: closing })
    }

    /// Lets a successor ask for the sockets, if a place for that is set. Without one, their duplicates are not needed.
    pub(super) fn await_successor(&mut self, listen: &Listen, handed: &mut Handed) -> Result<(), StartError> {
        let mut sockets = std::mem::take(&mut self.sockets);
        let Some(path) = &listen.control_socket else { return Ok(()) };
        let hint = "Set listen.control_socket to a path below 100 bytes, in a directory that exists and may be written to.";
        let failed = |error: std::io::Error| StartError::new(format!("cannot listen on {}: {error}", path.display()), hint);
        let listener = match handed.take_control(path) {
            Some(listener) => listener,
            None => {
                let (listener, file) = listen::bind_unix(path, 0o600, "listen.control_socket to another path", hint)?;
                self.files.push(file);
                listener
            }
        };
        sockets.push((Purpose::Control, listener.as_fd().try_clone_to_owned().map_err(failed)?));
        if sockets.len() > SOCKETS_MAX {
            let message = format!("{} sockets are more than the {SOCKETS_MAX} that can be handed over", sockets.len());
            return Err(StartError::new(message, "Name fewer listen.addresses, or leave out listen.control_socket."));
        }
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
        let (told, successors) = mpsc::channel(1);
        self.tasks.push(Stoppable::spawn(takeover::serve(listener, sockets, told)));
        self.successors = Some(successors);
        Ok(())
    }

    /// For ever, if nobody may take over.
    pub(super) async fn successor(&mut self) -> Successor {
        let Some(successors) = &mut self.successors else { return std::future::pending().await };
        match successors.recv().await {
            Some(successor) => successor,
            None => std::future::pending().await,
        }
    }

    /// Nobody new is accepted, and nobody listens any more when this is done. HTTP stays, so that the drain can be watched
    /// to its end, unless its port is another process's too, which would be asked every other time only.
    pub(super) async fn close(mut self, shared_ports: bool) -> Option<HttpDoor> {
        self.end_tasks().await;
        match self.http {
            Some(http) if shared_ports => {
                http.close().await;
                None
            }
            http => http,
        }
    }

    /// The same, but the sockets live on in another process, which is told.
    pub(super) async fn leave_to(mut self, successor: &mut Successor) {
        self.end_tasks().await;
        self.files.into_iter().for_each(RemovedOnDrop::keep);
        if let Some(http) = self.http {
            http.close().await;
        }
        successor.tell().await;
    }

    async fn end_tasks(&mut self) {
        self.tasks.iter().for_each(Stoppable::abort);
        for task in self.tasks.drain(..) {
            // Its end is what is waited for: the sockets go with it.
            task.ended().await;
        }
    }
}
