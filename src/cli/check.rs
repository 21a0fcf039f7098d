//! `sidepool check`: what a start with these settings would meet.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::probe::{self, Probe};
use super::{report, serve};
use crate::config::{ConfigError, Loaded, Project, SslMode, Upstream};
use crate::net::stream::TlsFacts;
use crate::net::tls::TlsContext;
use crate::server::StartError;
use crate::upstream::{self, AuthMethod, ConnectError, Connected, Row, Shortcut};

/// Everything in one row. `pg_stat_database` counts for everybody; `pg_stat_activity` hides most from those who are no superuser.
const FACTS: &str = "SELECT current_setting('max_connections'), \
    (current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0))::text, \
    (SELECT coalesce(sum(numbackends), 0)::text FROM pg_stat_database WHERE datid <> 0), \
    (SELECT rolconnlimit::text FROM pg_roles WHERE rolname = current_user)";

/// Logs in to every upstream once. Exit code 0: all is well, perhaps with warnings; 1: an upstream cannot be reached or does not
/// let us in; 2: the settings are at fault.
pub fn run(loaded: &Loaded, colour: bool) -> ExitCode {
    report::print_notes(&loaded.notes, colour);
    let _ = serve::init_log(&loaded.settings.log, colour);
    match serve::on_runtime(1, check_all(loaded, colour)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => serve::finish(colour, Err(error)),
    }
}

/// Whether every upstream let us in.
async fn check_all(loaded: &Loaded, colour: bool) -> Result<bool, StartError> {
    let settings = &loaded.settings;
    let probe = Probe::new(&settings.timeouts)?;
    print(&[format!("settings ok ({})", loaded.source)]);
    let mut all_well = true;
    for project in &settings.projects {
        let tls = TlsContext::load(&project.upstream.tls).map_err(|error| in_tls(project, &error.to_string())).map(Arc::new)?;
        match Found::at(&probe, project, &tls).await {
            Ok(found) => {
                print(&found.lines(project));
                report::print_notes(&found.warnings(project), colour);
            }
            Err(error) => {
                all_well = false;
                report::print_error(&probe::explain(project, &error), colour);
            }
        }
    }
    Ok(all_well)
}

/// What was found at one upstream.
struct Found {
    version: String,
    auth: AuthMethod,
    tls: Option<TlsFacts>,
    /// Or why it would not tell.
    facts: Result<Facts, String>,
    /// Whether it is a pooler, and what follows from that.
    shared: Option<ConfigError>,
    /// Whether clients can log in that are not listed.
    verifiers: String,
    /// How server connections go; `None` where the URL alone decides.
    way: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Facts {
    max_connections: i64,
    reserved: i64,
    /// Ours not counted.
    in_use: i64,
    /// Of the role; `None` is no limit.
    role_limit: Option<i64>,
}

impl Found {
    async fn at(probe: &Probe, project: &Arc<Project>, context: &Arc<TlsContext>) -> Result<Self, ConnectError> {
        let connected = probe.connect(&project.upstream, context).await?;
        let version = connected.parameters.iter().find(|(name, _)| name == "server_version");
        let version = version.map_or_else(|| "of unknown version".to_owned(), |(_, version)| version.clone());
        let (auth, tls) = (connected.auth, connected.tls);
        let facts = Facts::ask(probe, &project.upstream, connected).await;
        let shared = probe.shares_servers(&project.upstream, context).await?.then(|| probe::shared(project));
        let verifiers = verifiers(probe, project, context).await;
        let way = way(probe, &project.upstream, context).await;
        Ok(Self { version, auth, tls, facts, shared, verifiers, way })
    }

    fn lines(&self, project: &Project) -> Vec<String> {
        let Upstream { database, user, tls, .. } = &project.upstream;
        let place = probe::place(&project.upstream);
        let mut lines = vec![
            format!("project {}: {place}, database {}, user {}", project.name, database.escape_debug(), user.escape_debug()),
            format!("  server       PostgreSQL {}", self.version.escape_debug()),
            format!("  login        {}", login(self.auth)),
            format!("  TLS          {}", encryption(self.tls, tls.mode)),
        ];
        match &self.facts {
            Ok(facts) => lines.extend(facts.lines()),
            Err(reason) => lines.push(format!("  connections  unknown: {}", reason.escape_debug())),
        }
        lines.extend(self.way.as_ref().map(|way| format!("  way          {}", way.escape_debug())));
        lines.push(format!("  verifiers    {}", self.verifiers));
        let (size, most) = (project.pool_size, project.max_server_connections);
        lines.push(format!("  pools        up to {size} each, {most} together"));
        lines
    }

    fn warnings(&self, project: &Project) -> Vec<String> {
        let limits = self.facts.as_ref().map(|facts| facts.warnings(project)).unwrap_or_default();
        self.shared.iter().map(ToString::to_string).chain(limits).collect()
    }
}

impl Facts {
    async fn ask(probe: &Probe, upstream: &Upstream, connected: Connected) -> Result<Self, String> {
        let asking = upstream::query(connected, probe::place(upstream), FACTS);
        match tokio::time::timeout(probe.limit, asking).await {
            Ok(Ok(rows)) => Self::read(&rows).ok_or_else(|| "its answer is not PostgreSQL's".to_owned()),
            Ok(Err(ConnectError::Refused(error))) => Err(error.message()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(probe::silent(upstream).to_string()),
        }
    }

    fn read(rows: &[Row]) -> Option<Self> {
        let [row] = rows else { return None };
        let text = |at: usize| row.get(at)?.as_deref();
        let number = |at: usize| text(at)?.parse::<i64>().ok();
        Some(Self {
            max_connections: number(0)?,
            reserved: number(1)?,
            in_use: (number(2)? - 1).max(0),
            role_limit: number(3).filter(|limit| *limit >= 0),
        })
    }

    /// For those who are no superuser.
    fn left(&self) -> i64 {
        (self.usable() - self.in_use).max(0)
    }

    fn usable(&self) -> i64 {
        let of_all = (self.max_connections - self.reserved).max(0);
        self.role_limit.map_or(of_all, |limit| limit.min(of_all))
    }

    fn lines(&self) -> Vec<String> {
        let Self { max_connections, reserved, in_use, .. } = self;
        let role = self.role_limit.map(|limit| format!(", {limit} for this user")).unwrap_or_default();
        let left = self.left();
        vec![format!(
            "  connections  {left} left (max_connections {max_connections}{role}, {reserved} reserved, {in_use} in use)"
        )]
    }

    fn warnings(&self, project: &Project) -> Vec<String> {
        let Project { name, max_server_connections: most, .. } = project;
        let (usable, left) = (self.usable(), self.left());
        let most_wanted = i64::try_from(*most).unwrap_or(i64::MAX);
        if most_wanted > usable {
            return vec![format!(
                "project `{name}`: max_server_connections is {most}, but its PostgreSQL gives this user {usable} at most. Lower \
                 max_server_connections, or raise max_connections there"
            )];
        }
        if most_wanted > left {
            return vec![format!(
                "project `{name}`: max_server_connections is {most}, but others use {} of the {usable} connections its PostgreSQL \
                 gives, which leaves {left}",
                self.in_use
            )];
        }
        Vec::new()
    }
}

/// Tried as the first server connection of a pool is.
async fn way(probe: &Probe, upstream: &Upstream, tls: &TlsContext) -> Option<String> {
    let shortcut = Shortcut::of(upstream);
    if !shortcut.is_sought() {
        return None;
    }
    // What is found is told here, and not in a log.
    let connecting = probe.connect_nearest(upstream, tls, &shortcut).with_subscriber(NoSubscriber::default());
    Some(match (connecting.await, shortcut.verdict()) {
        (Ok(_), Ok(path)) => format!("the Unix socket {}, which leads to the same server", path.display()),
        (Ok(_), Err(why)) => format!("TCP: {why}"),
        (Err(error), _) => format!("unknown: {error}"),
    })
}

/// Asked as a login would ask, about the upstream's own user.
async fn verifiers(probe: &Probe, project: &Arc<Project>, tls: &Arc<TlsContext>) -> String {
    let others = match project.logins.passthrough {
        true => "others are asked for their password, which is tried here (passthrough)",
        false => "clients log in as this user, or as users that the file lists",
    };
    let Some(lookup) = probe.lookup(project, tls) else { return format!("not asked for (auth_query = false): {others}") };
    let asker = lookup.user().escape_debug();
    match lookup.probe(&project.upstream.user).await {
        Ok(_) => format!("readable by {asker}: every role logs in with its own password"),
        Err(error) => format!("not readable by {asker} ({}): {others}", error.to_string().escape_debug()),
    }
}

fn login(auth: AuthMethod) -> &'static str {
    match auth {
        AuthMethod::Trust => "without a proof (trust, peer or the like)",
        AuthMethod::CleartextPassword => "by password in clear",
        AuthMethod::Md5 => "by md5",
        AuthMethod::ScramSha256 => "by SCRAM-SHA-256",
        AuthMethod::ScramSha256Plus => "by SCRAM-SHA-256-PLUS, bound to its certificate",
    }
}

fn encryption(facts: Option<TlsFacts>, mode: SslMode) -> String {
    match (facts, mode) {
        (Some(facts), SslMode::Disable | SslMode::Prefer | SslMode::Require) => {
            format!("{:?}, {:?}", facts.version, facts.cipher)
        }
        (Some(facts), SslMode::VerifyCa | SslMode::VerifyFull) => {
            format!("{:?}, {:?}, certificate verified", facts.version, facts.cipher)
        }
        (None, SslMode::Disable) => "off (sslmode=disable)".to_owned(),
        (None, _) => "none: the server or the way to it has none".to_owned(),
    }
}

fn in_tls(project: &Arc<Project>, what: &str) -> StartError {
    StartError::new(format!("project `{}`: {what}", project.name), "Correct sslrootcert in the upstream's URL.")
}

/// If nobody reads on, the exit code still tells.
fn print(lines: &[String]) {
    let _ = io::stdout().write_all((lines.join("\n") + "\n").as_bytes());
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::new(error.message, error.hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Logins, url};

    fn project(max_server_connections: usize) -> Project {
        let (upstream, _) = url::parse("postgres://u@h/d").unwrap();
        Project {
            disabled: None,
            name: "p".into(),
            server_name: None,
            upstream,
            users: Vec::new(),
            logins: Logins::default(),
            pool_size: 20,
            min_pool_size: 0,
            max_server_connections,
        }
    }

    fn facts(values: [&str; 4]) -> Option<Facts> {
        Facts::read(&[values.map(|value| Some(value.to_owned())).to_vec()])
    }

    #[test]
    fn what_is_left_is_what_an_ordinary_user_gets() {
        let all = facts(["100", "3", "6", "-1"]).unwrap();
        assert_eq!((all.left(), all.in_use, all.role_limit), (92, 5, None));
        let limited = facts(["100", "3", "6", "20"]).unwrap();
        assert_eq!(limited.left(), 15);
        assert_eq!(facts(["5", "3", "9", "-1"]).unwrap().left(), 0);
        assert_eq!(facts(["many", "3", "9", "-1"]), None);
        assert_eq!(Facts::read(&[]), None);
    }

    #[test]
    fn limits_beyond_the_servers_are_warned_of() {
        let facts = facts(["100", "3", "21", "-1"]).unwrap();
        assert!(facts.warnings(&project(77)).is_empty());
        assert!(facts.warnings(&project(78))[0].contains("which leaves 77"));
        assert!(facts.warnings(&project(98))[0].contains("97 at most"));
    }
}
