//! Names that end with their transaction, as on a pooler whose servers alone know them.

use super::Unleased;
use super::rig::{Rig, in_pieces};

fn case(run: impl Fn(&mut Rig)) {
    in_pieces(|rig| {
        rig.forget_names();
        run(rig);
    });
}

#[test]
fn a_name_is_good_to_the_end_of_its_transaction() {
    case(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        rig.round_as(a, "P(s0,select 1) DS(s0) S", "P(sidepool_1,select 1) DS(sidepool_1) S", "1 t T Z(T)");
        rig.round_as(a, "B(,s0) E S", "B(,sidepool_1) E S", "2 D(1) C(SELECT 1) Z(T)");
        rig.round(a, "Q(commit)", "C(COMMIT) Z(I)");
        rig.is_idle(s);
        for what in ["B(,s0) E", "DS(s0)"] {
            rig.round(a, &format!("{what} S"), "E(26000 prepared statement \"s0\" does not exist) Z(I)");
        }
        for what in ["execute", "deallocate"] {
            rig.round(a, &format!("Q({what} s0)"), "E(26000 prepared statement \"s0\" does not exist) Z(I)");
        }
        assert_eq!(rig.client_side(a).prepared_statements(), 0);
    });
}

#[test]
fn a_pipeline_is_one_go() {
    case(|rig| {
        let (a, s) = rig.pair();
        // What waits for the first Sync was sent before anything was answered: the name is good for it.
        let (mut to_server, _) = rig.ask_bytes(a, &super::notation::from_client("P(s0,select 1) S B(,s0) E S")).unwrap();
        assert_eq!(super::notation::show_client(&to_server), "P(sidepool_1,select 1) S");
        rig.answer_through(a, "1 Z(I)");
        to_server.clear();
        rig.go_on(a, "B(,sidepool_1) E S", "");
        rig.answer_through(a, "2 D(1) C(SELECT 1) Z(I)");
        rig.is_idle(s);
        rig.round(a, "B(,s0) S", "E(26000 prepared statement \"s0\" does not exist) Z(I)");
    });
}

#[test]
fn a_name_stays_taken_on_its_server_until_somebody_frees_it() {
    case(|rig| {
        let (a, s) = rig.pair();
        rig.round_as(a, "P(s0,select 1) S", "P(sidepool_1,select 1) S", "1 Z(I)");
        let b = rig.client();
        rig.lease(b, s, "", "");
        for client in [b, a] {
            rig.lease(client, s, "", "");
            rig.ask(client, "P(s0,select 2) B(,s0) S", "P(sidepool_1,select 2) B(,s0) S", "");
            rig.answer(
                client,
                "E(42P05 prepared statement \"sidepool_1\" already exists) Z(I)",
                "E(42P05 prepared statement \"s0\" already exists) Z(I)",
            );
        }
        // On another server it is free.
        let other = rig.server();
        rig.lease(a, other, "", "");
        rig.round_as(a, "P(s0,select 2) B(,s0) S", "P(sidepool_2,select 2) B(,sidepool_2) S", "1 2 Z(I)");
        // Closed, and deallocated with all others, it is free again.
        rig.lease(b, s, "", "");
        rig.ask(b, "CS(s0) S", "S", "3");
        rig.answer_through(b, "Z(I)");
        rig.round_as(b, "P(s0,select 2) S", "P(sidepool_2,select 2) S", "1 Z(I)");
        rig.ask(b, "Q(deallocate all)", "", "C(DEALLOCATE ALL) Z(I)");
        rig.ask(b, "P(s0,select 1) S", "S", "1");
        rig.answer_through(b, "Z(I)");
    });
}

#[test]
fn nothing_is_prepared_without_a_server() {
    case(|rig| {
        let (a, _) = rig.pair();
        rig.round_as(a, "P(s0,select 1) S", "P(sidepool_1,select 1) S", "1 Z(I)");
        let b = rig.client();
        rig.ask_unleased(b, "P(s0,select 1) S", "", Unleased::Wants);
    });
}
