//! Bytes that nobody should send end the connection that sent them, and nothing else.

mod common;

use std::time::{Duration, Instant};

use common::wire::{self, Wire, show};
use common::{Postgres, Sidepool, resident_kib, unnamed};

/// Reproducible noise (xorshift; the seed must not be 0).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

/// Everybody else is served as ever, and the process lives.
async fn unharmed(sidepool: &Sidepool, neighbours: &mut [Wire]) {
    for neighbour in neighbours {
        assert_eq!(neighbour.value("SELECT 'unharmed'").await, "unharmed");
    }
    assert_eq!(sidepool.transaction().value("SELECT 'next'").await, "next");
    assert!(!sidepool.log().contains("panicked"), "{}", sidepool.log());
}

async fn neighbours(sidepool: &Sidepool) -> [Wire; 2] {
    [sidepool.transaction().wire().await, sidepool.session().wire().await]
}

#[tokio::test]
async fn noise_instead_of_a_startup_packet() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "4")]);
    let mut neighbours = neighbours(&sidepool).await;
    let mut noise = Noise(44);
    for port in [sidepool.transaction().port, sidepool.session().port] {
        for round in 0..100 {
            let length = usize::from(noise.bytes(1)[0]);
            let mut bytes = noise.bytes(length);
            // Half of them begin like the real thing.
            if round % 2 == 0 {
                let head = [&u32::try_from(length + 8).unwrap().to_be_bytes()[..], &[0, 3, 0, 0]].concat();
                bytes = [head, bytes].concat();
            }
            let mut client = Wire::connect(port).await;
            let _ = client.try_send(&bytes).await;
            let _ = client.try_end().await;
            let answer = client.bytes_until_closed().await;
            assert!(!answer.contains(&b'Z') || answer.starts_with(b"E"), "{}", answer.escape_ascii());
        }
    }
    unharmed(&sidepool, &mut neighbours).await;
}

#[tokio::test]
async fn noise_instead_of_a_password() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "4")]);
    let mut neighbours = neighbours(&sidepool).await;
    let mut noise = Noise(66);
    let startup = wire::startup(&[("user", "postgres"), ("database", "postgres")]);
    let mut attempts: Vec<Vec<u8>> = (0..40).map(|i| wire::password(&noise.bytes(i * 7))).collect();
    attempts.push(wire::query("SELECT 1"));
    attempts.push(wire::terminate());
    attempts.push(noise.bytes(500));
    attempts.push(b"p\0\0\0\0".to_vec());
    attempts.push(b"p\xff\xff\xff\xff".to_vec());
    attempts.push(wire::password(b"SCRAM-SHA-256\0\xff\xff\xff\xff"));
    attempts.push(wire::password(b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=x"));
    attempts.push(wire::password(b"SCRAM-SHA-256\0\0\0\0\x09n,,n=,r=x"));
    attempts.push(wire::password(b"SCRAM-SHA-256-PLUS\0\0\0\0\x09p=x,,n=,r"));
    for attempt in attempts {
        let mut client = Wire::connect(sidepool.transaction().port).await;
        client.send(&[startup.clone(), attempt].concat()).await;
        let _ = client.try_end().await;
        let answer = show(&client.until_closed().await);
        assert!(!answer.contains('Z') && !answer.contains("R(0)"), "{answer}");
    }
    unharmed(&sidepool, &mut neighbours).await;
}

#[tokio::test]
async fn noise_after_login() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "4")]);
    let mut neighbours = neighbours(&sidepool).await;
    let mut noise = Noise(4411);
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        for round in 0..60_usize {
            let mut client = endpoint.wire().await;
            let length = 1 + usize::from(noise.bytes(1)[0]);
            let mut bytes = noise.bytes(length);
            if round % 3 != 0 {
                // A known tag with a right length, and rubbish in it.
                let tag = b"QPBDECSHFdcfp"[round % 13];
                bytes = wire::frame(tag, &bytes);
            }
            let _ = client.try_send(&[unnamed("SELECT 1"), bytes, wire::sync()].concat()).await;
            let _ = client.try_end().await;
            client.bytes_until_closed().await;
        }
    }
    unharmed(&sidepool, &mut neighbours).await;
}

#[tokio::test]
async fn lengths_that_cannot_be() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "4")]);
    let mut neighbours = neighbours(&sidepool).await;
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        for tag in b"QPBDECSHFdcfX?" {
            for length in [0_u32, 3, 0x8000_0000, u32::MAX] {
                let mut client = endpoint.wire().await;
                client.send(&[&[*tag][..], &length.to_be_bytes()].concat()).await;
                let answer = show(&client.until_closed().await);
                assert!(["", "E(08P01)"].contains(&&*answer), "{} of {length}: {answer}", tag.escape_ascii());
            }
        }
    }
    unharmed(&sidepool, &mut neighbours).await;
}

#[tokio::test]
async fn bodies_that_do_not_parse_are_errors_of_their_own() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2")]);
    let mut neighbours = neighbours(&sidepool).await;
    let bodies: [(u8, &[u8]); 14] = [
        (b'P', b""),
        (b'P', b"no end"),
        (b'P', b"s\0SELECT 1\0\xff\xff"),
        (b'P', b"s\0SELECT 1\0\0\x01\0"),
        (b'B', b""),
        (b'B', b"\0no end"),
        (b'B', b"\0\0\0\0\xff\xff"),
        (b'B', b"\0unknown\0"),
        (b'D', b""),
        (b'D', b"Xname\0"),
        (b'C', b"S"),
        (b'C', b"Qname\0"),
        (b'E', b"\0"),
        (b'Q', b"SELECT 1"),
    ];
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        for (tag, body) in bodies {
            let mut client = endpoint.wire().await;
            let _ = client.try_send(&[wire::frame(tag, body), wire::sync()].concat()).await;
            let _ = client.try_end().await;
            let answer = show(&client.until_closed().await);
            assert!(answer.is_empty() || answer.contains("E("), "{} {}: {answer}", tag.escape_ascii(), body.escape_ascii());
        }
    }
    unharmed(&sidepool, &mut neighbours).await;
}

#[tokio::test]
async fn trap_44_a_gibibyte_that_is_only_announced_takes_no_memory() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("client-tls", "off")]);
    sidepool.transaction().wire().await.run("SELECT 1").await;
    let before = resident_kib(sidepool.pid());
    let gibibyte = (1_u32 << 30).to_be_bytes();
    let startup = wire::startup(&[("user", "postgres")]);
    let mut kept = Vec::new();
    for _ in 0..20 {
        let mut unauthenticated = Wire::connect(sidepool.transaction().port).await;
        unauthenticated.send(&[startup.clone(), [&b"p"[..], &gibibyte].concat()].concat()).await;
        let mut nothing_yet = Wire::connect(sidepool.transaction().port).await;
        nothing_yet.send(&[&gibibyte[..], &[0, 3, 0, 0]].concat()).await;
        kept.extend([unauthenticated, nothing_yet]);
    }
    for tag in b"QPBd" {
        let mut client = sidepool.transaction().wire().await;
        client.send(&[&[*tag][..], &(1_u32 << 29).to_be_bytes(), b"some\0bytes"].concat()).await;
        kept.push(client);
    }
    sidepool.has_read().await;
    let grown = resident_kib(sidepool.pid()).saturating_sub(before);
    assert!(grown < 4096, "grown by {grown} KiB");
}

#[tokio::test]
async fn trap_44_what_an_unauthenticated_client_sends_on_is_not_kept() {
    let sidepool = Sidepool::with_one_server();
    sidepool.transaction().wire().await.run("SELECT 1").await;
    let before = resident_kib(sidepool.pid());
    let mut client = Wire::connect(sidepool.transaction().port).await;
    client.send(&wire::startup(&[("user", "postgres")])).await;
    client.send(&[&b"p"[..], &(1_u32 << 30).to_be_bytes()].concat()).await;
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        if client.try_send(&chunk).await.is_err() {
            break;
        }
    }
    let grown = resident_kib(sidepool.pid()).saturating_sub(before);
    assert!(grown < 4096, "grown by {grown} KiB");
    assert_eq!(sidepool.transaction().value("SELECT 'next'").await, "next");
}

#[tokio::test]
async fn trap_62_a_login_that_drips_is_ended_by_the_clock() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("timeout-client-login", "400ms")]);
    let startup = wire::startup(&[("user", "postgres"), ("database", "postgres")]);
    for begun in [Vec::new(), vec![0], wire::ssl_request(), startup[..12].to_vec(), startup] {
        let mut client = Wire::connect(sidepool.transaction().port).await;
        client.send(&begun).await;
        let started = Instant::now();
        client.bytes_until_closed().await;
        assert!(started.elapsed() < Duration::from_secs(10), "{:?} for {}", started.elapsed(), begun.escape_ascii());
    }
    assert_eq!(sidepool.transaction().value("SELECT 'next'").await, "next");
}

#[tokio::test]
async fn a_client_that_leaves_at_any_byte_of_a_batch_harms_nobody() {
    let sidepool = Sidepool::with_one_server();
    let batch = [
        wire::query("BEGIN"),
        wire::parse("s", "SELECT $1"),
        wire::bind("p", "s", &[Some("x")]),
        wire::execute("p", 1),
        wire::flush(),
        wire::close_statement("s"),
        wire::sync(),
        wire::query("COPY (SELECT 1) TO STDOUT"),
    ]
    .concat();
    for cut in 0..batch.len() {
        let mut leaver = sidepool.transaction().wire().await;
        leaver.send(&batch[..cut]).await;
        drop(leaver);
        if cut % 8 == 0 {
            let mut next = sidepool.transaction().wire().await;
            assert_eq!(next.shown_batch(&[unnamed("SELECT 1"), wire::sync()], 1).await, "1 2 D C(SELECT 1) Z(I)", "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_after_any_message_harms_nobody() {
    let sidepool = Sidepool::with_one_server();
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE left_here (a int)").await;
    let batch = [
        wire::query("BEGIN"),
        wire::query("INSERT INTO left_here VALUES (1)"),
        wire::parse("s", "INSERT INTO left_here SELECT $1::int RETURNING a"),
        wire::describe_statement("s"),
        wire::bind("", "s", &[Some("2")]),
        wire::execute("", 0),
        wire::sync(),
        wire::query("COPY left_here FROM STDIN"),
        wire::copy_data(b"3\n"),
        wire::copy_done(),
        wire::query("SELECT pg_sleep(1000)"),
    ];
    for sent in 1..=batch.len() {
        let mut leaver = sidepool.transaction().wire().await;
        leaver.send(&batch[..sent].concat()).await;
        sidepool.has_read().await;
        drop(leaver);
        let mut next = sidepool.transaction().wire().await;
        assert_eq!(next.value("SELECT count(*) FROM left_here").await, "0", "after {sent}");
        assert_eq!(next.shown_batch(&[unnamed("SELECT 1"), wire::sync()], 1).await, "1 2 D C(SELECT 1) Z(I)", "after {sent}");
    }
}
