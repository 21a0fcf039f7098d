//! Towards PostgreSQL: connect, log in, ask, cancel.

mod cancel;
mod connect;
mod derive;
mod dial;
mod error;
mod intake;
mod login;
mod lookup;
mod query;
mod shortcut;

pub use cancel::cancel;
pub use connect::{Address, AuthMethod, BackendKey, ConnectSpec, Connected, Credential, connect};
pub use derive::derive_keys;
pub use error::{ConnectError, ServerError};
pub use lookup::{Answer, Lookup, LookupError, Nobody, RoleSecret};
pub use query::{Conversation, Row, queries, query};
pub use shortcut::{Shortcut, connect_nearest};
