//! When a server may change hands, and what order replies keep (traps 2, 3, 5–8).

use super::notation::{from_client, from_server, show_client, show_server};
use super::rig::in_pieces;
use crate::wire::exchange::Broken;

#[test]
fn what_came_before_a_broken_message_still_leaves() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        let mut sent = Vec::new();
        let bytes = [from_client("Q(select 1)"), b"?\0\0\0\x04".to_vec()].concat();
        // Whatever was counted as owed was also sent: the server can be drained.
        let error = rig.ask_bytes_into(a, &bytes, &mut sent).unwrap_err();
        assert_eq!(error.to_string(), "FATAL: invalid frontend message type 63 (SQLSTATE 08P01)");
        assert_eq!(show_client(&sent), "Q(select 1)");
        rig.answer_through(a, "T D(1) C(SELECT 1) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn what_came_before_a_broken_reply_still_reaches_the_client() {
    in_pieces(|rig| {
        let (a, _) = rig.pair();
        rig.ask_through(a, "Q(select 1)");
        let mut heard = Vec::new();
        let bytes = from_server("T D(1) 1");
        assert_eq!(rig.answer_bytes_into(a, &bytes, &mut heard), Err(Broken::Unexpected(b'1')));
        assert_eq!(show_server(&heard), "T D(1)");
    });
}

#[test]
fn trap_07_a_reply_of_ours_stands_between_messages() {
    in_pieces(|rig| {
        let (a, _) = rig.pair();
        rig.ask(a, "P(s1,select 1) S", "P(sidepool_1,select 1) S", "");
        rig.answer_through(a, "1 Z(I)");
        rig.ask(a, "DS(s1) CS(s1) S", "DS(sidepool_1) S", "");
        rig.answer(a, "t T Z(I)", "t T 3 Z(I)");
        // The Close comes while the description is half read.
        rig.ask(a, "P(s1,select 1) DS(s1) H", "DS(sidepool_1) H", "1");
        let described = from_server("t T");
        let (half, rest) = described.split_at(described.len() - 1);
        let mut heard = rig.answer_bytes(a, half).unwrap();
        let (_, early) = rig.ask_bytes(a, &from_client("CS(s1)")).unwrap();
        assert_eq!(show_server(&early), "");
        heard.extend(rig.answer_bytes(a, rest).unwrap());
        assert_eq!(show_server(&heard), "t T 3");
    });
}

#[test]
fn trap_02_a_pipeline_is_over_with_its_last_sync() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.ask_through(a, "P(,select 1) B(,) E S P(,select 2) B(,) E");
        rig.answer_through(a, "1 2 D(1) C(SELECT 1) Z(I)");
        rig.is_busy(s);
        rig.answer_through(a, "1 2 D(2) C(SELECT 1)");
        // All is answered, and the implicit transaction still open: the Sync has not come (Npgsql, #714).
        rig.is_busy(s);
        rig.round(a, "S", "Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_02_a_flushed_batch_keeps_its_server_until_something_ends_it() {
    for (end, answer) in [("S", "Z(I)"), ("Q(select 2)", "T D(2) C(SELECT 1) Z(I)"), ("F", "V Z(I)")] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.round(a, "P(,insert) B(,) E H", "1 2 C(INSERT 0 1)");
            rig.is_busy(s);
            rig.round(a, end, answer);
            rig.is_idle(s);
        });
    }
}

#[test]
fn a_batch_the_server_never_saw_keeps_no_server() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.ask(a, "P(s1,select 1) S", "P(sidepool_1,select 1) S", "");
        rig.answer_through(a, "1 Z(I)");
        rig.ask(a, "CS(s1) P(s2,select 1) H", "", "3 1");
        rig.is_idle(s);
    });
}
