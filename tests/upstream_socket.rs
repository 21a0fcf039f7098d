//! The Unix socket in the place of TCP: taken where it leads to the same server, and nowhere else.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use common::wire::{self, Wire, show};
use common::{Endpoint, Plan, Postgres, Proxy, Sidepool};
use tokio::sync::OnceCell;

/// Lines of `pg_hba.conf`, and roles for them.
const HBA: [&str; 5] = [
    "local all peered peer map=nobody",
    "host all peered 127.0.0.1/32 scram-sha-256",
    "local all unasked trust",
    "host all unasked 127.0.0.1/32 scram-sha-256",
    "local all barred reject",
];
const ROLES: &str = "CREATE ROLE peered LOGIN PASSWORD 'secret'; CREATE ROLE unasked LOGIN PASSWORD 'secret'; \
                     CREATE ROLE barred LOGIN PASSWORD 'secret'";

/// Which way the server of this client was connected to.
const WAY: &str = "SELECT coalesce(host(inet_client_addr()), 'unix')";

/// The one that all tests share.
async fn shared() -> &'static Postgres {
    static SHARED: OnceCell<Postgres> = OnceCell::const_new();
    SHARED.get_or_init(started).await
}

async fn other() -> &'static Postgres {
    tokio::task::spawn_blocking(Postgres::shared).await.unwrap()
}

async fn started() -> Postgres {
    let plan = Plan { hba: HBA.map(str::to_owned).to_vec(), ..Plan::default() };
    let postgres = tokio::task::spawn_blocking(move || Postgres::start(plan)).await.unwrap();
    postgres.execute("postgres", ROLES).await;
    postgres
}

/// A directory of the server's user with a socket of this port: a link, so that it can be taken away and exchanged.
struct Directory {
    place: tempfile::TempDir,
    socket: PathBuf,
}

impl Directory {
    fn of(postgres: &Postgres) -> Self {
        let place = tempfile::tempdir().unwrap();
        let owner = fs::metadata(socket_of(postgres)).unwrap();
        chown(place.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let socket = place.path().join(format!(".s.PGSQL.{}", postgres.port));
        symlink(socket_of(postgres), &socket).unwrap();
        Self { place, socket }
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    /// Leads to another server from now on.
    fn lead_to(&self, postgres: &Postgres) {
        // It may have been taken away.
        let _ = fs::remove_file(&self.socket);
        symlink(socket_of(postgres), &self.socket).unwrap();
    }

    fn take_away(&self) {
        fs::remove_file(&self.socket).unwrap();
    }
}

fn socket_of(postgres: &Postgres) -> PathBuf {
    postgres.socket_directory.join(format!(".s.PGSQL.{}", postgres.port))
}

fn sidepool(postgres: &Postgres, directory: &Path) -> Sidepool {
    sidepool_with(postgres, directory, "")
}

fn sidepool_with(postgres: &Postgres, directory: &Path, file: &str) -> Sidepool {
    let socket = directory.display().to_string();
    Sidepool::configured(postgres, &[("upstream-socket", &socket), ("http", "127.0.0.1:0"), ("workers", "1")], file)
}

async fn way(client: &mut Wire) -> String {
    client.value(WAY).await
}

/// Of one more server connection, which the client keeps.
async fn next(endpoint: &Endpoint) -> (Wire, String) {
    let mut client = endpoint.wire().await;
    let way = way(&mut client).await;
    (client, way)
}

#[tokio::test]
async fn the_socket_is_taken_by_every_server_and_shown() {
    let postgres = shared().await;
    let directory = Directory::of(postgres);
    let listed = "[[users]]\nname = \"p_md5\"\npassword = \"secret\"\n";
    let sidepool = sidepool_with(postgres, directory.path(), listed);
    assert!(sidepool.log().contains(&format!("(or {}, if it is the same server)", directory.socket.display())));
    for endpoint in [sidepool.session(), sidepool.transaction()] {
        for user in ["postgres", "p_scram", "p_md5"] {
            let endpoint = endpoint.clone().user(user);
            let (_first, first) = next(&endpoint).await;
            let (_second, second) = next(&endpoint).await;
            assert_eq!([first, second], ["unix", "unix"], "{user}");
        }
    }
    sidepool.log_has("from now on: it is the same server");
    assert_eq!(sidepool.log().matches("from now on").count(), 1, "{}", sidepool.log());

    let mut console = sidepool.transaction().database("sidepool").wire().await;
    let servers = console.query("SHOW SERVERS").await;
    let rows: Vec<_> = servers.iter().filter(|reply| reply.tag == b'D').map(wire::Reply::values).collect();
    assert!(rows.len() >= 9, "{}", rows.len());
    assert!(rows.iter().all(|row| row[5].as_deref() == Some("unix")), "{rows:?}");

    let page = sidepool.metrics().await;
    let counted = |line: &&str| line.starts_with("sidepool_upstream_shortcuts_total{");
    let opened: usize = page.lines().filter(counted).filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum();
    assert!(opened >= rows.len(), "{opened}\n{page}");
}

#[tokio::test]
async fn off_is_tcp_and_a_reload_changes_it() {
    let postgres = shared().await;
    let directory = Directory::of(postgres);
    let file = |socket: &str| format!("upstream = \"{}\"\nupstream_socket = \"{socket}\"\n", postgres.direct().url());
    let sidepool = Sidepool::launch(&[("workers", "1")], &file("off")).unwrap();
    let mut client = sidepool.transaction().wire().await;
    assert_eq!(way(&mut client).await, "127.0.0.1");
    sidepool.reload(&file(&directory.path().display().to_string()));
    assert_eq!(way(&mut client).await, "unix", "what was opened otherwise is replaced");
    sidepool.reload(&file("off"));
    assert_eq!(way(&mut client).await, "127.0.0.1");
}

/// The trap of a container whose port is published here.
#[tokio::test]
async fn another_server_behind_the_socket_is_not_taken_for_this_one() {
    let (postgres, other) = (shared().await, started().await);
    let directory = Directory::of(postgres);
    directory.lead_to(&other);
    let sidepool = sidepool(postgres, directory.path());
    let own = postgres.direct().wire().await.value("SELECT pg_postmaster_start_time()").await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (mut client, way) = next(&sidepool.session()).await;
        assert_eq!(way, "127.0.0.1");
        assert_eq!(client.value("SELECT pg_postmaster_start_time()").await, own);
        clients.push(client);
    }
    sidepool.log_has("server connections go over TCP: another server is at");
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
    assert_eq!(other.direct().wire().await.value(asked).await, "1", "nothing is left there but who asks");
}

/// What is between the port and the server was put there to be used.
#[tokio::test]
async fn a_port_with_something_between_is_not_passed_by() {
    let postgres = shared().await;
    let proxy = Proxy::to(postgres.port, |_| {}).await;
    let place = tempfile::tempdir().unwrap();
    let owner = fs::metadata(socket_of(postgres)).unwrap();
    chown(place.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
    symlink(socket_of(postgres), place.path().join(format!(".s.PGSQL.{}", proxy.port))).unwrap();
    let upstream = Endpoint::new(proxy.port).url();
    let socket = place.path().display().to_string();
    let sidepool = Sidepool::launch(&[("upstream-socket", &socket)], &format!("upstream = \"{upstream}\"\n")).unwrap();
    let (_client, way) = next(&sidepool.session()).await;
    assert_eq!(way, "127.0.0.1");
    sidepool.log_has("another server is at");
}

#[tokio::test]
async fn users_whom_pg_hba_refuses_at_the_socket_go_over_tcp_and_nobody_else() {
    let postgres = shared().await;
    let directory = Directory::of(postgres);
    let sidepool = sidepool(postgres, directory.path());
    // Each says why once, though it is asked for more than one connection: the socket is not tried again.
    let users = [("peered", "SQLSTATE 28000"), ("barred", "SQLSTATE 28000"), ("unasked", "lets the user in without a proof")];
    let mut clients = Vec::new();
    for (user, why) in users {
        for _ in 0..3 {
            let (client, way) = next(&sidepool.session().user(user)).await;
            assert_eq!(way, "127.0.0.1", "{user}");
            clients.push(client);
        }
        sidepool.log_has(&format!("user=\"{user}\""));
        let log = sidepool.log();
        let is_said = |line: &&str| line.contains("of this user go over TCP") && line.contains(&format!("user=\"{user}\""));
        let said: Vec<_> = log.lines().filter(is_said).collect();
        assert!(said.len() == 1 && said[0].contains(why), "{user}: {said:?}\n{log}");
        let (client, way) = next(&sidepool.session()).await;
        assert_eq!(way, "unix", "after {user}");
        clients.push(client);
    }
}

#[tokio::test]
async fn a_socket_may_vanish_and_come_back() {
    let postgres = shared().await;
    let directory = Directory::of(postgres);
    let sidepool = sidepool(postgres, directory.path());
    let (mut before, one) = next(&sidepool.session()).await;
    directory.take_away();
    let (_during, two) = next(&sidepool.session()).await;
    sidepool.log_has("server connections go over TCP: nobody listens at");
    assert_eq!(way(&mut before).await, "unix", "what is connected stays");
    directory.lead_to(postgres);
    let (_after, three) = next(&sidepool.session()).await;
    assert_eq!([one, two, three], ["unix", "127.0.0.1", "unix"]);
}

#[tokio::test]
async fn another_server_that_takes_the_sockets_place_is_not_logged_in_to() {
    let (postgres, other) = (shared().await, other().await);
    let directory = Directory::of(postgres);
    let sidepool = sidepool(postgres, directory.path());
    let (_before, one) = next(&sidepool.session()).await;
    directory.lead_to(other);
    let (_after, two) = next(&sidepool.session()).await;
    assert_eq!([one, two], ["unix", "127.0.0.1"]);
    sidepool.log_has("another process than before listens at");
    sidepool.log_has("another server is at");
    directory.lead_to(postgres);
    let (_barred, three) = next(&sidepool.session()).await;
    assert_eq!(three, "127.0.0.1", "not at once again");
    let mut console = sidepool.transaction().database("sidepool").wire().await;
    console.query("RECONNECT").await;
    let (_asked, four) = next(&sidepool.session()).await;
    assert_eq!(four, "unix", "RECONNECT finds out anew");
}

/// Where everybody can put a socket, only our own user and root are believed; elsewhere the directory's owner too.
#[tokio::test]
async fn who_listens_has_to_be_somebody_who_may() {
    let postgres = shared().await;
    let is_root = rustix::process::geteuid().is_root();
    for (mode, owned_by_server) in [(0o1777, true), (0o1777, false), (0o755, false)] {
        let directory = Directory::of(postgres);
        if !owned_by_server && is_root {
            chown(directory.path(), Some(0), Some(0)).unwrap();
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        let sidepool = sidepool(postgres, directory.path());
        let (_client, way) = next(&sidepool.session()).await;
        // PostgreSQL is another user's where the tests are root's.
        assert_eq!(way, if is_root { "127.0.0.1" } else { "unix" }, "{mode:o}");
        if is_root {
            sidepool.log_has("belongs to a process of the user id");
        }
    }
}

/// Where TCP asks for a password, a socket that asks for none would make every password good.
#[tokio::test]
async fn passwords_are_tried_over_tcp() {
    let postgres = shared().await;
    let directory = Directory::of(postgres);
    let sidepool = sidepool_with(postgres, directory.path(), "auth_query = false\npassthrough = true\n");
    let (_client, way) = next(&sidepool.session()).await;
    assert_eq!(way, "unix", "it is taken for others");
    let user = sidepool.session().user("unasked");
    let (_, told) = Wire::try_login(&user.clone().password("wrong")).await;
    assert!(show(&told).ends_with("E(28P01)"), "{told:?}");
    let (_client, way) = next(&user).await;
    assert_eq!(way, "127.0.0.1");
    let (_, told) = Wire::try_login(&user.password("wrong")).await;
    assert!(show(&told).ends_with("E(28P01)"), "{told:?}");
}

#[tokio::test]
async fn trap_41_a_cancel_goes_to_a_server_at_the_socket_though_the_socket_is_gone() {
    let postgres = shared().await;
    let directory = Directory::of(postgres);
    let sidepool = sidepool(postgres, directory.path());
    let mut client = sidepool.transaction().wire().await;
    for is_gone in [false, true] {
        assert_eq!(way(&mut client).await, "unix");
        let pid = client.backend().await;
        if is_gone {
            directory.take_away();
        }
        client.send(&wire::query("SELECT pg_sleep(600)")).await;
        postgres.sleeps(&pid).await;
        client.cancel().await;
        assert!(show(&client.until(b'Z').await).contains("57014"));
    }
}

#[tokio::test]
async fn what_is_tracked_and_replayed_is_the_same_over_the_socket() {
    let postgres = shared().await;
    let directory = Directory::of(postgres);
    let socket = directory.path().display().to_string();
    let flags = [("upstream-socket", &*socket), ("pool-size", "1"), ("workers", "1")];
    let sidepool = Sidepool::start(postgres, &flags);
    let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    one.query("SET work_mem = '5MB'").await;
    assert_eq!(two.value("SHOW work_mem").await, "4MB");
    assert_eq!(one.value("SHOW work_mem").await, "5MB");
    assert_eq!(way(&mut one).await, "unix");
}

/// Where packages put it, without being told.
#[tokio::test]
async fn auto_looks_into_the_usual_places() {
    let postgres = shared().await;
    let packaged = Path::new("/run/postgresql");
    let owner = fs::metadata(socket_of(postgres)).unwrap().uid();
    let is_owners = |path: &Path| fs::metadata(path).is_ok_and(|directory| directory.uid() == owner);
    let is_root = rustix::process::geteuid().is_root();
    let place = if is_root && is_owners(packaged) { packaged } else { Path::new("/tmp") };
    let socket = place.join(format!(".s.PGSQL.{}", postgres.port));
    symlink(socket_of(postgres), &socket).unwrap();
    let sidepool = Sidepool::start(postgres, &[]);
    let (_client, way) = next(&sidepool.session()).await;
    let found = Sidepool::once("check", &[], &format!("upstream = \"{}\"\n", postgres.direct().url()));
    fs::remove_file(&socket).unwrap();
    let is_taken = place == packaged || !is_root;
    assert_eq!(way, if is_taken { "unix" } else { "127.0.0.1" });
    let told = if is_taken {
        format!("  way          the Unix socket {}, which leads to the same server\n", socket.display())
    } else {
        "  way          TCP: ".to_owned()
    };
    assert!(found.stdout.contains(&told), "{}", found.stdout);
}

#[tokio::test]
async fn check_says_why_it_is_tcp() {
    let (postgres, other) = (shared().await, other().await);
    let directory = Directory::of(postgres);
    let socket = directory.path().display().to_string();
    let check = |user: &str, socket: &str| {
        let file = format!("upstream = \"{}\"\n", postgres.direct().user(user).url());
        let found = Sidepool::once("check", &["--upstream-socket", socket], &file);
        assert_eq!((found.code, found.stderr.as_str()), (Some(0), ""), "{found:?}");
        found.stdout
    };
    let way = |told: &str| format!("  way          {told}");
    assert!(check("postgres", &socket).contains(&way(&format!("the Unix socket {}", directory.socket.display()))));
    assert!(check("unasked", &socket).contains("asks for a SCRAM password"));
    assert!(check("p_clear", &socket).contains("may not be told before it has proved itself"));
    assert!(!check("postgres", "off").contains("  way "));
    directory.lead_to(other);
    assert!(check("postgres", &socket).contains(&way("TCP: another server is at")));
    directory.take_away();
    assert!(check("postgres", &socket).contains(&way("TCP: its Unix socket is in none of the places")));
}
