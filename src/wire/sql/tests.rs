use super::words::has_word;
use super::*;
use proptest::prelude::*;

fn verb(text: &str) -> Verb {
    scan(text.as_bytes()).verb
}

fn named(text: &str) -> Option<String> {
    match verb(text) {
        Verb::Deallocate(range) => Some(format!("-{}", &text[range])),
        Verb::Execute(range) => Some(format!("+{}", &text[range])),
        _ => None,
    }
}

#[test]
fn deallocate_in_all_its_spellings() {
    for text in ["DEALLOCATE ALL", " deallocate prepare all ; ", "/* a /* b */ */ Deallocate -- x\n ALL;"] {
        assert_eq!(verb(text), Verb::DeallocateAll, "{text}");
    }
    for text in ["DEALLOCATE ALL; SELECT 1", "select 1; deallocate prepare all", "; discard all", "/* x */ discard all"] {
        assert_eq!(verb(text), Verb::ForgetsAll, "{text}");
    }
    assert_eq!(named("DEALLOCATE s0"), Some("-s0".into()));
    assert_eq!(named("deallocate prepare \"S\"\"0\";"), Some("-\"S\"\"0\"".into()));
    assert_eq!(named("DEALLOCATE PREPARE"), Some("-PREPARE".into()));
}

#[test]
fn execute_also_behind_explain() {
    assert_eq!(named("EXECUTE s5(1, NULL)"), Some("+s5".into()));
    assert_eq!(named("EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE s5(NULL,NULL)"), Some("+s5".into()));
    assert_eq!(named("explain analyze verbose execute s5"), Some("+s5".into()));
    assert_eq!(named("explain select 'execute s5'"), None);
}

#[test]
fn names_behind_other_statements_are_for_an_exact_look() {
    for text in [
        "begin; deallocate t; commit",
        "EXECUTE a; EXECUTE b",
        "deallocate a; deallocate all",
        "select 1; /* x */ explain execute a",
        "discard all; execute a",
        "prepare a as select 1",
        "-- x\nprepare a as select 1",
        "select '; execute a'",
    ] {
        assert_eq!(verb(text), Verb::Mentions, "{text}");
    }
    for text in ["begin; delete from t; commit", "select 1; explain select 1; drop table t", "execute('a'); end"] {
        assert_eq!(verb(text), Verb::Other, "{text}");
    }
    assert_eq!(named("execute a; commit"), Some("+a".into()));
}

#[test]
fn a_block_that_resets_is_known_to() {
    let resets = |text: &str| scan(text.as_bytes()).effects.leaves.has(Leaves::RESETS);
    for text in ["DO $$ BEGIN RESET work_mem; END $$", "do 'begin set work_mem to default; end'"] {
        assert!(resets(text), "{text}");
    }
    assert!(!resets("DO $$ BEGIN SET work_mem = '1MB'; END $$"));
}

#[test]
fn databases_that_must_be_empty() {
    let empties = |text: &str| match verb(text) {
        Verb::EmptiesDatabase(name) => Some(String::from_utf8_lossy(&name).into_owned()),
        _ => None,
    };
    assert_eq!(empties("DROP DATABASE IF EXISTS \"prisma_Shadow\" WITH (FORCE)"), Some("prisma_Shadow".into()));
    assert_eq!(empties("drop database Foo"), Some("foo".into()));
    assert_eq!(empties("create database a with owner = x template = b"), Some("b".into()));
    assert_eq!(empties("create database a template b"), Some("b".into()));
    assert_eq!(empties("alter database a rename to b"), Some("a".into()));
    assert_eq!(empties("create database a encoding 'UTF8' template 'B'"), Some("B".into()));
    assert_eq!(empties("create database a with encoding = 'UTF8';"), Some("template1".into()));
    assert_eq!(empties("alter database a set tablespace t"), Some("a".into()));
    assert_eq!(empties("alter database a set search_path = x"), None);
    assert_eq!(empties("alter database a owner to b"), None);
    assert_eq!(empties("drop table database"), None);
    assert_eq!(empties("create table t (template text)"), None);
}

fn leaves(text: &str) -> Leaves {
    scan(text.as_bytes()).effects.leaves
}

#[test]
fn state_is_seen_where_it_is_made() {
    let cases = [
        ("select 1", Leaves::NOTHING),
        ("SELECT count(*) FROM t WHERE a IN (1,2)", Leaves::NOTHING),
        ("select 1; set work_mem = '1MB'", Leaves::SETTINGS),
        ("RESET ALL", Leaves::SETTINGS | Leaves::RESETS),
        ("set work_mem to default", Leaves::SETTINGS | Leaves::RESETS),
        ("reset timezone", Leaves::RESETS),
        ("select pg_catalog.Set_Config ('a','b',false)", Leaves::SETTINGS),
        ("select pg_advisory_lock(72707369)", Leaves::LOCKS),
        ("select pg_advisory_xact_lock(1)", Leaves::NOTHING),
        ("prepare p as select 1", Leaves::STATEMENTS),
        ("prepare transaction 'x'", Leaves::NOTHING),
        ("create TEMP table t(a int)", Leaves::TEMP),
        ("create temporary table t (a int)", Leaves::TEMP),
        ("create table pg_temp.t (a int)", Leaves::TEMP),
        ("select 1 into temp t", Leaves::TEMP),
        ("listen x", Leaves::LISTEN),
        ("declare c cursor with hold for select 1", Leaves::CURSORS),
        ("declare c cursor for select 1", Leaves::NOTHING),
        ("select nextval('s')", Leaves::SEQUENCES),
        ("insert into t (a) values (1)", Leaves::SEQUENCES),
        ("select currval('s'), lastval()", Leaves::CURRVAL),
        ("do $$ begin end $$", Leaves::ANYTHING),
        ("load 'plpgsql'", Leaves::LIBRARY),
        ("select setseed(0.5)", Leaves::SEED),
        ("set seed to 0.5", Leaves::SEED),
        ("(select pg_advisory_lock(1))", Leaves::LOCKS),
        ("select \"pg_advisory_lock\" (1)", Leaves::LOCKS),
        ("; create temp table t (a int)", Leaves::TEMP),
        ("select 1; /* ; */ create temp table t (a int)", Leaves::TEMP),
        ("select ';' into temp t", Leaves::TEMP),
        ("select 1; -- it's ;\ndeclare c cursor with hold for select 1", Leaves::CURSORS),
        ("select $$;'$$; set role x", Leaves::SETTINGS),
        ("select E'\\'; set role x'", Leaves::NOTHING),
        ("with a as (select 1) select * into temp t from a", Leaves::TEMP),
        ("with a as (select 1) select * from a", Leaves::NOTHING),
        ("with a as (update t set id = default returning id) select * from a", Leaves::SEQUENCES),
        ("update t set id = DEFAULT where a = 1", Leaves::SEQUENCES),
        ("alter table t add column id serial", Leaves::SEQUENCES),
        ("alter table t drop column id", Leaves::NOTHING),
        ("explain (analyze) insert into t (a) values (1)", Leaves::SEQUENCES),
        ("explain select 1", Leaves::NOTHING),
        ("copy t from stdin", Leaves::SEQUENCES),
        ("copy t (a) to stdout", Leaves::NOTHING),
        ("copy (insert into t default values returning id) to stdout", Leaves::SEQUENCES),
        ("with a as (select 1) insert into t select * from a", Leaves::SEQUENCES),
        ("explain analyze create temporary table t as select 1", Leaves::TEMP),
        ("set search_path to pg_temp", Leaves::SETTINGS | Leaves::TEMP),
    ];
    for (text, expected) in cases {
        assert_eq!(leaves(text), expected, "{text}");
    }
}

#[test]
fn what_is_not_plain_is_seen_wherever_it_stands() {
    for length in 0..60 {
        for before in 0..=length {
            let text = |what: &str| format!("select {}{what}{}", "in".repeat(before), " int".repeat(length - before));
            assert!(is_plain(text(" ").as_bytes()), "{}", text(" "));
            for mark in ["(", ";", " into ", " INTO "] {
                let text = text(mark);
                let is_last = mark == ";" && before == length;
                assert_eq!(is_plain(text.as_bytes()), is_last, "{text}");
            }
        }
    }
}

#[test]
fn plain_texts_are_told_at_a_glance() {
    for text in [
        "select abalance from pgbench_accounts where aid = 1;",
        " SELECT a FROM t; ; ",
        "BEGIN",
        "end;",
        "commit",
        "Rollback;",
        "update t set a = a + 1 where b = $1",
        "delete from t where a = 'x'",
        "select",
    ] {
        assert!(is_plain(text.as_bytes()), "{text}");
    }
    for text in [
        "",
        "selects 1",
        "select1",
        "select a into t from u",
        "select 1; set role x",
        "select ';'",
        "select f(1)",
        "update pg_settings set setting = 1",
        "update t set id = DEFAULT",
        "/* x */ select 1",
        "set role x",
        "insert into t values (1)",
    ] {
        assert!(!is_plain(text.as_bytes()), "{text}");
    }
}

#[test]
fn words_are_whole() {
    for text in ["temp", "a temp", "(TEMP)", "temporal.Temp", "x\"temp\""] {
        assert!(has_word(text.as_bytes(), b"temp"), "{text}");
    }
    for text in ["", "tem", "temps", "attempt", "_temp", "temp1", "TEMPLATE temp$"] {
        assert!(!has_word(text.as_bytes(), b"temp"), "{text}");
    }
}

#[test]
fn what_ends_with_the_transaction_or_is_reported_leaves_nothing() {
    for text in [
        "set local work_mem = '1MB'",
        "SET LOCAL ROLE x",
        "set transaction isolation level serializable",
        "set constraints all deferred",
        "set time zone 'UTC'",
        "set session timezone to 'UTC'",
        "set names 'utf8'",
        "set client_encoding = utf8",
        "SET application_name='x'",
        "begin; set local app.user_id = '1;2'; select 1; commit",
        "select set_config('request.jwt.claims', '{\"a\": (1, 2)}', true)",
        "SELECT set_config('app.company', $1, TRUE)",
        "update t set a = 1; delete from t",
        "SELECT pg_backend_pid()",
    ] {
        assert_eq!(leaves(text), Leaves::NOTHING, "{text}");
    }
}

#[test]
fn settings_by_their_names() {
    let touched = |text: &str| match scan(text.as_bytes()).effects.names.as_deref() {
        Some(Touched { scope: Scope::Named, names, bound }) => format!("{} {bound:?}", names.join(",")),
        Some(Touched { scope: Scope::Any, names, .. }) => format!("any {}", names.join(",")),
        None => "none".into(),
    };
    assert_eq!(touched("set Work_Mem = 1"), "work_mem []");
    assert_eq!(touched("set session app.user_id = '1'; set \"App\".x to 2"), "app.user_id,app.x []");
    assert_eq!(touched("set schema 'x'; reset all"), "any search_path");
    assert_eq!(touched("set session authorization x; set role none"), "session_authorization,role []");
    assert_eq!(touched("select set_config($2, $1, false), set_config('a.b', 'f(1, 2)', false)"), "a.b [2]");
    assert_eq!(touched("select set_config(name, 'x', false)"), "any ");
    assert_eq!(touched("set session characteristics as transaction deferrable").matches("default_").count(), 2);
    assert_eq!(touched("select 1; select 'it\\'; set x = 1"), "any ", "where it cannot be told what is quoted");
    assert_eq!(touched("update pg_catalog.pg_settings set setting = '1' where name = 'work_mem'"), "any ");
    // Whether it is still one of the session's own is not told by its value.
    assert_eq!(touched("reset work_mem"), "any ");
    assert_eq!(touched("set work_mem to default"), "any ");
    assert_eq!(touched("select 1"), "none");
}

#[test]
fn settings_that_go_back_to_their_default() {
    let resets = |text: &str| match scan(text.as_bytes()).effects.resets.as_deref() {
        Some(Touched { scope: Scope::Named, names, .. }) => names.join(","),
        Some(Touched { scope: Scope::Any, .. }) => "any".into(),
        None => "none".into(),
    };
    assert_eq!(resets("reset TimeZone"), "timezone");
    assert_eq!(resets("set time zone local"), "timezone");
    assert_eq!(resets("set time zone default; set names"), "timezone,client_encoding");
    assert_eq!(resets("set work_mem to default"), "work_mem");
    assert_eq!(resets("reset all"), "any");
    assert_eq!(resets("set time zone 'UTC'; set names 'utf8'; set work_mem = 1"), "none");
}

#[test]
fn calls_of_unknown_functions_may_do_anything() {
    for text in [
        "select app_login(1)",
        "select 1 from t where allowed(id)",
        "select * from public.f(1)",
        "select app.lower('x')",
        "select \"Lower\".x(1)",
        "select query_to_xml('select f()', true, true, '')",
    ] {
        assert!(leaves(text).has(Leaves::HIDDEN), "{text}");
    }
    for text in [
        "select lower(a), COUNT(*), pg_catalog.now() from t where b in (1) and (c = any($1)) group by rollup (d)",
        "insert into \"public\".\"User\" (\"a\") values ($1) on conflict (\"a\") do update set (a, b) = (1, 2) returning (a)",
        "select * from unnest($1) t (a) join lateral (select 1) x on true",
        "with t (a) as (select 1) select cast(a as numeric(10, 2)) from t",
        "create table if not exists t (a varchar (10) default (1) check (a > '') references u (b))",
        "select gen_random_uuid(), uuidv7(), jsonb_build_object('a', 1)",
    ] {
        assert!(!leaves(text).has(Leaves::HIDDEN), "{text}");
    }
}

#[test]
fn state_that_may_be_gone() {
    let frees = |text: &str| scan(text.as_bytes()).effects.frees;
    assert_eq!(frees("unlisten *").without(Leaves::CHANNELS), Leaves::LISTEN);
    assert_eq!(frees("close c"), Leaves::CURSORS);
    assert_eq!(frees("drop table t"), Leaves::TEMP);
    assert_eq!(frees("discard temp"), Leaves::TEMP);
    assert_eq!(frees("deallocate p"), Leaves::STATEMENTS);
    assert_eq!(frees("select pg_advisory_unlock(1)"), Leaves::LOCKS);
}

#[test]
fn texts_for_which_channels_come_home() {
    let is_about = |text: &str| scan(text.as_bytes()).effects.is_about_channels();
    for text in [
        "listen a",
        "select 1; UNLISTEN *",
        "select pg_catalog.pg_listening_channels()",
        "discard all",
        "do $$ begin listen a; end $$",
        "do 'begin unlisten a; end'",
        "set client_encoding = 'latin1'",
        "set names 'latin1'",
        "reset client_encoding",
        "reset all",
        "select set_config('client_encoding', 'latin1', false)",
    ] {
        assert!(is_about(text), "{text}");
    }
    for text in
        ["select 'listen'", "notify a", "discard temp", "do $$ begin perform 1; end $$", "set timezone = 'utc'", "call p()"]
    {
        assert!(!is_about(text), "{text}");
    }
}

#[test]
fn a_rollback_before_anything_else() {
    for text in ["rollback; unlisten *", " /* x */ ABORT WORK ; select 1", "rollback transaction;select 1", "rollback;"] {
        assert!(begins_with_rollback(text.as_bytes()), "{text}");
    }
    for text in [
        "rollback",
        "rollback to s; unlisten a",
        "rollback and chain; select 1",
        "rollback prepared 'x'; x",
        "commit;",
        "",
        "\"rollback\";",
    ] {
        assert!(!begins_with_rollback(text.as_bytes()), "{text}");
    }
}

#[test]
fn identifiers_fold_and_unquote() {
    assert_eq!(identifier(b"S0"), b"s0");
    assert_eq!(identifier(b"\"S\"\"0\""), b"S\"0");
}

proptest! {
    #[test]
    fn any_text_is_scanned_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = scan(&text);
    }

    #[test]
    fn text_made_of_sharp_pieces_too(pieces in proptest::collection::vec(
        prop_oneof!["/\\*", "\\*/", "--", "\"", "\"\"", ";", "\\(", "\\)", "deallocate ", "explain ", "execute ", "drop database ", "create database ", "set ", "set_config\\(", "'", "\\$\\$", "e'", "\\\\", " ", "\n", "x"], 0..12))
    {
        let _ = scan(pieces.concat().as_bytes());
    }

    #[test]
    fn in_a_plain_text_a_closer_look_finds_nothing(pieces in proptest::collection::vec(prop_oneof![
        "(select|SELECT|update|delete|begin|commit|end|rollback|insert|set|drop|do|call|execute|with|discard)",
        "(into|temp|pg_temp|pg_settings|all|to|work|database|role|a|1|x1|_|\\$1|\u{e4})",
        "( |\n|;|;|\\(|\\)|'|\"|\\$\\$|--|/\\*|\\*/|\\.|,|=|\\*|\0)",
        " ",
    ], 0..10)) {
        let text = pieces.concat();
        if is_plain(text.as_bytes()) {
            prop_assert_eq!(look_into(text.as_bytes()), Scan::default());
        }
    }
}
