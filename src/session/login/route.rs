//! Which project a client means, and under which name it comes to it.

use std::sync::Arc;

use crate::auth::username::{is_valid_name, split_project};
use crate::config::{Project, Settings};
use crate::error::{PgError, SqlState};
use crate::net::socket::Peer;
use crate::wire::startup::Startup;

/// Takes every name that no other project has.
const ANY: &str = "*";
const DEFAULT: &str = "default";
/// Projects that a hint lists.
const LISTED_MAX: usize = 10;

#[derive(Debug)]
pub(super) struct Route {
    pub(super) project: Arc<Project>,
    /// Without the project.
    pub(super) user: String,
    pub(super) database: String,
}

/// In this order, as the hosted pooler does: `options=reference=…`, `user.project`, the TLS server name's first label, the
/// default project.
///
/// # Errors
/// 28000 for a project that does not exist or a name that cannot.
pub(super) fn route(settings: &Settings, startup: &Startup, server_name: Option<&str>, peer: Peer) -> Result<Route, PgError> {
    let found = find(settings, startup, server_name);
    let (project, user) = found.map_err(|name| unknown_project(settings, name, peer))?;
    // libpq fills in a missing database with the whole user name, project and all.
    let database = startup.database.as_deref().filter(|database| *database != startup.user).unwrap_or(user);
    if !is_valid_name(user) || !is_valid_name(database) {
        return Err(PgError::fatal(SqlState::INVALID_AUTHORIZATION, "invalid user or database name")
            .with_hint("Names have 1 to 63 bytes and no control characters."));
    }
    Ok(Route { project: project.clone(), user: user.to_owned(), database: database.to_owned() })
}

/// The project and the user's name in it, or the name of which there is no project.
fn find<'a>(
    settings: &'a Settings,
    startup: &'a Startup,
    server_name: Option<&str>,
) -> Result<(&'a Arc<Project>, &'a str), &'a str> {
    let named = |name: &str| settings.projects.iter().find(|project| project.name == name);
    let whole = startup.user.as_str();
    let default = named(DEFAULT).or_else(|| settings.projects.first());
    if let Some(reference) = &startup.options.reference {
        return named(reference).or_else(|| named(ANY)).map(|project| (project, whole)).ok_or(reference);
    }
    if let Some((user, name)) = split_project(whole) {
        let exact = named(name).map(|project| (project, user));
        // Somebody may simply have a dot in their name: `first.last` is who is known by it, rather than `first` of
        // whatever project.
        let known = || default.filter(|project| knows(project, whole)).map(|project| (project, whole));
        return exact.or_else(known).or_else(|| named(ANY).map(|project| (project, user))).ok_or(name);
    }
    let by_server_name = server_name.and_then(|name| name.split('.').next()).and_then(named);
    by_server_name.or(default).map(|project| (project, whole)).ok_or(DEFAULT)
}

fn knows(project: &Project, user: &str) -> bool {
    project.upstream.user == user || project.users.iter().any(|listed| listed.name == user)
}

/// Which projects there are is told to this machine only.
fn unknown_project(settings: &Settings, name: &str, peer: Peer) -> PgError {
    let error = PgError::fatal(SqlState::INVALID_AUTHORIZATION, format!("project \"{name}\" does not exist"));
    if !peer.is_local() {
        return error.with_hint("The user name has to be user.project, with a project that exists.");
    }
    let names: Vec<_> = settings.projects.iter().take(LISTED_MAX).map(|project| format!("\"{}\"", project.name)).collect();
    let more = if settings.projects.len() > LISTED_MAX { " and others" } else { "" };
    error.with_hint(format!(
        "Log in as user.project, with one of the projects {}{more}, or as user alone for the default one.",
        names.join(", ")
    ))
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
        let route = route(settings, &startup(&format!("user\0{user}\0{parameters}")), None, LOCAL)?;
        Ok((route.project.name.clone(), route.user, route.database))
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
        let by = |name| route(&settings, &startup("user\0ann\0"), Some(name), LOCAL).unwrap().project.name.clone();
        assert_eq!(by("two.pooler.example"), "two");
        assert_eq!(by("localhost"), "one");
        let dotted = route(&settings, &startup("user\0ann.one\0"), Some("two.pooler.example"), LOCAL).unwrap();
        assert_eq!(dotted.project.name, "one");
    }

    #[test]
    fn unknown_projects_are_listed_to_this_machine_only() {
        let settings = named(&["one", "two"]);
        let startup = startup("user\0ann.three\0");
        let local = route(&settings, &startup, None, LOCAL).unwrap_err();
        assert_eq!(local.code, SqlState::INVALID_AUTHORIZATION);
        assert_eq!(local.message, "project \"three\" does not exist");
        assert!(local.hint.unwrap().contains("\"one\", \"two\""));
        let remote = route(&settings, &startup, None, Peer::Tcp("10.0.0.1:1".parse().unwrap())).unwrap_err();
        assert!(!remote.hint.unwrap().contains("\"one\""));
    }

    #[test]
    fn names_that_postgresql_would_cut_are_refused() {
        let settings = named(&["one"]);
        for (user, parameters) in [("a".repeat(64), ""), ("a\nb".into(), ""), ("ann".into(), "database\0a\x01\0")] {
            assert_eq!(to(&settings, &user, parameters).unwrap_err().code, SqlState::INVALID_AUTHORIZATION);
        }
    }
}
