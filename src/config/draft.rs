//! What the options fill in, before the cross checks make [`super::Settings`] of it.

use std::path::PathBuf;
use std::time::Duration;

use super::{
    ClientAuth, ClientCert, Console, ErrorTexts, Limits, Lint, Listen, Log, LogFormat, Logins, Password, Profile,
    SessionOverflow, Shown, StartupParameters, Timeouts, UpstreamSocket,
};
use crate::wire::exchange::{Isolation, NamedStatements};

/// One place per option. All of them are filled, since every option has a default or may be missing.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// The URL as it was written. It is read last: `sidepool dev` brings an upstream of its own.
    pub(crate) upstream: Option<Password>,
    pub(crate) upstream_socket: UpstreamSocket,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) watch: bool,
    /// `None` is `auto`.
    pub(crate) workers: Option<usize>,
    pub(crate) client_auth: ClientAuth,
    pub(crate) logins: Logins,
    pub(crate) isolation: Isolation,
    pub(crate) verify: bool,
    pub(crate) home_servers: bool,
    /// `None`: off, unless it is `sidepool dev`.
    pub(crate) lint: Option<Lint>,
    /// Has done its work when the draft is filled in.
    pub(crate) profile: Profile,
    pub(crate) error_texts: ErrorTexts,
    pub(crate) session_overflow: SessionOverflow,
    pub(crate) startup_parameters: StartupParameters,
    pub(crate) named_statements: NamedStatements,
    pub(crate) listen: Listen,
    pub(crate) client_tls: DraftTls,
    pub(crate) console: Console,
    /// Every option's value as it was given, in the order of the table.
    pub(crate) shown: Vec<Shown>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) log: Log,
}

#[derive(Clone, Debug)]
pub(crate) struct DraftTls {
    pub(crate) enabled: bool,
    pub(crate) certificates: Vec<PathBuf>,
    pub(crate) keys: Vec<PathBuf>,
    pub(crate) client_ca: Option<PathBuf>,
    pub(crate) client_cert: Option<ClientCert>,
}

impl Draft {
    /// Nothing in any place: the defaults are the option table's business.
    pub(super) fn blank() -> Self {
        Self {
            upstream: None,
            upstream_socket: UpstreamSocket::Off,
            state_dir: None,
            watch: false,
            workers: None,
            client_auth: ClientAuth::ScramSha256,
            logins: Logins::default(),
            isolation: Isolation::Tracked,
            verify: false,
            home_servers: false,
            lint: None,
            profile: Profile::Transparent,
            error_texts: ErrorTexts::Postgres,
            session_overflow: SessionOverflow::Wait,
            startup_parameters: StartupParameters::Applied,
            named_statements: NamedStatements::Kept,
            listen: Listen {
                addresses: Vec::new(),
                session_port: None,
                transaction_port: None,
                unix_socket_dir: None,
                reuse_port: false,
                control_socket: None,
                http: None,
                http_token: None,
            },
            client_tls: DraftTls {
                enabled: false,
                certificates: Vec::new(),
                keys: Vec::new(),
                client_ca: None,
                client_cert: None,
            },
            console: Console::default(),
            shown: Vec::new(),
            limits: Limits {
                max_clients: 0,
                max_server_connections: 0,
                pool_size: 0,
                min_pool_size: 0,
                max_pinned: 0,
                parallel_logins: 0,
                prepared_statements_per_server: 0,
                prepared_statements_per_client: 0,
                prepared_bytes_per_client: 0,
                statement_bytes: 0,
                startup_bytes: 0,
                max_pools: 0,
            },
            timeouts: Timeouts {
                client_login: Duration::ZERO,
                queue_wait: Duration::ZERO,
                queue_notice: Duration::ZERO,
                client_idle: Duration::ZERO,
                idle_in_transaction: Duration::ZERO,
                idle_pinned: Duration::ZERO,
                server_connect: Duration::ZERO,
                server_down: Duration::ZERO,
                server_lifetime: Duration::ZERO,
                server_idle: Duration::ZERO,
                other_database_idle: Duration::ZERO,
                server_check: Duration::ZERO,
                recovery: Duration::ZERO,
                drain: Duration::ZERO,
                drain_delay: Duration::ZERO,
                take_over: Duration::ZERO,
            },
            log: Log { filter: String::new(), format: LogFormat::Text, connections: false, slow_transactions: Duration::ZERO },
        }
    }
}
