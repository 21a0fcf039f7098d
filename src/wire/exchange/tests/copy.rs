//! COPY (traps 18–20), in the orders that drivers send it and in those that only sloppy ones do.

use super::rig::in_pieces;
use crate::wire::plan::OWED_MAX;

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

/// It ignores them, and owes as many ReadyForQuery if the COPY fails: they are counted, up to a bound. Waiting would be for ever.
#[test]
fn trap_18_syncs_within_a_copy_are_bounded() {
    let syncs = b"S\0\0\0\x04".repeat(OWED_MAX - 1);
    for begins in ["Q(copy t from stdin)", &format!("{BEGINS} H")] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            let is_simple = begins.starts_with('Q');
            rig.round(a, begins, if is_simple { "G" } else { "1 2 G" });
            assert_eq!(rig.ask_bytes(a, &syncs).unwrap().0.len(), syncs.len());
            // As many as may be: the data is let through yet, and its end.
            rig.ask(a, "d(1) d(2) c S", "d(1) d(2) c H", "");
            rig.answer_through(a, if is_simple { "C(COPY 2) Z(I)" } else { "C(COPY 2)" });
            rig.go_on(a, "S", "");
            rig.answer_through(a, "Z(I)");
            rig.is_idle(s);
        });
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.ask_through(a, begins);
            // Before it is known that it copies they wait for what it will say.
            assert_eq!(rig.ask_bytes(a, &syncs).unwrap().1.len(), 0);
            rig.ask_bytes(a, &syncs).unwrap();
            rig.answer_through(a, if begins.starts_with('Q') { "G" } else { "1 2 G" });
            let error = rig.ask_bytes(a, &syncs).unwrap_err();
            assert!(error.to_string().contains("Sync messages within the data of one COPY"), "{error}");
            // Who brings the server back ends it.
            let mut sent = Vec::new();
            rig.server_side_mut(s).wind_up(&mut sent);
            assert_eq!(super::notation::show_client(&sent), "f(client left) H");
        });
    }
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

/// A COPY that swallowed its Sync completes into the server's buffer, and what comes behind it waits to know.
#[test]
fn trap_18_what_stands_behind_the_end_of_a_copy_gets_its_answer_without_a_sync() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, &format!("{BEGINS} S"), "1 2 G");
        rig.ask(a, "d(1) c P(,select 1) B(,) E S", "d(1) c H", "");
        rig.answer(a, "C(COPY 1)", "C(COPY 1)");
        rig.go_on(a, "P(,select 1) B(,) E S", "");
        rig.answer_through(a, "1 2 D(1) C(SELECT 1) Z(I)");
        rig.is_idle(s);
    });
}

/// A message that the server may skip or run, by whether it read the Sync as one: it is asked, and asked once.
#[test]
fn trap_18_what_stands_behind_a_failed_copy_waits_to_know_whether_it_is_skipped() {
    const QUESTION: &str = "S CS(sidepool_?) S";
    let failed = format!("1 2 G {BAD}");
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, &format!("{BEGINS} S d(x)"), &failed);
        rig.ask(a, "d(y) c H P(s1,select 1) B(,s1) E S", QUESTION, "");
        // It read the Sync within the COPY: ours was the one it skipped to, and the client's is still to come.
        rig.answer(a, "Z(I) 3 Z(I)", "");
        rig.go_on(a, "S", "");
        rig.answer_through(a, "Z(I)");
        rig.is_idle(s);
        // A statement that was skipped is none.
        rig.round(a, "B(,s1) S", "E(26000 prepared statement \"s1\" does not exist) Z(I)");
    });
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, &format!("{BEGINS} S S"), "1 2 G E(P0001 boom)");
        rig.ask(a, "P(s1,select 1) B(,s1) E S", QUESTION, "");
        // It read it behind the COPY, and the other one too.
        rig.answer(a, "Z(I) Z(I)", "Z(I)");
        rig.go_on(a, "P(sidepool_1,select 1) B(,sidepool_1) E S", "");
        rig.answer(a, "Z(I) 3 Z(I) 1 2 D(1) C(SELECT 1) Z(I)", "Z(I) 1 2 D(1) C(SELECT 1) Z(I)");
        rig.is_idle(s);
    });
}

/// The same before the error has come, where data of the COPY went before: a server that copies ends the session at the
/// question, as it would at the message.
#[test]
fn trap_18_what_stands_behind_data_without_its_end_waits_to_know_whether_it_is_skipped() {
    const QUESTION: &str = "d(x) S CS(sidepool_?) S";
    for (error, late) in [(BAD, ""), ("E(P0001 boom)", "Z(I) ")] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.round(a, &format!("{BEGINS} S"), "1 2 G");
            rig.ask(a, "d(x) P(s1,select 1) B(,s1) E S", QUESTION, "");
            rig.answer_through(a, error);
            rig.answer(a, &format!("{late}Z(I) 3 Z(I)"), late.trim_end());
            if late.is_empty() {
                rig.go_on(a, "S", "");
                rig.answer_through(a, "Z(I)");
            } else {
                rig.go_on(a, "P(sidepool_1,select 1) B(,sidepool_1) E S", "");
                rig.answer_through(a, "1 2 D(1) C(SELECT 1) Z(I)");
            }
            rig.is_idle(s);
        });
    }
    in_pieces(|rig| {
        let (a, _) = rig.pair();
        rig.round(a, &format!("{BEGINS} S"), "1 2 G");
        rig.ask(a, "d(x) P(s1,select 1)", QUESTION, "");
        rig.answer_through(a, "E(08P01 unexpected message type 0x43 during COPY from stdin) E(FATAL 08P01 gone)");
    });
    // No COPY at all.
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.ask(a, "P(,select 1) B(,) E S d(x) P(s1,select 2) S", &format!("P(,select 1) B(,) E S {QUESTION}"), "");
        rig.answer(a, "1 2 D(1) C(SELECT 1) Z(I) Z(I) 3 Z(I)", "1 2 D(1) C(SELECT 1) Z(I)");
        rig.go_on(a, "P(sidepool_1,select 2) S", "");
        rig.answer_through(a, "1 Z(I)");
        rig.is_idle(s);
    });
}

/// Its name hangs on a batch that is not through before the COPY is: the question stands within the COPY's batch.
#[test]
fn trap_18_a_name_that_waits_within_a_copy_does_not_wait_for_ever() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.ask(
            a,
            "P(s1,select 1) S P(,copy t from stdin) B(,) E H",
            "P(sidepool_1,select 1) S P(,copy t from stdin) B(,) E H",
            "",
        );
        rig.answer_through(a, "1 Z(I) 1 2 G");
        rig.ask(a, "B(,s1) E S B(,s1) S", "S CS(sidepool_?) S", "");
        rig.answer_through(a, "E(P0001 boom)");
        rig.answer(a, "Z(I) 3 Z(I)", "");
        // The rest of its batch is skipped.
        rig.go_on(a, "S B(,sidepool_1) S", "");
        rig.answer_through(a, "Z(I) 2 Z(I)");
        rig.is_idle(s);
    });
}

/// A Close of what means nothing we answer ourselves, but not behind a Sync that may stand within a COPY: only the server knows
/// whether it reads it, and ends the session there if it copies. Else a ReadyForQuery would be waited for that never comes.
#[test]
fn trap_18_a_close_behind_an_early_sync_is_the_servers_to_answer() {
    for syncs in ["S", "S S"] {
        let pipeline = format!("{BEGINS} {syncs} CS(s3) f(no) S");
        let sent = pipeline.replace("s3", "sidepool_?");
        let ready = vec!["Z(I)"; syncs.split(' ').count()].join(" ");
        in_pieces(|rig| {
            let (a, _) = rig.pair();
            rig.ask(a, &pipeline, &sent, "");
            rig.answer_through(a, "1 2 G E(08P01 unexpected message type 0x43 during COPY from stdin) E(FATAL 08P01 gone)");
            assert!(rig.told.fatal);
        });
        for failed in ["1 2 G E(P0001 boom)", "1 2 E(42501 permission denied)"] {
            in_pieces(|rig| {
                let (a, s) = rig.pair();
                rig.ask(a, &pipeline, &sent, "");
                rig.answer_through(a, &format!("{failed} {ready} 3 Z(I)"));
                rig.is_idle(s);
            });
        }
    }
}

/// A Sync ends the skipping either way: nothing is asked.
#[test]
fn trap_18_a_sync_behind_a_failed_copy_needs_no_question() {
    for late in ["", "Z(I) "] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.round(a, &format!("{BEGINS} S d(x)"), &format!("1 2 G {BAD}"));
            rig.ask(a, "c S Q(select 2)", "S Q(select 2)", "");
            rig.answer_through(a, &format!("Z(I) {late}T D(2) C(SELECT 1) Z(I)"));
            rig.is_idle(s);
        });
    }
}

#[test]
fn trap_18_a_client_that_leaves_in_doubt_leaves_a_server_that_is_settled() {
    for late in ["", "Z(I) "] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.round(a, &format!("{BEGINS} S d(x)"), &format!("1 2 G {BAD}"));
            rig.ask(a, "Q(select 1)", "S CS(sidepool_?) S", "");
            let mut sent = Vec::new();
            rig.server_side_mut(s).wind_up(&mut sent);
            let said = super::notation::from_server(&format!("{late}Z(I) 3 Z(I) Z(I)"));
            rig.answer_bytes(a, &said).unwrap();
            assert_eq!(super::notation::show_client(&sent), "S");
            rig.is_idle(s);
        });
    }
}

/// A Close that we answer never reached the server, and says nothing of how it reads.
#[test]
fn trap_18_a_client_that_leaves_behind_a_close_of_ours_leaves_a_server_that_is_settled() {
    for (said, late) in [("1 2 G", "E(57014 client left)"), ("1 2 G E(P0001 boom)", "Z(I) Z(I)")] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.ask(a, &format!("{BEGINS} CS(s3) S S"), &format!("{BEGINS} S S"), "");
            rig.answer(a, said, said);
            let mut sent = Vec::new();
            let mut said = Vec::from([late]);
            // A COPY that fails, the Sync behind that, and a query that ends the doubt.
            for _ in 0..3 {
                rig.server_side_mut(s).wind_up(&mut sent);
                for word in super::notation::show_client(&std::mem::take(&mut sent)).split(' ') {
                    match word {
                        "Q()" => said.push("I Z(I)"),
                        "S" => said.push("Z(I)"),
                        word => assert!(matches!(word, "" | "f(client" | "left)" | "H"), "{word}"),
                    }
                }
                let said = super::notation::from_server(&std::mem::take(&mut said).join(" "));
                rig.answer_bytes(a, &said).unwrap();
            }
            rig.is_idle(s);
        });
    }
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
