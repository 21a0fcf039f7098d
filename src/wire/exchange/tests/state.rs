//! What a client leaves on its server: why that stays with it, and the question that settles it.

use super::rig::{Rig, in_pieces};
use crate::wire::exchange::Isolation;
use crate::wire::sql::Leaves;

const BEFORE: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY, NOT DEFERRABLE;SELECT '','',''";

/// A question that lifts the timeouts, once it has asked for those.
fn untimed(timeouts: &str, rest: &str) -> String {
    let (begins, asks) = BEFORE.split_at(BEFORE.find("SELECT").expect("it asks"));
    let first = if timeouts.is_empty() { String::new() } else { format!("{asks}{timeouts};") };
    format!("Q({begins}{first}SET LOCAL statement_timeout=0;SET LOCAL lock_timeout=0;{asks}{rest})")
}

fn held(rig: &Rig, client: usize, server: usize) -> Leaves {
    rig.server_side(server).held_for(rig.client_side(client))
}

#[test]
fn a_setting_is_taken_down_and_follows_its_client() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(set work_mem = 1)", "C(SET) Z(I)");
        assert_eq!(held(rig, a, s), Leaves::SETTINGS);
        let asks = format!("Q({BEFORE} UNION ALL SELECT 's','work_mem',pg_catalog.current_setting('work_mem',true))");
        assert_eq!(rig.probe(a, s), asks);
        // In its place, and nothing of it reaches the client.
        rig.ask_through(a, "Q(select 1)");
        assert!(rig.probe_answered(a, &[["", "", ""], ["s", "work_mem", "1MB"]]).is_empty());
        rig.answer_through(a, "T D(1) C(SELECT 1) Z(I)");
        assert!(held(rig, a, s).is_nothing());
        let b = rig.client();
        rig.lease(b, s, "Q(RESET \"work_mem\";)", "");
        rig.answer(b, "C(RESET) Z(I)", "");
        let t = rig.server();
        rig.lease(a, t, "Q(SET work_mem='1MB';)", "");
        rig.answer(a, "C(SET) Z(I)", "");
        rig.lease(a, s, "Q(SET work_mem='1MB';)", "");
    });
}

#[test]
fn identities_are_set_last_and_shed_first() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(set role x; set work_mem = 1)", "C(SET) C(SET) Z(I)");
        rig.probe(a, s);
        rig.probe_answered(a, &[["s", "role", "x"], ["s", "work_mem", "1MB"]]);
        let t = rig.server();
        rig.lease(a, t, "Q(SET work_mem='1MB';SET role='x';)", "");
        rig.answer(a, "C(SET) C(SET) Z(I)", "");
        let b = rig.client();
        rig.lease(b, t, "Q(SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;RESET \"work_mem\";)", "");
    });
}

#[test]
fn what_is_there_stays_a_reason_and_what_is_not_goes() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(select pg_advisory_lock(1); listen x)", "T D C(SELECT 1) C(LISTEN) Z(I)");
        rig.probe(a, s);
        assert!(!rig.server_side(s).is_worth_asking());
        rig.probe_answered(a, &[["", "", ""], ["l", "", ""]]);
        assert_eq!(held(rig, a, s), Leaves::LOCKS);
        assert!(!rig.server_side(s).is_worth_asking());
        rig.round(a, "Q(select 1)", "T D(1) C(SELECT 1) Z(I)");
        assert!(!rig.server_side(s).is_worth_asking(), "nothing it did could have changed that");
        rig.round(a, "Q(select pg_advisory_unlock_all())", "T D C(SELECT 1) Z(I)");
        assert!(rig.server_side(s).is_worth_asking());
        rig.probe(a, s);
        rig.probe_answered(a, &[]);
        assert!(held(rig, a, s).is_nothing());
    });
}

/// What was noted when it was prepared has been asked about since, and what it calls may do something else each time.
#[test]
fn what_was_prepared_in_sql_may_leave_anything_each_time_it_is_run() {
    for run in ["Q(execute p)", "Q(select 1; execute p)", "P(,execute p) B(,) E S", "P(e,execute p) B(,e) E S"] {
        in_pieces(|rig| {
            let (a, s) = rig.pair();
            rig.round(a, "Q(prepare p as select set_config('work_mem', '1MB', false))", "C(PREPARE) Z(I)");
            rig.probe(a, s);
            rig.probe_answered(a, &[["p", "", ""]]);
            assert_eq!(held(rig, a, s), Leaves::STATEMENTS);
            rig.ask_bytes(a, &super::notation::from_client(run)).expect("a client in order");
            assert!(rig.server_side(s).may_have(Leaves::SETTINGS), "{run}");
        });
    }
}

#[test]
fn what_came_behind_the_question_is_in_doubt_again() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(listen x)", "C(LISTEN) Z(I)");
        rig.probe(a, s);
        rig.ask_through(a, "Q(listen y)");
        rig.probe_answered(a, &[]);
        rig.answer_through(a, "C(LISTEN) Z(I)");
        assert!(held(rig, a, s).has(Leaves::LISTEN) && rig.server_side(s).is_worth_asking());
    });
}

#[test]
fn a_question_that_fails_changes_nothing() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(listen x)", "C(LISTEN) Z(I)");
        rig.probe(a, s);
        rig.answer(a, "E(57014 canceling statement) Z(I)", "");
        assert_eq!(held(rig, a, s), Leaves::LISTEN);
        assert!(!rig.server_side(s).is_worth_asking());
    });
}

#[test]
fn the_end_of_a_server_is_told_though_it_comes_in_answer_to_a_question() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(listen x)", "C(LISTEN) Z(I)");
        rig.probe(a, s);
        let told = "E(FATAL 57P01 terminating connection)";
        rig.answer(a, told, told);
        assert!(rig.told.fatal);
    });
}

/// Its settings are on the server still when it is asked for others, and the answer would free it.
#[test]
fn what_a_question_that_failed_was_about_is_asked_about_again() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(set statement_timeout = 1; set app.x = 'a')", "C(SET) C(SET) Z(I)");
        rig.probe(a, s);
        rig.answer(a, "E(57014 canceling statement) Z(I)", "");
        rig.round(a, "Q(set statement_timeout = 0)", "C(SET) Z(I)");
        let setting = |name| format!(" UNION ALL SELECT 's','{name}',pg_catalog.current_setting('{name}',true)");
        assert_eq!(rig.probe(a, s), untimed(&setting("statement_timeout"), &setting("app.x")));
        rig.probe_answered(a, &[["s", "statement_timeout", "0"], ["s", "app.x", "a"]]);
        let b = rig.client();
        rig.lease(b, s, "Q(SET statement_timeout=0;RESET \"app\".\"x\";RESET \"statement_timeout\";)", "");
    });
}

/// Known from an earlier answer; and not lifted where that would hide whose they are.
#[test]
fn a_question_is_not_put_under_its_clients_timeouts() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(set lock_timeout = 1)", "C(SET) Z(I)");
        let timeout = " UNION ALL SELECT 's','lock_timeout',pg_catalog.current_setting('lock_timeout',true)";
        assert_eq!(rig.probe(a, s), untimed(timeout, ""));
        rig.probe_answered(a, &[["", "", ""], ["s", "lock_timeout", "1ms"], ["", "", ""]]);
        rig.round(a, "Q(declare c cursor with hold for select 1)", "C(DECLARE CURSOR) Z(I)");
        let cursors = " UNION ALL SELECT 'c','','' WHERE EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)";
        assert_eq!(rig.probe(a, s), untimed("", cursors));
        rig.probe_answered(a, &[["", "", ""]]);
        assert!(held(rig, a, s).is_nothing());
        rig.round(a, "Q(reset all)", "C(RESET) Z(I)");
        let asks = rig.probe(a, s);
        assert!(asks.starts_with(&format!("Q({BEFORE}")) && !asks.contains("SET LOCAL"), "{asks}");
    });
}

#[test]
fn nothing_takes_a_library_out_again() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(load 'x'; select setseed(1))", "C(LOAD) T D C(SELECT 1) Z(I)");
        rig.round(a, "Q(discard all)", "C(DISCARD ALL) Z(I)");
        assert!(held(rig, a, s).has(Leaves::LIBRARY) && rig.server_side(s).is_tainted());
        assert!(!rig.server_side(s).is_worth_asking());
        // Nor does the cleaning when its client has left.
        rig.round(a, "Q(listen x)", "C(LISTEN) Z(I)");
        assert!(rig.server_side_mut(s).clean_up(&mut Vec::new()));
        assert!(rig.server_side(s).is_tainted());
    });
}

#[test]
fn sequences_hold_a_server_for_those_who_read_them() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(select nextval('s'))", "T D(1) C(SELECT 1) Z(I)");
        assert!(held(rig, a, s).is_nothing());
        rig.round(a, "Q(select lastval())", "T D(1) C(SELECT 1) Z(I)");
        assert_eq!(held(rig, a, s), Leaves::SEQUENCES);
    });
}

/// What sets `work_mem` again, if nothing else has.
fn again() -> String {
    let catalog = crate::wire::exchange::Catalog::default();
    let startup = catalog.startup(vec![("work_mem".into(), "3MB".into())], &crate::wire::params::Params::default());
    let sql = crate::wire::exchange::state::defaults(&startup, &crate::wire::sql::Touched::any()).expect("something to set");
    String::from_utf8(sql).expect("it is ASCII")
}

/// A client that asked for `work_mem=3MB`, on a server.
fn asks_for_work_mem(rig: &mut Rig) -> (usize, usize) {
    let params = std::sync::Arc::clone(&rig.params);
    let (a, s) = (rig.client_with(params, &[("work_mem", "3MB")]), rig.server());
    rig.lease(a, s, "Q(SET work_mem='3MB';)", "");
    rig.answer(a, "C(SET) Z(I)", "");
    (a, s)
}

#[test]
fn startup_parameters_come_back_behind_a_reset() {
    in_pieces(|rig| {
        let (a, s) = asks_for_work_mem(rig);
        for text in ["reset work_mem", "set work_mem to default;", "reset all"] {
            rig.ask(a, &format!("Q({text})"), &format!("Q({text}) Q({})", again()), "");
            rig.answer(a, "C(RESET) Z(I) T D() C(SELECT 1) Z(I)", "C(RESET) Z(I)");
            assert_eq!(rig.restored(a, s), None, "that is all");
        }
        rig.round(a, "Q(reset lock_timeout)", "C(RESET) Z(I)");
        assert_eq!(rig.restored(a, s), None, "it did not ask for that one");
        let (b, t) = rig.pair();
        rig.round(b, "Q(reset work_mem)", "C(RESET) Z(I)");
        assert_eq!(rig.restored(b, t), None, "its defaults are the server's");
    });
}

#[test]
fn startup_parameters_come_back_in_the_transaction_and_once_more_where_that_is_not_sure() {
    in_pieces(|rig| {
        let (a, s) = asks_for_work_mem(rig);
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        rig.ask(a, "Q(reset work_mem) Q(select 1)", &format!("Q(reset work_mem) Q({}) Q(select 1)", again()), "");
        let told = "C(RESET) Z(T) T D(1) C(SELECT 1) Z(T)";
        rig.answer(a, "C(RESET) Z(T) T D() C(SELECT 1) Z(T) T D(1) C(SELECT 1) Z(T)", told);
        rig.round(a, "Q(commit)", "C(COMMIT) Z(I)");
        assert_eq!(rig.restored(a, s), None);
        // Something behind it in its text failed, and ours with it.
        let text = "begin; reset work_mem; savepoint s; select error";
        rig.ask(a, &format!("Q({text})"), &format!("Q({text}) Q({})", again()), "");
        let told = "C(BEGIN) C(RESET) C(SAVEPOINT) E(22012 no) Z(E)";
        rig.answer(a, &format!("{told} E(25P02 aborted) Z(E)"), told);
        rig.round(a, "Q(rollback to s; commit)", "C(ROLLBACK) C(COMMIT) Z(I)");
        assert!(rig.restored(a, s).is_some_and(|sql| sql.contains("('work_mem','3MB')")));
        rig.answer(a, "T D() C(SELECT 1) Z(I)", "");
        assert_eq!(rig.restored(a, s), None, "once");
        rig.is_idle(s);
    });
}

/// The server reads the client's data then, and would end the session at a query.
#[test]
fn startup_parameters_come_back_when_the_copy_behind_a_reset_has_ended() {
    in_pieces(|rig| {
        let (a, s) = asks_for_work_mem(rig);
        rig.round(a, "Q(reset work_mem; copy t from stdin)", "C(RESET) G");
        rig.round(a, "d(1) c", "C(COPY 1) Z(I)");
        assert!(rig.restored(a, s).is_some());
        rig.answer(a, "T D() C(SELECT 1) Z(I)", "");
        assert_eq!(rig.restored(a, s), None, "once");
        rig.is_idle(s);
    });
}

/// At the end of the transaction, where nothing of the client's is under way. What is LOCAL looks like a setting of the session's
/// own, and one that was reset would not come back.
#[test]
fn startup_parameters_come_back_under_no_timeout() {
    const LIFTED: &str = "Q(SET LOCAL statement_timeout=0;SET LOCAL lock_timeout=0;SELECT ";
    for (name, reset, lifted) in [
        ("work_mem", "work_mem", true),
        ("Statement_Timeout", "work_mem", true),
        ("Statement_Timeout", "all", false),
        ("Statement_Timeout", "statement_timeout", false),
    ] {
        in_pieces(|rig| {
            let params = std::sync::Arc::clone(&rig.params);
            let a = rig.client_with(params, &[("work_mem", "3MB"), (name, "4")]);
            let s = rig.server();
            let (client, server) = rig.sides(a, s);
            server.take_over(client, &mut Vec::new(), &mut Vec::new());
            rig.lease(a, s, "", "");
            rig.answer(a, "C(SET) Z(I)", "");
            rig.round(a, &format!("Q(reset {reset}; copy t from stdin)"), "C(RESET) G");
            rig.round(a, "d(1) c", "C(COPY 1) Z(I)");
            let sql = rig.restored(a, s).expect("it was reset");
            assert_eq!(sql.starts_with(LIFTED), lifted, "{sql}");
        });
    }
}

#[test]
fn startup_parameters_come_back_within_a_batch() {
    in_pieces(|rig| {
        let (a, s) = asks_for_work_mem(rig);
        let ours = format!(
            "CS(sidepool_0_ours) P(sidepool_0_ours,{}) B(sidepool_0_ours,sidepool_0_ours) E(sidepool_0_ours) CP(sidepool_0_ours) \
             CS(sidepool_0_ours)",
            again()
        );
        let batch = ("P(,reset work_mem) B(,) E", "P(,show work_mem) B(,) E S");
        rig.ask(a, &format!("{} {}", batch.0, batch.1), &format!("{} {ours} {}", batch.0, batch.1), "");
        rig.answer(
            a,
            "1 2 C(RESET) 3 1 2 D(3MB) C(SELECT 1) 3 3 1 2 D(3MB) C(SHOW) Z(I)",
            "1 2 C(RESET) 1 2 D(3MB) C(SHOW) Z(I)",
        );
        assert!(rig.restored(a, s).is_some(), "another portal may have been run");
        rig.answer(a, "T D() C(SELECT 1) Z(I)", "");
        rig.is_idle(s);
    });
}

#[test]
fn strict_isolation_cleans_whatever_was_seen() {
    in_pieces(|rig| {
        rig.isolate(Isolation::Strict);
        let (a, s) = rig.pair();
        rig.round(a, "Q(select 1)", "T D(1) C(SELECT 1) Z(I)");
        rig.lease(a, s, "", "");
        let b = rig.client();
        let cleaned = "RESET ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;CLOSE ALL;UNLISTEN *;\
            SELECT pg_catalog.pg_advisory_unlock_all();DISCARD TEMP;DISCARD SEQUENCES;DEALLOCATE ALL;";
        rig.lease(b, s, &format!("Q({cleaned})"), "");
    });
}

#[test]
fn a_client_that_leaves_has_its_state_cleaned_at_once() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(select pg_advisory_lock(1))", "T D C(SELECT 1) Z(I)");
        let mut out = Vec::new();
        assert!(rig.server_side_mut(s).clean_up(&mut out));
        assert_eq!(super::notation::show_client(&out), "Q(SELECT pg_catalog.pg_advisory_unlock_all();)");
        rig.answer(a, "T D C(SELECT 1) Z(I)", "");
        rig.used_by_another(s);
    });
}

#[test]
fn what_holds_a_server_is_told_by_its_statement_and_no_later_one() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(set work_mem = 1)", "C(SET) Z(I)");
        rig.round(a, "Q(insert into t values (1))", "C(INSERT 0 1) Z(I)");
        assert_eq!(rig.sides(a, s).0.take_culprit().as_deref(), Some("set work_mem = ?"));
        // Of a client that asks for it, the server is kept for what currval returns.
        rig.round(a, "Q(select currval('q'))", "T D(1) C(SELECT 1) Z(I)");
        rig.round(a, "Q(insert into t values (1))", "C(INSERT 0 1) Z(I)");
        assert_eq!(rig.sides(a, s).0.take_culprit().as_deref(), Some("insert into t values (?)"));
    });
}
