//! What logins ask the upstreams: who somebody is, and whether a password is right.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::auth::key_cache::KeyCache;
use crate::auth::keys::{ITERATIONS_DEFAULT, ScramKeys};
use crate::auth::process_secret::ProcessSecret;
use crate::auth::verifier::Verifier;
use crate::config::{Password, Project, Settings};
use crate::net::tls::TlsContext;
use crate::session::login::route::Route;
use crate::upstream::{self, ConnectError, ConnectSpec, Credential, Lookup};

/// Users of one project whose passwords have been tried; beyond that all are tried again.
const TRIED_MAX: usize = 10_000;

/// By the name of the project.
#[derive(Debug, Default)]
pub struct Inquiries(HashMap<String, Arc<Inquiry>>);

#[derive(Debug)]
pub(super) struct Inquiry {
    project: Arc<Project>,
    parallel: usize,
    patience: Duration,
    /// `None` where `auth_query` is off.
    pub(super) lookup: Option<Lookup>,
    tls: Arc<TlsContext>,
    keys: Arc<KeyCache>,
    /// Tries under way at once: each is a millisecond of a core, and then a new process upstream.
    tries: Semaphore,
    limit: Duration,
    tried: Mutex<HashMap<String, Tried>>,
}

/// A password that the upstream accepted: its verifier, never itself.
#[derive(Debug)]
struct Tried {
    verifier: Verifier,
    at: Instant,
}

impl Inquiries {
    /// `tls` is each project's upstream TLS context, in the order of the settings.
    pub fn new(settings: &Settings, tls: &[Arc<TlsContext>], keys: &Arc<KeyCache>) -> Self {
        Self::default().next(settings, tls, keys)
    }

    /// Those for other settings. What would be made again as it is stays, with its connection and what it has tried.
    pub fn next(&self, settings: &Settings, tls: &[Arc<TlsContext>], keys: &Arc<KeyCache>) -> Self {
        let (timeouts, parallel) = (&settings.timeouts, settings.limits.parallel_logins);
        let inquiry = |(project, tls): (&Arc<Project>, &Arc<TlsContext>)| Inquiry {
            project: Arc::clone(project),
            parallel,
            patience: timeouts.server_down,
            lookup: Lookup::of(project, tls, keys, timeouts),
            tls: Arc::clone(tls),
            keys: Arc::clone(keys),
            tries: Semaphore::new(parallel),
            limit: timeouts.server_connect,
            tried: Mutex::default(),
        };
        let same = |known: &&Arc<Inquiry>, (project, tls): (&Arc<Project>, &Arc<TlsContext>)| {
            Arc::ptr_eq(&known.project, project)
                && Arc::ptr_eq(&known.tls, tls)
                && (known.parallel, known.patience, known.limit) == (parallel, timeouts.server_down, timeouts.server_connect)
        };
        let all = settings.projects.iter().zip(tls).map(|pair| {
            let known = self.0.get(&pair.0.name).filter(|known| same(known, pair));
            (pair.0.name.clone(), known.map_or_else(|| Arc::new(inquiry(pair)), Arc::clone))
        });
        Self(all.collect())
    }

    pub(super) fn of(&self, project: &str) -> Option<&Inquiry> {
        self.0.get(project).map(|inquiry| &**inquiry)
    }
}

impl Inquiry {
    /// Whether this is the user's password: by what the upstream said a moment ago, else by trying it there.
    ///
    /// # Errors
    /// The upstream refused the login, or could not be asked.
    pub(super) async fn try_password(
        &self,
        route: &Route,
        secret: &ProcessSecret,
        password: &Password,
    ) -> Result<(), ConnectError> {
        let _permit = self.tries.acquire().await;
        let salt = secret.salt(&route.project.name, &route.user);
        let verifier = verifier_of(password, salt.to_vec()).await?;
        if self.was_right(route, &verifier) {
            return Ok(());
        }
        self.log_in(route, password).await?;
        self.remember(&route.user, verifier);
        Ok(())
    }

    fn was_right(&self, route: &Route, verifier: &Verifier) -> bool {
        let max_age = route.project.logins.passthrough_max_age;
        let tried = self.tried.lock();
        tried
            .get(&route.user)
            .is_some_and(|tried| tried.at.elapsed() < max_age && tried.verifier.stored_key == verifier.stored_key)
    }

    fn remember(&self, user: &str, verifier: Verifier) {
        let mut tried = self.tried.lock();
        if tried.len() >= TRIED_MAX && !tried.contains_key(user) {
            tried.clear();
        }
        tried.insert(user.to_owned(), Tried { verifier, at: Instant::now() });
    }

    /// As the user itself, in the database it wants; and out again.
    async fn log_in(&self, route: &Route, password: &Password) -> Result<(), ConnectError> {
        let upstream = &route.project.upstream;
        let credential = Credential::Password(password.clone());
        let spec = ConnectSpec {
            upstream,
            tls: &self.tls,
            keys: &self.keys,
            user: &route.user,
            database: &route.database,
            credential: &credential,
            parameters: &[],
        };
        let connecting = tokio::time::timeout(self.limit, upstream::connect(&spec));
        let timed_out = |_| {
            let target = format!("the upstream of project {}", route.project.name);
            Err(ConnectError::Unreachable { target, error: std::io::ErrorKind::TimedOut.into() })
        };
        let mut connected = connecting.await.unwrap_or_else(timed_out)?;
        // Whether it hears the goodbye changes nothing.
        let _ = connected.stream.write_all(b"X\0\0\0\x04").await;
        let _ = connected.stream.flush().await;
        match connected.auth {
            // A server that asks for nothing proves nothing of the password.
            upstream::AuthMethod::Trust => Err(ConnectError::Credential {
                reason: format!("the server let {:?} in without asking for a password", route.user),
                hint: "Let the server ask for scram-sha-256, md5 or password in its pg_hba.conf.",
            }),
            _ => Ok(()),
        }
    }
}

/// Slow by design, and so away from the data workers.
async fn verifier_of(password: &Password, salt: Vec<u8>) -> Result<Verifier, ConnectError> {
    let password = password.clone();
    let derive = move || {
        let keys = ScramKeys::derive(password.reveal(), &salt, ITERATIONS_DEFAULT);
        Verifier::from_keys(&keys, &salt, ITERATIONS_DEFAULT)
    };
    tokio::task::spawn_blocking(derive)
        .await
        .map_err(|error| ConnectError::Unreachable { target: "the upstream".to_owned(), error: std::io::Error::other(error) })
}
