//! A login of any bytes in any pieces. Whoever has proved nothing is not in, every connection comes to its end, and what it
//! is told is short and in order. `PROPTEST_CASES` has it go on for longer.

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::bed::{Bed, Greeting, PASSWORD, startup_packet};
use super::*;
use crate::auth::scram::client::{Binding, ScramClient};
use crate::wire::request;

/// A startup packet may have names of options that are told of as unknown.
const TOLD_BYTES_MAX: usize = 16 * 1024;

const FIRST: &[u8] = b"n,,n=,r=abcdefghijklmnopqrstuvwx";

/// What a client may come with, in order and out of it.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let pairs = prop_oneof![
        Just("user\0postgres\0".to_owned()),
        Just("user\0bob.ref\0database\0x\0".to_owned()),
        Just("user\0nobody\0options\0-c reference=x\0_pq_.unknown\0on\0".to_owned()),
        "((user|database|options|replication|[a-z]{0,9})\0[ -~]{0,20}\0){0,5}",
    ];
    prop_oneof![
        3 => (0..4_u16, pairs).prop_map(|(minor, pairs)| startup_packet(minor, &pairs)),
        1 => Just(SSL_REQUEST.to_vec()),
        1 => Just(GSS_REQUEST.to_vec()),
        1 => vec(any::<u8>(), 0..300).prop_map(|key| [&(12 + key.len() as u32).to_be_bytes()[..], b"\x04\xd2\x16\x2e\0\0\0\x01", &key].concat()),
        2 => ("(SCRAM-SHA-256(-PLUS)?|[A-Z]{0,9})", prop_oneof![Just(FIRST.to_vec()), vec(any::<u8>(), 0..60)])
            .prop_map(|(mechanism, data)| framed(|out| request::sasl_initial_response(out, &mechanism, &data))),
        2 => prop_oneof![Just(b"c=biws,r=abc,p=AAAA".to_vec()), vec(any::<u8>(), 0..60)]
            .prop_map(|data| framed(|out| request::sasl_response(out, &data))),
        1 => (any::<u8>(), any::<u32>()).prop_map(|(tag, length)| [&[tag][..], &length.to_be_bytes()].concat()),
        1 => vec(any::<u8>(), 0..40),
    ]
}

fn framed(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

fn bed() -> Bed {
    let keys = ScramKeys::derive("bobs", b"salt", ITERATIONS_DEFAULT);
    let verifier = Verifier::from_keys(&keys, b"salt", ITERATIONS_DEFAULT).to_text();
    Bed::with_users(vec![("bob", Secret::Verifier(Password::new(verifier)))])
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Whether it was let in, and what it heard.
async fn play(bed: &Bed, said: &[u8], piece: usize) -> (bool, Vec<u8>) {
    let (client, greeting) = bed.knock();
    let (reader, mut writer) = client.into_split();
    let hearing = async {
        let mut heard = Vec::new();
        // A reset is an end, too.
        let _ = reader.take(2 * TOLD_BYTES_MAX as u64).read_to_end(&mut heard).await;
        heard
    };
    let saying = async move {
        for piece in said.chunks(piece) {
            if writer.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(writer);
    };
    let ((), heard, is_in) = tokio::join!(saying, hearing, is_in(greeting));
    (is_in, heard)
}

/// A panic in there is one here.
async fn is_in(greeting: Greeting) -> bool {
    matches!(greeting.await.unwrap(), Ok(Arrival::Client(_)))
}

/// Refusals of TLS and the like, messages of a login, and an error at most, which is the last.
fn is_in_order(heard: &[u8]) -> bool {
    let denials = heard.iter().take(2).take_while(|byte| **byte == b'N').count();
    let mut rest = &heard[denials..];
    while let [tag, a, b, c, d, ..] = *rest {
        let Some(body) = (u32::from_be_bytes([a, b, c, d]) as usize).checked_sub(4) else { return false };
        let Some(after) = rest.get(5 + body..) else { return false };
        if !matches!(tag, b'R' | b'v' | b'E') || (tag == b'E' && !after.is_empty()) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

#[test]
fn no_bytes_let_anybody_in_or_break_anything() {
    let (runtime, plain, secured) = (runtime(), bed(), bed().with_tls());
    let noise = (vec(word(), 0..6), vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), 1..200_usize, any::<bool>());
    proptest!(|((words, changes, piece, over_tls) in noise)| {
        let mut said = words.concat();
        for (at, byte) in changes {
            if !said.is_empty() {
                let at = at.index(said.len());
                said[at] = byte;
            }
        }
        let (is_in, heard) = runtime.block_on(play(if over_tls { &secured } else { &plain }, &said, piece));
        prop_assert!(!is_in);
        prop_assert!(heard.len() <= TOLD_BYTES_MAX, "{} bytes", heard.len());
        // TLS has its own order.
        prop_assert!(over_tls || is_in_order(&heard), "{}", heard.escape_ascii());
    });
}

/// A login with the right password, with one bit of its proof changed on the way.
#[test]
fn no_bit_of_a_proof_may_be_another() {
    let (runtime, bed) = (runtime(), bed());
    let salt = bed.context.secret.salt("*", "postgres");
    let keys = ScramKeys::derive(PASSWORD, &salt, ITERATIONS_DEFAULT);
    // By itself it is let in.
    assert!(runtime.block_on(with_a_bit_changed(&bed, &keys, None)));
    proptest!(|(message in 0..2_usize, at: prop::sample::Index, bit in 0..8_u8)| {
        prop_assert!(!runtime.block_on(with_a_bit_changed(&bed, &keys, Some((message, at, bit)))));
    });
}

async fn with_a_bit_changed(bed: &Bed, keys: &ScramKeys, change: Option<(usize, prop::sample::Index, u8)>) -> bool {
    let (mut client, greeting) = bed.knock();
    let changed = |message: usize, mut frame: Vec<u8>| {
        if let Some((_, at, bit)) = change.filter(|(which, ..)| *which == message) {
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
        }
        frame
    };
    client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
    read(&mut client).await.unwrap();
    let scram = ScramClient::new(Binding::No).unwrap();
    let first = framed(|out| request::sasl_initial_response(out, scram.mechanism(), scram.client_first().as_bytes()));
    let first = changed(0, first);
    client.write_all(&first).await.unwrap();
    if first.get(1..5) != Some(&(first.len() as u32 - 1).to_be_bytes()[..]) {
        // A length that grew would be waited for.
        client.shutdown().await.unwrap();
    }
    let answered = read(&mut client).await;
    if let Some(message) = answered
        && let Some(Authentication::SaslContinue(server_first)) = Authentication::parse(&message.1)
        && let Ok(challenge) = scram.server_first(server_first)
    {
        let (client_final, _) = challenge.respond(keys);
        let frame = framed(|out| request::sasl_response(out, client_final.as_bytes()));
        // It may have been refused by now.
        let _ = client.write_all(&changed(1, frame)).await;
    }
    // No more will come.
    let _ = client.shutdown().await;
    is_in(greeting).await
}
