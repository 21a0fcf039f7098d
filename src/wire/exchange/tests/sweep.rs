//! Many clients on few servers, step by step in an order made of a seed: each client hears, byte for byte, what a server
//! of its own would say to it.
//!
//! `SIDEPOOL_SWEEP=n` runs that seed alone, `SIDEPOOL_SWEEP=a..b` those; `SIDEPOOL_SWEEP_TRACE=1` shows what passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::model::{Backend, is_from_sql};
use super::notation::{from_client, show_client, show_server};
use super::rng::Rng;
use super::script::{Pins, script};
use super::sql::INITIAL;
use crate::error::hosted::ErrorTexts;
use crate::wire::exchange::{Bounds, Catalog, ClientSide, Mode, ServerSide, Unleased};
use crate::wire::names::Held;
use crate::wire::params::Params;
use crate::wire::plan::Status;
use crate::wire::sql::Leaves;
use crate::wire::statement::server_name;

/// Seeds of a normal run, and of one in which every script is broken off after each of its messages.
const SEEDS: u64 = 1000;
const BROKEN_SEEDS: u64 = 50;
/// Steps of a world; none of them has ever needed a tenth of it.
const STEPS_MAX: usize = 200_000;

/// Statements that one message of the scripts needs at most: they have to be there together, whatever the limit.
const NEEDED_AT_ONCE: usize = 2;

/// Rounds that winding up takes at most: what is owed, the rest of a failed batch, what is doubtful.
const WINDINGS_MAX: usize = 3;

struct Client {
    side: ClientSide,
    words: Vec<String>,
    /// What it has still to send, and what of it has come in and waits.
    unsent: Vec<u8>,
    input: Vec<u8>,
    heard: Vec<u8>,
    state: State,
    /// It goes when it has so many bytes left to send.
    goes_at: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unleased,
    Leased(usize),
    /// Its server ended it.
    Gone,
    /// Without a word.
    Left,
}

struct Server {
    side: ServerSide,
    backend: Backend,
    /// On the way to the backend.
    to_backend: Vec<u8>,
    /// A message of the backend's that has not come in full.
    input: Vec<u8>,
    /// Whose session state the backend has.
    tenant: Option<usize>,
    /// Something was said to it or by it since it was looked at last.
    touched: bool,
}

impl Client {
    fn has_ended(&self) -> bool {
        matches!(self.state, State::Gone | State::Left)
    }
}

impl Server {
    fn hear(&mut self, bytes: &[u8], flushes: bool) {
        self.backend.hear(bytes);
        if flushes {
            self.backend.flush();
        }
        self.touched = true;
    }

    fn has_heard_all(&self) -> bool {
        self.to_backend.is_empty() && self.backend.unread().is_empty()
    }
}

struct World {
    rng: Rng,
    catalog: Arc<Catalog>,
    clients: Vec<Client>,
    servers: Vec<Server>,
    next_id: u64,
    bounds: Bounds,
    /// The largest piece that bytes come in.
    grain: usize,
}

impl World {
    fn new(seed: u64, servers: usize) -> Self {
        let mut rng = Rng::new(seed);
        let statements_per_server = if rng.one_in(3) { 1 + rng.below(4) as u32 } else { 50 };
        let grain = [2, 7, 40, 200, 1000][rng.below(5)];
        let bounds = Bounds {
            statement_bytes: 4096,
            statements_per_client: 100,
            prepared_bytes: 1 << 20,
            statements_per_server,
            texts: ErrorTexts::Postgres,
        };
        let catalog = Arc::new(Catalog::default());
        let mut world = Self { rng, catalog, clients: Vec::new(), servers: Vec::new(), next_id: 0, bounds, grain };
        (0..servers).for_each(|_| {
            let server = world.open();
            world.servers.push(server);
        });
        world
    }

    fn params(&self) -> Arc<Params> {
        self.catalog.params.intern(Params::from_pairs(INITIAL))
    }

    fn open(&self) -> Server {
        let side = ServerSide::new(self.params(), &self.catalog);
        Server { side, backend: Backend::new(), to_backend: Vec::new(), input: Vec::new(), tenant: None, touched: true }
    }

    fn enter(&mut self, words: Vec<String>) -> usize {
        self.next_id += 1;
        let catalog = Arc::clone(&self.catalog);
        let params = self.params();
        let startup = catalog.startup(Vec::new(), &params);
        let side = ClientSide::new(self.next_id, Mode::Transaction, catalog, params, startup, self.bounds);
        let unsent = from_client(&words.join(" "));
        let (input, heard) = (Vec::new(), Vec::new());
        self.clients.push(Client { side, words, unsent, input, heard, state: State::Unleased, goes_at: None });
        self.clients.len() - 1
    }

    /// Lets everybody go on until nobody can.
    fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.is_over() {
                return;
            }
            self.step();
            self.check();
        }
        panic!("stuck: {}", self.describe());
    }

    fn run_until_sent(&mut self, client: usize) {
        for _ in 0..STEPS_MAX {
            if self.clients[client].unsent.is_empty() || self.clients[client].has_ended() {
                return;
            }
            self.step();
            self.check();
        }
        panic!("stuck: {}", self.describe());
    }

    fn is_over(&self) -> bool {
        let said = |c: &Client| c.unsent.is_empty() && c.input.is_empty();
        self.clients.iter().all(|c| said(c) || c.has_ended())
            && self.servers.iter().all(|s| s.to_backend.is_empty() && s.input.is_empty() && s.backend.is_silent())
    }

    fn step(&mut self) {
        match self.rng.below(4) {
            0 => {
                let client = self.rng.below(self.clients.len());
                self.hear_client(client);
            }
            1 => {
                let server = self.rng.below(self.servers.len());
                let sent = self.piece(|w| &mut w.servers[server].to_backend);
                let flushes = self.rng.one_in(20);
                self.servers[server].hear(&sent, flushes);
            }
            2 => {
                let server = self.rng.below(self.servers.len());
                self.hear_server(server);
            }
            _ => {
                // Whoever waits for a server tries again.
                let client = self.rng.below(self.clients.len());
                self.turn_client(client);
            }
        }
    }

    /// Some of what waits there, of a size that may be anything.
    fn piece(&mut self, of: impl Fn(&mut Self) -> &mut Vec<u8>) -> Vec<u8> {
        let length = 1 + self.rng.below(self.grain);
        let waiting = of(self);
        waiting.drain(..length.min(waiting.len())).collect()
    }

    fn hear_client(&mut self, client: usize) {
        if self.clients[client].has_ended() {
            return;
        }
        let piece = self.piece(|w| &mut w.clients[client].unsent);
        self.clients[client].input.extend(piece);
        self.turn_client(client);
        let c = &self.clients[client];
        if c.goes_at.is_some_and(|left| c.unsent.len() <= left) {
            self.leave(client);
        }
    }

    /// The client goes, and its server is brought back as the session layer does it.
    fn leave(&mut self, client: usize) {
        let State::Leased(server) = std::mem::replace(&mut self.clients[client].state, State::Left) else { return };
        if self.clients[client].side.owes_bytes() {
            self.servers[server] = self.open();
            return;
        }
        let s = &mut self.servers[server];
        s.backend.hear(&std::mem::take(&mut s.to_backend));
        if s.backend.is_closed() {
            self.servers[server] = self.open();
            return;
        }
        for _ in 0..WINDINGS_MAX {
            let s = &mut self.servers[server];
            s.side.wind_up(&mut s.to_backend);
            self.drain(client, server);
        }
        let s = &mut self.servers[server];
        if s.side.status() != Status::Idle {
            s.side.roll_back(&mut s.to_backend);
            self.drain(client, server);
        }
        let is_back = self.servers[server].side.is_idle() && !self.servers[server].backend.is_closed();
        assert!(is_back, "not brought back: {}", self.describe());
        self.servers[server].touched = true;
    }

    /// Takes what the server still owes, for nobody.
    fn drain(&mut self, client: usize, server: usize) {
        let (c, s) = (&mut self.clients[client], &mut self.servers[server]);
        loop {
            s.backend.hear(&std::mem::take(&mut s.to_backend));
            let said = std::mem::take(s.backend.output());
            s.input.extend_from_slice(&said);
            let turn = s.side.turn(&mut c.side, &s.input, &mut Vec::new()).unwrap_or_else(|b| {
                panic!("{b:?} from {} for nobody", show_server(&s.input));
            });
            s.input.drain(..turn.consumed);
            if said.is_empty() {
                return;
            }
        }
    }

    fn turn_client(&mut self, client: usize) {
        loop {
            let c = &mut self.clients[client];
            match c.state {
                State::Gone | State::Left => return,
                State::Unleased => {
                    let (taken, wants) = c.side.turn_unleased(&c.input, &mut c.heard).expect("a client in order");
                    c.input.drain(..taken);
                    if wants != Unleased::Wants || !self.lease(client) {
                        return;
                    }
                }
                State::Leased(server) => {
                    let s = &mut self.servers[server];
                    let mut held = Vec::new();
                    let turn = c.side.turn(&mut s.side, &c.input, &mut held, &mut c.heard).expect("a client in order");
                    held.extend_from_slice(&c.input[turn.direct]);
                    if !held.is_empty() && std::env::var_os("SIDEPOOL_SWEEP_TRACE").is_some() {
                        eprintln!("c{client} -> s{server}: {}", show_client(&held).replace('\n', ""));
                    }
                    s.to_backend.append(&mut held);
                    s.touched = true;
                    c.input.drain(..turn.consumed);
                    if turn.consumed == 0 || !self.release(client) {
                        return;
                    }
                }
            }
        }
    }

    /// Any free server, whoever had it before.
    fn lease(&mut self, client: usize) -> bool {
        let taken = |server| self.clients.iter().any(|c| c.state == State::Leased(server));
        let free: Vec<usize> = (0..self.servers.len()).filter(|s| !taken(*s)).collect();
        if free.is_empty() {
            return false;
        }
        let server = free[self.rng.below(free.len())];
        let (c, s) = (&mut self.clients[client], &mut self.servers[server]);
        s.side.take_over(&mut c.side, &mut s.to_backend, &mut c.heard);
        c.state = State::Leased(server);
        self.moves_in(client, server);
        true
    }

    /// Once the prelude has run, nothing of another client's session state is there.
    fn moves_in(&mut self, client: usize, server: usize) {
        let (c, s) = (&self.clients[client], &mut self.servers[server]);
        if s.tenant.replace(client).is_some_and(|t| t != client) {
            s.backend.hear(&std::mem::take(&mut s.to_backend));
            // Its default counts as its own once it was asked about.
            let work_mem = c.side.settings().get("work_mem") == Some("8MB");
            let own = super::model::Residue { work_mem, ..super::model::Residue::default() };
            assert_eq!(s.backend.residue, own, "left by another client");
            let names: Vec<_> = s.backend.statements().filter(|n| is_from_sql(n)).collect();
            assert!(names.is_empty(), "{names:?} left by another client");
        }
    }

    /// Whether the server went back.
    fn release(&mut self, client: usize) -> bool {
        let State::Leased(server) = self.clients[client].state else { return false };
        let (c, s) = (&mut self.clients[client], &mut self.servers[server]);
        if !s.side.is_idle() || !s.input.is_empty() || c.side.owes_bytes() {
            return false;
        }
        let held = s.side.held_for(&c.side);
        // Settings are sometimes let go unasked, so that there is something to clean.
        let is_free = held.is_nothing() || (held == Leaves::SETTINGS && self.rng.one_in(3));
        if !is_free {
            if s.side.is_worth_asking() && !c.side.is_waiting() {
                s.side.ask(&mut c.side, &mut s.to_backend);
                s.touched = true;
            }
            return false;
        }
        self.clients[client].state = State::Unleased;
        true
    }

    fn hear_server(&mut self, server: usize) {
        let piece = self.piece(|w| w.servers[server].backend.output());
        let s = &mut self.servers[server];
        s.touched |= !piece.is_empty();
        if !piece.is_empty() && std::env::var_os("SIDEPOOL_SWEEP_TRACE").is_some() {
            eprintln!("   s{server} says {}", String::from_utf8_lossy(&piece).replace('\0', "."));
        }
        s.input.extend(piece);
        let Some(client) = (0..self.clients.len()).find(|c| self.clients[*c].state == State::Leased(server)) else {
            assert!(s.input.is_empty(), "an idle server said {}", show_server(&s.input));
            return;
        };
        let c = &mut self.clients[client];
        let mut held = Vec::new();
        let turn = s.side.turn(&mut c.side, &s.input, &mut held).unwrap_or_else(|b| {
            panic!("{b:?} from {} to client {client}", show_server(&s.input));
        });
        c.heard.append(&mut held);
        c.heard.extend_from_slice(&s.input[turn.direct]);
        s.input.drain(..turn.consumed);
        if s.backend.is_closed() && s.input.is_empty() && s.backend.is_silent() {
            // It said FATAL and closed: so does the session.
            self.clients[client].state = State::Gone;
            self.servers[server] = self.open();
            return;
        }
        self.release(client);
        self.turn_client(client);
    }

    /// What is true after each step.
    fn check(&mut self) {
        for at in 0..self.servers.len() {
            if std::mem::take(&mut self.servers[at].touched) {
                self.check_server(at);
            }
        }
    }

    fn check_server(&mut self, at: usize) {
        let s = &self.servers[at];
        let is_through = s.input.is_empty() && s.backend.is_quiet();
        if s.side.is_idle() {
            // Free to go, and nothing will ever come of what was asked: the one thing that must never be wrong.
            let on_its_way = [s.backend.unread(), &s.to_backend].concat();
            let has_heard_all = show_client(&on_its_way).split(' ').all(|word| word.is_empty() || is_ignored(word));
            assert!(is_through && has_heard_all, "server {at} counts as free: {:?} and {:?}", s.side, s.backend);
            if self.check_statements(s) <= self.bounds.statements_per_server as usize {
                self.servers[at].backend.closes_skipped = 0;
            }
        } else if is_through && s.has_heard_all() && !s.side.is_doubtful() && !s.backend.is_closed() {
            // A batch may have ended its transaction itself, with its Sync still to come.
            if s.side.plan.is_in_batch() {
                return;
            }
            let mid_message = self.clients.iter().any(|c| c.state == State::Leased(at) && c.side.owes_bytes());
            assert!(mid_message, "server {at} has said all, and counts as busy: {:?}", s.side);
        }
    }

    /// How many of ours there are.
    fn check_statements(&self, s: &Server) -> usize {
        let known: Vec<(String, Held)> = s.side.statements.iter().map(|(id, held)| (server_name(id), held)).collect();
        let has = |name: &str| s.backend.statements().any(|n| n == name);
        for (name, held) in &known {
            assert!(*held == Held::Perhaps || has(name), "{name} is counted and not there");
        }
        let ours = || s.backend.statements().filter(|n| !n.is_empty() && !is_from_sql(n) && !is_stand_in(n));
        for name in ours() {
            assert!(known.iter().any(|(n, _)| n == name), "{name} is there and not counted: {}", self.describe());
        }
        // What was to make room in a batch that failed is still there, and the next batch of the pipeline had counted on it:
        // one too many for each Close that was skipped, until the next statement makes room for itself. (What is known may be
        // more: it has the doubtful in it.)
        let limit = self.bounds.statements_per_server as usize;
        let most = limit.max(NEEDED_AT_ONCE) + s.backend.closes_skipped;
        let there = ours().count();
        assert!(there <= most, "{there} are there, and not {most} at most: {}", self.describe());
        there
    }

    /// Each client heard what it would have heard alone.
    fn compare(&self) {
        for (at, c) in self.clients.iter().enumerate().filter(|(_, c)| c.state != State::Left) {
            let script = c.words.join(" ");
            let expected = Backend::alone(&from_client(&script)).output().clone();
            if c.heard == expected {
                continue;
            }
            let (heard, expected) = (show_server(&c.heard), show_server(&expected));
            assert!(
                died_alike(&heard, &expected) || aborted_alike(&heard, &expected, &c.words),
                "client {at} said\n  {script}\nand heard\n  {heard}\ninstead of\n  {expected}"
            );
        }
    }

    fn describe(&self) -> String {
        let client = |c: &Client| format!("{:?} has {} to send, {:?} waiting", c.state, c.unsent.len(), show_client(&c.input));
        let server = |s: &Server| format!("{:?}\n  {:?}", s.side, s.backend);
        let clients: Vec<_> = self.clients.iter().map(client).collect();
        let servers: Vec<_> = self.servers.iter().map(server).collect();
        format!("{}\n{}", clients.join("\n"), servers.join("\n"))
    }
}

/// Both lost their server to a message within a COPY. Which one is the first that is none of a COPY's may differ: a Close
/// that we answer does not get there, and alone it does no harm.
fn died_alike(heard: &str, expected: &str) -> bool {
    let strange = "E(08P01 unexpected message type 0x";
    let Some((before, rest)) = expected.split_once(strange) else { return false };
    match heard.split_once(strange) {
        Some((heard, heard_rest)) => heard == before && heard_rest[2..] == rest[2..],
        None => heard.starts_with(before) && rest.starts_with("43"),
    }
}

/// The same, but for batches in a failed transaction that needed a statement the server did not have: it cannot be given
/// one there, and says so, where it would else have described it or found its name in use. Queries behind that are
/// skipped with the batch, up to its Sync.
fn aborted_alike(heard: &str, expected: &str, words: &[String]) -> bool {
    let batches = |text: &str| text.split_inclusive(" Z(").map(str::to_owned).collect::<Vec<_>>();
    let (heard, expected) = (batches(heard), batches(expected));
    let is_forgiven = |heard: &str, expected: &str| {
        let aborted = heard.split_once("E(25P02 ");
        aborted.is_some_and(|(before, _)| expected.starts_with(before) && expected.starts_with("E)"))
    };
    let mut rest = expected.iter().enumerate();
    heard.iter().all(|heard| match rest.next() {
        None => false,
        Some((_, expected)) if heard == expected => true,
        Some((at, expected)) => {
            let mut skipped = rest.by_ref().take(queries_up_to_sync(at, words));
            is_forgiven(heard, expected) && skipped.all(|(_, skipped)| skipped.starts_with("E)"))
        }
    }) && rest.next().is_none()
}

/// How many more ReadyForQuery come, alone with a server, behind the nth one that is not the first thing said, until
/// the next Sync is answered: none if a Sync is what that one answers.
fn queries_up_to_sync(nth: usize, words: &[String]) -> usize {
    let mut backend = Backend::new();
    let mut ready = 0;
    for word in words {
        backend.hear(&from_client(word));
        ready = show_server(backend.output()).matches(" Z(").count();
        if word == "S" && ready > nth {
            break;
        }
    }
    ready.saturating_sub(nth + 1)
}

/// Deallocated in place of a statement that everybody shares, and no statement at all.
fn is_stand_in(name: &str) -> bool {
    name.starts_with("sidepool_0_")
}

/// A server with nothing to do takes it without a word.
fn is_ignored(word: &str) -> bool {
    matches!(word.as_bytes()[0], b'd' | b'c' | b'f' | b'H')
}

/// Runs the case for the seeds that are asked for, or as many as usual, on two threads.
fn for_seeds(usual: u64, case: fn(u64)) {
    let number = |text: &str| text.parse::<u64>().expect("SIDEPOOL_SWEEP is a seed, or two with .. between them");
    let (from, to) = match std::env::var("SIDEPOOL_SWEEP") {
        Err(_) => (0, usual),
        Ok(asked) => match asked.split_once("..") {
            Some((from, to)) => (number(from), number(to)),
            None => (number(&asked), number(&asked) + 1),
        },
    };
    let next = AtomicU64::new(from);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        return;
                    }
                    let _replay = Replay(seed);
                    case(seed);
                }
            });
        }
    });
}

/// Printed when the seed fails, and only then.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see this again: SIDEPOOL_SWEEP={}", self.0);
        }
    }
}

/// Clients on fewer servers; where some pin theirs, on as many.
fn crowd(seed: u64, rng: &mut Rng) -> World {
    let servers = 1 + rng.below(3);
    let pins = if rng.one_in(3) { Pins::Sometimes } else { Pins::Never };
    let mut world = World::new(seed, servers);
    for _ in 0..servers + 1 + rng.below(3) {
        // A pinned client keeps its server, so there has to be one for each.
        if pins == Pins::Sometimes && world.clients.len() == servers {
            break;
        }
        world.enter(script(rng, pins));
    }
    if std::env::var_os("SIDEPOOL_SWEEP_TRACE").is_some() {
        world.clients.iter().for_each(|c| eprintln!("{}", c.words.join(" ")));
    }
    world
}

#[test]
fn each_client_hears_what_a_server_of_its_own_would_say() {
    for_seeds(SEEDS, |seed| {
        let mut world = crowd(seed, &mut Rng::new(!seed));
        world.run();
        world.compare();
    });
}

#[test]
fn those_who_stay_hear_nothing_of_those_who_leave() {
    for_seeds(SEEDS, |seed| {
        let mut rng = Rng::new(!seed);
        let mut world = crowd(seed, &mut rng);
        for client in &mut world.clients {
            // Anywhere, and so in the middle of messages.
            client.goes_at = rng.one_in(2).then(|| rng.below(client.unsent.len()));
        }
        world.run();
        world.compare();
    });
}

#[test]
fn a_client_may_leave_after_every_message() {
    for_seeds(BROKEN_SEEDS, |seed| {
        let mut rng = Rng::new(!seed);
        let (words, next) = (script(&mut rng, Pins::Sometimes), script(&mut rng, Pins::Never));
        for length in 0..=words.len() {
            let mut world = World::new(seed + length as u64, 1);
            let first = world.enter(words[..length].to_vec());
            world.run_until_sent(first);
            // However far its server has come.
            (0..rng.below(30)).for_each(|_| world.step());
            world.leave(first);
            // What was begun and not ended is as if it had never been.
            let most = Backend::alone(&from_client(&words[..length].join(" "))).rows_committed();
            assert!(world.servers[0].backend.rows_committed() <= most, "more than {most} rows: {}", words[..length].join(" "));
            world.enter(next.clone());
            world.run();
            world.compare();
        }
    });
}

#[test]
fn what_is_skipped_with_a_batch_in_a_failed_transaction_is_what_stands_before_its_sync() {
    let words = super::notation::split("P(s1,begin) Q(begin) Q(selec) DS(s1) Q(select 1) Q() S Q() S");
    let expected = show_server(Backend::alone(&from_client(&words.join(" "))).output());
    let (before, after) = expected.split_once(" t n ").unwrap();
    let failed = "E(25P02 current transaction is aborted) Z(E)";
    assert_eq!(after.matches(" Z(").count(), 5, "{after}");
    let is_alike = |after: &str| aborted_alike(&format!("{before} {after}"), &expected, &words);
    assert!(is_alike(&format!("{failed} I Z(E) Z(E)")));
    for other in ["I Z(E)", "Z(E) I Z(E) Z(E)", "I Z(E) Z(E) Z(E)", "I Z(E) Z(I)"] {
        assert!(!is_alike(&format!("{failed} {other}")), "{other}");
    }
}
