//! What stands above all tables of the file, and the log.

use std::time::Duration;

use super::{Opt, Reload};
use crate::config::kind::{Choice, Kind};
use crate::config::{ClientAuth, ErrorTexts, Lint, LogFormat, Profile, SessionOverflow, StartupParameters};
use crate::wire::exchange::{Isolation, NamedStatements};

pub(super) const GENERAL: &[Opt] = &[
    Opt {
        key: "upstream",
        flag: "upstream",
        env: "SIDEPOOL_UPSTREAM",
        default: "",
        example: "postgres://postgres:secret@db.example.com:5432/postgres",
        elsewhere: &[("PgBouncer", "databases")],
        reload: Reload::Live,
        kind: Kind::Url(|d| &mut d.upstream),
        doc: "The PostgreSQL to pool, as a libpq URL. It becomes the default project, and takes any project name that the file \
              does not list. Without it, and without projects in the file, DATABASE_URL is taken. A password on the command \
              line can be seen in the list of processes: prefer the variable or the file.",
    },
    Opt {
        key: "upstream_socket",
        flag: "upstream-socket",
        env: "SIDEPOOL_UPSTREAM_SOCKET",
        default: "auto",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::UpstreamSocket(|d| &mut d.upstream_socket),
        doc: "Whether server connections take the Unix socket where the upstream's host is localhost or another loopback \
              address. It costs about half of what TCP costs. `auto` looks for `.s.PGSQL.PORT` in /run/postgresql, \
              /var/run/postgresql and /tmp; a directory is looked into instead; `off` stays with TCP. A pool's first login is \
              over TCP in any case; the socket is taken from then on if the very same server is behind it, asks for the same \
              proof there, and runs as the directory's owner, root or Sidepool's own user (in a directory that everybody may \
              write to: as one of the last two). TCP stays where sslmode insists on TLS, and for passwords that are tried for \
              clients. A project may have its own.",
    },
    Opt {
        key: "client_auth",
        flag: "client-auth",
        env: "SIDEPOOL_CLIENT_AUTH",
        default: "scram-sha-256",
        example: "",
        elsewhere: &[("PgBouncer", "auth_type")],
        reload: Reload::Live,
        kind: Kind::Choice(&[
            Choice { word: "scram-sha-256", choose: |d| d.client_auth = ClientAuth::ScramSha256 },
            Choice { word: "trust", choose: |d| d.client_auth = ClientAuth::Trust },
        ]),
        doc: "How clients prove who they are. `trust` asks for no proof, and is refused unless every address listened on is a \
              loopback address or a Unix socket.",
    },
    Opt {
        key: "isolation",
        flag: "isolation",
        env: "SIDEPOOL_ISOLATION",
        default: "tracked",
        example: "",
        elsewhere: &[("PgBouncer", "server_reset_query_always")],
        reload: Reload::Restart,
        kind: Kind::Choice(&[
            Choice { word: "tracked", choose: |d| d.isolation = Isolation::Tracked },
            Choice { word: "strict", choose: |d| d.isolation = Isolation::Strict },
        ]),
        doc: "How a server connection is cleaned in transaction mode when another client takes it. `tracked` undoes what the client's statements may have done to the session, by their text. `strict` undoes everything, whatever was seen: also what a trigger or an operator did by a function of its own. It costs a round of statements each time a server changes hands, in the same write, and prepared statements are prepared anew.",
    },
    Opt {
        key: "verify",
        flag: "verify",
        env: "SIDEPOOL_VERIFY",
        default: "false",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Bool(|d| &mut d.verify),
        doc: "For development: after each transaction on the transaction port the server is asked for all session state there is, \
              and what the texts that ran had not shown is a warning in the log, with those texts (a trigger, an operator or a \
              view with a function of its own). Where there are such warnings, `isolation = \"strict\"` is what keeps clients \
              apart. It costs a question for each transaction, and the next request waits for it.",
    },
    Opt {
        key: "home_servers",
        flag: "home-servers",
        env: "SIDEPOOL_HOME_SERVERS",
        default: "false",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Bool(|d| &mut d.home_servers),
        doc: "Whether a client of the transaction port is told the process id of a server connection at its login: one that is \
              opened for it while the pool has room, that it prefers, and that others leave alone while they have a choice. \
              With as many connections as clients, that id, `pg_backend_pid()`, `pg_locks` and the sender of a notification \
              agree, as they do without a pooler. Without it the id is made up, and is nobody's: `pg_terminate_backend` of \
              it hits no other client by mistake.",
    },
    Opt {
        key: "lint",
        flag: "lint",
        env: "SIDEPOOL_LINT",
        default: "auto",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Choice(&[
            Choice { word: "auto", choose: |d| d.lint = None },
            Choice { word: "off", choose: |d| d.lint = Some(Lint::Off) },
            Choice { word: "log", choose: |d| d.lint = Some(Lint::Log) },
            Choice { word: "notice", choose: |d| d.lint = Some(Lint::Notice) },
        ]),
        doc: "What becomes of statements on the transaction port that work here and would break or leak on a hosted pooler: \
              session settings, LISTEN, temporary tables, session advisory locks, cursors WITH HOLD, PREPARE, prepared \
              statements with names, transactions left idle for 2 seconds; and on both ports, more clients than it takes. Each statement is told once for each \
              `application_name`, without its literals and with what to write instead: as a warning in the log (`log`), \
              or to the client (`notice`). `auto` is `off`, and `log` in `sidepool dev`.",
    },
    Opt {
        key: "profile",
        flag: "profile",
        env: "SIDEPOOL_PROFILE",
        default: "transparent",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Choice(&[
            Choice { word: "transparent", choose: |d| d.profile = Profile::Transparent },
            Choice { word: "supabase", choose: |d| d.profile = Profile::Supabase },
        ]),
        doc: "What other options default to. `supabase` has limits and refusals of the hosted pooler on its smallest instance, so that \
              what they break is seen here: pool_size 15, max_clients 200, max_pools 50, startup_bytes 1024, session_overflow and error_texts as \
              it has them, startup_parameters dropped, named_statements forgotten. Each of them set by itself wins.",
    },
    Opt {
        key: "session_overflow",
        flag: "session-overflow",
        env: "SIDEPOOL_SESSION_OVERFLOW",
        default: "wait",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Choice(&[
            Choice { word: "wait", choose: |d| d.session_overflow = SessionOverflow::Wait },
            Choice { word: "refuse", choose: |d| d.session_overflow = SessionOverflow::Refuse },
        ]),
        doc: "What becomes of clients in session mode beyond `pool_size`. They `wait` for a server connection, or are refused at \
              once, as the hosted pooler does (`EMAXCONNSESSION` there).",
    },
    Opt {
        key: "startup_parameters",
        flag: "startup-parameters",
        env: "SIDEPOOL_STARTUP_PARAMETERS",
        default: "apply",
        example: "",
        elsewhere: &[("PgBouncer", "ignore_startup_parameters")],
        reload: Reload::Live,
        kind: Kind::Choice(&[
            Choice { word: "apply", choose: |d| d.startup_parameters = StartupParameters::Applied },
            Choice { word: "drop", choose: |d| d.startup_parameters = StartupParameters::Dropped },
        ]),
        doc: "What becomes of settings that a client sends at login, in `options` too. `drop` leaves but `search_path`, and in session \
              mode `application_name`, as the hosted pooler does.",
    },
    Opt {
        key: "named_statements",
        flag: "named-statements",
        env: "SIDEPOOL_NAMED_STATEMENTS",
        default: "keep",
        example: "",
        elsewhere: &[("PgBouncer", "max_prepared_statements")],
        reload: Reload::Restart,
        kind: Kind::Choice(&[
            Choice { word: "keep", choose: |d| d.named_statements = NamedStatements::Kept },
            Choice { word: "forget", choose: |d| d.named_statements = NamedStatements::Forgotten },
        ]),
        doc: "How long a client of the transaction port has the statements that it prepared under a name by protocol message. \
              `keep` is as long as it is connected. `forget` is to the end of the transaction: a later use is an error (26000), and so \
              is a name that is still taken on the server connection (42P05), as it happens on the hosted pooler, where only \
              the server connection knows the name. DEALLOCATE ALL frees names there.",
    },
    Opt {
        key: "error_texts",
        flag: "error-texts",
        env: "SIDEPOOL_ERROR_TEXTS",
        default: "postgres",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Choice(&[
            Choice { word: "postgres", choose: |d| d.error_texts = ErrorTexts::Postgres },
            Choice { word: "supabase", choose: |d| d.error_texts = ErrorTexts::Supabase },
        ]),
        doc: "In whose words clients are refused for limits, at login, and where the upstream is out of reach. `postgres` has its codes and hints, `supabase` \
              the hosted pooler's `(ECODE) …` with XX000, after which the connection ends.",
    },
    Opt {
        key: "admin_users",
        flag: "admin-users",
        env: "SIDEPOOL_ADMIN_USERS",
        default: "",
        example: "ops,deploy",
        elsewhere: &[("PgBouncer", "admin_users")],
        reload: Reload::Live,
        kind: Kind::Names(|d| &mut d.console.admin_users),
        doc: "Users of the default project who may run every command of the console, as a list or with commas between them. \
              The user in the upstream's URL always may.",
    },
    Opt {
        key: "stats_users",
        flag: "stats-users",
        env: "SIDEPOOL_STATS_USERS",
        default: "",
        example: "prometheus",
        elsewhere: &[("PgBouncer", "stats_users")],
        reload: Reload::Live,
        kind: Kind::Names(|d| &mut d.console.stats_users),
        doc: "Users of the default project who may look at the console (SHOW) and change nothing. Whoever is in neither list \
              is refused there.",
    },
    Opt {
        key: "workers",
        flag: "workers",
        env: "SIDEPOOL_WORKERS",
        default: "auto",
        example: "",
        elsewhere: &[],
        reload: Reload::Restart,
        kind: Kind::Automatic { min: 1, max: 64, place: |d| &mut d.workers },
        doc: "Threads that carry clients' data. `auto` is one where there are two cores or fewer, and otherwise one per core up \
              to four.",
    },
    Opt {
        key: "watch",
        flag: "watch",
        env: "SIDEPOOL_WATCH",
        default: "false",
        example: "",
        elsewhere: &[],
        reload: Reload::Restart,
        kind: Kind::Bool(|d| &mut d.watch),
        doc: "Take up the configuration file again whenever it changes, as SIGHUP does. It is looked at once a second, and read when \
              it has stayed the same for one.",
    },
    Opt {
        key: "state_dir",
        flag: "state-dir",
        env: "SIDEPOOL_STATE_DIR",
        default: "",
        example: "/var/lib/sidepool",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Path(|d| &mut d.state_dir),
        doc: "Directory for what Sidepool makes and keeps, such as the development certificate. Not set, it is \
              `$XDG_STATE_HOME/sidepool`, or else `~/.local/state/sidepool`.",
    },
];

pub(super) const LOG: &[Opt] = &[
    Opt {
        key: "log.filter",
        flag: "log",
        env: "SIDEPOOL_LOG",
        default: "info",
        example: "",
        elsewhere: &[("PgBouncer", "verbose")],
        reload: Reload::Live,
        kind: Kind::LogFilter(|d| &mut d.log.filter),
        doc: "The least severe level that is logged: off, error, warn, info, debug or trace. Single modules can have their own, as \
              in `info,sidepool::pool=debug`.",
    },
    Opt {
        key: "log.format",
        flag: "log-format",
        env: "SIDEPOOL_LOG_FORMAT",
        default: "text",
        example: "",
        elsewhere: &[],
        reload: Reload::Restart,
        kind: Kind::Choice(&[
            Choice { word: "text", choose: |d| d.log.format = LogFormat::Text },
            Choice { word: "json", choose: |d| d.log.format = LogFormat::Json },
        ]),
        doc: "One line per event, for people (`text`) or for log collectors (`json`).",
    },
    Opt {
        key: "log.connections",
        flag: "log-connections",
        env: "SIDEPOOL_LOG_CONNECTIONS",
        default: "false",
        example: "",
        elsewhere: &[("PgBouncer", "log_connections"), ("PgBouncer", "log_disconnections")],
        reload: Reload::Live,
        kind: Kind::Bool(|d| &mut d.log.connections),
        doc: "Log a line for every login, and for every client and server connection that ends or is opened, at level info. \
              Otherwise these lines are at level debug.",
    },
    Opt {
        key: "log.slow_transactions",
        flag: "log-slow-transactions",
        env: "SIDEPOOL_LOG_SLOW_TRANSACTIONS",
        default: "0",
        example: "1s",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(86_400), place: |d| &mut d.log.slow_transactions },
        doc: "Log every transaction that takes this long or longer, with its last statement and how long it waited for a server \
              connection. Literals are left out, and statements about passwords not shown at all. 0 is off.",
    },
];
