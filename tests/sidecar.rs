//! Beside an application and under a service manager: ports that are shared or passed, news of how it stands, an end that
//! load balancers see coming.

mod common;

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;

use common::wire::{Wire, show, show_in_full};
use common::{PATIENCE, Postgres, Sidepool, until};
use rustix::process::Signal;
use tokio::net::TcpStream;

fn file() -> String {
    format!("upstream = \"{}\"\n", Postgres::shared().direct().url())
}

#[tokio::test]
async fn readyz_turns_first_and_clients_are_served_until_the_delay_is_over() {
    for (delay, second) in [("1h", Some(Signal::TERM)), ("500ms", None)] {
        let mut sidepool = Sidepool::start(Postgres::shared(), &[("http", "127.0.0.1:0"), ("timeout-drain-delay", delay)]);
        let transaction = sidepool.transaction();
        let mut client = transaction.wire().await;
        assert_eq!(sidepool.readyz().await, 200);
        sidepool.signal(Signal::TERM);
        until("load balancers are told", async || sidepool.readyz().await == 503).await;
        if second.is_some() {
            assert_eq!(transaction.wire().await.value("SELECT 'come in'").await, "come in");
        }
        assert_eq!(client.value("SELECT 'go on'").await, "go on");
        second.into_iter().for_each(|signal| sidepool.signal(signal));
        let told = show_in_full(&client.until_closed().await);
        assert_eq!(told, "E(FATAL | 57P01 | terminating connection due to administrator command)");
        assert!(sidepool.ended().expect("it ends").success());
        assert!(TcpStream::connect(("127.0.0.1", transaction.port)).await.is_err(), "nobody listens");
    }
}

#[tokio::test]
async fn whoever_asks_for_less_than_a_drain_does_not_take_it_back() {
    let flags = [("http", "127.0.0.1:0"), ("timeout-drain-delay", "1h")];
    let mut sidepool = Sidepool::start(Postgres::shared(), &flags);
    let mut client = sidepool.transaction().wire().await;
    let mut console = sidepool.transaction().database("sidepool").wire().await;
    sidepool.signal(Signal::TERM);
    until("load balancers are told", async || sidepool.readyz().await == 503).await;
    assert_eq!(show(&console.query("SHUTDOWN WAIT_FOR_CLIENTS").await), "C(SHUTDOWN) Z(I)");
    assert_eq!(show(&client.until_closed().await), "E(57P01)");
    assert!(sidepool.ended().expect("it ends").success());
}

#[tokio::test]
async fn two_processes_may_share_their_ports_and_the_one_that_ends_leaves_them() {
    let free = |_| TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    // All at once, so that they differ.
    let ports = [0; 3].map(free).map(|listener| listener.local_addr().expect("it is bound").port().to_string());
    let http = format!("127.0.0.1:{}", ports[2]);
    let own = [("session-port", &*ports[0]), ("transaction-port", &*ports[1]), ("http", &*http)];
    let shared = [&own[..], &[("reuse-port", "true")]].concat();
    let mut old = Sidepool::start(Postgres::shared(), &shared);
    let refusal = Sidepool::launch(&own, &file()).expect_err("it did not say that it shares them");
    assert!(refusal.contains("already in use"), "{refusal}");
    let new = Sidepool::start(Postgres::shared(), &shared);
    let mut staying = old.transaction().wire().await;
    staying.run("BEGIN").await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(new.transaction().wire().await);
    }
    old.signal(Signal::TERM);
    old.log_has("draining");
    for _ in 0..20 {
        assert_eq!(new.transaction().wire().await.value("SELECT 'here'").await, "here");
        assert_eq!(new.readyz().await, 200);
    }
    // It is one of the two's.
    assert_eq!(staying.shown("COMMIT").await, "C(COMMIT) Z(I)");
    drop((others, staying));
    assert!(old.ended().expect("its clients have gone").success());
    assert!(new.stop().success());
}

#[tokio::test]
async fn a_socket_of_the_service_manager_is_served_and_left_to_it() {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let port = socket.local_addr().expect("it is bound").port();
    let copy = || socket.try_clone().expect("there are file descriptors left").into();
    // By its name, or by its port.
    for (name, flag) in [("transaction", "0".to_owned()), ("sidepool.socket", port.to_string())] {
        let sidepool = Sidepool::activated(copy(), name, &[("transaction-port", &flag)], &file()).expect("it starts");
        assert_eq!(sidepool.transaction().port, port, "{name}");
        assert_eq!(sidepool.transaction().wire().await.value("SELECT 'passed'").await, "passed");
        assert_eq!(sidepool.session().wire().await.value("SELECT 'its own'").await, "its own");
        assert!(sidepool.stop().success());
    }
    let waiting = tokio::spawn(async move { Wire::login(&common::Endpoint::new(port)).await.value("SELECT 'late'").await });
    // It has connected already, and is met by the process that starts next.
    let sidepool = Sidepool::activated(copy(), "transaction", &[], &file()).expect("it starts");
    assert_eq!(waiting.await.expect("it does not panic"), "late");
    assert!(sidepool.stop().success());

    let open = TcpListener::bind(("0.0.0.0", 0)).expect("a port is free");
    let refusal = Sidepool::activated(open.into(), "http", &[("http", "127.0.0.1:0")], &file()).expect_err("others reach it");
    assert!(refusal.contains("listen.http_token is not set") && refusal.contains("exit status: 2"), "{refusal}");

    let refusal = Sidepool::activated(copy(), "shop", &[], &file()).expect_err("nobody knows what it is for");
    assert!(refusal.contains("it is not known what for") && refusal.contains("exit status: 2"), "{refusal}");
}

/// The next thing that a service manager is told.
fn news(heard: &UnixDatagram) -> String {
    let mut room = [0; 1000];
    let length = heard.recv(&mut room).expect("something comes");
    String::from_utf8_lossy(&room[..length]).into_owned()
}

#[test]
fn a_service_manager_is_told_how_it_stands() {
    let place = tempfile::tempdir().expect("the temporary directory is writable");
    let path = place.path().join("notify");
    let heard = UnixDatagram::bind(&path).expect("it is ours");
    heard.set_read_timeout(Some(PATIENCE)).expect("it is a time");
    let next = || news(&heard);
    let env = [("NOTIFY_SOCKET", &*path.display().to_string()), ("WATCHDOG_USEC", "20000")];
    let mut sidepool = Sidepool::launch_in(&env, &[], &[], &file()).expect("it starts");
    assert_eq!(next(), format!("READY=1\nMAINPID={}\nSTATUS=Accepting clients", sidepool.pid()));
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    sidepool.signal(Signal::TERM);
    let stopping = std::iter::repeat_with(next).find(|news| news != "WATCHDOG=1");
    assert_eq!(stopping.as_deref(), Some("STOPPING=1\nSTATUS=Draining"));
    assert!(sidepool.ended().expect("it ends").success());
}

/// It would give a process that says so its own time (systemd: TimeoutStopSec), and end it for the clients that stay.
#[tokio::test]
async fn a_service_manager_is_not_told_of_stopping_while_clients_may_stay() {
    let place = tempfile::tempdir().expect("the temporary directory is writable");
    let path = place.path().join("notify");
    let heard = UnixDatagram::bind(&path).expect("it is ours");
    heard.set_read_timeout(Some(PATIENCE)).expect("it is a time");
    let env = [("NOTIFY_SOCKET", &*path.display().to_string())];
    let mut sidepool = Sidepool::launch_in(&env, &[], &[], &file()).expect("it starts");
    assert!(news(&heard).starts_with("READY=1"));
    let mut client = sidepool.transaction().wire().await;
    let mut console = sidepool.transaction().database("sidepool").wire().await;
    assert_eq!(console.shown("SHUTDOWN WAIT_FOR_CLIENTS").await, "C(SHUTDOWN) Z(I)");
    assert_eq!(news(&heard), "STATUS=Waiting for the last client to leave");
    assert_eq!(client.value("SELECT 'still here'").await, "still here");
    client.end().await;
    assert_eq!(news(&heard), "STOPPING=1\nSTATUS=Draining");
    assert!(sidepool.ended().expect("it ends").success());
}
