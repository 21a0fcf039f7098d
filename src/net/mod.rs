//! Sockets, TLS, and the one stream type that both sides of the pooler speak through.

pub mod dev_cert;
pub mod socket;
pub mod stream;
pub mod tls;
