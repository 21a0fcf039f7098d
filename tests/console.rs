//! The console: what PgBouncer's tools ask it, who may do what, and what its commands do to traffic.

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::wire::{self, Reply, Wire, show, show_in_full};
use common::{Endpoint, PATIENCE, Plan, Postgres, Sidepool, at_once, unnamed, until};
use tokio::process::Command;

const STOPPED: &str = "E(FATAL | 57P01 | terminating connection due to administrator command)";

fn console(sidepool: &Sidepool) -> Endpoint {
    sidepool.transaction().database("sidepool")
}

/// Rows of a view, each as (column, value).
struct View(Vec<Vec<(String, Option<String>)>>);

impl View {
    async fn of(console: &mut Wire, sql: &str) -> Self {
        let replies = console.query(sql).await;
        let columns = replies.iter().find(|reply| reply.tag == b'T').unwrap_or_else(|| panic!("{}", show_in_full(&replies)));
        let columns = columns.columns();
        let rows = replies.iter().filter(|reply| reply.tag == b'D').map(Reply::values);
        Self(rows.map(|row| columns.iter().cloned().zip(row).collect()).collect())
    }

    /// The rows in which this column has this value.
    fn with(self, column: &str, value: &str) -> Self {
        let has = |row: &Vec<(String, Option<String>)>| row.iter().any(|(c, v)| c == column && v.as_deref() == Some(value));
        Self(self.0.into_iter().filter(has).collect())
    }

    fn text(&self, column: &str) -> String {
        let row = self.0.first().unwrap_or_else(|| panic!("no row for {column}"));
        let found = row.iter().find(|(name, _)| name == column).unwrap_or_else(|| panic!("no {column} in {row:?}"));
        found.1.clone().unwrap_or_default()
    }

    /// Of every row.
    fn texts(&self, column: &str) -> Vec<String> {
        self.0.iter().map(|row| Self(vec![row.clone()]).text(column)).collect()
    }

    fn number(&self, column: &str) -> u64 {
        self.text(column).parse().unwrap_or_else(|_| panic!("{column} is {:?}", self.text(column)))
    }
}

/// Names and types, as `name:oid`.
fn columns(replies: &[Reply]) -> String {
    let described = replies.iter().find(|reply| reply.tag == b'T').unwrap_or_else(|| panic!("{}", show_in_full(replies)));
    let mut rest = &described.body[2..];
    let mut columns = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let oid = u32::from_be_bytes(rest[end + 7..end + 11].try_into().expect("four bytes"));
        let kind = match oid {
            25 => "text",
            23 => "int4",
            20 => "int8",
            1700 => "numeric",
            other => panic!("type {other}"),
        };
        columns.push(format!("{}:{kind}", String::from_utf8_lossy(&rest[..end])));
        rest = &rest[end + 19..];
    }
    columns.join(" ")
}

/// `a b c`, all of one type.
fn all(names: &str, kind: &str) -> String {
    names.split_whitespace().map(|name| format!("{name}:{kind}")).collect::<Vec<_>>().join(" ")
}

const COUNTERS: &str = "server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time \
                        client_parse_count server_parse_count bind_count client_login_count";

#[tokio::test]
async fn the_exporters_queries_are_answered_with_pgbouncers_columns() {
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    sidepool.transaction().value("SELECT 1").await;
    sidepool.session().value("SELECT 1").await;
    let connection = "type:text user:text database:text replication:text state:text addr:text port:int4 local_addr:text \
                      local_port:int4 connect_time:text request_time:text wait:int4 wait_us:int4 close_needed:int4 ptr:text \
                      link:text remote_pid:int4 tls:text application_name:text prepared_statements:int4 id:int4";
    let stats = "total_server_assignment_count total_xact_count total_query_count total_received total_sent total_xact_time \
                 total_query_time total_wait_time total_client_parse_count total_server_parse_count total_bind_count \
                 total_client_login_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent \
                 avg_xact_time avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count \
                 avg_client_login_count";
    let pools = "cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel sv_being_canceled \
                 sv_idle sv_used sv_tested sv_login maxwait maxwait_us";
    let averages = COUNTERS.replace("client_p", "avg_client_p").replace("server_p", "avg_server_p");
    let averages = averages.replace("bind_count", "avg_bind_count").replace("client_login", "avg_client_login");
    let sockets = "recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail";
    let expected = [
        ("VERSION", "version:text".to_owned()),
        ("LISTS", "list:text items:int4".into()),
        ("CONFIG", "key:text value:text default:text changeable:text".into()),
        (
            "DATABASES",
            "name:text host:text port:int4 database:text force_user:text pool_size:int4 min_pool_size:int4 \
             reserve_pool_size:int4 server_lifetime:int4 pool_mode:text load_balance_hosts:text max_connections:int4 \
             current_connections:int4 max_client_connections:int4 current_client_connections:int4 paused:int4 disabled:int4"
                .into(),
        ),
        ("STATS_TOTALS", format!("database:text {}", all(COUNTERS, "numeric"))),
        ("POOLS", format!("database:text user:text {} pool_mode:text load_balance_hosts:text", all(pools, "int4"))),
        ("STATS", format!("database:text {}", all(stats, "numeric"))),
        ("CLIENTS", connection.into()),
        ("SERVERS", connection.into()),
        ("SOCKETS", format!("{connection} {}", all(sockets, "int4"))),
        ("ACTIVE_SOCKETS", format!("{connection} {}", all(sockets, "int4"))),
        ("STATS_AVERAGES", format!("database:text {}", all(&averages, "numeric"))),
        ("TOTALS", "name:text value:numeric".into()),
        (
            "USERS",
            "name:text pool_size:text reserve_pool_size:text pool_mode:text max_user_connections:int4 \
             current_connections:int4 max_user_client_connections:int4 current_client_connections:int4"
                .into(),
        ),
        ("MEM", "name:text size:int4 used:int4 free:int4 memtotal:int4".into()),
        ("STATE", "key:text value:text".into()),
    ];
    // As lib/pq connects, by PgBouncer's name, on either port.
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let mut console = endpoint.database("pgbouncer").parameter("extra_float_digits", "2").wire().await;
        for (view, expected) in &expected {
            let replies = console.query(&format!("SHOW {view};")).await;
            assert_eq!(columns(&replies), *expected, "{view}");
            assert!(show(&replies).ends_with("C(SHOW) Z(I)"), "{view}: {}", show(&replies));
        }
    }
}

/// What the exporter makes of the rows: labels that are unique, and numbers where it parses some.
#[tokio::test]
async fn the_exporter_can_read_every_row() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("max-clients", "77")]);
    let (mut one, mut two) = (sidepool.transaction().wire().await, sidepool.session().wire().await);
    one.run("SELECT 1").await;
    two.run("SELECT 1").await;
    let mut console = console(&sidepool).wire().await;
    let labels = |view: View, names: &[&str]| {
        let label = |row: &Vec<(String, Option<String>)>| {
            row.iter().filter(|(name, _)| names.contains(&name.as_str())).cloned().collect::<Vec<_>>()
        };
        view.0.iter().map(label).collect::<Vec<_>>()
    };
    for (sql, names) in [
        ("SHOW POOLS", &["database", "user"][..]),
        ("SHOW STATS_TOTALS", &["database"]),
        ("SHOW DATABASES", &["name", "host", "port", "database", "force_user", "pool_mode"]),
    ] {
        let mut found = labels(View::of(&mut console, sql).await, names);
        let count = found.len();
        found.sort();
        found.dedup();
        assert!(count > 0 && found.len() == count, "{sql}: {found:?}");
    }
    for (key, expected) in [("max_client_conn", 77), ("max_user_connections", 0)] {
        assert_eq!(View::of(&mut console, "SHOW CONFIG").await.with("key", key).number("value"), expected);
    }
    let pool = View::of(&mut console, "SHOW POOLS").await;
    assert_eq!((pool.number("cl_active"), pool.number("sv_active"), pool.number("sv_idle")), (2, 1, 1));
    assert_eq!(pool.text("pool_mode"), "session+transaction");
    for list in View::of(&mut console, "SHOW LISTS").await.0 {
        assert!(list[1].1.as_deref().is_some_and(|items| items.parse::<u64>().is_ok()), "{list:?}");
    }
}

#[tokio::test]
async fn no_secret_is_shown() {
    let file = "auth_user = \"asker\"\nauth_password = \"hunter2\"\n[[users]]\nname = \"app\"\npassword = \"hunter3\"\n";
    let sidepool = Sidepool::configured(Postgres::shared(), &[("http-token", "hunter4")], file);
    let mut console = console(&sidepool).wire().await;
    let mut text = String::new();
    for view in ["CONFIG", "USERS", "DATABASES", "PROJECTS", "CLIENTS", "SERVERS", "HELP"] {
        text += &show_in_full(&console.query(&format!("SHOW {view}")).await);
    }
    assert!(text.contains("auth_password") && !text.contains("hunter") && !text.contains("secret@"), "{text}");
}

#[tokio::test]
async fn drivers_find_what_they_ask_any_server_for() {
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    let mut console = console(&sidepool).wire().await;
    assert!(console.parameters.contains(&("server_encoding".into(), "UTF8".into())), "{:?}", console.parameters);
    for (sql, expected) in [
        ("", "I Z(I)"),
        (" ; -- ping", "I Z(I)"),
        ("SELECT 1", "T(?column?) D(1) C(SHOW) Z(I)"),
        ("SHOW client_encoding", "T(client_encoding) D(UTF8) C(SHOW) Z(I)"),
        ("SHOW standard_conforming_strings", "T(standard_conforming_strings) D(on) C(SHOW) Z(I)"),
        ("SHOW default_transaction_isolation", "T(default_transaction_isolation) D(read committed) C(SHOW) Z(I)"),
        ("SHOW timezone", "T(timezone) D(GMT) C(SHOW) Z(I)"),
        ("SHOW DateStyle", "T(datestyle) D(ISO) C(SHOW) Z(I)"),
        ("SET client_encoding TO 'UTF8'", "N(NOTICE | 00000 | SET ignored) C(SET) Z(I)"),
        ("BEGIN", "C(BEGIN) Z(T)"),
        ("SELECT version", "T(version) D(Sidepool 0.1.0) C(SHOW) Z(T)"),
        ("COMMIT", "C(COMMIT) Z(I)"),
        (
            "BEGIN; SHOW nothing",
            "E(ERROR | 08P01 | invalid command 'SHOW nothing', use SHOW HELP; | This is the console of the pooler, not a database: SHOW HELP lists what it answers.) Z(I)",
        ),
        (
            "BEGIN; PAUSE no_such_db",
            "C(BEGIN) E(ERROR | 3D000 | database \"no_such_db\" does not exist | SHOW DATABASES and SHOW PROJECTS list what can be named; a project stands for all of its databases.) Z(E)",
        ),
        ("ROLLBACK", "C(ROLLBACK) Z(I)"),
        (
            "SHOW STATE; SHOW VERSION",
            "T(key,value) D(active,yes) D(paused,no) D(suspended,no) D(draining,no) C(SHOW) T(version) D(Sidepool 0.1.0) C(SHOW) Z(I)",
        ),
    ] {
        assert_eq!(show_in_full(&console.query(sql).await), expected, "{sql}");
    }
    let help = show_in_full(&console.query("SHOW HELP").await);
    assert!(help.contains("WAIT_CLOSE [db]") && help.contains("STATS_AVERAGES") && help.ends_with("C(SHOW) Z(I)"), "{help}");
}

#[tokio::test]
async fn the_extended_protocol_says_the_same() {
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    sidepool.transaction().value("SELECT 1").await;
    let client = console(&sidepool).client().await;
    let row = client.query_one("SHOW POOLS", &[]).await.expect("binary results");
    assert_eq!((row.get::<_, &str>("database"), row.get::<_, i32>("sv_idle")), ("postgres", 1));
    assert_eq!(row.get::<_, Option<&str>>("load_balance_hosts"), None);
    let prepared = client.prepare("SHOW DATABASES").await.expect("it is a statement");
    for _ in 0..2 {
        let row = client.query_one(&prepared, &[]).await.expect("it can be run again");
        assert_eq!((row.get::<_, &str>("name"), row.get::<_, i32>("pool_size")), ("postgres", 20));
    }
    assert_eq!(client.execute("RECONNECT", &[]).await.expect("a command"), 0);
    client.execute("SET extra_float_digits = 3", &[]).await.expect("ignored");
    let waiting: i64 = client.query("SHOW WAITERS", &[]).await.expect("nobody waits").len() as i64;
    assert_eq!(waiting, 0);
    let error = client.query("KILL_CLIENT $1", &[&1_i32]).await.expect_err("no parameters");
    assert_eq!(error.code().map(|code| code.code()), Some("42P02"));
    client.query_one("SHOW VERSION", &[]).await.expect("it goes on after an error");
}

#[tokio::test]
async fn the_extended_protocol_message_by_message() {
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    let mut console = console(&sidepool).wire().await;
    let mut batch = async |frames: &[Vec<u8>]| show_in_full(&console.exchange(&[frames, &[wire::sync()]].concat()).await);
    let run = [unnamed("SHOW STATE"), wire::describe_portal("")];
    assert_eq!(batch(&run[..1]).await, "1 2 D(active,yes) D(paused,no) D(suspended,no) D(draining,no) C(SHOW) Z(I)");
    let described = [wire::parse("s", "SHOW VERSION"), wire::describe_statement("s")];
    assert_eq!(batch(&described).await, "1 t(\\x00\\x00) T(version) Z(I)");
    // In pieces.
    let pieces = [wire::parse("", "SHOW STATE"), wire::bind("p", "", &[]), wire::execute("p", 3), wire::execute("p", 3)];
    assert_eq!(batch(&pieces).await, "1 2 D(active,yes) D(paused,no) D(suspended,no) s D(draining,no) C(SHOW) Z(I)");
    assert_eq!(batch(&[wire::parse("", ""), wire::bind("", "", &[]), wire::execute("", 0)]).await, "1 2 I Z(I)");
    assert_eq!(
        batch(&[wire::parse("", "BEGIN"), wire::bind("", "", &[]), wire::describe_portal(""), wire::execute("", 0)]).await,
        "1 2 n C(BEGIN) Z(T)"
    );
    // What follows an error is skipped up to the Sync.
    let failing = batch(&[wire::parse("", "SHOW nothing"), unnamed("SHOW VERSION")]).await;
    assert!(
        failing.starts_with("E(ERROR | 08P01") && failing.ends_with(") Z(E)") && failing.matches("E(").count() == 1,
        "{failing}"
    );
    assert_eq!(batch(&[unnamed("ROLLBACK")]).await, "1 2 C(ROLLBACK) Z(I)");
    for (frames, code) in [
        (vec![wire::bind("", "none", &[])], "26000"),
        (vec![wire::parse("", "SHOW STATE"), wire::bind("", "", &[Some("1")])], "08P01"),
        (vec![wire::parse("", "SHOW STATE; SHOW VERSION")], "42601"),
        (vec![wire::frame(b'F', &[0; 10])], "0A000"),
        (vec![wire::copy_done()], "0A000"),
        // Three formats for two columns; pgwire would look for a third.
        (
            vec![
                wire::parse("", "SHOW STATE"),
                wire::frame(b'B', b"\0\0\0\0\0\0\0\x03\0\0\0\0\0\0"),
                wire::describe_portal(""),
                wire::execute("", 0),
            ],
            "08P01",
        ),
    ] {
        let told = batch(&frames).await;
        assert!(told.contains(&format!("E(ERROR | {code}")) && told.ends_with("Z(I)"), "{code}: {told}");
    }
    // As many rows as a number may say, and no memory for them.
    let greedy = [wire::parse("", "SHOW VERSION"), wire::bind("", "", &[]), wire::execute("", i32::MAX as u32)];
    assert_eq!(batch(&greedy).await, "1 2 D(Sidepool 0.1.0) C(SHOW) Z(I)");
    let many: Vec<_> = (0..80).map(|n| wire::parse(&format!("n{n}"), "SHOW STATE")).collect();
    assert!(batch(&many).await.contains("E(ERROR | 54000"));
}

#[tokio::test]
async fn what_is_no_protocol_ends_the_session_and_no_other() {
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    let mut other = console(&sidepool).wire().await;
    for (bytes, code) in [
        (wire::query(&"x".repeat(70_000)), "54000"),
        (wire::frame(b'?', b""), "08P01"),
        (wire::frame(b'Q', b"\xff\xfe\0"), "22021"),
        (wire::frame(b'Q', b"no end"), "08P01"),
        (b"Q\0\0\0\0".to_vec(), "08P01"),
        (wire::frame(b'B', b"\0\0\xff\xff"), "08P01"),
        (wire::frame(b'D', b"X\0"), "08P01"),
    ] {
        let mut console = console(&sidepool).wire().await;
        console.send(&bytes).await;
        let told = show_in_full(&console.until_closed().await);
        assert!(told.starts_with(&format!("E(FATAL | {code}")), "{told}");
    }
    assert_eq!(other.value("SHOW VERSION").await, "Sidepool 0.1.0");
}

#[tokio::test]
async fn psql_shows_tables() {
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    let psql = async |arguments: &[&str]| {
        let mut psql = Command::new("psql");
        psql.arg(console(&sidepool).url()).args(["--no-psqlrc", "--no-align", "--tuples-only"]).args(arguments);
        let output = tokio::time::timeout(PATIENCE, psql.output()).await.expect("it ends").expect("psql is installed");
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(psql(&["-c", "SHOW VERSION"]).await.0, "Sidepool 0.1.0\n");
    assert_eq!(psql(&["-c", "PAUSE; RESUME"]).await.0, "PAUSE\nRESUME\n");
    assert_eq!(psql(&["-c", "SET default_pool_size = 30", "-c", "RESET default_pool_size"]).await.0, "SET\nRESET\n");
    let (_, error) = psql(&["-c", "SELECT * FROM pg_class"]).await;
    assert!(error.contains("use SHOW HELP") && error.contains("HINT:"), "{error}");
}

#[tokio::test]
async fn whoever_is_not_listed_is_refused_and_who_may_look_may_do_nothing() {
    let flags = [("stats-users", "p_scram,prisma"), ("admin-users", "app")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    let denied = Wire::try_login(&console(&sidepool).user("p_clear")).await.1;
    let told = show_in_full(&denied);
    assert!(told.starts_with("E(FATAL | 42501 | permission denied for database \"sidepool\""), "{told}");
    let unknown = Wire::try_login(&console(&sidepool).user("nobody")).await.1;
    assert!(show_in_full(&unknown).starts_with("E(FATAL | 28P01"), "{}", show_in_full(&unknown));
    let wrong = Wire::try_login(&console(&sidepool).password("wrong")).await.1;
    assert!(show_in_full(&wrong).starts_with("E(FATAL | 28P01"), "{}", show_in_full(&wrong));

    let mut victim = sidepool.transaction().wire().await;
    let mut stats = console(&sidepool).user("p_scram").wire().await;
    let id = View::of(&mut stats, "SHOW CLIENTS").await.text("id");
    // CVE-2026-6667 was one of them that nobody had thought of: all of those that SHOW HELP lists.
    let help = show_in_full(&stats.query("SHOW HELP").await);
    let usages = help.split("\n\t").skip(2).map(|usage| usage.split(')').next().unwrap_or(usage));
    let usages = usages.map(|usage| usage.replace("key", "limits.pool_size").replace("value", "7"));
    let mut tried = 0;
    for usage in usages {
        let command = usage.replace("[db]", "").replace("db", "postgres").replace("id", &id);
        let command = command.split('[').next().expect("the command");
        for told in [stats.shown(command).await, show(&stats.exchange(&[unnamed(command), wire::sync()]).await)] {
            assert!(told.ends_with("E(42501) Z(I)"), "{command}: {told}");
        }
        tried += 1;
    }
    assert_eq!(tried, 12);
    assert_eq!(victim.value("SELECT 'untouched'").await, "untouched");
    let mut admin = console(&sidepool).user("app").wire().await;
    assert_eq!(admin.shown("RECONNECT").await, "C(RECONNECT) Z(I)");
}

#[tokio::test]
async fn who_is_somebody_in_another_project_is_nobody_here() {
    let url = Postgres::shared().direct().url();
    let file = format!("[projects.one]\nupstream = \"{url}\"\n[projects.two]\nupstream = \"{url}\"\n");
    let sidepool = Sidepool::launch(&[], &file).expect("it starts");
    let other = Wire::try_login(&console(&sidepool).user("postgres.two")).await.1;
    assert!(show_in_full(&other).starts_with("E(FATAL | 42501"), "{}", show_in_full(&other));
    let mut console = console(&sidepool).user("postgres.one").wire().await;
    let mut client = sidepool.transaction().user("postgres.two").wire().await;
    client.run("SELECT 1").await;
    let names: Vec<_> = View::of(&mut console, "SHOW DATABASES").await.0.into_iter().filter_map(|row| row[0].1.clone()).collect();
    assert_eq!(names, ["postgres", "postgres.two"]);
    // Both ways to name it; the other project goes on.
    for name in ["two", "postgres.two"] {
        assert_eq!(console.shown(&format!("PAUSE {name}")).await, "C(PAUSE) Z(I)");
        client.send(&wire::query("SELECT 'late'")).await;
        until("it waits", async || View::of(&mut console, "SHOW WAITERS").await.0.len() == 1).await;
        assert_eq!(sidepool.transaction().user("postgres.one").value("SELECT 1").await, "1");
        assert_eq!(console.shown(&format!("RESUME {name}")).await, "C(RESUME) Z(I)");
        assert_eq!(client.awaited_value().await, "late");
    }
}

#[tokio::test]
async fn it_answers_when_every_place_for_clients_is_taken() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("max-clients", "1"), ("stats-users", "p_scram")]);
    let _client = sidepool.transaction().wire().await;
    let refused = Wire::try_login(&sidepool.transaction()).await.1;
    assert!(show_in_full(&refused).starts_with("E(FATAL | 53300"), "{}", show_in_full(&refused));
    let mut sessions = Vec::new();
    for _ in 0..32 {
        sessions.push(console(&sidepool).wire().await);
    }
    assert_eq!(View::of(&mut sessions[0], "SHOW LISTS").await.with("list", "free_clients").number("items"), 0);
    // It has a bound of its own, which leaves room for administrators.
    let refused = Wire::try_login(&console(&sidepool)).await.1;
    assert!(show_in_full(&refused).starts_with("E(FATAL | 53300"), "{}", show_in_full(&refused));
    sessions.truncate(24);
    let stats = console(&sidepool).user("p_scram");
    let refused = async || show_in_full(&Wire::try_login(&stats).await.1).starts_with("E(FATAL | 53300");
    assert!(refused().await, "24 are there");
    console(&sidepool).wire().await;
    drop(sessions);
    until("there is room", async || Wire::try_login(&console(&sidepool)).await.1.last().is_some_and(|r| r.tag == b'Z')).await;
}

#[tokio::test]
async fn counters_agree_with_what_was_done() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "2")]);
    let mut one = sidepool.transaction().wire().await;
    for _ in 0..5 {
        one.run("SELECT 1").await;
    }
    one.run("BEGIN").await;
    one.run("SELECT 1").await;
    one.run("COMMIT").await;
    let prepared = [wire::parse("s", "SELECT 1"), wire::bind("", "s", &[]), wire::execute("", 0)].concat();
    let again = [wire::bind("", "s", &[]), wire::execute("", 0)].concat();
    one.exchange(&[prepared, wire::sync()]).await;
    for _ in 0..3 {
        one.exchange(&[again.clone(), wire::sync()]).await;
    }
    // Prepared already, for everybody: the server is not told again.
    let mut two = sidepool.transaction().wire().await;
    two.exchange(&[wire::parse("t", "SELECT 1"), wire::bind("", "t", &[]), wire::execute("", 0), wire::sync()]).await;
    let mut in_session = sidepool.session().wire().await;
    in_session.exchange(&[unnamed("SELECT pg_sleep(0.02)"), wire::sync()]).await;

    let mut console = console(&sidepool).wire().await;
    let stats = View::of(&mut console, "SHOW STATS").await;
    let total = |name: &str| stats.number(&format!("total_{name}"));
    assert_eq!(total("xact_count"), 5 + 1 + 4 + 1 + 1);
    assert_eq!(total("query_count"), 5 + 3 + 4 + 1 + 1);
    assert_eq!((total("client_parse_count"), total("server_parse_count"), total("bind_count")), (3, 2, 6));
    assert_eq!(total("client_login_count"), 3);
    assert!(total("xact_time") >= 20_000, "the session's own too: {}", total("xact_time"));
    let totals = View::of(&mut console, "SHOW TOTALS").await;
    assert_eq!(totals.with("name", "total_xact_count").number("value"), total("xact_count"));
    let prepared = View::of(&mut console, "SHOW SERVERS").await.with("prepared_statements", "1");
    assert!(!prepared.0.is_empty());
}

#[tokio::test]
async fn who_is_connected_to_what_and_who_waits_can_be_seen() {
    // With `verify` a client has its server until that has been asked.
    let flags = [("pool-size", "1"), ("workers", "1"), ("verify", "false")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    let mut console = console(&sidepool).wire().await;
    let mut holder = sidepool.transaction().parameter("application_name", "holder").wire().await;
    holder.run("BEGIN").await;
    let pid = holder.backend().await;
    let server = View::of(&mut console, "SHOW SERVERS").await;
    assert_eq!(
        (server.text("type"), server.text("state"), server.text("remote_pid")),
        ("S".into(), "active".into(), pid.clone())
    );
    let active = View::of(&mut console, "SHOW CLIENTS").await.with("state", "active");
    assert_eq!((active.text("link"), active.text("application_name")), (server.text("ptr"), "holder".into()));
    assert_eq!((server.text("link"), active.text("addr")), (active.text("ptr"), "127.0.0.1".into()));
    assert!(active.text("connect_time").ends_with(" UTC") && active.text("connect_time").len() == 23);
    assert_eq!(active.number("local_port"), u64::from(sidepool.transaction().port));
    // As it calls itself later on.
    holder.run("SET application_name = 'renamed'; COMMIT").await;
    let renamed = View::of(&mut console, "SHOW CLIENTS").await;
    assert_eq!((renamed.text("application_name"), renamed.text("link")), ("renamed".into(), String::new()));
}

#[tokio::test]
async fn waits_count_from_when_a_client_began_to_wait() {
    let sidepool = Sidepool::with_one_server();
    let mut console = console(&sidepool).wire().await;
    let mut holder = sidepool.transaction().wire().await;
    holder.run("BEGIN").await;
    // One that has not been greeted yet: it asks for what no server has been asked before.
    let endpoint = sidepool.transaction().parameter("work_mem", "5MB");
    let login = tokio::spawn(async move { endpoint.wire().await });
    let maxwait = async |console: &mut Wire| {
        let pool = View::of(console, "SHOW POOLS").await;
        pool.number("maxwait") * 1_000_000 + pool.number("maxwait_us")
    };
    until("it waits", async || maxwait(&mut console).await > 0).await;
    let first = maxwait(&mut console).await;
    assert!(maxwait(&mut console).await > first);
    let waiter = View::of(&mut console, "SHOW WAITERS").await;
    assert_eq!((waiter.number("position"), waiter.text("mode")), (1, "transaction".into()));
    let client = View::of(&mut console, "SHOW CLIENTS").await.with("state", "waiting");
    assert_eq!(client.text("id"), waiter.text("client_id"));
    assert!(client.number("wait") * 1_000_000 + client.number("wait_us") > first);
    holder.run("COMMIT").await;
    login.await.expect("it is let in");
    assert_eq!(maxwait(&mut console).await, 0);
}

#[tokio::test]
async fn pins_say_who_since_when_why_and_for_which_statement() {
    // With `verify` a server is being asked before it is held.
    let flags = [("pool-size", "1"), ("workers", "1"), ("lint", "log"), ("verify", "false")];
    let sidepool = Sidepool::start(Postgres::shared(), &flags);
    let mut console = console(&sidepool).wire().await;
    let mut client = sidepool.transaction().parameter("application_name", "keeper").wire().await;
    client.run("SELECT pg_advisory_lock(4711)").await;
    let pid = client.backend().await;
    let pin = View::of(&mut console, "SHOW PINS").await;
    assert_eq!((pin.text("application_name"), pin.text("server_pid")), ("keeper".into(), pid));
    assert_eq!(pin.text("reasons"), "advisory locks");
    assert!(pin.text("statement").starts_with("SELECT pg_advisory_lock("), "{}", pin.text("statement"));
    let lint = View::of(&mut console, "SHOW LINT").await;
    assert_eq!(
        (lint.text("finding"), lint.text("application_name")),
        ("an advisory lock of the session".into(), "keeper".into())
    );
    client.run("SELECT pg_advisory_unlock(4711)").await;
    client.exchange(&[unnamed("CREATE TEMP TABLE pinned (a text DEFAULT 'hunter2')"), wire::sync()]).await;
    let pin = View::of(&mut console, "SHOW PINS").await;
    assert_eq!(pin.text("statement"), "CREATE TEMP TABLE pinned (a text DEFAULT ?)");
    drop(client);
    until("nothing is pinned", async || View::of(&mut console, "SHOW PINS").await.0.is_empty()).await;
}

#[tokio::test]
async fn pause_waits_for_transactions_and_holds_new_ones_back() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3")]);
    let (mut open, mut other) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    open.run("BEGIN").await;
    let mut console = console(&sidepool).wire().await;
    console.send(&wire::query("PAUSE; SHOW STATE")).await;
    let mut watch = console_of(&sidepool).await;
    until("it is paused", async || paused(&mut watch).await).await;
    other.send(&wire::query("SELECT 'late'")).await;
    until("it waits", async || View::of(&mut watch, "SHOW WAITERS").await.0.len() == 1).await;
    assert_eq!(open.value("SELECT 'still in it'").await, "still in it");
    open.run("COMMIT").await;
    let told = show_in_full(&console.until(b'Z').await);
    assert_eq!(told, "C(PAUSE) T(key,value) D(active,no) D(paused,yes) D(suspended,no) D(draining,no) C(SHOW) Z(I)");
    assert!(View::of(&mut watch, "SHOW SERVERS").await.0.is_empty(), "none is left");
    assert_eq!(watch.shown("PAUSE").await, "E(55000) Z(I)");
    // Who comes now is let in, as far as that needs no server.
    let mut late = sidepool.transaction().wire().await;
    late.send(&wire::query("SELECT 'too'")).await;
    assert_eq!(watch.shown("RESUME").await, "C(RESUME) Z(I)");
    assert_eq!((other.awaited_value().await, late.awaited_value().await), ("late".into(), "too".into()));
    assert_eq!(watch.shown("RESUME").await, "E(55000) Z(I)");
}

async fn console_of(sidepool: &Sidepool) -> Wire {
    console(sidepool).wire().await
}

async fn paused(console: &mut Wire) -> bool {
    View::of(console, "SHOW DATABASES").await.number("paused") == 1
}

#[tokio::test]
async fn a_pause_that_is_given_up_is_taken_back() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3")]);
    let mut open = sidepool.transaction().wire().await;
    open.run("BEGIN").await;
    let mut watch = console_of(&sidepool).await;
    // By Ctrl-C, in either protocol.
    for frames in [wire::query("PAUSE"), [unnamed("PAUSE"), wire::sync()].concat()] {
        let mut console = console_of(&sidepool).await;
        console.send(&frames).await;
        until("it is paused", async || paused(&mut watch).await).await;
        console.cancel().await;
        let told = show_in_full(&console.until(b'Z').await);
        assert!(told.ends_with("E(ERROR | 57014 | canceling statement due to user request) Z(I)"), "{told}");
        until("it goes on", async || !paused(&mut watch).await).await;
        assert_eq!(console.value("SHOW VERSION").await, "Sidepool 0.1.0");
    }
    // By somebody else's RESUME.
    let mut console = console_of(&sidepool).await;
    console.send(&wire::query("PAUSE postgres")).await;
    until("it is paused", async || paused(&mut watch).await).await;
    watch.run("RESUME").await;
    let told = show_in_full(&console.until(b'Z').await);
    assert_eq!(told, "E(ERROR | 55000 | the pause of database \"postgres\" was ended by RESUME) Z(I)");
    // By a client that goes without a word.
    let mut console = console_of(&sidepool).await;
    console.send(&wire::query("PAUSE")).await;
    until("it is paused", async || paused(&mut watch).await).await;
    drop(console);
    until("it goes on", async || !paused(&mut watch).await).await;
    assert_eq!(sidepool.transaction().value("SELECT 'served'").await, "served");
    open.run("COMMIT").await;
}

#[tokio::test]
async fn wait_close_returns_when_the_last_old_server_has_gone() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3")]);
    let (mut open, mut idle) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    open.run("BEGIN").await;
    let (old, idle_before) = (open.backend().await, idle.backend().await);
    let mut console = console_of(&sidepool).await;
    assert_eq!(console.shown("RECONNECT").await, "C(RECONNECT) Z(I)");
    Postgres::shared().is_gone(&idle_before).await;
    assert_ne!(idle.backend().await, idle_before, "and is replaced at once");
    let mut watch = console_of(&sidepool).await;
    let outdated = View::of(&mut watch, "SHOW SERVERS").await.with("close_needed", "1");
    assert_eq!((outdated.0.len(), outdated.text("remote_pid")), (1, old.clone()));
    console.send(&wire::query("WAIT_CLOSE postgres")).await;
    assert_eq!(open.backend().await, old, "a transaction keeps its server");
    open.run("COMMIT").await;
    assert_eq!(show(&console.until(b'Z').await), "C(WAIT_CLOSE) Z(I)");
    Postgres::shared().is_gone(&old).await;
    assert!(View::of(&mut watch, "SHOW SERVERS").await.with("close_needed", "1").0.is_empty());
    // With nothing to wait for.
    assert_eq!(watch.shown("WAIT_CLOSE").await, "C(WAIT_CLOSE) Z(I)");
}

/// Greeted with what was, it would keep the old defaults for as long as it is connected.
#[tokio::test]
async fn who_logs_in_after_a_reconnect_is_told_what_the_new_servers_are_like() {
    let postgres = Postgres::shared();
    postgres.new_database("moved").await;
    let sidepool = Sidepool::start(postgres, &[("pool-size", "1")]);
    let endpoint = sidepool.transaction().database("moved");
    let mut holder = endpoint.wire().await;
    holder.run("BEGIN").await;
    postgres.execute("postgres", "ALTER DATABASE moved SET timezone = 'Asia/Tokyo'").await;
    let mut console = console_of(&sidepool).await;
    console.run("RECONNECT").await;
    let login = tokio::spawn(async move { endpoint.wire().await });
    until("it waits", async || View::of(&mut console, "SHOW WAITERS").await.0.len() == 1).await;
    holder.run("COMMIT").await;
    let mut late = login.await.expect("it is let in");
    assert!(late.parameters.contains(&("TimeZone".into(), "Asia/Tokyo".into())), "{:?}", late.parameters);
    assert_eq!(late.value("SHOW timezone").await, "Asia/Tokyo");
}

/// Servers that are kept for what may be state are asked at once, and go if there is none.
#[tokio::test]
async fn who_holds_a_server_for_nothing_does_not_hold_up_a_pause() {
    // With `verify` it is asked at once, and holds nothing.
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3"), ("verify", "false")]);
    let mut held = sidepool.transaction().wire().await;
    held.run("SET work_mem = '5MB'").await;
    let mut console = console_of(&sidepool).await;
    assert_eq!(View::of(&mut console, "SHOW PINS").await.text("reasons"), "settings");
    assert_eq!(console.shown("PAUSE; RESUME").await, "C(PAUSE) C(RESUME) Z(I)");
    assert_eq!(held.value("SHOW work_mem").await, "5MB", "and the setting came along");
}

#[tokio::test]
async fn kill_client_ends_that_client() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3")]);
    let mut console = console_of(&sidepool).await;
    let named = |name: &str| sidepool.transaction().parameter("application_name", name);
    let (mut victim, mut other) = (named("victim").wire().await, named("other").wire().await);
    victim.run("BEGIN").await;
    other.run("BEGIN").await;
    let pid = victim.backend().await;
    victim.send(&wire::query("SELECT pg_sleep(1000)")).await;
    Postgres::shared().sleeps(&pid).await;
    let id = View::of(&mut console, "SHOW CLIENTS").await.with("application_name", "victim").text("id");
    assert_eq!(console.shown(&format!("KILL_CLIENT {id}")).await, "C(KILL_CLIENT) Z(I)");
    assert_eq!(show_in_full(&victim.until_closed().await), STOPPED);
    assert_eq!(other.value("SELECT 'other'").await, "other");
    Postgres::shared().is_idle(&pid).await;
    until("it is gone", async || View::of(&mut console, "SHOW CLIENTS").await.with("database", "postgres").0.len() == 1).await;
    assert_eq!(console.shown(&format!("KILL_CLIENT {id}")).await, "E(42704) Z(I)");
    // One in session mode, and one that waits to be greeted.
    let mut session = sidepool.session().wire().await;
    session.run("SELECT 1").await;
    let id = View::of(&mut console, "SHOW CLIENTS").await.with("application_name", "").text("id");
    console.run(&format!("KILL_CLIENT {id}")).await;
    assert_eq!(show_in_full(&session.until_closed().await), STOPPED);
}

#[tokio::test]
async fn kill_ends_everybody_and_leaves_the_database_paused() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "3")]);
    let mut console = console_of(&sidepool).await;
    let (mut idle, mut open) = (sidepool.transaction().wire().await, sidepool.transaction().wire().await);
    open.run("BEGIN").await;
    assert_eq!(console.shown("KILL postgres").await, "C(KILL) Z(I)");
    for client in [&mut idle, &mut open] {
        assert_eq!(show_in_full(&client.until_closed().await), STOPPED);
    }
    until("no server is left", async || View::of(&mut console, "SHOW SERVERS").await.0.is_empty()).await;
    // The pool may have been forgotten: then it is the greeting that is waited for.
    let endpoint = sidepool.transaction();
    let late = tokio::spawn(async move { endpoint.wire().await.value("SELECT 'late'").await });
    until("it waits", async || View::of(&mut console, "SHOW WAITERS").await.0.len() == 1).await;
    console.run("RESUME postgres").await;
    assert_eq!(late.await.expect("it does not panic"), "late");
}

#[tokio::test]
async fn a_disabled_database_takes_no_new_clients() {
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    let mut console = console_of(&sidepool).await;
    let mut inside = sidepool.transaction().wire().await;
    assert_eq!(console.shown("DISABLE postgres").await, "C(DISABLE) Z(I)");
    for endpoint in [sidepool.transaction(), sidepool.session()] {
        let told = show_in_full(&Wire::try_login(&endpoint).await.1);
        let expected = "E(FATAL | 55000 | database \"postgres\" is not currently accepting connections";
        assert!(told.starts_with(expected), "{told}");
    }
    assert_eq!(inside.value("SELECT 'stays'").await, "stays");
    assert_eq!(View::of(&mut console, "SHOW DATABASES").await.number("disabled"), 1);
    assert_eq!(console.shown("ENABLE postgres").await, "C(ENABLE) Z(I)");
    assert_eq!(sidepool.session().value("SELECT 'again'").await, "again");
    assert_eq!(console.shown("ENABLE postgres").await, "E(55000) Z(I)");
}

#[tokio::test]
async fn reload_takes_up_the_file_or_says_what_is_wrong_with_it() {
    let file = |lines: &str| format!("upstream = \"{}\"\n{lines}", Postgres::shared().direct().url());
    let sidepool = Sidepool::launch(&[], &file("")).expect("it starts");
    let mut admin = console_of(&sidepool).await;
    let before = sidepool.transaction().value("SELECT pg_backend_pid()").await;
    let denied = Wire::try_login(&console(&sidepool).user("p_scram")).await.1;
    assert!(show_in_full(&denied).starts_with("E(FATAL | 42501"));
    sidepool.rewrite(&file("stats_users = [\"p_scram\"]\nisolation = \"strict\"\n[limits]\npool_size = 7\n"));
    let told = show_in_full(&admin.query("RELOAD").await);
    assert_eq!(told, "N(NOTICE | 00000 | these need a restart, and stay as they were: isolation) C(RELOAD) Z(I)");
    assert_eq!(View::of(&mut admin, "SHOW DATABASES").await.number("pool_size"), 7);
    let isolation = View::of(&mut admin, "SHOW CONFIG").await.with("key", "isolation");
    assert_eq!((isolation.text("value"), isolation.text("changeable")), ("tracked".into(), "no".into()));
    let size = View::of(&mut admin, "SHOW CONFIG").await.with("key", "default_pool_size");
    assert_eq!((size.text("value"), size.text("changeable")), ("7".into(), "yes".into()));
    assert_eq!(sidepool.transaction().value("SELECT pg_backend_pid()").await, before, "servers stay");
    let mut stats = console(&sidepool).user("p_scram").wire().await;
    assert_eq!(stats.shown("SHOW STATE").await, "T D D D D C(SHOW) Z(I)");
    // A mistake changes nothing.
    sidepool.rewrite(&file("stats_users = []\n[limits]\npool_sise = 8\n"));
    let told = show_in_full(&admin.query("RELOAD").await);
    assert!(told.starts_with("E(ERROR | F0000 | ") && told.contains("pool_sise") && told.ends_with("Z(I)"), "{told}");
    assert_eq!(View::of(&mut admin, "SHOW DATABASES").await.number("pool_size"), 7);
    // Who is listed no more may nothing more, though he is connected.
    sidepool.rewrite(&file(""));
    assert_eq!(admin.shown("RELOAD").await, "C(RELOAD) Z(I)");
    assert_eq!(stats.shown("SHOW STATE").await, "E(42501) Z(I)");
}

#[tokio::test]
async fn set_counts_at_once_and_until_the_next_reload() {
    let file = |lines: &str| format!("upstream = \"{}\"\n{lines}", Postgres::shared().direct().url());
    let sidepool = Sidepool::launch(&[("timeout-queue-wait", "0")], &file("[limits]\npool_size = 1\n")).expect("it starts");
    let mut admin = console_of(&sidepool).await;
    let value = async |admin: &mut Wire, key: &str| View::of(admin, "SHOW CONFIG").await.with("key", key).text("value");
    let mut holder = sidepool.transaction().wire().await;
    holder.run("BEGIN").await;
    let pid = holder.backend().await;
    let mut waiter = sidepool.transaction().wire().await;
    waiter.send(&wire::query("SELECT 'served'")).await;
    until("it waits", async || View::of(&mut admin, "SHOW WAITERS").await.0.len() == 1).await;
    // By PgBouncer's name, in the simple protocol, and by ours in the extended one.
    assert_eq!(admin.shown("SET default_pool_size = 2").await, "C(SET) Z(I)");
    assert_eq!(waiter.awaited_value().await, "served");
    assert_eq!(
        (value(&mut admin, "limits.pool_size").await, value(&mut admin, "default_pool_size").await),
        ("2".into(), "2".into())
    );
    assert_eq!(show(&admin.exchange(&[unnamed("SET limits.pool_size TO 1"), wire::sync()]).await), "1 2 C(SET) Z(I)");
    assert_eq!(View::of(&mut admin, "SHOW DATABASES").await.number("pool_size"), 1);
    // It wins over a flag; PgBouncer's times are in seconds. What stands in the file by now is nobody's business yet.
    sidepool.rewrite("a mistake");
    assert_eq!(admin.shown("SET query_wait_timeout = 0.2").await, "C(SET) Z(I)");
    assert_eq!(
        (value(&mut admin, "timeouts.queue_wait").await, value(&mut admin, "query_wait_timeout").await),
        ("200ms".into(), "0.2".into())
    );
    waiter.send(&wire::query("SELECT 'late'")).await;
    let told = show_in_full(&waiter.until(b'E').await);
    assert!(told.starts_with("E(ERROR | 53300 | timed out after 2"), "{told}");
    // A reload that fails leaves it.
    assert_eq!(admin.shown("RELOAD").await, "E(F0000) Z(I)");
    assert_eq!(value(&mut admin, "timeouts.queue_wait").await, "200ms");
    assert_eq!(admin.shown("RESET query_wait_timeout").await, "C(RESET) Z(I)");
    assert_eq!(value(&mut admin, "timeouts.queue_wait").await, "0");
    sidepool.rewrite(&file("[limits]\npool_size = 3\n"));
    let told = show_in_full(&admin.query("RELOAD").await);
    assert_eq!(told, "N(NOTICE | 00000 | these had been set, and are as configured again: limits.pool_size) C(RELOAD) Z(I)");
    assert_eq!(value(&mut admin, "limits.pool_size").await, "3");
    assert_eq!(holder.backend().await, pid, "and nobody has lost a server");
}

#[tokio::test]
async fn what_cannot_be_set_changes_nothing_and_says_why() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("stats-users", "p_scram")]);
    let mut admin = console_of(&sidepool).await;
    let mut stats = console(&sidepool).user("p_scram").wire().await;
    for (sql, expected) in [
        (
            "SET limits.pool_size = 'a lot'",
            "E(ERROR | 22023 | limits.pool_size (from SET) must be a whole number from 1 to 10000, not \"a lot\". Correct it, or leave it out for the default. | Nothing has changed.) Z(I)",
        ),
        // As a whole, with what else there is.
        (
            "SET min_pool_size = 21",
            "E(ERROR | 22023 | limits.min_pool_size (21) is larger than limits.pool_size (20). Lower the one or raise the other. | Nothing has changed.) Z(I)",
        ),
        (
            "SET workers = 2",
            "E(ERROR | 55P02 | parameter \"workers\" cannot be changed without restarting Sidepool | Change it where it is configured, and restart; SHOW CONFIG says of each option whether it is changeable.) Z(I)",
        ),
        (
            "SET pool_sise = 2",
            "E(ERROR | 42704 | unrecognized configuration parameter \"pool_sise\" | Did you mean limits.pool_size? SHOW CONFIG lists those that there are.) Z(I)",
        ),
        ("SET extra_float_digits = 3", "N(NOTICE | 00000 | SET ignored) C(SET) Z(I)"),
        ("RESET ALL", "C(RESET) Z(I)"),
    ] {
        assert_eq!(show_in_full(&admin.query(sql).await), expected, "{sql}");
    }
    // Every option that SHOW CONFIG calls changeable takes its own value back.
    let all = View::of(&mut admin, "SHOW CONFIG").await.with("changeable", "yes");
    let mut tried = 0;
    for row in &all.0 {
        let cell = |name: &str| row.iter().find(|(column, _)| column == name).and_then(|(_, value)| value.clone());
        let (Some(key), Some(value)) = (cell("key"), cell("value")) else { continue };
        assert_eq!(admin.shown(&format!("SET {key} = '{value}'")).await, "C(SET) Z(I)", "{key} = {value}");
        tried += 1;
    }
    assert!(tried > 40, "{tried}");
    // Secrets are in no line. Who may only look sets nothing; and who is listed no more may nothing more.
    assert_eq!(admin.shown("SET auth_user = 'asker'; SET auth_password = 'hunter2'").await, "C(SET) C(SET) Z(I)");
    assert_eq!(stats.shown("SET limits.pool_size = 3").await, "E(42501) Z(I)");
    assert_eq!(admin.shown("SET stats_users = ''").await, "C(SET) Z(I)");
    assert_eq!(stats.shown("SHOW STATE").await, "E(42501) Z(I)");
    sidepool.log_has("option set until the next reload");
    assert!(!sidepool.log().contains("hunter"), "{}", sidepool.log());
}

#[tokio::test]
async fn shutdown_in_its_three_ways() {
    // At once.
    let mut sidepool = Sidepool::start(Postgres::shared(), &[]);
    let mut client = sidepool.transaction().wire().await;
    assert_eq!(console_of(&sidepool).await.shown("SHUTDOWN").await, "C(SHUTDOWN) Z(I)");
    assert_eq!(show_in_full(&client.until_closed().await), STOPPED);
    assert!(sidepool.ended().unwrap().success());
    // When transactions have ended.
    let mut sidepool = Sidepool::start(Postgres::shared(), &[]);
    let mut open = sidepool.transaction().wire().await;
    open.run("BEGIN").await;
    let mut console = console_of(&sidepool).await;
    assert_eq!(console.shown("SHUTDOWN WAIT_FOR_SERVERS").await, "C(SHUTDOWN) Z(I)");
    sidepool.log_has("draining");
    assert_eq!(View::of(&mut console, "SHOW STATE").await.with("key", "draining").text("value"), "yes");
    open.run("COMMIT").await;
    assert_eq!(show_in_full(&open.until_closed().await), STOPPED);
    assert!(sidepool.ended().unwrap().success());
    // When the last client has left of its own accord.
    let mut sidepool = Sidepool::start(Postgres::shared(), &[("http", "127.0.0.1:0")]);
    let mut client = sidepool.transaction().wire().await;
    assert_eq!(console_of(&sidepool).await.shown("SHUTDOWN WAIT_FOR_CLIENTS").await, "C(SHUTDOWN) Z(I)");
    sidepool.log_has("waiting for the last one to leave");
    assert_eq!(sidepool.readyz().await, 503, "nobody is to be sent here");
    let port = sidepool.transaction().port;
    until("nobody listens", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err()).await;
    assert_eq!(client.value("SELECT 'still here'").await, "still here");
    client.send(&wire::terminate()).await;
    assert!(sidepool.ended().unwrap().success());
}

#[tokio::test]
async fn who_is_at_the_console_is_seen_and_can_be_ended() {
    let sidepool = Sidepool::start(Postgres::shared(), &[]);
    let _client = sidepool.session().wire().await;
    let mut ops = console(&sidepool).parameter("application_name", "ops").wire().await;
    let mut idle = sidepool.session().database("pgbouncer").wire().await;
    let clients = View::of(&mut ops, "SHOW CLIENTS").await;
    let shown: Vec<_> = ["database", "state", "application_name"].iter().map(|name| clients.texts(name)).collect();
    assert_eq!(shown, [["postgres", "sidepool", "pgbouncer"], ["active", "active", "idle"], ["", "ops", ""]]);
    let lists = View::of(&mut ops, "SHOW LISTS").await;
    let counted = ["used_clients", "console_clients"].map(|list| View(lists.0.clone()).with("list", list).number("items"));
    assert_eq!(counted, [1, 2]);
    let id = clients.with("database", "pgbouncer").text("id");
    assert_eq!(ops.shown(&format!("KILL_CLIENT {id}")).await, "C(KILL_CLIENT) Z(I)");
    assert_eq!(show_in_full(&idle.until_closed().await), STOPPED);
    until("it is gone", async || View::of(&mut ops, "SHOW CLIENTS").await.0.len() == 2).await;
    assert_eq!(ops.shown(&format!("KILL_CLIENT {id}")).await, "E(42704) Z(I)");
    // In the middle of a command, which is taken back.
    let mut open = sidepool.transaction().wire().await;
    open.run("BEGIN").await;
    let mut pausing = console(&sidepool).parameter("application_name", "pausing").wire().await;
    pausing.send(&wire::query("SHOW VERSION; PAUSE")).await;
    until("it is paused", async || paused(&mut ops).await).await;
    let id = View::of(&mut ops, "SHOW CLIENTS").await.with("application_name", "pausing").text("id");
    ops.run(&format!("KILL_CLIENT {id}")).await;
    assert!(show_in_full(&pausing.until_closed().await).ends_with(STOPPED));
    until("it goes on", async || !paused(&mut ops).await).await;
}

#[tokio::test]
async fn the_console_lasts_as_long_as_the_process_and_is_told_that_it_ends() {
    let mut sidepool = Sidepool::start(Postgres::shared(), &[]);
    let mut open = sidepool.transaction().wire().await;
    open.run("BEGIN").await;
    let (mut one, mut two) = (console_of(&sidepool).await, console_of(&sidepool).await);
    sidepool.signal(rustix::process::Signal::TERM);
    sidepool.log_has("draining");
    assert_eq!(View::of(&mut one, "SHOW STATE").await.with("key", "draining").text("value"), "yes");
    open.run("COMMIT").await;
    for console in [&mut one, &mut two] {
        assert_eq!(show_in_full(&console.until_closed().await), STOPPED);
    }
    assert!(sidepool.ended().unwrap().success());
}

/// Nothing fails, and both see the same number of transactions.
#[tokio::test]
async fn pgbench_does_not_notice_pauses_and_reconnects() {
    const TRANSACTIONS: u64 = 8 * 1500;
    // Its own: the figures are to be this test's alone.
    let postgres = Postgres::start(Plan::default());
    let sidepool = Sidepool::start(&postgres, &[("pool-size", "4")]);
    let place = tempfile::tempdir().expect("the temporary directory is writable");
    let script = place.path().join("one.sql");
    std::fs::write(&script, "BEGIN;\nSELECT 1;\nEND;\n").expect("it is ours");
    let endpoint = sidepool.transaction();
    let mut console = console_of(&sidepool).await;
    let mut pgbench = Command::new("pgbench");
    pgbench.args(["--no-vacuum", "--client=8", "--transactions=1500", "--file"]).arg(&script);
    let mut running =
        pgbench.arg(endpoint.url()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pgbench is installed");
    let done = async |console: &mut Wire| {
        let stats = View::of(console, "SHOW STATS_TOTALS").await;
        if stats.0.is_empty() { 0 } else { stats.number("xact_count") }
    };
    until("it runs", async || done(&mut console).await > 100).await;
    let mut rounds = 0;
    while running.try_wait().expect("it is our child").is_none() && rounds < 40 {
        let command = ["PAUSE", "RECONNECT", "PAUSE postgres"][rounds % 3];
        assert_eq!(console.shown(command).await, format!("C({}) Z(I)", command.split(' ').next().unwrap_or_default()));
        if command != "RECONNECT" {
            let before = done(&mut console).await;
            assert_eq!(done(&mut console).await, before, "nothing runs in a pause");
            console.run("RESUME").await;
        }
        let before = done(&mut console).await;
        until("it goes on", async || done(&mut console).await > before || running.try_wait().is_ok_and(|s| s.is_some())).await;
        rounds += 1;
    }
    assert!(rounds >= 6, "{rounds} rounds");
    let output = tokio::time::timeout(PATIENCE * 4, running.wait_with_output()).await.expect("it ends").expect("its output");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("transactions actually processed: {TRANSACTIONS}/{TRANSACTIONS}")), "{said}");
    assert!(said.contains("number of failed transactions: 0 ("), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(done(&mut console).await, TRANSACTIONS);
}

#[tokio::test]
async fn top_draws_the_pools_and_says_why_it_cannot() {
    let sidepool = Sidepool::with_one_server();
    let mut holder = sidepool.transaction().wire().await;
    holder.run("CREATE TEMP TABLE topped (a int)").await;
    let port = sidepool.transaction().port.to_string();
    let upstream = format!("upstream = \"{}\"", Postgres::shared().direct().url());
    let top = Sidepool::once("top", &["--once", "--transaction-port", &port], &upstream);
    assert_eq!(top.code, Some(0), "{}", top.stderr);
    assert!(top.stdout.starts_with("clients 1/10000   servers 1/80   active\n"), "{}", top.stdout);
    assert!(top.stdout.contains("temporary tables") && top.stdout.contains("CREATE TEMP TABLE topped"), "{}", top.stdout);
    drop(sidepool);
    let top = Sidepool::once("top", &["--once", "--transaction-port", &port], &upstream);
    assert_eq!(top.code, Some(1));
    assert!(top.stderr.contains("cannot be looked at") && top.stderr.contains("Is it running"), "{}", top.stderr);
}

#[tokio::test]
async fn a_look_at_many_clients_is_quick() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "5")]);
    let endpoint = sidepool.transaction();
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.extend(at_once((0..50).map(|_| endpoint.clone()).map(|e| async move { e.wire().await })).await);
    }
    let mut console = console_of(&sidepool).await;
    let began = std::time::Instant::now();
    assert_eq!(View::of(&mut console, "SHOW CLIENTS").await.0.len(), 501, "with the one who looks");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
