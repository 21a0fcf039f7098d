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

#[test]
fn state_is_seen_where_it_is_made() {
    let cases = [
        ("select 1", Leaves::NOTHING),
        ("SELECT count(*) FROM t WHERE a IN (1,2)", Leaves::NOTHING),
        ("select 1; set work_mem = '1MB'", Leaves::SETTINGS),
        ("RESET ALL", Leaves::SETTINGS),
        ("select pg_catalog.Set_Config ('a','b',false)", Leaves::SETTINGS),
        ("select pg_advisory_lock(72707369)", Leaves::LOCKS),
        ("select pg_advisory_xact_lock(1)", Leaves::NOTHING),
        ("prepare p as select 1", Leaves::STATEMENTS),
        ("create TEMP table t(a int)", Leaves::TEMP),
        ("create table pg_temp.t(a int)", Leaves::TEMP),
        ("select 1 into temp t", Leaves::TEMP),
        ("listen x", Leaves::LISTEN),
        ("declare c cursor with hold for select 1", Leaves::CURSORS),
        ("declare c cursor for select 1", Leaves::NOTHING),
        ("select nextval('s')", Leaves::SEQUENCES),
        ("do $$ begin end $$", Leaves::ANYTHING),
        ("(select pg_advisory_lock(1))", Leaves::LOCKS),
        ("select \"pg_advisory_lock\" (1)", Leaves::LOCKS),
        ("; create temp table t(a int)", Leaves::TEMP),
        ("select 1; /* ; */ create temp table t(a int)", Leaves::TEMP),
        ("select ';' into temp t", Leaves::TEMP),
        ("select 1; -- it's ;\ndeclare c cursor with hold for select 1", Leaves::CURSORS),
        ("with a as (select 1) select * into temp t from a", Leaves::TEMP),
        ("with a as (select 1) insert into t select * from a", Leaves::NOTHING),
        ("explain analyze create temporary table t as select 1", Leaves::TEMP),
        ("set search_path to pg_temp", Leaves::SETTINGS | Leaves::TEMP),
    ];
    for (text, expected) in cases {
        assert_eq!(scan(text.as_bytes()).leaves, expected, "{text}");
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
        prop_oneof!["/\\*", "\\*/", "--", "\"", "\"\"", ";", "\\(", "\\)", "deallocate ", "explain ", "execute ", "drop database ", "create database ", "'", " ", "\n", "x"], 0..12))
    {
        let _ = scan(pieces.concat().as_bytes());
    }
}
