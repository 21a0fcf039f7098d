//! A pool with connections to a stand-in for PostgreSQL, which lets in whom it is told to, and gives a sign of life.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::auth::key_cache::KeyCache;
use crate::config::{self, Project, Settings, Sources};
use crate::net::tls::TlsContext;
use crate::pool::{Outcome, Pool, PoolKey, PoolMode, Registry, Server, StartupKey, Ticket, Want};
use crate::upstream::Credential;
use crate::wire::params::Params;

/// AuthenticationOk, BackendKeyData, ReadyForQuery.
const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\x09Z\0\0\0\x05I";
/// EmptyQueryResponse, ReadyForQuery.
const NOTHING: &[u8] = b"I\0\0\0\x04Z\0\0\0\x05I";

pub(in crate::pool) struct Bed {
    pub(in crate::pool) pool: Arc<Pool>,
    pub(in crate::pool) registry: Registry,
    pub(in crate::pool) upstream: StandIn,
    settings: Arc<Settings>,
    tls: Arc<TlsContext>,
    project: Arc<Project>,
    startup: StartupKey,
}

impl Bed {
    /// Everybody is let in.
    pub(in crate::pool) async fn new(servers: usize) -> Self {
        Self::with(servers, &[]).await
    }

    pub(in crate::pool) async fn with(servers: usize, flags: &[(&'static str, &str)]) -> Self {
        let bed = Self::closed_with(servers, flags).await;
        bed.upstream.open();
        bed
    }

    /// Nobody is let in yet.
    pub(in crate::pool) async fn closed(servers: usize) -> Self {
        Self::closed_with(servers, &[]).await
    }

    async fn closed_with(servers: usize, flags: &[(&'static str, &str)]) -> Self {
        let upstream = StandIn::default();
        let address = upstream.listen().await;
        Self::at(address, upstream, servers, flags)
    }

    /// Nothing listens where the upstream should be.
    pub(in crate::pool) async fn dead() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        Self::at(address, StandIn::default(), 1, &[])
    }

    fn at(address: SocketAddr, upstream: StandIn, servers: usize, flags: &[(&'static str, &str)]) -> Self {
        let own = [
            ("upstream", format!("postgres://test@{address}/test?sslmode=disable")),
            ("limits.pool_size", servers.to_string()),
            ("client_tls.enabled", "false".to_owned()),
        ];
        let flags = own.into_iter().chain(flags.iter().map(|(key, value)| (*key, (*value).to_owned()))).collect();
        let sources = Sources { flags, cores: 1, ..Sources::default() };
        let settings = config::load(&sources).unwrap().settings;
        let project = Arc::clone(&settings.projects[0]);
        let tls = Arc::new(TlsContext::load(&project.upstream.tls).unwrap());
        let registry = Registry::new(&settings, &[Arc::clone(&tls)], Arc::new(KeyCache::new().unwrap()));
        let pool = pool_of(&registry, &project, "test");
        Self { pool, registry, upstream, settings, tls, project, startup: StartupKey::default() }
    }

    /// The pool of another user of the same upstream.
    pub(in crate::pool) fn pool_of(&self, user: &str) -> Arc<Pool> {
        pool_of(&self.registry, &self.project, user)
    }

    /// A reload removes the project, and another brings it back.
    pub(in crate::pool) fn remove_and_restore(&self) {
        let without = Settings { projects: Vec::new(), ..Settings::clone(&self.settings) };
        self.registry.adopt(&Arc::new(without), &[]);
        self.registry.adopt(&self.settings, std::slice::from_ref(&self.tls));
    }

    pub(in crate::pool) fn queue(&self) -> Arc<Ticket> {
        self.queue_in(&self.pool)
    }

    pub(in crate::pool) fn queue_in(&self, pool: &Arc<Pool>) -> Arc<Ticket> {
        let ticket = Arc::default();
        pool.queue(&ticket, &self.startup, Waker::noop());
        ticket
    }

    pub(in crate::pool) async fn server(&self) -> Box<Server> {
        let nobody = Arc::new(Params::default());
        let want = Want { home: 0, params: &nobody, settings: &nobody, startup: &self.startup };
        match self.pool.try_lease(want) {
            Some(server) => server,
            None => self.served(&self.queue()).await,
        }
    }

    pub(in crate::pool) async fn served(&self, ticket: &Ticket) -> Box<Server> {
        loop {
            match ticket.outcome() {
                Outcome::Served(server) => return server,
                Outcome::Refused(refusal) => panic!("{refusal:?}"),
                Outcome::Waiting | Outcome::Notice => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// Waits until so many logins have begun in all, the first of them being number one.
    pub(in crate::pool) async fn began(&self, login: usize) {
        self.upstream.begun.acquire().await.unwrap_or_else(|_| panic!("login {login}")).forget();
    }

    /// Awaits a condition that nobody announces.
    pub(in crate::pool) async fn until(&self, condition: impl Fn(&Pool) -> bool) {
        while !condition(&self.pool) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn pool_of(registry: &Registry, project: &Arc<Project>, user: &str) -> Arc<Pool> {
    let (user, database) = (user.to_owned(), "test".to_owned());
    let key = PoolKey { project: project.name.clone(), database, user, mode: PoolMode::Transaction };
    registry.pool(&key, project, &Credential::None).unwrap()
}

/// What listens in the place of PostgreSQL.
#[derive(Clone)]
pub(in crate::pool) struct StandIn {
    let_in: Arc<Semaphore>,
    /// Logins that have begun, as permits.
    begun: Arc<Semaphore>,
    /// An ErrorResponse for whoever comes.
    refuses: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Default for StandIn {
    fn default() -> Self {
        Self { let_in: Arc::new(Semaphore::new(0)), begun: Arc::new(Semaphore::new(0)), refuses: Arc::default() }
    }
}

impl StandIn {
    /// For everybody.
    pub(in crate::pool) fn open(&self) {
        self.let_in.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    pub(in crate::pool) fn let_in(&self, logins: usize) {
        self.let_in.add_permits(logins);
    }

    /// With FATAL, until told otherwise.
    pub(in crate::pool) fn refuse(&self, sqlstate: &str, message: &str) {
        let body = format!("SFATAL\0VFATAL\0C{sqlstate}\0M{message}\0\0");
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        *self.refuses.lock() = Some([b"E", &length[..], body.as_bytes()].concat());
    }

    pub(in crate::pool) fn refuse_no_longer(&self) {
        *self.refuses.lock() = None;
    }

    async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let own = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().login(stream));
            }
        });
        address
    }

    /// Holds the connection until its other side closes it.
    async fn login(self, mut stream: TcpStream) -> std::io::Result<()> {
        let length = stream.read_u32().await?;
        let mut packet = vec![0; length as usize - 4];
        stream.read_exact(&mut packet).await?;
        let refusal = self.refuses.lock().clone();
        self.begun.add_permits(1);
        if let Some(refusal) = refusal {
            return stream.write_all(&refusal).await;
        }
        if let Ok(permit) = self.let_in.acquire().await {
            permit.forget();
        }
        stream.write_all(GREETING).await?;
        loop {
            match stream.read(&mut packet).await? {
                0 => return Ok(()),
                read if packet[..read].starts_with(b"Q") => stream.write_all(NOTHING).await?,
                _ => {}
            }
        }
    }
}
