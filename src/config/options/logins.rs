//! Who may log in, beyond those whose passwords are configured. A project may have its own of each.

use std::time::Duration;

use super::{Opt, Reload};
use crate::config::kind::Kind;

const DAY: Duration = Duration::from_secs(86_400);

pub(super) const LOGINS: &[Opt] = &[
    Opt {
        key: "auth_query",
        flag: "auth-query",
        env: "SIDEPOOL_AUTH_QUERY",
        default: "true",
        example: "",
        elsewhere: &[("PgBouncer", "auth_query"), ("Supavisor", "auth_query")],
        reload: Reload::Live,
        kind: Kind::Query(|d| &mut d.logins.auth_query),
        doc: "How the password of a user that is not listed is checked. `true` reads the role's verifier from the upstream's \
              `pg_authid`, where the asking user may read that; no password has to be told to Sidepool. A query of your own takes \
              the name as `$1` and returns two columns, user and secret. `false` admits listed users only. A project may have \
              its own.",
    },
    Opt {
        key: "auth_user",
        flag: "auth-user",
        env: "SIDEPOOL_AUTH_USER",
        default: "",
        example: "sidepool",
        elsewhere: &[("PgBouncer", "auth_user")],
        reload: Reload::Live,
        kind: Kind::Text(|d| &mut d.logins.auth_user),
        doc: "The upstream's user that asks `auth_query`. Not set, it is the one in the upstream's URL. A project may have its \
              own.",
    },
    Opt {
        key: "auth_password",
        flag: "auth-password",
        env: "SIDEPOOL_AUTH_PASSWORD",
        default: "",
        example: "secret",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Secret(|d| &mut d.logins.auth_password),
        doc: "The password of `auth_user`. A password on the command line can be seen in the list of processes: prefer the \
              variable or the file. A project may have its own.",
    },
    Opt {
        key: "passthrough",
        flag: "passthrough",
        env: "SIDEPOOL_PASSTHROUGH",
        default: "false",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Bool(|d| &mut d.logins.passthrough),
        doc: "Where neither the file nor `auth_query` can say who a user is: ask the client for its password in clear, and try \
              it on the upstream. Only over TLS, loopback or a Unix socket. For upstreams whose verifiers nobody may read, and \
              for access tokens in the place of passwords (up to 64 KiB). A project may have its own.",
    },
    Opt {
        key: "passthrough_max_age",
        flag: "passthrough-max-age",
        env: "SIDEPOOL_PASSTHROUGH_MAX_AGE",
        default: "1min",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Duration { min: Duration::ZERO, max: DAY, place: |d| &mut d.logins.passthrough_max_age },
        doc: "How long a password that the upstream has accepted is taken without trying it again; after a change the old one \
              works for as long as this. 0 tries at every login. A project may have its own.",
    },
    Opt {
        key: "require_tls",
        flag: "require-tls",
        env: "SIDEPOOL_REQUIRE_TLS",
        default: "false",
        example: "",
        elsewhere: &[("PgBouncer", "client_tls_sslmode"), ("Supavisor", "enforce_ssl")],
        reload: Reload::Live,
        kind: Kind::Bool(|d| &mut d.logins.require_tls),
        doc: "Refuse clients that come over TCP without TLS. A project may have its own.",
    },
    Opt {
        key: "allow",
        flag: "allow",
        env: "SIDEPOOL_ALLOW",
        default: "all",
        example: "",
        elsewhere: &[("PgBouncer", "auth_hba_file"), ("Supavisor", "allow_list")],
        reload: Reload::Live,
        kind: Kind::Networks(|d| &mut d.logins.allow),
        doc: "Addresses that clients may come from, as a list or with commas between them; `all` is everywhere. Unix sockets \
              always may. A project may have its own.",
    },
    Opt {
        key: "failure_delay",
        flag: "failure-delay",
        env: "SIDEPOOL_FAILURE_DELAY",
        default: "0",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(30), place: |d| &mut d.logins.failure_delay },
        doc: "How long a client waits before it is told that its login failed. Supabase's hosted pooler takes 500ms. A project \
              may have its own.",
    },
    Opt {
        key: "lockout_failures",
        flag: "lockout-failures",
        env: "SIDEPOOL_LOCKOUT_FAILURES",
        default: "0",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Integer { min: 0, max: 1_000_000, place: |d| &mut d.logins.lockout_failures },
        doc: "Failed logins after which an address is refused for `lockout_time`; a successful one forgives those before. \
              Supabase's hosted pooler takes 10. 0 is off. A project may have its own.",
    },
    Opt {
        key: "lockout_time",
        flag: "lockout-time",
        env: "SIDEPOOL_LOCKOUT_TIME",
        default: "2min",
        example: "",
        elsewhere: &[],
        reload: Reload::Live,
        kind: Kind::Duration { min: Duration::from_secs(1), max: DAY, place: |d| &mut d.logins.lockout_time },
        doc: "How long an address is refused after `lockout_failures` failed logins; so long ago, failures are forgotten. A \
              project may have its own.",
    },
];
