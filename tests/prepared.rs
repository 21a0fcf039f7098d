//! Prepared statements that many clients share on few servers. Tests are named by the trap they keep shut.

mod common;

use common::wire::{self, Wire, show, show_in_full};
use common::{Endpoint, Postgres, Sidepool, unnamed};

/// Lets another client take the only server over.
async fn change_owner(endpoint: &Endpoint) {
    endpoint.wire().await.run("SELECT 1").await;
}

fn run_statement(name: &str, values: &[Option<&str>]) -> Vec<u8> {
    [wire::bind("", name, values), wire::execute("", 0), wire::sync()].concat()
}

#[tokio::test]
async fn trap_22_the_same_name_means_each_clients_own_statement() {
    let sidepool = Sidepool::with_one_server();
    let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    assert_eq!(one.shown_batch(&[wire::parse("s", "SELECT 1"), wire::sync()], 1).await, "1 Z(I)");
    assert_eq!(two.shown_batch(&[wire::parse("s", "SELECT 'two', $1"), wire::sync()], 1).await, "1 Z(I)");
    for _ in 0..3 {
        assert_eq!(show_in_full(&one.exchange(&[run_statement("s", &[])]).await), "2 D(1) C(SELECT 1) Z(I)");
        assert_eq!(show_in_full(&two.exchange(&[run_statement("s", &[Some("x")])]).await), "2 D(two,x) C(SELECT 1) Z(I)");
    }
}

#[tokio::test]
async fn trap_22_the_same_text_with_other_types_is_another_statement() {
    let sidepool = Sidepool::with_one_server();
    let (mut int, mut text) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    int.shown_batch(&[wire::parse_typed("s", "SELECT pg_typeof($1)", &[23]), wire::sync()], 1).await;
    text.shown_batch(&[wire::parse_typed("s", "SELECT pg_typeof($1)", &[25]), wire::sync()], 1).await;
    assert_eq!(show_in_full(&int.exchange(&[run_statement("s", &[Some("1")])]).await), "2 D(integer) C(SELECT 1) Z(I)");
    assert_eq!(show_in_full(&text.exchange(&[run_statement("s", &[Some("1")])]).await), "2 D(text) C(SELECT 1) Z(I)");
}

#[tokio::test]
async fn trap_23_a_statement_is_put_to_a_server_that_lacks_it() {
    let postgres = Postgres::shared();
    // With `verify` the server may be asked what it has when it is ended, and then it is the client's yet.
    let sidepool = Sidepool::start(postgres, &[("pool-size", "1"), ("verify", "false")]);
    let mut client = sidepool.transaction().wire().await;
    client.shown_batch(&[wire::parse("s", "SELECT $1::int + 1 AS next"), wire::sync()], 1).await;
    for frame in [wire::describe_statement("s"), wire::bind("", "s", &[Some("1")])] {
        let pid = client.backend().await;
        postgres.terminate(&pid).await;
        let shown = client.shown_batch(&[frame, wire::sync()], 1).await;
        assert!(["t T Z(I)", "2 Z(I)"].contains(&&*shown), "{shown}");
    }
    let long = "7".repeat(9);
    let pid = client.backend().await;
    postgres.terminate(&pid).await;
    let run = client.exchange(&[run_statement("s", &[Some(&long)])]).await;
    assert_eq!(show_in_full(&run), "2 D(777777778) C(SELECT 1) Z(I)");
}

#[tokio::test]
async fn trap_24_a_parse_that_the_server_knows_is_answered_in_its_place() {
    let sidepool = Sidepool::with_one_server();
    let mut first = sidepool.transaction().wire().await;
    first.shown_batch(&[wire::parse("x", "SELECT 'known'"), wire::sync()], 1).await;
    let mut second = sidepool.transaction().wire().await;
    let batch = [
        unnamed("SELECT 1"),
        wire::parse("s", "SELECT 'known'"),
        wire::describe_statement("s"),
        wire::bind("", "s", &[]),
        wire::execute("", 0),
        wire::parse("t", "SELECT 'known'"),
        wire::close_statement("t"),
        wire::sync(),
        wire::query("SELECT 2"),
    ];
    assert_eq!(second.shown_batch(&batch, 2).await, "1 2 D C(SELECT 1) 1 t T 2 D C(SELECT 1) 1 3 Z(I) T D C(SELECT 1) Z(I)");
}

#[tokio::test]
async fn trap_25_close_forgets_the_name_and_is_no_error_for_an_unknown_one() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    assert_eq!(client.shown_batch(&[wire::close_statement("never"), wire::sync()], 1).await, "3 Z(I)");
    client.shown_batch(&[wire::parse("s", "SELECT 1"), wire::sync()], 1).await;
    assert_eq!(client.shown_batch(&[wire::close_statement("s"), wire::sync()], 1).await, "3 Z(I)");
    assert_eq!(client.shown_batch(&[run_statement("s", &[])], 1).await, "E(26000) Z(I)");
    assert_eq!(client.shown_batch(&[wire::parse("s", "SELECT 2"), run_statement("s", &[])], 1).await, "1 2 D C(SELECT 1) Z(I)");
}

#[tokio::test]
async fn trap_26_a_server_holds_few_statements_and_a_batch_many() {
    for limit in ["1", "2"] {
        let flags = [("pool-size", "1"), ("prepared-statements-per-server", limit)];
        let sidepool = Sidepool::start(Postgres::shared(), &flags);
        let mut client = sidepool.transaction().wire().await;
        let parses: Vec<_> = (0..10).map(|i| wire::parse(&format!("s{i}"), &format!("SELECT {i}"))).collect();
        assert_eq!(client.shown_batch(&[parses.concat(), wire::sync()], 1).await, "1 1 1 1 1 1 1 1 1 1 Z(I)");
        for _ in 0..2 {
            let runs: Vec<_> = (0..10).map(|i| [wire::bind("", &format!("s{i}"), &[]), wire::execute("", 0)].concat()).collect();
            let replies = client.exchange(&[runs.concat(), wire::sync()]).await;
            let expected: Vec<_> = (0..10).map(|i| format!("2 D({i}) C(SELECT 1)")).collect();
            assert_eq!(show_in_full(&replies), format!("{} Z(I)", expected.join(" ")));
        }
        // An error in the middle takes back what was not done.
        let failing = [wire::bind("", "s3", &[]), wire::parse("bad", "SELECT no"), wire::bind("", "s4", &[]), wire::sync()];
        assert_eq!(client.shown_batch(&failing, 1).await, "2 E(42703) Z(I)");
        for i in (0..10).rev() {
            let run = client.exchange(&[run_statement(&format!("s{i}"), &[])]).await;
            assert_eq!(show_in_full(&run), format!("2 D({i}) C(SELECT 1) Z(I)"));
        }
        let held: usize = client.value("SELECT count(*) FROM pg_prepared_statements").await.parse().unwrap();
        assert!(held <= limit.parse().unwrap(), "{held} of {limit}");
    }
}

#[tokio::test]
async fn trap_27_names_in_use_and_unknown_names_are_postgresqls_errors() {
    let sidepool = Sidepool::with_one_server();
    let mut direct = Postgres::shared().direct().wire().await;
    let mut pooled = sidepool.transaction().wire().await;
    let scripts = [
        vec![wire::parse("s", "SELECT 1"), wire::sync()],
        vec![wire::parse("s", "SELECT 2"), wire::sync()],
        vec![run_statement("unknown", &[])],
        vec![wire::describe_statement("unknown"), wire::sync()],
        vec![wire::describe_portal("unknown"), wire::sync()],
        vec![wire::execute("unknown", 0), wire::sync()],
        vec![run_statement("s", &[])],
    ];
    for script in scripts {
        assert_eq!(show_in_full(&pooled.exchange(&script).await), show_in_full(&direct.exchange(&script).await));
    }
}

#[tokio::test]
async fn trap_28_an_unnamed_statement_outlives_its_transaction() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    assert_eq!(client.shown_batch(&[wire::parse("", "SELECT $1 || '!'"), wire::sync()], 1).await, "1 Z(I)");
    change_owner(&sidepool.transaction()).await;
    let mut other = sidepool.transaction().wire().await;
    other.shown_batch(&[unnamed("SELECT 'the other''s'"), wire::sync()], 1).await;
    assert_eq!(show_in_full(&client.exchange(&[run_statement("", &[Some("mine")])]).await), "2 D(mine!) C(SELECT 1) Z(I)");
    other.shown_batch(&[unnamed("SELECT 'the other''s'"), wire::sync()], 1).await;
    assert_eq!(client.shown_batch(&[wire::describe_statement(""), wire::sync()], 1).await, "t T Z(I)");
    // A simple query ends it, as on PostgreSQL.
    client.run("SELECT 1").await;
    assert_eq!(client.shown_batch(&[run_statement("", &[])], 1).await, "E(26000) Z(I)");
}

#[tokio::test]
async fn trap_29_deallocate_all_and_discard_all_forget_this_clients_names_only() {
    let sidepool = Sidepool::with_one_server();
    for forget in ["DEALLOCATE ALL", "DISCARD ALL"] {
        let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
        let parse = [wire::parse("s", "SELECT 'shared'"), wire::sync()];
        one.shown_batch(&parse, 1).await;
        two.shown_batch(&parse, 1).await;
        one.run(forget).await;
        assert_eq!(one.shown_batch(&[run_statement("s", &[])], 1).await, "E(26000) Z(I)", "{forget}");
        assert_eq!(two.shown_batch(&[run_statement("s", &[])], 1).await, "2 D C(SELECT 1) Z(I)", "{forget}");
        assert_eq!(one.shown_batch(&parse, 1).await, "1 Z(I)", "{forget}");
        assert_eq!(one.shown_batch(&[run_statement("s", &[])], 1).await, "2 D C(SELECT 1) Z(I)", "{forget}");
        // The same by the extended protocol.
        assert_eq!(two.shown_batch(&[unnamed(forget), wire::sync()], 1).await.split(' ').next(), Some("1"));
        assert_eq!(two.shown_batch(&[run_statement("s", &[])], 1).await, "E(26000) Z(I)", "{forget}");
    }
}

#[tokio::test]
async fn trap_29_deallocate_of_a_name() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    client.shown_batch(&[wire::parse("s", "SELECT 1"), wire::parse("t", "SELECT 1"), wire::sync()], 1).await;
    assert_eq!(client.shown("DEALLOCATE s").await, "C(DEALLOCATE) Z(I)");
    assert_eq!(client.shown_batch(&[run_statement("s", &[])], 1).await, "E(26000) Z(I)");
    assert_eq!(client.shown_batch(&[run_statement("t", &[])], 1).await, "2 D C(SELECT 1) Z(I)");
    assert_eq!(client.shown("DEALLOCATE never").await, "E(26000) Z(I)");
}

#[tokio::test]
async fn trap_29_the_sequence_of_prismas_older_engine_from_many_clients_at_once() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3")]);
    let clients: Vec<_> = (0..20)
        .map(|n| {
            let endpoint = sidepool.transaction();
            tokio::spawn(async move {
                let mut client = endpoint.wire().await;
                for round in 0..20 {
                    assert_eq!(client.shown("BEGIN").await, "C(BEGIN) Z(T)");
                    assert_eq!(client.shown("DEALLOCATE ALL").await, "C(DEALLOCATE ALL) Z(T)");
                    for i in 0..3 {
                        let (name, sql) = (format!("s{i}"), format!("SELECT $1::int, {i} /* {} */", (n + round) % 5));
                        let parsed = [wire::parse(&name, &sql), wire::describe_statement(&name), wire::sync()];
                        assert_eq!(client.shown_batch(&parsed, 1).await, "1 t T Z(T)");
                        let value = (n * 100 + round).to_string();
                        let run = client.exchange(&[run_statement(&name, &[Some(&value)])]).await;
                        assert_eq!(show_in_full(&run), format!("2 D({value},{i}) C(SELECT 1) Z(T)"));
                    }
                    assert_eq!(client.shown("COMMIT").await, "C(COMMIT) Z(I)");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn trap_31_a_schema_change_seen_by_the_pooler_heals_for_new_and_old_clients() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE trap_31 (a int); INSERT INTO trap_31 VALUES (1)").await;
    let sidepool = Sidepool::with_one_server();
    let text = "SELECT * FROM trap_31";
    let mut old = sidepool.transaction().wire().await;
    old.shown_batch(&[wire::parse("s", text), run_statement("s", &[])], 1).await;
    for column in ["b", "c", "d"] {
        sidepool.transaction().wire().await.run(&format!("ALTER TABLE trap_31 ADD COLUMN {column} int DEFAULT 7")).await;
        let mut new = sidepool.transaction().wire().await;
        let shown = new.shown_batch(&[wire::parse("s", text), run_statement("s", &[])], 1).await;
        assert_eq!(shown, "1 2 D C(SELECT 1) Z(I)", "a new client knows nothing of what was before");
        prepares_anew(&mut old, text).await;
    }
}

#[tokio::test]
async fn trap_31_a_schema_change_behind_our_back_fails_once_at_most_and_never_for_a_new_client() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE trap_31_b (a int); INSERT INTO trap_31_b VALUES (1)").await;
    let sidepool = Sidepool::with_one_server();
    let text = "SELECT * FROM trap_31_b";
    let mut old = sidepool.transaction().wire().await;
    old.shown_batch(&[wire::parse("s", text), run_statement("s", &[])], 1).await;
    postgres.execute("postgres", "ALTER TABLE trap_31_b ADD COLUMN b int DEFAULT 7").await;
    prepares_anew(&mut old, text).await;
    let mut new = sidepool.transaction().wire().await;
    let shown = new.shown_batch(&[wire::parse("s", text), run_statement("s", &[])], 1).await;
    assert_eq!(shown, "1 2 D C(SELECT 1) Z(I)");
}

/// Whoever has seen the old columns is told, as PostgreSQL tells it, and does what drivers do then.
async fn prepares_anew(old: &mut Wire, text: &str) {
    let shown = old.shown_batch(&[run_statement("s", &[])], 1).await;
    assert!(["E(0A000) Z(I)", "2 D C(SELECT 1) Z(I)"].contains(&&*shown), "{shown}");
    let anew = [wire::close_statement("s"), wire::parse("s", text), run_statement("s", &[])];
    assert_eq!(old.shown_batch(&anew, 1).await, "3 1 2 D C(SELECT 1) Z(I)");
}

#[tokio::test]
async fn trap_32_statements_of_every_size_around_the_buffers() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    for size in [4090, 8191, 8192, 16_370, 16_383, 16_384, 16_385, 65_536, 1_000_000] {
        let sql = format!("SELECT length($1), '{}'", "x".repeat(size));
        let value = "v".repeat(size);
        let batch = [wire::parse(&format!("s{size}"), &sql), run_statement(&format!("s{size}"), &[Some(&value)])].concat();
        // Torn at every kind of place.
        for cut in [1, 5, 7, size / 2, size, size + 20] {
            let (head, tail) = batch.split_at(cut);
            client.send(head).await;
            tokio::task::yield_now().await;
            client.send(tail).await;
            let replies = client.until(b'Z').await;
            assert_eq!(show(&replies), "1 2 D C(SELECT 1) Z(I)", "{size} cut at {cut}");
            assert_eq!(replies[2].values()[0], Some(size.to_string()));
            client.shown_batch(&[wire::close_statement(&format!("s{size}")), wire::sync()], 1).await;
        }
    }
}

#[tokio::test]
async fn trap_32_names_as_long_as_a_buffer() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    // PostgreSQL takes no longer Close.
    let name = "n".repeat(9_900);
    assert_eq!(client.shown_batch(&[wire::parse(&name, "SELECT 1"), wire::sync()], 1).await, "1 Z(I)");
    change_owner(&sidepool.transaction()).await;
    assert_eq!(client.shown_batch(&[run_statement(&name, &[])], 1).await, "2 D C(SELECT 1) Z(I)");
    assert_eq!(client.shown_batch(&[wire::close_statement(&name), wire::sync()], 1).await, "3 Z(I)");
}

#[tokio::test]
async fn trap_34_thousands_of_statements_per_client_and_an_error_beyond() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    for chunk in 0..20 {
        let parses: Vec<_> =
            (0..250).map(|i| wire::parse(&format!("s{}", chunk * 250 + i), &format!("SELECT {}", chunk * 250 + i))).collect();
        client.send(&[parses.concat(), wire::sync()].concat()).await;
        let replies = client.until(b'Z').await;
        assert!(replies[..250].iter().all(|reply| reply.tag == b'1'), "{}", show(&replies));
    }
    let run = client.exchange(&[run_statement("s17", &[])]).await;
    assert_eq!(show_in_full(&run), "2 D(17) C(SELECT 1) Z(I)");

    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "1"), ("prepared-statements-per-client", "5")]);
    let mut client = sidepool.transaction().wire().await;
    for i in 0..5 {
        client.shown_batch(&[wire::parse(&format!("s{i}"), "SELECT 1"), wire::sync()], 1).await;
    }
    // An error like any other: the rest of the batch is skipped, its work and an open transaction are lost, and that is all.
    let too_many =
        [unnamed("SELECT 1"), wire::parse("s5", "SELECT 1"), wire::bind("", "s5", &[]), wire::execute("", 0), wire::sync()];
    assert_eq!(client.shown_batch(&too_many, 1).await, "1 2 D C(SELECT 1) E(54000) Z(I)");
    client.run("BEGIN").await;
    let behind = [too_many.concat(), wire::query("SELECT 1")];
    assert_eq!(client.shown_batch(&behind, 2).await, "1 2 D C(SELECT 1) E(54000) Z(E) E(25P02) Z(E)");
    client.run("ROLLBACK").await;
    let room = [wire::close_statement("s0"), wire::parse("s5", "SELECT 5"), run_statement("s5", &[])];
    assert_eq!(show_in_full(&client.exchange(&room).await), "3 1 2 D(5) C(SELECT 1) Z(I)");
}

#[tokio::test]
async fn trap_34_nor_more_bytes_of_them_than_it_may() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "1"), ("prepared-bytes-per-client", "64KiB")]);
    let mut client = sidepool.transaction().wire().await;
    let text = |c: &str| format!("SELECT 1 /* {} */", c.repeat(30_000));
    for name in ["a", "b"] {
        assert_eq!(client.shown_batch(&[wire::parse(name, &text(name)), wire::sync()], 1).await, "1 Z(I)");
    }
    let replies = client.exchange(&[wire::parse("c", &text("c")), wire::bind("", "c", &[]), wire::sync()]).await;
    assert_eq!(show(&replies), "E(54000) Z(I)");
    let told = "with this one, the prepared statements of this client would take more than 65536 bytes";
    assert_eq!(replies[0].field(b'M').as_deref(), Some(told));
    // What it held it holds, and what it gives up makes room.
    assert_eq!(client.shown_batch(&[run_statement("a", &[])], 1).await, "2 D C(SELECT 1) Z(I)");
    assert_eq!(client.shown("DEALLOCATE b").await, "C(DEALLOCATE) Z(I)");
    assert_eq!(client.shown_batch(&[wire::parse("c", &text("c")), run_statement("c", &[])], 1).await, "1 2 D C(SELECT 1) Z(I)");
}

/// Each keeps the next, closed or not: a chain without an end took the whole process with it when its client left.
#[tokio::test]
async fn trap_34_nor_a_chain_of_them_without_an_end() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    client.shown_batch(&[wire::parse("n0", "SELECT 'end'"), wire::sync()], 1).await;
    let link = |at: usize| {
        let (old, new) = (format!("n{}", at - 1), format!("n{at}"));
        [wire::parse(&new, &format!("EXECUTE {old}")), wire::close_statement(&old), wire::sync()]
    };
    for at in 1..=16 {
        assert_eq!(client.shown_batch(&link(at), 1).await, "1 3 Z(I)", "{at}");
    }
    let replies = client.exchange(&link(17)).await;
    assert_eq!(show(&replies), "E(54001) Z(I)");
    assert_eq!(replies[0].field(b'M').as_deref(), Some("more than 16 prepared statements would each name the next"));
    // Its Close was skipped with it.
    assert_eq!(client.shown_batch(&[wire::parse("n16", "SELECT 1"), wire::sync()], 1).await, "E(42P05) Z(I)");
    // One that names none begins another.
    let another = [wire::parse("n17", "SELECT 1"), wire::parse("n18", "EXECUTE n17"), wire::sync()];
    assert_eq!(client.shown_batch(&another, 1).await, "1 1 Z(I)");
}

#[tokio::test]
async fn trap_29_names_behind_other_statements_of_one_query() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    let parse = |name| wire::parse(name, "SELECT 'shared'");
    for forgets in ["BEGIN; DEALLOCATE t; COMMIT", "BEGIN; DEALLOCATE t; ROLLBACK"] {
        client.shown_batch(&[parse("t"), parse("u"), wire::sync()], 1).await;
        change_owner(&sidepool.transaction()).await;
        assert_eq!(
            client.shown("BEGIN; EXECUTE t; EXPLAIN EXECUTE u; COMMIT").await,
            "C(BEGIN) T D C(SELECT 1) T D C(EXPLAIN) C(COMMIT) Z(I)"
        );
        assert!(client.shown(forgets).await.starts_with("C(BEGIN) C(DEALLOCATE) C("));
        assert_eq!(client.shown_batch(&[run_statement("t", &[])], 1).await, "E(26000) Z(I)", "{forgets}");
        // It was the same statement under another name.
        assert_eq!(client.shown_batch(&[run_statement("u", &[])], 1).await, "2 D C(SELECT 1) Z(I)");
        client.shown_batch(&[wire::close_statement("u"), wire::sync()], 1).await;
    }
}

#[tokio::test]
async fn trap_29_names_in_a_query_of_several_statements_are_postgresqls_in_every_word() {
    let sidepool = Sidepool::with_one_server();
    let mut direct = Postgres::shared().direct().wire().await;
    let mut pooled = sidepool.transaction().wire().await;
    let prepares =
        [wire::parse("t", "SELECT $1::int"), wire::parse("u", "SELECT 1"), wire::parse("T", "SELECT 'T'"), wire::sync()];
    for text in [
        "BEGIN; DEALLOCATE t; EXECUTE t; COMMIT",
        "EXECUTE u; EXECUTE t",
        "SELECT 1; EXECUTE t(1, 2)",
        "SELECT 1; EXECUTE t; DEALLOCATE t",
        "PREPARE u AS SELECT 2; EXECUTE u",
        "PREPARE u AS SELECT 2",
        "DEALLOCATE u; PREPARE u AS SELECT 2; EXECUTE u; DEALLOCATE u",
        "DEALLOCATE t; DEALLOCATE PREPARE u; SELECT 1/0; DEALLOCATE \"T\"",
        "EXECUTE t(1); DEALLOCATE ALL; EXECUTE t(1)",
        "SELECT '; EXECUTE u'; EXECUTE \"T\"",
        "DO $$ BEGIN; EXECUTE 'SELECT 1'; END $$; EXECUTE u",
        "BEGIN; SELECT 1/0; DEALLOCATE t",
        "DEALLOCATE never; DEALLOCATE t",
        "SELECT 1; EXECUTE t(no)",
        "EXECUTE t(1); DEALLOCATE u; EXECUTE \"T\"; SELECT no",
        "/* \u{e4}\u{f6} */ EXECUTE t(1); EXECUTE u; SELECT no",
        "EXECUTE u; EXECUTE never; SELECT no",
    ] {
        let mut told = Vec::new();
        for wire in [&mut direct, &mut pooled] {
            let mut said = show_in_full(&wire.exchange(&prepares).await);
            said += &show_in_full(&wire.exchange(&[wire::query(text)]).await);
            wire.run("ROLLBACK").await;
            for (name, values) in [("t", &[Some("1")][..]), ("u", &[]), ("T", &[])] {
                said += &show_in_full(&wire.exchange(&[run_statement(name, values)]).await);
            }
            wire.run("DEALLOCATE ALL").await;
            told.push(said);
        }
        assert_eq!(told[1], told[0], "{text}");
        change_owner(&sidepool.transaction()).await;
    }
}

/// PostgreSQL looks a name up when the text is run; a statement is prepared once and run often.
#[tokio::test]
async fn trap_29_names_in_prepared_texts_are_looked_up_when_those_are_run() {
    let sidepool = Sidepool::with_one_server();
    let parse = |name, sql| [wire::parse(name, sql), wire::sync()].concat();
    let run = |name: &str| run_statement(name, &[]);
    let twice = |sql| [wire::parse("", sql), run("").repeat(2)].concat();
    let in_one_batch =
        |sql| [wire::parse("", sql), [wire::bind("", "", &[]), wire::execute("", 0)].concat().repeat(2), wire::sync()].concat();
    let sql = |text: &str| wire::query(text);
    let scripts = [
        vec![parse("x", "SELECT 1"), [unnamed("DEALLOCATE x"), wire::sync()].concat(), run("")],
        vec![parse("x", "SELECT 1"), twice("DEALLOCATE x")],
        vec![parse("x", "SELECT 1"), in_one_batch("DEALLOCATE x"), run("x")],
        vec![parse("x", "SELECT 1"), parse("d", "DEALLOCATE x"), sql("DEALLOCATE x"), run("d"), parse("x", "SELECT 3")],
        vec![parse("x", "SELECT 1"), parse("d", "DEALLOCATE x"), run("d"), parse("x", "SELECT 3"), run("d"), run("x"), run("d")],
        vec![parse("x", "SELECT 1"), parse("d", "DEALLOCATE x"), sql("EXECUTE d"), sql("EXECUTE x"), sql("EXECUTE d")],
        vec![parse("e", "EXECUTE x"), run("e"), parse("x", "SELECT 1"), run("e"), sql("EXECUTE e"), sql("SELECT 1; EXECUTE e")],
        vec![parse("x", "SELECT 1"), parse("e", "EXECUTE x"), sql("DEALLOCATE x"), run("e"), parse("x", "SELECT 'a'"), run("e")],
        vec![parse("e", "EXECUTE x"), sql("PREPARE x AS SELECT 2"), run("e"), sql("DEALLOCATE x"), run("e"), sql("EXECUTE e")],
        vec![
            parse("p", "PREPARE x AS SELECT 2"),
            parse("x", "SELECT 1"),
            run("p"),
            sql("DEALLOCATE x"),
            run("p"),
            sql("EXECUTE x"),
        ],
        vec![
            parse("d", "DEALLOCATE x"),
            sql("PREPARE x AS SELECT 2"),
            run("d"),
            run("d"),
            parse("x", "SELECT 1"),
            run("d"),
            run("x"),
        ],
        vec![
            parse("x", "SELECT 1"),
            parse("d", "DEALLOCATE x"),
            sql("BEGIN"),
            sql("SELECT 1/0"),
            run("d"),
            sql("ROLLBACK"),
            run("x"),
        ],
    ];
    let readies = |messages: &[u8]| {
        messages.iter().zip(&messages[1..]).filter(|(tag, length)| matches!((**tag, **length), (b'S' | b'Q', 0))).count()
    };
    for script in scripts {
        let said = String::from_utf8_lossy(&script.concat()).into_owned();
        // One after the other, and all in a pipeline.
        for sent in [script.clone(), vec![script.concat()]] {
            let (mut direct, mut pooled) = (Postgres::shared().direct().wire().await, sidepool.transaction().wire().await);
            let (mut told, mut expected) = (Vec::new(), Vec::new());
            for messages in &sent {
                for (wire, heard) in [(&mut direct, &mut expected), (&mut pooled, &mut told)] {
                    wire.send(messages).await;
                    for _ in 0..readies(messages) {
                        heard.push(show_in_full(&wire.until(b'Z').await));
                    }
                }
            }
            assert_eq!(told, expected, "{said}");
            drop(pooled);
            change_owner(&sidepool.transaction()).await;
        }
    }
}

/// psql points at a place in what it sent, and drivers quote what stands there.
#[tokio::test]
async fn error_positions_count_in_the_clients_text() {
    let sidepool = Sidepool::with_one_server();
    let (mut direct, mut pooled) = (Postgres::shared().direct().wire().await, sidepool.transaction().wire().await);
    let long = "t_as_long_as_no_name_of_ours";
    let prepares = [
        wire::parse("t", "SELECT $1::int"),
        wire::parse(long, "SELECT $1::int"),
        wire::parse("T \u{e4}", "SELECT $1::int"),
        wire::sync(),
    ];
    for name in ["t", "T", long, "\"T \u{e4}\""] {
        for text in [
            format!("EXECUTE {name}(no)"),
            format!("EXECUTE\n{name} (1, 2, no)"),
            format!("EXECUTE {name}(1) at all"),
            format!("EXPLAIN (COSTS OFF) EXECUTE {name}(no)"),
            format!("/* \u{e4}\u{20ac} */ EXECUTE {name}(no)"),
            format!("DEALLOCATE {name} at all"),
            format!("PREPARE {name} AS SELECT no"),
            format!("EXECUTE {name}(1); SELECT no"),
            format!("DEALLOCATE {name}; SELECT no"),
        ] {
            let mut told = Vec::new();
            for wire in [&mut direct, &mut pooled] {
                let mut said = show_in_full(&wire.exchange(&prepares).await);
                said += &show_in_full(&wire.exchange(&[wire::query(&text)]).await);
                said += &show_in_full(&wire.exchange(&[unnamed(&text), wire::sync()]).await);
                said += &show_in_full(&wire.exchange(&[wire::parse("e", &text), run_statement("e", &[])]).await);
                wire.run("DEALLOCATE ALL").await;
                told.push(said);
            }
            assert_eq!(told[1], told[0], "{text}");
            change_owner(&sidepool.transaction()).await;
        }
    }
}

#[tokio::test]
async fn error_positions_in_what_execute_runs_are_that_texts() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE positions_gone (a int)").await;
    let sidepool = Sidepool::with_one_server();
    let mut told = Vec::new();
    for mut wire in [postgres.direct().wire().await, sidepool.transaction().wire().await] {
        wire.shown_batch(&[wire::parse("s", "SELECT   a FROM positions_gone WHERE a = $1"), wire::sync()], 1).await;
        wire.run("BEGIN; DROP TABLE positions_gone").await;
        told.push(show_in_full(&wire.query("EXECUTE s(1)").await));
        wire.run("ROLLBACK").await;
    }
    assert!(told[0].ends_with("| 17) Z(E)"), "{}", told[0]);
    assert_eq!(told[1], told[0]);
}

#[tokio::test]
async fn a_17_a_failed_parse_is_forgotten() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    client.run("BEGIN").await;
    assert_eq!(client.shown_batch(&[wire::parse("s", "SELECT no"), wire::sync()], 1).await, "E(42703) Z(E)");
    client.run("ROLLBACK").await;
    assert_eq!(client.shown_batch(&[wire::parse("s", "SELECT 1"), run_statement("s", &[])], 1).await, "1 2 D C(SELECT 1) Z(I)");
    // And the bad text is bad again, for everybody.
    assert_eq!(client.shown_batch(&[wire::parse("t", "SELECT no"), wire::sync()], 1).await, "E(42703) Z(I)");
    let mut other = sidepool.transaction().wire().await;
    assert_eq!(other.shown_batch(&[wire::parse("s", "SELECT no"), wire::sync()], 1).await, "E(42703) Z(I)");
}

#[tokio::test]
async fn a_17_a_statement_that_needs_what_was_rolled_back_is_an_error_and_heals() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    client.run("BEGIN; CREATE TABLE a_17_gone (a int)").await;
    client.shown_batch(&[wire::parse("s", "SELECT a FROM a_17_gone"), wire::sync()], 1).await;
    client.run("ROLLBACK").await;
    assert_eq!(client.shown_batch(&[run_statement("s", &[])], 1).await, "E(42P01) Z(I)");
    client.run("CREATE TABLE a_17_gone (a int)").await;
    assert_eq!(client.shown_batch(&[run_statement("s", &[])], 1).await, "2 C(SELECT 0) Z(I)");
}

#[tokio::test]
async fn a_17_two_hundred_clients_prepare_once_and_run_twice_over_ten_servers() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "10")]);
    let clients: Vec<_> = (0..200)
        .map(|n| {
            let endpoint = sidepool.transaction();
            tokio::spawn(async move {
                let mut client: Wire = endpoint.wire().await;
                let sql = format!("SELECT $1::int + {}", n % 20);
                assert_eq!(client.shown_batch(&[wire::parse("s", &sql), wire::sync()], 1).await, "1 Z(I)");
                for value in [1, 2] {
                    let run = client.exchange(&[run_statement("s", &[Some(&value.to_string())])]).await;
                    assert_eq!(show_in_full(&run), format!("2 D({}) C(SELECT 1) Z(I)", value + n % 20));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_17_sql_prepare_works_for_its_owner_and_is_seen_by_nobody_else() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    assert_eq!(
        client.shown("PREPARE p AS SELECT 1; EXECUTE p; DEALLOCATE p").await,
        "C(PREPARE) T D C(SELECT 1) C(DEALLOCATE) Z(I)"
    );
    client.run("PREPARE p AS SELECT 'mine'").await;
    assert_eq!(client.value("EXECUTE p").await, "mine");
    let pid = client.backend().await;
    // It keeps the server for as long as it has the statement.
    let mut other = sidepool.transaction().wire().await;
    let mut executing = Box::pin(other.shown("EXECUTE p"));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), &mut executing).await.is_err());
    assert_eq!(client.value("EXECUTE p").await, "mine");
    client.run("DEALLOCATE p").await;
    assert_eq!(executing.await, "E(26000) Z(I)");
    assert_eq!(other.backend().await, pid);
    assert_eq!(
        client.shown("PREPARE p AS SELECT 'again'; EXECUTE p; DEALLOCATE ALL").await,
        "C(PREPARE) T D C(SELECT 1) C(DEALLOCATE ALL) Z(I)"
    );
}

/// PREPARE and Parse share their names: whichever comes second is told so, in PostgreSQL's words.
#[tokio::test]
async fn a_17_sql_prepare_and_parse_share_their_names() {
    let postgres = Postgres::shared();
    let sidepool = Sidepool::with_one_server();
    let parse = |name| [wire::parse(name, "SELECT 'parsed'"), wire::sync()].concat();
    let in_batch = |text| [wire::parse("", text), wire::bind("", "", &[]), wire::execute("", 0), wire::sync()].concat();
    let prepare = |name: &str| wire::query(&format!("PREPARE {name} AS SELECT 'prepared'"));
    let execute = |name: &str| wire::query(&format!("EXECUTE {name}"));
    let scripts = [
        vec![prepare("x"), parse("x"), execute("x"), run_statement("x", &[])],
        // The text is looked at first.
        vec![
            prepare("x"),
            [wire::parse("x", "SELEC"), wire::sync()].concat(),
            [wire::parse("x", "SELECT no"), wire::sync()].concat(),
        ],
        vec![
            prepare("x"),
            [wire::parse("y", "SELECT 1"), wire::parse("x", "SELECT 1"), wire::sync()].concat(),
            run_statement("y", &[]),
        ],
        vec![wire::query("BEGIN"), prepare("x"), parse("x"), parse("y"), wire::query("ROLLBACK"), execute("x"), parse("x")],
        vec![prepare("x"), wire::query("DEALLOCATE x"), parse("x"), execute("x"), run_statement("x", &[])],
        vec![prepare("x"), [wire::close_statement("x"), wire::sync()].concat(), parse("x"), run_statement("x", &[])],
        vec![prepare("x"), wire::query("DEALLOCATE ALL"), parse("x"), run_statement("x", &[])],
        vec![parse("x"), prepare("x"), execute("x"), wire::query("DEALLOCATE x"), prepare("x"), execute("x"), parse("x")],
        vec![parse("x"), in_batch("PREPARE x AS SELECT 2"), execute("x"), run_statement("x", &[])],
        vec![in_batch("PREPARE x AS SELECT 2"), parse("x"), execute("x"), in_batch("PREPARE x AS SELECT 3")],
        vec![prepare("\"X y\""), parse("X y"), parse("x y"), run_statement("X y", &[])],
        vec![prepare("sidepool_1"), parse("sidepool_1"), run_statement("sidepool_1", &[]), wire::query("DEALLOCATE sidepool_1")],
        vec![
            parse("sidepool_1"),
            prepare("sidepool_1"),
            [wire::close_statement("sidepool_1"), wire::sync()].concat(),
            prepare("sidepool_1"),
        ],
    ];
    for script in scripts {
        let said = String::from_utf8_lossy(&script.concat()).into_owned();
        let mut pooled = sidepool.transaction().wire().await;
        // One after the other, and all in a pipeline.
        let (one_by_one, at_once) = (script.clone(), vec![script.concat()]);
        for sent in [one_by_one, at_once] {
            let mut direct = postgres.direct().wire().await;
            let (mut told, mut expected) = (String::new(), String::new());
            for messages in &sent {
                for (wire, heard) in [(&mut direct, &mut expected), (&mut pooled, &mut told)] {
                    wire.send(messages).await;
                    for _ in 0..script.len() / sent.len() {
                        *heard += &show_in_full(&wire.until(b'Z').await);
                    }
                }
            }
            assert_eq!(told, expected, "{said}");
            // Nothing is left to the next.
            pooled.run("DEALLOCATE ALL").await;
        }
        drop(pooled);
        change_owner(&sidepool.transaction()).await;
    }
}

#[tokio::test]
async fn a_17_named_portals_of_named_statements() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    client.shown_batch(&[wire::parse("s", "SELECT generate_series(1, 3)"), wire::sync()], 1).await;
    change_owner(&sidepool.transaction()).await;
    let batch = [
        wire::bind("p", "s", &[]),
        wire::describe_portal("p"),
        wire::execute("p", 1),
        wire::bind("q", "s", &[]),
        wire::execute("p", 0),
        wire::execute("q", 0),
        wire::close_portal("p"),
        wire::sync(),
    ];
    assert_eq!(client.shown_batch(&batch, 1).await, "2 T D s 2 D D C(SELECT 2) D D D C(SELECT 3) 3 Z(I)");
}
