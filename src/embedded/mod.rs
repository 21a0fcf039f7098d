//! A real PostgreSQL of our own: for `sidepool dev` and for the tests.
//!
//! ```text
//! Places::of_this_user ─→ Binaries::find ─→ (none) Binaries::fetch ─→ Server::start ─→ Server::execute … Server::stop
//!                             installed           npm                  initdb, run
//! ```
//!
//! It listens on a Unix socket in a directory only its owner may enter, on TCP loopback only where that is asked for, and
//! it does not outlive the process that started it (see [`Server`]).

mod account;
mod cluster;
mod error;
mod fetch;
mod find;
mod places;
mod run;
mod sql;
mod watcher;

pub use account::Account;
pub use cluster::Cluster;
pub use error::Error;
pub use find::{Binaries, DEFAULT_MAJOR, MAJORS};
pub use places::Places;
pub use run::{Server, Spec, Storage};
pub use sql::{Role, Row, identifier, literal};

#[cfg(test)]
mod tests;
