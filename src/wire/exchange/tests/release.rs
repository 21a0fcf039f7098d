//! When a server may change hands, and what order replies keep (traps 2, 3, 5–8).

use std::sync::Arc;

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

/// What a client leaves, what winds it up, and what the server says to it; all of that is for nobody.
#[test]
fn trap_10_what_a_client_left_in_the_middle_is_wound_up() {
    let (end, rolls_back) = ("f(client left) H", ("Q(ROLLBACK)", "C(ROLLBACK) Z(I)"));
    for (left, said, rounds) in [
        ("P(,insert) B(,) E", "", &[(end, "1 2 C(INSERT 0 1)"), rolls_back][..]),
        ("P(,insert) B(,) E H", "1 2 C(INSERT 0 1)", &[rolls_back]),
        ("P(,insert) B(,) E", "", &[(end, "1 2 E(23505 duplicate)"), ("S", "Z(I)")]),
        ("B(,nope) H", "E(26000 no such statement)", &[("S", "Z(I)")]),
        ("Q(copy t from stdin)", "G", &[(end, "E(57014 COPY failed) Z(I)")]),
        ("Q(copy t from stdin)", "", &[(end, "G E(57014 COPY failed) Z(I)")]),
        ("P(,copy t from stdin) B(,) E H", "1 2 G", &[(end, "E(57014 COPY failed)"), ("S", "Z(I)")]),
        // The Sync within the COPY was ignored, or it was read, for the COPY had failed before it began.
        ("P(,copy t from stdin) B(,) E S", "1 2 G", &[(end, "E(57014 COPY failed)"), ("S", "Z(I)"), ("Q()", "I Z(I)")]),
        ("P(,copy t from stdin) B(,) E S", "1 2 G", &[(end, "E(P0001 boom)"), ("S", "Z(I)"), ("Q()", "Z(I) I Z(I)")]),
        // Ignored it was, and the batch never ended.
        ("P(,copy t from stdin) B(,) E S c", "", &[(end, "1 2 G C(COPY 0)"), rolls_back]),
        ("Q(select 1) Q(select 2)", "T D(1)", &[(end, "C(SELECT 1) Z(I) T D(2) C(SELECT 1) Z(I)")]),
    ] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.round(a, left, said);
            for (sent, answers) in rounds {
                rig.is_busy(s);
                let mut end = Vec::new();
                rig.server_side_mut(s).wind_up(&mut end);
                assert_eq!(show_client(&end), *sent, "{left}");
                rig.answer_bytes(a, &from_server(answers)).unwrap();
                assert!(rig.server_side(s).has_answered(), "{left}");
            }
            rig.is_idle(s);
            let may_have_drawn_numbers = left.contains("insert") || left.contains("copy");
            let b = rig.client();
            rig.lease(b, s, if may_have_drawn_numbers { "Q(DISCARD SEQUENCES;)" } else { "" }, "");
        });
    }
}

#[test]
fn trap_10_a_settled_server_in_a_transaction_needs_a_rollback_only() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        let mut end = Vec::new();
        rig.server_side_mut(s).wind_up(&mut end);
        assert!(end.is_empty());
        rig.server_side_mut(s).roll_back(&mut end);
        assert_eq!(show_client(&end), "Q(ROLLBACK)");
        rig.answer(a, "C(ROLLBACK) Z(I)", "");
        rig.used_by_another(s);
    });
}

#[test]
fn trap_08_notices_notifications_and_parameters_answer_nothing() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.ask_through(a, "P(,select 1) B(,) E S");
        rig.answer_through(a, "N(00000 hey) 1 A(x) 2 S(TimeZone=UTC) C(SELECT 0) N(00000 hey) Z(I)");
        rig.is_idle(s);
        // In a transaction, between two queries.
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        rig.answer_through(a, "N(00000 hey) A(x)");
        rig.round(a, "Q(commit)", "C(COMMIT) Z(I)");
    });
}

#[test]
fn trap_09_what_an_idle_server_says_reaches_nobody() {
    in_pieces(|rig| {
        let (_, s) = rig.pair();
        let catalog = Arc::clone(&rig.catalog);
        let side = rig.server_side_mut(s);
        let news = from_server("N(00000 hey) A(x) S(TimeZone=CET)");
        assert_eq!(side.turn_idle(&catalog, &news), Ok(news.len()));
        assert_eq!(side.params().get("TimeZone"), Some("CET"));
        assert_eq!(side.turn_idle(&catalog, &news[..9]), Ok(0));
        assert_eq!(side.turn_idle(&catalog, &from_server("E(FATAL 57P01 shutdown)")), Err(Broken::Unexpected(b'E')));
        assert_eq!(side.turn_idle(&catalog, b"Z\0\0\0\x05I"), Err(Broken::Unexpected(b'Z')));
        assert_eq!(side.turn_idle(&catalog, b"S\0\0\0\x03"), Err(Broken::Malformed(b'S')));
    });
}

#[test]
fn trap_21_a_function_call_counts_like_a_query() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.ask_through(a, "F F");
        rig.answer_through(a, "V Z(I)");
        rig.is_busy(s);
        rig.answer_through(a, "E(42883 no function) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_21_an_unknown_message_of_the_server_breaks_it() {
    in_pieces(|rig| {
        let (a, _) = rig.pair();
        rig.ask_through(a, "Q(select 1)");
        assert_eq!(rig.answer_bytes(a, b"?\0\0\0\x04"), Err(Broken::Unexpected(b'?')));
    });
}

#[test]
fn what_the_caller_must_know_is_told() {
    in_pieces(|rig| {
        let (a, _) = rig.pair();
        rig.ask_through(a, "Q(drop database if exists \"Shadow\")");
        assert_eq!(rig.told.empties, [(*b"Shadow").into()]);
        rig.answer_through(a, "E(55006 database is being accessed by other users) Z(I)");
        assert!(!rig.told.fatal);
        assert_eq!(rig.told.ready, 1);
        rig.ask(a, "Q(select 1) X", "Q(select 1)", "");
        assert!(rig.told.terminated);
        rig.answer_through(a, "T E(FATAL 57P01 terminating connection)");
        assert!(rig.told.fatal);
    });
}

#[test]
fn a_database_is_emptied_for_prepared_statements_too() {
    for (name, parsed_as) in [("", ""), ("s1", "sidepool_1")] {
        in_pieces(|rig| {
            let (a, _) = rig.pair();
            rig.round_as(a, &format!("P({name},drop database a) S"), &format!("P({parsed_as},drop database a) S"), "1 Z(I)");
            rig.ask_bytes(a, &from_client(&format!("B(,{name}) E S"))).unwrap();
            assert_eq!(rig.told.empties.last(), Some(&(*b"a").into()));
        });
    }
}

#[test]
fn every_database_of_a_pipeline_is_emptied() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        let asked = "Q(drop database a) Q(alter database b rename to e) P(,drop database c) B(,) E S P(,create database f template d) B(,) E S Q(select 1)";
        rig.ask(a, asked, asked, "");
        assert_eq!(rig.told.empties, ["a", "b", "c", "d"].map(|name| name.as_bytes().into()));
        rig.answer_through(
            a,
            "C(DROP DATABASE) Z(I) C(ALTER DATABASE) Z(I) 1 2 C(DROP DATABASE) Z(I) 1 2 C(CREATE DATABASE) Z(I)",
        );
        rig.answer_through(a, "T D(1) C(SELECT 1) Z(I)");
        rig.is_idle(s);
    });
}
