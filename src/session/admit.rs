//! From a proved login to a greeted session.
//!
//! In session mode the client's startup packet goes to a server of its own, whose answers it gets. In transaction mode a
//! client is greeted without waiting for a server, as soon as the pool knows one; only startup parameters nobody sent
//! before are first put to a server, which alone can say whether they are right and how it spells them.

mod packet;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::RwLock;

use super::about::About;
use super::closed;
use super::end::End;
use super::handle::{Membership, Sessions};
use super::lint::{Findings, Linted};
use super::login::{Introduction, Login};
use super::patience::Patience;
use super::pools::HostedPools;
use super::relay::{Parts, Relay};
use super::slow::SlowLog;
use super::startups::{Accepted, KnownStartups, statuses};
use super::watched::Watched;
use crate::config::{ErrorTexts, Live, SessionOverflow, Settings, StartupParameters};
use crate::error::hosted::Hosted;
use crate::error::{PgError, SqlState};
use crate::net::stream::Stream;
use crate::pool::{Home, Outbox, Pool, PoolKey, PoolMode, Registry, Server, StartupKey, Unavailable};
use crate::telemetry::fault_of;
use crate::wire::exchange::{Bounds, ClientSide, Startup};
use crate::wire::params::Params;
use crate::wire::reply;
use crate::wire::startup::{Replication, Startup as StartupPacket};
use packet::{startup_for_server, without_parameters};

/// The minor version of the protocol from which on cancel keys may have more than four bytes.
const LONG_KEYS_SINCE: u16 = 2;

/// What all sessions share.
#[derive(Debug)]
pub struct House {
    pub settings: Live,
    pub registry: Arc<Registry>,
    pub sessions: Arc<Sessions>,
    pub startups: KnownStartups,
    pub pools: HostedPools,
    /// Where the lint keeps what it found; `None` is off.
    pub lint: RwLock<Option<Arc<Findings>>>,
}

/// Greets the client; the session that is ready to run. What the client must know of a failure it was told.
///
/// `local` is the address it came to, where that is known without asking the system.
pub async fn admit(
    mut login: Box<Login>,
    mode: PoolMode,
    local: Option<SocketAddr>,
    house: &Arc<House>,
) -> Result<Box<Relay>, End> {
    let settings = house.settings.get();
    if settings.startup_parameters == StartupParameters::Dropped {
        login.who = Arc::new(without_parameters(&login.who, mode));
    }
    let who = Arc::clone(&login.who);
    let key = who.pool(mode);
    if house.registry.is_disabled(key) {
        let error = closed_to_clients(key);
        super::tally::refused(house.registry.telemetry(), &error);
        Box::pin(super::farewell::turn_away(*login, &error, &settings)).await;
        return Err(End::Refused(error));
    }
    let counted = house.pools.enter(key, &who.startup, &settings);
    let edition = house.registry.edition();
    let pool = match house.registry.pool(key, &who.route.project, &login.credential) {
        Ok(pool) => pool,
        Err(why) => return Err(Box::pin(turn_back(*login, &why, house, &settings)).await),
    };
    let has_long_key = who.startup.minor() >= LONG_KEYS_SINCE;
    let about = About::client(&login, &pool, local);
    let handle = house.sessions.enter(house.sessions.next_id(), None, has_long_key, &about);
    let membership = Membership::new(house, handle, Arc::clone(&pool));
    let mut arrival = Arriving {
        stream: login.stream,
        pool: Arc::clone(&pool),
        out: Outbox::default(),
        membership,
        settings,
        has_long_key,
        early: login.early,
    };
    *arrival.out.buffer() = login.greeting.into();
    // Whoever was entered before a reload ended his like has been told; whoever was after that sees it here.
    let checked = house.registry.check_again(edition, &pool.key.project);
    let checked = checked.map_err(|why| closed::to_new(&why, &pool.key.project, &arrival.settings));
    let admitted = match checked.and(counted) {
        Err(error) => Err(End::Refused(error)),
        Ok(count) => {
            arrival.membership.count(count);
            match mode {
                PoolMode::Session => Box::pin(arrival.admit_to_session(&who.startup, house)).await,
                PoolMode::Transaction => arrival.admit_to_transactions(&who, house).await,
            }
        }
    };
    match admitted {
        Ok(admitted) => {
            arrival.pool.tally.logins.one();
            arrival.lint(&admitted.side, house);
            Ok(arrival.into_relay(admitted, house))
        }
        Err(end) => {
            let Arriving { mut stream, mut out, settings, .. } = arrival;
            super::tally::end(&pool, &house.registry, &end);
            Box::pin(super::farewell::tell(&mut stream, &mut out, &end, settings.timeouts.recovery)).await;
            Err(end)
        }
    }
}

/// A reload came between its login and its admission.
async fn turn_back(login: Login, why: &Unavailable, house: &House, settings: &Settings) -> End {
    let error = closed::to_new(why, &login.who.route.project.name, settings);
    let code = error.code.as_str();
    house.registry.telemetry().errors.count(fault_of(code), code.as_bytes());
    super::farewell::turn_away(login, &error, settings).await;
    End::Refused(error)
}

/// A client between its login and its greeting.
struct Arriving {
    stream: Stream,
    pool: Arc<Pool>,
    out: Outbox,
    membership: Membership,
    settings: Arc<Settings>,
    has_long_key: bool,
    /// What it sent before it was greeted.
    early: Vec<u8>,
}

struct Admitted {
    side: ClientSide,
    startup: StartupKey,
    server: Option<Box<Server>>,
}

impl Arriving {
    async fn admit_to_session(&mut self, packet: &StartupPacket, house: &House) -> Result<Admitted, End> {
        // This client is counted already.
        let pool_size = self.pool.terms().size;
        if self.settings.session_overflow == SessionOverflow::Refuse && self.pool.counts().clients > pool_size {
            return Err(End::Refused(too_many_sessions(pool_size, self.settings.error_texts)));
        }
        let startup = startup_for_server(packet);
        let mut server = self.first_server(&startup).await?;
        // The client is told the process id of the server it has for itself.
        let pid = u32::try_from(server.handle.key.pid).ok();
        let before = self.membership.handle();
        let handle = house.sessions.enter(before.id, pid, self.has_long_key, &before.about);
        handle.leased(server.leased_at(), 0);
        server.handle.lease_to(handle.id);
        handle.follow(&server.handle, &self.pool);
        self.membership.reenter(handle);
        let params = Arc::clone(server.side.params());
        for notice in std::mem::take(&mut server.notices) {
            self.out.buffer().extend_from_slice(&notice);
        }
        self.greet(&statuses(&params));
        let none = self.pool.catalog.startup(Vec::new(), &params);
        let side = self.side(params, &none);
        Ok(Admitted { side, startup, server: Some(server) })
    }

    async fn admit_to_transactions(&mut self, who: &Introduction, house: &House) -> Result<Admitted, End> {
        if who.startup.replication != Replication::Off {
            let error = PgError::fatal(SqlState::FEATURE_NOT_SUPPORTED, "replication needs a server connection of its own")
                .with_hint("Connect to the session port.");
            return Err(End::Refused(error));
        }
        let accepted = match (self.pool.greeting(), house.startups.get(&self.pool, who)) {
            (Some(_), Some(accepted)) => accepted,
            (Some(params), None) if who.asked.is_empty() => {
                let settings = self.pool.catalog.startup(Vec::new(), &params);
                Accepted::new(params, settings)
            }
            _ => Box::pin(self.ask_server(&who.asked, house)).await?,
        };
        if self.settings.home_servers {
            Box::pin(self.find_home(house)).await?;
        }
        self.greet(&accepted.statuses);
        let side = self.side(accepted.params, &accepted.settings);
        let side = if house.lint.read().is_some() { side.linted() } else { side };
        let side = if self.settings.verify { side.verified() } else { side };
        Ok(Admitted { side, startup: StartupKey::default(), server: None })
    }

    /// A server to be at home on, whose process id the client is told; none, where the pool has no more.
    async fn find_home(&mut self, house: &House) -> Result<(), End> {
        let id = self.membership.handle().id;
        let mut home = self.pool.find_home(id);
        if home.is_none() && self.pool.has_room() {
            let server = self.queued_server(&StartupKey::default(), Pool::queue_for_another).await?;
            home = Home::claim(&server, id);
            self.pool.release(server);
        }
        if let Some((home, pid)) = home.and_then(|home| Home::pid(&home).map(|pid| (home, pid))) {
            let handle = house.sessions.enter(id, Some(pid), self.has_long_key, &self.membership.handle().about);
            handle.be_at_home(home, &self.pool);
            self.membership.reenter(handle);
        }
        Ok(())
    }

    fn side(&self, params: Arc<Params>, settings: &Startup) -> ClientSide {
        let limits = &self.settings.limits;
        let bounds = Bounds {
            statement_bytes: narrow(limits.statement_bytes),
            statements_per_client: narrow(limits.prepared_statements_per_client),
            prepared_bytes: narrow(limits.prepared_bytes_per_client),
            statements_per_server: narrow(limits.prepared_statements_per_server),
            texts: self.settings.error_texts,
        };
        let catalog = Arc::clone(&self.pool.catalog);
        ClientSide::new(self.membership.handle().id, self.pool.key.mode.into(), catalog, params, Arc::clone(settings), bounds)
    }

    /// AuthenticationOk is there already; the rest of the greeting, to leave in one write (trap 56).
    fn greet(&mut self, statuses: &[u8]) {
        let handle = self.membership.handle();
        let out = self.out.buffer();
        out.extend_from_slice(statuses);
        reply::backend_key_data(out, handle.pid.cast_signed(), handle.key());
        reply::ready_for_query(out, reply::TransactionStatus::Idle);
    }

    fn lint(&mut self, side: &ClientSide, house: &House) {
        let Some(findings) = house.lint.read().clone() else { return };
        let application = side.params.get("application_name").unwrap_or_default();
        if let Some(notice) = findings.came(self.pool.key.mode, self.pool.counts().clients, application) {
            self.out.say(&notice);
        }
    }

    fn into_relay(self, admitted: Admitted, house: &House) -> Box<Relay> {
        let Self { stream, pool, out, membership, early, settings, .. } = self;
        let Admitted { side, startup, server } = admitted;
        let patience = Patience::new(&settings.timeouts);
        let lint = house.lint.read();
        let lint = lint.as_ref().filter(|_| pool.key.mode == PoolMode::Transaction).map(Linted::new);
        let to_client = out;
        let slow = SlowLog::wanted(settings.log.slow_transactions);
        let side = if slow.is_some() { side.noting_texts() } else { side };
        let watched = Watched::wanted(lint, slow);
        Box::new(Relay::new(Parts { client: stream, side, membership, startup, to_client, server, early, patience, watched }))
    }
}

/// As it is kept for each client.
fn narrow(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// In PostgreSQL's words for `ALLOW_CONNECTIONS false`.
fn closed_to_clients(key: &PoolKey) -> PgError {
    let message = format!("database \"{}\" is not currently accepting connections", key.database);
    PgError::fatal(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
        .with_hint("An administrator closed it with DISABLE; ENABLE on the console opens it again.")
}

fn too_many_sessions(pool_size: usize, texts: ErrorTexts) -> PgError {
    match texts {
        ErrorTexts::Supabase => Hosted::SessionClients { pool_size }.into(),
        ErrorTexts::Postgres => PgError::fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
            .with_detail(format!("All {pool_size} server connections of the pool belong to clients in session mode."))
            .with_hint("Close clients that are not needed, use the transaction port, or raise limits.pool_size."),
    }
}
