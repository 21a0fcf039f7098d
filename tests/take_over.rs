//! A new process takes the place of the old one, and nobody who connects notices.

mod common;

use std::path::Path;
use std::process::Output;

use common::wire::{self, Wire, show, show_in_full};
use common::{PATIENCE, Postgres, Sidepool, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

const STOPPED: &str = "E(FATAL | 57P01 | terminating connection due to administrator command)";

/// Processes with the same settings, one after the other.
struct Line {
    place: tempfile::TempDir,
    flags: Vec<(String, String)>,
}

impl Line {
    fn new(flags: &[(&str, &str)]) -> Self {
        let place = tempfile::tempdir().expect("the temporary directory is writable");
        let control = place.path().join("control").display().to_string();
        let mut all = vec![("control-socket".to_owned(), control), ("log".to_owned(), "debug".to_owned())];
        all.extend(flags.iter().map(|(flag, value)| ((*flag).to_owned(), (*value).to_owned())));
        Self { place, flags: all }
    }

    fn first(&self) -> Sidepool {
        self.launch(&[], &[]).unwrap_or_else(|refusal| panic!("it did not start: {refusal}"))
    }

    fn next(&self) -> Sidepool {
        self.launch(&["--take-over"], &[]).unwrap_or_else(|refusal| panic!("it did not take over: {refusal}"))
    }

    fn launch(&self, arguments: &[&str], flags: &[(&str, &str)]) -> Result<Sidepool, String> {
        let own = self.flags.iter().map(|(flag, value)| (flag.as_str(), value.as_str()));
        let flags: Vec<_> = own.filter(|(flag, _)| flags.iter().all(|(f, _)| f != flag)).chain(flags.iter().copied()).collect();
        let file = format!("upstream = \"{}\"\n", Postgres::shared().direct().url());
        Sidepool::launch_in(&[], arguments, &flags, &file)
    }

    fn control(&self) -> std::path::PathBuf {
        self.place.path().join("control")
    }
}

fn logins(sidepool: &Sidepool) -> usize {
    sidepool.log().matches("client logged in").count()
}

/// A new connection for each transaction.
fn pgbench(url: String) -> tokio::task::JoinHandle<Output> {
    let script = "SELECT pg_backend_pid();\n";
    tokio::spawn(async move {
        let place = tempfile::tempdir().expect("the temporary directory is writable");
        std::fs::write(place.path().join("script.sql"), script).expect("it is ours");
        let mut pgbench = Command::new("pgbench");
        pgbench.args(["--no-vacuum", "--connect", "--client=4", "--jobs=2", "--transactions=250", "--file"]);
        pgbench.arg(place.path().join("script.sql")).arg(url).kill_on_drop(true);
        tokio::time::timeout(4 * PATIENCE, pgbench.output()).await.expect("it ends").expect("pgbench is installed")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn not_one_transaction_fails_while_processes_follow_each_other() {
    let line = Line::new(&[("pool-size", "8")]);
    let mut first = line.first();
    let (transaction, session) = (pgbench(first.transaction().url()), pgbench(first.session().url()));
    until("the first one is at work", async || logins(&first) > 100).await;
    let mut second = line.next();
    assert_eq!((second.transaction().port, second.session().port), (first.transaction().port, first.session().port));
    until("the second one is at work", async || logins(&second) > 100).await;
    let third = line.next();
    for pgbench in [transaction, session] {
        let output = pgbench.await.expect("it does not panic");
        let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
        assert!(output.status.success(), "{said}");
        assert!(said.contains("actually processed: 1000/1000"), "{said}");
        assert!(said.contains("failed transactions: 0 "), "{said}");
    }
    assert!(logins(&third) > 0, "the third one had something to do");
    assert!(first.ended().expect("its last client has gone").success());
    assert!(second.ended().expect("its last client has gone").success());
    assert!(third.stop().success());
}

#[tokio::test]
async fn clients_of_the_old_one_go_on_until_they_leave() {
    let line = Line::new(&[]);
    let mut old = line.first();
    let (mut idle, mut open) = (old.transaction().wire().await, old.transaction().wire().await);
    let mut session = old.session().wire().await;
    open.run("BEGIN").await;
    // It has not said who it is yet.
    let mut early = Wire::connect(old.transaction().port).await;
    old.has_read().await;

    let new = line.next();
    old.log_has("another process has taken over");
    assert_eq!(new.transaction().wire().await.value("SELECT 'new'").await, "new");
    assert_eq!(logins(&new), 1, "new clients come to it alone");
    for client in [&mut idle, &mut open, &mut session] {
        assert_eq!(client.value("SELECT 'old'").await, "old");
    }
    assert_eq!(open.shown("COMMIT").await, "C(COMMIT) Z(I)");
    early.log_in(&old.transaction()).await;
    assert_eq!(early.value("SELECT 'old, too'").await, "old, too");
    drop((idle, open, session, early));
    assert!(old.ended().expect("its last client has gone").success());
    assert_eq!(new.session().wire().await.value("SELECT 'still here'").await, "still here");
}

#[tokio::test]
async fn a_cancel_request_finds_its_query_in_the_old_one() {
    let line = Line::new(&[]);
    let old = line.first();
    let (mut transaction, mut session) = (old.transaction().wire().await, old.session().wire().await);
    let new = line.next();
    for client in [&mut transaction, &mut session] {
        let pid = client.backend().await;
        client.send(&wire::query("SELECT pg_sleep(1000)")).await;
        Postgres::shared().sleeps(&pid).await;
        client.cancel().await;
        assert_eq!(show(&client.until(b'Z').await), "T E(57014) Z(I)");
    }
    // So does one that came to the third of them.
    let _between = new.transaction().wire().await;
    let _third = line.next();
    new.log_has("another process has taken over");
    let pid = transaction.backend().await;
    transaction.send(&wire::query("SELECT pg_sleep(1000)")).await;
    Postgres::shared().sleeps(&pid).await;
    transaction.cancel().await;
    assert_eq!(show(&transaction.until(b'Z').await), "T E(57014) Z(I)");
    // One that is nobody's is passed on, too, and does no harm.
    new.transaction().wire().await.cancel().await;
    assert_eq!(new.transaction().wire().await.value("SELECT 'new'").await, "new");
    assert_eq!(transaction.value("SELECT 'old'").await, "old");
}

#[tokio::test]
async fn who_stays_too_long_is_asked_to_go() {
    let line = Line::new(&[("timeout-take-over", "200ms")]);
    let mut old = line.first();
    let mut idle = old.transaction().wire().await;
    let _new = line.next();
    assert_eq!(show_in_full(&idle.until_closed().await), STOPPED);
    assert!(old.ended().unwrap().success());
}

#[tokio::test]
async fn unix_sockets_and_http_are_handed_over_too() {
    let place = tempfile::tempdir().expect("the temporary directory is writable");
    let directory = place.path().display().to_string();
    let line = Line::new(&[("unix-socket-dir", &directory), ("http", "127.0.0.1:0")]);
    let mut old = line.first();
    let path = place.path().join(format!(".s.PGSQL.{}", old.transaction().port));
    let new = line.next();
    assert!(old.ended().expect("it has no client").success());
    assert_eq!(new.http_port(), old.http_port());
    assert_eq!(new.readyz().await, 200);
    let mut client = UnixStream::connect(&path).await.expect("its file is still there");
    client.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.expect("it reads");
    assert_eq!(client.read_u8().await.expect("it answers"), b'S');
    drop(client);
    assert!(new.stop().success());
    assert!(!path.exists() && !line.control().exists(), "the last one takes the files away");
}

#[tokio::test]
async fn what_the_new_settings_do_not_want_is_closed() {
    let place = tempfile::tempdir().expect("the temporary directory is writable");
    let directory = place.path().display().to_string();
    let line = Line::new(&[("http", "127.0.0.1:0"), ("unix-socket-dir", &directory)]);
    let mut old = line.first();
    let new = line.launch(&["--take-over"], &[("session-port", "off"), ("http", "off")]).expect("it starts");
    assert!(old.ended().expect("it has no client").success());
    for port in [old.session().port, old.http_port()] {
        assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "{port}");
    }
    let file = |port| place.path().join(format!(".s.PGSQL.{port}"));
    assert!(!file(old.session().port).exists() && file(old.transaction().port).exists());
    assert_eq!(new.transaction().wire().await.value("SELECT 'new'").await, "new");
}

#[tokio::test]
async fn one_that_cannot_start_changes_nothing() {
    let line = Line::new(&[]);
    let old = line.first();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let port = taken.local_addr().expect("it is bound").port();
    let refusal = line.launch(&["--take-over"], &[("session-port", &port.to_string())]).expect_err("the port is taken");
    assert!(refusal.contains("exit status: 2") && refusal.contains("already in use"), "{refusal}");
    old.log_has("asked to take over and did not");
    assert_eq!(old.session().wire().await.value("SELECT 'as before'").await, "as before");
    assert_eq!(line.next().session().wire().await.value("SELECT 'next'").await, "next");
}

#[tokio::test]
async fn one_that_fails_when_it_listens_already_leaves_the_files_of_sockets_where_they_are() {
    let place = tempfile::tempdir().expect("the temporary directory is writable");
    let directory = place.path().display().to_string();
    let line = Line::new(&[("unix-socket-dir", &directory)]);
    let old = line.first();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let http = taken.local_addr().expect("it is bound").to_string();
    let refusal = line.launch(&["--take-over"], &[("http", &http)]).expect_err("the port is taken");
    assert!(refusal.contains("already in use"), "{refusal}");
    for port in [old.session().port, old.transaction().port] {
        let path = place.path().join(format!(".s.PGSQL.{port}"));
        UnixStream::connect(&path).await.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    assert_eq!(line.next().session().wire().await.value("SELECT 'next'").await, "next");
}

#[tokio::test]
async fn strangers_get_nothing() {
    let line = Line::new(&[]);
    let old = line.first();
    let mut stranger = UnixStream::connect(line.control()).await.expect("it listens");
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n and more").await.expect("it reads");
    let mut said = Vec::new();
    // Closed, or closed with something unread.
    let _ = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut said)).await.expect("it is turned away");
    assert_eq!(said, b"");
    assert_eq!(old.transaction().wire().await.value("SELECT 'as before'").await, "as before");
}

#[test]
fn without_anybody_to_relieve_it_says_so() {
    let url = Postgres::shared().direct().url();
    let nowhere = Path::new("/nonexistent/control").display().to_string();
    let file = format!("upstream = \"{url}\"\n");
    let ended = Sidepool::once("run", &["--take-over", "--control-socket", &nowhere], &file);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("cannot take over from the process at /nonexistent/control"), "{}", ended.stderr);
    let ended = Sidepool::once("run", &["--take-over"], &file);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--take-over needs listen.control_socket"), "{}", ended.stderr);
}
