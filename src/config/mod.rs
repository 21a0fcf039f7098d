//! Configuration: one option table → file, environment and flags → checked [`Settings`].

mod error;
mod nearest;
mod settings;
pub mod units;
pub mod url;

pub use error::ConfigError;
pub use settings::{
    ClientAuth, ClientTls, Host, Limits, Listen, Log, LogFormat, Password, Project, Secret, Settings, SslMode, Timeouts,
    Upstream, UpstreamTls, User,
};
