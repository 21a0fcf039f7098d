//! The Unix socket that may be taken to a PostgreSQL on this machine.

use std::path::PathBuf;

use super::{Host, checks};

/// Where the socket of an upstream is sought whose URL names this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamSocket {
    /// Where PostgreSQL's packages put it.
    Auto,
    /// Nowhere: what the URL says is what is connected to.
    Off,
    /// The directory that holds `.s.PGSQL.<port>`.
    In(PathBuf),
}

impl UpstreamSocket {
    /// `None` if it is neither a word nor an absolute path.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "off" => Some(Self::Off),
            path => path.starts_with('/').then(|| Self::In(path.into())),
        }
    }
}

impl Host {
    /// Whether it is this machine, by the loopback's name or address: as far as that can be told without a resolver.
    pub fn is_loopback(&self) -> bool {
        let Self::Tcp(name) = self else { return false };
        let addresses = checks::addresses(name);
        !addresses.is_empty() && addresses.iter().all(|address| address.to_canonical().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_by_name_and_by_address() {
        let is_loopback = |name: &str| Host::Tcp(name.to_owned()).is_loopback();
        for name in ["localhost", "LocalHost.", "db.localhost", "127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback(name), "{name}");
        }
        for name in ["db.example.com", "localhost.example.com", "0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1"] {
            assert!(!is_loopback(name), "{name}");
        }
        assert!(!Host::Unix("/tmp".into()).is_loopback());
    }

    #[test]
    fn a_word_or_an_absolute_path() {
        assert_eq!(UpstreamSocket::parse("auto"), Some(UpstreamSocket::Auto));
        assert_eq!(UpstreamSocket::parse("off"), Some(UpstreamSocket::Off));
        assert_eq!(UpstreamSocket::parse("/srv/pg"), Some(UpstreamSocket::In("/srv/pg".into())));
        for wrong in ["", "on", "srv/pg", "./pg", "Auto"] {
            assert_eq!(UpstreamSocket::parse(wrong), None, "{wrong}");
        }
    }
}
