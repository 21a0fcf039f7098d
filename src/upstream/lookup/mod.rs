//! What PostgreSQL knows of a user that Sidepool was not told of: `auth_query`.
//!
//! Nothing is remembered from one login to the next. A secret is always read after the login that needs it began, so that a
//! changed password works at the first try, the old one no more, and a role made a moment ago is there. What keeps that
//! cheap is that a batch is asked at a time, as group commit does: logins that come while a question is under way share
//! the next one. One user's thousand logins at once are two questions, and one connection per project asks them all.

mod answer;
mod desk;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

pub use answer::{Answer, Nobody, RoleSecret};

use crate::auth::key_cache::KeyCache;
use crate::config::{AuthQuery, Project, Timeouts};
use crate::error::SqlState;
use crate::net::spawner::Spawner;
use crate::net::tls::TlsContext;
use crate::upstream::{ConnectError, Credential, ServerError};
use desk::{Answers, Desk};

/// Users asked about in one write: their answers fit into the socket's buffers while nobody reads them yet.
const BATCH_USERS_MAX: usize = 64;
/// A connection without a question for so long is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// First and longest pause between attempts on an upstream that cannot be reached.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);
/// A failure stands for so long, so that clients who try again and again are not as many logins upstream.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// Schema-qualified to its operators, so that no setting of the asking role or of the database changes what it means.
/// VALID UNTIL counts (CVE-2025-2291), and so does NOLOGIN.
const VERIFIERS: &str = "SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<=) pg_catalog.now() THEN NULL ELSE rolpassword \
     END FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin";

/// Asks the upstream of one project.
#[derive(Debug)]
pub struct Lookup(Arc<Shared>);

/// Why there is no answer.
#[derive(Debug)]
pub enum LookupError {
    /// The asking user could not log in.
    Connect(ConnectError),
    /// The server's answer to the question was an error.
    Refused(ServerError),
    /// The query does not take a name, or does not return user and secret.
    Shape(&'static str),
    /// The process is ending, or something in it broke.
    Interrupted,
}

#[derive(Debug)]
struct Shared {
    project: Arc<Project>,
    sql: String,
    tls: Arc<TlsContext>,
    keys: Arc<KeyCache>,
    user: String,
    credential: Credential,
    /// Connecting, and asking one batch.
    limit: Duration,
    /// How long askers outlast an upstream that cannot be reached.
    patience: Duration,
    state: Mutex<State>,
    asked: Notify,
    /// Of the verifier that was seen last; 0 before.
    iterations: AtomicU32,
    questions: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<String, Vec<oneshot::Sender<Told>>>,
    /// The keys of `waiting`, first come first served.
    order: VecDeque<String>,
    clerk: Clerk,
    failure: Option<(Instant, Arc<LookupError>)>,
    /// The kind of failure that was logged last: the same is not said twice.
    said: Option<Kind>,
}

/// Who asks on behalf of all: a task that lives as long as there is something to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Clerk {
    #[default]
    Absent,
    OnDuty,
}

/// What makes two failures the same to whoever reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Over when there is an answer again.
    Connection,
    Query(Option<SqlState>),
    Shape,
}

type Told = Result<Arc<Answer>, Arc<LookupError>>;

/// One user, and who wants to know.
struct Question {
    user: String,
    askers: Vec<oneshot::Sender<Told>>,
}

impl Lookup {
    /// `None` where the project asks nobody.
    pub fn of(project: &Arc<Project>, tls: &Arc<TlsContext>, keys: &Arc<KeyCache>, timeouts: &Timeouts) -> Option<Self> {
        let sql = match &project.logins.auth_query {
            AuthQuery::Off => return None,
            AuthQuery::Verifiers => VERIFIERS.to_owned(),
            AuthQuery::Sql(sql) => sql.clone(),
        };
        let (upstream, logins) = (&project.upstream, &project.logins);
        let user = logins.auth_user.as_ref().unwrap_or(&upstream.user).clone();
        let own = upstream.password.as_ref().filter(|_| user == upstream.user);
        let password = logins.auth_password.as_ref().or(own);
        Some(Self(Arc::new(Shared {
            project: Arc::clone(project),
            sql,
            tls: Arc::clone(tls),
            keys: Arc::clone(keys),
            user,
            credential: password.cloned().map_or(Credential::None, Credential::Password),
            limit: timeouts.server_connect,
            patience: timeouts.server_down,
            state: Mutex::new(State::default()),
            asked: Notify::new(),
            iterations: AtomicU32::new(0),
            questions: AtomicU64::new(0),
        })))
    }

    /// What the upstream says of this user, asked after this was called.
    ///
    /// # Errors
    /// The upstream cannot be reached ([`LookupError::is_passing`]), or does not answer the asking user.
    pub async fn ask(&self, user: &str) -> Told {
        let (tell, told) = oneshot::channel();
        let shared = &self.0;
        let absent = {
            let mut state = shared.state.lock();
            match &state.failure {
                Some((since, error)) if since.elapsed() < FAILURE_KEPT => return Err(Arc::clone(error)),
                _ => {}
            }
            match state.waiting.get_mut(user) {
                Some(askers) => askers.push(tell),
                None => {
                    state.waiting.insert(user.to_owned(), vec![tell]);
                    state.order.push_back(user.to_owned());
                }
            }
            // ## Absent => OnDuty
            std::mem::replace(&mut state.clerk, Clerk::OnDuty) == Clerk::Absent
        };
        match absent {
            true => Spawner::current().spawn(serve(Arc::clone(shared))),
            false => shared.asked.notify_one(),
        }
        told.await.unwrap_or_else(|_| Err(Arc::new(LookupError::Interrupted)))
    }

    /// Asks once, on a connection for this alone, and says nothing to the log.
    ///
    /// # Errors
    /// As [`Lookup::ask`].
    pub async fn probe(&self, user: &str) -> Result<Answer, LookupError> {
        let mut desk = None;
        let answers = self.0.put(&[user], &mut desk).await;
        if let Some(desk) = desk {
            desk.close().await;
        }
        answers?.pop().ok_or(LookupError::Interrupted)?
    }

    /// Who asks.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// What a verifier of this upstream has, as far as one was seen: somebody unknown is shown the same.
    pub fn usual_iterations(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.0.iterations.load(Ordering::Relaxed))
    }
}

/// Nobody who waits is left waiting, should the clerk end in a panic or with the runtime.
struct Duty(Option<Arc<Shared>>);

impl Drop for Duty {
    fn drop(&mut self) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.state.lock();
        // ## OnDuty => Absent
        state.clerk = Clerk::Absent;
        (state.waiting, state.order) = Default::default();
    }
}

/// One batch after another, until there has been nothing to ask for a while.
async fn serve(shared: Arc<Shared>) {
    let mut duty = Duty(Some(Arc::clone(&shared)));
    let mut desk = None;
    loop {
        let batch = shared.take_batch();
        if !batch.is_empty() {
            shared.settle(batch, &mut desk).await;
        } else if timeout(IDLE_LIMIT, shared.asked.notified()).await.is_err() {
            let mut state = shared.state.lock();
            if state.waiting.is_empty() {
                // ## OnDuty => Absent
                state.clerk = Clerk::Absent;
                duty.0 = None;
                break;
            }
        }
    }
    if let Some(desk) = desk {
        desk.close().await;
    }
    let questions = shared.questions.load(Ordering::Relaxed);
    tracing::debug!(project = shared.project.name, questions, "auth_query rests: its connection is closed");
}

impl Shared {
    fn take_batch(&self) -> Vec<Question> {
        let mut state = self.state.lock();
        let count = state.order.len().min(BATCH_USERS_MAX);
        let users: Vec<String> = state.order.drain(..count).collect();
        let taken = users.into_iter().filter_map(|user| state.waiting.remove_entry(&user));
        taken.map(|(user, askers)| Question { user, askers }).collect()
    }

    /// Answers a batch, trying again while the upstream may come back.
    async fn settle(&self, batch: Vec<Question>, desk: &mut Option<Desk>) {
        let users: Vec<&str> = batch.iter().map(|question| question.user.as_str()).collect();
        let began = Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match self.put(&users, desk).await {
                Ok(answers) => return self.tell(batch, answers),
                Err(error) => error,
            };
            if !error.is_passing() || began.elapsed() >= self.patience {
                return self.fail(batch, error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    /// On a connection that was there already, a failure may be the connection's own: then once more on a new one.
    async fn put(&self, users: &[&str], desk: &mut Option<Desk>) -> Result<Answers, LookupError> {
        self.questions.fetch_add(users.len() as u64, Ordering::Relaxed);
        if let Some(mut used) = desk.take()
            && let Ok(Ok(answers)) = timeout(self.limit, used.ask(users)).await
            && !answers.iter().any(is_of_the_connection)
        {
            *desk = Some(used);
            return Ok(answers);
        }
        let asking = async {
            let mut fresh = Desk::open(self).await?;
            let answers = fresh.ask(users).await?;
            Ok((fresh, answers))
        };
        let (fresh, answers) = timeout(self.limit, asking).await.unwrap_or_else(|_| Err(self.too_slow()))?;
        *desk = Some(fresh);
        Ok(answers)
    }

    fn too_slow(&self) -> LookupError {
        let target = format!("the upstream of project {}", self.project.name);
        LookupError::Connect(ConnectError::Unreachable { target, error: std::io::ErrorKind::TimedOut.into() })
    }

    fn tell(&self, batch: Vec<Question>, answers: Answers) {
        {
            let mut state = self.state.lock();
            state.failure = None;
            state.said = state.said.filter(|kind| *kind != Kind::Connection);
        }
        for (question, answer) in batch.into_iter().zip(answers) {
            if let Ok(Answer::Role(RoleSecret::Scram(verifier))) = &answer {
                self.iterations.store(verifier.iterations.get(), Ordering::Relaxed);
            }
            // Of one question: others are asked as before.
            let told = answer.map(Arc::new).map_err(|error| {
                self.say(&error);
                Arc::new(error)
            });
            // Whoever does not listen any more has left.
            question.askers.into_iter().for_each(|asker| drop(asker.send(told.clone())));
        }
    }

    /// Everybody who waits is told, also who came since: one attempt for all (trap 69).
    fn fail(&self, batch: Vec<Question>, error: LookupError) {
        self.say(&error);
        let error = Arc::new(error);
        let waiting = {
            let mut state = self.state.lock();
            state.failure = Some((Instant::now(), Arc::clone(&error)));
            state.order.clear();
            std::mem::take(&mut state.waiting)
        };
        let askers = batch.into_iter().flat_map(|question| question.askers).chain(waiting.into_values().flatten());
        askers.for_each(|asker| drop(asker.send(Err(Arc::clone(&error)))));
    }

    fn say(&self, error: &LookupError) {
        let kind = error.kind();
        let before = self.state.lock().said.replace(kind);
        if before != Some(kind) {
            let hint = error.hint(&self.user);
            tracing::warn!(project = self.project.name, "auth_query cannot say who may log in: {error}; {hint}");
        }
    }
}

/// The prepared statement is gone, or what it stood on has changed.
fn is_of_the_connection(answer: &Result<Answer, LookupError>) -> bool {
    let Err(LookupError::Refused(error)) = answer else { return false };
    matches!(error.sqlstate(), Some(SqlState::FEATURE_NOT_SUPPORTED | SqlState::INVALID_SQL_STATEMENT_NAME))
}

impl LookupError {
    /// It may be otherwise in a moment, and says nothing of the user.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_passing(),
            Self::Refused(_) | Self::Shape(_) | Self::Interrupted => false,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Connect(_) | Self::Interrupted => Kind::Connection,
            Self::Refused(error) => Kind::Query(error.sqlstate()),
            Self::Shape(_) => Kind::Shape,
        }
    }

    fn hint(&self, user: &str) -> String {
        match self {
            Self::Connect(error) if error.is_passing() => "clients whose user is not listed are refused meanwhile".to_owned(),
            Self::Connect(_) => format!("only listed users can log in; `sidepool check` tries its user {user:?} too"),
            Self::Refused(error) if error.sqlstate() == Some(SqlState::INSUFFICIENT_PRIVILEGE) => {
                format!(
                    "only listed users can log in, since {user:?} may not read their verifiers; name one who may as auth_user, \
                     set auth_query to a function that may, list users, or set passthrough = true"
                )
            }
            Self::Refused(_) | Self::Shape(_) | Self::Interrupted => {
                "only listed users can log in; correct auth_query".to_owned()
            }
        }
    }
}

impl From<ConnectError> for LookupError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Refused(error) => {
                let state = error.sqlstate().map(|state| format!(" (SQLSTATE {state})")).unwrap_or_default();
                write!(f, "{}{state}", error.message())
            }
            Self::Shape(what) => f.write_str(what),
            Self::Interrupted => f.write_str("it was interrupted"),
        }
    }
}

impl std::error::Error for LookupError {}

#[cfg(test)]
mod tests;
