//! One login to an upstream, before any client asks for it; and why it failed, in words for people.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::key_cache::KeyCache;
use crate::config::{ConfigError, Host, Project, Settings, Timeouts, Upstream};
use crate::error::SqlState;
use crate::net::tls::TlsContext;
use crate::server::StartError;
use crate::upstream::{self, ConnectError, ConnectSpec, Connected, Conversation, Credential, Lookup, Shortcut};

/// How often two connections to a pooler are looked at: somebody else may be given a server in between.
const LOOKS: usize = 3;

/// What the logins of one run share.
pub struct Probe {
    keys: Arc<KeyCache>,
    /// Connect, TLS and login, together.
    pub limit: Duration,
    timeouts: Timeouts,
}

impl Probe {
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(timeouts: &Timeouts) -> Result<Self, ConfigError> {
        let keys = KeyCache::new().map_err(|_| ConfigError::new("the system gives no random bytes", "Look at /dev/urandom."))?;
        Ok(Self { keys: Arc::new(keys), limit: timeouts.server_connect, timeouts: timeouts.clone() })
    }

    /// What logins of this project would ask, if anything.
    pub fn lookup(&self, project: &Arc<Project>, tls: &Arc<TlsContext>) -> Option<Lookup> {
        Lookup::of(project, tls, &self.keys, &self.timeouts)
    }

    /// As the upstream's own user, in its own database.
    ///
    /// # Errors
    /// As [`upstream::connect`]; [`ConnectError::Unreachable`] too when it takes longer than [`Probe::limit`].
    pub async fn connect(&self, upstream: &Upstream, tls: &TlsContext) -> Result<Connected, ConnectError> {
        let credential = credential(upstream);
        let spec = self.spec(upstream, tls, &credential);
        let connecting = upstream::connect(&spec);
        tokio::time::timeout(self.limit, connecting).await.unwrap_or_else(|_| Err(silent(upstream)))
    }

    /// Whether the upstream is a pooler that gives its connections away for a transaction at a time. PostgreSQL is known by
    /// the process id that it tells at login; of others two connections are asked in turn which process they have.
    ///
    /// # Errors
    /// As [`Probe::connect`].
    pub async fn shares_servers(&self, upstream: &Upstream, tls: &TlsContext) -> Result<bool, ConnectError> {
        let connected = self.connect(upstream, tls).await?;
        let told = connected.key.pid.to_string();
        let mut one = Conversation::new(connected, place(upstream));
        if self.backend(&mut one, upstream).await? == told {
            one.end().await;
            return Ok(false);
        }
        let mut other = Conversation::new(self.connect(upstream, tls).await?, place(upstream));
        let mut is_shared = false;
        for _ in 0..LOOKS {
            let pid = self.backend(&mut one, upstream).await?;
            is_shared |= pid == self.backend(&mut other, upstream).await?;
        }
        tokio::join!(one.end(), other.end());
        Ok(is_shared)
    }

    async fn backend(&self, server: &mut Conversation, upstream: &Upstream) -> Result<String, ConnectError> {
        let asking = server.ask("SELECT pg_catalog.pg_backend_pid()");
        let rows = tokio::time::timeout(self.limit, asking).await.unwrap_or_else(|_| Err(silent(upstream)))?;
        Ok(rows.into_iter().flatten().flatten().next().unwrap_or_default())
    }

    /// The same, as a pool's first server connection is opened.
    ///
    /// # Errors
    /// As [`Probe::connect`].
    pub async fn connect_nearest(
        &self,
        upstream: &Upstream,
        tls: &TlsContext,
        shortcut: &Shortcut,
    ) -> Result<Connected, ConnectError> {
        let credential = credential(upstream);
        upstream::connect_nearest(&self.spec(upstream, tls, &credential), shortcut, None, self.limit).await
    }

    fn spec<'a>(&'a self, upstream: &'a Upstream, tls: &'a TlsContext, credential: &'a Credential) -> ConnectSpec<'a> {
        let (user, database) = (&upstream.user, &upstream.database);
        ConnectSpec { upstream, tls, keys: &self.keys, user, database, credential, parameters: &[] }
    }
}

fn credential(upstream: &Upstream) -> Credential {
    upstream.password.clone().map_or(Credential::None, Credential::Password)
}

/// `host:port`, or the socket.
pub fn place(upstream: &Upstream) -> String {
    match &upstream.host {
        Host::Tcp(host) if host.contains(':') => format!("[{host}]:{}", upstream.port),
        Host::Tcp(host) => format!("{host}:{}", upstream.port),
        Host::Unix(directory) => format!("{}/.s.PGSQL.{}", directory.display(), upstream.port),
    }
}

/// Tries every upstream once, and warns of those that clients would not get through to. An upstream may come up later than
/// its pooler: nothing ends for it.
pub async fn warn_of_dead_ends(settings: Arc<Settings>) {
    let Ok(probe) = Probe::new(&settings.timeouts) else { return };
    for project in &settings.projects {
        // That it can be read is known: the listeners were not started without.
        let Ok(tls) = TlsContext::load(&project.upstream.tls) else { continue };
        match probe.shares_servers(&project.upstream, &tls).await {
            Ok(true) => tracing::warn!("{}", shared(project)),
            Ok(false) => {}
            Err(error) => tracing::warn!("{}", explain(project, &error)),
        }
    }
}

/// The same, where it is a Sidepool's console that was not reached.
pub fn explain_console(console: &Upstream, error: &ConnectError) -> StartError {
    let hint = match error {
        ConnectError::Unreachable { .. } => "Is it running, and with these settings? --config, and the ports, say where.",
        _ => {
            "It takes the user and the password of the default project's upstream, as these settings have them; where they have \
             none, those of `sidepool dev`."
        }
    };
    StartError::new(format!("the console at {} cannot be looked at: {error}", place(console)), hint)
}

/// One sentence with what happened, one with what to do.
pub fn explain(project: &Project, error: &ConnectError) -> ConfigError {
    let place = match error {
        // These name it themselves.
        ConnectError::Unreachable { .. } | ConnectError::Tls { .. } => String::new(),
        ConnectError::Refused(_) | ConnectError::Protocol(_) | ConnectError::Credential { .. } => {
            format!("{}: ", place(&project.upstream))
        }
    };
    let what = match error {
        ConnectError::Credential { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    ConfigError::new(format!("project `{}`: {place}{what}", project.name), hint(error))
}

/// What may be wrong with an upstream that is a pooler in transaction mode.
pub fn shared(project: &Project) -> ConfigError {
    let message = format!(
        "project `{}`: {} gives one server process to several connections, as a pooler in transaction mode does: what one \
         client sets or prepares, another may meet",
        project.name,
        place(&project.upstream)
    );
    ConfigError::new(message, "Give the database's own address, or that pooler's session port.")
}

pub fn silent(upstream: &Upstream) -> ConnectError {
    ConnectError::Unreachable { target: place(upstream), error: io::ErrorKind::TimedOut.into() }
}

fn hint(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Refused(said) => hint_for(said.sqlstate()),
        ConnectError::Unreachable { .. } => "Check that PostgreSQL runs there, and host and port in the upstream's URL.",
        ConnectError::Tls { .. } => "Look at sslmode and sslrootcert in the upstream's URL.",
        ConnectError::Protocol(_) => "Check that it is a PostgreSQL that listens there.",
        ConnectError::Credential { hint, .. } => hint,
    }
}

fn hint_for(state: Option<SqlState>) -> &'static str {
    let state = state.map(|state| state.to_string()).unwrap_or_default();
    match state.as_str() {
        "28P01" => "Correct user and password in the upstream's URL.",
        "28000" => "Correct the user in the upstream's URL, or let it in by the server's pg_hba.conf.",
        "3D000" => "Correct the database in the upstream's URL.",
        "53300" => "Close connections there, or raise its max_connections or the user's limit.",
        "57P03" => "It is starting or stopping: try again in a moment.",
        _ => "Look at the upstream's URL, and at the server's log.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Logins, url};

    fn project(upstream: &str) -> Project {
        let (upstream, _) = url::parse(upstream).unwrap();
        Project {
            disabled: None,
            name: "shop".into(),
            server_name: None,
            upstream,
            users: Vec::new(),
            logins: Logins::default(),
            pool_size: 1,
            min_pool_size: 0,
            max_server_connections: 1,
        }
    }

    #[test]
    fn an_error_names_the_project_and_the_place_once() {
        let project = project("postgres://u:hunter2@db.example.com:7000/d");
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let unreachable = ConnectError::Unreachable { target: place(&project.upstream), error: refused };
        let told = explain(&project, &unreachable);
        assert_eq!(told.message, "project `shop`: could not connect to db.example.com:7000: connection refused");
        let told = explain(&project, &ConnectError::Protocol("no".into()));
        assert!(told.message.starts_with("project `shop`: db.example.com:7000: the server broke the protocol"), "{told}");
        assert!(!told.to_string().contains("hunter2"));
    }
}
