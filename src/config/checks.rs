//! What no option can be checked for alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, DraftTls};
use super::{
    CertificateFiles, ClientAuth, ClientCert, ClientCertificates, ClientTls, ConfigError, Host, Limits, Listen, Logins, Project,
    Upstream,
};

/// `sockaddr_un` has 108 bytes, of which `/.s.PGSQL.65535` and the final zero take 16.
const SOCKET_DIR_BYTES_MAX: usize = 92;

/// More than this many cores carry no more: the upstream is the bottleneck long before.
const WORKERS_MAX: usize = 4;

pub(super) fn check(draft: &Draft) -> Result<(), ConfigError> {
    check_listen(&draft.listen)?;
    check_trust(draft)?;
    check_limits("limits", &draft.limits)
}

fn check_listen(listen: &Listen) -> Result<(), ConfigError> {
    let ports = [listen.session_port, listen.transaction_port];
    if ports == [None, None] {
        let message = "listen.session_port and listen.transaction_port are both off";
        return Err(ConfigError::new(message, "Give one of them a port."));
    }
    if listen.addresses.is_empty() && listen.unix_socket_dir.is_none() {
        let message = "listen.addresses is off and listen.unix_socket_dir is not set, so no client could connect";
        return Err(ConfigError::new(message, "Set one of them."));
    }
    if ports[0] == ports[1] && ports[0] != Some(0) {
        let message = "listen.session_port and listen.transaction_port are the same";
        return Err(ConfigError::new(message, "The port decides the mode: give each its own."));
    }
    if let Some(http) = listen.http.filter(|http| http.port() != 0 && ports.contains(&Some(http.port())))
        && listen.addresses.iter().any(|address| covers(*address, http.ip()) || covers(http.ip(), *address))
    {
        let message = format!("listen.http has port {}, where clients of PostgreSQL are listened for", http.port());
        return Err(ConfigError::new(message, "Give it another port, such as 9930."));
    }
    if let Some(http) = listen.http.filter(|http| !http.ip().is_loopback())
        && listen.http_token.is_none()
    {
        let message = format!("listen.http is {http}, which other machines reach, and listen.http_token is not set");
        return Err(ConfigError::new(message, "Set a token that HTTP clients must show, or listen on 127.0.0.1."));
    }
    match &listen.unix_socket_dir {
        Some(directory) if directory.as_os_str().as_bytes().len() > SOCKET_DIR_BYTES_MAX => {
            let message =
                format!("listen.unix_socket_dir is longer than the {SOCKET_DIR_BYTES_MAX} bytes a socket's path may have");
            Err(ConfigError::new(message, "Choose a shorter path."))
        }
        _ => Ok(()),
    }
}

fn check_trust(draft: &Draft) -> Result<(), ConfigError> {
    let open = draft.listen.addresses.iter().find(|address| !address.is_loopback());
    match open {
        Some(address) if draft.client_auth == ClientAuth::Trust => Err(ConfigError::new(
            format!("client_auth is trust while listen.addresses has {address}, which other machines reach"),
            "Listen on localhost only, or leave client_auth out.",
        )),
        _ => Ok(()),
    }
}

/// `table` is `limits` or a project's table.
pub(super) fn check_limits(table: &str, limits: &Limits) -> Result<(), ConfigError> {
    if limits.min_pool_size > limits.pool_size {
        let (min, size) = (limits.min_pool_size, limits.pool_size);
        let message = format!("{table}.min_pool_size ({min}) is larger than {table}.pool_size ({size})");
        return Err(ConfigError::new(message, "Lower the one or raise the other."));
    }
    Ok(())
}

/// Certificates with their keys, neither (development), or off. With a note if there is nowhere to keep a development
/// certificate.
pub(super) fn client_tls(draft: &Draft) -> Result<(ClientTls, Option<String>), ConfigError> {
    let tls = &draft.client_tls;
    let clients = client_certificates(tls)?;
    match (tls.certificates.len(), tls.keys.len()) {
        (0, 0) | (1.., 1..) => {}
        (_, 0) => return Err(half("client_tls.certificate", "client_tls.key")),
        (0, _) => return Err(half("client_tls.key", "client_tls.certificate")),
    }
    if tls.certificates.len() != tls.keys.len() {
        let (certificates, keys) = (tls.certificates.len(), tls.keys.len());
        let message = format!("client_tls.certificate names {certificates} files and client_tls.key {keys}");
        return Err(ConfigError::new(message, "Give every certificate its key, in the same order."));
    }
    if !tls.enabled {
        return Ok((ClientTls::Off, None));
    }
    if tls.certificates.is_empty() {
        return development(draft, clients);
    }
    let pairs = tls.certificates.iter().zip(&tls.keys);
    let certificates =
        pairs.map(|(certificate, key)| CertificateFiles { certificate: certificate.clone(), key: key.clone() }).collect();
    Ok((ClientTls::Files { certificates, clients }, None))
}

/// Who asks for certificates means it: whatever would silently ask for none is an error.
fn client_certificates(tls: &DraftTls) -> Result<Option<ClientCertificates>, ConfigError> {
    match (&tls.client_ca, tls.client_cert) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let message = "client_tls.client_cert is set and client_tls.client_ca is not";
            Err(ConfigError::new(message, "Name the file with the authority that signs the clients' certificates."))
        }
        (Some(_), _) if !tls.enabled => {
            let message = "client_tls.client_ca is set, but client_tls.enabled is false, so no client could show a certificate";
            Err(ConfigError::new(message, "Enable TLS, or leave client_ca out."))
        }
        (Some(authority), demand) => {
            let demand = demand.unwrap_or(ClientCert::VerifyFull);
            Ok(Some(ClientCertificates { authority: authority.clone(), demand }))
        }
    }
}

fn development(draft: &Draft, clients: Option<ClientCertificates>) -> Result<(ClientTls, Option<String>), ConfigError> {
    match draft.state_dir.clone() {
        Some(directory) => Ok((ClientTls::Development { directory, clients }, None)),
        None if clients.is_some() => {
            let message = "client_tls.client_ca is set, but neither HOME nor state_dir says where a development certificate \
                           could be kept, so there would be no TLS";
            Err(ConfigError::new(message, "Set client_tls.certificate and client_tls.key, or state_dir."))
        }
        None => {
            let note = "TLS is off for clients: neither HOME nor state_dir says where a development certificate could be kept";
            Ok((ClientTls::Off, Some(note.to_owned())))
        }
    }
}

fn half(set: &str, missing: &str) -> ConfigError {
    ConfigError::new(format!("{set} is set and {missing} is not"), "Set both, or neither for a development certificate.")
}

/// Two cores are best used by one worker beside the upstream or the application.
pub(super) fn workers(draft: &Draft, cores: usize) -> usize {
    draft.workers.unwrap_or(if cores <= 2 { 1 } else { cores.min(WORKERS_MAX) })
}

/// A password needs somebody whose it is.
pub(super) fn check_logins(project: &str, upstream: &Upstream, logins: &Logins) -> Result<(), ConfigError> {
    match (&logins.auth_user, &logins.auth_password) {
        (None, Some(_)) => {
            let message = format!("project `{project}` has an auth_password and no auth_user");
            Err(ConfigError::new(message, "Name the user too, or leave both out to ask as the upstream's own user."))
        }
        (Some(user), Some(password)) if *user == upstream.user && upstream.password.as_ref() != Some(password) => {
            let message = format!("project `{project}`: auth_user is the upstream's own user, with another password");
            Err(ConfigError::new(message, "Leave auth_user and auth_password out, or correct the password."))
        }
        _ => Ok(()),
    }
}

/// An upstream that is Sidepool itself would take a client of its own for each client, until nothing is left.
pub(super) fn check_loop(listen: &Listen, project: &Project, place: &str) -> Result<(), ConfigError> {
    let upstream = &project.upstream;
    let key = match Some(upstream.port) {
        port if port == listen.session_port => "listen.session_port",
        port if port == listen.transaction_port => "listen.transaction_port",
        _ => return Ok(()),
    };
    let ours = match &upstream.host {
        Host::Unix(directory) => listen.unix_socket_dir.as_ref() == Some(directory),
        Host::Tcp(name) => addresses(name).iter().any(|theirs| listen.addresses.iter().any(|ours| covers(*ours, *theirs))),
    };
    if !ours {
        return Ok(());
    }
    let message = format!("{place} points at port {} of this machine, where Sidepool itself listens ({key})", upstream.port);
    let hint = if place == "DATABASE_URL" {
        "Give the database's own address with --upstream, or move Sidepool to another port."
    } else {
        "Give the database's own address, or move Sidepool to another port."
    };
    Err(ConfigError::new(message, hint))
}

/// Only what is certain without a resolver.
pub(super) fn addresses(host: &str) -> Vec<IpAddr> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    name.parse().into_iter().collect()
}

/// Whether a connection to `theirs` arrives at a socket that listens on `ours`. Connecting to 0.0.0.0 or :: reaches loopback.
fn covers(ours: IpAddr, theirs: IpAddr) -> bool {
    let theirs = match theirs.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    ours == theirs || (ours.is_unspecified() && theirs.is_loopback() && (ours.is_ipv6() || theirs.is_ipv4()))
}
