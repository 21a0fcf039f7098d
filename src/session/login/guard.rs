//! Who may try at all: addresses, TLS, and those who failed too often.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use parking_lot::Mutex;

use crate::config::{ErrorTexts, Logins};
use crate::error::hosted::Hosted;
use crate::error::{PgError, SqlState};
use crate::net::socket::Peer;
use crate::net::stream::Stream;

/// Addresses whose failures are remembered. Beyond that the one that failed longest ago is forgotten.
const RECORDS_MAX: usize = 10_000;

/// The failures of the recent past. Empty for ever where no project locks anybody out.
#[derive(Debug, Default)]
pub struct Guard(Mutex<HashMap<(String, Origin), Record>>);

/// Whom a failure is laid to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    Unix,
    /// Of an IPv6 address the network of 64 bits, which is what one customer has.
    Address(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Record {
    failures: usize,
    last: Instant,
}

/// Whether a client may prove itself: by its address and by TLS.
///
/// # Errors
/// 28000, with what to change.
pub(super) fn check_way(logins: &Logins, user: &str, stream: &Stream, texts: ErrorTexts) -> Result<(), PgError> {
    let Peer::Tcp(address) = stream.peer() else { return Ok(()) };
    let address = address.ip().to_canonical();
    if !logins.allow.is_empty() && !logins.allow.iter().any(|network| network.contains(address)) {
        return Err(texts.choose(Hosted::Address(address), || {
            let message = format!("connections from {address} are not allowed");
            PgError::fatal(SqlState::INVALID_AUTHORIZATION, message).with_hint("Add the address to the option allow.")
        }));
    }
    if logins.require_tls && !stream.is_tls() {
        return Err(tls_required(user, texts));
    }
    Ok(())
}

pub(super) fn tls_required(user: &str, texts: ErrorTexts) -> PgError {
    texts.choose(Hosted::Tls { user }, || {
        PgError::fatal(SqlState::INVALID_AUTHORIZATION, "SSL connection is required")
            .with_hint("Connect with sslmode=require or stricter.")
    })
}

impl Guard {
    /// # Errors
    /// 28000 for an address that is locked out.
    pub(super) fn check(&self, logins: &Logins, project: &str, peer: Peer, now: impl FnOnce() -> Instant) -> Result<(), PgError> {
        if logins.lockout_failures == 0 {
            return Ok(());
        }
        let now = now();
        let record = self.0.lock().get(&key(project, peer)).copied();
        let locked = record.filter(|record| record.failures >= logins.lockout_failures && !record.is_over(logins, now));
        locked.map_or(Ok(()), |record| Err(locked_out(logins, now - record.last)))
    }

    pub(super) fn failed(&self, logins: &Logins, project: &str, peer: Peer, now: Instant) {
        if logins.lockout_failures == 0 {
            return;
        }
        let mut records = self.0.lock();
        let key = key(project, peer);
        if records.len() >= RECORDS_MAX && !records.contains_key(&key) {
            let oldest = records.iter().min_by_key(|(_, record)| record.last).map(|(key, _)| key.clone());
            oldest.map(|key| records.remove(&key));
        }
        let record = records.entry(key).or_insert(Record { failures: 0, last: now });
        record.failures = if record.is_over(logins, now) { 1 } else { record.failures + 1 };
        record.last = now;
    }

    pub(super) fn succeeded(&self, logins: &Logins, project: &str, peer: Peer) {
        if logins.lockout_failures > 0 {
            self.0.lock().remove(&key(project, peer));
        }
    }
}

impl Record {
    fn is_over(&self, logins: &Logins, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= logins.lockout_time
    }
}

fn key(project: &str, peer: Peer) -> (String, Origin) {
    let origin = match peer {
        Peer::Unix { .. } => Origin::Unix,
        Peer::Tcp(address) => Origin::Address(match address.ip().to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address => address,
        }),
    };
    (project.to_owned(), origin)
}

fn locked_out(logins: &Logins, since: std::time::Duration) -> PgError {
    let left = logins.lockout_time.saturating_sub(since).as_secs() + 1;
    let message = "too many authentication failures, new connections are temporarily blocked";
    PgError::fatal(SqlState::INVALID_AUTHORIZATION, message)
        .with_hint(format!("Try again in {left} seconds. The limit is lockout_failures = {}.", logins.lockout_failures))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn logins() -> Logins {
        Logins { lockout_failures: 3, lockout_time: Duration::from_secs(60), ..Logins::default() }
    }

    fn peer(address: &str) -> Peer {
        Peer::Tcp(address.parse().unwrap())
    }

    #[test]
    fn a_11_too_many_failures_lock_an_address_out_and_no_other() {
        let (guard, logins, start) = (Guard::default(), logins(), Instant::now());
        let (bad, good) = (peer("10.0.0.1:1"), peer("10.0.0.2:1"));
        for _ in 0..3 {
            assert!(guard.check(&logins, "p", bad, || start).is_ok());
            guard.failed(&logins, "p", bad, start);
        }
        assert_eq!(guard.check(&logins, "p", peer("10.0.0.1:99"), || start).unwrap_err().code, SqlState::INVALID_AUTHORIZATION);
        assert!(guard.check(&logins, "p", good, || start).is_ok());
        assert!(guard.check(&logins, "other", bad, || start).is_ok());
        let later = start + logins.lockout_time;
        assert!(guard.check(&logins, "p", bad, || later).is_ok());
        guard.failed(&logins, "p", bad, later);
        assert!(guard.check(&logins, "p", bad, || later).is_ok(), "what was long ago does not count");
    }

    #[test]
    fn a_success_forgives() {
        let (guard, logins, now) = (Guard::default(), logins(), Instant::now());
        let unix = Peer::Unix { pid: None };
        for _ in 0..5 {
            guard.failed(&logins, "p", unix, now);
            guard.failed(&logins, "p", unix, now);
            guard.succeeded(&logins, "p", unix);
            assert!(guard.check(&logins, "p", unix, || now).is_ok());
        }
    }

    #[test]
    fn ipv6_neighbours_are_one() {
        let (guard, logins, now) = (Guard::default(), logins(), Instant::now());
        for host in 1..=3 {
            guard.failed(&logins, "p", peer(&format!("[2001:db8::{host}]:1")), now);
        }
        assert!(guard.check(&logins, "p", peer("[2001:db8::9]:1"), || now).is_err());
        assert!(guard.check(&logins, "p", peer("[2001:db8:0:1::9]:1"), || now).is_ok());
    }

    #[test]
    fn the_memory_of_failures_is_bounded_and_nothing_is_kept_when_it_is_off() {
        let (guard, logins, start) = (Guard::default(), logins(), Instant::now());
        for n in 0..RECORDS_MAX as u32 + 10 {
            let peer = Peer::Tcp((std::net::Ipv4Addr::from_bits(n), 1).into());
            guard.failed(&logins, "p", peer, start + Duration::from_millis(n.into()));
            guard.failed(&Logins::default(), "off", peer, start);
        }
        assert_eq!(guard.0.lock().len(), RECORDS_MAX);
    }
}
