//! Asking a server to stop what it is doing.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::Upstream;
use crate::net::stream::Stream;
use crate::net::tls::TlsContext;
use crate::upstream::connect::{Address, BackendKey};
use crate::upstream::dial::Dial;
use crate::upstream::error::ConnectError;
use crate::wire::request;

/// PgBouncer's `cancel_wait_timeout`.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// PostgreSQL answers nothing; of whoever does, this much is read.
const ANSWER_BYTES_MAX: u64 = 1024;

/// Sends a CancelRequest, over TLS where the upstream's connections are, and waits until the server closes the connection:
/// only then has it sent its signal, and only then may whatever runs next on that server be safe from it.
///
/// # Errors
/// When the request could not be sent, or the server did not close within ten seconds.
pub async fn cancel(upstream: &Upstream, tls: &TlsContext, key: &BackendKey) -> io::Result<()> {
    if key.secret.is_empty() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the server gave no key to cancel with"));
    }
    let sent = async {
        let mut stream = open(upstream, tls, key).await.map_err(|error| io::Error::other(error.to_string()))?;
        let mut packet = BytesMut::new();
        request::cancel(&mut packet, key.pid, &key.secret);
        stream.write_all(&packet).await?;
        stream.flush().await?;
        match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut Vec::new()).await {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _closed => Ok(()),
        }
    };
    tokio::time::timeout(CANCEL_TIMEOUT, sent).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The way that the connection went. A socket that was taken in the place of TCP may have gone since; the server has not.
async fn open(upstream: &Upstream, tls: &TlsContext, key: &BackendKey) -> Result<Stream, ConnectError> {
    let address = key.address.as_ref();
    match (Dial { upstream, tls, address }.open().await, address) {
        (Err(ConnectError::Unreachable { .. }), Some(Address::Unix(_))) => Dial { upstream, tls, address: None }.open().await,
        (opened, _) => opened,
    }
}
