//! With connections to a stand-in for PostgreSQL, which lets in whom it is told to and says nothing more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::auth::key_cache::KeyCache;
use crate::config::{self, Sources};
use crate::net::tls::TlsContext;
use crate::pool::{Outcome, Pool, PoolKey, PoolMode, Registry, Server, StartupKey, Ticket, Want};
use crate::upstream::Credential;
use crate::wire::params::Params;

/// AuthenticationOk, BackendKeyData, ReadyForQuery.
const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\x09Z\0\0\0\x05I";

#[tokio::test]
async fn trap_15_a_server_from_before_is_closed_at_its_release_and_an_idle_one_at_once() {
    let bed = Bed::new(2).await;
    let (leased, idle) = (bed.server().await, bed.server().await);
    let before = leased.handle.id.max(idle.handle.id);
    bed.pool.release(idle);
    bed.pool.reconnect();
    assert_eq!((bed.pool.counts().idle, bed.pool.counts().open, bed.pool.outdated()), (0, 1, 1));
    assert!(bed.pool.is_outdated(&leased));
    bed.pool.release(leased);
    assert_eq!((bed.pool.counts().open, bed.pool.outdated()), (0, 0));
    let next = bed.server().await;
    assert!(next.handle.id > before && !bed.pool.is_outdated(&next));
    let kept = next.handle.id;
    bed.pool.release(next);
    assert_eq!(bed.server().await.handle.id, kept, "and that one is kept");
}

#[tokio::test]
async fn trap_15_whoever_waits_is_not_handed_a_server_from_before() {
    let bed = Bed::new(1).await;
    let leased = bed.server().await;
    let before = leased.handle.id;
    let waiting = bed.queue();
    bed.pool.reconnect();
    bed.pool.release(leased);
    assert!(bed.served(&waiting).await.handle.id > before);
}

#[tokio::test]
async fn trap_15_nor_the_one_that_a_login_under_way_brings() {
    let bed = Bed::closed(1).await;
    let waiting = bed.queue();
    bed.began(1).await;
    bed.pool.reconnect();
    bed.let_in.add_permits(1);
    // The first is closed as it comes, and another is opened.
    bed.began(2).await;
    bed.let_in.add_permits(1);
    let server = bed.served(&waiting).await;
    assert_eq!((bed.pool.is_outdated(&server), bed.pool.outdated(), bed.pool.counts().open), (false, 0, 1));
}

struct Bed {
    pool: Arc<Pool>,
    let_in: Arc<Semaphore>,
    /// Logins that have begun, as permits.
    begun: Arc<Semaphore>,
    startup: StartupKey,
    _registry: Registry,
}

impl Bed {
    async fn new(servers: usize) -> Self {
        let bed = Self::closed(servers).await;
        bed.let_in.add_permits(Semaphore::MAX_PERMITS / 2);
        bed
    }

    /// Nobody is let in yet.
    async fn closed(servers: usize) -> Self {
        let (let_in, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let address = stand_in(&let_in, &begun).await;
        let (registry, pool) = pool_of(address, servers);
        Self { pool, let_in, begun, startup: StartupKey::default(), _registry: registry }
    }

    fn queue(&self) -> Arc<Ticket> {
        let ticket = Arc::default();
        self.pool.queue(&ticket, &self.startup, Waker::noop());
        ticket
    }

    async fn server(&self) -> Box<Server> {
        let nobody = Arc::new(Params::default());
        let want = Want { home: 0, params: &nobody, settings: &nobody, startup: &self.startup };
        match self.pool.try_lease(want) {
            Some(server) => server,
            None => self.served(&self.queue()).await,
        }
    }

    async fn served(&self, ticket: &Ticket) -> Box<Server> {
        loop {
            match ticket.outcome() {
                Outcome::Served(server) => return server,
                Outcome::Refused(refusal) => panic!("{refusal:?}"),
                Outcome::Waiting | Outcome::Notice => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// Waits until so many logins have begun in all, the first of them being number one.
    async fn began(&self, login: usize) {
        self.begun.acquire().await.unwrap_or_else(|_| panic!("login {login}")).forget();
    }
}

fn pool_of(address: SocketAddr, servers: usize) -> (Registry, Arc<Pool>) {
    let flags = [
        ("upstream", format!("postgres://test@{address}/test?sslmode=disable")),
        ("limits.pool_size", servers.to_string()),
        ("client_tls.enabled", "false".to_owned()),
    ];
    let sources = Sources { flags: flags.into(), cores: 1, ..Sources::default() };
    let settings = config::load(&sources).unwrap().settings;
    let project = Arc::clone(&settings.projects[0]);
    let tls = Arc::new(TlsContext::load(&project.upstream.tls).unwrap());
    let registry = Registry::new(&settings, &[tls], Arc::new(KeyCache::new().unwrap()));
    let (project_name, user, database) = (project.name.clone(), "test".to_owned(), "test".to_owned());
    let key = PoolKey { project: project_name, database, user, mode: PoolMode::Transaction };
    let pool = registry.pool(key, &project, Credential::None).unwrap();
    (registry, pool)
}

async fn stand_in(let_in: &Arc<Semaphore>, begun: &Arc<Semaphore>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (let_in, begun) = (Arc::clone(let_in), Arc::clone(begun));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(login(stream, Arc::clone(&let_in), Arc::clone(&begun)));
        }
    });
    address
}

/// Holds the connection until its other side closes it.
async fn login(mut stream: TcpStream, let_in: Arc<Semaphore>, begun: Arc<Semaphore>) -> std::io::Result<()> {
    let length = stream.read_u32().await?;
    let mut packet = vec![0; length as usize - 4];
    stream.read_exact(&mut packet).await?;
    begun.add_permits(1);
    if let Ok(permit) = let_in.acquire().await {
        permit.forget();
    }
    stream.write_all(GREETING).await?;
    stream.read_to_end(&mut packet).await.map(drop)
}
