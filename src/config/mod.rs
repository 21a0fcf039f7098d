//! Configuration: one option table → file, environment and flags → checked [`Settings`].

mod amended;
mod checks;
mod draft;
mod environment;
mod error;
mod file;
pub(crate) mod kind;
mod layers;
mod live;
mod load;
mod nearest;
mod network;
pub(crate) mod options;
mod projects;
pub mod reference;
mod settings;
mod stamp;
pub mod units;
mod upstream_socket;
pub mod url;

pub use amended::{Amended, FileRead};
pub use environment::Env;
pub use error::ConfigError;
pub(crate) use file::guess;
pub use live::Live;
pub use load::{Fixed, Loaded, Prepared, Sources, load};
pub use network::Network;
pub use settings::{
    AuthQuery, CertificateFiles, ChannelBinding, ClientAuth, ClientCert, ClientCertificates, ClientTls, Console, ErrorTexts,
    Host, Limits, Lint, Listen, Log, LogFormat, Logins, Password, Profile, Project, Secret, SessionOverflow, Settings, Shown,
    SslMode, StartupParameters, Timeouts, Upstream, UpstreamTls, User,
};
pub use stamp::Stamp;
pub use upstream_socket::UpstreamSocket;

#[cfg(test)]
mod tests;
