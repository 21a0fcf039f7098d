//! Asking a server to stop what it is doing.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::Upstream;
use crate::net::tls::TlsContext;
use crate::upstream::BackendKey;
use crate::upstream::dial::Dial;
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
    let dial = Dial { upstream, tls, address: key.address };
    let sent = async {
        let mut stream = dial.open().await.map_err(|error| io::Error::other(error.to_string()))?;
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
