//! What applications run that would break or leak on a hosted transaction-mode pooler, told once each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::relay::{Relay, State};
use super::watched::Watched;
use crate::config::Lint;
use crate::error::PgError;
use crate::pool::PoolMode;
use crate::wire::plan::Status;
use crate::wire::reply;
use crate::wire::sql::{Hazard, Remark, head};

/// Findings remembered; past that, new ones are not told.
const FINDINGS_MAX: usize = 1024;
/// Longest `application_name` kept, in bytes: PostgreSQL's own limit (`NAMEDATALEN - 1`).
const APPLICATION_BYTES_MAX: usize = 63;
/// Notices kept for a client until they may be sent, in bytes.
const UNSAID_BYTES_MAX: usize = 16 * 1024;
/// Clients of one pool on the hosted pooler's smallest instance: on its transaction port, and on its session port.
const CLIENTS_MAX: usize = 200;
const SESSIONS_MAX: usize = 15;
/// Silence inside a transaction that is worth a remark.
const IDLE_TRANSACTION: Duration = Duration::from_secs(2);

/// A remark, and whose statement it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub remark: Remark,
    /// As the client called itself; may be empty.
    pub application: String,
}

/// Everything found so far, each distinct finding once.
#[derive(Debug)]
pub struct Findings {
    way: Lint,
    seen: Mutex<BTreeSet<Finding>>,
}

impl Findings {
    /// `None`: nothing is to be looked for.
    pub fn wanted(way: Lint) -> Option<Arc<Self>> {
        (way != Lint::Off).then(|| Arc::new(Self { way, seen: Mutex::default() }))
    }

    /// In the order of [`Hazard`], then by statement.
    pub fn all(&self) -> Vec<Finding> {
        self.seen.lock().iter().cloned().collect()
    }

    /// A client that has come as one of so many of its pool; the notice for it, if it is to have one.
    pub(super) fn came(&self, mode: PoolMode, clients: usize, application: &str) -> Option<PgError> {
        let (most, statement) = match mode {
            PoolMode::Transaction => (CLIENTS_MAX, "more than 200 clients in transaction mode"),
            PoolMode::Session => (SESSIONS_MAX, "more than 15 clients in session mode"),
        };
        let remark = || Remark { hazard: Hazard::Clients, statement: statement.into() };
        (clients > most)
            .then(|| Finding { remark: remark(), application: self::application(application) })
            .and_then(|f| self.report(f))
    }

    /// Remembers and tells it; the notice for the client, if it is to have one.
    fn report(&self, finding: Finding) -> Option<PgError> {
        if !self.is_new(&finding) {
            return None;
        }
        let Finding { remark: Remark { hazard, statement }, application } = finding;
        match self.way {
            Lint::Off | Lint::Collect => None,
            Lint::Log => {
                let (why, fix) = (hazard.why(), hazard.fix());
                tracing::warn!(application, statement = &*statement, why, fix, "lint: {}", hazard.title());
                None
            }
            Lint::Notice => Some(notice(hazard, &statement)),
        }
    }

    fn is_new(&self, finding: &Finding) -> bool {
        let mut seen = self.seen.lock();
        if seen.contains(finding) || seen.len() >= FINDINGS_MAX {
            return false;
        }
        seen.insert(finding.clone());
        if seen.len() == FINDINGS_MAX {
            tracing::warn!("lint: {FINDINGS_MAX} findings; no more will be told");
        }
        true
    }
}

fn notice(hazard: Hazard, statement: &str) -> PgError {
    PgError::notice(format!("lint: {} would go wrong on a hosted transaction-mode pooler", hazard.title()))
        .with_detail(format!("{} Statement: {statement}", hazard.why()))
        .with_hint(hazard.fix())
}

/// One session's share of it.
#[derive(Debug)]
pub(super) struct Linted {
    findings: Arc<Findings>,
    /// Notices that wait for the end of a message of the server's.
    unsaid: Vec<u8>,
    /// Since when the client says nothing inside a transaction.
    silent_since: Option<Instant>,
}

impl Linted {
    pub(super) fn new(findings: &Arc<Findings>) -> Self {
        Self { findings: Arc::clone(findings), unsaid: Vec::new(), silent_since: None }
    }
}

impl Relay {
    /// After each turn of the client's.
    #[inline]
    pub(super) fn lint_client(&mut self) {
        if self.watched.is_some() {
            self.remark();
        }
    }

    #[cold]
    fn remark(&mut self) {
        let Some(lint) = Watched::lint(&mut self.watched) else { return };
        let silent = lint.silent_since.take().is_some_and(|since| since.elapsed() >= IDLE_TRANSACTION);
        let idle = silent.then(|| Remark::new(Hazard::IdleTransaction, b"BEGIN"));
        for remark in self.side.take_remarks().into_iter().chain(idle) {
            let application = application(self.side.params.get("application_name").unwrap_or_default());
            if let Some(notice) = lint.findings.report(Finding { remark, application })
                && lint.unsaid.len() < UNSAID_BYTES_MAX
            {
                let mut message = bytes::BytesMut::new();
                reply::error(&mut message, &notice);
                lint.unsaid.extend_from_slice(&message);
            }
        }
        self.say_findings();
    }

    /// After each turn of the server's, when what it said is on its way.
    #[inline]
    pub(super) fn lint_server(&mut self) {
        if self.watched.is_some() {
            self.watch_silence();
        }
    }

    #[cold]
    fn watch_silence(&mut self) {
        let Some(lint) = Watched::lint(&mut self.watched) else { return };
        if let State::Serving(server) = &self.state
            && server.side.is_settled()
            && server.side.status() == Status::InTransaction
        {
            lint.silent_since = Some(Instant::now());
        }
        self.say_findings();
    }

    fn say_findings(&mut self) {
        let Some(lint) = Watched::lint(&mut self.watched) else { return };
        let may = match &self.state {
            State::Serving(server) => server.side.is_between_messages(),
            State::Idle | State::Queued => true,
        };
        if may && !lint.unsaid.is_empty() {
            self.to_client.buffer().append(&mut lint.unsaid);
        }
    }
}

fn application(name: &str) -> String {
    head(name, APPLICATION_BYTES_MAX).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(statement: String, application: &str) -> Finding {
        Finding { remark: Remark { hazard: Hazard::Listen, statement: statement.into() }, application: application.into() }
    }

    #[test]
    fn each_is_told_once_and_not_without_end() {
        assert!(Findings::wanted(Lint::Off).is_none());
        let findings = Findings::wanted(Lint::Notice).expect("it is on");
        let told = findings.report(finding("LISTEN a".into(), "shop")).expect("it is new");
        assert_eq!(told.hint.as_deref(), Some(Hazard::Listen.fix()));
        assert!(told.detail.is_some_and(|detail| detail.ends_with("LISTEN a")));
        assert!(findings.report(finding("LISTEN a".into(), "shop")).is_none());
        assert!(findings.report(finding("LISTEN a".into(), "other")).is_some());
        for n in 0..2 * FINDINGS_MAX {
            findings.report(finding(format!("LISTEN a{n}"), "shop"));
        }
        assert_eq!(findings.all().len(), FINDINGS_MAX);
        assert!(findings.report(finding("LISTEN b".into(), "shop")).is_none());
    }

    #[test]
    fn what_is_only_collected_is_told_to_nobody() {
        let findings = Findings::wanted(Lint::Collect).expect("it is on");
        assert!(findings.report(finding("LISTEN a".into(), "")).is_none());
        assert_eq!(findings.all(), [finding("LISTEN a".into(), "")]);
    }
}
