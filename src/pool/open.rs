//! Opening server connections: how many at once, how often again, and who is told of a failure.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::budget::Permit;
use super::credentials::{Credentials, Standing};
use super::generation::{Counted, Generation};
use super::server::{Server, ServerFacts, ServerHandle, StartupKey};
use super::{Gate, Health, Pool, PoolMode, Refusal, State, Terms};
use crate::auth::key_cache::KeyCache;
use crate::config::ErrorTexts;
use crate::error::hosted::{self, Hosted};
use crate::error::{PgError, SqlState};
use crate::net::spawner::Spawner;
use crate::telemetry::{Account, Moment, log_connection};
use crate::upstream::{self, Address, ConnectError, ConnectSpec, Connected, Credential};
use crate::wire::exchange::ServerSide;
use crate::wire::frame::HEADER_BYTES;
use crate::wire::params::Params;
use bytes::BytesMut;

/// First and longest pause between attempts on an upstream that cannot be reached.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LONGEST: Duration = Duration::from_secs(3);
/// A lifetime is stretched by up to this share of itself, so that servers opened together do not go together (trap 17).
pub(super) const LIFETIME_JITTER: f64 = 0.2;

/// What opening needs besides the pool's key.
#[derive(Debug)]
pub(super) struct Opener {
    pub keys: Arc<KeyCache>,
    pub credential: Credentials,
    /// Where the tasks run that have a server.
    pub spawner: Spawner,
}

impl Pool {
    /// The credential clients of this pool have proved, for logins from now on.
    pub fn set_credential(&self, credential: &Credential) {
        self.opener.credential.set(credential);
    }

    /// Passes a cancel request on to where the server is, which a reload may have left behind, over the transport that one
    /// wants.
    ///
    /// # Errors
    /// The upstream could not be reached.
    pub async fn cancel_upstream(&self, server: &ServerHandle) -> std::io::Result<()> {
        upstream::cancel(&server.terms.project.upstream, &server.terms.tls, &server.key).await
    }

    /// Opens as many connections as waiting clients can use and limits allow.
    pub(super) fn open_soon(self: &Arc<Self>) {
        self.refuse_hopeless();
        while self.begin_opening() {
            let Some(permit) = self.budget.reserve(self) else {
                self.state.lock().opening -= 1;
                return;
            };
            let pool = Arc::clone(self);
            self.opener.spawner.spawn(async move { pool.open(permit).await });
        }
    }

    /// Takes a place among the logins under way, if one more is of use: at most as many as clients wait, as the pool has
    /// room for, and one alone while the upstream is down. In session mode an idle server with other startup parameters
    /// makes room.
    fn begin_opening(&self) -> bool {
        let (evicted, begun) = {
            let mut state = self.state.lock();
            let wanted = state.waiters.iter().filter(|w| w.ticket.is_waiting()).take(state.opening + 1).count();
            let at_once = self.parallel_logins(&state);
            let open = self.open_count();
            let prewarm = open + state.opening < self.prewarmed(&state);
            let is_of_use = state.gate == Gate::Open && (wanted > state.opening || prewarm);
            if !is_of_use || state.opening >= at_once {
                (None, false)
            } else if open + state.opening < state.terms.size {
                state.opening += 1;
                (None, true)
            } else if self.key.mode == PoolMode::Session
                && let Some(idle) = state.idle.pop_front()
            {
                state.opening += 1;
                (Some(idle), true)
            } else {
                (None, false)
            }
        };
        evicted.into_iter().for_each(|idle| self.close(idle));
        begun
    }

    /// Whether a place in the budget would be of use. A pool that is busy on another thread is taken to want one.
    pub(super) fn wants_place(&self) -> bool {
        let Some(state) = self.state.try_lock() else { return true };
        let (open, is_waited_for) = (self.open_count() + state.opening, state.waiters.iter().any(|w| w.ticket.is_waiting()));
        (is_waited_for && open < state.terms.size) || open < self.prewarmed(&state)
    }

    fn parallel_logins(&self, state: &State) -> usize {
        match (self.opener.credential.standing(), &state.health) {
            (Standing::Refused(_), _) => 0,
            (Standing::Accepted(_), Health::Up) => state.terms.settings.limits.parallel_logins,
            (Standing::Untried, _) | (_, Health::Down { .. }) => 1,
        }
    }

    /// Connections kept open while there are clients; in session mode nobody knows their startup parameters in advance.
    pub(super) fn prewarmed(&self, state: &State) -> usize {
        let has_clients = self.clients.load(Ordering::Relaxed) > 0;
        let wanted = self.key.mode == PoolMode::Transaction && has_clients && !state.is_vacated();
        if wanted { state.terms.min_size } else { 0 }
    }

    /// One login, again and again while it may help and somebody waits.
    async fn open(self: Arc<Self>, permit: Permit) {
        let mut pause = BACKOFF_FIRST;
        loop {
            // Before anything else of the pool's that it depends on.
            let generation = self.generation();
            let terms = self.terms();
            let startup = self.startup_wanted();
            let credential = self.opener.credential.get();
            let parameters = if self.key.mode == PoolMode::Session { &startup[..] } else { &[] };
            match self.connect(&terms, &credential, parameters).await {
                Ok(connected) => return self.opened(connected, startup, &generation, terms, permit),
                // A client has proved another password while the old one was being tried: that one counts.
                Err(error) if is_wrong_password(&error) && self.opener.credential.get() != credential => continue,
                // As good as never tried: the pool has begun anew since.
                Err(_) if !Arc::ptr_eq(&self.generation(), &generation) => continue,
                Err(error) => {
                    tracing::warn!(pool = %self, error = %error, "cannot open a server connection");
                    if !self.failed(&error) {
                        break;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_LONGEST);
        }
        self.state.lock().opening -= 1;
        drop(permit);
    }

    /// Startup parameters of the first in line: the pool's own are none.
    fn startup_wanted(&self) -> StartupKey {
        let state = self.state.lock();
        state
            .waiters
            .iter()
            .find(|w| w.ticket.is_waiting())
            .map_or_else(|| Arc::new([]) as StartupKey, |w| Arc::clone(&w.startup))
    }

    /// `parameters` are further ones of the startup packet.
    pub(super) async fn connect(
        &self,
        terms: &Terms,
        credential: &Credential,
        parameters: &[(String, String)],
    ) -> Result<Connected, ConnectError> {
        let spec = ConnectSpec {
            upstream: &terms.project.upstream,
            tls: &terms.tls,
            keys: &self.opener.keys,
            user: &self.key.user,
            database: &self.key.database,
            credential,
            parameters,
        };
        let limit = terms.settings.timeouts.server_connect;
        // Until the credential has been accepted over TCP, that is where it is tried.
        let accepted = self.opener.credential.accepted(credential);
        let result = upstream::connect_nearest(&spec, &terms.shortcut, accepted, limit).await;
        let tally = &self.tally;
        match &result {
            Ok(connected) => {
                tally.connects.one();
                if matches!(connected.key.address, Some(Address::Unix(_))) {
                    tally.shortcuts.one();
                }
            }
            Err(_) => tally.connect_failures.one(),
        }
        self.judge(credential, &result);
        result
    }

    /// A configured password is tried again: whoever runs the upstream may be about to set it there. What a client proved is
    /// wrong for ever once it is wrong.
    fn judge(&self, used: &Credential, result: &Result<Connected, ConnectError>) {
        match result {
            Ok(connected) => self.opener.credential.judge(used, Standing::Accepted(connected.auth)),
            Err(error) if is_wrong_password(error) && !self.is_configured(used) => {
                self.opener.credential.judge(used, Standing::Refused(refusal(error, self.terms().settings.error_texts)));
            }
            Err(_) => {}
        }
    }

    fn is_configured(&self, credential: &Credential) -> bool {
        let Credential::Password(password) = credential else { return false };
        self.project().password_of(&self.key.user) == Some(password)
    }

    /// Clients of a pool that has no server, and may open none, would wait in vain.
    fn refuse_hopeless(&self) {
        let Standing::Refused(refusal) = self.opener.credential.standing() else { return };
        if self.open_count() > 0 {
            return;
        }
        let waiters = std::mem::take(&mut self.state.lock().waiters);
        waiters.iter().for_each(|w| _ = w.ticket.refuse(refusal.clone()));
    }

    fn opened(
        self: &Arc<Self>,
        connected: Connected,
        startup: StartupKey,
        generation: &Arc<Generation>,
        terms: Arc<Terms>,
        permit: Permit,
    ) {
        let now = Moment::now();
        let params = self.catalog.params.intern(Params::from_pairs(connected.parameters));
        let id = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let log = terms.settings.log.connections;
        log_connection!(log, server = id, pid = connected.key.pid, pool = %self, "server connection opened");
        let facts = ServerFacts {
            opened_at: SystemTime::now(),
            peer: connected.stream.peer(),
            local: connected.stream.local(),
            tls: connected.tls,
            generation: generation.number(),
        };
        let handle = Arc::new(ServerHandle::new(id, connected.key, terms, facts));
        let entered = self.roster.enter(&handle);
        let side = ServerSide::new(Arc::clone(&params), &self.catalog);
        let lifetime = self.lifetime(id);
        let server = Server::new(
            handle,
            connected.stream,
            side,
            connected.notices,
            startup,
            now,
            lifetime,
            Counted::new(&self.open, generation),
            Account::new(&self.tally),
            entered,
            permit,
        );
        let before = {
            let mut state = self.state.lock();
            state.opening -= 1;
            if Arc::ptr_eq(&state.generation, generation) {
                state.greeting = Some(params);
            }
            // ## (Up | Down) => Up
            std::mem::replace(&mut state.health, Health::Up)
        };
        if let Health::Down { since, .. } = before {
            tracing::info!(pool = %self, down_ms = (now - since).as_millis(), "the upstream can be reached again");
        }
        self.give(Box::new(server), now);
        self.open_soon();
    }

    fn lifetime(&self, id: u64) -> Option<Duration> {
        let lifetime = Some(self.terms().settings.timeouts.server_lifetime).filter(|l| !l.is_zero())?;
        // Spread by the golden ratio: even for servers opened one after the other, and no generator needed.
        let spread = (id as f64 * 0.618_033_988_749_895).fract();
        Some(lifetime.mul_f64(1.0 + LIFETIME_JITTER * spread))
    }

    /// Notes a failed login; whether to try again. An upstream that is starting up, or out of reach, may come back, and
    /// waiting clients outlast that for a while; any other refusal is theirs at once, unless servers that still work will
    /// come free (trap 57).
    fn failed(&self, error: &ConnectError) -> bool {
        let refusal = refusal(error, self.terms().settings.error_texts);
        let passing = error.is_passing();
        let mut state = self.state.lock();
        if !passing && self.open_count() == 0 {
            let waiters = std::mem::take(&mut state.waiters);
            state.health = Health::Up;
            drop(state);
            waiters.iter().for_each(|w| _ = w.ticket.refuse(refusal.clone()));
            return false;
        }
        // ## (Up | Down) => Down
        let since = match state.health {
            Health::Down { since, .. } => since,
            Health::Up => Moment::now(),
        };
        state.health = Health::Down { since, error: refusal };
        let refused = matches!(self.opener.credential.standing(), Standing::Refused(_));
        let goes_on = !refused && state.gate == Gate::Open && state.waiters.iter().any(|w| w.ticket.is_waiting());
        if !goes_on {
            // ## Down => Up: whoever comes next finds out anew.
            state.health = Health::Up;
        }
        goes_on
    }
}

fn is_wrong_password(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Refused(said) if said.sqlstate() == Some(SqlState::INVALID_PASSWORD))
}

fn refusal(error: &ConnectError, texts: ErrorTexts) -> Refusal {
    match error {
        // Word for word, if it is one.
        ConnectError::Refused(server) if server.fields().is_whole() => {
            let mut message = BytesMut::new();
            server.put(&mut message);
            Refusal::Upstream(message.split_off(HEADER_BYTES).freeze())
        }
        // After which the hosted pooler closes.
        other if texts == ErrorTexts::Supabase => Refusal::Final(other.told(texts)),
        other => Refusal::Pooler(other.to_client()),
    }
}

/// What a client is told that waited for a server in vain.
pub(super) fn timed_out(pool: &Pool, waited: Duration) -> Refusal {
    if pool.terms().settings.error_texts == ErrorTexts::Supabase {
        let mode = match pool.key.mode {
            PoolMode::Session => hosted::Mode::Session,
            PoolMode::Transaction => hosted::Mode::Transaction,
        };
        return Refusal::Final(Hosted::Checkout { after: waited, mode }.into());
    }
    let counts = pool.counts();
    Refusal::Pooler(
        PgError::error(
            SqlState::TOO_MANY_CONNECTIONS,
            format!("timed out after {waited:?} waiting for a server connection of {pool}"),
        )
        .with_detail(match pool.holds() {
            (0, _) => format!("All {} connections are in use and {} clients wait.", counts.open, counts.waiting),
            (held, reasons) => format!(
                "All {} connections are in use and {} clients wait. {}",
                counts.open,
                counts.waiting,
                super::held_detail(held, reasons)
            ),
        })
        .with_hint("Look for transactions left open, or raise limits.pool_size or timeouts.queue_wait."),
    )
}
