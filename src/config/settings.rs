//! The checked configuration: what the rest of the house is given, as `Arc<Settings>`, and nothing else.
//!
//! Values are already parsed and within their bounds here; whoever reads one need not check it again.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Network, UpstreamSocket, options};
pub use crate::error::hosted::ErrorTexts;
use crate::wire::exchange::{Isolation, NamedStatements};

/// Everything one process runs with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: Listen,
    pub client_auth: ClientAuth,
    /// How a server is cleaned for another client of the transaction port.
    pub isolation: Isolation,
    /// Whether what texts do not show is looked for.
    pub verify: bool,
    /// Whether clients in transaction mode are told the process id of a server.
    pub home_servers: bool,
    /// Who is told of statements that would break on a hosted pooler.
    pub lint: Lint,
    /// In whose words clients are refused.
    pub error_texts: ErrorTexts,
    /// What becomes of clients in session mode beyond the pool's size.
    pub session_overflow: SessionOverflow,
    /// What becomes of the parameters of a startup packet.
    pub startup_parameters: StartupParameters,
    /// How long a client of the transaction port has what it prepared under a name.
    pub named_statements: NamedStatements,
    pub client_tls: ClientTls,
    pub console: Console,
    /// Every option, in the order of the table, for people.
    pub shown: Vec<Shown>,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// Data workers; 1 means one current-thread runtime.
    pub workers: usize,
    pub log: Log,
    /// Take the file up again whenever it changes.
    pub watch: bool,
    /// Of clients whose project does not exist; every project has its own.
    pub logins: Logins,
    /// Never empty, names distinct; see [`Settings::default_project`].
    pub projects: Vec<Arc<Project>>,
}

impl Settings {
    /// The name that makes a project the default one.
    pub const DEFAULT_PROJECT: &str = "default";

    /// The project of clients that name none: the one called `default`, else `*`, else the first.
    pub fn default_project(&self) -> &Arc<Project> {
        let named = |name: &str| self.projects.iter().find(|project| project.name == name);
        named(Self::DEFAULT_PROJECT).or_else(|| named("*")).unwrap_or(&self.projects[0])
    }

    /// What a process that runs with `running` makes of these: what needs a restart stays as it is there, and a project
    /// that is the same is the same `Arc`.
    #[must_use]
    pub fn in_place_of(self, running: &Self) -> Self {
        let kept = |project: Arc<Project>| running.projects.iter().find(|known| **known == project).cloned().unwrap_or(project);
        let is_fixed = |name: &str| options::fixed().any(|option| option.key == name);
        let known = |name: &str| running.shown.iter().find(|known| known.option == name).cloned();
        let shown = |shown: Shown| known(shown.option).filter(|known| is_fixed(known.option)).unwrap_or(shown);
        Self {
            listen: running.listen.clone(),
            isolation: running.isolation,
            named_statements: running.named_statements,
            workers: running.workers,
            watch: running.watch,
            log: Log { format: running.log.format, ..self.log },
            projects: self.projects.into_iter().map(kept).collect(),
            shown: self.shown.into_iter().map(shown).collect(),
            ..self
        }
    }
}

/// Where clients arrive.
#[derive(Clone, Debug)]
pub struct Listen {
    pub addresses: Vec<IpAddr>,
    /// `None` switches the port off; 0 takes a free one (tests).
    pub session_port: Option<u16>,
    pub transaction_port: Option<u16>,
    /// Directory for `.s.PGSQL.<port>` sockets of both ports.
    pub unix_socket_dir: Option<PathBuf>,
    /// SO_REUSEPORT on TCP sockets.
    pub reuse_port: bool,
    /// Where a new process asks for the listening sockets.
    pub control_socket: Option<PathBuf>,
    /// The page at `/`, `/metrics`, `/healthz`, `/readyz`, `/api/state`; `None` is off.
    pub http: Option<std::net::SocketAddr>,
    pub http_token: Option<Password>,
}

/// Who may do what on the console, besides the upstream's own user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    /// Everything (PgBouncer: `admin_users`).
    pub admin_users: Vec<String>,
    /// SHOW alone (PgBouncer: `stats_users`).
    pub stats_users: Vec<String>,
}

/// An option as it was given, by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub option: &'static str,
    /// `None`: not set, or a secret.
    pub value: Option<String>,
}

/// What becomes of statements that would break or leak on a hosted transaction-mode pooler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lint {
    Off,
    /// A warning in the log.
    Log,
    /// A notice to the client.
    Notice,
    /// Kept, to be read when all is over (`sidepool lint`).
    Collect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOverflow {
    Wait,
    /// At once, as the hosted pooler does.
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupParameters {
    Applied,
    /// But for `search_path`, and in session mode `application_name`.
    Dropped,
}

/// What the options default to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Transparent,
    /// The limits and refusals of the hosted pooler on its smallest instance.
    Supabase,
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    ScramSha256,
    /// No proof; refused to whoever does not come over loopback or a Unix socket.
    Trust,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientTls {
    Off,
    /// A self-signed certificate made on first use and kept in this directory.
    Development {
        directory: PathBuf,
        clients: Option<ClientCertificates>,
    },
    Files {
        /// Never empty. The first is for clients that name no host, or one that none of them is good for.
        certificates: Vec<CertificateFiles>,
        clients: Option<ClientCertificates>,
    },
}

impl ClientTls {
    /// What is asked of the clients' own certificates; `None` asks for none.
    pub fn clients(&self) -> Option<&ClientCertificates> {
        match self {
            Self::Off => None,
            Self::Development { clients, .. } | Self::Files { clients, .. } => clients.as_ref(),
        }
    }
}

/// A certificate chain and its private key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What clients have to show over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Who may have signed them, PEM (PgBouncer: `client_tls_ca_file`).
    pub authority: PathBuf,
    pub demand: ClientCert,
}

/// PostgreSQL's `clientcert`, and its authentication method `cert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCert {
    VerifyCa,
    /// It also names the user.
    VerifyFull,
    /// The same, and no password is asked for where it is known what logs in upstream.
    Cert,
}

#[derive(Clone, Debug)]
pub struct Limits {
    /// Clients of all projects together (PgBouncer: `max_client_conn`).
    pub max_clients: usize,
    /// Server connections to one upstream, over all its pools (PgBouncer: `max_db_connections`).
    pub max_server_connections: usize,
    /// Server connections of one (project, database, user, mode) (PgBouncer: `default_pool_size`).
    pub pool_size: usize,
    /// Kept open while the pool has clients (PgBouncer: `min_pool_size`).
    pub min_pool_size: usize,
    /// Servers of one pool that clients may keep for session state; zero is no limit.
    pub max_pinned: usize,
    /// Logins to the upstream under way at once, per pool.
    pub parallel_logins: usize,
    /// Protocol-level prepared statements kept per server connection (PgBouncer: `max_prepared_statements`).
    pub prepared_statements_per_server: usize,
    /// Protocol-level prepared statements one client may hold.
    pub prepared_statements_per_client: usize,
    /// Of their names and texts in all, in bytes.
    pub prepared_bytes_per_client: usize,
    /// The longest Parse message that is kept for replay, in bytes.
    pub statement_bytes: usize,
    /// Pools of one project, as the hosted pooler counts them; 0 is no limit.
    pub max_pools: usize,
    /// Longest startup packet, without its length word.
    pub startup_bytes: usize,
}

#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From accept to the end of authentication (PgBouncer: `client_login_timeout`).
    pub client_login: Duration,
    /// Waiting for a server (PgBouncer: `query_wait_timeout`; Supavisor: `pool_checkout_timeout`). Zero waits for ever.
    pub queue_wait: Duration,
    /// Waiting for longer than this is told to the client once, as a NOTICE. Zero never tells.
    pub queue_notice: Duration,
    /// A client that sends nothing outside a transaction. Zero is off.
    pub client_idle: Duration,
    /// A client that sends nothing inside a transaction. Zero is off.
    pub idle_in_transaction: Duration,
    /// Silence of a client that keeps a server others wanted; zero is off.
    pub idle_pinned: Duration,
    /// Connect, TLS and login to the upstream (PgBouncer: `server_connect_timeout`).
    pub server_connect: Duration,
    /// How long waiting clients outlast an upstream that cannot be reached.
    pub server_down: Duration,
    /// An idle server connection older than this is closed, with jitter (PgBouncer: `server_lifetime`). Zero is off.
    pub server_lifetime: Duration,
    /// Unused for this long (PgBouncer: `server_idle_timeout`). Zero is off.
    pub server_idle: Duration,
    /// The same for databases other than the upstream's own (Prisma's shadow databases).
    pub other_database_idle: Duration,
    /// A server idle for longer than this is asked for a sign of life before use (PgBouncer: `server_check_delay`).
    pub server_check: Duration,
    /// For cancel, drain and rollback after a client left in the middle of something.
    pub recovery: Duration,
    /// SIGTERM: how long transactions may take to finish.
    pub drain: Duration,
    /// SIGTERM: between `/readyz` turning and the drain.
    pub drain_delay: Duration,
    /// How long clients may stay after another process took over.
    pub take_over: Duration,
}

#[derive(Clone, Debug)]
pub struct Log {
    /// A `tracing` filter: `info`, `debug`, `sidepool::pool=trace` …
    pub filter: String,
    pub format: LogFormat,
    /// Logins, ends of clients, servers opened and closed: at info, not at debug (PgBouncer: `log_connections`).
    pub connections: bool,
    /// Transactions that take this long are logged; zero is off.
    pub slow_transactions: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// What the part after the last dot of `user.project` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// 1–63 printable bytes. `*` takes any name.
    pub name: String,
    /// A host name that leads here: clients over TLS tell which they came to.
    pub server_name: Option<String>,
    pub upstream: Upstream,
    /// Who may log in besides the upstream's own user.
    pub users: Vec<User>,
    /// What else decides who may log in.
    pub logins: Logins,
    /// Overrides of [`Limits`] for this project.
    pub pool_size: usize,
    pub min_pool_size: usize,
    pub max_server_connections: usize,
    /// Why nobody is let in (Supavisor: `banned_at`, `ban_reason`).
    pub disabled: Option<String>,
}

impl Project {
    /// What logs in to the upstream as `user`, where that was configured: the upstream's own credential, or a listed
    /// password.
    pub fn password_of(&self, user: &str) -> Option<&Password> {
        let own = self.upstream.password.as_ref().filter(|_| self.upstream.user == user);
        own.or_else(|| self.users.iter().find(|listed| listed.name == user)?.secret.password())
    }
}

/// Who may log in besides the upstream's own user and those that are listed, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logins {
    pub auth_query: AuthQuery,
    /// Who asks (PgBouncer: `auth_user`); `None` is the upstream's own user.
    pub auth_user: Option<String>,
    pub auth_password: Option<Password>,
    /// Ask for the password in clear and try it upstream, where nothing else knows the user.
    pub passthrough: bool,
    /// How long a password that was tried upstream is taken for right. Zero tries each time.
    pub passthrough_max_age: Duration,
    /// Over TCP, TLS only.
    pub require_tls: bool,
    /// Addresses that clients may come from. Empty is everywhere; Unix sockets always may.
    pub allow: Vec<Network>,
    /// Before a client is told that its login failed.
    pub failure_delay: Duration,
    /// Failures of one address after which it is refused. Zero is off.
    pub lockout_failures: usize,
    /// For how long it is refused.
    pub lockout_time: Duration,
}

/// Where the secret of a user is found that is not listed (PgBouncer: `auth_query`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthQuery {
    Off,
    /// `pg_authid`.
    Verifiers,
    /// A query that takes the user's name as `$1` and returns the columns user and secret.
    Sql(String),
}

impl Default for Logins {
    /// As without any option.
    fn default() -> Self {
        Self {
            auth_query: AuthQuery::Verifiers,
            auth_user: None,
            auth_password: None,
            passthrough: false,
            passthrough_max_age: Duration::from_secs(60),
            require_tls: false,
            allow: Vec::new(),
            failure_delay: Duration::ZERO,
            lockout_failures: 0,
            lockout_time: Duration::from_secs(120),
        }
    }
}

/// A PostgreSQL and how to log in to it: a libpq URL, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub host: Host,
    pub port: u16,
    /// The configured credential's user.
    pub user: String,
    /// `None`: the upstream lets the user in without one (trust, peer).
    pub password: Option<Password>,
    /// The default database.
    pub database: String,
    pub tls: UpstreamTls,
    /// What may be taken in the place of a loopback address.
    pub socket: UpstreamSocket,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or an address.
    Tcp(String),
    /// The directory that holds `.s.PGSQL.<port>`.
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    pub mode: SslMode,
    /// `sslrootcert`; `None` is the system's roots.
    pub root_certificate: Option<PathBuf>,
    /// `sslcert` and `sslkey`: what we show the server.
    pub client_certificate: Option<CertificateFiles>,
    /// `sslnegotiation=direct` (PostgreSQL 17).
    pub direct: bool,
    pub channel_binding: ChannelBinding,
}

impl UpstreamTls {
    /// With the system's roots, without a certificate of our own.
    pub fn new(mode: SslMode) -> Self {
        let (root_certificate, client_certificate) = (None, None);
        Self { mode, root_certificate, client_certificate, direct: false, channel_binding: ChannelBinding::Prefer }
    }
}

/// libpq's `channel_binding`: whether a SCRAM login is bound to the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    /// Where the server offers it.
    Prefer,
    /// A login without is refused.
    Require,
}

/// libpq's `sslmode` (`allow` is taken as `prefer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// A user listed in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub secret: Secret,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    Password(Password),
    /// `SCRAM-SHA-256$…`, as `pg_authid.rolpassword` has it.
    Verifier(Password),
}

impl Secret {
    /// `None` where it is but a verifier.
    pub fn password(&self) -> Option<&Password> {
        match self {
            Self::Password(password) => Some(password),
            Self::Verifier(_) => None,
        }
    }
}

/// A secret text: wiped when the last copy is dropped, never shown. Shared, since every login takes one along.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Arc<Zeroizing<String>>);

impl Password {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The text itself. Whoever calls this may not log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
