//! A server changes hands (traps 70–76): what it is cleaned of, what it is told, what the client hears.

use super::notation::{from_server, show_client};
use super::rig::{Rig, in_pieces};
use crate::wire::exchange::Broken;

/// A server that `text` was run on, answered with `tag`.
fn left_by(rig: &mut Rig, text: &str, tag: &str) -> usize {
    let (a, s) = rig.pair();
    rig.round(a, &format!("Q({text})"), &format!("C({tag}) Z(I)"));
    s
}

#[test]
fn the_same_owner_pays_nothing() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(set TimeZone = 'CET'; listen x)", "C(SET) C(LISTEN) S(TimeZone=CET) Z(I)");
        rig.lease(a, s, "", "");
    });
}

#[test]
fn the_same_owner_hears_what_changed_meanwhile() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        let catalog = std::sync::Arc::clone(&rig.catalog);
        rig.server_side_mut(s).turn_idle(&catalog, &from_server("S(TimeZone=CET)")).unwrap();
        rig.lease(a, s, "", "S(TimeZone=CET)");
    });
}

#[test]
fn trap_70_settings_that_differ_travel_in_front_of_the_query() {
    in_pieces(|rig| {
        let params = rig.params_with("TimeZone", "CET");
        let (a, s) = (rig.client_with(params, &[]), rig.server());
        rig.lease(a, s, "Q(SET TimeZone='CET';)", "");
        // In the same write; the replies are ours.
        rig.ask_through(a, "Q(select 1)");
        rig.answer(a, "N(00000 hey) C(SET) S(TimeZone=CET) Z(I) T D(1) C(SELECT 1) Z(I)", "T D(1) C(SELECT 1) Z(I)");
        rig.is_idle(s);
        assert_eq!(rig.told.ready, 1);
        // And the next one gets its own again.
        let b = rig.client();
        rig.lease(b, s, "Q(RESET \"TimeZone\";)", "");
    });
}

#[test]
fn trap_71_the_client_is_told_what_the_server_made_of_it() {
    in_pieces(|rig| {
        let params = rig.params_with("TimeZone", "cet");
        let (a, s) = (rig.client_with(params, &[]), rig.server());
        rig.lease(a, s, "Q(SET TimeZone='cet';)", "");
        rig.ask_through(a, "Q(select 1)");
        rig.answer(a, "C(SET) S(TimeZone=CET) Z(I) T D(1) C(SELECT 1) Z(I)", "S(TimeZone=CET) T D(1) C(SELECT 1) Z(I)");
        // Adopted: it costs nothing the next time.
        assert_eq!(rig.client_side(a).params.get("timezone"), Some("CET"));
        assert!(std::sync::Arc::ptr_eq(&rig.client_side(a).params, rig.server_side(s).params()));
    });
}

#[test]
fn trap_72_values_are_quoted_and_lists_are_not_quoted_again() {
    in_pieces(|rig| {
        let params = rig.params_with("search_path", "\"A b\", c");
        let (a, s) = (rig.client_with(params, &[]), rig.server());
        rig.lease(a, s, "Q(SELECT pg_catalog.set_config('search_path','\"A b\", c',false);)", "");
        let long = "x'".repeat(200);
        let params = rig.params_with("application_name", &long);
        let (b, s) = (rig.client_with(params, &[]), rig.server());
        rig.lease(b, s, &format!("Q(SET application_name='{}';)", long.replace('\'', "''")), "");
    });
}

#[test]
fn trap_73_an_empty_value_is_a_value() {
    in_pieces(|rig| {
        let params = rig.params_with("application_name", "x");
        let (a, s) = (rig.client_with(params, &[]), rig.server());
        rig.lease(a, s, "Q(SET application_name='x';)", "");
        rig.answer(a, "C(SET) S(application_name=x) Z(I)", "");
        let b = rig.client();
        rig.lease(b, s, "Q(RESET \"application_name\";)", "");
    });
}

#[test]
fn what_nobody_can_set_is_told_and_not_sent() {
    in_pieces(|rig| {
        let params = rig.params_with("is_superuser", "off");
        let (a, s) = (rig.client_with(params, &[]), rig.server());
        rig.lease(a, s, "", "S(is_superuser=on)");
        rig.is_idle(s);
    });
}

#[test]
fn trap_74_settings_that_the_server_refuses_end_it() {
    in_pieces(|rig| {
        let params = rig.params_with("TimeZone", "nowhere");
        let (a, s) = (rig.client_with(params, &[]), rig.server());
        rig.lease(a, s, "Q(SET TimeZone='nowhere';)", "");
        rig.ask_through(a, "Q(select 1)");
        let error = from_server("E(22023 invalid value)");
        assert_eq!(rig.answer_bytes(a, &error), Err(Broken::Replay(error[5..].into())));
    });
}

#[test]
fn trap_75_only_what_is_dirty_is_cleaned() {
    for (text, tag, cleaned) in [
        ("select 1", "SELECT 1", ""),
        ("set work_mem = '1MB'", "SET", "RESET ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;"),
        ("reset all", "RESET", "RESET ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;"),
        ("select set_config('a.b','1',false)", "SELECT 1", "RESET ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;"),
        ("listen x", "LISTEN", "UNLISTEN *;"),
        ("prepare p as select 1", "PREPARE", "DEALLOCATE ALL;"),
        ("select pg_advisory_lock(1)", "SELECT 1", "SELECT pg_catalog.pg_advisory_unlock_all();"),
        ("create temp table t()", "CREATE TABLE", "DISCARD TEMP;"),
        ("declare c cursor with hold for select 1", "DECLARE CURSOR", "CLOSE ALL;"),
        ("select nextval('s')", "SELECT 1", "DISCARD SEQUENCES;"),
        (
            "do 'begin end'",
            "DO",
            "RESET ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;CLOSE ALL;UNLISTEN *;\
             SELECT pg_catalog.pg_advisory_unlock_all();DISCARD TEMP;DISCARD SEQUENCES;DEALLOCATE ALL;",
        ),
    ] {
        in_pieces(|rig| {
            let s = left_by(rig, text, tag);
            let b = rig.client();
            let query = if cleaned.is_empty() { String::new() } else { format!("Q({cleaned})") };
            rig.lease(b, s, &query, "");
            assert!(rig.server_side(s).is_clean());
            // And the one after that finds nothing to clean.
            if !cleaned.is_empty() {
                rig.answer(b, "C(SET) Z(I)", "");
            }
            rig.used_by_another(s);
        });
    }
}

#[test]
fn trap_75_a_tag_tells_what_the_text_did_not() {
    for (tag, cleaned) in [("LISTEN", "UNLISTEN *;"), ("PREPARE", "DEALLOCATE ALL;")] {
        in_pieces(|rig| {
            let s = left_by(rig, "select 1", tag);
            let b = rig.client();
            rig.lease(b, s, &format!("Q({cleaned})"), "");
        });
    }
}

#[test]
fn discard_all_leaves_nothing_to_clean() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(set role x; listen y)", "C(SET) C(LISTEN) Z(I)");
        rig.round(a, "Q(discard all)", "C(DISCARD ALL) Z(I)");
        let b = rig.client();
        rig.lease(b, s, "", "");
    });
}

#[test]
fn what_a_function_nobody_knows_may_have_done_is_undone() {
    let cleaned = "RESET ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;CLOSE ALL;UNLISTEN *;\
        SELECT pg_catalog.pg_advisory_unlock_all();DISCARD TEMP;DISCARD SEQUENCES;";
    in_pieces(|rig| {
        let s = left_by(rig, "select app_login()", "SELECT 1");
        let b = rig.client();
        rig.lease(b, s, &format!("Q({cleaned})"), "");
    });
}

#[test]
fn trap_75_what_a_prepared_statement_leaves_is_known_at_its_bind_and_execute() {
    for run in ["B(,s1) E S", "Q(execute s1)", "P(,execute s1) B(,) E S"] {
        in_pieces(|rig| {
            let (a, _) = rig.pair();
            rig.ask_bytes(a, &super::notation::from_client("P(s1,select pg_advisory_lock(1)) S")).unwrap();
            rig.answer_through(a, "1 Z(I)");
            let s = rig.server();
            rig.lease(a, s, "", "");
            rig.ask_bytes(a, &super::notation::from_client(run)).unwrap();
            assert!(rig.server_side(s).may_have(super::super::Leaves::LOCKS), "{run}");
        });
    }
}

#[test]
fn text_beyond_what_is_scanned_may_leave_anything() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        let long = format!("select '{}'; create temp table t()", "x".repeat(super::super::SCANNED_BYTES));
        rig.round(a, &format!("Q({long})"), "T D C(SELECT 1) C(CREATE TABLE) Z(I)");
        assert!(rig.server_side(s).may_have(super::super::Leaves::TEMP));
    });
}

#[test]
fn trap_75_what_a_pipeline_leaves_behind_discard_all_stays_known() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.ask_through(a, "Q(discard all) Q(select pg_advisory_lock(1))");
        rig.answer_through(a, "C(DISCARD ALL) Z(I) T D C(SELECT 1) Z(I)");
        assert!(rig.server_side(s).may_have(super::super::Leaves::LOCKS));
    });
}

#[test]
fn cleaning_and_settings_leave_in_one_query() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(set TimeZone = 'CET'; set work_mem = 1)", "C(SET) C(SET) S(TimeZone=CET) Z(I)");
        let params = rig.params_with("application_name", "b");
        let b = rig.client_with(params, &[]);
        rig.lease(b, s, "Q(RESET ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;SET application_name='b';)", "");
        rig.ask_through(b, "Q(select 1)");
        rig.answer(
            b,
            "C(RESET) S(TimeZone=UTC) C(SET) C(RESET) C(SET) S(application_name=b) Z(I) T D(1) C(SELECT 1) Z(I)",
            "T D(1) C(SELECT 1) Z(I)",
        );
    });
}

#[test]
fn startup_settings_are_the_base_that_reset_returns_to() {
    in_pieces(|rig| {
        let params = std::sync::Arc::clone(&rig.params);
        let a = rig.client_with(std::sync::Arc::clone(&params), &[("statement_timeout", "5s"), ("my.thing", "x")]);
        let s = rig.server();
        let set = "SELECT pg_catalog.set_config('my.thing','x',false);SET statement_timeout='5s';";
        rig.lease(a, s, &format!("Q({set})"), "");
        rig.answer(a, "T D C(SELECT 1) C(SET) Z(I)", "");
        // Another with the same settings: nothing; one without: back to the server's own.
        let b = rig.client_with(params, &[("statement_timeout", "5s"), ("my.thing", "x")]);
        rig.lease(b, s, "", "");
        let c = rig.client();
        rig.lease(c, s, "Q(SET statement_timeout=0;RESET \"my\".\"thing\";RESET \"statement_timeout\";)", "");
    });
}

/// The old ones, which may be too short for what follows, go before that; the new ones come behind it, and behind the new
/// owner's identity and what the server reports.
#[test]
fn a_transfer_runs_under_nobodys_timeouts() {
    in_pieces(|rig| {
        let params = rig.params_with("TimeZone", "CET");
        let settings =
            |timeout| [("a.thing", timeout), ("Statement_Timeout", timeout), ("lock_timeout", "3ms"), ("role", timeout)];
        let a = rig.client_with(std::sync::Arc::clone(&rig.params), &settings("1ms"));
        let b = rig.client_with(params, &settings("2ms"));
        let s = rig.server();
        let set = |zone, timeout| {
            format!(
                "SELECT pg_catalog.set_config('a.thing','{timeout}',false);{zone}SET role='{timeout}';SET lock_timeout='3ms';\
                 SET statement_timeout='{timeout}';"
            )
        };
        rig.lease(a, s, &format!("Q({})", set("", "1ms")), "");
        rig.answer(a, "T D C(SELECT 1) C(SET) C(SET) C(SET) Z(I)", "");
        let lifted = "SET lock_timeout=0;SET statement_timeout=0;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;";
        rig.lease(b, s, &format!("Q({lifted}{})", set("SET TimeZone='CET';", "2ms")), "");
    });
}

#[test]
fn a_timeout_that_changes_alone_is_set_once() {
    in_pieces(|rig| {
        let params = std::sync::Arc::clone(&rig.params);
        let a = rig.client_with(std::sync::Arc::clone(&params), &[("statement_timeout", "1ms"), ("lock_timeout", "1s")]);
        let b = rig.client_with(params, &[("statement_timeout", "2ms")]);
        let s = rig.server();
        rig.lease(a, s, "Q(SET lock_timeout='1s';SET statement_timeout='1ms';)", "");
        rig.answer(a, "C(SET) C(SET) Z(I)", "");
        rig.lease(b, s, "Q(RESET \"lock_timeout\";SET statement_timeout='2ms';)", "");
    });
}

/// The timeout is known, and nothing else of the settings is to be changed. To forget a sequence takes no time.
#[test]
fn a_cleaning_runs_under_nobodys_timeouts() {
    for (text, tag, cleaned) in [
        ("insert into t values (1)", "INSERT 0 1", "DISCARD SEQUENCES;"),
        ("create temp table t()", "CREATE TABLE", "SET statement_timeout=0;DISCARD TEMP;SET statement_timeout='2ms';"),
        (
            "insert into t values (1); declare c cursor with hold for select 1",
            "DECLARE CURSOR",
            "SET statement_timeout=0;CLOSE ALL;DISCARD SEQUENCES;SET statement_timeout='2ms';",
        ),
        ("set work_mem = 1", "SET", "RESET ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;SET statement_timeout='2ms';"),
    ] {
        in_pieces(|rig| {
            let params = std::sync::Arc::clone(&rig.params);
            let settings = [("statement_timeout", "2ms")];
            let (a, b) = (rig.client_with(std::sync::Arc::clone(&params), &settings), rig.client_with(params, &settings));
            let s = rig.server();
            rig.lease(a, s, "Q(SET statement_timeout='2ms';)", "");
            rig.answer(a, "C(SET) Z(I)", "");
            rig.round(a, &format!("Q({text})"), &format!("C({tag}) Z(I)"));
            rig.lease(b, s, &format!("Q({cleaned})"), "");
        });
    }
}

/// Its timeouts stay noted, and so are set again.
#[test]
fn what_is_cleaned_behind_a_client_that_left_is_not_under_its_timeouts() {
    in_pieces(|rig| {
        let a = rig.client_with(std::sync::Arc::clone(&rig.params), &[("statement_timeout", "2ms")]);
        let s = rig.server();
        rig.lease(a, s, "Q(SET statement_timeout='2ms';)", "");
        rig.answer(a, "C(SET) Z(I)", "");
        rig.round(a, "Q(create temp table t())", "C(CREATE TABLE) Z(I)");
        let mut out = Vec::new();
        assert!(rig.server_side_mut(s).clean_up(&mut out));
        let cleaned = "SET statement_timeout=0;DISCARD TEMP;SET statement_timeout='2ms';";
        assert_eq!(show_client(&out), format!("Q({cleaned})"));
        rig.answer(a, "C(SET) C(DISCARD TEMP) C(SET) Z(I)", "");
        let b = rig.client();
        rig.lease(b, s, "Q(RESET \"statement_timeout\";)", "");
    });
}

#[test]
fn a_cleaning_that_fails_ends_the_server() {
    in_pieces(|rig| {
        let s = left_by(rig, "create temp table t()", "CREATE TABLE");
        assert!(rig.server_side_mut(s).clean_up(&mut Vec::new()));
        assert_eq!(rig.answer_bytes(0, &from_server("E(57014 canceling statement) Z(I)")), Err(Broken::Unclean));
    });
}

/// In either protocol; and where nothing of the kind was set, it is DISCARD ALL alone.
#[test]
fn a_reset_between_sessions_is_not_under_the_timeouts_of_the_first() {
    for (asked, answered, resets) in [
        ("Q(set statement_timeout = '2ms')", "C(SET) Z(I)", true),
        ("P(,set statement_timeout = '2ms') B(,) E S", "1 2 C(SET) Z(I)", true),
        ("P(,select app_login()) B(,) E S", "1 2 D(1) C(SELECT 1) Z(I)", true),
        ("P(,create temp table t()) B(,) E S", "1 2 C(CREATE TABLE) Z(I)", false),
        ("Q(insert into t values (1))", "C(INSERT 0 1) Z(I)", false),
    ] {
        in_pieces(|rig| {
            let (a, s) = (rig.session_client(), rig.server());
            rig.lease(a, s, "", "");
            rig.round(a, asked, answered);
            let mut out = Vec::new();
            rig.server_side_mut(s).discard_all(&mut out);
            assert_eq!(show_client(&out), if resets { "Q(RESET ALL) Q(DISCARD ALL)" } else { "Q(DISCARD ALL)" }, "{asked}");
            rig.answer(a, if resets { "C(RESET) Z(I) C(DISCARD ALL) Z(I)" } else { "C(DISCARD ALL) Z(I)" }, "");
            rig.is_idle(s);
        });
    }
}

#[test]
fn trap_30_after_a_reset_of_our_own_startup_settings_are_gone_too() {
    in_pieces(|rig| {
        let params = std::sync::Arc::clone(&rig.params);
        let a = rig.client_with(params, &[("statement_timeout", "5s")]);
        let s = rig.server();
        rig.lease(a, s, "Q(SET statement_timeout='5s';)", "");
        rig.answer(a, "C(SET) Z(I)", "");
        let mut reset = Vec::new();
        rig.server_side_mut(s).discard_all(&mut reset);
        rig.answer(a, "C(DISCARD ALL) Z(I)", "");
        rig.lease(a, s, "Q(SET statement_timeout='5s';)", "");
    });
}

#[test]
fn trap_76_rollback_and_set_local_come_out_right() {
    in_pieces(|rig| {
        let (a, _) = rig.pair();
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        rig.round(a, "Q(set TimeZone='CET')", "C(SET) S(TimeZone=CET) Z(T)");
        rig.round(a, "Q(rollback)", "C(ROLLBACK) S(TimeZone=UTC) Z(I)");
        assert!(std::sync::Arc::ptr_eq(&rig.client_side(a).params, &rig.params));
        let t = rig.server();
        rig.lease(a, t, "", "");
    });
}

#[test]
fn settings_the_client_made_on_one_server_follow_it_to_another() {
    in_pieces(|rig| {
        let (a, _) = rig.pair();
        rig.round(a, "P(,set TimeZone='CET') B(,) E S", "1 2 C(SET) S(TimeZone=CET) Z(I)");
        let s = rig.server();
        rig.lease(a, s, "Q(SET TimeZone='CET';)", "");
    });
}

#[test]
fn a_server_taken_over_has_no_unnamed_statement_of_its_old_owner() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "P(,listen x) B(,) E S", "1 2 C(LISTEN) Z(I)");
        let b = rig.client();
        rig.lease(b, s, "Q(UNLISTEN *;)", "");
        rig.answer(b, "C(UNLISTEN) Z(I)", "");
        // The prelude was a simple query: there is none left to close.
        rig.round(b, "B(,) S", "E(26000 unnamed prepared statement does not exist) Z(I)");
        rig.lease(a, s, "", "");
        rig.ask(a, "B(,) S", "P(,listen x) B(,) S", "");
    });
}

#[test]
fn a_client_that_comes_back_to_a_server_brings_what_it_set_on_another() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        let other = rig.server();
        rig.lease(a, other, "", "");
        rig.round(a, "Q(set TimeZone='CET')", "C(SET) S(TimeZone=CET) Z(I)");
        // Nobody had it since, and yet it is not as the client left off.
        rig.lease(a, s, "Q(SET TimeZone='CET';)", "");
    });
}
