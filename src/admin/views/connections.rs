//! CLIENTS, SERVERS and SOCKETS: every connection, one by one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{CONNECTION_COLUMNS, SOCKETS, Scene};
use crate::admin::database::shown;
use crate::admin::guest::Guest;
use crate::admin::table::{Cell, Row};
use crate::admin::time::timestamp;
use crate::net::socket::Peer;
use crate::net::stream::TlsFacts;
use crate::pool::{PoolKey, ServerHandle, ServerView, Ticket};
use crate::session::Handle;
use crate::wire::startup::Replication;

/// Those at the console last, as in PgBouncer.
pub(super) fn clients(scene: &Scene<'_>) -> Vec<Row> {
    let waits = waits(scene);
    let sessions = scene.house.sessions.all();
    let clients = sessions.iter().map(|handle| client(scene, handle, &waits));
    clients.chain(scene.desk.guests().iter().map(|guest| at_console(scene, guest))).collect()
}

pub(super) fn servers(scene: &Scene<'_>) -> Vec<Row> {
    let sessions: HashMap<u64, Arc<Handle>> = scene.house.sessions.all().into_iter().map(|h| (h.id, h)).collect();
    let mut pools = scene.house.registry.all();
    pools.sort_by_cached_key(|pool| pool.key.telemetry_name());
    let row = |key: &PoolKey, view: &ServerView| {
        let holder = view.handle.holder();
        let session = holder.and_then(|id| sessions.get(&id));
        server(scene, key, view, session)
    };
    pools.iter().flat_map(|pool| pool.servers().iter().map(|view| row(&pool.key, view)).collect::<Vec<_>>()).collect()
}

pub(super) fn sockets(scene: &Scene<'_>) -> Vec<Row> {
    let buffers = SOCKETS.len() - CONNECTION_COLUMNS;
    let all = clients(scene).into_iter().chain(servers(scene));
    // An idle connection holds no buffer, and what a busy one holds is its task's own.
    all.map(|row| row.into_iter().chain(std::iter::repeat_n(Cell::Number(0), buffers)).collect()).collect()
}

pub(super) fn active_sockets(scene: &Scene<'_>) -> Vec<Row> {
    let is_active = |row: &Row| row.get(4) == Some(&"active".into());
    sockets(scene).into_iter().filter(is_active).collect()
}

/// How long who waits has waited.
pub(super) type Waits = HashMap<*const Ticket, Duration>;

fn waits(scene: &Scene<'_>) -> Waits {
    let queues = scene.house.registry.all().into_iter().map(|pool| pool.queue_now());
    queues.flatten().map(|waiting| (Arc::as_ptr(&waiting.ticket), waiting.waited)).collect()
}

fn client(scene: &Scene<'_>, handle: &Handle, waits: &Waits) -> Row {
    let about = &handle.about;
    let waited = waits.get(&Arc::as_ptr(&handle.ticket)).copied();
    let server = handle.server();
    let state = match (waited, &server) {
        (Some(_), _) => "waiting",
        (None, Some(_)) => "active",
        (None, None) => "idle",
    };
    let waited = waited.unwrap_or_default();
    let replication = match about.replication {
        Replication::Off => "none",
        Replication::Physical => "physical",
        Replication::Database => "logical",
    };
    Connection {
        kind: "C",
        pool: &about.pool,
        replication,
        state,
        peer: about.peer(),
        local: about.local(),
        connected: timestamp(about.connected_at),
        requested: timestamp(about.connected_at + handle.leased_after()),
        waited,
        close_needed: false,
        name: client_name(handle.id),
        link: server.map(|server| server_name(&server)).unwrap_or_default(),
        pid: process_of(about.peer()),
        tls: about.tls,
        application: handle.application_name(),
        statements: handle.prepared_statements(),
        id: handle.id,
    }
    .row(scene)
}

fn at_console(scene: &Scene<'_>, guest: &Guest) -> Row {
    let about = &guest.about;
    Connection {
        kind: "C",
        pool: &about.pool,
        replication: "none",
        state: if guest.is_busy() { "active" } else { "idle" },
        peer: about.peer(),
        local: about.local(),
        connected: timestamp(about.connected_at),
        requested: timestamp(about.connected_at),
        waited: Duration::ZERO,
        close_needed: false,
        name: client_name(guest.id),
        link: String::new(),
        pid: process_of(about.peer()),
        tls: about.tls,
        application: guest.application.clone(),
        statements: 0,
        id: guest.id,
    }
    .row(scene)
}

fn process_of(peer: Peer) -> i32 {
    match peer {
        Peer::Unix { pid } => pid.unwrap_or(0),
        Peer::Tcp(_) => 0,
    }
}

fn server(scene: &Scene<'_>, key: &PoolKey, view: &ServerView, session: Option<&Arc<Handle>>) -> Row {
    let facts = &view.handle.facts;
    let requested = session.map_or(facts.opened_at, |s| s.about.connected_at + s.leased_after());
    Connection {
        kind: "S",
        pool: key,
        replication: "none",
        state: view.state.as_str(),
        peer: facts.peer,
        local: facts.local,
        connected: timestamp(facts.opened_at),
        requested: timestamp(requested),
        waited: Duration::ZERO,
        close_needed: view.is_outdated,
        name: server_name(&view.handle),
        link: session.map(|session| client_name(session.id)).unwrap_or_default(),
        pid: view.handle.key.pid,
        tls: facts.tls,
        application: session.map(|session| session.application_name()).unwrap_or_default(),
        statements: view.handle.prepared_statements(),
        id: view.handle.id,
    }
    .row(scene)
}

/// In place of PgBouncer's pointers, which are there to find `link` among them.
fn client_name(id: u64) -> String {
    format!("C{id}")
}

fn server_name(server: &ServerHandle) -> String {
    format!("S{}", server.id)
}

struct Connection<'a> {
    kind: &'static str,
    pool: &'a PoolKey,
    replication: &'static str,
    state: &'static str,
    peer: Peer,
    local: Option<SocketAddr>,
    connected: String,
    requested: String,
    waited: Duration,
    close_needed: bool,
    name: String,
    link: String,
    pid: i32,
    tls: Option<TlsFacts>,
    application: String,
    statements: usize,
    id: u64,
}

impl Connection<'_> {
    fn row(self, scene: &Scene<'_>) -> Row {
        let (addr, port) = match self.peer {
            Peer::Tcp(address) => (address.ip().to_canonical().to_string(), address.port()),
            Peer::Unix { .. } => ("unix".to_owned(), 0),
        };
        let (local_addr, local_port) =
            self.local.map_or(("unix".to_owned(), 0), |local| (local.ip().to_canonical().to_string(), local.port()));
        vec![
            self.kind.into(),
            self.pool.user.as_str().into(),
            shown(scene.settings, &self.pool.project, &self.pool.database).into(),
            self.replication.into(),
            self.state.into(),
            addr.into(),
            usize::from(port).into(),
            local_addr.into(),
            usize::from(local_port).into(),
            self.connected.into(),
            self.requested.into(),
            self.waited.as_secs().into(),
            u64::from(self.waited.subsec_micros()).into(),
            self.close_needed.into(),
            self.name.into(),
            self.link.into(),
            u64::from(self.pid.unsigned_abs()).into(),
            self.tls.map(shown_tls).unwrap_or_default().into(),
            self.application.into(),
            self.statements.into(),
            self.id.into(),
        ]
    }
}

fn shown_tls(facts: TlsFacts) -> String {
    format!("{:?}/{:?}", facts.version, facts.cipher).replace("TLSv1_", "TLSv1.")
}
