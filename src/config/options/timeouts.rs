//! How long.

use std::time::Duration;

use super::Opt;
use crate::config::kind::Kind;

/// Long enough for every purpose, short enough for every clock.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// Where zero would mean "at once" and nothing could ever succeed.
const SHORTEST: Duration = Duration::from_millis(10);

pub(super) const TIMEOUTS: &[Opt] = &[
    Opt {
        key: "timeouts.client_login",
        flag: "timeout-client-login",
        env: "SIDEPOOL_TIMEOUT_CLIENT_LOGIN",
        default: "1min",
        example: "",
        elsewhere: &[("PgBouncer", "client_login_timeout")],
        kind: Kind::Duration { min: SHORTEST, max: LONGEST, place: |d| &mut d.timeouts.client_login },
        doc: "From a client's connect to the end of its login.",
    },
    Opt {
        key: "timeouts.queue_wait",
        flag: "timeout-queue-wait",
        env: "SIDEPOOL_TIMEOUT_QUEUE_WAIT",
        default: "1min",
        example: "",
        elsewhere: &[("PgBouncer", "query_wait_timeout"), ("Supavisor", "pool_checkout_timeout")],
        kind: Kind::Duration { min: Duration::ZERO, max: LONGEST, place: |d| &mut d.timeouts.queue_wait },
        doc: "How long a client waits for a free server connection before it is refused. 0 waits for ever.",
    },
    Opt {
        key: "timeouts.queue_notice",
        flag: "timeout-queue-notice",
        env: "SIDEPOOL_TIMEOUT_QUEUE_NOTICE",
        default: "5s",
        example: "",
        elsewhere: &[("PgBouncer", "query_wait_notify")],
        kind: Kind::Duration { min: Duration::ZERO, max: LONGEST, place: |d| &mut d.timeouts.queue_notice },
        doc: "A client that waits for longer than this is told so once, by a NOTICE. 0 never tells.",
    },
    Opt {
        key: "timeouts.client_idle",
        flag: "timeout-client-idle",
        env: "SIDEPOOL_TIMEOUT_CLIENT_IDLE",
        default: "0",
        example: "",
        elsewhere: &[("PgBouncer", "client_idle_timeout"), ("Supavisor", "client_idle_timeout")],
        kind: Kind::Duration { min: Duration::ZERO, max: LONGEST, place: |d| &mut d.timeouts.client_idle },
        doc: "Disconnects a client that sends nothing for this long outside a transaction. 0 is off.",
    },
    Opt {
        key: "timeouts.idle_in_transaction",
        flag: "timeout-idle-in-transaction",
        env: "SIDEPOOL_TIMEOUT_IDLE_IN_TRANSACTION",
        default: "0",
        example: "",
        elsewhere: &[("PgBouncer", "idle_transaction_timeout")],
        kind: Kind::Duration { min: Duration::ZERO, max: LONGEST, place: |d| &mut d.timeouts.idle_in_transaction },
        doc: "Disconnects a client that sends nothing for this long inside a transaction. 0 is off.",
    },
    Opt {
        key: "timeouts.idle_pinned",
        flag: "timeout-idle-pinned",
        env: "SIDEPOOL_TIMEOUT_IDLE_PINNED",
        default: "0",
        example: "",
        elsewhere: &[],
        kind: Kind::Duration { min: Duration::ZERO, max: LONGEST, place: |d| &mut d.timeouts.idle_pinned },
        doc: "Disconnects a client of the transaction port that sends nothing for this long while its server connection, which               others wanted, stays with it for its advisory locks, temporary tables, LISTEN and the like. 0 is off.",
    },
    Opt {
        key: "timeouts.server_connect",
        flag: "timeout-server-connect",
        env: "SIDEPOOL_TIMEOUT_SERVER_CONNECT",
        default: "15s",
        example: "",
        elsewhere: &[("PgBouncer", "server_connect_timeout")],
        kind: Kind::Duration { min: SHORTEST, max: LONGEST, place: |d| &mut d.timeouts.server_connect },
        doc: "Connect, TLS and login to the upstream, together.",
    },
    Opt {
        key: "timeouts.server_down",
        flag: "timeout-server-down",
        env: "SIDEPOOL_TIMEOUT_SERVER_DOWN",
        default: "4s",
        example: "",
        elsewhere: &[],
        kind: Kind::Duration { min: Duration::ZERO, max: LONGEST, place: |d| &mut d.timeouts.server_down },
        doc: "How long clients wait for an upstream that cannot be reached before they are told. Long enough for a restart.",
    },
    Opt {
        key: "timeouts.server_lifetime",
        flag: "timeout-server-lifetime",
        env: "SIDEPOOL_TIMEOUT_SERVER_LIFETIME",
        default: "1h",
        example: "",
        elsewhere: &[("PgBouncer", "server_lifetime")],
        kind: Kind::Duration { min: Duration::ZERO, max: LONGEST, place: |d| &mut d.timeouts.server_lifetime },
        doc: "An idle server connection older than this is closed, some sooner and some later. 0 is off.",
    },
    Opt {
        key: "timeouts.server_idle",
        flag: "timeout-server-idle",
        env: "SIDEPOOL_TIMEOUT_SERVER_IDLE",
        default: "10min",
        example: "",
        elsewhere: &[("PgBouncer", "server_idle_timeout")],
        kind: Kind::Duration { min: Duration::ZERO, max: LONGEST, place: |d| &mut d.timeouts.server_idle },
        doc: "A server connection unused for this long is closed. 0 is off.",
    },
    Opt {
        key: "timeouts.other_database_idle",
        flag: "timeout-other-database-idle",
        env: "SIDEPOOL_TIMEOUT_OTHER_DATABASE_IDLE",
        default: "1s",
        example: "",
        elsewhere: &[],
        kind: Kind::Duration { min: Duration::ZERO, max: LONGEST, place: |d| &mut d.timeouts.other_database_idle },
        doc: "A server connection to another database than the one in the upstream's URL is closed when unused for this long. \
              Short, because a database cannot be dropped while it has connections, and migration tools drop the ones they made \
              (Prisma's shadow databases). 0 is off.",
    },
    Opt {
        key: "timeouts.server_check",
        flag: "timeout-server-check",
        env: "SIDEPOOL_TIMEOUT_SERVER_CHECK",
        default: "30s",
        example: "",
        elsewhere: &[("PgBouncer", "server_check_delay")],
        kind: Kind::Duration { min: Duration::ZERO, max: LONGEST, place: |d| &mut d.timeouts.server_check },
        doc: "A server connection idle for longer than this is asked for a sign of life before it is used. 0 always asks.",
    },
    Opt {
        key: "timeouts.recovery",
        flag: "timeout-recovery",
        env: "SIDEPOOL_TIMEOUT_RECOVERY",
        default: "5s",
        example: "",
        elsewhere: &[],
        kind: Kind::Duration { min: SHORTEST, max: LONGEST, place: |d| &mut d.timeouts.recovery },
        doc: "How long cancel, drain and rollback may take after a client left in the middle of something. Then its server \
              connection is closed.",
    },
    Opt {
        key: "timeouts.drain",
        flag: "timeout-drain",
        env: "SIDEPOOL_TIMEOUT_DRAIN",
        default: "30s",
        example: "",
        elsewhere: &[],
        kind: Kind::Duration { min: Duration::ZERO, max: LONGEST, place: |d| &mut d.timeouts.drain },
        doc: "At SIGTERM: how long transactions may take to finish. 0 does not wait.",
    },
];
