//! LISTEN on port 6543: one connection listens for all clients of a pool, and nobody can tell.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::wire::{self, Reply, Wire, show, show_in_full};
use common::{Endpoint, Plan, Postgres, Sidepool, at_once, until};

/// What it is told of, as `channel,payload`.
fn heard(replies: &[Reply]) -> Vec<String> {
    let told = replies.iter().filter(|reply| reply.tag == b'A');
    let show = |body: &[u8]| String::from_utf8_lossy(&body[4..body.len() - 1]).replace('\0', ",");
    told.map(|reply| show(&reply.body)).collect()
}

/// Another client takes the only server, and leaves again: whoever listened there listens elsewhere now.
async fn moved(endpoint: &Endpoint) -> String {
    endpoint.wire().await.backend().await
}

async fn listeners(watch: &mut Wire, database: &str) -> String {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sidepool listener' AND datname = ";
    watch.value(&format!("{sql}'{database}'")).await
}

#[tokio::test]
async fn who_listens_keeps_no_server_and_hears_all_the_same() {
    let sidepool = Sidepool::with_one_server();
    let endpoint = sidepool.transaction();
    let mut one = endpoint.wire().await;
    let pid = one.backend().await;
    one.run("LISTEN moved_1; LISTEN \"Moved \"\"2\"\" \\'; --\"").await;
    assert_eq!(moved(&endpoint).await, pid, "its server was given to another");
    let mut direct = Postgres::shared().direct().wire().await;
    let sender = direct.backend().await;
    let long = "é".repeat(3999) + "x";
    for payload in ["1", "", "it''s \\ \"all\"", &long] {
        direct.run(&format!("NOTIFY moved_1, '{payload}'; NOTIFY \"Moved \"\"2\"\" \\'; --\", '{payload}'")).await;
        for channel in ["moved_1", "Moved \"2\" \\'; --"] {
            let reply = one.next().await;
            assert_eq!(heard(std::slice::from_ref(&reply)), [format!("{channel},{}", payload.replace("''", "'"))]);
            assert_eq!(u32::from_be_bytes(*reply.body.first_chunk().unwrap()).to_string(), sender, "the sender's own process");
        }
    }
    // Its own, too.
    one.run("SELECT 1").await;
    let replies = one.query("NOTIFY moved_1, 'own'").await;
    let told = if heard(&replies).is_empty() { one.until(b'A').await } else { replies };
    assert_eq!(heard(&told), ["moved_1,own"]);
}

/// Verified, a server is asked what it has before it is told to hear the pooler's own channel no more.
#[tokio::test]
async fn the_poolers_own_channel_is_not_shown_under_verify_either() {
    let database = Postgres::shared().new_database("listen_verified").await.database;
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "1"), ("verify", "true")]);
    let endpoint = sidepool.transaction().database(&database);
    let mut one = endpoint.wire().await;
    for _ in 0..10 {
        one.run("LISTEN a").await;
        moved(&endpoint).await;
        for sql in ["BEGIN", "UNLISTEN a", "UNLISTEN *", "COMMIT"] {
            one.run(sql).await;
        }
        assert_eq!(show_in_full(&one.query("SELECT pg_listening_channels()").await), "T(pg_listening_channels) C(SELECT 0) Z(I)");
        let mut next = endpoint.wire().await;
        assert_eq!(
            show_in_full(&next.query("SELECT pg_listening_channels()").await),
            "T(pg_listening_channels) C(SELECT 0) Z(I)"
        );
    }
}

#[tokio::test]
async fn notifications_come_between_transactions_only() {
    let sidepool = Sidepool::with_one_server();
    let endpoint = sidepool.transaction();
    let mut one = endpoint.wire().await;
    one.run("LISTEN between").await;
    moved(&endpoint).await;
    let mut direct = Postgres::shared().direct().wire().await;
    one.run("BEGIN").await;
    direct.run("NOTIFY between, 'during'").await;
    // Long enough for it to come.
    assert_eq!(one.shown("SELECT pg_sleep(0.3)").await, "T D C(SELECT 1) Z(T)");
    assert_eq!(one.shown("SELECT 1").await, "T D C(SELECT 1) Z(T)");
    assert!(one.shown("SELECT 1/0").await.ends_with("Z(E)"));
    assert!(one.shown("SELECT 1").await.ends_with("E(25P02) Z(E)"));
    assert!(one.shown("ROLLBACK").await.starts_with("C(ROLLBACK) Z(I)"));
    assert_eq!(heard(&one.until(b'A').await), ["between,during"]);
    // A batch is a transaction until its Sync.
    one.send(&[wire::parse("", "SELECT pg_sleep(0.3)"), wire::bind("", "", &[]), wire::execute("", 0), wire::flush()].concat())
        .await;
    direct.run("NOTIFY between, 'batch'").await;
    assert_eq!(show(&one.until(b'C').await), "1 2 D C(SELECT 1)");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    one.send(&wire::sync()).await;
    assert_eq!(show(&one.until(b'A').await), "Z(I) A(between,batch)");
}

/// A client of Sidepool's and one of PostgreSQL's do the same, with notifications of a third between any two steps; the
/// first is made to give up its server as often as that can be.
struct Twins {
    pooled: Wire,
    direct: Wire,
    sender: Wire,
    endpoint: Endpoint,
    channels: Vec<&'static str>,
    sent: u32,
    heard: [Vec<String>; 2],
    in_transaction: bool,
    done: Vec<String>,
}

impl Twins {
    async fn new(sidepool: &Sidepool, database: &str, channels: &[&'static str]) -> Self {
        let direct = Postgres::shared().new_database(database).await;
        let endpoint = sidepool.transaction().database(database);
        Self {
            pooled: endpoint.wire().await,
            direct: direct.wire().await,
            sender: direct.wire().await,
            endpoint,
            channels: channels.to_vec(),
            sent: 0,
            heard: [Vec::new(), Vec::new()],
            in_transaction: false,
            done: Vec::new(),
        }
    }

    async fn step(&mut self, frames: &[Vec<u8>], ready: usize, what: &str) {
        let mut shown = Vec::new();
        self.done.push(what.to_owned());
        for (wire, told) in [(&mut self.direct, 1), (&mut self.pooled, 0)] {
            wire.send(&frames.concat()).await;
            let mut replies = Vec::new();
            for _ in 0..ready {
                replies.extend(wire.until(b'Z').await);
            }
            self.heard[told].extend(heard(&replies));
            replies.retain(|reply| reply.tag != b'A');
            self.in_transaction = replies.last().is_some_and(|reply| reply.body != b"I");
            shown.push(show_in_full(&replies));
        }
        assert_eq!(shown[1], shown[0], "{:#?}", self.done);
        // What is sent while a transaction is open PostgreSQL holds against the channels that it leaves, if it listened before:
        // docs/compatibility.md.
        if !self.in_transaction {
            self.notify().await;
            moved(&self.endpoint).await;
            self.notify().await;
        }
    }

    async fn notify(&mut self) {
        for channel in &self.channels {
            self.sent += 1;
            self.sender.run(&format!("NOTIFY {channel}, '{}'", self.sent)).await;
        }
    }

    async fn query(&mut self, sql: &str) {
        self.step(&[wire::query(sql)], 1, sql).await;
    }

    /// Both hear the last one of all, and have heard the same before it.
    async fn end(mut self) {
        if self.in_transaction {
            self.query("ROLLBACK").await;
        }
        self.query("LISTEN the_end").await;
        self.sender.run("NOTIFY the_end").await;
        for (wire, told) in [(&mut self.direct, 1), (&mut self.pooled, 0)] {
            while self.heard[told].last().is_none_or(|last| !last.starts_with("the_end")) {
                let replies = wire.until(b'A').await;
                self.heard[told].extend(heard(&replies));
            }
        }
        assert_eq!(self.heard[0], self.heard[1], "{:#?}", self.done);
    }
}

#[tokio::test]
async fn what_is_listened_to_is_what_was_committed() {
    let sidepool = Sidepool::with_one_server();
    let mut twins = Twins::new(&sidepool, "listen_committed", &["a", "\"B\"\" b\"", "c"]).await;
    for sql in [
        "LISTEN a",
        "SELECT pg_listening_channels() ORDER BY 1",
        "BEGIN; LISTEN \"B\"\" b\"; ROLLBACK",
        "SELECT pg_listening_channels() ORDER BY 1",
        // In a transaction of several messages, the first of which had nothing to do with it.
        "BEGIN",
        "SELECT 1",
        "LISTEN \"B\"\" b\"",
        "ROLLBACK",
        "SELECT 1",
        "BEGIN",
        "UNLISTEN a",
        "ROLLBACK",
        "SELECT 1",
        "BEGIN",
        "UNLISTEN *",
        "ROLLBACK",
        "BEGIN",
        "LISTEN c",
        "SAVEPOINT s",
        "UNLISTEN a",
        "LISTEN \"B\"\" b\"",
        "ROLLBACK TO s",
        "LISTEN \"B\"\" b\"",
        "COMMIT",
        "SELECT pg_listening_channels() ORDER BY 1",
        "BEGIN",
        "SAVEPOINT s",
        "UNLISTEN a",
        "ROLLBACK TO s",
        "UNLISTEN c",
        "COMMIT",
        "SELECT pg_listening_channels() ORDER BY 1",
        "BEGIN",
        "UNLISTEN \"B\"\" b\"",
        "LISTEN c",
        "SELECT 1/0",
        "LISTEN c",
        "COMMIT",
        "UNLISTEN a; SELECT 1/0",
        "SELECT pg_listening_channels() ORDER BY 1",
        "BEGIN",
        "LISTEN a",
        // What asyncpg says when a connection goes back to its pool.
        "ROLLBACK;\nSELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
        "LISTEN a; LISTEN c",
        "BEGIN",
        "SELECT 1/0",
        "ROLLBACK WORK; UNLISTEN a",
        "DO $$ BEGIN UNLISTEN c; LISTEN \"B\"\" b\"; END $$",
        "SELECT pg_listening_channels() ORDER BY 1",
        "DISCARD ALL",
        "SELECT pg_listening_channels() ORDER BY 1",
        "LISTEN a",
        "UNLISTEN *",
        "SELECT pg_listening_channels() ORDER BY 1",
        "LISTEN c",
        "BEGIN; UNLISTEN c; COMMIT; LISTEN a",
    ] {
        twins.query(sql).await;
    }
    twins.end().await;
}

#[tokio::test]
async fn listening_by_the_extended_protocol_is_the_same() {
    let sidepool = Sidepool::with_one_server();
    let mut twins = Twins::new(&sidepool, "listen_extended", &["a", "b", "c"]).await;
    let run = |sql: &str| [wire::parse("", sql), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    let named = |name: &str| [wire::bind("p", name, &[]), wire::execute("p", 0), wire::close_portal("p")].concat();
    let scripts: [(&str, Vec<Vec<u8>>, usize); 12] = [
        ("LISTEN a", vec![run("LISTEN a"), wire::sync()], 1),
        ("prepared", vec![wire::parse("l", "LISTEN b"), wire::parse("u", "UNLISTEN b"), wire::sync()], 1),
        ("LISTEN b", vec![named("l"), wire::sync()], 1),
        ("listed", vec![run("SELECT pg_listening_channels() ORDER BY 1"), wire::sync()], 1),
        ("UNLISTEN b", vec![named("u"), wire::sync()], 1),
        ("a batch that fails", vec![named("l"), run("UNLISTEN a"), run("SELECT 1/0"), wire::sync()], 1),
        ("a batch of several", vec![run("SELECT 1"), named("l"), run("UNLISTEN a"), run("LISTEN c"), wire::sync()], 1),
        ("batches", vec![named("u"), wire::sync(), run("LISTEN a"), wire::sync(), run("UNLISTEN c"), wire::sync()], 3),
        ("queries", vec![wire::query("UNLISTEN a"), wire::query("LISTEN c"), wire::query("UNLISTEN *; LISTEN b")], 3),
        (
            "a block",
            vec![wire::query("BEGIN"), wire::query("UNLISTEN b"), run("LISTEN a"), wire::sync(), wire::query("ROLLBACK")],
            4,
        ),
        ("another", vec![run("BEGIN"), run("UNLISTEN b"), run("LISTEN a"), wire::sync(), run("COMMIT"), wire::sync()], 2),
        ("listed", vec![run("SELECT pg_listening_channels() ORDER BY 1"), wire::sync()], 1),
    ];
    for (what, frames, ready) in scripts {
        twins.step(&frames, ready, what).await;
    }
    twins.end().await;
}

/// Its channels come back in front of the text, and what the pooler has to say behind it is not to be read as data.
#[tokio::test]
async fn a_text_that_listens_no_more_and_copies_is_answered_as_directly() {
    let direct = Postgres::shared().new_database("listen_copies").await;
    direct.wire().await.run("CREATE TABLE t (a int)").await;
    let sidepool = Sidepool::with_one_server();
    let endpoint = sidepool.transaction().database("listen_copies");
    let mut notifier = direct.wire().await;
    let text = "UNLISTEN *; COPY t FROM STDIN";
    let run = |sql: &str| [wire::parse("", sql), wire::bind("", "", &[]), wire::execute("", 0)].concat();
    let simple = vec![wire::query("BEGIN"), wire::query(text), wire::copy_data(b"1\n"), wire::copy_done()];
    let batch = vec![run("BEGIN"), run("UNLISTEN *"), run("COPY t FROM STDIN"), wire::sync()];
    let batch = [batch, vec![wire::copy_data(b"1\n"), wire::copy_done(), wire::sync()]].concat();
    for (frames, ready) in [(simple, 2), (batch, 1)] {
        let mut answers = Vec::new();
        for place in [&direct, &endpoint] {
            let mut client = place.wire().await;
            client.run("LISTEN x; LISTEN y").await;
            moved(&endpoint).await;
            client.send(&frames.concat()).await;
            let mut told = Vec::new();
            for _ in 0..ready {
                told.extend(client.until(b'Z').await);
            }
            told.extend(client.query("LISTEN y").await);
            told.extend(client.query("COMMIT").await);
            notifier.run("NOTIFY x, '1'; NOTIFY y, '2'").await;
            told.extend(client.until(b'A').await);
            told.extend(client.query("SELECT pg_listening_channels()").await);
            assert_eq!(heard(&told), ["y,2"]);
            answers.push(show(&told));
        }
        assert_eq!(answers[0], answers[1]);
    }
}

/// The marker of the way back waits for whoever notifies meanwhile, as LISTEN alone would not: it is none of the client's own
/// statements, and not under its timeouts.
#[tokio::test]
async fn channels_come_back_under_no_timeout_of_their_clients() {
    // A COMMIT may wait for a standby that never comes, and what it notifies of with it.
    let settings = [("synchronous_standby_names", "nobody"), ("synchronous_commit", "local")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let postgres = Postgres::start(Plan { settings, ..Plan::default() });
    let sidepool = Sidepool::start(&postgres, &[("pool-size", "1")]);
    let (endpoint, direct) = (sidepool.transaction(), postgres.direct());
    let (mut client, mut slow, mut watch) = (endpoint.wire().await, direct.wire().await, direct.wire().await);
    client.run("LISTEN x").await;
    moved(&endpoint).await;
    client.run("SET lock_timeout = '1ms'").await;
    slow.run("SET synchronous_commit = on").await;
    let pid = slow.backend().await;
    slow.send(&wire::query("BEGIN; CREATE TABLE waits (); NOTIFY x, 'slow'; COMMIT")).await;
    let mut sees = async |what: &str, sql: &str| until(what, async || watch.value(sql).await == "1").await;
    sees("it waits for the standby", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").await;
    client.send(&wire::query("LISTEN y")).await;
    sees("the way back waits", "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND NOT granted").await;
    direct.wire().await.run(&format!("SELECT pg_cancel_backend({pid})")).await;
    assert_eq!(show(&client.until(b'Z').await), "A(x,slow) C(LISTEN) Z(I)");
}

/// Of any script a client hears what it would hear without Sidepool, each one once and in order.
#[tokio::test]
async fn any_script_hears_what_it_would_hear_directly() {
    const STEPS: [&str; 17] = [
        "LISTEN a",
        "LISTEN b",
        "LISTEN c",
        "UNLISTEN a",
        "UNLISTEN b",
        "UNLISTEN *",
        "BEGIN",
        "BEGIN",
        "COMMIT",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "RELEASE s",
        "SELECT 1",
        "SELECT pg_listening_channels() ORDER BY 1",
        "SET application_name = 'x'; LISTEN b",
    ];
    for seed in 0..6u64 {
        let isolation = if seed % 2 == 0 { "tracked" } else { "strict" };
        let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "1"), ("isolation", isolation)]);
        let mut twins = Twins::new(&sidepool, &format!("listen_any_{seed}"), &["a", "b", "c"]).await;
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        for _ in 0..40 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let sql = STEPS[(state % STEPS.len() as u64) as usize];
            // Inside a block it shows what the server listens to, and the others are not there yet: docs/compatibility.md.
            if twins.in_transaction && sql.contains("pg_listening") {
                continue;
            }
            match (state >> 32) % 3 {
                0 => {
                    twins.step(&[wire::parse("", sql), wire::bind("", "", &[]), wire::execute("", 0), wire::sync()], 1, sql).await
                }
                1 => twins.query(sql).await,
                _ => twins.step(&[wire::query(sql), wire::query("SELECT 2")], 2, &format!("{sql} and SELECT 2")).await,
            }
        }
        twins.end().await;
    }
}

/// Reads until it has heard `count`, and does something on its own now and then.
async fn work(mut wire: Wire, number: usize, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    let mut turn = number;
    while told.len() < count {
        turn += 1;
        let replies = match turn % 5 {
            0 => wire.query("BEGIN; SELECT 1; COMMIT").await,
            1 if number.is_multiple_of(4) => wire.query(&format!("LISTEN own_{number}")).await,
            2 if number.is_multiple_of(4) => wire.query(&format!("BEGIN; UNLISTEN own_{number}; COMMIT")).await,
            _ => wire.until(b'A').await,
        };
        told.extend(heard(&replies));
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_workers_hear_each_job_once_while_their_channels_move() {
    const WORKERS: usize = 100;
    const JOBS: usize = 400;
    let direct = Postgres::shared().new_database("listen_jobs").await;
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3")]);
    let endpoint = sidepool.transaction().database("listen_jobs");
    let mut reference = direct.wire().await;
    reference.run("LISTEN jobs").await;
    let workers = at_once((0..WORKERS).map(|_| {
        let endpoint = endpoint.clone();
        async move {
            let mut worker = endpoint.wire().await;
            worker.run("LISTEN jobs").await;
            worker
        }
    }))
    .await;
    let over = Arc::new(AtomicBool::new(false));
    // Others, so that servers are wanted all the time.
    let crowd: Vec<_> = (0..4)
        .map(|_| {
            let (endpoint, over) = (endpoint.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut wire = endpoint.wire().await;
                let mut served = 0;
                while !over.load(Ordering::Relaxed) {
                    wire.run("SELECT pg_sleep(0.001)").await;
                    served += 1;
                }
                served
            })
        })
        .collect();
    let senders: Vec<_> = (0..2)
        .map(|sender| {
            let direct = direct.clone();
            tokio::spawn(async move {
                let mut wire = direct.wire().await;
                for job in 0..JOBS / 2 {
                    wire.run(&format!("NOTIFY jobs, '{sender}-{job}'")).await;
                }
            })
        })
        .collect();
    let told = at_once(workers.into_iter().enumerate().map(|(number, wire)| work(wire, number, JOBS))).await;
    over.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    for client in crowd {
        assert!(client.await.unwrap() > 0, "others were served meanwhile");
    }
    let mut expected = Vec::new();
    while expected.len() < JOBS {
        expected.extend(heard(&reference.until(b'A').await));
    }
    for (number, told) in told.iter().enumerate() {
        assert_eq!(*told, expected, "worker {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_listening_clients_hold_one_server() {
    const CLIENTS: usize = 1000;
    let direct = Postgres::shared().new_database("listen_thousand").await;
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2"), ("max-clients", "1200")]);
    let endpoint = sidepool.transaction().database("listen_thousand");
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = endpoint.wire().await;
        client.run(&format!("LISTEN everybody; LISTEN own_{number}")).await;
        clients.push(client);
    }
    // Both servers of the pool are to be had at the same time.
    let (mut one, mut two) = (endpoint.wire().await, endpoint.wire().await);
    one.run("BEGIN").await;
    two.run("BEGIN").await;
    let mut watch = direct.wire().await;
    let sql = "SELECT string_agg(application_name, ',' ORDER BY application_name) FROM pg_stat_activity \
               WHERE datname = 'listen_thousand' AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    assert_eq!(watch.value(sql).await, ",,sidepool listener");
    watch.run("NOTIFY everybody, 'hello'; NOTIFY own_17, 'you'").await;
    for client in &mut clients {
        assert_eq!(heard(&client.until(b'A').await), ["everybody,hello"]);
    }
    assert_eq!(heard(&clients[17].until(b'A').await), ["own_17,you"]);
    one.run("COMMIT").await;
    two.run("COMMIT").await;
}

#[tokio::test]
async fn a_lost_listener_ends_its_clients_as_a_lost_server_would() {
    let direct = Postgres::shared().new_database("listen_lost").await;
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "1"), ("http", "127.0.0.1:0")]);
    let endpoint = sidepool.transaction().database("listen_lost");
    let (mut one, mut idle, mut other) = (endpoint.wire().await, endpoint.wire().await, endpoint.wire().await);
    one.run("LISTEN lost").await;
    idle.run("LISTEN lost").await;
    other.run("SELECT 1").await;
    let mut watch = direct.wire().await;
    assert_eq!(listeners(&mut watch, "listen_lost").await, "1");
    one.run("BEGIN").await;
    let sql = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
               WHERE application_name = 'sidepool listener' AND datname = 'listen_lost'";
    assert_eq!(watch.value(sql).await, "t");
    let last = idle.until_closed().await;
    assert!(show(&last) == "E(57P01)" && show_in_full(&last).contains("Notifications may have been lost"), "{last:?}");
    // What it is in the middle of may end.
    one.run("SELECT 1").await;
    assert!(one.shown("COMMIT").await.starts_with("C(COMMIT) Z(I)"));
    assert_eq!(show(&one.until_closed().await), "E(57P01)");
    // Whoever comes back hears again.
    let mut again = endpoint.wire().await;
    again.run("LISTEN lost").await;
    other.run("SELECT 1").await;
    assert_eq!(listeners(&mut watch, "listen_lost").await, "1");
    watch.run("NOTIFY lost, 'found'").await;
    assert_eq!(heard(&again.until(b'A').await), ["lost,found"]);
}

#[tokio::test]
async fn where_there_is_no_room_for_a_listener_a_client_keeps_its_server() {
    let flags = [("pool-size", "1"), ("max-server-connections", "1"), ("timeout-queue-wait", "1s")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    let mut one = sidepool.transaction().wire().await;
    let pid = one.backend().await;
    one.run("LISTEN no_room").await;
    let refused = sidepool.transaction().wire().await.shown("SELECT 1").await;
    assert!(refused.contains("E(53300)"), "{refused}");
    sidepool.log_has("no connection is left for a listener");
    Postgres::shared().execute("postgres", "NOTIFY no_room, 'still'").await;
    assert_eq!(heard(&one.until(b'A').await), ["no_room,still"]);
    assert_eq!(one.backend().await, pid);
    one.run("UNLISTEN *").await;
    assert_eq!(sidepool.transaction().wire().await.backend().await, pid);
}

#[tokio::test]
async fn a_client_that_takes_no_notifications_is_ended_when_there_are_too_many() {
    let sidepool = Sidepool::with_one_server();
    let endpoint = sidepool.transaction();
    let (mut slow, mut quick) = (endpoint.wire().await, endpoint.wire().await);
    slow.run("LISTEN too_many").await;
    quick.run("LISTEN too_many").await;
    slow.run("BEGIN").await;
    const COUNT: usize = 3000;
    let flood = format!("SELECT count(pg_notify('too_many', i || repeat('x', 7990))) FROM generate_series(1, {COUNT}) AS i");
    Postgres::shared().execute("postgres", &flood).await;
    let mut told = Vec::new();
    while told.len() < COUNT {
        told.extend(heard(&quick.until(b'A').await));
    }
    let numbers = told.iter().map(|told| told["too_many,".len()..].trim_end_matches('x').parse().unwrap());
    assert_eq!(numbers.collect::<Vec<usize>>(), (1..=COUNT).collect::<Vec<_>>());
    let _ = slow.try_send(&wire::query("COMMIT")).await;
    let last = slow.until_closed().await;
    assert!(
        show_in_full(&last).contains("54000 | terminating connection because it does not take its notifications"),
        "{last:?}"
    );
}

/// Of which its socket takes a part: the rest must not wait for the next notification.
#[tokio::test]
async fn a_client_that_reads_late_is_told_all_there_is() {
    const COUNT: usize = 1000;
    let sidepool = Sidepool::with_one_server();
    let endpoint = sidepool.transaction();
    let (mut late, mut late_and_busy) = (reading_little(&endpoint).await, reading_little(&endpoint).await);
    let mut quick = endpoint.wire().await;
    for wire in [&mut late, &mut late_and_busy, &mut quick] {
        wire.run("LISTEN late").await;
    }
    moved(&endpoint).await;
    let flood = format!("SELECT count(pg_notify('late', i || repeat('x', 7000))) FROM generate_series(1, {COUNT}) AS i");
    Postgres::shared().execute("postgres", &flood).await;
    // When one has heard all, the others' are there, and nothing more will come.
    let mut told = Vec::new();
    while told.len() < COUNT {
        told.extend(heard(&quick.until(b'A').await));
    }
    late_and_busy.send(&wire::query("LISTEN later")).await;
    for wire in [&mut late, &mut late_and_busy] {
        let mut late_told = Vec::new();
        while late_told.len() < COUNT {
            late_told.extend(heard(&wire.until(b'A').await));
        }
        assert!(late_told == told, "the same, in the same order");
    }
    assert_eq!(show(&late_and_busy.until(b'Z').await), "C(LISTEN) Z(I)");
}

/// A client whose socket has room for little.
async fn reading_little(endpoint: &Endpoint) -> Wire {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("it is one");
    let stream = socket.connect(([127, 0, 0, 1], endpoint.port).into()).await.expect("it listens");
    let mut wire = Wire::over(stream, endpoint.port);
    assert_eq!(wire.log_in(endpoint).await.last().map(|reply| reply.tag), Some(b'Z'));
    wire
}

/// A client may have its texts in another encoding than the listener.
#[tokio::test]
async fn a_client_of_another_encoding_is_told_in_its_own() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2")]);
    let endpoint = sidepool.transaction();
    let mut latin = endpoint.clone().parameter("client_encoding", "LATIN1").wire().await;
    latin.run("LISTEN encoded").await;
    let mut utf8 = endpoint.wire().await;
    utf8.run("LISTEN encoded").await;
    moved(&endpoint).await;
    let mut direct = Postgres::shared().direct().wire().await;
    direct.run("NOTIFY encoded, 'é'").await;
    assert!(latin.until(b'A').await[0].body.ends_with(b"encoded\0\xe9\0"));
    assert!(utf8.until(b'A').await[0].body.ends_with("encoded\0é\0".as_bytes()));
    // One that changes its mind has its channels back first.
    utf8.run("SET client_encoding = 'LATIN1'").await;
    direct.run("NOTIFY encoded, 'è'").await;
    assert!(utf8.until(b'A').await[0].body.ends_with(b"encoded\0\xe8\0"));
}

#[tokio::test]
async fn the_listener_goes_when_its_database_is_to_go() {
    let direct = Postgres::shared().new_database("listen_dropped").await;
    let sidepool = Sidepool::with_one_server();
    let endpoint = sidepool.transaction().database("listen_dropped");
    let mut one = endpoint.wire().await;
    one.run("LISTEN dropped").await;
    moved(&endpoint).await;
    let mut watch = direct.wire().await;
    assert_eq!(listeners(&mut watch, "listen_dropped").await, "1");
    drop((one, watch));
    sidepool.transaction().database("postgres").wire().await.run("DROP DATABASE listen_dropped").await;
}

/// A client of tokio-postgres, which knows nothing of all this.
#[tokio::test]
async fn a_driver_hears_its_notifications() {
    let sidepool = Sidepool::with_one_server();
    let endpoint = sidepool.transaction();
    let (client, mut connection) = endpoint.config().connect(tokio_postgres::NoTls).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let tokio_postgres::AsyncMessage::Notification(notification) = message {
                let _ = tell.send(notification.payload().to_owned());
            }
        }
    });
    client.batch_execute("LISTEN driven").await.unwrap();
    let mut all = BTreeSet::new();
    for number in 0..20 {
        moved(&endpoint).await;
        if number % 7 == 3 {
            client.execute("LISTEN driven_too", &[]).await.unwrap();
        }
        client.execute("SELECT pg_notify('driven', $1::text)", &[&number.to_string()]).await.unwrap();
        all.insert(number.to_string());
    }
    let mut seen = BTreeSet::new();
    while seen.len() < all.len() {
        let payload = tokio::time::timeout(common::PATIENCE, told.recv()).await.unwrap().unwrap();
        assert!(seen.insert(payload.clone()), "{payload} came twice");
    }
    assert_eq!(seen, all);
}

/// Nothing of it stays when nobody listens any more, and what was moved is known to people.
#[tokio::test]
async fn who_listens_is_counted() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "1"), ("http", "127.0.0.1:0")]);
    let endpoint = sidepool.transaction().database("postgres");
    let mut one = endpoint.wire().await;
    one.run("LISTEN counted; LISTEN counted_too").await;
    moved(&endpoint).await;
    Postgres::shared().execute("postgres", "NOTIFY counted, '1'; NOTIFY counted_too, '2'; NOTIFY counted, '3'").await;
    let mut told = Vec::new();
    while told.len() < 3 {
        told.extend(heard(&one.until(b'A').await));
    }
    let page = metrics(sidepool.http_port()).await;
    for line in ["listening_clients{", "listened_channels{", "notifications_total{", "listeners_lost_total{"] {
        assert!(page.lines().any(|l| l.starts_with(&format!("sidepool_{line}"))), "{line} in {page}");
    }
    let value = |name: &str| {
        let of_pool = |l: &&str| l.starts_with(name) && l.contains("mode=\"transaction\"");
        page.lines().find(of_pool).and_then(|l| l.rsplit(' ').next().map(str::to_owned))
    };
    assert_eq!(value("sidepool_listening_clients").as_deref(), Some("1"));
    assert_eq!(value("sidepool_listened_channels").as_deref(), Some("2"));
    assert_eq!(value("sidepool_notifications_total").as_deref(), Some("3"));
    one.run("UNLISTEN *").await;
    until("it listens no more", async || listening(&sidepool).await == "0").await;
    // Nor is anybody left when the pool begins anew. It is there for as long as it has a client.
    let _another = endpoint.wire().await;
    one.run("LISTEN counted").await;
    moved(&endpoint).await;
    until("it listens again", async || listening(&sidepool).await == "1").await;
    http(sidepool.http_port(), "POST /api/reconnect HTTP/1.1\r\nX-Sidepool: 1").await;
    assert_eq!(show(&one.until_closed().await), "E(57P01)");
    assert_eq!(listening(&sidepool).await, "0");
}

/// `sidepool_listening_clients` of the only pool that listens.
async fn listening(sidepool: &Sidepool) -> String {
    let page = metrics(sidepool.http_port()).await;
    let line = page.lines().find(|line| line.starts_with("sidepool_listening_clients{")).expect("it is there");
    line.rsplit(' ').next().expect("a value").to_owned()
}

async fn metrics(port: u16) -> String {
    http(port, "GET /metrics HTTP/1.1").await
}

async fn http(port: u16, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let head = format!("{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let mut page = String::new();
    stream.read_to_string(&mut page).await.expect("it answers");
    page
}

#[tokio::test]
async fn when_the_upstream_changes_those_who_listen_are_ended() {
    let file = |host: &str| format!("upstream = \"{}\"\n", Postgres::shared().direct().url().replace("127.0.0.1", host));
    let flags = [("pool-size", "1"), ("workers", "1")];
    let sidepool = Sidepool::launch(&flags, &file("127.0.0.1")).unwrap();
    let endpoint = sidepool.transaction();
    let mut one = endpoint.wire().await;
    one.run("LISTEN elsewhere").await;
    moved(&endpoint).await;
    sidepool.reload(&file("localhost"));
    assert_eq!(show(&one.until_closed().await), "E(57P01)");
    let mut again = endpoint.wire().await;
    again.run("LISTEN elsewhere").await;
    moved(&endpoint).await;
    Postgres::shared().execute("postgres", "NOTIFY elsewhere, 'here'").await;
    assert_eq!(heard(&again.until(b'A').await), ["elsewhere,here"]);
}
