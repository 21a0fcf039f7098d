//! Messages of every length around the sizes that are looked at, cut anywhere (trap 32).

use super::notation::{from_client, from_server, message, show_client, show_server};
use super::rig::{BOUNDS, in_pieces};
use crate::wire::exchange::SCANNED_BYTES;
use crate::wire::plan::OWED_MAX;

const STATEMENT_BYTES: usize = BOUNDS.statement_bytes as usize;

#[test]
fn trap_32_a_query_of_any_length_passes() {
    for length in [SCANNED_BYTES - 1, SCANNED_BYTES, SCANNED_BYTES + 1, 5 * SCANNED_BYTES] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            // The body with its NUL is exactly that long.
            let query = message(b'Q', &[&vec![b'x'; length - 1], b"\0"]);
            let (sent, _) = rig.ask_bytes(a, &query).unwrap();
            assert!(sent == query, "{length}");
            rig.answer_through(a, "E(42601 syntax error) Z(I)");
            rig.is_idle(s);
        });
    }
}

#[test]
fn trap_32_a_parse_may_be_as_long_as_the_bound_and_no_longer() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        let most = STATEMENT_BYTES - "s1\0\0\0\0".len();
        let parse = from_client(&format!("P(s1,{}) S", "x".repeat(most)));
        let (sent, _) = rig.ask_bytes(a, &parse).unwrap();
        assert_eq!(show_client(&sent), format!("P(sidepool_1,{}) S", "x".repeat(most)));
        rig.answer_through(a, "1 Z(I)");
        rig.is_idle(s);
        let error = rig.ask_bytes(a, &from_client(&format!("P(s2,{}) S", "x".repeat(most + 1)))).unwrap_err();
        assert_eq!(error.code.as_str(), "54000");
    });
}

#[test]
fn trap_32_a_bind_passes_whatever_its_values() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round_as(a, "P(s1,select $1) S", "P(sidepool_1,select $1) S", "1 Z(I)");
        for length in [0, 1, STATEMENT_BYTES, 3 * STATEMENT_BYTES] {
            let rest = vec![7; length];
            let (sent, _) = rig.ask_bytes(a, &message(b'B', &[b"portal\0s1\0", &rest])).unwrap();
            assert!(sent == message(b'B', &[b"portal\0sidepool_1\0", &rest]), "{length}");
            rig.round(a, "S", "2 Z(I)");
        }
        rig.is_idle(s);
    });
}

#[test]
fn trap_32_a_name_may_be_longer_than_anything_we_read_at_once() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        let name = "n".repeat(20_000);
        rig.round_as(
            a,
            &format!("P({name},select 1) B({name},{name}) E(p) S"),
            &format!("P(sidepool_1,select 1) B({name},sidepool_1) E(p) S"),
            "1 2 D(1) C(SELECT 1) Z(I)",
        );
        rig.is_idle(s);
        let endless = message(b'B', &[&vec![b'n'; 3 * STATEMENT_BYTES]]);
        assert_eq!(rig.ask_bytes(a, &endless[..2 * STATEMENT_BYTES]).unwrap_err().code.as_str(), "54000");
    });
}

#[test]
fn trap_32_replies_of_any_length_pass() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.ask(a, "P(,select 1) DS() CS(s1) B(,) E S", "P(,select 1) DS() B(,) E S", "");
        for length in [63, 64, 65, 70_000] {
            let text = "x".repeat(length);
            // A tag that long says nothing to us; PostgreSQL's have 63 bytes at most.
            let says = format!("N(00000 {text}) A({text}) 1 t T 2 D({text}) C({text}) E(22012 {text}) Z(I)");
            let heard = says.replace(" T ", " T 3 ");
            rig.answer(a, &says, &heard);
            rig.is_idle(s);
            rig.ask(a, "P(,select 1) DS() CS(s1) B(,) E S", "P(,select 1) DS() B(,) E S", "");
        }
    });
}

#[test]
fn a_whole_session_cut_at_every_byte() {
    let says = "Q(select 1) P(s1,select 2) B(,s1) DS(s1) E CS(s1) S B(,s2) E S Q(copy t from stdin) d(abc) c";
    let to_server = "Q(select 1) P(sidepool_1,select 2) B(,sidepool_1) DS(sidepool_1) E CS(sidepool_?) S B(,s2) E S \
                     Q(copy t from stdin) d(abc) c";
    let answers = "T D(1) C(SELECT 1) Z(I) 1 2 t T D(2) C(SELECT 1) 3 Z(I) E(26000 no s2) Z(I) G C(COPY 1) Z(I)";
    let (asked, answered) = (from_client(says), from_server(answers));
    for cut in 0..asked.len().max(answered.len()) {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            let (first, second) = asked.split_at(cut.min(asked.len()));
            let mut sent = rig.ask_bytes(a, first).unwrap().0;
            sent.extend(rig.ask_bytes(a, second).unwrap().0);
            assert_eq!(show_client(&sent), to_server);
            let (first, second) = answered.split_at(cut.min(answered.len()));
            let mut got = rig.answer_bytes(a, first).unwrap();
            got.extend(rig.answer_bytes(a, second).unwrap());
            assert_eq!(show_server(&got), answers);
            rig.is_idle(s);
        });
    }
}

#[test]
fn what_needs_no_rewriting_is_not_copied() {
    use crate::wire::exchange::{Catalog, ClientSide, Mode, ServerSide};
    let catalog = std::sync::Arc::new(Catalog::default());
    let params = catalog.params.intern(crate::wire::params::Params::default());
    let mut client = ClientSide::new(
        1,
        Mode::Transaction,
        std::sync::Arc::clone(&catalog),
        std::sync::Arc::clone(&params),
        catalog.startup(Vec::new(), &params),
        BOUNDS,
    );
    let mut server = ServerSide::new(params, &catalog);
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let asked = from_client("P(,select 1) B(,) DP() E S Q(select 2)");
    let turn = client.turn(&mut server, &asked, &mut to_server, &mut to_client).unwrap();
    assert_eq!((turn.consumed, turn.direct), (asked.len(), 0..asked.len()));
    let answered = from_server("1 2 T D(1) C(SELECT 1) Z(I) T D(2) C(SELECT 1) Z(I)");
    let turn = server.turn(&mut client, &answered, &mut to_client).unwrap();
    assert_eq!((turn.consumed, turn.direct), (answered.len(), 0..answered.len()));
    assert!(to_server.is_empty() && to_client.is_empty());
}

#[test]
fn a_pipeline_that_is_too_long_waits_for_replies() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        let pipeline = from_client("S").repeat(OWED_MAX + 10);
        let (sent, _) = rig.ask_bytes(a, &pipeline).unwrap();
        assert_eq!(sent.len(), from_client("S").len() * OWED_MAX);
        assert!(rig.server_side(s).is_full());
        rig.answer_bytes(a, &from_server("Z(I)").repeat(OWED_MAX - 1)).unwrap();
        rig.go_on(a, "S S S S S S S S S S", "");
        rig.answer_bytes(a, &from_server("Z(I)").repeat(11)).unwrap();
        rig.is_idle(s);
    });
}

/// What we answer ourselves may be most of what is owed: the little that the server said then does not fill its buffer.
#[test]
fn a_long_pipeline_of_ours_to_answer_is_flushed_when_it_waits() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        let mut pipeline = from_client("P(s1,select 1)");
        pipeline.extend(from_client("CS(none)").repeat(OWED_MAX));
        pipeline.extend(from_client("S"));
        let (sent, said) = rig.ask_bytes(a, &pipeline).unwrap();
        assert_eq!((show_client(&sent).as_str(), said.as_slice()), ("P(sidepool_1,select 1) H", &b""[..]));
        let answered = rig.answer_bytes(a, &from_server("1")).unwrap();
        assert_eq!(answered.len(), from_server("1").len() + (OWED_MAX - 1) * from_server("3").len());
        rig.go_on(a, "S", "3");
        rig.answer_through(a, "Z(I)");
        rig.is_idle(s);
    });
}
