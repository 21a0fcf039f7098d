//! How many, and how large.

use super::Opt;
use crate::config::kind::Kind;

pub(super) const LIMITS: &[Opt] = &[
    Opt {
        key: "limits.max_clients",
        flag: "max-clients",
        env: "SIDEPOOL_MAX_CLIENTS",
        default: "10000",
        example: "",
        elsewhere: &[("PgBouncer", "max_client_conn"), ("Supavisor", "default_max_clients")],
        kind: Kind::Integer { min: 1, max: 1_000_000, place: |d| &mut d.limits.max_clients },
        doc: "Client connections of all projects together. Whoever comes after that is told so (53300).",
    },
    Opt {
        key: "limits.max_server_connections",
        flag: "max-server-connections",
        env: "SIDEPOOL_MAX_SERVER_CONNECTIONS",
        default: "80",
        example: "",
        elsewhere: &[("PgBouncer", "max_db_connections")],
        kind: Kind::Integer { min: 1, max: 100_000, place: |d| &mut d.limits.max_server_connections },
        doc: "Server connections to one upstream, over all its pools and both modes. Keep it below PostgreSQL's own \
              `max_connections` (100 by default). A project may have its own.",
    },
    Opt {
        key: "limits.pool_size",
        flag: "pool-size",
        env: "SIDEPOOL_POOL_SIZE",
        default: "20",
        example: "",
        elsewhere: &[("PgBouncer", "default_pool_size"), ("Supavisor", "default_pool_size")],
        kind: Kind::Integer { min: 1, max: 10_000, place: |d| &mut d.limits.pool_size },
        doc: "Server connections of one pool: one project, database, user and mode. A project may have its own.",
    },
    Opt {
        key: "limits.min_pool_size",
        flag: "min-pool-size",
        env: "SIDEPOOL_MIN_POOL_SIZE",
        default: "0",
        example: "",
        elsewhere: &[("PgBouncer", "min_pool_size")],
        kind: Kind::Integer { min: 0, max: 10_000, place: |d| &mut d.limits.min_pool_size },
        doc: "Server connections kept open in a pool while it has clients. A project may have its own.",
    },
    Opt {
        key: "limits.parallel_logins",
        flag: "parallel-logins",
        env: "SIDEPOOL_PARALLEL_LOGINS",
        default: "4",
        example: "",
        elsewhere: &[],
        kind: Kind::Integer { min: 1, max: 1_000, place: |d| &mut d.limits.parallel_logins },
        doc: "Logins to the upstream under way at once, for each pool. Every one costs the upstream a new process.",
    },
    Opt {
        key: "limits.prepared_statements_per_server",
        flag: "prepared-statements-per-server",
        env: "SIDEPOOL_PREPARED_STATEMENTS_PER_SERVER",
        default: "500",
        example: "",
        elsewhere: &[("PgBouncer", "max_prepared_statements")],
        kind: Kind::Integer { min: 1, max: 100_000, place: |d| &mut d.limits.prepared_statements_per_server },
        doc: "Prepared statements kept on one server connection. The least recently used makes room, and is prepared again when \
              a client uses it.",
    },
    Opt {
        key: "limits.prepared_statements_per_client",
        flag: "prepared-statements-per-client",
        env: "SIDEPOOL_PREPARED_STATEMENTS_PER_CLIENT",
        default: "10000",
        example: "",
        elsewhere: &[],
        kind: Kind::Integer { min: 1, max: 1_000_000, place: |d| &mut d.limits.prepared_statements_per_client },
        doc: "Prepared statements one client may hold. The next one is an error (54000) of its batch, and the client stays: nothing is forgotten in silence.",
    },
    Opt {
        key: "limits.statement_bytes",
        flag: "statement-bytes",
        env: "SIDEPOOL_STATEMENT_BYTES",
        default: "16MiB",
        example: "",
        elsewhere: &[],
        kind: Kind::Size { min: 1 << 10, max: 1 << 30, place: |d| &mut d.limits.statement_bytes },
        doc: "The longest prepared statement that is kept to be prepared again on another server connection.",
    },
];
