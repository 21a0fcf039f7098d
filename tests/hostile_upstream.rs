//! An upstream that says what no PostgreSQL says costs its own connection, and nothing else.

mod common;

use common::wire::{self, Wire, frame, show, show_in_full};
use common::{Sidepool, resident_kib};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// 200 MiB, as a length word.
const LENGTH: [u8; 4] = (200_u32 << 20).to_be_bytes();

/// What a server says that is in order.
fn greeting() -> Vec<u8> {
    let parameters = [("server_version", "15.0"), ("client_encoding", "UTF8"), ("application_name", "")];
    let told = parameters.map(|(name, value)| frame(b'S', &[wire::text(name), wire::text(value)].concat())).concat();
    [frame(b'R', &[0; 4]), told, frame(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]), frame(b'Z', b"I")].concat()
}

fn answer() -> Vec<u8> {
    [frame(b'C', b"SELECT 1\0"), frame(b'Z', b"I")].concat()
}

/// Instead of a greeting, to who asks for the database of that number; the connection then ends.
fn greetings() -> Vec<Vec<u8>> {
    let ok = frame(b'R', &[0; 4]);
    let behind = |bytes: &[u8]| [&ok, bytes].concat();
    vec![
        Vec::new(),
        b"E".to_vec(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        frame(b'R', b""),
        frame(b'R', &[0, 0, 0, 99]),
        frame(b'R', b"\0\0\0\x05\x01"),
        frame(b'R', b"\0\0\0\x0aUNKNOWN\0\0"),
        frame(b'R', b"\0\0\0\x0aSCRAM-SHA-256"),
        frame(b'R', b"\0\0\0\x0bout of order"),
        frame(b'Z', b"I"),
        frame(b'E', b""),
        frame(b'E', b"no end"),
        [&b"R"[..], &LENGTH].concat(),
        [&b"E"[..], &LENGTH, &[b'x'; 100_000]].concat(),
        b"R\0\0\0\0".to_vec(),
        b"R\xff\xff\xff\xff".to_vec(),
        behind(&frame(b'S', b"no value\0")),
        behind(&frame(b'K', &[0; 7])),
        behind(&frame(b'K', &[0; 300])),
        behind(&frame(b'D', b"\0\0")),
        behind(&frame(b'Z', b"T")),
        behind(&frame(b'Z', b"")),
        behind(&frame(b'S', b"a\0b\0").repeat(5000)),
        behind(&(0..300).flat_map(|i| frame(b'S', format!("p{i}\0x\0").as_bytes())).collect::<Vec<_>>()),
        frame(b'N', b"SNOTICE\0\0").repeat(5000),
        frame(b'v', b"\0\x03\0\0\0\0\0\0"),
    ]
}

/// Instead of an answer, to the query of that number; the connection then ends.
fn answers() -> Vec<Vec<u8>> {
    let announced = |tag: u8| [&[tag][..], &LENGTH, b"some bytes"].concat();
    let mut all = vec![
        Vec::new(),
        b"D".to_vec(),
        b"D\0\0\0\0".to_vec(),
        b"D\0\0\0\x03".to_vec(),
        b"D\xff\xff\xff\xff".to_vec(),
        frame(b'?', b"unheard of"),
        frame(b'E', b""),
        frame(b'E', b"no end"),
        frame(b'S', b""),
        frame(b'S', b"no value\0"),
        frame(b'Z', b""),
        frame(b'Z', b"X"),
        frame(b'Z', b"II"),
        frame(b'Z', b"I"),
        frame(b'1', b""),
        frame(b'2', b""),
        frame(b'3', b""),
        frame(b'n', b""),
        frame(b's', b""),
        frame(b't', b""),
        frame(b'V', b""),
        frame(b'R', &[0; 4]),
        frame(b'R', b"\0\0\0\x03"),
        frame(b'K', &[0; 8]),
        frame(b'v', b"\0\x03\0\0\0\0\0\0"),
        frame(b'G', b""),
        frame(b'W', b""),
        frame(b'd', b"not asked for"),
        frame(b'c', b""),
        frame(b'C', b"no end"),
        frame(b'A', b""),
        [answer(), answer()].concat(),
        [answer(), frame(b'D', b"\0\0")].concat(),
        frame(b'N', b"SNOTICE\0\0").repeat(5000),
    ];
    all.extend(b"DECSZATNGHRK1".iter().map(|tag| announced(*tag)));
    let mut noise: u64 = 44;
    all.extend((1..200).map(|length| {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            bytes.extend(noise.to_le_bytes());
        }
        bytes
    }));
    all
}

/// A server that asks for no password. `SELECT` with a number is answered from `answers`, all else with what is in order.
async fn serve(mut client: TcpStream, greetings: Vec<Vec<u8>>, answers: Vec<Vec<u8>>) -> std::io::Result<()> {
    let length = client.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    client.read_exact(&mut startup).await?;
    if startup[..4] != [0, 3, 0, 0] {
        return Ok(());
    }
    let database = startup.split(|byte| *byte == 0).skip_while(|text| *text != b"database").nth(1).unwrap_or_default();
    if let Some(bytes) = number(database).and_then(|number| greetings.get(number)) {
        return client.write_all(bytes).await;
    }
    client.write_all(&greeting()).await?;
    loop {
        let tag = client.read_u8().await?;
        let length = client.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        client.read_exact(&mut body).await?;
        let text = body.strip_prefix(b"SELECT ").and_then(|rest| rest.strip_suffix(b"\0")).unwrap_or_default();
        match number(text).and_then(|number| answers.get(number)) {
            Some(bytes) => return client.write_all(bytes).await,
            None if tag == b'Q' => client.write_all(&answer()).await?,
            None => return Ok(()),
        }
    }
}

fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Everything but what is numbered is in order.
async fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // An error is the other side's end.
            tokio::spawn(async move { serve(client, greetings(), answers()).await });
        }
    });
    port
}

async fn sidepool() -> Sidepool {
    let file = format!("upstream = \"postgres://postgres:secret@127.0.0.1:{}/good?sslmode=disable\"", upstream().await);
    let flags = [("pool-size", "1"), ("workers", "1"), ("timeout-server-down", "0"), ("timeout-recovery", "1s")];
    Sidepool::launch(&flags, &file).expect("it starts")
}

#[tokio::test]
async fn greetings_that_cannot_be_are_an_error_to_who_waits_and_to_nobody_else() {
    let sidepool = sidepool().await;
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let mut neighbour = endpoint.clone().database("good").wire().await;
        for (number, said) in greetings().iter().enumerate() {
            let (_, told) = Wire::try_login(&endpoint.clone().database(&number.to_string())).await;
            let told = show_in_full(&told);
            assert!(told.starts_with("E(FATAL | "), "{}: {told}", said[..said.len().min(60)].escape_ascii());
        }
        assert_eq!(neighbour.shown("SELECT 'unharmed'").await, "C(SELECT 1) Z(I)");
    }
    assert!(!sidepool.log().contains("panicked"), "{}", sidepool.log());
}

#[tokio::test]
async fn answers_that_cannot_be_end_their_connection_and_no_other() {
    let sidepool = sidepool().await;
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        for (number, said) in answers().iter().enumerate() {
            let endpoint = endpoint.clone().database("good");
            let mut client = endpoint.wire().await;
            client.send(&wire::query(&format!("SELECT {number}"))).await;
            // Whatever it is, it may be for the client.
            client.bytes_until(&frame(b'Z', b"I")).await;
            drop(client);
            let shown = endpoint.wire().await.shown("SELECT 'next'").await;
            assert_eq!(shown, "C(SELECT 1) Z(I)", "after {}", said[..said.len().min(60)].escape_ascii());
        }
    }
    assert!(!sidepool.log().contains("panicked"), "{}", sidepool.log());
}

#[tokio::test]
async fn trap_44_no_memory_for_what_an_upstream_announces() {
    let sidepool = sidepool().await;
    let endpoint = sidepool.transaction().database("good");
    endpoint.wire().await.shown("SELECT 'first'").await;
    let before = resident_kib(sidepool.pid());
    for (number, said) in answers().iter().enumerate() {
        if said.get(1..5) == Some(&LENGTH) {
            let mut client = endpoint.wire().await;
            client.send(&wire::query(&format!("SELECT {number}"))).await;
            client.bytes_until_closed().await;
        }
    }
    let grown = resident_kib(sidepool.pid()).saturating_sub(before);
    assert!(grown < 4096, "grown by {grown} KiB");
    assert_eq!(show(&endpoint.wire().await.query("SELECT 'next'").await), "C(SELECT 1) Z(I)");
}
