//! How many, and how large.

use super::{Opt, Reload};
use crate::config::kind::Kind;
use crate::wire::startup::STARTUP_BYTES_MAX;

pub(super) const LIMITS: &[Opt] = &[
    Opt {
        key: "limits.max_clients",
        flag: "max-clients",
        env: "SIDEPOOL_MAX_CLIENTS",
        default: "10000",
        example: "",
        elsewhere: &[("PgBouncer", "max_client_conn"), ("Supavisor", "default_max_clients")],
        reload: Reload::Live,
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
        reload: Reload::Live,
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
        reload: Reload::Live,
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
        reload: Reload::Live,
        kind: Kind::Integer { min: 0, max: 10_000, place: |d| &mut d.limits.min_pool_size },
        doc: "Server connections kept open in a pool while it has clients. A project may have its own.",
    },
    Opt {
        key: "limits.max_pinned",
        flag: "max-pinned",
        env: "SIDEPOOL_MAX_PINNED",
        default: "0",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Integer { min: 0, max: 10_000, place: |d| &mut d.limits.max_pinned },
        doc: "Server connections of one pool that clients of the transaction port may keep for advisory locks, temporary tables and \
              the like. Below `pool_size`, it leaves room for everybody else: the client that would keep one more is \
              disconnected after its transaction, and told what for (53400); those that keep one already are let alone. A \
              client keeps one at most. 0 is no limit.",
    },
    Opt {
        key: "limits.parallel_logins",
        flag: "parallel-logins",
        env: "SIDEPOOL_PARALLEL_LOGINS",
        default: "4",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
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
        reload: Reload::Live,
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
        reload: Reload::Live,
        kind: Kind::Integer { min: 1, max: 1_000_000, place: |d| &mut d.limits.prepared_statements_per_client },
        doc: "Prepared statements one client may hold. The next one is an error (54000) of its batch, and the client stays: nothing is forgotten in silence.",
    },
    Opt {
        key: "limits.prepared_bytes_per_client",
        flag: "prepared-bytes-per-client",
        env: "SIDEPOOL_PREPARED_BYTES_PER_CLIENT",
        default: "256MiB",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Size { min: 1 << 10, max: 1 << 31, place: |d| &mut d.limits.prepared_bytes_per_client },
        doc: "Names and texts of the prepared statements that one client may hold, in all. The statement that would exceed it is an error \
              (54000) of its batch, and the client stays.",
    },
    Opt {
        key: "limits.max_pools",
        flag: "max-pools",
        env: "SIDEPOOL_MAX_POOLS",
        default: "0",
        example: "",
        elsewhere: &[("Supavisor", "max_pools")],
        reload: Reload::Live,
        kind: Kind::Integer { min: 0, max: 100_000, place: |d| &mut d.limits.max_pools },
        doc: "Pools of one project, counted as the hosted pooler does: one for each database, user, mode and `search_path` at login, \
              as long as it has clients. Who needs one more is refused (53300). 0 is no limit, since `search_path` makes no pool here; \
              the hosted pooler has 50.",
    },
    Opt {
        key: "limits.startup_bytes",
        flag: "startup-bytes",
        env: "SIDEPOOL_STARTUP_BYTES",
        default: "10kB",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Size { min: 512, max: STARTUP_BYTES_MAX as u64, place: |d| &mut d.limits.startup_bytes },
        doc: "The longest startup packet a client may send, with all its settings. PostgreSQL takes as much as the default; the hosted \
              pooler 1024.",
    },
    Opt {
        key: "limits.statement_bytes",
        flag: "statement-bytes",
        env: "SIDEPOOL_STATEMENT_BYTES",
        default: "16MiB",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Size { min: 1 << 10, max: 1 << 30, place: |d| &mut d.limits.statement_bytes },
        doc: "The longest prepared statement that is kept to be prepared again on another server connection.",
    },
];
