//! COPY with every order of Sync, error and CopyDone. Each script runs on PostgreSQL itself and through both ports, and must be
//! answered alike; then the next client must find a server in order.

mod common;

use common::wire::{self, Wire, show};
use common::{Endpoint, Postgres, Sidepool, unnamed, until};

/// Each with the ReadyForQuery that PostgreSQL answers it with.
fn scripts(table: &str) -> Vec<(&'static str, Vec<Vec<u8>>, usize)> {
    let copy_in = format!("COPY {table} FROM STDIN");
    let (rows, bad_rows) = (wire::copy_data(b"1\n2\n"), wire::copy_data(b"no number\n"));
    vec![
        ("simple", vec![wire::query(&copy_in), rows.clone(), wire::copy_done()], 1),
        ("simple, nothing sent", vec![wire::query(&copy_in), wire::copy_done()], 1),
        ("simple, given up", vec![wire::query(&copy_in), rows.clone(), wire::copy_fail("enough")], 1),
        ("simple, out", vec![wire::query("COPY (SELECT generate_series(1, 3)) TO STDOUT")], 1),
        ("simple, bad row", vec![wire::query(&copy_in), bad_rows.clone(), rows.clone(), wire::copy_done()], 1),
        ("simple, bad row and given up", vec![wire::query(&copy_in), bad_rows.clone(), wire::copy_fail("enough")], 1),
        (
            "simple, bad row and a query at once",
            vec![wire::query(&copy_in), bad_rows.clone(), rows.clone(), wire::copy_done(), wire::query("SELECT 1")],
            2,
        ),
        (
            "two in one query",
            vec![
                wire::query(&format!("{copy_in}; {copy_in}; SELECT 1")),
                rows.clone(),
                wire::copy_done(),
                rows.clone(),
                wire::copy_done(),
            ],
            1,
        ),
        ("no such table", vec![wire::query("COPY no_such_table FROM STDIN"), rows.clone(), wire::copy_done()], 1),
        (
            "no such table, and a query at once",
            vec![wire::query("COPY no_such_table FROM STDIN"), rows.clone(), wire::copy_done(), wire::query("SELECT 1")],
            2,
        ),
        ("extended", vec![unnamed(&copy_in), rows.clone(), wire::copy_done(), wire::sync()], 1),
        (
            "extended, Sync before the data",
            vec![unnamed(&copy_in), wire::sync(), rows.clone(), wire::copy_done(), wire::sync()],
            1,
        ),
        (
            "extended, Syncs and Flush before the data",
            vec![unnamed(&copy_in), wire::sync(), wire::flush(), wire::sync(), rows.clone(), wire::copy_done(), wire::sync()],
            1,
        ),
        (
            "extended, Sync before the data, and more at once",
            vec![
                unnamed(&copy_in),
                wire::sync(),
                rows.clone(),
                wire::copy_done(),
                wire::sync(),
                unnamed("SELECT 1"),
                wire::sync(),
                wire::query("SELECT 2"),
            ],
            3,
        ),
        ("extended, bad row", vec![unnamed(&copy_in), bad_rows.clone(), wire::copy_done(), wire::sync()], 1),
        (
            "extended, bad row after Sync",
            vec![unnamed(&copy_in), wire::sync(), bad_rows.clone(), wire::copy_done(), wire::sync()],
            1,
        ),
        (
            "extended, bad row after Sync, then more at once",
            vec![unnamed(&copy_in), wire::sync(), bad_rows, wire::copy_done(), wire::sync(), unnamed("SELECT 1"), wire::sync()],
            2,
        ),
        ("extended, given up", vec![unnamed(&copy_in), wire::sync(), wire::copy_fail("enough"), wire::sync()], 1),
        ("extended, out", vec![unnamed("COPY (SELECT 1) TO STDOUT"), wire::sync()], 1),
        ("extended, no such table", vec![unnamed("COPY no_such_table FROM STDIN"), wire::sync(), rows, wire::copy_done()], 1),
        ("stray data outside of COPY", vec![wire::copy_data(b"1\n"), wire::copy_done(), wire::query("SELECT 1")], 1),
        ("stray failure outside of COPY", vec![wire::copy_fail("why"), unnamed("SELECT 1"), wire::sync()], 1),
    ]
}

/// In one write, or each message when the one before has left; the answer, and that the next query is answered as it should be.
async fn answer(client: &mut Wire, frames: &[Vec<u8>], ready: usize, at_once: bool) -> String {
    if at_once {
        client.send(&frames.concat()).await;
    } else {
        for frame in frames {
            client.send(frame).await;
            tokio::task::yield_now().await;
        }
    }
    let mut replies = Vec::new();
    for _ in 0..ready {
        replies.extend(client.until(b'Z').await);
    }
    replies.extend(client.query("SELECT 'after'").await);
    wire::show_in_full(&replies)
}

async fn compare(table: &str, at_once: bool) {
    let postgres = Postgres::shared();
    postgres.execute("postgres", &format!("CREATE TABLE {table} (a int)")).await;
    let sidepool = Sidepool::with_one_server();
    for (name, frames, ready) in scripts(table) {
        let expected = answer(&mut postgres.direct().wire().await, &frames, ready, at_once).await;
        for endpoint in [sidepool.session(), sidepool.transaction()] {
            let got = answer(&mut endpoint.wire().await, &frames, ready, at_once).await;
            assert_eq!(got, expected, "{name}, port {}", endpoint.port);
            // Somebody else finds the server free and clean.
            assert_eq!(endpoint.value("SELECT 'next'").await, "next", "{name}");
        }
    }
}

#[tokio::test]
async fn trap_18_and_19_every_order_in_one_write() {
    compare("trap_18_at_once", true).await;
}

#[tokio::test]
async fn trap_18_and_19_every_order_message_by_message() {
    compare("trap_18_in_turn", false).await;
}

/// A bound that no driver comes near: whoever sends more Syncs within the data is told so. PostgreSQL ignores any number.
#[tokio::test]
async fn trap_18_syncs_within_a_copy_end_in_an_answer() {
    const OWED_MAX: usize = 16 * 1024;
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE trap_18_syncs (a int)").await;
    let sidepool = Sidepool::with_one_server();
    let begins =
        [wire::query("COPY trap_18_syncs FROM STDIN"), [unnamed("COPY trap_18_syncs FROM STDIN"), wire::flush()].concat()];
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        for begin in &begins {
            for at_once in [false, true] {
                let mut client = endpoint.wire().await;
                client.send(begin).await;
                if !at_once {
                    client.until(b'G').await;
                }
                client.send(&[wire::sync().repeat(OWED_MAX / 2), wire::copy_data(b"1\n")].concat()).await;
                client.send(&wire::sync().repeat(OWED_MAX / 4)).await;
                client.send(&[wire::copy_done(), wire::sync(), wire::query("SELECT 1")].concat()).await;
                let answered = [client.until(b'C').await, client.until(b'Z').await, client.until(b'Z').await].concat();
                assert!(show(&answered).contains("C(COPY 1)"), "{}", show(&answered));
                client.send(begin).await;
                if !at_once {
                    client.until(b'G').await;
                }
                let _ = client.try_send(&wire::sync().repeat(OWED_MAX + 10)).await;
                let last = client.until_closed().await;
                assert!(show(&last).ends_with("E(54000)"), "{}", show(&last));
                assert_eq!(endpoint.value("SELECT count(*) FROM trap_18_syncs").await, "1", "and the next client is served");
                postgres.execute("postgres", "TRUNCATE trap_18_syncs").await;
            }
        }
    }
}

/// Nothing but data may come within a COPY, and a Sync before it does not end it: PostgreSQL ends the session.
#[tokio::test]
async fn trap_18_a_close_within_a_copy_ends_the_session_and_leaves_nobody_waiting() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE trap_18_close (a int)").await;
    let copy = unnamed("COPY trap_18_close FROM STDIN");
    let frames = [copy, wire::sync(), wire::close_statement("none"), wire::copy_fail("no"), wire::sync()].concat();
    let sidepool = Sidepool::with_one_server();
    for endpoint in [postgres.direct(), sidepool.session(), sidepool.transaction()] {
        let mut client = endpoint.wire().await;
        client.send(&frames).await;
        assert_eq!(show(&client.until_closed().await), "1 2 G E(08P01) E(08P01)", "{}", endpoint.port);
        assert_eq!(endpoint.value("SELECT 'next'").await, "next");
    }
}

#[tokio::test]
async fn trap_19_a_client_that_streams_on_after_the_server_failed_the_copy() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE trap_19 (a int)").await;
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    let pid = client.backend().await;
    client.send(&[wire::query("COPY trap_19 FROM STDIN"), wire::copy_data(b"no number\n")].concat()).await;
    assert_eq!(show(&client.until(b'Z').await), "G E(22P02) Z(I)");
    // The server is free now, and serves another client, who must see nothing of what still comes.
    let mut other = sidepool.transaction().wire().await;
    other.run("BEGIN").await;
    let more: Vec<_> = (0..1000).map(|i| wire::copy_data(format!("{i}\n").as_bytes())).collect();
    client.send(&[more.concat(), wire::copy_done()].concat()).await;
    assert_eq!(other.value("SELECT count(*) FROM trap_19").await, "0");
    other.run("COMMIT").await;
    assert_eq!(client.backend().await, pid);
}

#[tokio::test]
async fn trap_19_a_client_that_leaves_in_copy_in_leaves_nothing() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE trap_19_left (a int)").await;
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let mut leaver = endpoint.wire().await;
        let pid = leaver.backend().await;
        leaver.send(&[wire::query("COPY trap_19_left FROM STDIN"), wire::copy_data(b"1\n")].concat()).await;
        assert_eq!(show(&leaver.until(b'G').await), "G");
        drop(leaver);
        let mut next = endpoint.wire().await;
        assert_eq!(next.value("SELECT count(*) FROM trap_19_left").await, "0");
        assert_eq!(next.backend().await, pid, "the COPY was failed, the server kept");
    }
}

#[tokio::test]
async fn trap_20_copy_out_waits_for_a_slow_reader() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    client.run("SELECT 1").await;
    let before = common::resident_kib(sidepool.pid());
    client.send(&wire::query("COPY (SELECT repeat('y', 1000000) FROM generate_series(1, 30)) TO STDOUT")).await;
    let mut watch = Postgres::shared().direct().wire().await;
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND query LIKE 'COPY (SELECT repeat(''y''%'";
    until("the server can write no more", async || watch.value(blocked).await == "1").await;
    let grown = common::resident_kib(sidepool.pid()).saturating_sub(before);
    assert!(grown < 4096, "grown by {grown} KiB");
    let replies = client.until(b'Z').await;
    assert_eq!(replies.iter().filter(|reply| reply.tag == b'd').map(|reply| reply.body.len()).sum::<usize>(), 30 * 1_000_001);
}

#[tokio::test]
async fn trap_20_copy_in_of_much_data_is_streamed() {
    let postgres = Postgres::shared();
    postgres.execute("postgres", "CREATE TABLE trap_20_in (a text)").await;
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    client.run("SELECT 1").await;
    let before = common::resident_kib(sidepool.pid());
    client.send(&wire::query("COPY trap_20_in FROM STDIN")).await;
    let row = wire::copy_data(&[vec![b'z'; 1_000_000], vec![b'\n']].concat());
    for _ in 0..30 {
        client.send(&row).await;
    }
    client.send(&wire::copy_done()).await;
    assert_eq!(show(&client.until(b'Z').await), "G C(COPY 30) Z(I)");
    let grown = common::resident_kib(sidepool.pid()).saturating_sub(before);
    assert!(grown < 4096, "grown by {grown} KiB");
}

#[tokio::test]
async fn trap_21_a_function_call_counts_like_a_query() {
    let sidepool = Sidepool::with_one_server();
    // int4pl(int4, int4), both and the result as text.
    let call = |a: &str, b: &str| {
        let mut body = [&177_u32.to_be_bytes()[..], &0_u16.to_be_bytes(), &2_u16.to_be_bytes()].concat();
        for value in [a, b] {
            body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            body.extend(value.as_bytes());
        }
        body.extend(0_u16.to_be_bytes());
        wire::frame(b'F', &body)
    };
    let batch = [call("40", "2"), wire::query("SELECT 1"), call("x", "2"), call("1", "2")];
    let expected = Postgres::shared().direct().wire().await.shown_batch(&batch, 4).await;
    assert_eq!(expected, "V Z(I) T D C(SELECT 1) Z(I) E(22P02) Z(I) V Z(I)");
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        assert_eq!(endpoint.wire().await.shown_batch(&batch, 4).await, expected);
        assert_eq!(endpoint.value("SELECT 'next'").await, "next");
    }
}

#[tokio::test]
async fn trap_21_an_unknown_message_ends_that_client_alone() {
    let sidepool = Sidepool::with_one_server();
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        let (mut bad, mut good): (Wire, Endpoint) = (endpoint.wire().await, endpoint);
        bad.send(&wire::frame(b'?', b"what")).await;
        let replies = bad.until_closed().await;
        assert!(["", "E(08P01)"].contains(&&*show(&replies)), "{}", show(&replies));
        good = good.parameter("application_name", "good");
        assert_eq!(good.value("SELECT 'next'").await, "next");
    }
}

#[tokio::test]
async fn a_28_cursors_large_objects_and_long_transactions() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    client.run("BEGIN").await;
    client.run("DECLARE c CURSOR FOR SELECT generate_series(1, 10)").await;
    assert_eq!(client.shown("FETCH 2 FROM c").await, "T D D C(FETCH 2) Z(T)");
    let oid = client.value("SELECT lo_create(0)").await;
    assert_eq!(client.value(&format!("SELECT lowrite(lo_open({oid}, 131072), 'large')")).await, "5");
    for i in 0..150 {
        assert_eq!(client.value(&format!("SELECT {i}")).await, i.to_string());
    }
    client.run("COMMIT").await;
    assert_eq!(client.value(&format!("SELECT encode(lo_get({oid}), 'escape')")).await, "large");
    client.run(&format!("SELECT lo_unlink({oid})")).await;
}

#[tokio::test]
async fn a_28_portals_with_row_limits_inside_a_transaction() {
    let sidepool = Sidepool::with_one_server();
    let mut client = sidepool.transaction().wire().await;
    client.run("BEGIN").await;
    let open = [
        wire::parse("rows", "SELECT generate_series(1, 5)"),
        wire::bind("portal", "rows", &[]),
        wire::execute("portal", 2),
        wire::sync(),
    ];
    assert_eq!(client.shown_batch(&open, 1).await, "1 2 D D s Z(T)");
    assert_eq!(client.shown_batch(&[wire::execute("portal", 2), wire::sync()], 1).await, "D D s Z(T)");
    assert_eq!(client.shown_batch(&[wire::execute("portal", 2), wire::sync()], 1).await, "D C(SELECT 1) Z(T)");
    assert_eq!(client.shown_batch(&[wire::close_portal("portal"), wire::sync()], 1).await, "3 Z(T)");
    client.run("COMMIT").await;
}
