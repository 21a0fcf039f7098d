//! PostgreSQL connection URLs (libpq, "Connection URIs"), read into an [`Upstream`].
//!
//! An error never shows any part of the URL: where a password holds an unescaped `/` or `?`, its pieces turn up in the place
//! of the port, the database or a parameter.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use super::nearest::nearest;
use super::{CertificateFiles, ChannelBinding, ConfigError, Host, Password, SslMode, Upstream, UpstreamSocket, UpstreamTls};

/// The longest URL that is looked at, in bytes. A startup packet holds 10 000.
const URL_BYTES_MAX: usize = 8192;

/// The longest host name (RFC 1035 §2.3.4), in bytes.
const HOST_BYTES_MAX: usize = 253;

/// The longest parameter name that is shown in a note, in bytes.
const PARAMETER_BYTES_MAX: usize = 40;

const WHOLE_URL: &str = "Write postgres://USER:PASSWORD@HOST:PORT/DATABASE.";
const ESCAPES: &str = "In a user name or password write @ as %40, / as %2F, ? as %3F, # as %23 and % as %25.";
const HOSTS: &str = "Write an IPv6 address in brackets ([::1]) and a Unix socket's directory as %2Fvar%2Frun%2Fpostgresql.";
const SSL_MODES: &str = "Use one of disable, allow, prefer, require, verify-ca and verify-full.";

/// The parameters that have an effect.
const PARAMETERS: &[&str] = &[
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "ssl",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "channel_binding",
    "hostaddr",
];

/// libpq's, without effect here, and too near to ours to be told from slips of the hand.
const NEAR_MISSES: &[&str] = &["sslcrl", "sslcrldir", "sslcertmode", "sslsni"];

/// Reads `postgres://` and `postgresql://` URLs of one host. Missing parts: user `postgres`, database = user, host
/// `localhost`, port 5432, `sslmode=prefer`.
///
/// Also returns notes on what was accepted without effect (`application_name`, Prisma's `pgbouncer` …).
///
/// # Errors
/// One sentence on the first part that cannot be read, without any text from the URL but the name of a misspelt parameter.
pub fn parse(url: &str) -> Result<(Upstream, Vec<String>), ConfigError> {
    let rest = strip_scheme(url.trim())?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let path = path.strip_prefix('/').unwrap_or(path);
    // libpq ends the credentials at the first @; the last one reads the same where both can be read, and forgives an
    // unescaped @ in a password, for no host has one.
    let (credentials, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    if path.contains('@') {
        return Err(ConfigError::new("an @ stands behind the host in the URL", ESCAPES));
    }
    let parameters = parameters(query)?;

    let mut parts = Parts::default();
    parts.credentials(credentials)?;
    parts.address(address)?;
    parts.database = some(decode("database", path)?);
    for (name, value) in parameters {
        parts.parameter(name, value)?;
    }
    parts.finish()
}

fn strip_scheme(url: &str) -> Result<&str, ConfigError> {
    if url.len() > URL_BYTES_MAX {
        return Err(ConfigError::new(format!("the URL is longer than {URL_BYTES_MAX} bytes"), WHOLE_URL));
    }
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    rest.ok_or_else(|| {
        let message = match (url.is_empty(), url.starts_with(['"', '\''])) {
            (true, _) => "the URL is empty",
            (_, true) => "the URL begins with a quotation mark",
            _ if !url.contains("://") && url.contains('=') => "this is a key=value connection string, and a URL is wanted",
            _ => "the URL does not begin with postgres:// or postgresql://",
        };
        ConfigError::new(message, WHOLE_URL)
    })
}

/// `name=value` pairs, names decoded, values not. Empty ones are left out, as libpq takes an empty value for the default.
fn parameters(query: &str) -> Result<Vec<(String, &str)>, ConfigError> {
    let mut found = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(ConfigError::new("a parameter of the URL has no value", format!("Write it as name=value. {ESCAPES}")));
        };
        let name = decode("parameters", name)?;
        let may_hold_at = matches!(name.as_str(), "user" | "password" | "application_name");
        if name.contains('@') || (value.contains('@') && !may_hold_at) {
            return Err(ConfigError::new("an @ stands behind the host in the URL", ESCAPES));
        }
        if !value.is_empty() {
            found.push((name, value));
        }
    }
    Ok(found)
}

/// What the URL says, each part once; a parameter overrides the part before it.
#[derive(Default)]
struct Parts {
    user: Option<String>,
    password: Option<Password>,
    host: Option<Host>,
    port: Option<u16>,
    database: Option<String>,
    ssl_mode: Option<SslMode>,
    root_certificate: Option<RootCertificate>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    direct: bool,
    channel_binding: Option<ChannelBinding>,
    unused: Vec<String>,
}

#[derive(PartialEq)]
enum RootCertificate {
    /// `sslrootcert=system` (PostgreSQL 16).
    System,
    File(PathBuf),
}

impl Parts {
    fn credentials(&mut self, credentials: &str) -> Result<(), ConfigError> {
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        self.user = some(decode("user name", user)?);
        self.password = some(decode("password", password)?).map(Password::new);
        Ok(())
    }

    fn address(&mut self, address: &str) -> Result<(), ConfigError> {
        refuse_several(address)?;
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (inside, behind) = rest.split_once(']').ok_or_else(bad_host)?;
                let port = behind.strip_prefix(':');
                if port.is_none() && !behind.is_empty() {
                    return Err(bad_host());
                }
                (Some(bracketed_host(&decode("host", inside)?)?), port)
            }
            None => {
                let (host, port) = address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port)));
                (some(decode("host", host)?).map(|host| plain_host(&host)).transpose()?, port)
            }
        };
        self.host = host;
        self.port = port.filter(|port| !port.is_empty()).map(parse_port).transpose()?;
        Ok(())
    }

    fn parameter(&mut self, name: String, value: &str) -> Result<(), ConfigError> {
        match name.as_str() {
            "user" => self.user = Some(decode("user name", value)?),
            "password" => self.password = Some(Password::new(decode("password", value)?)),
            "dbname" => self.database = Some(decode("database", value)?),
            "host" => {
                let host = decode("host", value)?;
                refuse_several(&host)?;
                self.host = Some(if host.contains(':') { bracketed_host(&host)? } else { plain_host(&host)? });
            }
            "port" => {
                refuse_several(value)?;
                self.port = Some(parse_port(&decode("port", value)?)?);
            }
            "hostaddr" => return Err(ConfigError::new("the URL's hostaddr is not supported", "Give the address as the host.")),
            "sslmode" => self.ssl_mode = Some(parse_ssl_mode(&decode("sslmode", value)?)?),
            // JDBC's way to say it, which libpq takes too.
            "ssl" if value == "true" => self.ssl_mode = Some(SslMode::Require),
            "sslrootcert" => {
                let path = decode("sslrootcert", value)?;
                let system = path == "system";
                self.root_certificate = Some(if system { RootCertificate::System } else { RootCertificate::File(path.into()) });
            }
            "sslcert" => self.certificate = Some(decode("sslcert", value)?.into()),
            "sslkey" => self.key = Some(decode("sslkey", value)?.into()),
            "channel_binding" => self.channel_binding = Some(parse_channel_binding(value)?),
            "sslnegotiation" => self.direct = parse_negotiation(value)?,
            _ => self.unused(name)?,
        }
        Ok(())
    }

    /// Drivers have dozens of parameters of their own, so a foreign name is no mistake; `sslmod=require` is one.
    fn unused(&mut self, name: String) -> Result<(), ConfigError> {
        let printable = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        let libpqs = NEAR_MISSES.contains(&name.as_str());
        let shown = printable && !name.is_empty() && name.len() <= PARAMETER_BYTES_MAX;
        if let Some(known) = nearest(&name, PARAMETERS.iter().copied()).filter(|known| shown && *known != name && !libpqs) {
            let message = format!("the URL has an unknown parameter `{name}`; did you mean `{known}`?");
            return Err(ConfigError::new(message, "Correct it or leave it out."));
        }
        let name = if shown { name } else { "one with an unprintable name".to_owned() };
        if !self.unused.contains(&name) {
            self.unused.push(name);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Upstream, Vec<String>), ConfigError> {
        let tls = self.tls()?;
        let user = self.user.unwrap_or_else(|| "postgres".to_owned());
        let upstream = Upstream {
            host: self.host.unwrap_or_else(|| Host::Tcp("localhost".to_owned())),
            port: self.port.unwrap_or(5432),
            database: self.database.unwrap_or_else(|| user.clone()),
            user,
            password: self.password,
            tls,
            // An option, and no part of a URL.
            socket: UpstreamSocket::Off,
        };
        let notes = match self.unused.as_slice() {
            [] => Vec::new(),
            unused => vec![format!("parameters in the upstream's URL that have no effect here: {}", unused.join(", "))],
        };
        Ok((upstream, notes))
    }

    /// libpq's rules: the system's roots are worth nothing without the name check, a root certificate given with `require` is
    /// used, and direct TLS leaves nothing to be preferred.
    fn tls(&mut self) -> Result<UpstreamTls, ConfigError> {
        let root = self.root_certificate.take();
        let system = root == Some(RootCertificate::System);
        let root_certificate = root.and_then(|root| match root {
            RootCertificate::System => None,
            RootCertificate::File(path) => Some(path),
        });
        let mode = match self.ssl_mode {
            None if system => SslMode::VerifyFull,
            Some(weak) if system && weak != SslMode::VerifyFull => {
                return Err(ConfigError::new("the URL's sslrootcert=system needs sslmode=verify-full", "Set both or neither."));
            }
            Some(SslMode::Require) if root_certificate.is_some() => SslMode::VerifyCa,
            mode => mode.unwrap_or(SslMode::Prefer),
        };
        if self.direct && matches!(mode, SslMode::Disable | SslMode::Prefer) {
            let message = "the URL's sslnegotiation=direct needs an sslmode that insists on TLS";
            return Err(ConfigError::new(message, "Add sslmode=require, verify-ca or verify-full."));
        }
        let channel_binding = self.channel_binding.unwrap_or(ChannelBinding::Prefer);
        if channel_binding == ChannelBinding::Require && mode == SslMode::Disable {
            let message = "the URL's channel_binding=require needs TLS, which sslmode=disable rules out";
            return Err(ConfigError::new(message, "Use sslmode=require, verify-ca or verify-full with it."));
        }
        let client_certificate = self.client_certificate()?;
        Ok(UpstreamTls { mode, root_certificate, client_certificate, direct: self.direct, channel_binding })
    }

    /// Nothing is taken from a home directory, as libpq would: who runs a pooler has none to speak of.
    fn client_certificate(&mut self) -> Result<Option<CertificateFiles>, ConfigError> {
        match (self.certificate.take(), self.key.take()) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(CertificateFiles { certificate, key })),
            _ => Err(ConfigError::new("the URL has one of sslcert and sslkey without the other", "Give both, or neither.")),
        }
    }
}

fn parse_ssl_mode(text: &str) -> Result<SslMode, ConfigError> {
    Ok(match text {
        "disable" => SslMode::Disable,
        "allow" | "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => return Err(ConfigError::new("the URL's sslmode is not one that libpq knows", SSL_MODES)),
    })
}

fn parse_negotiation(text: &str) -> Result<bool, ConfigError> {
    match text {
        "postgres" => Ok(false),
        "direct" => Ok(true),
        _ => Err(ConfigError::new("the URL's sslnegotiation is unknown", "Use postgres or direct.")),
    }
}

fn parse_channel_binding(text: &str) -> Result<ChannelBinding, ConfigError> {
    match text {
        "disable" => Ok(ChannelBinding::Disable),
        "prefer" => Ok(ChannelBinding::Prefer),
        "require" => Ok(ChannelBinding::Require),
        _ => Err(ConfigError::new("the URL's channel_binding is unknown", "Use disable, prefer or require.")),
    }
}

fn parse_port(text: &str) -> Result<u16, ConfigError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| digits && *port > 0)
        .ok_or_else(|| ConfigError::new("the port in the URL is not a number from 1 to 65535", format!("{WHOLE_URL} {ESCAPES}")))
}

/// A name, an IPv4 address, or a directory.
fn plain_host(host: &str) -> Result<Host, ConfigError> {
    if host.starts_with('/') {
        return Ok(Host::Unix(PathBuf::from(host)));
    }
    let legal = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let host = (legal && !host.is_empty() && host.len() <= HOST_BYTES_MAX).then(|| Host::Tcp(host.to_owned()));
    host.ok_or_else(bad_host)
}

/// An IPv6 address, perhaps with a zone (`fe80::1%eth0`).
fn bracketed_host(host: &str) -> Result<Host, ConfigError> {
    let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
    let zone_legal = zone.is_none_or(|zone| !zone.is_empty() && zone.bytes().all(|b| b.is_ascii_alphanumeric()));
    if address.parse::<Ipv6Addr>().is_err() || !zone_legal {
        return Err(bad_host());
    }
    Ok(Host::Tcp(host.to_owned()))
}

fn bad_host() -> ConfigError {
    ConfigError::new("the host in the URL is neither a name, an address nor a directory", HOSTS)
}

fn refuse_several(hosts: &str) -> Result<(), ConfigError> {
    if hosts.contains(',') {
        let hint = "Name the primary; every further server can be a project of its own in the file.";
        return Err(ConfigError::new("the URL names several hosts, and an upstream is one", hint));
    }
    Ok(())
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Percent-decoding as strict as libpq's; `+` stands for itself.
fn decode(part: &str, text: &str) -> Result<String, ConfigError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => hex_digit(bytes.next()).zip(hex_digit(bytes.next())).map(|(high, low)| high << 4 | low).ok_or_else(|| {
                let message = format!("the {part} in the URL has a % without two hexadecimal digits behind it");
                ConfigError::new(message, "Write a percent sign as %25.")
            })?,
            plain => plain,
        };
        decoded.push(byte);
    }
    if decoded.contains(&0) {
        return Err(ConfigError::new(format!("the {part} in the URL has a zero byte"), "PostgreSQL cannot be sent one."));
    }
    let not_text = |_| ConfigError::new(format!("the {part} in the URL is not UTF-8"), "Encode it as UTF-8, then as %XX.");
    String::from_utf8(decoded).map_err(not_text)
}

fn hex_digit(byte: Option<u8>) -> Option<u8> {
    char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests;
