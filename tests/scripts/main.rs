//! Random scripts on PostgreSQL itself and on the transaction port, where other clients take the server whenever they may:
//! every message must be the same, and the others must see nothing of it.
//!
//! `SIDEPOOL_SCRIPTS=n` runs that seed alone and shows its script, `SIDEPOOL_SCRIPTS=a..b` those.

#[path = "../common/mod.rs"]
mod common;
mod generate;
mod rival;
#[path = "../../src/wire/exchange/tests/rng.rs"]
mod rng;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::wire::{Reply, Wire};
use common::{Endpoint, Postgres, Sidepool};
use generate::{RESTART, SCHEMA, Script, Step, script};
use rival::Rival;

/// Databases, and so pools, that scripts run in at the same time.
const LANES: usize = 8;

/// After this long a server that the rival wanted and did not get is one that its client keeps.
const PIN_PATIENCE: Duration = Duration::from_millis(20);

/// A pooler, and who is on it.
struct Kind {
    name: &'static str,
    servers: usize,
    isolation: &'static str,
    verify: &'static str,
    /// Other clients, for each script.
    rivals: usize,
    /// Seeds of a normal run.
    seeds: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_share_one_server() {
    all_seeds(Kind { name: "one", servers: 1, isolation: "tracked", verify: "false", rivals: 1, seeds: 120 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_share_two_servers() {
    all_seeds(Kind { name: "two", servers: 2, isolation: "tracked", verify: "false", rivals: 2, seeds: 40 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_under_strict_isolation() {
    all_seeds(Kind { name: "strict", servers: 1, isolation: "strict", verify: "false", rivals: 1, seeds: 40 }).await;
}

/// And nothing is left that their texts did not show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_are_verified() {
    let sidepool =
        all_seeds(Kind { name: "verified", servers: 1, isolation: "tracked", verify: "true", rivals: 1, seeds: 20 }).await;
    let log = sidepool.log();
    assert!(!log.contains("that no statement shows"), "{log}");
}

async fn all_seeds(kind: Kind) -> Arc<Sidepool> {
    let (from, to) = seeds(kind.seeds);
    if to - from == 1 {
        let script = script(from);
        eprintln!("{:?}\n    {}", script.startup, texts(&script.steps));
    }
    let servers = kind.servers.to_string();
    // Whoever waits for a pinned server waits for its script's end.
    let flags = [
        ("pool-size", &*servers),
        ("isolation", kind.isolation),
        ("verify", kind.verify),
        ("timeout-queue-wait", "0"),
        ("timeout-queue-notice", "0"),
    ];
    let sidepool = Arc::new(Sidepool::start(Postgres::shared(), &flags));
    let next = Arc::new(AtomicU64::new(from));
    let lanes = (0..LANES).map(|lane| {
        let (next, sidepool) = (Arc::clone(&next), Arc::clone(&sidepool));
        async move { run_lane(&format!("{}_{lane}", kind.name), &sidepool, kind.rivals, &next, to).await }
    });
    let (mut turns, mut failures) = (0, Vec::new());
    for lane in common::at_once(lanes).await {
        turns += lane.0;
        failures.extend(lane.1);
    }
    assert!(failures.is_empty(), "{} scripts differ:\n{}", failures.len(), failures.join("\n\n"));
    assert!(turns > to - from, "the rivals had the server {turns} times");
    sidepool
}

fn seeds(usual: u64) -> (u64, u64) {
    let number = |text: &str| text.parse::<u64>().expect("SIDEPOOL_SCRIPTS is a seed, or two with .. between them");
    match std::env::var("SIDEPOOL_SCRIPTS") {
        Err(_) => (0, usual),
        Ok(asked) => match asked.split_once("..") {
            Some((from, to)) => (number(from), number(to)),
            None => (number(&asked), number(&asked) + 1),
        },
    }
}

/// In a database of its own, one script after the other: how often the rivals had a server, and what differed.
async fn run_lane(name: &str, sidepool: &Sidepool, rivals: usize, next: &AtomicU64, to: u64) -> (u64, Vec<String>) {
    let direct = Postgres::shared().new_database(name).await;
    let pooled = sidepool.transaction().database(name);
    Postgres::shared().execute(name, SCHEMA).await;
    let mut others = Vec::new();
    for _ in 0..rivals {
        others.push(Rival::start(pooled.clone(), &direct).await);
    }
    let mut failures = Vec::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= to {
            break;
        }
        let script = script(seed);
        let _replay = Replay(seed);
        let expected = play(&direct, &direct, &script, &[]).await;
        let told = play(&pooled, &direct, &script, &others).await;
        let difference = difference(&script, &expected, &told);
        let surprise = others.iter().find_map(Rival::surprise);
        failures.extend(difference.into_iter().chain(surprise).map(|what| format!("SIDEPOOL_SCRIPTS={seed}: {what}")));
    }
    let mut turns = 0;
    for rival in others {
        turns += rival.stop().await;
    }
    (turns, failures)
}

/// What a client was told.
struct Told {
    /// In answer to each step.
    steps: Vec<String>,
    /// Parameters as it knows them in the end.
    parameters: BTreeMap<String, String>,
}

async fn play(endpoint: &Endpoint, direct: &Endpoint, script: &Script, rivals: &[Rival]) -> Told {
    Postgres::shared().execute(&direct.database, RESTART).await;
    let mut endpoint = endpoint.clone();
    for (name, value) in &script.startup {
        endpoint = endpoint.parameter(name, value);
    }
    let mut client = endpoint.wire().await;
    let mut steps = Vec::new();
    for step in &script.steps {
        client.send(&step.bytes).await;
        let replies = answers(&mut client, step.ready).await;
        let is_idle = replies.last().is_some_and(|reply| reply.body == b"I");
        // Of a RESET the server says what it has reset to before we set what the client asked for at its start.
        let is_shown = |reply: &&Reply| script.startup.is_empty() || reply.tag != b'S';
        steps.push(replies.iter().filter(is_shown).map(|reply| shown(reply, &step.text)).collect::<Vec<_>>().join(" "));
        if replies.last().is_none_or(|reply| reply.tag != b'Z') {
            break;
        }
        if is_idle {
            for rival in rivals {
                rival.has_been_there(PIN_PATIENCE).await;
            }
        }
    }
    // Whoever was told FATAL has none to read it.
    let _ = client.try_send(&common::wire::terminate()).await;
    client.until_closed().await;
    Told { steps, parameters: client.parameters.into_iter().collect() }
}

/// Up to so many ReadyForQuery, or to the connection's end (PostgreSQL's own, at a SAVEPOINT behind a COMMIT in one batch).
async fn answers(client: &mut Wire, ready: usize) -> Vec<Reply> {
    let mut replies = Vec::new();
    let mut left = ready;
    while left > 0
        && let Ok(reply) = client.try_next().await
    {
        left -= usize::from(reply.tag == b'Z');
        replies.push(reply);
    }
    replies
}

/// A position in a warning counts in the text that the server got, where our name for a statement stands in place of the client's.
fn shown(reply: &Reply, text: &str) -> String {
    let is_renamed = text.contains("EXECUTE") || text.contains("DEALLOCATE");
    match reply.tag {
        b'N' if is_renamed => b"SCMDH".iter().filter_map(|kind| reply.field(*kind)).collect::<Vec<_>>().join(" | "),
        _ => reply.in_full(),
    }
}

fn difference(script: &Script, direct: &Told, pooled: &Told) -> Option<String> {
    let Some(at) = direct.steps.iter().zip(&pooled.steps).position(|(direct, pooled)| direct != pooled) else {
        let (direct, pooled) = (&direct.parameters, &pooled.parameters);
        let text = || texts(&script.steps);
        return (direct != pooled).then(|| format!("{:?}\n    {}\n  {direct:?}\n  {pooled:?}", script.startup, text()));
    };
    let before = texts(&script.steps[..=at]);
    Some(format!("{:?}\n    {before}\n  directly {}\n  pooled   {}", script.startup, direct.steps[at], pooled.steps[at]))
}

fn texts(steps: &[Step]) -> String {
    steps.iter().map(|step| &*step.text).collect::<Vec<_>>().join("\n    ")
}

struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see this again: SIDEPOOL_SCRIPTS={}", self.0);
        }
    }
}
