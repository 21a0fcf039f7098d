//! The other client: it wants the server whenever it may be had, leaves settings of its own there, and must find
//! nothing of anybody else's.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::common::Endpoint;
use crate::common::wire::{self, Wire, show_in_full};

/// All that one session could leave to the next.
const LOOK: &str = "SELECT (SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_catalog.pg_settings \
    WHERE setting OPERATOR(pg_catalog.<>) reset_val AND name OPERATOR(pg_catalog.!~) '[.]|^transaction_'), \
    pg_catalog.current_setting('role'), session_user, current_user, \
    coalesce(pg_catalog.current_setting('app.x', true), ''), coalesce(pg_catalog.current_setting('app.y', true), ''), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
        AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_cursors WHERE is_holdable), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_listening_channels()), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements WHERE from_sql)";

/// What it does in turn.
fn requests() -> Vec<Vec<u8>> {
    let batch = |frames: &[Vec<u8>]| [frames.concat(), wire::sync()].concat();
    vec![
        wire::query(LOOK),
        wire::query("EXECUTE p1"),
        wire::query("SET TimeZone = 'Pacific/Auckland'; SET work_mem = '64kB'; SET app.x = 'rival'; SET search_path = nowhere"),
        wire::query(LOOK),
        batch(&[wire::parse("s1", "SELECT 'rival'"), wire::parse("", "SELECT 'unnamed'")]),
        wire::query("SET ROLE app"),
        wire::query(LOOK),
        batch(&[wire::bind("", "s1", &[]), wire::execute("", 0), wire::close_statement("s1")]),
        wire::query("RESET ROLE; RESET ALL; SET DateStyle = 'SQL, DMY'; SET standard_conforming_strings = off"),
        wire::query(LOOK),
        wire::query("BEGIN; SET LOCAL work_mem = '128kB'; SELECT 1/0"),
        wire::query("ROLLBACK"),
        wire::query("RESET ALL"),
    ]
}

/// A client on a task of its own.
#[derive(Debug)]
pub(crate) struct Rival {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Requests answered.
    turns: AtomicU64,
    turned: Notify,
    stops: AtomicBool,
    /// What it saw that it should not have seen.
    surprise: Mutex<Option<String>>,
}

impl Rival {
    /// Its requests have the answers they have on a connection of its own, `direct`ly.
    pub(crate) async fn start(pooled: Endpoint, direct: &Endpoint) -> Self {
        let requests = requests();
        let mut alone = direct.wire().await;
        let mut expected = Vec::new();
        // The first round begins as no other does.
        for _ in 0..2 {
            expected = answers(&mut alone, &requests).await;
        }
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(run(pooled.wire().await, requests, expected, Arc::clone(&shared)));
        Self { shared, task }
    }

    /// Until it has had the server once more, or so long that the server must be somebody's to keep.
    pub(crate) async fn has_been_there(&self, patience: Duration) {
        let wanted = self.shared.turns.load(Ordering::Acquire) + 1;
        let been = async {
            loop {
                let turned = self.shared.turned.notified();
                if self.shared.turns.load(Ordering::Acquire) >= wanted || self.task.is_finished() {
                    return;
                }
                turned.await;
            }
        };
        // What it cannot have, it need not wait for.
        let _ = tokio::time::timeout(patience, been).await;
    }

    /// What it has seen of others so far.
    pub(crate) fn surprise(&self) -> Option<String> {
        self.shared.surprise.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) async fn stop(self) -> u64 {
        self.shared.stops.store(true, Ordering::Release);
        self.task.await.expect("it does not panic");
        self.shared.turns.load(Ordering::Acquire)
    }
}

async fn answers(client: &mut Wire, requests: &[Vec<u8>]) -> Vec<String> {
    let mut told = Vec::new();
    for request in requests {
        client.send(request).await;
        told.push(show_in_full(&client.until(b'Z').await));
    }
    told
}

async fn run(mut client: Wire, requests: Vec<Vec<u8>>, expected: Vec<String>, shared: Arc<Shared>) {
    // Its first round is told of here and not looked at.
    let mut rounds = 0;
    while !shared.stops.load(Ordering::Acquire) {
        for (request, expected) in requests.iter().zip(&expected) {
            client.send(request).await;
            let told = show_in_full(&client.until(b'Z').await);
            if rounds > 0 && told != *expected {
                let text: String = String::from_utf8_lossy(request).chars().take(60).collect();
                let surprise = format!("the rival, to {text:?}\n  expected {expected}\n  was told {told}");
                shared.surprise.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(surprise);
            }
            shared.turns.fetch_add(1, Ordering::AcqRel);
            shared.turned.notify_one();
        }
        rounds += 1;
    }
}
