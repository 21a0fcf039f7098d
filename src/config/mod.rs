//! Configuration: one option table → file, environment and flags → checked [`Settings`].

mod settings;

pub use settings::{
    ClientAuth, ClientTls, Host, Limits, Listen, Log, LogFormat, Password, Project, Secret, Settings, SslMode, Timeouts,
    Upstream, UpstreamTls, User,
};
