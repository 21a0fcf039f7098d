//! One client talking to one server: bytes of either side in, what leaves for the other side out.
//!
//! [`ClientSide`] lives as long as the client, [`ServerSide`] as long as the server connection; a lease brings the two
//! together. `client_turn` and `server_turn` walk messages by their headers, let through what need not be understood as
//! runs of the input, and keep the [`Plan`] of what the server owes.

mod channels;
mod client;
mod server;
mod state;
mod transfer;
mod verify;

use std::sync::{Arc, OnceLock};

pub use channels::Place;
use client::Noted;
pub use client::{ClientTurn, Unleased};
pub use server::{Broken, ServerTurn};
use state::Account;
pub use verify::Missed;

use super::names::{About, ClientNames, DEPTH_MAX, Holds, KNOWN, ServerStatements, Unnamed};
use super::params::{ParamSets, Params, is_settable};
use super::plan::{Excess, Plan, Status};
use super::probe::Probe;
use super::sql::{Leaves, Remark};
use super::statement::Statements;
use crate::error::hosted::ErrorTexts;
use channels::{Channels, Private};
use verify::Verifier;

/// How much of a simple query's text is scanned, in bytes. PgDog's text scan stops at 1 000.
pub const SCANNED_BYTES: usize = 16 * 1024;

/// What the clients and servers of one database share.
#[derive(Debug, Default)]
pub struct Catalog {
    pub statements: Statements,
    pub params: ParamSets,
    pub isolation: Isolation,
    pub named_statements: NamedStatements,
    /// Of all clients that ask for nothing at their login.
    plain: OnceLock<Startup>,
}

/// How a server is cleaned for another client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Of what may be there, by the texts that ran.
    #[default]
    Tracked,
    /// Of everything, whatever was seen.
    Strict,
}

/// How long a client of the transaction port has what it prepared under a name by protocol message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamedStatements {
    /// As long as it is there, on whatever server.
    #[default]
    Kept,
    /// To the end of the transaction, as on a pooler that has the names of one server only, and whose next transaction is
    /// on another. The name stays taken on the server that had it.
    Forgotten,
}

/// What a session is to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The server is the client's until it leaves: names and settings are its own.
    Session,
    /// The server is the client's for a transaction: names are ours, settings follow the client.
    Transaction,
}

/// Bounds on what one client may make us keep.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest Parse that is kept, in bytes.
    pub statement_bytes: u32,
    pub statements_per_client: u32,
    /// Names and texts of the statements of one client, in bytes.
    pub prepared_bytes: u32,
    pub statements_per_server: u32,
    /// In whose words it is told of them.
    pub texts: ErrorTexts,
}

/// What sessions begin with; those that asked for the same may share it.
pub type Startup = Arc<Base>;

/// Parameters of the startup packet: a session's base, to which RESET returns.
#[derive(Debug)]
pub struct Base {
    asked: Box<[Setting]>,
    /// Those of them that the server does not report.
    settings: Arc<Params>,
}

/// Name and value.
pub type Setting = (Box<str>, Box<str>);

impl Catalog {
    pub fn new(isolation: Isolation, named_statements: NamedStatements) -> Self {
        Self { isolation, named_statements, ..Self::default() }
    }

    /// For sessions that asked for this, each name once; `params` are the reported parameters as they came out.
    pub fn startup(&self, asked: Vec<Setting>, params: &Params) -> Startup {
        if asked.is_empty() {
            let plain = || Arc::new(Base { asked: Box::default(), settings: self.params.intern(Params::default()) });
            return Arc::clone(self.plain.get_or_init(plain));
        }
        // The reported ones are in `params`.
        let own = asked.iter().filter(|(name, _)| params.get(name).is_none() || !is_settable(name)).map(|(n, v)| (n, v));
        let settings = self.params.intern(Params::from_pairs(own));
        Arc::new(Base { asked: asked.into(), settings })
    }
}

/// The client's half: what stays when it has no server.
#[derive(Debug)]
pub struct ClientSide {
    pub id: u64,
    mode: Mode,
    intake: Intake,
    names: ClientNames,
    unnamed: Unnamed,
    /// Servers it has taken over so far.
    leases: u64,
    /// What made or destroyed an unnamed statement so far.
    unnamed_changes: u64,
    /// What the portal bound last does to names when it is executed.
    bound: About,
    /// Reported parameters as this client has been told them.
    pub params: Arc<Params>,
    /// Settings of its own that the server does not report, as they were when its last server was let go.
    settings: Arc<Params>,
    /// What texts did to its settings since it was settled last.
    account: Option<Box<Account>>,
    /// Kinds that hold a server for this client alone: SEQUENCES, once it has asked for currval or lastval.
    keeps: Leaves,
    /// Where its channels are listened to.
    channels: Channels,
    /// What RESET returns to.
    startup: Startup,
    catalog: Arc<Catalog>,
    bounds: Bounds,
    /// `None`: nothing to note so far, and for a client that is idle no room taken.
    aside: Option<Box<Aside>>,
}

/// What is noted for people, beside the protocol.
#[derive(Debug, Default)]
struct Aside {
    /// What the lint has to say of its statements; `None`: there is none.
    remarks: Option<Vec<Remark>>,
    /// The beginning of the text it ran last; `None`: nobody wants to know.
    noted: Option<Noted>,
    counted: Counted,
    /// The last statement that may have left something with the server.
    culprit: Option<String>,
    /// Looks for what its texts do not show; `None`: nothing does.
    verifier: Option<Verifier>,
}

/// Messages about prepared statements since they were last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub client_parses: u32,
    pub server_parses: u32,
    pub binds: u32,
}

impl ClientSide {
    pub fn new(id: u64, mode: Mode, catalog: Arc<Catalog>, params: Arc<Params>, startup: Startup, bounds: Bounds) -> Self {
        let (names, unnamed, bound) = (ClientNames::default(), Unnamed::default(), About::Nothing);
        Self {
            id,
            mode,
            intake: Intake::Boundary,
            names,
            unnamed,
            leases: 0,
            unnamed_changes: 0,
            bound,
            params,
            settings: Arc::clone(&startup.settings),
            account: None,
            keeps: Leaves::NOTHING,
            channels: Channels::default(),
            startup,
            catalog,
            bounds,
            aside: None,
        }
    }

    /// Statements are looked at from now on for what would break elsewhere.
    #[must_use]
    pub fn linted(mut self) -> Self {
        self.aside().remarks = Some(Vec::new());
        self
    }

    #[inline]
    fn aside(&mut self) -> &mut Aside {
        self.aside.get_or_insert_with(new_aside)
    }

    /// Since it was asked last; `None`: nothing, as for clients of the simple protocol.
    #[inline]
    pub fn take_counted(&mut self) -> Option<Counted> {
        if self.aside.is_none() { None } else { self.take_from_aside() }
    }

    #[inline(never)]
    fn take_from_aside(&mut self) -> Option<Counted> {
        let counted = &mut self.aside.as_mut()?.counted;
        (*counted != Counted::default()).then(|| std::mem::take(counted))
    }

    /// The last statement that may have left something with the server, without its literals, since it was asked last.
    pub fn take_culprit(&mut self) -> Option<String> {
        self.aside.as_mut()?.culprit.take()
    }

    /// What the lint has to say since it was asked last.
    #[inline]
    pub fn take_remarks(&mut self) -> Vec<Remark> {
        self.remarks().map(std::mem::take).unwrap_or_default()
    }

    fn remarks(&mut self) -> Option<&mut Vec<Remark>> {
        self.aside.as_mut()?.remarks.as_mut()
    }

    /// A stand-in for when the pooler itself talks to a server.
    pub fn nobody(catalog: Arc<Catalog>, params: Arc<Params>) -> Self {
        let bounds = Bounds {
            statement_bytes: 0,
            statements_per_client: 0,
            prepared_bytes: 0,
            statements_per_server: u32::MAX,
            texts: ErrorTexts::Postgres,
        };
        let startup = catalog.startup(Vec::new(), &params);
        Self::new(0, Mode::Session, catalog, params, startup, bounds)
    }

    #[inline]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Between two messages, with nothing of the last one still to come.
    pub fn is_at_boundary(&self) -> bool {
        !matches!(self.intake, Intake::Forward(_))
    }

    /// Part of a message went to the server and the rest has not come: a client that leaves now leaves it broken.
    pub fn owes_bytes(&self) -> bool {
        matches!(self.intake, Intake::Forward(_))
    }

    /// The next message waits for the server's replies, not for bytes of its own: there is no use in reading many more.
    pub fn is_waiting(&self) -> bool {
        self.intake == Intake::Waits
    }

    pub fn prepared_statements(&self) -> usize {
        self.names.len()
    }

    /// Whether one more, of so many bytes by itself, would be too much.
    fn excess(&self, bytes: usize, about: &About) -> Option<Excess> {
        let Bounds { statements_per_client: most, prepared_bytes: most_bytes, .. } = self.bounds;
        if self.names.len() >= most as usize {
            return Some(Excess::Statements(most));
        }
        if about.depth() > DEPTH_MAX {
            return Some(Excess::Depth(DEPTH_MAX));
        }
        (self.names.bytes() + bytes + about.bytes() > most_bytes as usize).then_some(Excess::Bytes(most_bytes))
    }
}

/// Once in a session, and asked for with every message of the extended protocol.
#[cold]
fn new_aside() -> Box<Aside> {
    Box::default()
}

/// Where in the client's byte stream we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Boundary,
    /// A message waits for what the server still owes.
    Waits,
    /// Bytes of a body to let through.
    Forward(u32),
    /// Bytes of a body to drop.
    Drop(u32),
    /// The request that comes next is refused without a server: a Query, a FunctionCall, or a batch.
    Refuse,
    /// A batch was refused: bytes of a body to drop, then everything up to its Sync, which we answer.
    RefuseBatch(u32),
}

/// The server's half: what stays when no client has it.
#[derive(Debug)]
pub struct ServerSide {
    plan: Plan,
    intake: Intake,
    statements: ServerStatements,
    /// Names that clients left here, and cannot use any more ([`NamedStatements::Forgotten`]).
    left: ClientNames,
    unnamed: Holds,
    /// The batch that last changed it.
    unnamed_batch: u64,
    params: Arc<Params>,
    /// As they were after login: what RESET ALL returns to.
    initial: Arc<Params>,
    /// Settings in force besides those it reports.
    settings: Arc<Params>,
    /// None: as it was opened.
    initial_settings: Arc<Params>,
    /// Session state its owner may have left.
    leaves: Leaves,
    /// What it was found to have when it was asked last.
    pins: Leaves,
    /// Channels it was found to listen to then.
    found: Vec<Box<[u8]>>,
    /// The pooler's own channel, if it may listen to it.
    private: Option<Private>,
    probe: Option<Box<Probe>>,
    owner: Option<Owner>,
    /// A schema change whose transaction has not ended.
    schema: Schema,
}

/// The client whose state a server carries, and the number of its lease: state that it made on another server since is
/// not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    client: u64,
    lease: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schema {
    Unchanged,
    Changing,
}

impl ServerSide {
    /// `params` as reported at login.
    pub fn new(params: Arc<Params>, catalog: &Catalog) -> Self {
        let settings = catalog.params.intern(Params::default());
        Self {
            plan: Plan::default(),
            intake: Intake::Boundary,
            statements: ServerStatements::default(),
            left: ClientNames::default(),
            unnamed: Holds::Nothing,
            unnamed_batch: KNOWN,
            initial: Arc::clone(&params),
            params,
            initial_settings: Arc::clone(&settings),
            settings,
            leaves: Leaves::NOTHING,
            pins: Leaves::NOTHING,
            found: Vec::new(),
            private: None,
            probe: None,
            owner: None,
            schema: Schema::Unchanged,
        }
    }

    pub fn status(&self) -> Status {
        self.plan.status()
    }

    /// Every reply has come, in full, and none is half read.
    pub fn is_settled(&self) -> bool {
        self.plan.is_settled() && self.intake == Intake::Boundary
    }

    /// A message of our own may go to the client now.
    pub fn is_between_messages(&self) -> bool {
        self.intake == Intake::Boundary
    }

    /// Settled outside a transaction: it may change hands.
    pub fn is_idle(&self) -> bool {
        self.is_settled() && self.status() == Status::Idle
    }

    pub fn is_skipping(&self) -> bool {
        self.plan.is_skipping()
    }

    pub fn is_copying_in(&self) -> bool {
        self.plan.is_copying_in()
    }

    /// It owes so many replies that its client has to wait before it asks for more.
    pub fn is_full(&self) -> bool {
        self.plan.is_full()
    }

    /// Nothing more comes of what was sent, whether or not it is all at an end.
    pub fn has_answered(&self) -> bool {
        self.plan.owes_nothing() && self.intake == Intake::Boundary
    }

    pub fn owes_nothing(&self) -> bool {
        self.plan.owes_nothing()
    }

    /// A COPY failed, and a Sync sent into it may still be answered or not (`Plan::is_doubtful`). The server stays with its
    /// client; [`check`](Self::check) settles it without waiting for the client's next request.
    pub fn is_doubtful(&self) -> bool {
        self.plan.is_doubtful() && self.intake == Intake::Boundary
    }

    pub fn prepared_statements(&self) -> usize {
        self.statements.len()
    }

    pub fn owner(&self) -> Option<u64> {
        self.owner.map(|o| o.client)
    }

    pub fn params(&self) -> &Arc<Params> {
        &self.params
    }

    /// As they were after login: whoever had the server since may have left others.
    pub fn initial_params(&self) -> &Arc<Params> {
        &self.initial
    }

    /// Memory back after a burst.
    pub fn shrink(&mut self) {
        self.plan.shrink();
    }
}

#[cfg(test)]
mod tests;
