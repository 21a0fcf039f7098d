//! Clients and one server without sockets, whose buffers last from one transaction to the next as a session's do.

#![allow(unreachable_pub, dead_code, reason = "each of its users is a crate of its own, and needs its own part")]

use std::sync::Arc;

use sidepool::error::hosted::ErrorTexts;
use sidepool::wire::exchange::{Bounds, Catalog, ClientSide, Mode, ServerSide};
use sidepool::wire::params::Params;

const BOUNDS: Bounds = Bounds {
    statement_bytes: 64 * 1024,
    statements_per_client: 100,
    prepared_bytes: 1 << 20,
    statements_per_server: 100,
    texts: ErrorTexts::Postgres,
};

/// A tagged message.
pub fn message(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len() + 4).expect("messages here are short");
    [&[tag][..], &length.to_be_bytes(), &body].concat()
}

/// A row with one column of this size, in bytes.
pub fn row(size: u32) -> Vec<u8> {
    message(b'D', &[&1_u16.to_be_bytes(), &size.to_be_bytes(), &vec![b'7'; size as usize]])
}

/// A client's request and the server's answer to it.
pub struct Transaction {
    pub request: Vec<u8>,
    pub answer: Vec<u8>,
}

impl Transaction {
    /// pgbench's select, as one simple query.
    pub fn simple() -> Self {
        let request = message(b'Q', &[b"SELECT abalance FROM pgbench_accounts WHERE aid = 52341;\0"]);
        Self { request, answer: [description(), row(4), complete()].concat() }
    }

    /// pgbench's insert, which may use a sequence.
    pub fn insert() -> Self {
        let request = message(b'Q', &[b"INSERT INTO pgbench_history (tid, bid, aid, delta) VALUES (1, 2, 3, 4);\0"]);
        Self { request, answer: [message(b'C', &[b"INSERT 0 1\0"]), message(b'Z', &[b"I"])].concat() }
    }

    /// The parse of a named statement: what comes once, before [`prepared`](Self::prepared).
    pub fn preparing() -> Self {
        let parse = message(b'P', &[b"P0_1\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0", &0_u16.to_be_bytes()]);
        Self { request: [parse, message(b'S', &[])].concat(), answer: [message(b'1', &[]), message(b'Z', &[b"I"])].concat() }
    }

    /// pgbench's select of that statement.
    pub fn prepared() -> Self {
        let bind = message(b'B', &[b"\0P0_1\0", &[0, 0, 0, 1], &5_u32.to_be_bytes(), b"52341", &[0, 0]]);
        let execute = message(b'E', &[b"\0", &0_u32.to_be_bytes()]);
        let request = [bind, message(b'D', &[b"P\0"]), execute, message(b'S', &[])].concat();
        Self { request, answer: [message(b'2', &[]), description(), row(4), complete()].concat() }
    }

    /// The same, after the server has set the parameter that its new client has otherwise than its last.
    pub fn after_setting(mut self, name: &str, value: &str) -> Self {
        let status = message(b'S', &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"]);
        self.answer = [message(b'C', &[b"SET\0"]), status, message(b'Z', &[b"I"]), self.answer].concat();
        self
    }
}

fn description() -> Vec<u8> {
    let int4 = [&[0; 6][..], &23_u32.to_be_bytes(), &4_u16.to_be_bytes(), &[0xff; 4], &[0; 2]].concat();
    message(b'T', &[&1_u16.to_be_bytes(), b"abalance\0", &int4])
}

fn complete() -> Vec<u8> {
    [message(b'C', &[b"SELECT 1\0"]), message(b'Z', &[b"I"])].concat()
}

/// Clients of one database that share one server, in transaction mode.
pub struct Turns {
    pub clients: Vec<ClientSide>,
    pub server: ServerSide,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

impl Turns {
    /// One client for each of these values of `application_name`.
    pub fn new(names: &[&str]) -> Self {
        let catalog = Arc::new(Catalog::default());
        let pairs = [("TimeZone", "UTC"), ("DateStyle", "ISO, MDY"), ("application_name", ""), ("is_superuser", "on")];
        let params = catalog.params.intern(Params::from_pairs(pairs));
        let client = |(index, name): (usize, &&str)| {
            let own = catalog.params.change(&params, "application_name", name);
            let startup = catalog.startup(Vec::new(), &own);
            ClientSide::new(index as u64 + 1, Mode::Transaction, Arc::clone(&catalog), own, startup, BOUNDS)
        };
        let clients = names.iter().enumerate().map(client).collect();
        Self { clients, server: ServerSide::new(params, &catalog), to_server: Vec::new(), to_client: Vec::new() }
    }

    /// From lease to release; bytes that went to the server and to the client.
    pub fn run(&mut self, client: usize, transaction: &Transaction) -> (usize, usize) {
        let asked = self.ask(client, &transaction.request);
        let told = self.answer(client, &transaction.answer);
        assert!(self.server.is_idle(), "the server may change hands");
        (asked, told)
    }

    /// The client takes the server over and says this; bytes that went to the server.
    pub fn ask(&mut self, client: usize, request: &[u8]) -> usize {
        let (client, server) = (&mut self.clients[client], &mut self.server);
        self.to_server.clear();
        self.to_client.clear();
        server.take_over(client, &mut self.to_server, &mut self.to_client);
        let turn = client.turn(server, request, &mut self.to_server, &mut self.to_client).expect("requests are in order");
        assert_eq!(turn.consumed, request.len());
        self.to_server.len() + turn.direct.len()
    }

    /// The server says this to the client that holds it; bytes that went to the client.
    pub fn answer(&mut self, client: usize, answer: &[u8]) -> usize {
        let turn = self.server.turn(&mut self.clients[client], answer, &mut self.to_client).expect("answers are in order");
        assert_eq!(turn.consumed, answer.len());
        self.to_client.len() + turn.direct.len()
    }
}
