//! Upstreams, projects and users.

use super::*;

fn names(settings: &Settings) -> Vec<&str> {
    settings.projects.iter().map(|project| project.name.as_str()).collect()
}

fn host(project: &Project) -> &str {
    match &project.upstream.host {
        Host::Tcp(host) => host,
        Host::Unix(_) => panic!("a Unix socket"),
    }
}

#[test]
fn one_upstream_is_a_project_that_takes_any_name() {
    for test in [
        Try::default().flag("upstream", UPSTREAM.1),
        Try::default().env("SIDEPOOL_UPSTREAM", UPSTREAM.1),
        Try::default().env("DATABASE_URL", UPSTREAM.1),
        Try::default().file(&format!("upstream = \"{}\"\n[[users]]\nname = \"a\"\npassword = \"b\"", UPSTREAM.1)),
    ] {
        let settings = test.settings();
        assert_eq!((names(&settings), host(&settings.projects[0])), (vec!["*"], "db.example.com"));
        assert_eq!(settings.projects[0].users.len(), usize::from(test.directory.is_some()));
    }
    // The ambient one yields to every other.
    let both = Try::default().env("DATABASE_URL", "postgres://ambient").flag("upstream", "postgres://explicit");
    assert_eq!(host(&both.settings().projects[0]), "explicit");
    let beside = Try::default().env("DATABASE_URL", "mangled").file("projects.a.upstream = \"postgres://listed\"");
    assert_eq!(names(&beside.settings()), ["a"]);
}

#[test]
fn without_an_upstream_it_says_what_to_do() {
    let (message, hint) = Try::default().env("DATABASE_URL", "").hinted();
    assert_eq!(message, "there is no upstream: nothing says which PostgreSQL to pool");
    assert!(hint.contains("--upstream") && hint.contains("sidepool dev"));
}

#[test]
fn projects_keep_the_files_order_and_their_own_limits() {
    let settings = Try::default()
        .file(
            "[limits]\npool_size = 9\n\
             [projects.zebra]\nupstream = \"postgres://z\"\npool_size = 3\nmin_pool_size = 2\nmax_server_connections = 30\n\
             [projects.Apple-1]\nupstream = \"postgres://a\"\n\
             [projects.mole]\nupstream = \"postgres://m\"\n",
        )
        .settings();
    assert_eq!(names(&settings), ["zebra", "Apple-1", "mole"]);
    let sizes = |index: usize| {
        let project = &settings.projects[index];
        (project.pool_size, project.min_pool_size, project.max_server_connections)
    };
    assert_eq!((sizes(0), sizes(1)), ((3, 2, 30), (9, 0, 80)));
    assert_eq!(settings.default_project().name, "zebra");
}

#[test]
fn the_default_project_is_default_then_any_then_the_first() {
    let default = |names: &[&str], upstream: Option<&str>| {
        let file: String =
            names.iter().map(|name| format!("[projects.\"{name}\"]\nupstream = \"postgres://{name}.file\"\n")).collect();
        let file = file.replace("postgres://*.", "postgres://any.");
        let test = Try::default().file(&file);
        let settings =
            upstream.map_or_else(|| test.settings(), |url| Try::default().file(&file).flag("upstream", url).settings());
        let project = settings.default_project();
        (project.name.clone(), host(project).to_owned(), settings.projects.len())
    };
    let is = |name: &str, host: &str, count: usize| (name.to_owned(), host.to_owned(), count);
    assert_eq!(default(&["b", "*", "default"], None), is("default", "default.file", 3));
    assert_eq!(default(&["b", "*"], None), is("*", "any.file", 2));
    assert_eq!(default(&["b", "c"], None), is("b", "b.file", 2));
    // The explicit upstream wins, under the name that makes it the default.
    let flag = Some("postgres://flag");
    assert_eq!(default(&["b", "*", "default"], flag), is("default", "flag", 3));
    assert_eq!(default(&["b", "*"], flag), is("*", "flag", 2));
    assert_eq!(default(&["b", "c"], flag), is("*", "flag", 3));
}

#[test]
fn users_are_read_from_lists_and_tables() {
    let settings = Try::default()
        .file(
            "[users]\nall = \"1\"\nboth = \"2\"\n\
             [projects.list]\nupstream = \"postgres://h\"\n\
             [[projects.list.users]]\nname = \"both\"\npassword = \"sesame\"\n\
             [projects.table]\nupstream = \"postgres://h\"\n\
             [projects.table.users]\nplain = \"0123\"\n\
             [projects.table.users.\"with.dot\"]\npassword = \"x\"\n",
        )
        .settings();
    let users = |index: usize| {
        let reveal = |user: &User| match &user.secret {
            Secret::Password(password) => format!("{}={}", user.name, password.reveal()),
            Secret::Verifier(_) => panic!("no verifier here"),
        };
        settings.projects[index].users.iter().map(reveal).collect::<Vec<_>>()
    };
    assert_eq!(users(0), ["both=sesame", "all=1"]);
    assert_eq!(users(1), ["plain=0123", "with.dot=x", "all=1", "both=2"]);
    assert!(!format!("{settings:?}").contains("sesame"));
}

#[test]
fn mistakes_in_projects_and_users_are_named() {
    let project = "[projects.a]\nupstream = \"postgres://h\"\n";
    for (text, message) in [
        ("[projects.a]\n", "projects.a in sidepool.toml has no upstream"),
        (
            "[projects.\"a.b\"]\n",
            "the project name `a.b` in sidepool.toml has a dot, and a user name such as user.project is split at the last one",
        ),
        ("[projects.\"\"]\n", "the project name `` in sidepool.toml must have 1 to 63 printable ASCII characters"),
        ("[projects.\"a b\"]\n", "the project name `a b` in sidepool.toml must have 1 to 63 printable ASCII characters"),
        ("[projects.\"a*\"]\n", "the project name `a*` in sidepool.toml has a * beside other characters"),
        (
            &format!("{project}pool_size = \"x\""),
            "projects.a.pool_size in sidepool.toml must be a whole number from 1 to 10000, not \"x\"",
        ),
        (&format!("{project}users = [1]"), "projects.a.users in sidepool.toml must be a table"),
        ("users = [{ password = \"p\" }]", "the user `` of `users` in sidepool.toml has no name"),
        ("users.a = 5", "the user `a` of `users` in sidepool.toml has no password, or one that is not a text"),
        ("users.a = \"\"", "the user `a` of `users` in sidepool.toml has no password, or one that is not a text"),
        ("users = [{ name = \"a\" }]", "the user `a` of `users` in sidepool.toml has no password, or one that is not a text"),
        ("users.a = \"SCRAM-SHA-256$x\"", "the user `a` of `users` in sidepool.toml has a mangled verifier"),
        (
            "[[users]]\nname = \"a\"\npassword = \"1\"\n[[users]]\nname = \"a\"\npassword = \"2\"",
            "the user `a` of `users` in sidepool.toml stands there twice",
        ),
        (
            "[projects.a]\nupstream = \"postgres://h:x\"",
            "projects.a.upstream in sidepool.toml: the port in the URL is not a number from 1 to 65535",
        ),
    ] {
        assert_eq!(Try::default().file(text).error(), message, "{text}");
    }
}

#[test]
fn an_upstream_that_is_sidepool_itself_is_refused() {
    let refused = |url: &str, listen: &str| {
        let test = Try::default().env("DATABASE_URL", url).file(&format!("[listen]\n{listen}"));
        test.load().is_err()
    };
    assert_eq!(
        Try::default().env("DATABASE_URL", "postgres://u:hunter2@localhost:6543/d").hinted(),
        (
            "DATABASE_URL points at port 6543 of this machine, where Sidepool itself listens (listen.transaction_port)".into(),
            "Give the database's own address with --upstream, or move Sidepool to another port.".into()
        )
    );
    assert!(refused("postgres://LOCALHOST./d", ""));
    assert!(refused("postgres://127.0.0.1/d", ""));
    assert!(refused("postgres://[::1]/d", ""));
    assert!(refused("postgres://0.0.0.0/d", ""));
    assert!(refused("postgres://[::ffff:127.0.0.1]/d", ""));
    assert!(refused("postgres://127.0.0.1/d", "addresses = \"::\""));
    assert!(refused("postgres://127.0.0.9/d", "addresses = \"0.0.0.0\""));
    assert!(refused("postgres://10.0.0.1/d", "addresses = \"10.0.0.1\""));
    assert!(refused("postgres:///d?host=/run/x", "unix_socket_dir = \"/run/x\""));
    assert!(!refused("postgres://127.0.0.2/d", ""));
    assert!(!refused("postgres://localhost:5433/d", ""));
    assert!(!refused("postgres://localhost/d", "session_port = 5433"));
    assert!(!refused("postgres://localhost/d", "session_port = \"off\""));
    assert!(!refused("postgres://localhost/d", "addresses = \"10.0.0.1\""));
    assert!(!refused("postgres://[::1]/d", "addresses = \"0.0.0.0\""));
    assert!(!refused("postgres:///d?host=/run/postgresql", "unix_socket_dir = \"/run/x\""));
}

#[test]
fn an_own_upstream_takes_the_default_projects_place() {
    let (own, _) = url::parse("postgres://postgres:own@127.0.0.1:54329/postgres").unwrap();
    let user = |name: &str, password: &str| User { name: name.into(), secret: Secret::Password(Password::new(password)) };
    let users = vec![user("app", "own"), user("root", "own")];
    let finish = |test: Try| Prepared::new(&test.sources).unwrap().finish_with(own.clone(), users.clone(), "root").unwrap();

    // The one that would be printed into .env by an earlier start.
    let loaded = finish(Try::default().env("HOME", "/h").env("DATABASE_URL", "postgres://localhost:6543"));
    assert_eq!((names(&loaded.settings), loaded.notes.len()), (vec!["*"], 0));

    let file = "[users]\napp = \"x\"\n[projects.a]\nupstream = \"postgres://a\"\n[projects.default]\nupstream = \"mangled\"\npool_size = 3";
    let loaded = finish(Try::new().env("HOME", "/h").file(file));
    assert_eq!(names(&loaded.settings), ["default", "a"]);
    assert_eq!(loaded.settings.default_project().upstream, own);
    assert_eq!(loaded.settings.projects[0].pool_size, 3);
    assert_eq!(loaded.settings.projects[0].logins.auth_user.as_deref(), Some("root"));
    assert_eq!(loaded.settings.projects[0].users, [user("app", "x"), user("root", "own")]);
    assert_eq!(loaded.notes, ["upstream (from SIDEPOOL_UPSTREAM) has no effect: the upstream is Sidepool's own PostgreSQL"]);
}

#[test]
fn a_project_may_have_its_own_way_to_the_socket() {
    let settings = Try::default()
        .file(
            "upstream_socket = \"off\"\n\
             [projects.a]\nupstream = \"postgres://localhost:7000\"\nupstream_socket = \"/srv/pg\"\n\
             [projects.b]\nupstream = \"postgres://localhost:7000\"\n",
        )
        .settings();
    let sockets: Vec<_> = settings.projects.iter().map(|project| &project.upstream.socket).collect();
    assert_eq!(sockets, [&UpstreamSocket::In("/srv/pg".into()), &UpstreamSocket::Off]);
    let usual = Try::default().flag("upstream", "postgres://localhost:7000").settings();
    assert_eq!(usual.projects[0].upstream.socket, UpstreamSocket::Auto);
    let (message, _) = Try::default().file("[projects.a]\nupstream = \"postgres://h\"\nupstream_socket = \"srv/pg\"\n").hinted();
    assert!(message.contains("must be auto, off or the absolute path of a directory"), "{message}");
}
