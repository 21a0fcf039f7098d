//! The whole way from sources to settings.

mod projects;
mod reload;

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::wire::exchange::NamedStatements;

const UPSTREAM: (&str, &str) = ("upstream", "postgres://u:pw@db.example.com/d");

#[derive(Default)]
struct Try {
    sources: Sources,
    directory: Option<TempDir>,
}

impl Try {
    /// With an upstream in the environment.
    fn new() -> Self {
        Self::default().env("SIDEPOOL_UPSTREAM", UPSTREAM.1)
    }

    fn flag(mut self, key: &'static str, value: &str) -> Self {
        self.sources.flags.insert(key, value.to_owned());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// As `sidepool.toml` in the current directory.
    fn file(mut self, text: &str) -> Self {
        let directory = self.directory.get_or_insert_with(|| tempfile::tempdir().unwrap());
        std::fs::write(directory.path().join("sidepool.toml"), text).unwrap();
        self.sources.directory = directory.path().to_owned();
        self
    }

    fn cores(mut self, cores: usize) -> Self {
        self.sources.cores = cores;
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.sources)
    }

    fn settings(&self) -> std::sync::Arc<Settings> {
        self.load().unwrap_or_else(|error| panic!("{error}")).settings
    }

    /// With the directory's name taken out.
    fn error(&self) -> String {
        self.hinted().0
    }

    fn hinted(&self) -> (String, String) {
        let error = self.load().expect_err("must be refused");
        let directory = self.directory.as_ref().map(|directory| format!("{}/", directory.path().display()));
        (error.message.replace(&directory.unwrap_or_default(), ""), error.hint)
    }
}

#[test]
fn the_defaults() {
    let loaded = Try::new().env("HOME", "/home/me").cores(2).load().unwrap();
    let settings = &loaded.settings;
    let seconds = Duration::from_secs;
    assert_eq!(settings.listen.addresses, ["127.0.0.1", "::1"].map(|address| address.parse::<IpAddr>().unwrap()));
    assert_eq!((settings.listen.session_port, settings.listen.transaction_port), (Some(5432), Some(6543)));
    assert_eq!((&settings.listen.unix_socket_dir, settings.listen.http), (&None, None));
    assert_eq!((settings.client_auth, settings.workers), (ClientAuth::ScramSha256, 1));
    assert_eq!(settings.client_tls, ClientTls::Development { directory: "/home/me/.local/state/sidepool".into(), clients: None });
    let Limits {
        max_clients,
        max_server_connections,
        pool_size,
        min_pool_size,
        max_pinned,
        parallel_logins,
        prepared_statements_per_server,
        prepared_statements_per_client,
        prepared_bytes_per_client,
        statement_bytes,
        startup_bytes,
        max_pools,
    } = settings.limits;
    assert_eq!((startup_bytes, max_pools), (crate::wire::startup::STARTUP_BYTES_MAX, 0));
    assert_eq!((max_clients, max_server_connections, pool_size, min_pool_size, parallel_logins), (10_000, 80, 20, 0, 4));
    assert_eq!(max_pinned, 0);
    assert_eq!((prepared_statements_per_server, prepared_statements_per_client, statement_bytes), (500, 10_000, 16 << 20));
    assert_eq!(prepared_bytes_per_client, 256 << 20);
    let t = &settings.timeouts;
    assert_eq!([t.client_login, t.queue_wait, t.queue_notice], [60, 60, 5].map(seconds));
    assert_eq!([t.client_idle, t.idle_in_transaction], [Duration::ZERO; 2]);
    assert_eq!([t.server_connect, t.server_down, t.server_lifetime, t.server_idle], [15, 4, 3600, 600].map(seconds));
    assert_eq!([t.other_database_idle, t.server_check, t.recovery, t.drain], [1, 30, 5, 30].map(seconds));
    assert_eq!((settings.log.filter.as_str(), settings.log.format), ("info", LogFormat::Text));
    assert_eq!((loaded.notes.as_slice(), loaded.source.as_str()), (&[] as &[String], "SIDEPOOL_UPSTREAM"));
}

/// Several options of one kind have the same default: only another value tells whether each goes into its own place.
#[test]
fn every_option_fills_the_field_of_its_name() {
    use kind::Kind;
    for option in options::all() {
        let (given, shown) = match option.kind {
            Kind::Integer { .. } => ("7", "7"),
            Kind::Automatic { .. } => ("7", "7"),
            Kind::Port(_) => ("7", "Some(7)"),
            Kind::Duration { .. } => ("7s", "7s"),
            Kind::Size { .. } => ("7KiB", "7168"),
            _ => continue,
        };
        let settings = format!("{:?}", Try::new().flag(option.key, given).settings());
        assert!(settings.contains(&format!("{}: {shown}", option.name())), "{}: {settings}", option.key);
    }
}

#[test]
fn a_later_source_overrides_an_earlier_one() {
    let file = Try::new().file("[limits]\npool_size = 30\nmax_clients = 31\nparallel_logins = \"32\"");
    let env = file.env("SIDEPOOL_POOL_SIZE", "40").env("SIDEPOOL_MAX_CLIENTS", "41");
    let loaded = env.flag("limits.pool_size", "50").load().unwrap();
    let limits = &loaded.settings.limits;
    assert_eq!((limits.pool_size, limits.max_clients, limits.parallel_logins), (50, 41, 32));
    assert!(loaded.source.ends_with("sidepool.toml, SIDEPOOL_UPSTREAM, SIDEPOOL_MAX_CLIENTS, SIDEPOOL_POOL_SIZE, --pool-size"));
}

#[test]
fn a_profile_changes_defaults_and_nothing_else() {
    let of = |settings: &Settings| (settings.limits.pool_size, settings.limits.max_clients, settings.session_overflow);
    let ours = (20, 10_000, SessionOverflow::Wait);
    let hosted = (15, 200, SessionOverflow::Refuse);
    assert_eq!(of(&Try::new().settings()), ours);
    for by in [
        Try::new().file("profile = \"supabase\""),
        Try::new().env("SIDEPOOL_PROFILE", "supabase"),
        Try::new().file("profile = \"transparent\"").flag("profile", "supabase"),
    ] {
        let settings = by.settings();
        assert_eq!(of(&settings), hosted);
        assert_eq!(settings.projects[0].pool_size, 15);
        assert_eq!(settings.startup_parameters, StartupParameters::Dropped);
        assert_eq!(settings.error_texts, ErrorTexts::Supabase);
        assert_eq!(settings.named_statements, NamedStatements::Forgotten);
        assert_eq!((settings.limits.startup_bytes, settings.limits.max_pools), (1024, 50));
    }
    let flag_wins = Try::new().env("SIDEPOOL_PROFILE", "supabase").flag("profile", "transparent");
    assert_eq!(of(&flag_wins.settings()), ours);
    let own = Try::new().file("profile = \"supabase\"\nsession_overflow = \"wait\"\nlimits.pool_size = 3");
    assert_eq!(of(&own.settings()), (3, 200, SessionOverflow::Wait));
    assert!(Try::new().file("profile = \"hosted\"").error().contains("profile"));
}

#[test]
fn the_lint_is_off_unless_dev_or_somebody_turns_it_on() {
    assert_eq!(Try::new().settings().lint, Lint::Off);
    assert_eq!(Try::new().env("SIDEPOOL_LINT", "notice").settings().lint, Lint::Notice);
    let in_dev =
        |file: &str| Prepared::new(&Try::new().file(file).sources).unwrap().lint_unless_told(Lint::Log).finish().unwrap();
    assert_eq!(in_dev("").settings.lint, Lint::Log);
    assert_eq!(in_dev("lint = \"off\"").settings.lint, Lint::Off);
}

#[test]
fn the_file_is_the_flags_then_the_variables_then_the_one_here() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, size: usize| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("limits.pool_size = {size}")).unwrap();
        path
    };
    let (flag, env) = (write("flag.toml", 1), write("env.toml", 2));
    let mut here = Try::new().file("limits.pool_size = 3");
    assert_eq!(here.settings().limits.pool_size, 3);
    here = here.env("SIDEPOOL_CONFIG", env.to_str().unwrap());
    assert_eq!(here.settings().limits.pool_size, 2);
    here.sources.config_file = Some(flag);
    assert_eq!(here.settings().limits.pool_size, 1);
    here.sources.config_file = Some("/nowhere/x.toml".into());
    assert_eq!(here.error(), "the configuration file /nowhere/x.toml cannot be read: No such file or directory (os error 2)");
}

#[test]
fn relative_paths_in_a_file_start_from_it() {
    let file = Try::new().file("[client_tls]\ncertificate = \"a.crt\"\nkey = \"/b.key\"");
    let directory = file.sources.directory.clone();
    let certificates = |file: &Try| match file.settings().client_tls.clone() {
        ClientTls::Files { certificates, .. } => certificates,
        other => panic!("{other:?}"),
    };
    let pair = |certificate, key: &str| CertificateFiles { certificate, key: key.into() };
    assert_eq!(certificates(&file), [pair(directory.join("a.crt"), "/b.key")]);
    assert_eq!(certificates(&file.flag("client_tls.certificate", "c.crt")), [pair("c.crt".into(), "/b.key")]);
    let file = Try::new().file("[client_tls]\ncertificate = [\"a.crt\", \"b, c.crt\"]\nkey = \"/a.key, /b.key\"");
    let directory = file.sources.directory.clone();
    assert_eq!(certificates(&file), [pair(directory.join("a.crt"), "/a.key"), pair(directory.join("b, c.crt"), "/b.key")]);
}

#[test]
fn whoever_asks_for_client_certificates_gets_them_asked_for() {
    let file = |demand: &str| Try::new().env("HOME", "/h").file(&format!("[client_tls]\nclient_ca = \"/ca.crt\"\n{demand}"));
    let demand = |text: &str| {
        let tls = file(text).settings().client_tls.clone();
        let clients = tls.clients().expect("they are asked for");
        assert_eq!(clients.authority, std::path::Path::new("/ca.crt"));
        clients.demand
    };
    assert_eq!(demand(""), ClientCert::VerifyFull);
    assert_eq!(demand("client_cert = \"verify-ca\""), ClientCert::VerifyCa);
    assert_eq!(demand("client_cert = \"cert\""), ClientCert::Cert);
    assert_eq!(Try::new().env("HOME", "/h").settings().client_tls.clients(), None);
}

#[test]
fn misspelt_keys_name_the_nearest_one() {
    for (text, message) in [
        ("[listen]\nsesion_port = 1", "unknown key `listen.sesion_port` in sidepool.toml; did you mean `listen.session_port`?"),
        ("[limts]\npool_size = 1", "unknown key `limts` in sidepool.toml; did you mean `limits`?"),
        ("pool_size = 1", "unknown key `pool_size` in sidepool.toml; did you mean `limits.pool_size`?"),
        ("[listen]\npool-size = 1", "unknown key `listen.pool-size` in sidepool.toml; did you mean `limits.pool_size`?"),
        (
            "[limits]\nmax_client_conn = 1",
            "unknown key `limits.max_client_conn` in sidepool.toml; did you mean `limits.max_clients`?",
        ),
        ("worker = 1", "unknown key `worker` in sidepool.toml; did you mean `workers`?"),
        ("project.a.upstream = \"\"", "unknown key `project` in sidepool.toml; did you mean `projects`?"),
        ("quantum = 1", "unknown key `quantum` in sidepool.toml"),
        ("\"a[99999999999]\" = 1", "unknown key `a[99999999999]` in sidepool.toml"),
        (
            "[projects.a]\nupstrem = \"\"",
            "unknown key `projects.a.upstrem` in sidepool.toml; did you mean `projects.a.upstream`?",
        ),
        ("[[users]]\nname = \"a\"\npasswort = \"\"", "unknown key `users.passwort` in sidepool.toml; did you mean `password`?"),
    ] {
        assert_eq!(Try::new().file(text).error(), message, "{text}");
    }
}

#[test]
fn wrong_values_name_the_key_the_place_and_what_was_expected() {
    let file = |text: &str| Try::default().env("DATABASE_URL", UPSTREAM.1).file(text).error();
    assert_eq!(
        file("limits.pool_size = 0"),
        "limits.pool_size in sidepool.toml must be a whole number from 1 to 10000, not \"0\""
    );
    assert_eq!(
        Try::new().env("SIDEPOOL_POOL_SIZE", "many").error(),
        "limits.pool_size (from SIDEPOOL_POOL_SIZE) must be a whole number from 1 to 10000, not \"many\""
    );
    assert_eq!(
        Try::new().flag("listen.session_port", "70000").error(),
        "listen.session_port (from --session-port) must be a port from 0 to 65535, or off, not \"70000\""
    );
    let (message, hint) = Try::new().file("timeouts.drain = 30").hinted();
    assert_eq!(
        (message.as_str(), hint.as_str()),
        (
            "timeouts.drain in sidepool.toml must be a duration from 0 to 365d with its unit: ms, s, min, h or d, not \"30\"",
            "A bare number has no unit: write 30s or 30ms."
        )
    );
    for text in [
        "limits = 3",
        "limits.pool_size = [1]",
        "limits.pool_size = {}",
        "limits.pool_size = 1.5",
        "limits.pool_size = -1",
        "limits.pool_size = true",
        "limits.pool_size = 1979-05-27",
        "limits.statement_bytes = 64",
        "limits.statement_bytes = \"2GiB\"",
        "timeouts.client_login = 0",
        "workers = 65",
        "workers = \"\"",
        "client_auth = \"md5\"",
        "client_tls.enabled = \"maybe\"",
        "listen.addresses = [\"localhost\", \"nowhere\"]",
        "listen.addresses = [[]]",
        "listen.addresses = \"\"",
        "listen.http = 9930",
        "listen.unix_socket_dir = \"\"",
        "log.filter = \"inof\"",
        "log.filter = \"info,a=b=c\"",
        "log.format = \"xml\"",
        "upstream = \"\"",
        "upstream = []",
        "projects = 1",
        "projects.a = 1",
        "users = 1",
    ] {
        assert!(file(text).contains("must be"), "{text}: {}", file(text));
    }
}

#[test]
fn addresses_ports_and_switches_are_read() {
    let listen = |text: &str| Try::new().file(&format!("[listen]\n{text}")).settings().listen.clone();
    let shown = |text: &str| listen(text).addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(shown("addresses = \"*\""), "0.0.0.0 ::");
    assert_eq!(shown("addresses = \"::1, 127.0.0.1,localhost\""), "::1 127.0.0.1");
    assert_eq!(shown("addresses = [\"10.0.0.1\", \"localhost\"]"), "10.0.0.1 127.0.0.1 ::1");
    assert_eq!(shown("addresses = []\nunix_socket_dir = \"/run\""), "");
    assert_eq!(shown("addresses = \"off\"\nunix_socket_dir = \"/run\""), "");
    assert_eq!(listen("session_port = \"off\"").session_port, None);
    assert_eq!(listen("session_port = 0\ntransaction_port = 0").transaction_port, Some(0));
    assert_eq!(listen("http = \"localhost:9930\"").http, Some("127.0.0.1:9930".parse().unwrap()));
    assert_eq!(listen("http = \"[::1]:9930\"").http, Some("[::1]:9930".parse().unwrap()));
    for (text, on) in [("true", true), ("\"on\"", true), ("false", false), ("\"0\"", false)] {
        let tls = Try::new().env("HOME", "/h").file(&format!("client_tls.enabled = {text}")).settings().client_tls.clone();
        assert_eq!(tls != ClientTls::Off, on, "{text}");
    }
    for filter in ["debug", "INFO", "info,sidepool::pool=trace", "sidepool::pool=trace", "off"] {
        assert_eq!(Try::new().flag("log.filter", filter).settings().log.filter, filter);
    }
}

#[test]
fn workers_follow_the_cores() {
    let workers = |cores, given: &str| Try::new().cores(cores).flag("workers", given).settings().workers;
    assert_eq!([0, 1, 2, 3, 4, 64].map(|cores| workers(cores, "auto")), [1, 1, 1, 3, 4, 4]);
    assert_eq!(workers(2, "7"), 7);
}

#[test]
fn options_are_checked_against_each_other() {
    for (text, message) in [
        ("[listen]\nsession_port = 6543", "listen.session_port and listen.transaction_port are the same"),
        (
            "[listen]\nsession_port = \"off\"\ntransaction_port = \"off\"",
            "listen.session_port and listen.transaction_port are both off",
        ),
        ("listen.addresses = []", "listen.addresses is off and listen.unix_socket_dir is not set, so no client could connect"),
        ("listen.http = \"127.0.0.1:5432\"", "listen.http has port 5432, where clients of PostgreSQL are listened for"),
        ("listen.http = \"0.0.0.0:6543\"", "listen.http has port 6543, where clients of PostgreSQL are listened for"),
        (
            "listen.http = \"0.0.0.0:9930\"",
            "listen.http is 0.0.0.0:9930, which other machines reach, and listen.http_token is not set",
        ),
        ("limits.min_pool_size = 21", "limits.min_pool_size (21) is larger than limits.pool_size (20)"),
        (
            "[projects.a]\nupstream = \"postgres://h\"\npool_size = 3\nmin_pool_size = 4",
            "projects.a.min_pool_size (4) is larger than projects.a.pool_size (3)",
        ),
        (
            "client_auth = \"trust\"\nlisten.addresses = [\"127.0.0.2\", \"10.0.0.1\"]",
            "client_auth is trust while listen.addresses has 10.0.0.1, which other machines reach",
        ),
        (
            "client_auth = \"trust\"\nlisten.addresses = \"*\"",
            "client_auth is trust while listen.addresses has 0.0.0.0, which other machines reach",
        ),
        ("client_tls.certificate = \"/c\"", "client_tls.certificate is set and client_tls.key is not"),
        ("client_tls.key = \"/k\"", "client_tls.key is set and client_tls.certificate is not"),
        (
            "client_tls.certificate = \"/c, /d\"\nclient_tls.key = \"/k\"",
            "client_tls.certificate names 2 files and client_tls.key 1",
        ),
        ("client_tls.client_cert = \"cert\"", "client_tls.client_cert is set and client_tls.client_ca is not"),
        (
            "client_tls.client_ca = \"/ca\"\nclient_tls.enabled = false",
            "client_tls.client_ca is set, but client_tls.enabled is false, so no client could show a certificate",
        ),
        (
            "client_tls.client_ca = \"/ca\"",
            "client_tls.client_ca is set, but neither HOME nor state_dir says where a development certificate could be kept, so \
             there would be no TLS",
        ),
    ] {
        assert_eq!(Try::new().file(text).error(), message, "{text}");
    }
    let long = format!("listen.unix_socket_dir = \"/{}\"", "d".repeat(92));
    assert_eq!(Try::new().file(&long).error(), "listen.unix_socket_dir is longer than the 92 bytes a socket's path may have");
    let trusted = Try::new().file("client_auth = \"trust\"\nlisten.unix_socket_dir = \"/run\"").settings();
    assert_eq!(trusted.client_auth, ClientAuth::Trust);
    // Another address has ports of its own.
    assert!(Try::new().file("listen.http = \"10.0.0.1:5432\"\nlisten.http_token = \"t\"").load().is_ok());
}

#[test]
fn the_development_certificate_is_kept_where_the_environment_says() {
    let tls = |test: Try| test.settings().client_tls.clone();
    let at = |path: &str| ClientTls::Development { directory: path.into(), clients: None };
    assert_eq!(tls(Try::new().env("HOME", "/h").env("XDG_STATE_HOME", "/x")), at("/x/sidepool"));
    assert_eq!(tls(Try::new().env("HOME", "/h").env("XDG_STATE_HOME", "relative")), at("/h/.local/state/sidepool"));
    assert_eq!(tls(Try::new().env("HOME", "/h").flag("state_dir", "/s")), at("/s"));
    assert_eq!(tls(Try::new().env("HOME", "/h").flag("client_tls.enabled", "off")), ClientTls::Off);
    let homeless = Try::new().load().unwrap();
    assert_eq!((&homeless.settings.client_tls, homeless.notes.len()), (&ClientTls::Off, 1));
}

#[test]
fn notes_say_what_has_no_effect() {
    let notes = Try::default()
        .env("SIDEPOOL_PORT", "tcp://10.0.0.1:5432")
        .env("HOME", "/h")
        .file("[projects.a]\nupstream = \"postgres://h/d?pgbouncer=true\"\npool_size = 100")
        .load()
        .unwrap()
        .notes;
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[1].ends_with("parameters in the upstream's URL that have no effect here: pgbouncer"));
    assert_eq!(notes[2], "project `a`: pools stay below pool_size 100, for max_server_connections is 80");
}

#[test]
fn syntax_errors_keep_their_place_and_lose_the_line() {
    let (message, _) = Try::default().file("workers = 1\nupstream = postgres://u:hunter2@h/d\n").hinted();
    assert!(message.starts_with("syntax error in sidepool.toml at line 2, column "), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    let overflow = Try::default().file("workers = 99999999999999999999").error();
    assert_eq!(overflow, "syntax error in sidepool.toml: it is not TOML, or holds a number out of range");
}

#[test]
fn files_are_bounded() {
    let (message, _) = Try::default().file(&"#".repeat((4 << 20) + 1)).hinted();
    assert!(message.ends_with("it is longer than 4194304 bytes"), "{message}");
}

#[test]
fn passwords_keep_their_digits() {
    let settings = Try::default().env("SIDEPOOL_UPSTREAM", "postgres://u:0123@h").settings();
    assert_eq!(settings.projects[0].upstream.password.as_ref().map(Password::reveal), Some("0123"));
}

proptest! {
    /// Whatever stands in the file, the variables and the flags: an answer, no panic, and no password in it.
    #[test]
    fn hostile_values_are_refused_in_words(
        value in "\\PC{0,30}",
        password in "[a-z\"'\\\\=\\[\\]#\n@/?:%]{0,5}Z9q[a-z\"'\\\\=\\[\\]#\n@/?:%]{0,5}",
        index in 0..options::all().count(),
    ) {
        let option = options::all().nth(index).unwrap();
        let mut tries = vec![
            Try::default().env("DATABASE_URL", "postgres://h").env(option.env, &value),
            Try::default().env("DATABASE_URL", "postgres://h").flag(option.key, &value),
            Try::default().file(&format!("{} = {value}", option.key)),
            Try::default().file(&format!("upstream = postgres://u:{password}@h/d")),
            Try::default().file(&format!("upstream = \"postgres://u:{password}@h/d\"")),
            Try::default().file(&format!("[projects.a]\nupstream = \"postgres://u:{password}@h/d\"\npool_size = 0")),
            Try::default().file(&format!("users.a = \"{password}\"")),
            Try::default().file(&format!("users.a = {{ password = {password} }}")),
        ];
        tries.push(Try::default().flag("upstream", &format!("postgres://u:{password}@h/d")));
        for test in tries {
            let said = match test.load() {
                Err(error) => error.to_string(),
                Ok(loaded) => format!("{:?} {:?}", loaded.notes, loaded.source),
            };
            prop_assert!(!said.contains(&password), "{}", said);
        }
    }
}
