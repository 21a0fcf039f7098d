//! COPY (traps 18–20), in the orders that drivers send it and in those that only sloppy ones do.

use super::rig::in_pieces;

const BEGINS: &str = "P(,copy t from stdin) B(,) E";
const BAD: &str = "E(22P02 invalid input syntax)";

#[test]
fn copy_in_of_both_protocols() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(copy t from stdin)", "G");
        rig.is_busy(s);
        rig.ask_through(a, "d(1) d(2) c");
        rig.is_busy(s);
        rig.answer_through(a, "C(COPY 2) Z(I)");
        rig.is_idle(s);
        rig.round(a, &format!("{BEGINS} H"), "1 2 G");
        rig.round(a, "d(1) c S", "C(COPY 1) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_18_a_sync_before_copy_done_answers_nothing() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        // tokio-postgres and libpq's PQexecParams: Execute, Sync, data, CopyDone, Sync.
        rig.round(a, &format!("{BEGINS} S"), "1 2 G");
        rig.round(a, "d(1) c S", "C(COPY 1) Z(I)");
        rig.is_idle(s);
        // All of it at once.
        rig.round(a, &format!("{BEGINS} S d(1) c S"), "1 2 G C(COPY 1) Z(I)");
        rig.is_idle(s);
        // Without the last one the batch stays open: the server never saw a Sync.
        rig.round(a, &format!("{BEGINS} S d(1) c"), "1 2 G C(COPY 1)");
        rig.is_busy(s);
        rig.round(a, "S", "Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_18_a_failed_copy_skips_to_the_sync_behind_it() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, &format!("{BEGINS} H"), "1 2 G");
        rig.round(a, "d(x)", BAD);
        rig.is_busy(s);
        // Dropped here as the server would drop it; only the Sync counts.
        rig.ask(a, "d(y) c Q(select 1) S", "S", "");
        rig.answer_through(a, "Z(I)");
        rig.is_idle(s);
    });
}

/// Whether the server read the first Sync as data's neighbour or as a Sync is known from what it says next only.
#[test]
fn trap_18_a_failed_copy_with_an_early_sync_is_doubtful_until_the_next_reply() {
    for syncs in ["Z(I)", "Z(I) Z(I)"] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.round(a, &format!("{BEGINS} S d(x) c S"), &format!("1 2 G {BAD}"));
            rig.answer_through(a, syncs);
            if syncs == "Z(I)" {
                rig.is_busy(s);
                assert!(rig.server_side(s).is_doubtful());
                rig.round(a, "Q(select 1)", "T D(1) C(SELECT 1) Z(I)");
            }
            rig.is_idle(s);
        });
    }
}

#[test]
fn trap_18_doubt_ends_with_a_check_too() {
    for late in ["", "Z(I) "] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.round(a, &format!("{BEGINS} S d(x) c S"), &format!("1 2 G {BAD} Z(I)"));
            let mut probe = Vec::new();
            rig.server_side_mut(s).check(&mut probe);
            rig.answer(a, &format!("{late}I Z(I)"), late.trim_end());
            rig.is_idle(s);
        });
    }
}

#[test]
fn trap_18_a_copy_that_failed_before_its_data_was_read_counts_the_sync() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        // A BEFORE STATEMENT trigger: CopyInResponse, then the error, then the Sync is read as one.
        rig.round(a, &format!("{BEGINS} S"), "1 2 G E(P0001 boom)");
        rig.is_busy(s);
        rig.answer_through(a, "Z(I)");
        rig.is_idle(s);
        rig.ask(a, "d(1) c S", "S", "");
        rig.answer_through(a, "Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_18_a_copy_that_failed_before_it_began_counts_every_sync() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.ask_through(a, &format!("{BEGINS} S d(1) c S"));
        rig.answer_through(a, "1 2 E(42501 permission denied) Z(I)");
        rig.is_busy(s);
        rig.answer_through(a, "Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_18_a_sync_within_a_simple_copy() {
    for (data, answers, late) in
        [("d(1) S c", "C(COPY 1) Z(I)", ""), ("d(x) S c", "E(22P02 bad) Z(I)", "Z(I)"), ("d(x) S c", "E(22P02 bad) Z(I)", "")]
    {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.round(a, "Q(copy t from stdin)", "G");
            rig.round(a, data, answers);
            rig.answer_through(a, late);
            rig.round(a, "Q(select 1)", "T D(1) C(SELECT 1) Z(I)");
            rig.is_idle(s);
        });
    }
}

#[test]
fn trap_19_what_is_left_of_a_failed_copy_reaches_nobody() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(copy t from stdin)", "G");
        rig.round(a, "d(x)", &format!("{BAD} Z(I)"));
        rig.is_idle(s);
        // Still streaming: with the server or without.
        rig.ask(a, "d(y) d(z) c", "", "");
        rig.is_idle(s);
        rig.ask_unleased(a, "d(y) f(no) H", "", super::Unleased::More);
        rig.ask_unleased(a, "Q(select 1)", "", super::Unleased::Wants);
    });
}

#[test]
fn trap_19_a_client_within_a_message_keeps_its_server_though_the_copy_failed() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(copy t from stdin)", "G");
        let data = super::notation::from_client("d(abcdef)");
        rig.ask_bytes(a, &data[..7]).unwrap();
        rig.answer_through(a, &format!("{BAD} Z(I)"));
        assert!(rig.client_side(a).owes_bytes());
        let (rest, _) = rig.ask_bytes(a, &data[7..]).unwrap();
        assert_eq!(rest, b"cdef");
        assert!(!rig.client_side(a).owes_bytes());
        rig.is_idle(s);
    });
}

#[test]
fn trap_19_copy_done_behind_a_query_that_was_no_copy_owes_nothing() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(copy t from stdin) d(1) c", "E(42P01 no t) Z(I)");
        rig.is_idle(s);
        rig.round(a, "Q(select 1) c P(,select 2) B(,) E S", "T D(1) C(SELECT 1) Z(I) 1 2 D(2) C(SELECT 1) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_20_copy_out_passes_by() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(copy t to stdout)", "H d(1) d(2) c C(COPY 2) Z(I)");
        rig.round(a, "P(,copy t to stdout) B(,) E S", "1 2 H d(1) c C(COPY 1) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn copies_among_other_statements_of_one_query() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(copy t from stdin; select 7; copy t from stdin)", "G");
        rig.round(a, "d(1) c", "C(COPY 1) T D(7) C(SELECT 1) G");
        rig.round(a, "d(2) c", "C(COPY 1) Z(I)");
        rig.is_idle(s);
        rig.round(
            a,
            "Q(copy t from stdin; select 7; copy t from stdin) d(1) c d(2) c Q(select 1)",
            "G C(COPY 1) T D(7) C(SELECT 1) G C(COPY 1) Z(I) T D(1) C(SELECT 1) Z(I)",
        );
        rig.is_idle(s);
    });
}

#[test]
fn copy_fail_ends_it() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(copy t from stdin)", "G");
        rig.round(a, "d(1) f(no)", "E(57014 COPY from stdin failed: no) Z(I)");
        rig.is_idle(s);
        rig.round(a, &format!("{BEGINS} H"), "1 2 G");
        rig.round(a, "f(no)", "E(57014 COPY from stdin failed: no)");
        rig.round(a, "S", "Z(I)");
        rig.is_idle(s);
    });
}
