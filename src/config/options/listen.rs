//! Where clients arrive, and TLS towards them.

use super::{Opt, Reload};
use crate::config::ClientCert;
use crate::config::kind::{Choice, Kind};

pub(super) const LISTEN: &[Opt] = &[
    Opt {
        key: "listen.addresses",
        flag: "listen-addresses",
        env: "SIDEPOOL_LISTEN_ADDRESSES",
        default: "localhost",
        example: "",
        elsewhere: &[("PgBouncer", "listen_addr")],
        reload: Reload::Restart,
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
        reload: Reload::Restart,
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
        reload: Reload::Restart,
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
        reload: Reload::Restart,
        kind: Kind::Path(|d| &mut d.listen.unix_socket_dir),
        doc: "Directory for Unix sockets, one for each port (`.s.PGSQL.5432`). Not set, there are none.",
    },
    Opt {
        key: "listen.reuse_port",
        flag: "reuse-port",
        env: "SIDEPOOL_REUSE_PORT",
        default: "false",
        example: "",
        elsewhere: &[("PgBouncer", "so_reuseport")],
        reload: Reload::Restart,
        kind: Kind::Bool(|d| &mut d.listen.reuse_port),
        doc: "Share the ports with other processes of this user that ask for the same (SO_REUSEPORT), so that a new one can start \
              before the old one is stopped. The kernel spreads connections over them. Unix sockets cannot be shared so.",
    },
    Opt {
        key: "listen.control_socket",
        flag: "control-socket",
        env: "SIDEPOOL_CONTROL_SOCKET",
        default: "",
        example: "/run/sidepool/control",
        elsewhere: &[],
        reload: Reload::Restart,
        kind: Kind::Path(|d| &mut d.listen.control_socket),
        doc: "Unix socket at which a new process asks this one for its listening sockets (`sidepool run --take-over`). Only \
              processes of the same user are given them. Not set, nobody can take over.",
    },
    Opt {
        key: "listen.http",
        flag: "http",
        env: "SIDEPOOL_HTTP",
        default: "off",
        example: "",
        elsewhere: &[],
        reload: Reload::Restart,
        kind: Kind::Socket(|d| &mut d.listen.http),
        doc: "Address and port for HTTP: a page for people at `/`, `/metrics` (Prometheus), `/healthz`, `/readyz`, `/api/state` (JSON), and \
              commands (`POST /api/pause` and others), on a loopback address to everybody on the machine unless there is a token.",
    },
    Opt {
        key: "listen.http_token",
        flag: "http-token",
        env: "SIDEPOOL_HTTP_TOKEN",
        default: "",
        example: "secret",
        elsewhere: &[],
        reload: Reload::Restart,
        kind: Kind::Secret(|d| &mut d.listen.http_token),
        doc: "What HTTP clients must show (`Authorization: Bearer …`), except for `/healthz` and `/readyz`, which tell yes or no. Needed where \
              `http` is an address that other machines reach. A token on the command line can be seen in the list of \
              processes: prefer the variable or the file.",
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
        reload: Reload::Live,
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
        reload: Reload::Live,
        kind: Kind::Paths(|d| &mut d.client_tls.certificates),
        doc: "File with the certificate chain shown to clients, PEM. Needs the key too. Several, as a list or with commas between \
              them, are chosen by the host name that a client asks for (SNI): the first that is good for that name, else the \
              first of all. Changed files are read again by themselves; where they are bad, the old ones stay in use.",
    },
    Opt {
        key: "client_tls.key",
        flag: "client-tls-key",
        env: "SIDEPOOL_CLIENT_TLS_KEY",
        default: "",
        example: "/etc/sidepool/server.key",
        elsewhere: &[("PgBouncer", "client_tls_key_file"), ("Supavisor", "GLOBAL_DOWNSTREAM_KEY_PATH")],
        reload: Reload::Live,
        kind: Kind::Paths(|d| &mut d.client_tls.keys),
        doc: "File with the certificate's private key, PEM. As many as there are certificates, in the same order.",
    },
    Opt {
        key: "client_tls.client_ca",
        flag: "client-tls-client-ca",
        env: "SIDEPOOL_CLIENT_TLS_CLIENT_CA",
        default: "",
        example: "/etc/sidepool/clients.crt",
        elsewhere: &[("PgBouncer", "client_tls_ca_file")],
        reload: Reload::Live,
        kind: Kind::Path(|d| &mut d.client_tls.client_ca),
        doc: "File with the authorities, PEM, one of which must have signed a client's own certificate. With it every client that \
              comes over TCP needs one, and so TLS; Unix sockets are exempt. Not set, no client is asked for a certificate.",
    },
    Opt {
        key: "client_tls.client_cert",
        flag: "client-tls-client-cert",
        env: "SIDEPOOL_CLIENT_TLS_CLIENT_CERT",
        default: "",
        example: "verify-full",
        elsewhere: &[("PgBouncer", "client_tls_sslmode")],
        reload: Reload::Live,
        kind: Kind::Choice(&[
            Choice { word: "verify-ca", choose: |d| d.client_tls.client_cert = Some(ClientCert::VerifyCa) },
            Choice { word: "verify-full", choose: |d| d.client_tls.client_cert = Some(ClientCert::VerifyFull) },
            Choice { word: "cert", choose: |d| d.client_tls.client_cert = Some(ClientCert::Cert) },
        ]),
        doc: "What a client's certificate has to prove, where `client_ca` is set: that it was signed by that authority \
              (`verify-ca`), or also that it names the user, as its common name or an alternative name (`verify-full`, the \
              default). Both ask for the password as well. `cert` is `verify-full` without the password, for the upstream's own \
              user and users listed with their password.",
    },
];
