//! Where clients arrive, and TLS towards them.

use super::Opt;
use crate::config::kind::Kind;

pub(super) const LISTEN: &[Opt] = &[
    Opt {
        key: "listen.addresses",
        flag: "listen-addresses",
        env: "SIDEPOOL_LISTEN_ADDRESSES",
        default: "localhost",
        example: "",
        elsewhere: &[("PgBouncer", "listen_addr")],
        kind: Kind::Addresses(|d| &mut d.listen.addresses),
        doc: "IP addresses to listen on, as a list or with commas between them. `localhost` is 127.0.0.1 and ::1, `*` is every \
              address of the machine, `off` is none (Unix sockets only).",
    },
    Opt {
        key: "listen.session_port",
        flag: "session-port",
        env: "SIDEPOOL_SESSION_PORT",
        default: "5432",
        example: "",
        elsewhere: &[("PgBouncer", "listen_port"), ("Supavisor", "PROXY_PORT_SESSION")],
        kind: Kind::Port(|d| &mut d.listen.session_port),
        doc: "Port of session mode: a client keeps one server connection for as long as it is connected. 0 takes a free port, \
              `off` switches the mode off.",
    },
    Opt {
        key: "listen.transaction_port",
        flag: "transaction-port",
        env: "SIDEPOOL_TRANSACTION_PORT",
        default: "6543",
        example: "",
        elsewhere: &[("Supavisor", "PROXY_PORT_TRANSACTION")],
        kind: Kind::Port(|d| &mut d.listen.transaction_port),
        doc: "Port of transaction mode: a client borrows a server connection for one transaction. 0 takes a free port, `off` \
              switches the mode off.",
    },
    Opt {
        key: "listen.unix_socket_dir",
        flag: "unix-socket-dir",
        env: "SIDEPOOL_UNIX_SOCKET_DIR",
        default: "",
        example: "/run/sidepool",
        elsewhere: &[("PgBouncer", "unix_socket_dir")],
        kind: Kind::Path(|d| &mut d.listen.unix_socket_dir),
        doc: "Directory for Unix sockets, one for each port (`.s.PGSQL.5432`). Not set, there are none.",
    },
    Opt {
        key: "listen.http",
        flag: "http",
        env: "SIDEPOOL_HTTP",
        default: "off",
        example: "",
        elsewhere: &[],
        kind: Kind::Socket(|d| &mut d.listen.http),
        doc: "Address and port for HTTP: `/metrics` (Prometheus), `/healthz` and `/readyz`.",
    },
];

pub(super) const CLIENT_TLS: &[Opt] = &[
    Opt {
        key: "client_tls.enabled",
        flag: "client-tls",
        env: "SIDEPOOL_CLIENT_TLS",
        default: "true",
        example: "",
        elsewhere: &[("PgBouncer", "client_tls_sslmode")],
        kind: Kind::Bool(|d| &mut d.client_tls.enabled),
        doc: "Offer TLS to clients. Without a certificate of your own, one for development is made on first use and kept in the \
              state directory, so that URLs with `sslmode=require` work.",
    },
    Opt {
        key: "client_tls.certificate",
        flag: "client-tls-certificate",
        env: "SIDEPOOL_CLIENT_TLS_CERTIFICATE",
        default: "",
        example: "/etc/sidepool/server.crt",
        elsewhere: &[("PgBouncer", "client_tls_cert_file"), ("Supavisor", "GLOBAL_DOWNSTREAM_CERT_PATH")],
        kind: Kind::Path(|d| &mut d.client_tls.certificate),
        doc: "File with the certificate chain shown to clients, PEM. Needs the key too.",
    },
    Opt {
        key: "client_tls.key",
        flag: "client-tls-key",
        env: "SIDEPOOL_CLIENT_TLS_KEY",
        default: "",
        example: "/etc/sidepool/server.key",
        elsewhere: &[("PgBouncer", "client_tls_key_file"), ("Supavisor", "GLOBAL_DOWNSTREAM_KEY_PATH")],
        kind: Kind::Path(|d| &mut d.client_tls.key),
        doc: "File with the certificate's private key, PEM.",
    },
];
