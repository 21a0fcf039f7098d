//! Listening sockets that somebody else opened: a service manager (socket activation), or a process whose work this one
//! takes over.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::Socket;

use super::listen::{Address, RemovedOnDrop, StartError};
use crate::config::{Env, Settings};
use crate::pool::PoolMode;

/// What a listening socket is for. The names are those of `FileDescriptorName=` in a socket unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Session,
    Transaction,
    Http,
    /// Where the next process asks for the sockets.
    Control,
}

impl Purpose {
    const ALL: [Self; 4] = [Self::Session, Self::Transaction, Self::Http, Self::Control];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Http => "http",
            Self::Control => "control",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == name)
    }
}

impl From<PoolMode> for Purpose {
    fn from(mode: PoolMode) -> Self {
        match mode {
            PoolMode::Session => Self::Session,
            PoolMode::Transaction => Self::Transaction,
        }
    }
}

/// Who opened them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Origin {
    /// It decides where to listen, and keeps them when we go.
    #[default]
    ServiceManager,
    /// They are ours from now on, as far as the settings still want them.
    Predecessor,
}

/// Sockets that wait to be taken up.
#[derive(Debug, Default)]
pub struct Handed {
    pub(super) origin: Origin,
    sockets: Vec<Given>,
    /// Files of Unix sockets that were taken up.
    files: Vec<PathBuf>,
}

#[derive(Debug)]
struct Given {
    /// `None`: it goes by its port.
    purpose: Option<Purpose>,
    address: Address,
    socket: Socket,
}

impl Handed {
    /// From `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` (sd_listen_fds(3)). To be called once, before there are other
    /// threads: the variables are taken out of the process's environment.
    ///
    /// # Errors
    /// What was passed is no listening stream socket.
    pub fn by_service_manager(env: &Env) -> Result<Self, StartError> {
        let mut passed = listenfd::ListenFd::from_env();
        let mut names = env.get("LISTEN_FDNAMES").map(String::as_str).unwrap_or_default().split(':');
        let mut handed = Self::default();
        for at in 0..passed.len() {
            let purpose = names.next().and_then(Purpose::parse);
            let tcp = passed.take_tcp_listener(at).ok().flatten().map(Socket::from);
            let socket = tcp.or_else(|| passed.take_unix_listener(at).ok().flatten().map(Socket::from));
            socket.ok_or_else(|| io::Error::other("it is no stream socket")).and_then(|s| handed.add(purpose, s)).map_err(
                |e| {
                    StartError::new(
                        format!("socket {at} of those that the service manager passed cannot be listened on: {e}"),
                        "Pass stream sockets only: ListenStream= in a socket unit.",
                    )
                },
            )?;
        }
        Ok(handed)
    }

    pub(super) fn by_predecessor() -> Self {
        Self { origin: Origin::Predecessor, ..Self::default() }
    }

    /// # Errors
    /// It is no listening socket, or has an address of another kind than ours.
    pub(super) fn add(&mut self, purpose: Option<Purpose>, socket: Socket) -> io::Result<()> {
        if !socket.is_listener()? {
            return Err(io::Error::other("it does not listen"));
        }
        let local = socket.local_addr()?;
        let address = match (local.as_socket(), local.as_pathname()) {
            (Some(address), _) => Address::Tcp(address),
            (None, Some(path)) => Address::Unix(path.to_owned()),
            (None, None) => return Err(io::Error::other("it has no address")),
        };
        socket.set_nonblocking(true)?;
        self.sockets.push(Given { purpose, address, socket });
        Ok(())
    }

    /// Whether one was given for this, at an address that is wanted.
    pub(super) fn take(&mut self, purpose: Purpose, wanted: impl Fn(&Address) -> bool) -> Option<(Address, Socket)> {
        let at = self.sockets.iter().position(|given| given.purpose == Some(purpose) && wanted(&given.address))?;
        let Given { address, socket, .. } = self.sockets.swap_remove(at);
        if let Address::Unix(path) = &address {
            self.files.push(path.clone());
        }
        Some((address, socket))
    }

    /// The one for HTTP, which is wanted at this address.
    pub fn take_http(&mut self, wanted: std::net::SocketAddr) -> Option<TcpListener> {
        let decides = self.origin == Origin::ServiceManager;
        let suits = |address: &Address| match address {
            Address::Tcp(address) => decides || (address.ip() == wanted.ip() && [0, address.port()].contains(&wanted.port())),
            Address::Unix(_) => false,
        };
        self.take(Purpose::Http, suits).map(|(_, socket)| socket.into())
    }

    pub(super) fn take_control(&mut self, path: &Path) -> Option<UnixListener> {
        self.take(Purpose::Control, |address| *address == Address::Unix(path.to_owned())).map(|(_, socket)| socket.into())
    }

    /// Closes what nobody has taken up. A predecessor that has let go leaves us the files of its Unix sockets: these stay for as
    /// long as we do, and those of sockets that we close go.
    pub(super) fn inherit(self) -> Vec<RemovedOnDrop> {
        let Self { origin, sockets, files } = self;
        if origin == Origin::ServiceManager {
            return Vec::new();
        }
        for given in sockets {
            if let Address::Unix(path) = given.address {
                drop(RemovedOnDrop::of(path));
            }
        }
        files.into_iter().map(RemovedOnDrop::of).collect()
    }

    /// Gives those without a name of ours the purpose that their port has in the settings.
    ///
    /// # Errors
    /// It has none.
    pub(super) fn assign(&mut self, settings: &Settings) -> Result<(), StartError> {
        for given in self.sockets.iter_mut().filter(|given| given.purpose.is_none()) {
            given.purpose = of_port(&given.address, settings);
            if given.purpose.is_none() {
                return Err(StartError::new(
                    format!("the service manager passed a socket at {}, and it is not known what for", given.address),
                    "Give it a name, FileDescriptorName=session, transaction or http, or the port of one of them.",
                ));
            }
        }
        Ok(())
    }
}

fn of_port(address: &Address, settings: &Settings) -> Option<Purpose> {
    let port = match address {
        Address::Tcp(address) => address.port(),
        Address::Unix(path) => path.to_str()?.rsplit_once(".s.PGSQL.")?.1.parse().ok()?,
    };
    let listen = &settings.listen;
    let http = listen.http.map(|http| http.port());
    let ports = [(listen.session_port, Purpose::Session), (listen.transaction_port, Purpose::Transaction), (http, Purpose::Http)];
    ports.into_iter().find(|(of, _)| *of == Some(port)).map(|(_, purpose)| purpose)
}
