//! Bytes made to hurt: nothing panics, everything is taken or refused, and nothing grows beyond its bound.

use std::sync::Arc;

use proptest::prelude::*;

use super::notation::{from_client, from_server, message};
use super::rig::{BOUNDS, in_pieces};
use crate::wire::exchange::{Broken, Catalog, ClientSide, Mode, ServerSide};
use crate::wire::params::Params;
use crate::wire::plan::{Kind, OWED_BYTES_MAX, OWED_MAX};

#[test]
fn lengths_no_message_can_have_are_refused() {
    in_pieces(|rig| {
        for bytes in [&b"Q\0\0\0\x03"[..], b"Q\xff\xff\xff\xff", b"S\0\0\x40\0", b"p\0\0\0\x04", b"\0\0\0\0\x04"] {
            let (a, _) = rig.pair();
            assert_eq!(rig.ask_bytes(a, bytes).unwrap_err().code.as_str(), "08P01");
            let a = rig.client();
            assert!(rig.unleased_bytes(a, bytes).is_err());
        }
        for bytes in [&b"T\0\0\0\x03"[..], b"D\xff\xff\xff\xff", b"Z\0\0\0\x06II", b"Z\0\0\0\x05x", b"S\0\x10\0\0"] {
            let (a, _) = rig.pair();
            rig.ask_through(a, "Q(select 1)");
            assert_eq!(rig.answer_bytes(a, bytes), Err(Broken::Malformed(bytes[0])));
        }
    });
}

#[test]
fn bodies_that_end_too_soon_are_refused() {
    in_pieces(|rig| {
        for (tag, body) in [
            (b'P', &b""[..]),
            (b'P', b"s1"),
            (b'P', b"s1\0select 1\0"),
            (b'P', b"s1\0select 1\0\0\x02\0\0\0\x17"),
            (b'B', b""),
            (b'B', b"p"),
            (b'B', b"p\0s1"),
            (b'D', b""),
            (b'D', b"S"),
            (b'D', b"Xs1\0"),
            (b'C', b"Ss1"),
            (b'C', b"Ss1\0x"),
        ] {
            let (a, _) = rig.pair();
            assert_eq!(rig.ask_bytes(a, &message(tag, &[body])).unwrap_err().code.as_str(), "08P01", "{tag} {body:?}");
        }
    });
}

#[test]
fn errors_without_the_fields_they_ought_to_have_pass() {
    for body in [&b""[..], b"\0", b"M\0", b"Mno end", b"C\0\0", b"MM\0MM\0\0", b"Msidepool_\0\0", b"Msidepool_1\0\0"] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.ask_through(a, "Q(select 1)");
            let error = message(b'E', &[body]);
            assert_eq!(rig.answer_bytes(a, &error), Ok(error));
            rig.answer_through(a, "Z(I)");
            rig.is_idle(s);
        });
    }
}

/// A client and a server with requests of every kind under way.
struct Pair {
    client: ClientSide,
    server: ServerSide,
}

impl Pair {
    fn new(mode: Mode) -> Self {
        let catalog = Arc::new(Catalog::default());
        let params = catalog.params.intern(Params::from_pairs([("TimeZone", "UTC")]));
        let startup = catalog.startup(Vec::new(), &params);
        let client = ClientSide::new(1, mode, Arc::clone(&catalog), Arc::clone(&params), startup, BOUNDS);
        Self { client, server: ServerSide::new(params, &catalog) }
    }

    fn asks(&mut self, bytes: &[u8]) -> Result<usize, ()> {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let turn = self.client.turn(&mut self.server, bytes, &mut to_server, &mut to_client).map_err(drop)?;
        // What leaves is what came, but for statements sent in addition: one for each message at most, as long as a Parse.
        assert!(to_server.len() <= bytes.len() + (bytes.len() / 5 + 1) * (BOUNDS.statement_bytes as usize + 64));
        assert!(to_client.len() <= 64 + 8 * bytes.len());
        assert!(turn.consumed <= bytes.len() && turn.direct.end <= turn.consumed);
        Ok(turn.consumed)
    }

    fn answers(&mut self, bytes: &[u8]) -> Result<usize, ()> {
        let mut to_client = Vec::new();
        let turn = self.server.turn(&mut self.client, bytes, &mut to_client).map_err(drop)?;
        assert!(to_client.len() <= 64 * 1024 + 8 * bytes.len());
        assert!(turn.consumed <= bytes.len() && turn.direct.end <= turn.consumed);
        Ok(turn.consumed)
    }
}

/// Words that mean something, so that more than the first header is got to.
const WORDS: [&str; 30] = [
    "Q(select 1)",
    "Q(deallocate all)",
    "Q(discard all)",
    "Q(execute s1)",
    "Q(deallocate s1)",
    "P(s1,select 1)",
    "P(,select 2)",
    "P(s2,deallocate s1)",
    "P(s1,selec)",
    "B(,s1)",
    "B(,)",
    "B(p,s2)",
    "B(,sidepool_1)",
    "DS(s1)",
    "DS()",
    "CS(s1)",
    "CS()",
    "E",
    "E(p)",
    "S",
    "S",
    "H",
    "F",
    "d(1)",
    "c",
    "f(no)",
    "CP(p)",
    "DP()",
    "Q()",
    "P(s3,execute s1)",
];

const REPLIES: [&str; 30] = [
    "1",
    "2",
    "3",
    "n",
    "t",
    "T",
    "D(1)",
    "C(SELECT 1)",
    "C(DEALLOCATE ALL)",
    "C(DISCARD ALL)",
    "C(DEALLOCATE)",
    "C(SET)",
    "C(CREATE TABLE)",
    "I",
    "s",
    "V",
    "G",
    "H",
    "W",
    "d(1)",
    "c",
    "Z(I)",
    "Z(T)",
    "Z(E)",
    "S(TimeZone=CET)",
    "A(x)",
    "N(00000 x)",
    "E(42P05 prepared statement \"sidepool_1\" already exists)",
    "E(FATAL 57P01 bye)",
    "E(0A000/RevalidateCachedQuery x)",
];

fn some_of(words: &'static [&'static str], encode: fn(&str) -> Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(words).prop_map(encode);
    let rubbish = prop::collection::vec(any::<u8>(), 0..12);
    let cut = (prop::sample::select(words), 0..8usize).prop_map(move |(w, n)| {
        let bytes = encode(w);
        bytes[..bytes.len().saturating_sub(n)].to_vec()
    });
    prop::collection::vec(prop_oneof![12 => word, 1 => rubbish, 1 => cut], 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_bytes_panic_and_all_are_taken_or_refused(
        asked in some_of(&WORDS, from_client), answered in some_of(&REPLIES, from_server), session in any::<bool>(), first in 1..40usize,
    ) {
        let mut pair = Pair::new(if session { Mode::Session } else { Mode::Transaction });
        let (mut asked, mut answered) = (&asked[..], &answered[..]);
        // In turn, as long as either side gets anywhere.
        let mut piece = first;
        while let Ok(taken) = pair.asks(&asked[..piece.min(asked.len())]) {
            let Ok(heard) = pair.answers(&answered[..piece.min(answered.len())]) else { break };
            (asked, answered) = (&asked[taken..], &answered[heard..]);
            if taken + heard == 0 && piece >= asked.len().max(answered.len()) {
                // What is left is less than a message, or the goodbye of a client, or behind one.
                break;
            }
            piece += first;
        }
        prop_assert!(pair.client.prepared_statements() <= BOUNDS.statements_per_client as usize);
        prop_assert!(pair.client.names.bytes() <= BOUNDS.prepared_bytes as usize);
        prop_assert_eq!(pair.client.names.bytes(), pair.client.names.recounted());
    }

    #[test]
    fn no_bytes_panic_a_client_without_a_server(bytes in some_of(&WORDS, from_client), refused in any::<bool>()) {
        let mut pair = Pair::new(Mode::Transaction);
        let mut out = Vec::new();
        if refused {
            pair.client.refuse(b"", &mut out);
        }
        if let Ok((taken, _)) = pair.client.turn_unleased(&bytes, &mut out) {
            prop_assert!(taken <= bytes.len());
            prop_assert!(out.len() <= 2 * bytes.len());
        }
    }

    #[test]
    fn no_bytes_panic_an_idle_server(bytes in some_of(&REPLIES, from_server)) {
        let mut pair = Pair::new(Mode::Transaction);
        let catalog = Catalog::default();
        if let Ok(taken) = pair.server.turn_idle(&catalog, &bytes) {
            prop_assert!(taken <= bytes.len());
        }
    }
}

#[test]
fn a_client_that_never_syncs_makes_us_keep_no_more_than_the_bound() {
    let mut pair = Pair::new(Mode::Transaction);
    let bytes = from_client("B(,s1) E").repeat(2 * OWED_MAX);
    let taken = pair.asks(&bytes).unwrap();
    assert!(taken < bytes.len() && pair.server.is_full());
    assert_eq!(pair.asks(&bytes[taken..]), Ok(0));
    assert!(size_of::<crate::wire::plan::Entry>() <= 48);
}

/// Where each is looked for among all, sixteen times as many take a hundred times as long and more: far from what a busy machine makes of
/// the least of three.
#[test]
fn a_text_of_many_names_costs_no_more_for_each_of_them() {
    // What this thread ran: others may use the machine.
    let ran = || std::time::Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let cost = |names: usize| {
        let mut pair = Pair::new(Mode::Transaction);
        (pair.client.bounds.statements_per_client, pair.client.bounds.statements_per_server) = (100_000, 10);
        let each = |says: fn(usize) -> String| (0..names).map(says).collect::<String>();
        for i in 0..names {
            pair.asks(&from_client(&format!("P(s{i},select {i}) S"))).unwrap();
            settle(&mut pair);
        }
        let texts = [each(|i| format!("execute s{i};")), each(|i| format!("deallocate s{i};"))];
        let costs = texts.map(|text| {
            let (bytes, start) = (message(b'Q', &[text.as_bytes(), b"\0"]), ran());
            assert_eq!(pair.asks(&bytes), Ok(bytes.len()));
            let took = ran() - start;
            settle(&mut pair);
            took
        });
        costs.map(|cost| cost.as_secs_f64())
    };
    let least = |names| (0..3).map(|_| cost(names)).reduce(|[a, b], [c, d]| [a.min(c), b.min(d)]).unwrap();
    let (few, many) = (least(500), least(8000));
    assert!((0..2).all(|at| many[at] < 50.0 * few[at]), "{few:?} {many:?}");
}

/// The server answers all that it owes.
fn settle(pair: &mut Pair) {
    while let Some(kind) = pair.server.plan.head().map(|head| head.kind) {
        let answer = match kind {
            Kind::Parse => "1",
            Kind::Bind => "2",
            Kind::Close => "3",
            Kind::Execute => "C(DEALLOCATE ALL)",
            _ => "Z(I)",
        };
        pair.answers(&from_server(answer)).unwrap();
    }
}

#[test]
fn one_long_unnamed_statement_leaves_no_room_behind() {
    let mut pair = Pair::new(Mode::Transaction);
    for text in ["x".repeat(BOUNDS.statement_bytes as usize - 100), "select 1".to_owned()] {
        pair.asks(&from_client(&format!("P(,{text}) S"))).unwrap();
        settle(&mut pair);
    }
    let parsed = pair.client.unnamed.parsed.as_ref().unwrap();
    assert!(parsed.rest.starts_with(b"select 1") && parsed.rest.capacity() <= 4096, "{}", parsed.rest.capacity());
}

/// Each was kept to be put back should what is sent behind it not be read: of one batch, gigabytes.
#[test]
fn texts_of_one_batch_wait_before_too_many_bytes_are_kept_and_then_go_on() {
    let text = "x".repeat(BOUNDS.statement_bytes as usize - 100);
    let most = OWED_BYTES_MAX / text.len();
    for says in [format!("P(,{text})"), format!("P(s1,{text}) CS(s1)"), format!("P(s1,{text}) P(,deallocate all) B(,) E")] {
        let (mut pair, bytes) = (Pair::new(Mode::Transaction), from_client(&says));
        pair.asks(&from_client("P(,select 1)")).unwrap();
        let whole = |_: &usize| pair.asks(&bytes).unwrap() == bytes.len();
        let rounds = (0..2 * most).take_while(whole).count();
        let waits = pair.server.is_full() && pair.client.is_waiting();
        assert!(waits && (most..2 * most).contains(&rounds), "{rounds} {}", &says[says.len() - 40..]);
        settle(&mut pair);
        assert!(!pair.server.is_full());
        assert_eq!(pair.asks(&bytes), Ok(bytes.len()));
    }
}

#[test]
fn a_client_that_gives_up_one_name_after_the_other_leaves_no_trace_of_them() {
    let mut pair = Pair::new(Mode::Transaction);
    pair.asks(&from_client("P(s0,select 1) S")).unwrap();
    pair.answers(&from_server("1 Z(I)")).unwrap();
    for i in 1..1000 {
        pair.asks(&from_client(&format!("P(s{i},select 1) CS(s{i})"))).unwrap();
    }
    assert_eq!(pair.client.names.given_up(), 0, "nothing is owed that could bring them back");
}

#[test]
fn a_server_that_reports_without_end_makes_us_keep_no_more_than_the_bound() {
    let mut pair = Pair::new(Mode::Transaction);
    pair.asks(&from_client("Q(select 1)")).unwrap();
    for i in 0..2000 {
        pair.answers(&from_server(&format!("S(name{i}=x)"))).unwrap();
    }
    assert!(pair.client.params.iter().count() <= 256);
}
