//! SCRAM-SHA-256 (RFC 5802, RFC 7677), as a server to clients and as a client to servers, and bound to the certificate of the
//! TLS connection it runs over: SCRAM-SHA-256-PLUS with `tls-server-end-point` (RFC 5929 §4), PostgreSQL's one kind.
//!
//! Where the binding holds, nobody stands between the two who could pass the exchange on.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub mod client;
mod message;
pub mod server;

pub const MECHANISM: &str = "SCRAM-SHA-256";
/// Over TLS alone.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// How a client that binds begins its first message, and what the binding's data follows in its last one.
const GS2_END_POINT: &str = "p=tls-server-end-point,,";

/// base64 of the gs2 header and the binding's data, as it stands under the proof (`c=`).
fn channel_binding(gs2_header: &str, data: &[u8]) -> String {
    STANDARD.encode([gs2_header.as_bytes(), data].concat())
}

#[cfg(test)]
mod tests;
