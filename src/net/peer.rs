//! Who is at the other end of a connection.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// The process at the other end, where the system tells.
    Unix {
        pid: Option<i32>,
    },
}

impl Peer {
    /// Whether the peer is on this machine: over loopback or a Unix socket.
    pub fn is_local(self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{}", SocketAddr::new(address.ip().to_canonical(), address.port())),
            Self::Unix { pid: Some(pid) } => write!(f, "unix (pid {pid})"),
            Self::Unix { pid: None } => f.write_str("unix"),
        }
    }
}

/// One end of a connection, as it is kept for as long as that lasts: in 16 bytes, where a [`Peer`] has 32. An IPv4 address that
/// came as an IPv6 one is an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
    Unix { pid: Option<i32> },
}

impl From<Peer> for End {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Tcp(address) => address.into(),
            Peer::Unix { pid } => Self::Unix { pid },
        }
    }
}

impl From<SocketAddr> for End {
    fn from(address: SocketAddr) -> Self {
        match SocketAddr::new(address.ip().to_canonical(), address.port()) {
            SocketAddr::V4(address) => Self::V4(address),
            // As it came, with its scope.
            SocketAddr::V6(canonical) => Self::V6(Box::new(match address {
                SocketAddr::V6(address) => address,
                SocketAddr::V4(_) => canonical,
            })),
        }
    }
}

impl End {
    pub fn peer(&self) -> Peer {
        match self {
            Self::V4(address) => Peer::Tcp((*address).into()),
            Self::V6(address) => Peer::Tcp((**address).into()),
            Self::Unix { pid } => Peer::Unix { pid: *pid },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_local() {
        for (address, local) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("[::ffff:10.0.0.1]:1", false),
            ("192.168.1.1:1", false),
            ("[::]:1", false),
        ] {
            assert_eq!(Peer::Tcp(address.parse().unwrap()).is_local(), local, "{address}");
        }
        assert!(Peer::Unix { pid: None }.is_local());
        assert_eq!(Peer::Tcp("[::ffff:10.0.0.1]:5".parse().unwrap()).to_string(), "10.0.0.1:5");
    }

    #[test]
    fn an_end_is_small_and_the_peer_it_was_made_of() {
        assert_eq!(size_of::<End>(), 16);
        for (address, shown) in
            [("127.0.0.1:1", "127.0.0.1:1"), ("[::ffff:10.0.0.1]:5", "10.0.0.1:5"), ("[fe80::1%3]:7", "[fe80::1]:7")]
        {
            let peer = Peer::Tcp(address.parse().unwrap());
            let kept = End::from(peer).peer();
            assert_eq!((kept.is_local(), kept.to_string()), (peer.is_local(), peer.to_string()));
            assert_eq!(kept.to_string(), shown);
        }
        assert_eq!(End::from(Peer::Tcp("[fe80::1%3]:7".parse().unwrap())).peer(), Peer::Tcp("[fe80::1%3]:7".parse().unwrap()));
        assert_eq!(End::from(Peer::Unix { pid: Some(7) }).peer(), Peer::Unix { pid: Some(7) });
    }
}
