//! What it costs to get a server and to give it back.
//!
//! Servers are real connections to a stand-in for PostgreSQL, which lets everybody in and then says nothing: a lease looks
//! at the socket, too.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;

use criterion::{Criterion, criterion_group, criterion_main};
use sidepool::auth::key_cache::KeyCache;
use sidepool::config::{self, Sources};
use sidepool::net::tls::TlsContext;
use sidepool::pool::{Outcome, Pool, PoolKey, PoolMode, Registry, Server, StartupKey, Ticket, Want};
use sidepool::upstream::Credential;
use sidepool::wire::params::Params;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// AuthenticationOk, BackendKeyData, ReadyForQuery.
const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\x09Z\0\0\0\x05I";

fn pool(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("lease and release");
    for servers in [1, 20] {
        let bed = Bed::new(&runtime, servers);
        let own = bed.idle[0];
        group.bench_function(format!("own of {servers}"), |bencher| bencher.iter(|| bed.lease(own)));
        group.bench_function(format!("any of {servers}"), |bencher| bencher.iter(|| bed.lease(0)));
    }
    group.finish();

    let bed = Bed::new(&runtime, 1);
    let mut server = Some(bed.pool.try_lease(bed.want(0)).expect("it is idle"));
    let ticket = Arc::new(Ticket::default());
    criterion.bench_function("hand-over to a client that waits", |bencher| {
        bencher.iter(|| {
            bed.pool.queue(&ticket, &bed.startup, Waker::noop());
            bed.pool.release(server.take().expect("the last iteration got it"));
            server = served(&ticket);
        });
    });
}

/// A pool with all its servers open and idle.
struct Bed<'a> {
    runtime: &'a Runtime,
    pool: Arc<Pool>,
    _registry: Registry,
    params: Arc<Params>,
    settings: Arc<Params>,
    startup: StartupKey,
    /// Ids of the servers.
    idle: Vec<u64>,
}

impl<'a> Bed<'a> {
    fn new(runtime: &'a Runtime, servers: usize) -> Self {
        let address = runtime.block_on(stand_in());
        let (registry, pool) = pool_of(address, servers);
        let params = Arc::new(Params::default());
        let mut bed = Self {
            runtime,
            pool,
            _registry: registry,
            params,
            settings: Arc::new(Params::default()),
            startup: StartupKey::default(),
            idle: Vec::new(),
        };
        bed.open(servers);
        bed
    }

    fn open(&mut self, servers: usize) {
        let _inside = self.runtime.enter();
        let tickets: Vec<Arc<Ticket>> = (0..servers).map(|_| Arc::default()).collect();
        tickets.iter().for_each(|ticket| self.pool.queue(ticket, &self.startup, Waker::noop()));
        let open: Vec<_> = tickets.iter().map(|ticket| wait_for(ticket)).collect();
        self.idle.extend(open.iter().map(|server| server.handle.id));
        open.into_iter().for_each(|server| self.pool.release(server));
    }

    fn want(&self, home: u64) -> Want<'_> {
        Want { home, params: &self.params, settings: &self.settings, startup: &self.startup }
    }

    fn lease(&self, home: u64) {
        let server = self.pool.try_lease(black_box(self.want(home))).expect("all are idle");
        self.pool.release(server);
    }
}

fn pool_of(address: SocketAddr, servers: usize) -> (Registry, Arc<Pool>) {
    let flags = [
        ("upstream", format!("postgres://bench@{address}/bench?sslmode=disable")),
        ("limits.pool_size", servers.to_string()),
        ("client_tls.enabled", "false".to_owned()),
    ];
    let sources = Sources { flags: flags.into(), cores: 1, ..Sources::default() };
    let settings = config::load(&sources).expect("the flags are right").settings;
    let project = Arc::clone(&settings.projects[0]);
    let tls = Arc::new(TlsContext::load(&project.upstream.tls).expect("no TLS"));
    let keys = Arc::new(KeyCache::new().expect("random bytes"));
    let registry = Registry::new(&settings, &[tls], keys);
    let key = PoolKey {
        project: project.name.clone(),
        database: "bench".to_owned(),
        user: "bench".to_owned(),
        mode: PoolMode::Transaction,
    };
    let pool = registry.pool(&key, &project, &Credential::None).expect("the project has an upstream");
    (registry, pool)
}

async fn stand_in() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(let_in(stream));
        }
    });
    address
}

/// Holds the connection until its other side closes it.
async fn let_in(mut stream: TcpStream) -> std::io::Result<()> {
    let length = stream.read_u32().await?;
    let mut packet = vec![0; length as usize - 4];
    stream.read_exact(&mut packet).await?;
    stream.write_all(GREETING).await?;
    stream.read_to_end(&mut packet).await.map(drop)
}

fn wait_for(ticket: &Ticket) -> Box<Server> {
    loop {
        if let Some(server) = served(ticket) {
            return server;
        }
        std::thread::yield_now();
    }
}

fn served(ticket: &Ticket) -> Option<Box<Server>> {
    match ticket.outcome() {
        Outcome::Served(server) => Some(server),
        Outcome::Refused(refusal) => panic!("{refusal:?}"),
        Outcome::Waiting | Outcome::Notice => None,
    }
}

criterion_group!(benches, pool);
criterion_main!(benches);
