//! Clients and servers without sockets: what one side says in, what reaches the other out.

use std::sync::Arc;

use super::notation::{from_client, from_server, show_client, show_server};
use crate::error::PgError;
use crate::error::hosted::ErrorTexts;
use crate::wire::exchange::{Bounds, Broken, Catalog, ClientSide, Isolation, Mode, NamedStatements, ServerSide, Unleased};
use crate::wire::extended::write_message;
use crate::wire::params::Params;

/// Pieces that the bytes of both sides come in, in bytes.
const CHUNKS: [usize; 5] = [usize::MAX, 1, 2, 3, 7];

/// Runs a case with every size of pieces.
pub(super) fn in_pieces(case: impl Fn(&mut Rig)) {
    for chunk in CHUNKS {
        eprintln!("in pieces of {chunk} bytes");
        case(&mut Rig::new(chunk));
    }
}

pub(super) const BOUNDS: Bounds = Bounds {
    statement_bytes: 64 * 1024,
    statements_per_client: 100,
    prepared_bytes: 1 << 20,
    statements_per_server: 50,
    texts: ErrorTexts::Postgres,
};

/// Any number of clients and servers of one database.
pub(super) struct Rig {
    chunk: usize,
    pub(super) catalog: Arc<Catalog>,
    pub(super) params: Arc<Params>,
    pub(super) bounds: Bounds,
    pub(super) told: Told,
    clients: Vec<Client>,
    servers: Vec<Server>,
}

/// What turns told their caller so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) fatal: bool,
    pub(super) terminated: bool,
    pub(super) ready: u32,
    pub(super) empties: Vec<Box<[u8]>>,
}

struct Client {
    side: ClientSide,
    input: Vec<u8>,
    server: Option<usize>,
}

struct Server {
    side: ServerSide,
    input: Vec<u8>,
}

impl Rig {
    fn new(chunk: usize) -> Self {
        let catalog = Arc::new(Catalog::default());
        let params =
            catalog.params.intern(Params::from_pairs([("TimeZone", "UTC"), ("application_name", ""), ("is_superuser", "on")]));
        Self { chunk, catalog, params, bounds: BOUNDS, told: Told::default(), clients: Vec::new(), servers: Vec::new() }
    }

    /// A client in transaction mode with a server of its own that nobody has used: the usual start of a case.
    pub(super) fn pair(&mut self) -> (usize, usize) {
        let (client, server) = (self.client(), self.server());
        self.lease(client, server, "", "");
        (client, server)
    }

    pub(super) fn client(&mut self) -> usize {
        let params = Arc::clone(&self.params);
        self.client_with(params, &[])
    }

    pub(super) fn client_with(&mut self, params: Arc<Params>, startup: &[(&str, &str)]) -> usize {
        self.add_client(Mode::Transaction, params, startup)
    }

    pub(super) fn session_client(&mut self) -> usize {
        let params = Arc::clone(&self.params);
        self.add_client(Mode::Session, params, &[])
    }

    fn add_client(&mut self, mode: Mode, params: Arc<Params>, startup: &[(&str, &str)]) -> usize {
        let startup = startup.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let startup = self.catalog.startup(startup, &params);
        let id = self.clients.len() as u64 + 1;
        let side = ClientSide::new(id, mode, Arc::clone(&self.catalog), params, startup, self.bounds);
        self.clients.push(Client { side, input: Vec::new(), server: None });
        self.clients.len() - 1
    }

    pub(super) fn server(&mut self) -> usize {
        let side = ServerSide::new(Arc::clone(&self.params), &self.catalog);
        self.servers.push(Server { side, input: Vec::new() });
        self.servers.len() - 1
    }

    pub(super) fn client_side(&self, client: usize) -> &ClientSide {
        &self.clients[client].side
    }

    pub(super) fn server_side(&self, server: usize) -> &ServerSide {
        &self.servers[server].side
    }

    pub(super) fn server_side_mut(&mut self, server: usize) -> &mut ServerSide {
        &mut self.servers[server].side
    }

    /// The settings with one changed.
    pub(super) fn params_with(&self, name: &str, value: &str) -> Arc<Params> {
        self.catalog.params.change(&self.params, name, value)
    }

    /// `client` takes `server` over; what that sends to each.
    #[track_caller]
    pub(super) fn lease(&mut self, client: usize, server: usize, to_server: &str, to_client: &str) {
        self.clients.iter_mut().filter(|c| c.server == Some(server)).for_each(|c| c.server = None);
        let (mut for_server, mut for_client) = (Vec::new(), Vec::new());
        let (c, s) = (&mut self.clients[client], &mut self.servers[server].side);
        s.take_over(&mut c.side, &mut for_server, &mut for_client);
        c.server = Some(server);
        assert_eq!((show_client(&for_server), show_server(&for_client)), (to_server.into(), to_client.into()), "take_over");
    }

    /// The server is free, goes to another client for a query, and is free again.
    #[track_caller]
    pub(super) fn used_by_another(&mut self, server: usize) {
        let other = self.client();
        assert!(self.servers[server].side.is_idle(), "not free: {:?}", self.servers[server].side);
        self.lease(other, server, "", "");
        self.ask(other, "Q(select 0)", "Q(select 0)", "");
        self.answer(other, "T D(0) C(SELECT 1) Z(I)", "T D(0) C(SELECT 1) Z(I)");
    }

    /// The client says this; what reaches its server, and what we answer at once.
    #[track_caller]
    pub(super) fn ask(&mut self, client: usize, says: &str, to_server: &str, to_client: &str) {
        let (for_server, for_client) = self.ask_bytes(client, &from_client(says)).expect("a client in order");
        assert_eq!((show_client(&for_server), show_server(&for_client)), (to_server.into(), to_client.into()), "{says}");
    }

    /// The same when it goes through unchanged and we have nothing to say.
    #[track_caller]
    pub(super) fn ask_through(&mut self, client: usize, says: &str) {
        self.ask(client, says, says, "");
    }

    /// Bytes for the server and for the client.
    pub(super) fn ask_bytes(&mut self, client: usize, bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Box<PgError>> {
        let mut for_server = Vec::new();
        let for_client = self.ask_bytes_into(client, bytes, &mut for_server)?;
        Ok((for_server, for_client))
    }

    /// Bytes for the client; those for the server also where the client is at fault.
    pub(super) fn ask_bytes_into(
        &mut self,
        client: usize,
        bytes: &[u8],
        for_server: &mut Vec<u8>,
    ) -> Result<Vec<u8>, Box<PgError>> {
        let mut for_client = Vec::new();
        for piece in bytes.chunks(self.chunk.min(bytes.len().max(1))) {
            self.clients[client].input.extend_from_slice(piece);
            self.client_turns(client, for_server, &mut for_client)?;
        }
        Ok(for_client)
    }

    fn client_turns(&mut self, client: usize, for_server: &mut Vec<u8>, for_client: &mut Vec<u8>) -> Result<(), Box<PgError>> {
        let c = &mut self.clients[client];
        let s = &mut self.servers[c.server.expect("a lease")].side;
        loop {
            let mut held = Vec::new();
            let turn = c.side.turn(s, &c.input, &mut held, for_client);
            for_server.append(&mut held);
            let turn = turn?;
            self.told.terminated |= turn.terminated;
            for_server.extend_from_slice(&c.input[turn.direct]);
            c.input.drain(..turn.consumed);
            let Some(name) = turn.empties else { return Ok(()) };
            self.told.empties.push(name);
        }
    }

    /// The client says this without a server; what we answer, and what it wants then.
    #[track_caller]
    pub(super) fn ask_unleased(&mut self, client: usize, says: &str, to_client: &str, wants: Unleased) {
        let (shown, wanted) = self.unleased_bytes(client, &from_client(says)).expect("a client in order");
        assert_eq!((shown.as_str(), wanted), (to_client, wants), "{says}");
    }

    pub(super) fn unleased_bytes(&mut self, client: usize, bytes: &[u8]) -> Result<(String, Unleased), Box<PgError>> {
        let c = &mut self.clients[client];
        let mut for_client = Vec::new();
        let mut wants = Unleased::More;
        let pieces = bytes.chunks(self.chunk.min(bytes.len().max(1)));
        for piece in pieces.chain(bytes.is_empty().then_some(bytes)) {
            c.input.extend_from_slice(piece);
            let (taken, wanted) = c.side.turn_unleased(&c.input, &mut for_client)?;
            c.input.drain(..taken);
            wants = wanted;
        }
        Ok((show_server(&for_client), wants))
    }

    /// The request that comes next is refused.
    #[track_caller]
    pub(super) fn refuse(&mut self, client: usize, error: &str, to_client: &str) {
        let mut for_client = Vec::new();
        self.clients[client].side.refuse(&from_server(error), &mut for_client);
        assert_eq!(show_server(&for_client), to_client);
    }

    /// What is buffered and waits for a server goes to the one the client has now.
    #[track_caller]
    pub(super) fn go_on(&mut self, client: usize, to_server: &str, to_client: &str) {
        let (mut for_server, mut for_client) = (Vec::new(), Vec::new());
        self.client_turns(client, &mut for_server, &mut for_client).expect("a client in order");
        assert_eq!((show_client(&for_server), show_server(&for_client)), (to_server.into(), to_client.into()), "go on");
    }

    /// The server of this client says this; what reaches the client.
    #[track_caller]
    pub(super) fn answer(&mut self, client: usize, says: &str, to_client: &str) {
        let for_client = self.answer_bytes(client, &from_server(says)).unwrap_or_else(|b| panic!("{says}: {b:?}"));
        assert_eq!(show_server(&for_client), to_client, "{says}");
    }

    /// The same when the client gets all of it.
    #[track_caller]
    pub(super) fn answer_through(&mut self, client: usize, says: &str) {
        self.answer(client, says, says);
    }

    pub(super) fn answer_bytes(&mut self, client: usize, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut for_client = Vec::new();
        self.answer_bytes_into(client, bytes, &mut for_client)?;
        Ok(for_client)
    }

    /// What reaches the client also where the server breaks.
    pub(super) fn answer_bytes_into(&mut self, client: usize, bytes: &[u8], for_client: &mut Vec<u8>) -> Result<(), Broken> {
        let c = &mut self.clients[client];
        let s = &mut self.servers[c.server.expect("a lease")];
        for piece in bytes.chunks(self.chunk.min(bytes.len().max(1))) {
            s.input.extend_from_slice(piece);
            let mut held = Vec::new();
            let turn = s.side.turn(&mut c.side, &s.input, &mut held);
            for_client.append(&mut held);
            let turn = turn?;
            self.told.fatal |= turn.fatal;
            self.told.ready += turn.ready;
            for_client.extend_from_slice(&s.input[turn.direct]);
            s.input.drain(..turn.consumed);
        }
        Ok(())
    }

    /// Asked and answered, all of it passing through.
    #[track_caller]
    pub(super) fn round(&mut self, client: usize, says: &str, answers: &str) {
        self.ask_through(client, says);
        self.answer_through(client, answers);
    }

    /// Asked in other words, and all of the answer passing through.
    #[track_caller]
    pub(super) fn round_as(&mut self, client: usize, says: &str, to_server: &str, answers: &str) {
        self.ask(client, says, to_server, "");
        self.answer_through(client, answers);
    }

    #[track_caller]
    pub(super) fn is_idle(&self, server: usize) {
        let side = &self.servers[server].side;
        assert!(side.is_idle(), "{side:?}");
    }

    #[track_caller]
    pub(super) fn is_busy(&self, server: usize) {
        let side = &self.servers[server].side;
        assert!(!side.is_idle(), "{side:?}");
    }

    /// The server is asked what its client left; what of it was sent.
    pub(super) fn probe(&mut self, client: usize, server: usize) -> String {
        let mut sql = Vec::new();
        self.servers[server].side.ask(&mut self.clients[client].side, &mut sql);
        show_client(&sql)
    }

    /// The answer: rows of kind, name and value. What reaches the client.
    pub(super) fn probe_answered(&mut self, client: usize, rows: &[[&str; 3]]) -> Vec<u8> {
        let mut bytes = from_server("C(SET) T");
        for row in rows {
            let mut body = vec![0, 3];
            for column in row {
                body.extend_from_slice(&u32::try_from(column.len()).expect("short").to_be_bytes());
                body.extend_from_slice(column.as_bytes());
            }
            write_message(b'D', &[&body], 0, &mut bytes);
        }
        bytes.extend(from_server("C(SELECT 1) Z(I)"));
        self.answer_bytes(client, &bytes).expect("a server in order")
    }

    pub(super) fn sides(&mut self, client: usize, server: usize) -> (&mut ClientSide, &mut ServerSide) {
        (&mut self.clients[client].side, &mut self.servers[server].side)
    }

    /// The listener's last word for this client was told.
    pub(super) fn returned(&mut self, client: usize) {
        self.clients[client].side.returned();
    }

    /// What brings the client's startup parameters back, if anything has to.
    pub(super) fn restored(&mut self, client: usize, server: usize) -> Option<String> {
        let mut sql = Vec::new();
        let restores = self.servers[server].side.restore_defaults(&mut self.clients[client].side, &mut sql);
        restores.then(|| show_client(&sql))
    }

    pub(super) fn isolate(&mut self, isolation: Isolation) {
        self.catalog = Arc::new(Catalog { isolation, ..Catalog::default() });
    }

    pub(super) fn forget_names(&mut self) {
        self.catalog = Arc::new(Catalog { named_statements: NamedStatements::Forgotten, ..Catalog::default() });
    }
}
