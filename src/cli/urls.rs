//! Connection strings to paste.

use std::net::IpAddr;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::{ClientAuth, Host, Listen, Project, Settings, Upstream};

/// RFC 3986's unreserved characters stay; no quotation mark does, so that the result can stand in a shell's or `.env`'s quotes.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A directory may keep its slashes in a parameter.
const ESCAPED_IN_PATH: &AsciiSet = &ESCAPED.remove(b'/');

const PLACEHOLDER: &str = "[YOUR-PASSWORD]";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passwords {
    /// `[YOUR-PASSWORD]`, as Supabase's dashboard has it.
    Hidden,
    Shown,
}

/// Where clients reach Sidepool. A mode that is switched off has no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: Host,
    pub session_port: Option<u16>,
    pub transaction_port: Option<u16>,
}

impl Endpoint {
    /// As configured. Where a port is 0, put the one that was bound into its place.
    pub fn of(listen: &Listen) -> Self {
        let here = |address: &IpAddr| address.is_loopback() || address.is_unspecified();
        let host = match (listen.addresses.as_slice(), &listen.unix_socket_dir) {
            ([], directory) => Host::Unix(directory.clone().unwrap_or_else(|| PathBuf::from("/tmp"))),
            (addresses, _) if addresses.iter().any(here) => Host::Tcp("localhost".to_owned()),
            ([first, ..], _) => Host::Tcp(first.to_string()),
        };
        Self { host, session_port: listen.session_port, transaction_port: listen.transaction_port }
    }

    fn session(&self) -> Option<u16> {
        self.session_port.or(self.transaction_port)
    }

    fn transaction(&self) -> Option<u16> {
        self.transaction_port.or(self.session_port)
    }
}

/// For every project: psql, Prisma's two variables, postgres.js, pgbench. Explanations begin with `#`.
pub fn lines(settings: &Settings, endpoint: &Endpoint, passwords: Passwords) -> Vec<String> {
    let mut lines = Vec::new();
    for project in &settings.projects {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(project_lines(settings, project, endpoint, passwords));
    }
    lines
}

/// Those of the default project for an application, with passwords: transaction mode and session mode. `None` where either
/// is switched off.
pub fn pair(settings: &Settings, endpoint: &Endpoint) -> Option<(String, String)> {
    let project = settings.default_project();
    let login = login(settings, project, &reference(settings, project), Passwords::Shown);
    let url = |port: u16| url(&login, endpoint, port, &project.upstream.database);
    Some((url(endpoint.transaction_port?), url(endpoint.session_port?)))
}

fn project_lines(settings: &Settings, project: &Project, endpoint: &Endpoint, passwords: Passwords) -> Vec<String> {
    let reference = reference(settings, project);
    let login = login(settings, project, &reference, passwords);
    let url = |port: Option<u16>| port.map(|port| url(&login, endpoint, port, &project.upstream.database));
    let (Some(session), Some(transaction)) = (url(endpoint.session()), url(endpoint.transaction())) else { return Vec::new() };

    let mut lines = vec![format!("# Project {}: {}", project.name, address(&project.upstream))];
    if project.name == "*" {
        lines.push(format!("# Any other project name in the place of {reference} leads there too."));
    }
    if !project.users.is_empty() {
        let names: Vec<_> = project.users.iter().map(|user| user.name.escape_debug().to_string()).collect();
        lines.push(format!("# May log in besides {}: {}", project.upstream.user.escape_debug(), names.join(", ")));
    }
    let modes = [("session", endpoint.session_port, &session), ("transaction", endpoint.transaction_port, &transaction)];
    lines.push("# psql".to_owned());
    lines.extend(modes.iter().filter(|(_, port, _)| port.is_some()).map(|(mode, _, url)| format!("psql '{url}'  # {mode} mode")));
    lines.push("# Prisma, in .env".to_owned());
    lines.push(format!("DATABASE_URL=\"{transaction}\""));
    lines.push(format!("DIRECT_URL=\"{session}\""));
    if matches!(endpoint.host, Host::Tcp(_)) {
        lines.push("# postgres.js".to_owned());
        lines.push(format!("const sql = postgres('{transaction}')"));
    }
    lines.push("# pgbench".to_owned());
    lines.push(format!("pgbench -i '{session}'"));
    lines.push(format!("pgbench -S -c 16 -T 10 '{transaction}'"));
    lines
}

/// The project as it stands in `user.project`. `*` has no name of its own: one that no other project has.
fn reference(settings: &Settings, project: &Project) -> String {
    let mut reference = if project.name == "*" { "local" } else { &project.name }.to_owned();
    while project.name == "*" && settings.projects.iter().any(|other| other.name == reference) {
        reference.push('_');
    }
    reference
}

/// `user.project:password`, escaped.
fn login(settings: &Settings, project: &Project, reference: &str, passwords: Passwords) -> String {
    let user = utf8_percent_encode(&project.upstream.user, ESCAPED);
    let reference = utf8_percent_encode(reference, ESCAPED);
    let password = match (&project.upstream.password, passwords) {
        _ if settings.client_auth == ClientAuth::Trust => return format!("{user}.{reference}"),
        (Some(password), Passwords::Shown) => utf8_percent_encode(password.reveal(), ESCAPED).to_string(),
        _ => PLACEHOLDER.to_owned(),
    };
    format!("{user}.{reference}:{password}")
}

fn url(login: &str, endpoint: &Endpoint, port: u16, database: &str) -> String {
    let database = utf8_percent_encode(database, ESCAPED);
    match &endpoint.host {
        Host::Tcp(host) if host.contains(':') => format!("postgres://{login}@[{host}]:{port}/{database}"),
        Host::Tcp(host) => format!("postgres://{login}@{host}:{port}/{database}"),
        // Prisma wants a host name all the same; libpq and Prisma both let the parameter win.
        Host::Unix(directory) => {
            let directory = directory.to_string_lossy();
            let directory = utf8_percent_encode(&directory, ESCAPED_IN_PATH);
            format!("postgres://{login}@localhost:{port}/{database}?host={directory}")
        }
    }
}

fn address(upstream: &Upstream) -> String {
    let (port, database) = (upstream.port, upstream.database.escape_debug());
    match &upstream.host {
        Host::Tcp(host) => format!("{host}:{port}/{database}"),
        Host::Unix(directory) => format!("{}/.s.PGSQL.{port}, {database}", directory.display().to_string().escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load, url};

    fn settings(flags: &[(&'static str, &str)]) -> std::sync::Arc<Settings> {
        let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        load(&Sources { flags, ..Sources::default() }).unwrap().settings
    }

    fn printed(flags: &[(&'static str, &str)], passwords: Passwords) -> String {
        let settings = settings(flags);
        lines(&settings, &Endpoint::of(&settings.listen), passwords).join("\n")
    }

    const UPSTREAM: (&str, &str) = ("upstream", "postgres://prisma:p%40ss'w@db.example.com:7000/app%20db");

    #[test]
    fn the_strings_of_one_project() {
        assert_eq!(
            printed(&[UPSTREAM], Passwords::Hidden),
            "# Project *: db.example.com:7000/app db\n\
             # Any other project name in the place of local leads there too.\n\
             # psql\n\
             psql 'postgres://prisma.local:[YOUR-PASSWORD]@localhost:5432/app%20db'  # session mode\n\
             psql 'postgres://prisma.local:[YOUR-PASSWORD]@localhost:6543/app%20db'  # transaction mode\n\
             # Prisma, in .env\n\
             DATABASE_URL=\"postgres://prisma.local:[YOUR-PASSWORD]@localhost:6543/app%20db\"\n\
             DIRECT_URL=\"postgres://prisma.local:[YOUR-PASSWORD]@localhost:5432/app%20db\"\n\
             # postgres.js\n\
             const sql = postgres('postgres://prisma.local:[YOUR-PASSWORD]@localhost:6543/app%20db')\n\
             # pgbench\n\
             pgbench -i 'postgres://prisma.local:[YOUR-PASSWORD]@localhost:5432/app%20db'\n\
             pgbench -S -c 16 -T 10 'postgres://prisma.local:[YOUR-PASSWORD]@localhost:6543/app%20db'"
        );
        assert!(printed(&[UPSTREAM], Passwords::Shown).contains("prisma.local:p%40ss%27w@localhost"));
    }

    /// What is printed leads where it says, by the same rules by which an upstream is read.
    #[test]
    fn printed_urls_are_read_back_as_they_were_meant() {
        for (flags, host) in [
            (vec![], Host::Tcp("localhost".into())),
            (vec![("listen.addresses", "10.0.0.1,10.0.0.2")], Host::Tcp("10.0.0.1".into())),
            (vec![("listen.addresses", "*")], Host::Tcp("localhost".into())),
            (vec![("listen.addresses", "fd00::1")], Host::Tcp("fd00::1".into())),
            (
                vec![("listen.addresses", "off"), ("listen.unix_socket_dir", "/run/side pool&co")],
                Host::Unix("/run/side pool&co".into()),
            ),
        ] {
            let text = printed(&[vec![UPSTREAM], flags].concat(), Passwords::Shown);
            let line = text.lines().find_map(|line| line.strip_prefix("DATABASE_URL=\"")).unwrap();
            let (upstream, _) = url::parse(line.trim_end_matches('"')).unwrap();
            assert_eq!((upstream.host, upstream.port), (host, 6543));
            assert_eq!((upstream.user.as_str(), upstream.database.as_str()), ("prisma.local", "app db"));
            assert_eq!(upstream.password.unwrap().reveal(), "p@ss'w");
        }
    }

    #[test]
    fn a_mode_that_is_off_is_not_offered() {
        let text = printed(&[UPSTREAM, ("listen.transaction_port", "off")], Passwords::Hidden);
        assert!(!text.contains("6543") && !text.contains("transaction mode"));
        assert!(text.contains("DATABASE_URL=\"postgres://prisma.local:[YOUR-PASSWORD]@localhost:5432/"));
    }

    #[test]
    fn trust_needs_no_password() {
        let text = printed(&[UPSTREAM, ("client_auth", "trust")], Passwords::Shown);
        assert!(text.contains("psql 'postgres://prisma.local@localhost:5432/"), "{text}");
    }

    #[test]
    fn listed_projects_stand_under_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sidepool.toml");
        let file = "[projects.local]\nupstream = \"postgres://a.b@h\"\nusers = { app = \"x\" }\n[projects.\"*\"]\nupstream = \"postgres://h\"\n";
        std::fs::write(&path, file).unwrap();
        let settings = load(&Sources { config_file: Some(path), ..Sources::default() }).unwrap().settings;
        let text = lines(&settings, &Endpoint::of(&settings.listen), Passwords::Hidden).join("\n");
        assert!(text.contains("//a.b.local:[YOUR-PASSWORD]@") && text.contains("//postgres.local_:[YOUR-PASSWORD]@"), "{text}");
        assert!(text.contains("# May log in besides a.b: app\n"));
    }
}
