//! Towards PostgreSQL: connect, log in, cancel.

mod cancel;
mod connect;
mod derive;
mod dial;
mod error;
mod intake;
mod login;

pub use cancel::cancel;
pub use connect::{AuthMethod, BackendKey, ConnectSpec, Connected, Credential, connect};
pub use derive::derive_keys;
pub use error::{ConnectError, ServerError};
