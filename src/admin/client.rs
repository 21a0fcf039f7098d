//! A client of the console as pgwire's handlers see it: what it has prepared, and where answers go.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures_util::Sink;
use pgwire::api::store::MemPortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, ConnectionHandle, DefaultClient, PgWireConnectionState, SessionExtensions};
use pgwire::error::PgWireError;
use pgwire::messages::response::{CommandComplete, TransactionStatus};
use pgwire::messages::startup::SecretKey;
use pgwire::messages::{PgWireBackendMessage, ProtocolVersion};
use rustls::pki_types::CertificateDer;

use super::statement::Statement;
use crate::net::socket::Peer;
use crate::net::stream::Stream;

pub(super) struct Client {
    inner: DefaultClient<Statement>,
    /// Answers, until they are written.
    pub(super) out: BytesMut,
}

impl Client {
    /// `cancel` ends what it waits for.
    pub(super) fn new(stream: &Stream, cancel: &Arc<ConnectionHandle>) -> Self {
        let address = match stream.peer() {
            Peer::Tcp(address) => address,
            Peer::Unix { .. } => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
        };
        let mut inner = DefaultClient::new(address, stream.is_tls());
        inner.state = PgWireConnectionState::ReadyForQuery;
        inner.session_extensions.insert(Arc::clone(cancel));
        Self { inner, out: BytesMut::new() }
    }
}

/// Where a handler writes: nothing leaves before the whole of a request is done.
impl Sink<PgWireBackendMessage> for Client {
    type Error = PgWireError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), PgWireError>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: PgWireBackendMessage) -> Result<(), PgWireError> {
        let out = &mut self.get_mut().out;
        let start = out.len();
        let message = match message {
            // PgBouncer's tag has no count, and pgwire's helpers always add one.
            PgWireBackendMessage::CommandComplete(done) if done.tag.starts_with("SHOW ") => {
                PgWireBackendMessage::CommandComplete(CommandComplete::new("SHOW".to_owned()))
            }
            other => other,
        };
        message.encode(out).inspect_err(|_| out.truncate(start))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), PgWireError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), PgWireError>> {
        Poll::Ready(Ok(()))
    }
}

impl ClientPortalStore for Client {
    type PortalStore = MemPortalStore<Statement>;

    fn portal_store(&self) -> &Self::PortalStore {
        self.inner.portal_store()
    }
}

impl ClientInfo for Client {
    fn socket_addr(&self) -> SocketAddr {
        self.inner.socket_addr()
    }

    fn is_secure(&self) -> bool {
        self.inner.is_secure()
    }

    fn protocol_version(&self) -> ProtocolVersion {
        self.inner.protocol_version()
    }

    fn set_protocol_version(&mut self, version: ProtocolVersion) {
        self.inner.set_protocol_version(version);
    }

    fn pid_and_secret_key(&self) -> (i32, SecretKey) {
        self.inner.pid_and_secret_key()
    }

    fn set_pid_and_secret_key(&mut self, pid: i32, secret_key: SecretKey) {
        self.inner.set_pid_and_secret_key(pid, secret_key);
    }

    fn state(&self) -> PgWireConnectionState {
        self.inner.state()
    }

    fn set_state(&mut self, new_state: PgWireConnectionState) {
        self.inner.set_state(new_state);
    }

    fn transaction_status(&self) -> TransactionStatus {
        self.inner.transaction_status()
    }

    fn set_transaction_status(&mut self, new_status: TransactionStatus) {
        self.inner.set_transaction_status(new_status);
    }

    fn metadata(&self) -> &HashMap<String, String> {
        self.inner.metadata()
    }

    fn metadata_mut(&mut self) -> &mut HashMap<String, String> {
        self.inner.metadata_mut()
    }

    fn session_extensions(&self) -> &SessionExtensions {
        self.inner.session_extensions()
    }

    fn sni_server_name(&self) -> Option<&str> {
        None
    }

    fn client_certificates<'a>(&self) -> Option<&[CertificateDer<'a>]> {
        None
    }
}
