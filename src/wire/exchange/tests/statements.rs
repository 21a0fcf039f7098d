//! Prepared statements (traps 6, 22–34): whose name means what, where.

use super::rig::{Rig, in_pieces};
use crate::wire::sql::Leaves;

/// `select 1` prepared as `s1` by a client whose server nobody used before.
fn prepared(rig: &mut Rig) -> (usize, usize) {
    let (a, s) = rig.pair();
    rig.ask(a, "P(s1,select 1) S", "P(sidepool_1,select 1) S", "");
    rig.answer_through(a, "1 Z(I)");
    (a, s)
}

/// The same as a round, where the server has to be asked.
fn prepares(rig: &mut Rig, client: usize, name: &str, text: &str, server_name: &str) {
    rig.ask(client, &format!("P({name},{text}) S"), &format!("P({server_name},{text}) S"), "");
    rig.answer_through(client, "1 Z(I)");
}

#[test]
fn trap_22_one_statement_per_text_and_each_client_its_own_names() {
    in_pieces(|rig| {
        let (_, s) = prepared(rig);
        let b = rig.client();
        rig.lease(b, s, "", "");
        // Trap 24: the server has it already.
        rig.ask(b, "P(mine,select 1) B(,mine) E S", "B(,sidepool_1) E S", "1");
        rig.answer_through(b, "2 D(1) C(SELECT 1) Z(I)");
        rig.ask(b, "P(other,select 2) B(,other) E S", "P(sidepool_2,select 2) B(,sidepool_2) E S", "");
        rig.answer_through(b, "1 2 D(2) C(SELECT 1) Z(I)");
    });
}

#[test]
fn trap_23_a_server_without_the_statement_is_given_it() {
    in_pieces(|rig| {
        let (a, _) = prepared(rig);
        for what in ["B(,s1) E", "DS(s1)"] {
            let s = rig.server();
            rig.lease(a, s, "", "");
            let what = format!("{what} S");
            rig.ask(a, &what, &format!("P(sidepool_1,select 1) {}", what.replace("s1", "sidepool_1")), "");
            match what.starts_with('B') {
                true => rig.answer(a, "1 2 D(1) C(SELECT 1) Z(I)", "2 D(1) C(SELECT 1) Z(I)"),
                false => rig.answer(a, "1 t T Z(I)", "t T Z(I)"),
            }
            rig.is_idle(s);
        }
    });
}

#[test]
fn trap_25_close_gives_up_the_name_and_nothing_else() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(a, "CS(s1) CS(never) S", "S", "3 3");
        rig.answer_through(a, "Z(I)");
        rig.round(a, "B(,s1) S", "E(26000 prepared statement \"s1\" does not exist) Z(I)");
        rig.ask(a, "P(s1,select 1) S", "S", "1");
        rig.answer_through(a, "Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_26_eviction_counts_what_is_in_flight() {
    in_pieces(|rig| {
        rig.bounds.statements_per_server = 1;
        let (a, s) = prepared(rig);
        rig.ask(
            a,
            "P(s2,select 2) B(,s2) E B(,s1) E S",
            "P(sidepool_2,select 2) CS(sidepool_1) B(,sidepool_2) E P(sidepool_1,select 1) CS(sidepool_2) B(,sidepool_1) E S",
            "",
        );
        rig.answer(a, "1 3 2 D(2) C(SELECT 1) 1 3 2 D(1) C(SELECT 1) Z(I)", "1 2 D(2) C(SELECT 1) 2 D(1) C(SELECT 1) Z(I)");
        // In its own batch: the portal outlives the statement, the next Bind brings it back.
        rig.ask(a, "B(,s2) S B(,s1) S", "P(sidepool_2,select 2) CS(sidepool_1) B(,sidepool_2) S", "");
        rig.answer(a, "1 3 2 Z(I)", "2 Z(I)");
        // Only now is it known that the Close was read.
        rig.go_on(a, "P(sidepool_1,select 1) CS(sidepool_2) B(,sidepool_1) S", "");
        rig.answer(a, "1 3 2 Z(I)", "2 Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_06_an_eviction_in_a_failed_batch_did_not_happen() {
    in_pieces(|rig| {
        rig.bounds.statements_per_server = 1;
        let (a, _) = prepared(rig);
        rig.ask(a, "B(,nope) P(s2,select 2) S", "B(,nope) P(sidepool_2,select 2) CS(sidepool_1) S", "");
        rig.answer_through(a, "E(26000 prepared statement \"nope\" does not exist) Z(I)");
        // s1 is still on the server, s2 never was, and means nothing.
        rig.ask(a, "B(,s1) S B(,s2) S", "B(,sidepool_1) S B(,s2) S", "");
        rig.answer_through(a, "2 Z(I) E(26000 prepared statement \"s2\" does not exist) Z(I)");
    });
}

/// Each batch counts on the room that the one before it makes. Where that one failed, the server has one too many until the
/// next statement comes, and that makes up for all of it.
#[test]
fn trap_06_evictions_that_were_skipped_in_a_pipeline_are_made_up_for() {
    in_pieces(|rig| {
        rig.bounds.statements_per_server = 1;
        let (a, s) = prepared(rig);
        rig.ask(
            a,
            "B(,nope) P(s2,select 2) S P(s3,select 3) S",
            "B(,nope) P(sidepool_2,select 2) CS(sidepool_1) S P(sidepool_3,select 3) CS(sidepool_2) S",
            "",
        );
        let failed = "E(26000 prepared statement \"nope\" does not exist) Z(I)";
        rig.answer(a, &format!("{failed} 1 3 Z(I)"), &format!("{failed} 1 Z(I)"));
        rig.ask(a, "P(s4,select 4) S", "P(sidepool_4,select 4) CS(sidepool_3) CS(sidepool_1) S", "");
        rig.answer(a, "1 3 3 Z(I)", "1 Z(I)");
        rig.is_idle(s);
    });
}

/// What fails is what the first batch injected, and not what the second one did with the same statement.
#[test]
fn trap_06_a_statement_of_a_failed_batch_that_the_next_one_prepares_again_is_there() {
    in_pieces(|rig| {
        rig.bounds.statements_per_server = 1;
        let (a, s) = prepared(rig);
        rig.ask(a, "P(s2,select 2) S", "P(sidepool_2,select 2) CS(sidepool_1) S", "");
        rig.answer(a, "1 3 Z(I)", "1 Z(I)");
        rig.ask(
            a,
            "B(,nope) B(,s1) S P(s3,select 3) B(,s1) S",
            "B(,nope) P(sidepool_1,select 1) CS(sidepool_2) B(,sidepool_1) S \
             P(sidepool_3,select 3) CS(sidepool_1) P(sidepool_1,select 1) CS(sidepool_3) B(,sidepool_1) S",
            "",
        );
        let failed = "E(26000 prepared statement \"nope\" does not exist) Z(I)";
        rig.answer(a, &format!("{failed} 1 3 1 3 2 Z(I)"), &format!("{failed} 1 2 Z(I)"));
        rig.round_as(a, "B(,s1) S", "B(,sidepool_1) S", "2 Z(I)");
        rig.is_idle(s);
    });
}

/// The second batch closes what the first one had closed and injected again; that the first one failed changes nothing.
#[test]
fn trap_06_a_statement_of_a_failed_batch_that_the_next_one_closes_is_gone() {
    in_pieces(|rig| {
        rig.bounds.statements_per_server = 1;
        let (a, s) = prepared(rig);
        rig.ask(
            a,
            "B(,nope) P(s2,select 2) B(,s1) S P(s3,select 3) S",
            "B(,nope) P(sidepool_2,select 2) CS(sidepool_1) P(sidepool_1,select 1) CS(sidepool_2) B(,sidepool_1) S \
             P(sidepool_3,select 3) CS(sidepool_1) S",
            "",
        );
        let failed = "E(26000 prepared statement \"nope\" does not exist) Z(I)";
        rig.answer(a, &format!("{failed} 1 3 Z(I)"), &format!("{failed} 1 Z(I)"));
        rig.ask(a, "B(,s1) S", "P(sidepool_1,select 1) CS(sidepool_3) CS(sidepool_2) B(,sidepool_1) S", "");
        rig.answer(a, "1 3 3 2 Z(I)", "2 Z(I)");
        rig.is_idle(s);
    });
}

/// The Parse that is only asked about stands in the place of the unnamed statement, whatever became of those before it.
#[test]
fn trap_28_what_was_asked_under_no_name_is_not_run_by_it() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(
            a,
            "P(,select 5) S Q(selec) B(,nope) CS() S P(s2,select 1) B(,nope) CS() S",
            "P(,select 5) S Q(selec) B(,nope) CS() S P(,select 1) B(,nope) CS() S",
            "",
        );
        let failed = "E(26000 prepared statement \"nope\" does not exist) Z(I)";
        rig.answer_through(a, &format!("1 Z(I) E(42601 syntax error) Z(I) {failed} 1 {failed}"));
        rig.ask(a, "B(,) S", "CS() B(,) S", "");
        let none = "E(26000 unnamed prepared statement does not exist) Z(I)";
        rig.answer(a, &format!("3 {none}"), none);
        rig.is_idle(s);
    });
}

#[test]
fn trap_06_a_failed_parse_is_forgotten_by_client_and_server() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.ask(a, "P(s1,selec) B(,s1) S", "P(sidepool_1,selec) B(,sidepool_1) S", "");
        rig.answer_through(a, "E(42601 syntax error) Z(I)");
        // For this client the name is free; for others the text is new.
        rig.ask(a, "P(s1,select 1) S", "P(sidepool_2,select 1) S", "");
        rig.answer_through(a, "1 Z(I)");
        let b = rig.client();
        rig.lease(b, s, "", "");
        rig.ask(b, "P(x,selec) S", "P(sidepool_1,selec) S", "");
    });
}

#[test]
fn trap_06_a_failed_injection_is_forgotten_and_the_name_kept() {
    in_pieces(|rig| {
        let (a, _) = prepared(rig);
        let s = rig.server();
        rig.lease(a, s, "", "");
        let injected = "P(sidepool_1,select 1) B(,sidepool_1) S";
        rig.ask(a, "B(,s1) S", injected, "");
        rig.answer_through(a, "E(42P01 no such table) Z(I)");
        rig.ask(a, "B(,s1) S", injected, "");
        rig.answer(a, "1 2 Z(I)", "2 Z(I)");
    });
}

#[test]
fn trap_06_what_a_failed_batch_would_have_closed_or_prepared_is_as_before() {
    in_pieces(|rig| {
        let (a, _) = prepared(rig);
        rig.ask(a, "B(,nope) CS(s1) P(s1,select 2) P(s3,select 1) CS(s3) S", "B(,nope) P(sidepool_2,select 2) S", "");
        rig.answer_through(a, "E(26000 prepared statement \"nope\" does not exist) Z(I)");
        rig.ask(a, "B(,s1) S B(,s3) S", "B(,sidepool_1) S B(,s3) S", "");
        rig.answer_through(a, "2 Z(I) E(26000 prepared statement \"s3\" does not exist) Z(I)");
    });
}

#[test]
fn trap_05_what_comes_behind_an_error_is_dropped_until_sync() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(a, "P(,selec) H", "P(,selec) H", "");
        rig.answer_through(a, "E(42601 syntax error)");
        rig.is_busy(s);
        // Not for the server, and not for the account either.
        rig.ask(a, "CS(s1) P(s2,select 2) Q(deallocate all) B(,s1) E H", "", "");
        rig.ask(a, "S B(,s1) S", "S B(,sidepool_1) S", "");
        rig.answer_through(a, "Z(I) 2 Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_27_a_name_in_use_is_the_servers_error_with_the_clients_name() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(a, "P(s1,select 2) S", "P(sidepool_1,select 2) S", "");
        rig.answer(
            a,
            "E(42P05 prepared statement \"sidepool_1\" already exists) Z(I)",
            "E(42P05 prepared statement \"s1\" already exists) Z(I)",
        );
        // Two names for one text: the error has the one that was used.
        rig.ask(a, "P(other,select 1) S", "S", "1");
        rig.answer_through(a, "Z(I)");
        for name in ["s1", "other"] {
            rig.ask(a, &format!("P({name},select 2) S"), "P(sidepool_1,select 2) S", "");
            rig.answer(
                a,
                "E(42P05 prepared statement \"sidepool_1\" already exists) Z(I)",
                &format!("E(42P05 prepared statement \"{name}\" already exists) Z(I)"),
            );
        }
        rig.is_idle(s);
    });
}

#[test]
fn trap_27_an_unknown_name_is_the_servers_error() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        for what in ["B(,nope)", "DS(nope)"] {
            rig.round(a, &format!("{what} S"), "E(26000 prepared statement \"nope\" does not exist) Z(I)");
        }
        rig.is_idle(s);
    });
}

#[test]
fn trap_27_a_name_that_looks_like_ours_reaches_nobody_elses_statement() {
    in_pieces(|rig| {
        let (_, s) = prepared(rig);
        let b = rig.client();
        rig.lease(b, s, "", "");
        for what in ["B(,sidepool_1)", "DS(sidepool_1)"] {
            rig.ask(b, &format!("{what} S"), &format!("{} S", what.replace("_1", "_1?")), "");
            rig.answer(
                b,
                "E(26000 prepared statement \"sidepool_1?\" does not exist) Z(I)",
                "E(26000 prepared statement \"sidepool_1\" does not exist) Z(I)",
            );
        }
        for what in ["execute", "deallocate"] {
            rig.ask(b, &format!("Q({what} sidepool_1)"), &format!("Q({what} \"sidepool_1?\")"), "");
            rig.answer(
                b,
                "E(26000 prepared statement \"sidepool_1?\" does not exist) Z(I)",
                "E(26000 prepared statement \"sidepool_1\" does not exist) Z(I)",
            );
        }
        rig.ask(b, "CS(sidepool_1) S", "S", "3");
        rig.answer_through(b, "Z(I)");
        // It may have that name for itself.
        rig.ask(b, "P(sidepool_1,select 2) B(,sidepool_1) S", "P(sidepool_2,select 2) B(,sidepool_2) S", "");
        rig.answer_through(b, "1 2 Z(I)");
    });
}

#[test]
fn an_error_about_a_bind_has_the_clients_name() {
    in_pieces(|rig| {
        let (a, _) = prepared(rig);
        rig.ask(a, "B(,s1) S", "B(,sidepool_1) S", "");
        rig.answer(
            a,
            "E(08P01 bind message supplies 0 parameters, but prepared statement \"sidepool_1\" requires 1) Z(I)",
            "E(08P01 bind message supplies 0 parameters, but prepared statement \"s1\" requires 1) Z(I)",
        );
    });
}

#[test]
fn trap_28_the_unnamed_statement_follows_its_client() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "P(,select 1) S", "1 Z(I)");
        rig.round(a, "B(,) E S", "2 D(1) C(SELECT 1) Z(I)");
        let other = rig.server();
        rig.lease(a, other, "", "");
        rig.ask(a, "DS() B(,) S", "P(,select 1) DS() B(,) S", "");
        rig.answer(a, "1 t T 2 Z(I)", "t T 2 Z(I)");
        // Back on the first one, which still has it.
        rig.lease(a, s, "", "");
        rig.round(a, "B(,) S", "2 Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_28_another_clients_unnamed_statement_is_out_of_reach() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "P(,select 1) S", "1 Z(I)");
        let b = rig.client();
        rig.lease(b, s, "", "");
        rig.ask(b, "B(,) E S", "CS() B(,) E S", "");
        rig.answer(
            b,
            "3 E(26000 unnamed prepared statement does not exist) Z(I)",
            "E(26000 unnamed prepared statement does not exist) Z(I)",
        );
        rig.lease(a, s, "", "");
        rig.ask(a, "B(,) S", "P(,select 1) B(,) S", "");
    });
}

#[test]
fn trap_28_whatever_destroys_the_unnamed_statement_destroys_it_everywhere() {
    let destroyed = "E(26000 unnamed prepared statement does not exist) Z(I)";
    for (by, answer) in
        [("Q(select 2)", "T D(2) C(SELECT 1) Z(I)"), ("CS() S", "3 Z(I)"), ("P(,selec) S", "E(42601 syntax error) Z(I)")]
    {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.round(a, "P(,select 1) S", "1 Z(I)");
            rig.round(a, by, answer);
            rig.round(a, "B(,) S", destroyed);
            let other = rig.server();
            rig.lease(a, other, "", "");
            rig.round(a, "B(,) S", destroyed);
            rig.is_idle(s);
        });
    }
}

#[test]
fn trap_28_what_the_server_skipped_destroyed_nothing() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "P(,select 1) S", "1 Z(I)");
        rig.round(a, "B(,nope) P(,select 2) Q(select 3) CS() S", "E(26000 prepared statement \"nope\" does not exist) Z(I)");
        rig.round(a, "B(,) S", "2 Z(I)");
        rig.is_idle(s);
        let other = rig.server();
        rig.lease(a, other, "", "");
        rig.ask(a, "B(,) S", "P(,select 1) B(,) S", "");
    });
}

#[test]
fn trap_28_what_the_unnamed_statement_leaves_is_known_where_it_runs() {
    in_pieces(|rig| {
        let (a, _) = rig.pair();
        rig.round(a, "P(,select pg_advisory_lock(1)) S", "1 Z(I)");
        let s = rig.server();
        rig.lease(a, s, "", "");
        rig.ask(a, "B(,) E S", "P(,select pg_advisory_lock(1)) B(,) E S", "");
        rig.answer(a, "1 2 D() C(SELECT 1) Z(I)", "2 D C(SELECT 1) Z(I)");
        let b = rig.client();
        rig.lease(b, s, "Q(SELECT pg_catalog.pg_advisory_unlock_all();)", "");
    });
}

#[test]
fn trap_29_deallocate_all_is_about_ones_own_names() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.round(a, "P(,select 3) S", "1 Z(I)");
        rig.ask(a, "Q(DEALLOCATE ALL;)", "", "C(DEALLOCATE ALL) Z(I)");
        rig.is_idle(s);
        rig.ask(a, "B(,s1) S B(,) S", "B(,s1) S CS() B(,) S", "");
        rig.answer(
            a,
            "E(26000 prepared statement \"s1\" does not exist) Z(I) 3 E(26000 unnamed prepared statement does not exist) Z(I)",
            "E(26000 prepared statement \"s1\" does not exist) Z(I) E(26000 unnamed prepared statement does not exist) Z(I)",
        );
        // The statement is everybody's.
        let b = rig.client();
        rig.lease(b, s, "", "");
        rig.ask(b, "P(b,select 1) S", "S", "1");
    });
}

#[test]
fn trap_29_deallocate_all_within_transactions() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        rig.ask(a, "Q(deallocate all)", "", "C(DEALLOCATE ALL) Z(T)");
        rig.ask(a, "P(s1,select 1) S", "S", "1");
        rig.answer_through(a, "Z(T)");
        rig.round(a, "Q(select error)", "E(22012 no) Z(E)");
        // In a failed transaction it is refused, and everything as it was.
        rig.round(a, "Q(deallocate all)", "E(25P02 aborted) Z(E)");
        rig.round(a, "Q(rollback)", "C(ROLLBACK) Z(I)");
        rig.ask(a, "B(,s1) S", "CS(sidepool_1) P(sidepool_1,select 1) B(,sidepool_1) S", "");
        rig.answer(a, "3 1 2 Z(I)", "2 Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_29_a_pipeline_behind_deallocate_all_starts_anew() {
    for all in ["Q(discard all)", "Q(select 1; deallocate all)"] {
        in_pieces(|rig| {
            let (a, s) = prepared(rig);
            // Npgsql prepends DISCARD ALL to the next command of a pooled connection.
            let (tag, row) =
                if all.contains("discard") { ("DISCARD ALL", "") } else { ("DEALLOCATE ALL", "T D(1) C(SELECT 1) ") };
            rig.ask(a, &format!("{all} P(s1,select 2) B(,s1) E S P(,select 3) S"), all, "");
            rig.answer_through(a, &format!("{row}C({tag}) Z(I)"));
            // Had it failed, the name would be in use.
            rig.go_on(a, "P(sidepool_2,select 2) B(,sidepool_2) E S P(,select 3) S", "");
            rig.answer_through(a, "1 2 D(2) C(SELECT 1) Z(I) 1 Z(I)");
            rig.round_as(a, "B(,s1) S B(,) S", "B(,sidepool_2) S B(,) S", "2 Z(I) 2 Z(I)");
            // And what was there before is gone from the server.
            rig.ask(a, "P(x,select 1) S", "P(sidepool_1,select 1) S", "");
            rig.answer_through(a, "1 Z(I)");
            rig.is_idle(s);
        });
    }
}

#[test]
fn trap_29_deallocate_all_behind_unread_replies_is_asked_of_the_server() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        // Nobody can know yet whether the transaction fails.
        rig.ask(a, "Q(begin) Q(select error) Q(deallocate all) Q(rollback)", "Q(begin) Q(select error)", "");
        rig.answer_through(a, "C(BEGIN) Z(T) E(22012 no) Z(E)");
        rig.go_on(a, "Q(deallocate all) Q(rollback)", "");
        rig.answer_through(a, "E(25P02 aborted) Z(E) C(ROLLBACK) Z(I)");
        rig.ask(a, "B(,s1) S", "CS(sidepool_1) P(sidepool_1,select 1) B(,sidepool_1) S", "");
        rig.answer(a, "3 1 2 Z(I)", "2 Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_29_deallocate_all_ends_an_open_batch_at_the_server() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.ask_through(a, "P(,insert) B(,) E Q(deallocate all)");
        rig.answer_through(a, "1 2 C(INSERT 0 1) C(DEALLOCATE ALL) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_29_deallocate_all_by_extended_query() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(a, "P(,deallocate all) B(,) E S P(s1,select 1) B(,s1) E S", "P(,deallocate all) B(,) E S", "");
        rig.answer_through(a, "1 2 C(DEALLOCATE ALL) Z(I)");
        rig.go_on(a, "P(sidepool_1,select 1) B(,sidepool_1) E S", "");
        rig.answer_through(a, "1 2 D(1) C(SELECT 1) Z(I)");
        rig.is_idle(s);
        // Executed, but not done.
        rig.round(a, "P(,discard all) B(,) E S", "1 2 E(25001 not in a pipeline) Z(I)");
        rig.ask(a, "B(,s1) S", "CS(sidepool_1) P(sidepool_1,select 1) B(,sidepool_1) S", "");
        rig.answer(a, "3 1 2 Z(I)", "2 Z(I)");
    });
}

#[test]
fn trap_29_deallocate_of_a_statement_prepared_by_message() {
    for text in ["deallocate s1", "DEALLOCATE PREPARE \"s1\";"] {
        in_pieces(|rig| {
            let (a, s) = prepared(rig);
            let sent = text.replace("\"s1\"", "sidepool_1").replace("s1", "sidepool_1");
            rig.round_as(a, &format!("Q({text})"), &format!("Q({sent})"), "C(DEALLOCATE) Z(I)");
            rig.round(a, "B(,s1) S", "E(26000 prepared statement \"s1\" does not exist) Z(I)");
            prepares(rig, a, "s1", "select 1", "sidepool_1");
            // psycopg's pipeline mode.
            rig.ask(
                a,
                &format!("P(,{text}) B(,) E P(s1,select 2) B(,s1) S"),
                &format!("P(,{sent}) B(,) E P(sidepool_2,select 2) B(,sidepool_2) S"),
                "",
            );
            rig.answer_through(a, "1 2 C(DEALLOCATE) 1 2 Z(I)");
            rig.is_idle(s);
            let b = rig.client();
            rig.lease(b, s, "", "");
            prepares(rig, b, "b", "select 1", "sidepool_1");
        });
    }
}

#[test]
fn trap_29_a_deallocate_that_was_not_done_forgot_nothing() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(a, "P(,deallocate s1) S", "P(,deallocate sidepool_1) S", "");
        rig.answer_through(a, "1 Z(I)");
        rig.ask(a, "B(,s1) S", "B(,sidepool_1) S", "");
        rig.answer_through(a, "2 Z(I)");
        rig.ask(a, "B(,nope) P(,deallocate s1) B(,) E S", "B(,nope) P(,deallocate sidepool_1) B(,) E S", "");
        rig.answer_through(a, "E(26000 prepared statement \"nope\" does not exist) Z(I)");
        rig.ask(a, "B(,s1) S", "CS(sidepool_1) P(sidepool_1,select 1) B(,sidepool_1) S", "");
        rig.answer(a, "3 1 2 Z(I)", "2 Z(I)");
        rig.round(a, "Q(begin) Q(select error)", "C(BEGIN) Z(T) E(22012 no) Z(E)");
        rig.round_as(a, "Q(deallocate s1)", "Q(deallocate sidepool_1)", "E(25P02 aborted) Z(E)");
        rig.round(a, "Q(rollback)", "C(ROLLBACK) Z(I)");
        // Another client is safe from what is not known.
        let b = rig.client();
        rig.lease(b, s, "", "");
        rig.ask(b, "P(b,select 1) S", "CS(sidepool_1) P(sidepool_1,select 1) S", "");
        rig.answer(b, "3 1 Z(I)", "1 Z(I)");
    });
}

#[test]
fn trap_29_a_deallocate_we_did_not_understand_leaves_doubt() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.round_as(a, "P(n,deallocate own) S", "P(sidepool_2,deallocate own) S", "1 Z(I)");
        rig.round_as(a, "Q(execute n)", "Q(execute sidepool_2)", "C(DEALLOCATE) Z(I)");
        let b = rig.client();
        rig.lease(b, s, "", "");
        rig.ask(b, "P(b,select 1) S", "CS(sidepool_1) P(sidepool_1,select 1) S", "");
        rig.answer(b, "3 1 Z(I)", "1 Z(I)");
    });
}

#[test]
fn names_behind_other_statements_of_a_query() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(
            a,
            "Q(begin; execute s1; DEALLOCATE \"s1\"; commit) B(,s1) S",
            "CS(sidepool_0_1) P(sidepool_0_1,) S Q(begin; execute sidepool_1; DEALLOCATE sidepool_0_1; commit)",
            "",
        );
        rig.answer(
            a,
            "3 1 Z(I) C(BEGIN) T D(1) C(SELECT 1) C(DEALLOCATE) C(COMMIT) Z(I)",
            "C(BEGIN) T D(1) C(SELECT 1) C(DEALLOCATE) C(COMMIT) Z(I)",
        );
        rig.go_on(a, "B(,s1) S", "");
        rig.answer_through(a, "E(26000 prepared statement \"s1\" does not exist) Z(I)");
        rig.is_idle(s);
        // The statement is everybody's.
        let b = rig.client();
        rig.lease(b, s, "", "");
        rig.ask(b, "P(b,select 1) S", "S", "1");
    });
}

#[test]
fn a_name_in_a_text_means_what_it_means_where_it_stands() {
    for (says, to_server, answers, heard) in [
        // Forgotten, it is the text's own from there on.
        (
            "Q(deallocate s1; execute s1)",
            "CS(sidepool_0_1) P(sidepool_0_1,) S Q(deallocate sidepool_0_1; execute s1)",
            "3 1 Z(I) C(DEALLOCATE) E(26000 prepared statement \"s1\" does not exist) Z(I)",
            "C(DEALLOCATE) E(26000 prepared statement \"s1\" does not exist) Z(I)",
        ),
        (
            "Q(prepare s1 as select 9; execute s1)",
            "Q(prepare sidepool_1 as select 9; execute sidepool_1)",
            "E(42P05 prepared statement \"sidepool_1\" already exists) Z(I)",
            "E(42P05 prepared statement \"s1\" already exists) Z(I)",
        ),
        (
            "Q(prepare own as select 9; execute own; deallocate own)",
            "Q(prepare own as select 9; execute own; deallocate own)",
            "C(PREPARE) T D(9) C(SELECT 1) C(DEALLOCATE) Z(I)",
            "C(PREPARE) T D(9) C(SELECT 1) C(DEALLOCATE) Z(I)",
        ),
        (
            "Q(select 1; execute sidepool_1)",
            "Q(select 1; execute \"sidepool_1?\")",
            "T D(1) C(SELECT 1) E(26000 prepared statement \"sidepool_1?\" does not exist) Z(I)",
            "T D(1) C(SELECT 1) E(26000 prepared statement \"sidepool_1\" does not exist) Z(I)",
        ),
        (
            "Q(select '; execute s1;')",
            "Q(select '; execute s1;')",
            "T D(; execute s1;) C(SELECT 1) Z(I)",
            "T D(; execute s1;) C(SELECT 1) Z(I)",
        ),
    ] {
        in_pieces(|rig| {
            let (a, s) = prepared(rig);
            rig.ask(a, says, to_server, "");
            rig.answer(a, answers, heard);
            rig.is_idle(s);
        });
    }
}

#[test]
fn what_a_query_did_not_come_to_is_not_forgotten() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(a, "P(s2,select 1) S", "S", "1");
        rig.answer_through(a, "Z(I)");
        rig.ask(
            a,
            "Q(deallocate s1; select error; deallocate s2; deallocate all)",
            "CS(sidepool_0_1) P(sidepool_0_1,) CS(sidepool_0_2) P(sidepool_0_2,) S \
             Q(deallocate sidepool_0_1; select error; deallocate sidepool_0_2; deallocate all)",
            "",
        );
        rig.answer(a, "3 1 3 1 Z(I) C(DEALLOCATE) E(22012 no) Z(I)", "C(DEALLOCATE) E(22012 no) Z(I)");
        rig.round(a, "B(,s1) S", "E(26000 prepared statement \"s1\" does not exist) Z(I)");
        rig.ask(a, "B(,s2) S", "CS(sidepool_1) P(sidepool_1,select 1) B(,sidepool_1) S", "");
        rig.answer(a, "3 1 2 Z(I)", "2 Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn a_query_that_runs_more_statements_than_a_server_may_hold_has_them_all() {
    in_pieces(|rig| {
        rig.bounds.statements_per_server = 1;
        let (a, s) = prepared(rig);
        rig.ask(a, "P(s2,select 2) S", "P(sidepool_2,select 2) CS(sidepool_1) S", "");
        rig.answer(a, "1 3 Z(I)", "1 Z(I)");
        rig.ask(a, "Q(execute s1; execute s2)", "P(sidepool_1,select 1) S Q(execute sidepool_1; execute sidepool_2)", "");
        rig.answer(a, "1 Z(I) T D(1) C(SELECT 1) T D(2) C(SELECT 1) Z(I)", "T D(1) C(SELECT 1) T D(2) C(SELECT 1) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn execute_of_a_statement_prepared_by_message() {
    in_pieces(|rig| {
        let (a, _) = prepared(rig);
        rig.round_as(a, "Q(execute s1)", "Q(execute sidepool_1)", "T D(1) C(SELECT 1) Z(I)");
        rig.round_as(
            a,
            "Q(EXPLAIN (COSTS OFF) EXECUTE s1)",
            "Q(EXPLAIN (COSTS OFF) EXECUTE sidepool_1)",
            "T D(Result) C(EXPLAIN) Z(I)",
        );
        // On a server without it: prepared first, apart, so that no error of ours skips the query.
        let s = rig.server();
        rig.lease(a, s, "", "");
        rig.ask(a, "Q(execute s1)", "P(sidepool_1,select 1) S Q(execute sidepool_1)", "");
        rig.answer(a, "1 Z(I) T D(1) C(SELECT 1) Z(I)", "T D(1) C(SELECT 1) Z(I)");
        let s = rig.server();
        rig.lease(a, s, "", "");
        rig.ask(a, "Q(execute s1)", "P(sidepool_1,select 1) S Q(execute sidepool_1)", "");
        rig.answer(
            a,
            "E(42P01 no table) Z(I) E(26000 prepared statement \"sidepool_1\" does not exist) Z(I)",
            "E(26000 prepared statement \"s1\" does not exist) Z(I)",
        );
        rig.is_idle(s);
    });
}

#[test]
fn execute_within_a_batch_leaves_the_clients_errors_alone() {
    in_pieces(|rig| {
        let (a, _) = prepared(rig);
        let s = rig.server();
        rig.lease(a, s, "", "");
        rig.ask(a, "P(,selec) B(,) E Q(execute s1) S", "P(,selec) B(,) E P(sidepool_1,select 1) Q(execute sidepool_1) S", "");
        rig.answer_through(a, "E(42601 syntax error) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn execute_by_extended_query() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.round_as(a, "P(,execute s1) B(,) E S", "P(,execute sidepool_1) B(,) E S", "1 2 D(1) C(SELECT 1) Z(I)");
        rig.round_as(a, "P(e,explain execute s1) S", "P(sidepool_2,explain execute sidepool_1) S", "1 Z(I)");
        let other = rig.server();
        rig.lease(a, other, "", "");
        // Both the statement and the one it names have to be there.
        rig.ask(a, "B(,e) E S", "P(sidepool_1,select 1) P(sidepool_2,explain execute sidepool_1) B(,sidepool_2) E S", "");
        rig.answer(a, "1 1 2 D(Result) C(EXPLAIN) Z(I)", "2 D(Result) C(EXPLAIN) Z(I)");
        rig.lease(a, s, "", "");
        rig.round(a, "P(,execute nope) B(,) E S", "1 2 E(26000 prepared statement \"nope\" does not exist) Z(I)");
    });
}

#[test]
fn a_name_in_a_prepared_text_means_what_it_means_when_that_is_run() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(
            a,
            "P(,deallocate s1) B(,) E B(,) E S",
            "P(,deallocate sidepool_1) B(,) E P(sidepool_2,deallocate s1) B(,sidepool_2) E S",
            "",
        );
        let unknown = "E(26000 prepared statement \"s1\" does not exist) Z(I)";
        rig.answer(a, &format!("1 2 C(DEALLOCATE) 1 2 {unknown}"), &format!("1 2 C(DEALLOCATE) 2 {unknown}"));
        // Prepared before there is anything to run, and run when there is.
        rig.ask(a, "P(e,execute s1) S", "P(sidepool_3,execute s1) S", "");
        rig.answer_through(a, "1 Z(I)");
        prepares(rig, a, "s1", "select 4", "sidepool_4");
        rig.ask(a, "B(,e) E S", "P(sidepool_5,execute sidepool_4) B(,sidepool_5) E S", "");
        rig.answer(a, "1 2 D(4) C(SELECT 1) Z(I)", "2 D(4) C(SELECT 1) Z(I)");
        rig.round_as(a, "Q(execute e)", "Q(execute sidepool_5)", "T D(4) C(SELECT 1) Z(I)");
        // And not any more when there is none.
        rig.round_as(a, "Q(deallocate s1)", "Q(deallocate sidepool_4)", "C(DEALLOCATE) Z(I)");
        rig.ask(a, "B(,e) E S", "B(,sidepool_3) E S", "");
        rig.answer_through(a, &format!("2 {unknown}"));
        rig.is_idle(s);
    });
}

#[test]
fn a_name_in_a_prepared_text_waits_for_what_decides_it() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(a, "P(d,deallocate s1) S", "P(sidepool_2,deallocate sidepool_1) S", "");
        rig.answer_through(a, "1 Z(I)");
        rig.ask(a, "Q(select error) P(,select 0) B(,d) E S B(,d) E S", "Q(select error) P(,select 0) B(,sidepool_2) E S", "");
        rig.answer_through(a, "E(22012 no) Z(I) 1 2 C(DEALLOCATE) Z(I)");
        rig.go_on(a, "P(sidepool_3,deallocate s1) B(,sidepool_3) E S", "");
        let unknown = "E(26000 prepared statement \"s1\" does not exist) Z(I)";
        rig.answer(a, &format!("1 2 {unknown}"), &format!("2 {unknown}"));
        rig.is_idle(s);
    });
}

#[test]
fn a_name_as_long_as_ours_is_replaced_too() {
    in_pieces(|rig| {
        let (a, _) = rig.pair();
        prepares(rig, a, "tencharsxy", "select 1", "sidepool_1");
        rig.round_as(a, "P(,execute tencharsxy) B(,) E S", "P(,execute sidepool_1) B(,) E S", "1 2 D(1) C(SELECT 1) Z(I)");
    });
}

#[test]
fn names_in_text_fold_as_identifiers_do() {
    in_pieces(|rig| {
        let (a, _) = rig.pair();
        prepares(rig, a, "s_1", "select 1", "sidepool_1");
        prepares(rig, a, "S_1", "select 2", "sidepool_2");
        rig.round_as(a, "Q(execute S_1)", "Q(execute sidepool_1)", "T D(1) C(SELECT 1) Z(I)");
        rig.round_as(a, "Q(execute \"S_1\")", "Q(execute sidepool_2)", "T D(2) C(SELECT 1) Z(I)");
    });
}

#[test]
fn a_statement_of_prepare_is_the_servers_business() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(prepare p as select 1)", "C(PREPARE) Z(I)");
        rig.round(a, "B(,p) CS(p) S", "2 3 Z(I)");
        rig.round(a, "Q(deallocate all)", "C(DEALLOCATE ALL) Z(I)");
        let b = rig.client();
        rig.lease(b, s, "Q(DEALLOCATE ALL;)", "");
        // What its text does when it is executed was not looked at.
        let (a, s) = rig.pair();
        rig.round(a, "Q(execute p)", "T D(1) C(SELECT 1) Z(I)");
        assert!(rig.server_side(s).may_have(Leaves::SETTINGS) && rig.server_side(s).may_have(Leaves::LOCKS));
    });
}

/// A name that PREPARE may have taken is tried first: what the server warns of then is told once, with the error or with the
/// Parse that is the client's own.
#[test]
fn what_is_warned_of_in_front_of_a_parses_error_is_told_once() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(prepare p as select 1)", "C(PREPARE) Z(I)");
        let warned = "N(22P06 nonstandard use of escape) N(22P06 and another)";
        rig.ask(a, "P(s1,select 'a') S", "P(s1,select 'a') CS(s1) P(sidepool_1,select 'a') S", "");
        rig.answer_through(a, &format!("{warned} E(22021 invalid byte sequence) Z(I)"));
        rig.ask(a, "P(s2,select 'b') S", "P(s2,select 'b') CS(s2) P(sidepool_2,select 'b') S", "");
        rig.answer(a, &format!("{warned} 1 3 {warned} 1 Z(I)"), &format!("{warned} 1 Z(I)"));
        assert!(rig.server_side(s).is_settled());
    });
}

#[test]
fn trap_24_in_a_failed_transaction_only_the_server_knows_what_may_be_parsed() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        prepares(rig, a, "r", "rollback", "sidepool_2");
        rig.round(a, "Q(begin) Q(select error)", "C(BEGIN) Z(T) E(22012 no) Z(E)");
        // Asked under no name: ROLLBACK may be parsed, anything else may not.
        rig.round_as(a, "P(r2,rollback) S", "P(,rollback) S", "1 Z(E)");
        rig.round_as(a, "P(s2,select 1) S", "P(,select 1) S", "E(25P02 aborted) Z(E)");
        rig.round_as(a, "B(,r2) E S", "B(,sidepool_2) E S", "2 C(ROLLBACK) Z(I)");
        rig.round(a, "B(,s2) S", "E(26000 prepared statement \"s2\" does not exist) Z(I)");
        rig.round_as(a, "B(,s1) S", "B(,sidepool_1) S", "2 Z(I)");
        // What was asked under no name is nobody's unnamed statement.
        let b = rig.client();
        rig.lease(b, s, "", "");
        rig.ask(b, "B(,) S", "CS() B(,) S", "");
    });
}

#[test]
fn trap_24_a_parse_behind_unread_replies_is_asked_of_the_server() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(
            a,
            "Q(begin) Q(select error) P(x,select 1) S Q(rollback)",
            "Q(begin) Q(select error) P(,select 1) S Q(rollback)",
            "",
        );
        rig.answer_through(a, "C(BEGIN) Z(T) E(22012 no) Z(E) E(25P02 aborted) Z(E) C(ROLLBACK) Z(I)");
        rig.round(a, "B(,x) S", "E(26000 prepared statement \"x\" does not exist) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_30_a_reset_of_our_own_clears_the_servers_account() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        let mut reset = Vec::new();
        rig.server_side_mut(s).discard_all(&mut reset);
        assert_eq!(super::notation::show_client(&reset), "Q(DISCARD ALL)");
        rig.answer(a, "C(DISCARD ALL) Z(I)", "");
        assert_eq!(rig.server_side(s).owner(), None);
        let b = rig.client();
        rig.lease(b, s, "", "");
        rig.ask(b, "P(b,select 1) S", "P(sidepool_1,select 1) S", "");
    });
}

#[test]
fn trap_31_a_stale_plan_is_healed_by_preparing_anew() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.round_as(
            a,
            "B(,s1) E S",
            "B(,sidepool_1) E S",
            "E(0A000/RevalidateCachedQuery cached plan must not change result type) Z(I)",
        );
        rig.ask(a, "CS(s1) P(s1,select 1) S", "P(sidepool_2,select 1) S", "3");
        rig.answer_through(a, "1 Z(I)");
        let b = rig.client();
        rig.lease(b, s, "", "");
        rig.ask(b, "P(b,select 1) S", "S", "1");
        rig.answer_through(b, "Z(I)");
    });
}

#[test]
fn trap_31_a_schema_change_ends_sharing() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.round(a, "Q(alter table t drop x)", "C(ALTER TABLE) Z(I)");
        let b = rig.client();
        rig.lease(b, s, "", "");
        prepares(rig, b, "b", "select 1", "sidepool_2");
    });
}

#[test]
fn trap_34_a_client_holds_no_more_names_than_it_may() {
    in_pieces(|rig| {
        rig.bounds.statements_per_client = 1;
        let (a, s) = prepared(rig);
        // The server fails the batch, as it would for any other error; only what it says of it is ours.
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        rig.ask(a, "P(,select 3) P(s2,select 2) B(,s2) E S", "P(,select 3) B(,sidepool_?) B(,s2) E S", "");
        let heard = rig
            .answer_bytes(a, &super::notation::from_server("1 E(26000 prepared statement \"sidepool_?\" does not exist) Z(E)"));
        let heard = super::notation::show_server(&heard.unwrap());
        assert_eq!(heard, "1 E(54000 this client holds 1 prepared statements, the most it may) Z(E)");
        rig.round(a, "Q(rollback)", "C(ROLLBACK) Z(I)");
        assert_eq!(rig.client_side(a).prepared_statements(), 1);
        rig.is_idle(s);
        // Room again.
        rig.ask(a, "CS(s1) P(s2,select 2) S", "P(sidepool_2,select 2) S", "3");
        rig.answer_through(a, "1 Z(I)");
        // What ends the connection is the server's own.
        rig.ask(a, "P(s3,select 3) S", "B(,sidepool_?) S", "");
        rig.answer_through(a, "E(FATAL 57P01 terminating connection)");
    });
}

#[test]
fn trap_34_nor_texts_of_more_bytes_than_it_may() {
    in_pieces(|rig| {
        // s1 and what stands behind the name: its text, a zero, and the number of parameter types.
        rig.bounds.prepared_bytes = 2 * (2 + 8 + 1 + 2);
        let (a, _) = prepared(rig);
        rig.ask(a, "P(s2,select 22) S", "B(,sidepool_?) S", "");
        let heard = rig.answer_bytes(a, &super::notation::from_server("E(26000 prepared statement) Z(I)"));
        let told = "with this one, the prepared statements of this client would take more than 26 bytes";
        assert_eq!(super::notation::show_server(&heard.unwrap()), format!("E(54000 {told}) Z(I)"));
        prepares(rig, a, "s3", "select 3", "sidepool_2");
        assert_eq!(rig.client_side(a).prepared_statements(), 2);
        // Without a server, too: what another has proven is not taken either.
        rig.ask(a, "P(s4,select 1) S", "B(,sidepool_?) S", "");
    });
}

#[test]
fn in_session_mode_names_are_the_clients_own() {
    in_pieces(|rig| {
        let a = rig.session_client();
        let s = rig.server();
        rig.lease(a, s, "", "");
        rig.round(a, "P(s1,select 1) DS(s1) B(,s1) E CS(s1) S", "1 t T 2 D(1) C(SELECT 1) 3 Z(I)");
        rig.round(a, "Q(execute s1)", "E(26000 prepared statement \"s1\" does not exist) Z(I)");
        rig.round(a, "Q(deallocate all)", "C(DEALLOCATE ALL) Z(I)");
        rig.is_idle(s);
    });
}

/// A query that ends a batch without a Sync is skipped with it: a Sync of ours behind that would end the skipping too early.
#[test]
fn what_takes_a_sync_of_ours_waits_for_a_batch_that_has_none() {
    in_pieces(|rig| {
        let (a, s) = prepared(rig);
        rig.ask(a, "DP(p) Q(select 2) Q(begin; deallocate s1; commit) Q(select 4) S", "DP(p) Q(select 2)", "");
        rig.answer_through(a, "E(34000 portal \"p\" does not exist)");
        rig.go_on(a, "S", "");
        rig.answer_through(a, "Z(I)");
        rig.round_as(a, "B(,s1) S", "B(,sidepool_1) S", "2 Z(I)");
        rig.is_idle(s);
        let other = rig.server();
        rig.lease(a, other, "", "");
        rig.ask(a, "B(,) Q(select 2) Q(execute s1)", "B(,) Q(select 2)", "");
        rig.answer_through(a, "2 T D(2) C(SELECT 1) Z(I)");
        rig.go_on(a, "P(sidepool_1,select 1) S Q(execute sidepool_1)", "");
        rig.answer(a, "1 Z(I) T D(1) C(SELECT 1) Z(I)", "T D(1) C(SELECT 1) Z(I)");
        // There by now: nothing of ours stands in front of it, and it need not wait.
        rig.ask(a, "B(,) Q(select 2) Q(execute s1)", "B(,) Q(select 2) Q(execute sidepool_1)", "");
        rig.answer_through(a, "2 T D(2) C(SELECT 1) Z(I) T D(1) C(SELECT 1) Z(I)");
        rig.is_idle(other);
    });
}
