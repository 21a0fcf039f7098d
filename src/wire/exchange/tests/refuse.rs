//! Requests that get no server: refused whole, and nothing of what follows.

use super::Unleased;
use super::rig::in_pieces;

const REFUSAL: &str = "E(53300 no server)";

#[test]
fn a_query_is_refused_and_the_next_one_goes_on() {
    in_pieces(|rig| {
        let (a, s) = (rig.client(), rig.server());
        rig.ask_unleased(a, "Q(select 1) Q(select 2)", "", Unleased::Wants);
        rig.refuse(a, REFUSAL, REFUSAL);
        rig.ask_unleased(a, "", "Z(I)", Unleased::Wants);
        rig.lease(a, s, "", "");
        rig.go_on(a, "Q(select 2)", "");
        rig.answer_through(a, "T D(2) C(SELECT 1) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn a_batch_is_refused_up_to_its_sync_whenever_that_comes() {
    in_pieces(|rig| {
        let (a, s) = (rig.client(), rig.server());
        rig.ask_unleased(a, "P(,select 1) B(,) E", "", Unleased::Wants);
        rig.refuse(a, REFUSAL, REFUSAL);
        rig.ask_unleased(a, "", "", Unleased::More);
        // As a server would skip it: a Query too.
        rig.ask_unleased(a, "H E Q(select 1) d(x)", "", Unleased::More);
        rig.ask_unleased(a, "S", "Z(I)", Unleased::More);
        rig.ask_unleased(a, "P(s1,select 2) B(,s1) E S", "", Unleased::Wants);
        rig.lease(a, s, "", "");
        rig.go_on(a, "P(sidepool_1,select 2) B(,sidepool_1) E S", "");
        rig.answer_through(a, "1 2 D(2) C(SELECT 1) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn a_function_call_is_refused() {
    in_pieces(|rig| {
        let a = rig.client();
        rig.ask_unleased(a, "F", "", Unleased::Wants);
        rig.refuse(a, REFUSAL, REFUSAL);
        rig.ask_unleased(a, "H", "Z(I)", Unleased::More);
    });
}

#[test]
fn a_lone_sync_and_what_another_client_has_prepared_need_no_server() {
    in_pieces(|rig| {
        let (a, b, s) = (rig.client(), rig.client(), rig.server());
        rig.ask_unleased(a, "S S", "Z(I) Z(I)", Unleased::More);
        rig.ask_unleased(b, "P(s1,select 2) S", "", Unleased::Wants);
        rig.lease(b, s, "", "");
        rig.go_on(b, "P(sidepool_1,select 2) S", "");
        rig.ask_unleased(a, "P(mine,select 2) S", "", Unleased::Wants);
        rig.answer_through(b, "1 Z(I)");
        rig.is_idle(s);
        rig.ask_unleased(a, "", "1 Z(I)", Unleased::More);
        rig.ask_unleased(a, "P(mine,select 2) S", "", Unleased::Wants);
    });
}

#[test]
fn several_refused_one_after_the_other() {
    in_pieces(|rig| {
        let a = rig.client();
        rig.ask_unleased(a, "P(,select 1) S Q(select 2) P(,select 3) B(,)", "", Unleased::Wants);
        for (answer, next) in [("Z(I)", Unleased::Wants), ("Z(I)", Unleased::Wants), ("", Unleased::More)] {
            rig.refuse(a, REFUSAL, REFUSAL);
            rig.ask_unleased(a, "", answer, next);
        }
        rig.ask_unleased(a, "S X", "Z(I)", Unleased::Terminated);
    });
}

#[test]
fn a_client_that_leaves_while_it_is_refused_has_left() {
    in_pieces(|rig| {
        let a = rig.client();
        rig.ask_unleased(a, "B(,)", "", Unleased::Wants);
        rig.refuse(a, REFUSAL, REFUSAL);
        rig.ask_unleased(a, "X", "", Unleased::Terminated);
    });
}

#[test]
fn what_a_refused_batch_names_means_nothing() {
    in_pieces(|rig| {
        let (a, s) = (rig.client(), rig.server());
        rig.ask_unleased(a, "P(s1,select 1) S", "", Unleased::Wants);
        rig.refuse(a, REFUSAL, REFUSAL);
        rig.ask_unleased(a, "", "Z(I)", Unleased::More);
        assert_eq!(rig.client_side(a).prepared_statements(), 0);
        rig.lease(a, s, "", "");
        rig.round(a, "B(,s1) S", "E(26000 prepared statement \"s1\" does not exist) Z(I)");
    });
}
