//! Which project a client means, and under which name it comes to it.

use std::sync::Arc;

use crate::auth::username::{is_valid_name, split_project};
use crate::config::{ErrorTexts, Project, Settings};
use crate::error::hosted::Hosted;
use crate::error::{PgError, SqlState};
use crate::net::socket::Peer;
use crate::wire::startup::Startup;

/// Takes every name that no other project has.
const ANY: &str = "*";
/// What a client connects to for the console; the second is what PgBouncer's tools ask for.
pub const CONSOLE_DATABASES: [&str; 2] = ["sidepool", "pgbouncer"];
/// Projects that a hint lists.
const LISTED_MAX: usize = 10;

/// Where a client is led.
#[derive(Clone, Debug)]
pub struct Route {
    pub project: Arc<Project>,
    /// Without the project.
    pub user: String,
    /// For the console: the upstream's own, so that all that is asked upstream is asked about a database that exists.
    pub database: String,
    pub(super) to: To,
}

/// What a client wants to talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Upstream,
    /// [`CONSOLE_DATABASES`].
    Console,
}

/// A client of a project that does not exist.
#[derive(Debug)]
pub(super) struct Stray {
    pub(super) project: String,
    pub(super) user: String,
}

#[derive(Debug)]
pub(super) enum Destination {
    Project(Route),
    Nowhere(Stray),
}

/// In this order, as the hosted pooler does: `options=reference=…`, `user.project`, the TLS server name or its first label,
/// the default project.
///
/// # Errors
/// 28000 for a name that cannot be.
pub(super) fn route(settings: &Settings, startup: &Startup, server_name: Option<&str>) -> Result<Destination, PgError> {
    match find(settings, startup, server_name) {
        Found::Project(project, user) => {
            // libpq fills in a missing database with the whole user name, project and all.
            let database = startup.database.as_deref().filter(|database| *database != startup.user).unwrap_or(user);
            check_names(&[user, database], settings.error_texts)?;
            let to = if CONSOLE_DATABASES.contains(&database) { To::Console } else { To::Upstream };
            let database = if to == To::Console { &project.upstream.database } else { database };
            let (user, database) = (user.to_owned(), database.to_owned());
            Ok(Destination::Project(Route { project: Arc::clone(project), user, database, to }))
        }
        Found::Nothing(project, user) => {
            check_names(&[user, project], settings.error_texts)?;
            Ok(Destination::Nowhere(Stray { project: project.to_owned(), user: user.to_owned() }))
        }
    }
}

/// With the user's name in it.
enum Found<'a> {
    Project(&'a Arc<Project>, &'a str),
    Nothing(&'a str, &'a str),
}

fn find<'a>(settings: &'a Settings, startup: &'a Startup, server_name: Option<&str>) -> Found<'a> {
    let named = |name: &str| settings.projects.iter().find(|project| project.name == name);
    let any = || named(ANY);
    let whole = startup.user.as_str();
    let default = settings.default_project();
    if let Some(reference) = startup.options.reference.as_deref().filter(|reference| !reference.is_empty()) {
        let any = || any().filter(|_| is_valid_name(reference));
        return named(reference).or_else(any).map_or(Found::Nothing(reference, whole), |project| Found::Project(project, whole));
    }
    if let Some((user, name)) = split_project(whole) {
        let exact = named(name).map(|project| (project, user));
        // Somebody may simply have a dot in their name: `first.last` is who is known by it, rather than `first` of
        // whatever project.
        let known = || Some(default).filter(|project| knows(project, whole)).map(|project| (project, whole));
        let found = exact.or_else(known).or_else(|| any().map(|project| (project, user)));
        return found.map_or(Found::Nothing(name, user), |(project, user)| Found::Project(project, user));
    }
    let by_server_name = server_name.and_then(|name| {
        let whole_name =
            |project: &&Arc<Project>| project.server_name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        let label = name.split('.').next().unwrap_or(name);
        let first_label = |project: &&Arc<Project>| project.name.eq_ignore_ascii_case(label);
        settings.projects.iter().find(whole_name).or_else(|| settings.projects.iter().find(first_label))
    });
    Found::Project(by_server_name.unwrap_or(default), whole)
}

fn knows(project: &Project, user: &str) -> bool {
    project.upstream.user == user || project.users.iter().any(|listed| listed.name == user)
}

fn check_names(names: &[&str], texts: ErrorTexts) -> Result<(), PgError> {
    if names.iter().all(|name| is_valid_name(name)) {
        return Ok(());
    }
    Err(texts.choose(Hosted::Names, || {
        PgError::fatal(SqlState::INVALID_AUTHORIZATION, "invalid user or database name")
            .with_hint("Names have 1 to 63 bytes and no control characters.")
    }))
}

impl Stray {
    /// Which projects there are is told to this machine only. From elsewhere it is a login that failed: nobody can try out
    /// names.
    pub(super) fn refusal(&self, settings: &Settings, peer: Peer) -> PgError {
        if !peer.is_local() {
            return super::prove::wrong_password(&self.user);
        }
        if settings.error_texts == ErrorTexts::Supabase {
            return Hosted::Project { user: &self.user, project: &self.project }.into();
        }
        let names: Vec<_> = settings.projects.iter().take(LISTED_MAX).map(|project| format!("\"{}\"", project.name)).collect();
        let more = if settings.projects.len() > LISTED_MAX { " and others" } else { "" };
        let message = format!("project \"{}\" does not exist", self.project);
        PgError::fatal(SqlState::INVALID_AUTHORIZATION, message).with_hint(format!(
            "Log in as user.project, with one of the projects {}{more}, or as user alone for the default one.",
            names.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::login::tests::bed::{project, settings, startup};

    const LOCAL: Peer = Peer::Unix { pid: None };

    fn named(names: &[&str]) -> Settings {
        settings(names.iter().map(|name| project(name, "postgres")).collect())
    }

    fn to(settings: &Settings, user: &str, parameters: &str) -> Result<(String, String, String), PgError> {
        match route(settings, &startup(&format!("user\0{user}\0{parameters}")), None)? {
            Destination::Project(route) => Ok((route.project.name.clone(), route.user, route.database)),
            Destination::Nowhere(stray) => Err(stray.refusal(settings, LOCAL)),
        }
    }

    fn to_name(settings: &Settings, pairs: &str, server_name: &str) -> String {
        match route(settings, &startup(pairs), Some(server_name)).unwrap() {
            Destination::Project(route) => route.project.name.clone(),
            Destination::Nowhere(stray) => panic!("{stray:?}"),
        }
    }

    fn found(project: &str, user: &str, database: &str) -> Result<(String, String, String), PgError> {
        Ok((project.into(), user.into(), database.into()))
    }

    #[test]
    fn the_part_behind_the_last_dot_is_the_project() {
        let settings = named(&["one", "two"]);
        assert_eq!(to(&settings, "postgres.two", "database\0shop\0"), found("two", "postgres", "shop"));
        assert_eq!(to(&settings, "first.last.two", ""), found("two", "first.last", "first.last"));
        assert_eq!(to(&settings, "postgres", ""), found("one", "postgres", "postgres"));
        assert_eq!(to(&named(&["one", "default"]), "postgres", ""), found("default", "postgres", "postgres"));
    }

    #[test]
    fn a_database_filled_in_by_libpq_is_the_users_own() {
        assert_eq!(to(&named(&["one"]), "ann.one", "database\0ann.one\0"), found("one", "ann", "ann"));
    }

    #[test]
    fn the_consoles_databases_lead_to_no_upstream() {
        let settings = named(&["one", "two"]);
        let to = |name: &str| match route(&settings, &startup(&format!("user\0ann\0database\0{name}\0")), None).unwrap() {
            Destination::Project(route) => (route.to, route.database),
            Destination::Nowhere(stray) => panic!("{stray:?}"),
        };
        for name in CONSOLE_DATABASES {
            assert_eq!(to(name), (To::Console, settings.projects[0].upstream.database.clone()));
        }
        assert_eq!(to("Sidepool"), (To::Upstream, "Sidepool".to_owned()));
    }

    #[test]
    fn a_reference_keeps_the_dots_of_the_user() {
        let settings = named(&["one", "two"]);
        assert_eq!(to(&settings, "first.last", "options\0reference=two\0"), found("two", "first.last", "first.last"));
        assert!(to(&settings, "first.last", "options\0--reference=three\0").is_err());
    }

    #[test]
    fn any_reference_goes_to_the_star_unless_the_whole_name_is_known() {
        let mut known = project("*", "postgres");
        known.upstream.user = "first.last".into();
        let settings = settings(vec![known]);
        assert_eq!(to(&settings, "postgres.abcdefgh", ""), found("*", "postgres", "postgres"));
        assert_eq!(to(&settings, "first.last", ""), found("*", "first.last", "first.last"));
        assert_eq!(to(&settings, "first.last.abcdefgh", ""), found("*", "first.last", "first.last"));
        assert_eq!(to(&settings, "postgres", "options\0reference=abc\0"), found("*", "postgres", "postgres"));
    }

    #[test]
    fn the_server_name_names_a_project_too() {
        let settings = named(&["one", "two"]);
        let by = |name| to_name(&settings, "user\0ann\0", name);
        assert_eq!(by("two.pooler.example"), "two");
        assert_eq!(by("localhost"), "one");
        assert_eq!(by("TWO.pooler.example"), "two");
        assert_eq!(to_name(&settings, "user\0ann.one\0", "two.pooler.example"), "one");
        assert_eq!(to_name(&settings, "user\0ann\0options\0reference=one\0", "two.pooler.example"), "one");
    }

    #[test]
    fn unknown_projects_are_listed_to_this_machine_only() {
        let settings = named(&["one", "two"]);
        let Ok(Destination::Nowhere(stray)) = route(&settings, &startup("user\0ann.three\0"), None) else { panic!("found") };
        let local = stray.refusal(&settings, LOCAL);
        assert_eq!(local.code, SqlState::INVALID_AUTHORIZATION);
        assert_eq!(local.message, "project \"three\" does not exist");
        assert!(local.hint.unwrap().contains("\"one\", \"two\""));
        let remote = stray.refusal(&settings, Peer::Tcp("10.0.0.1:1".parse().unwrap()));
        assert_eq!(remote, super::super::prove::wrong_password("ann"));
    }

    #[test]
    fn a_host_name_of_its_own_leads_to_a_project() {
        let mut shop = project("shop", "postgres");
        shop.server_name = Some("db.example.com".into());
        let settings = settings(vec![project("one", "postgres"), shop]);
        for (name, expected) in [("DB.example.com", "shop"), ("db.example.org", "one"), ("shop.example.org", "shop")] {
            assert_eq!(to_name(&settings, "user\0ann\0", name), expected, "{name}");
        }
    }

    #[test]
    fn a_5_references_that_cannot_be_names() {
        let settings = named(&["one", "*"]);
        let long = "x".repeat(64);
        for reference in [&long, "a\u{7f}b"] {
            assert_eq!(to(&settings, "ann", &format!("options\0reference={reference}\0")).unwrap_err().code.as_str(), "28000");
        }
        assert_eq!(to(&settings, "ann", "options\0reference=\0"), found("*", "ann", "ann"));
        assert_eq!(to(&settings, "ann", "options\0\0"), found("*", "ann", "ann"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_asked_is_answered(user in "\\PC{1,70}", database in "\\PC{0,70}", options in "[a-z=% -]{0,30}", sni in ".{0,20}") {
            let settings = named(&["one", "two", "*"]);
            let mut startup = startup("user\0x\0");
            (startup.user, startup.database) = (user, Some(database));
            startup.options = crate::wire::options::Options::parse(&options).unwrap_or_default();
            if let Ok(Destination::Project(route)) = route(&settings, &startup, Some(&sni)) {
                proptest::prop_assert!(is_valid_name(&route.user) && is_valid_name(&route.database));
                proptest::prop_assert!(startup.user.starts_with(&route.user));
            }
        }
    }

    #[test]
    fn names_that_postgresql_would_cut_are_refused() {
        let settings = named(&["one"]);
        for (user, parameters) in [("a".repeat(64), ""), ("a\nb".into(), ""), ("ann".into(), "database\0a\x01\0")] {
            assert_eq!(to(&settings, &user, parameters).unwrap_err().code, SqlState::INVALID_AUTHORIZATION);
        }
    }
}
