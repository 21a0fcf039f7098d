//! The Unix socket of a server that the URL names by a loopback address: about half the kernel's work of TCP.
//!
//! TCP is what was configured, so it decides: whether the server is there, who is let in, and what a password is worth.
//! The first login of a pool is made over TCP as ever. Only then is the socket tried, and it is taken from then on if it leads
//! to the same server (`proof`), is listened at by somebody who may be trusted (`place`), and asks for the same proof as TCP
//! did: a line `local … trust` in `pg_hba.conf` must not make a password good that is none. Later logins go over the socket
//! at once, while the same process listens there.
//!
//! Whatever checks a client's password upstream uses [`connect`], which knows nothing of sockets.

mod declined;
mod place;
mod proof;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::config::{ChannelBinding, SslMode, Upstream};
use crate::net::socket::Peer;
use crate::net::stream::Stream;
use crate::upstream::connect::{Address, AuthMethod, ConnectSpec, Connected, Entry, connect, log_in};
use crate::upstream::dial::Dial;
use crate::upstream::error::ConnectError;
use declined::{Consequence, Declined};
use place::{Listener, Place};

/// For all that is tried on a socket that has not proved itself.
const PROOF_LIMIT: Duration = Duration::from_secs(3);
/// Users that are remembered as refused at the socket. While there are so many, others go over TCP.
const AVOIDED_USERS_MAX: usize = 256;

/// Of one upstream; shared by its pools.
#[derive(Debug)]
pub struct Shortcut {
    /// The sockets that there may be, best first; none where only what the URL says will do.
    sought: Vec<PathBuf>,
    /// What the log calls the upstream.
    target: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    proof: Proof,
    /// Users that the server refuses at the socket, each until when.
    avoided: HashMap<String, Instant>,
    /// Why the last connection that could have gone over the socket did not: the same is not logged twice.
    said: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Proof {
    /// Nobody has asked, or what was answered counts no more.
    #[default]
    Open,
    /// Behind this one is the server that TCP leads to.
    Same(Listener),
    /// Nobody asks before then.
    Barred { until: Instant },
}

/// As [`connect`] with a limit in time, and over the socket where `shortcut` has found that it may be taken. `accepted` is how
/// the server accepted this user with this credential in this database before; `None`: it has not, and is asked over TCP.
///
/// # Errors
/// As [`connect`]; [`ConnectError::Unreachable`] too when it takes longer than `limit`.
pub async fn connect_nearest(
    spec: &ConnectSpec<'_>,
    shortcut: &Shortcut,
    accepted: Option<AuthMethod>,
    limit: Duration,
) -> Result<Connected, ConnectError> {
    let too_slow = || ConnectError::Unreachable { target: shortcut.target.clone(), error: std::io::ErrorKind::TimedOut.into() };
    if let Some(method) = accepted
        && let Some(known) = shortcut.proved_for(spec.user, Instant::now())
    {
        match timeout(limit, log_in_again(spec, known, method)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(Declined::Login { error, .. })) if Declined::is_answer(&error, method) => return Err(error),
            Ok(Err(declined)) => shortcut.note(spec.user, &declined, Instant::now()),
            Err(_) => {
                shortcut.note(spec.user, &Declined::Silent, Instant::now());
                return Err(too_slow());
            }
        }
    }
    let connected = timeout(limit, connect(spec)).await.unwrap_or_else(|_| Err(too_slow()))?;
    Ok(shortcut.in_place_of(connected, spec).await)
}

impl Shortcut {
    pub fn of(upstream: &Upstream) -> Self {
        let tls = &upstream.tls;
        // Where TLS or a certificate is asked for, a socket has neither.
        let is_free = matches!(tls.mode, SslMode::Disable | SslMode::Prefer)
            && tls.client_certificate.is_none()
            && tls.channel_binding != ChannelBinding::Require;
        let is_sought = is_free && upstream.host.is_loopback();
        let sought = if is_sought { place::sought(&upstream.socket, upstream.port) } else { Vec::new() };
        Self { sought, target: Dial::target_of(upstream), state: Mutex::default() }
    }

    /// Whether there is anything to be found out.
    pub fn is_sought(&self) -> bool {
        !self.sought.is_empty()
    }

    /// The socket that would be tried first now.
    pub fn candidate(&self) -> Option<PathBuf> {
        place::present(&self.sought).first().map(|place| place.path().to_owned())
    }

    /// Everything is to be found out anew.
    pub fn forget(&self) {
        // ## (Open | Same | Barred) => Open
        *self.state.lock() = State::default();
    }

    /// The socket that is taken, or why none is (for people).
    ///
    /// # Errors
    /// Why none is, as far as anybody has asked.
    pub fn verdict(&self) -> Result<PathBuf, String> {
        let state = self.state.lock();
        match (&state.proof, &state.said) {
            (Proof::Same(listener), _) => Ok(listener.path.clone()),
            (_, Some(why)) => Err(why.clone()),
            (Proof::Open | Proof::Barred { .. }, None) => Err("nobody has asked for its Unix socket yet".to_owned()),
        }
    }

    fn proved_for(&self, user: &str, now: Instant) -> Option<Listener> {
        let state = self.state.lock();
        match &state.proof {
            Proof::Same(listener) if state.may_try(user, now) => Some(listener.clone()),
            Proof::Same(_) | Proof::Open | Proof::Barred { .. } => None,
        }
    }

    /// The same login over the socket, if that may be; else the one over TCP, to which nothing has been said.
    async fn in_place_of(&self, tcp: Connected, spec: &ConnectSpec<'_>) -> Connected {
        if !self.is_sought() || !self.state.lock().may_try(spec.user, Instant::now()) {
            return tcp;
        }
        let declined = match timeout(PROOF_LIMIT, self.try_all(spec, &tcp)).await {
            Ok(Ok(by_socket)) => {
                say_goodbye(tcp).await;
                return by_socket;
            }
            Ok(Err(declined)) => declined,
            Err(_) => Declined::Silent,
        };
        self.note(spec.user, &declined, Instant::now());
        tcp
    }

    async fn try_all(&self, spec: &ConnectSpec<'_>, tcp: &Connected) -> Result<Connected, Declined> {
        if !matches!(tcp.stream.peer(), peer @ Peer::Tcp(_) if peer.is_local()) {
            return Err(Declined::NotLocal);
        }
        let known = self.proved_for(spec.user, Instant::now());
        if let Some(known) = known {
            match log_in_again(spec, known, tcp.auth).await {
                Err(declined) if declined.consequence() == Consequence::ProveAnew => {
                    self.note(spec.user, &declined, Instant::now());
                }
                otherwise => return otherwise,
            }
        }
        let mut first = None;
        for place in place::present(&self.sought) {
            match self.try_one(spec, tcp, place).await {
                Ok(connected) => return Ok(connected),
                Err(declined) => _ = first.get_or_insert(declined),
            }
        }
        Err(first.unwrap_or(Declined::Absent))
    }

    async fn try_one(&self, spec: &ConnectSpec<'_>, tcp: &Connected, place: Place) -> Result<Connected, Declined> {
        let (socket, listener) = place.connect().await?;
        let path = &listener.path;
        if tcp.auth == AuthMethod::CleartextPassword {
            return Err(Declined::InClear { path: path.clone() });
        }
        let our_end = tcp.stream.local().ok_or(Declined::NotLocal)?;
        let connected = log_in(entry(Stream::Plain(socket), &listener), spec, Some(tcp.auth)).await;
        let connected = connected.map_err(|error| Declined::Login { path: path.clone(), error })?;
        let connected = proof::prove(connected, path, tcp, our_end).await?;
        self.proved(listener);
        Ok(connected)
    }

    fn proved(&self, listener: Listener) {
        let mut state = self.state.lock();
        let is_news = state.proof != Proof::Same(listener.clone());
        let path = listener.path.clone();
        // ## (Open | Same | Barred) => Same
        state.proof = Proof::Same(listener);
        state.said = None;
        drop(state);
        if is_news {
            let upstream = &self.target;
            tracing::info!(
                upstream,
                "server connections go over the Unix socket {} from now on: it is the same server",
                path.display()
            );
        }
    }

    fn note(&self, user: &str, declined: &Declined, now: Instant) {
        let why = declined.to_string();
        let consequence = declined.consequence();
        let is_news = {
            let mut state = self.state.lock();
            state.take(user, consequence, now);
            state.said.replace(why.clone()).is_none_or(|before| before != why)
        };
        let upstream = &self.target;
        match consequence {
            Consequence::AvoidFor(_) if is_news => {
                tracing::info!(upstream, user, "server connections of this user go over TCP: {why}")
            }
            Consequence::ProveAnew | Consequence::Bar(_) if is_news => {
                tracing::info!(upstream, "server connections go over TCP: {why}")
            }
            _ => tracing::debug!(upstream, user, "a server connection goes over TCP: {why}"),
        }
    }
}

impl State {
    fn may_try(&self, user: &str, now: Instant) -> bool {
        let is_barred = matches!(self.proof, Proof::Barred { until } if now < until);
        let has_room = || self.avoided.len() < AVOIDED_USERS_MAX || self.avoided.values().any(|until| *until <= now);
        !is_barred && self.avoided.get(user).map_or_else(has_room, |until| *until <= now)
    }

    fn take(&mut self, user: &str, consequence: Consequence, now: Instant) {
        match consequence {
            Consequence::Once => {}
            // ## Same => Open
            Consequence::ProveAnew => self.proof = Proof::Open,
            // ## (Open | Same | Barred) => Barred
            Consequence::Bar(time) => self.proof = Proof::Barred { until: now + time },
            Consequence::AvoidFor(time) => {
                self.avoided.retain(|_, until| now < *until);
                if self.avoided.len() < AVOIDED_USERS_MAX {
                    self.avoided.insert(user.to_owned(), now + time);
                }
            }
        }
    }
}

/// Where the process that was looked at still listens: without a question.
async fn log_in_again(spec: &ConnectSpec<'_>, known: Listener, method: AuthMethod) -> Result<Connected, Declined> {
    let Ok(place) = Place::at(&known.path) else { return Err(Declined::Gone { path: known.path }) };
    let (socket, listener) = place.connect().await?;
    if listener != known {
        return Err(Declined::Replaced { path: known.path });
    }
    let connected = log_in(entry(Stream::Plain(socket), &listener), spec, Some(method)).await;
    connected.map_err(|error| Declined::Login { path: known.path, error })
}

fn entry(stream: Stream, listener: &Listener) -> Entry {
    Entry { stream, target: listener.path.display().to_string(), address: Some(Address::Unix(listener.path.clone())) }
}

/// Whether the server hears it changes nothing.
async fn say_goodbye(mut server: Connected) {
    let _ = server.stream.write_all(b"X\0\0\0\x04").await;
    let _ = server.stream.flush().await;
}

#[cfg(test)]
mod tests;
