//! The console: a database that exists in the pooler alone, whose tables are what the pooler knows of itself.
//!
//! Names, columns, types and commands are PgBouncer's, so that its tools work unchanged; what PgBouncer does not have stands
//! beside them. Each connection is framed and bounded here (`inbox`), its messages handed whole to pgwire's query
//! handlers (`handler`), which encode the answers.
//!
//! Console sessions are none of the pool's clients: they answer when all of those places are taken, and have few of their
//! own. They last until the process ends, so that a drain can be watched.

mod averages;
mod client;
mod commands;
mod database;
mod guest;
mod handler;
mod inbox;
mod remote;
mod role;
mod session;
mod setting;
pub(crate) mod snapshot;
mod statement;
mod table;
mod time;
mod tokens;
mod views;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use crate::error::{PgError, SqlState};
use crate::server::Reins;
use crate::session::login::Login;
use crate::session::{Console, House};
use crate::wire::startup::CancelRequest;
use averages::Averages;
pub(crate) use commands::Done;
use guest::{Guest, KEY_BYTES};
pub(crate) use remote::{Remote, Target};
use role::Role;

/// Console sessions at once.
const SESSIONS_MAX: usize = 32;
/// So many of them are for administrators alone: whoever only looks may not keep them out.
const ADMINS_MIN: usize = 8;
/// Above what other systems take for process ids, so that a key of the console's is none of a client's.
const PID_FIRST: i32 = 0x7000_0000;

/// The console of one process.
pub fn console(reins: Reins) -> Arc<dyn Console> {
    Arc::new(Desk { reins, averages: Averages::default(), sessions: Mutex::default(), random: SystemRandom::new() })
}

/// What all console sessions share.
#[derive(Debug)]
struct Desk {
    reins: Reins,
    averages: Averages,
    sessions: Mutex<Sessions>,
    random: SystemRandom,
}

#[derive(Debug, Default)]
struct Sessions {
    by_pid: HashMap<i32, Arc<Guest>>,
    last_pid: i32,
    /// Nobody may stay: the process ends.
    is_over: bool,
}

/// A place among the console's sessions, until dropped.
#[derive(Debug)]
struct Place {
    desk: Arc<Desk>,
    pid: i32,
    guest: Arc<Guest>,
}

impl Console for Desk {
    fn open(self: Arc<Self>, house: &Arc<House>) {
        tokio::spawn(averages::keep(self, Arc::clone(house)));
    }

    fn serve(self: Arc<Self>, house: Arc<House>, login: Login) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let role = Role::of(&house.settings.get(), &login.who.route.project.name, &login.who.route.user);
            match role.and_then(|role| self.enter(role, house.sessions.next_id(), &login)) {
                Ok(place) => {
                    house.registry.telemetry().logins.accepted.one();
                    session::run(place, house, login).await;
                }
                Err(error) => turn_away(&house, login, &error).await,
            }
        })
    }

    fn cancel(&self, request: &CancelRequest) -> bool {
        let sessions = self.sessions.lock();
        let Some(guest) = sessions.by_pid.get(&request.pid) else { return false };
        let is_theirs = bool::from(guest.key.as_slice().ct_eq(&request.key));
        if is_theirs {
            let cancel = Arc::clone(&guest.cancel);
            tokio::spawn(async move { cancel.cancel().await });
        }
        is_theirs
    }

    fn clients(&self) -> usize {
        self.sessions.lock().by_pid.len()
    }

    fn end(&self, id: u64) -> bool {
        let sessions = self.sessions.lock();
        let found = sessions.by_pid.values().find(|guest| guest.id == id);
        found.map(|guest| guest.stop()).is_some()
    }

    fn stop(&self) {
        let mut sessions = self.sessions.lock();
        sessions.is_over = true;
        sessions.by_pid.values().for_each(|guest| guest.stop());
    }
}

impl Desk {
    fn enter(self: &Arc<Self>, role: Role, id: u64, login: &Login) -> Result<Place, PgError> {
        let mut key = [0; KEY_BYTES];
        self.random.fill(&mut key).map_err(|_| PgError::fatal(SqlState::INTERNAL_ERROR, "the system gives no random bytes"))?;
        let most = if role == Role::Admin { SESSIONS_MAX } else { SESSIONS_MAX - ADMINS_MIN };
        let mut sessions = self.sessions.lock();
        if sessions.by_pid.len() >= most {
            return Err(PgError::fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
                .with_detail(format!("{} sessions are connected to the console.", sessions.by_pid.len()))
                .with_hint("Close some of them."));
        }
        sessions.last_pid = sessions.last_pid.wrapping_add(1) & 0xff_ffff;
        let pid = PID_FIRST | sessions.last_pid;
        let guest = Arc::new(Guest::new(id, key, login));
        if sessions.is_over {
            guest.stop();
        }
        sessions.by_pid.insert(pid, Arc::clone(&guest));
        Ok(Place { desk: Arc::clone(self), pid, guest })
    }

    /// Who is at the console, in the order they came.
    fn guests(&self) -> Vec<Arc<Guest>> {
        let mut guests: Vec<_> = self.sessions.lock().by_pid.values().cloned().collect();
        guests.sort_by_key(|guest| guest.id);
        guests
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.desk.sessions.lock().by_pid.remove(&self.pid);
    }
}

async fn turn_away(house: &House, login: Login, error: &PgError) {
    let telemetry = house.registry.telemetry();
    telemetry.logins.refused.one();
    telemetry.errors.count(crate::telemetry::fault_of(error.code.as_str()), error.code.as_str().as_bytes());
    tracing::info!(user = login.who.route.user, peer = %login.stream.peer(), %error, "refused at the console");
    crate::session::turn_away(login, error, &house.settings.get()).await;
}
