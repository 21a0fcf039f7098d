//! Sidepool: a local PostgreSQL connection pooler. Session mode on one port, transaction mode on the other.
//!
//! The map of the house. A module uses only what stands above it (`tests/layers.rs` holds the rule):
//!
//! | module | what it is |
//! |---|---|
//! | `hint`, [`error`], `telemetry` | errors with the side at fault; counters and their text |
//! | `wire` | the protocol without IO: framing, replies, the exchange and its reply plan |
//! | `auth` | verifiers, SCRAM, md5, `user.project`: without IO |
//! | [`config`] | option table → file, environment, flags → checked settings |
//! | `net` | sockets, TLS, streams |
//! | `upstream` | connect and log in to PostgreSQL; cancel |
//! | `pool` | servers, waiters, leases, keeper |
//! | `session` | one client: login, relay, recovery |
//! | `server` | listeners, workers, drain |
//! | `admin` | the console: views and commands as a virtual database |
//! | `http` | metrics, health, state |
//! | `embedded` | a PostgreSQL of our own, for `sidepool dev` and the tests |
//! | `cli` | `run`, `dev`, `lint`, `check`, `urls`, `health`, `top` |

pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
pub mod embedded;
pub mod error;
mod hint;
pub mod http;
pub mod net;
pub mod pool;
pub mod server;
pub mod session;
pub mod telemetry;
pub mod upstream;
pub mod wire;
