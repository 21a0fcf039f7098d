//! From an accepted socket to a session.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::io::AsyncWriteExt;

use super::listen::{Listener, StartError};
use super::takeover::Cancels;
use crate::auth::key_cache::KeyCache;
use crate::auth::process_secret::ProcessSecret;
use crate::config::{ErrorTexts, Live, Project, Settings};
use crate::error::hosted::Hosted;
use crate::error::{Fault, PgError, SqlState};
use crate::net::socket::Socket;
use crate::net::spawner::Spawner;
use crate::net::tls::{ServerTls, TlsContext, TlsSetupError};
use crate::pool::{PoolMode, Registry};
use crate::session::login::{self, Arrival, Failure, Inquiries, Login, LoginContext, Route};
use crate::session::{Console, Findings, House, Relay, Session, admit, turn_away};
use crate::telemetry::log_connection;
use crate::wire::startup::CancelRequest;

/// Connections beyond `max_clients` that may exist while they say who they are: cancel requests must get through, and a
/// refusal has to be told.
const UNIDENTIFIED_MAX: usize = 256;
/// Pause after accept() failed, as it does when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every new connection is met with.
#[derive(Debug)]
pub struct Door {
    pub house: Arc<House>,
    login: RwLock<Arc<LoginContext>>,
    /// In the order of the settings.
    upstream_tls: Mutex<Vec<Arc<TlsContext>>>,
    pub(super) console: Arc<dyn Console>,
    /// Clients, and those who have not said yet that they are.
    pub(super) connections: Arc<AtomicUsize>,
    /// The process that was taken over from; it may have clients yet.
    pub(super) predecessor: OnceLock<Cancels>,
}

impl Door {
    pub(super) fn new(settings: &Arc<Settings>, console: Arc<dyn Console>) -> Result<Self, StartError> {
        let keys = Arc::new(KeyCache::new().map_err(|_| no_randomness())?);
        let secret = Arc::new(ProcessSecret::generate().map_err(|_| no_randomness())?);
        let Tls { upstreams, clients } = Tls::load(settings, None)?;
        let inquiries = Arc::new(Inquiries::new(settings, &upstreams, &keys));
        let registry = Arc::new(Registry::new(settings, &upstreams, Arc::clone(&keys)));
        let (guard, introductions) = (Arc::default(), Arc::default());
        let login = LoginContext { settings: Arc::clone(settings), tls: clients, secret, keys, inquiries, guard, introductions };
        let (settings, lint) = (Live::new(Arc::clone(settings)), RwLock::new(Findings::wanted(settings.lint)));
        let (startups, pools) = (Default::default(), Default::default());
        let house = Arc::new(House { settings, registry, sessions: Arc::default(), startups, pools, lint });
        Arc::clone(&console).open(&house);
        let (login, upstream_tls) = (RwLock::new(Arc::new(login)), Mutex::new(upstreams));
        Ok(Self { house, login, upstream_tls, console, connections: Arc::default(), predecessor: OnceLock::new() })
    }

    /// Works by other settings from now on, or not at all: certificates are read before anything is changed. Reads files:
    /// not for a data worker.
    ///
    /// # Errors
    /// A certificate that cannot be read.
    pub(super) fn adopt(&self, settings: &Arc<Settings>) -> Result<(), StartError> {
        let mut upstream_tls = self.upstream_tls.lock();
        let before = Arc::clone(&self.login.read());
        let Tls { upstreams, clients } = Tls::load(settings, Some((&before, &upstream_tls)))?;
        let inquiries = Arc::new(before.inquiries.next(settings, &upstreams, &before.keys));
        // In this order: whoever logs in by what was before finds the pools as they are now, and is checked there.
        self.house.registry.adopt(settings, &upstreams);
        self.house.settings.set(Arc::clone(settings));
        if before.settings.lint != settings.lint {
            *self.house.lint.write() = Findings::wanted(settings.lint);
        }
        let (settings, introductions) = (Arc::clone(settings), Arc::default());
        let next = LoginContext { settings, tls: clients, inquiries, introductions, ..LoginContext::clone(&before) };
        *self.login.write() = Arc::new(next);
        *upstream_tls = upstreams;
        Ok(())
    }

    /// What comes of a connection: a session, or nothing more.
    async fn welcome(self: Arc<Self>, socket: Socket, mode: PoolMode, local: Option<SocketAddr>) -> Option<Box<Relay>> {
        let context = Arc::clone(&self.login.read());
        let timeouts = &context.settings.timeouts;
        let arrival = match login::greet(socket, &context).await {
            Ok(arrival) => arrival,
            // It has been told, and it has been logged.
            Err(failure) => {
                self.refused(&failure);
                return None;
            }
        };
        match arrival {
            Arrival::Client(login) => return self.admit(login, mode, local).await,
            Arrival::Gone => {}
            Arrival::Late => {
                self.house.registry.telemetry().logins.timed_out.one();
                tracing::info!("a client did not log in within {:?}", timeouts.client_login);
            }
            Arrival::Cancel(request, mut stream) => {
                let passed_on = async {
                    self.cancel(request).await;
                    // Closed in order: libpq takes the end of TLS without a goodbye for a failed cancel.
                    let _ = tokio::time::timeout(timeouts.recovery, stream.shutdown()).await;
                };
                Box::pin(passed_on).await;
            }
            // Whoever comes when all places are taken gets here through those that are left for people who say who they are.
            Arrival::Console(login) => {
                let console = Arc::clone(&self.console).serve(Arc::clone(&self.house), *login);
                drop(context);
                console.await;
            }
        }
        None
    }

    async fn admit(&self, login: Box<Login>, mode: PoolMode, local: Option<SocketAddr>) -> Option<Box<Relay>> {
        let (Route { project, user, database, .. }, peer) = (&login.who.route, login.stream.peer());
        let settings = self.house.settings.get();
        let (log, project) = (settings.log.connections, &project.name);
        log_connection!(log, user, database, project, mode = mode.as_str(), %peer, "client logged in");
        let limit = settings.limits.max_clients;
        if self.house.sessions.len() >= limit {
            self.count_refusal(Fault::Pooler, SqlState::TOO_MANY_CONNECTIONS);
            Box::pin(turn_away(*login, &too_many(limit, settings.error_texts), &settings)).await;
            return None;
        }
        let logins = &self.house.registry.telemetry().logins;
        // Why not, has been counted.
        let admitted = admit(login, mode, local, &self.house).await.ok();
        if admitted.is_some() { &logins.accepted } else { &logins.refused }.one();
        admitted
    }

    /// Whoever goes without a word, as a port scan or a health check does, was not refused anything.
    fn refused(&self, failure: &Failure) {
        if let Some(told) = &failure.told {
            self.count_refusal(failure.fault, told.code);
        }
    }

    fn count_refusal(&self, fault: Fault, code: SqlState) {
        let telemetry = self.house.registry.telemetry();
        telemetry.logins.refused.one();
        telemetry.errors.count(fault, code.as_str().as_bytes());
    }

    /// Passes it on if the key is right. Nothing more is read, and nothing answered (trap 40).
    pub(super) async fn cancel(&self, request: CancelRequest) {
        match self.house.sessions.find(request.pid.cast_unsigned(), &request.key) {
            Some(session) => session.cancel().await,
            None if self.console.cancel(&request) => {}
            None => match self.predecessor.get() {
                Some(predecessor) => _ = predecessor.try_send(request),
                None => tracing::debug!(pid = request.pid, "a cancel request for a session that is not there"),
            },
        }
    }
}

/// One connection, counted until it is dropped.
struct Connection(Arc<AtomicUsize>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Accepts until it is aborted. Every connection runs as a task of its own: what breaks there breaks there alone.
pub(super) async fn accept(listener: Listener, door: Arc<Door>) {
    let local = listener.local();
    let spawner = Spawner::current();
    let Listener { mode, socket: acceptor, .. } = listener;
    loop {
        let socket = match acceptor.accept().await {
            Ok(socket) => socket,
            Err(error) if is_the_clients(&error) => continue,
            Err(error) => {
                tracing::error!(%error, "cannot accept clients for the moment; are file descriptors used up?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let most = door.house.settings.get().limits.max_clients + UNIDENTIFIED_MAX;
        if door.connections.fetch_add(1, Ordering::AcqRel) >= most {
            drop(Connection(Arc::clone(&door.connections)));
            continue;
        }
        let counted = Connection(Arc::clone(&door.connections));
        spawner.spawn(Session::arriving(Arc::clone(&door).welcome(socket, mode, local), counted));
    }
}

/// The connection went before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted | Kind::NotConnected | Kind::InvalidInput
    )
}

fn too_many(limit: usize, texts: ErrorTexts) -> PgError {
    if texts == ErrorTexts::Supabase {
        return Hosted::Clients { limit }.into();
    }
    PgError::fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        .with_detail(format!("{limit} clients are connected."))
        .with_hint("Close clients that are not needed, or raise limits.max_clients.")
}

/// What of TLS the settings name, both ways.
struct Tls {
    /// In the order of the settings.
    upstreams: Vec<Arc<TlsContext>>,
    clients: Option<Arc<ServerTls>>,
}

impl Tls {
    /// What is named as it was `before` is taken from there: it sees to its files by itself, and servers opened with it need
    /// not be replaced.
    fn load(settings: &Settings, before: Option<(&LoginContext, &[Arc<TlsContext>])>) -> Result<Self, StartError> {
        let upstream = |project: &Project| {
            let known = before.and_then(|(context, tls)| {
                let mut all = context.settings.projects.iter().zip(tls);
                all.find(|(known, _)| known.name == project.name && known.upstream.tls == project.upstream.tls)
            });
            known.map_or_else(|| TlsContext::load(&project.upstream.tls).map(Arc::new), |(_, tls)| Ok(Arc::clone(tls)))
        };
        let upstreams = settings.projects.iter().map(|project| upstream(project)).collect::<Result<_, _>>();
        let clients = match before.filter(|(context, _)| context.settings.client_tls == settings.client_tls) {
            Some((context, _)) => context.tls.clone(),
            None => ServerTls::load(&settings.client_tls).map_err(|e| in_client_tls(&e))?.map(Arc::new),
        };
        Ok(Self { upstreams: upstreams.map_err(|e| in_upstream(&e))?, clients })
    }
}

fn in_upstream(error: &TlsSetupError) -> StartError {
    StartError::new(error.to_string(), "Correct sslrootcert, sslcert or sslkey in the upstream's URL.")
}

fn in_client_tls(error: &TlsSetupError) -> StartError {
    let hint = match error {
        TlsSetupError::NotKept { .. } => {
            "Set state_dir to a directory that this user may write to, or give a certificate with client_tls.certificate and \
             client_tls.key, or switch TLS off with --client-tls off."
        }
        _ => "Correct client_tls, or switch TLS off with --client-tls off.",
    };
    StartError::new(error.to_string(), hint)
}

fn no_randomness() -> StartError {
    StartError::new("the system gives no random bytes", "Keys and salts cannot do without: look at /dev/urandom.")
}

#[cfg(test)]
mod tests {
    use std::future::Ready;

    use super::*;
    use crate::session::{About, Handle};

    fn returned_bytes<F>(_: impl FnOnce(Arc<Door>, Socket, PoolMode, Option<SocketAddr>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_login_is_no_great_thing_to_move() {
        // It is moved to the heap once. What is rare in it, as TLS and questions to the upstream are, is made when it is needed.
        let login = returned_bytes(Door::welcome);
        assert!(login <= 1536, "a login has {login} bytes");
    }

    #[test]
    fn an_idle_client_is_small() {
        // Ten thousand of them are held at once. Tokio adds 104 bytes and rounds up to lines of 128: this is one of them.
        let task = size_of::<Session<Ready<Option<Box<Relay>>>, Connection>>();
        assert!(task <= 24, "the task has {task} bytes");
        assert!(size_of::<Relay>() <= 384, "the relay has {} bytes", size_of::<Relay>());
        // With two counters in front.
        assert!(16 + size_of::<Handle>() <= 160, "what others know of it has {}", size_of::<Handle>());
        assert!(16 + size_of::<About>() <= 112, "what does not change of it has {}", size_of::<About>());
    }
}
