//! SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding, as a server to clients and as a client to servers.

pub mod client;
mod message;
pub mod server;

/// The one mechanism offered and accepted.
pub const MECHANISM: &str = "SCRAM-SHA-256";

#[cfg(test)]
mod tests;
