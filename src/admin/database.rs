//! What the console calls a database.
//!
//! PgBouncer's databases are names for a place and a database there. Ours are: every database of the default project by its
//! own name, and those of the others as `database.project`, as users are `user.project`. The name of a project stands for
//! all databases in it.

use crate::config::{Project, Settings};
use crate::error::{PgError, SqlState};
use crate::pool::Scope;
use crate::session::House;
use crate::session::login::CONSOLE_DATABASES;

/// How a name of ours is shown; of users, too.
pub(super) fn shown(settings: &Settings, project: &str, name: &str) -> String {
    if project == settings.default_project().name { name.to_owned() } else { format!("{name}.{project}") }
}

/// What a command's argument means; without one, everything.
///
/// # Errors
/// 3D000 for a name that means nothing.
pub(super) fn scope(house: &House, name: Option<&str>) -> Result<Scope, PgError> {
    let Some(name) = name else { return Ok(Scope::All) };
    let settings = house.settings.get();
    if settings.projects.iter().any(|project| project.name == name) {
        return Ok(Scope::Project(name.to_owned()));
    }
    let default = (name, settings.default_project().name.as_str());
    let found = [Some(default), name.rsplit_once('.')]
        .into_iter()
        .flatten()
        .find(|(database, project)| is_there(house, project, database));
    match found {
        Some((database, project)) => Ok(Scope::Database { project: project.to_owned(), database: database.to_owned() }),
        None => Err(unknown(name)),
    }
}

/// What is meant where a project and a database are named each for itself: without a database, all of the project; without
/// a project, the default one; without both, everything.
///
/// # Errors
/// 3D000 for what does not exist.
pub(super) fn exactly(house: &House, project: Option<&str>, database: Option<&str>) -> Result<Scope, PgError> {
    let settings = house.settings.get();
    let project = match (project, database) {
        (None, None) => return Ok(Scope::All),
        (None, Some(_)) => settings.default_project().name.as_str(),
        (Some(project), _) if settings.projects.iter().any(|p| p.name == project) => project,
        (Some(project), _) => return Err(unknown(project)),
    };
    match database {
        None => Ok(Scope::Project(project.to_owned())),
        Some(database) if is_there(house, project, database) => {
            Ok(Scope::Database { project: project.to_owned(), database: database.to_owned() })
        }
        Some(database) => Err(unknown(&shown(&settings, project, database))),
    }
}

/// A scope in a sentence.
pub(super) fn described(house: &House, scope: &Scope) -> String {
    match scope {
        Scope::All => "the pooler".to_owned(),
        Scope::Project(project) => format!("project \"{project}\""),
        Scope::Database { project, database } => format!("database \"{}\"", shown(&house.settings.get(), project, database)),
    }
}

/// A project's own database, or one that somebody has come to.
fn is_there(house: &House, project: &str, database: &str) -> bool {
    let is_own = |p: &Project| p.name == project && p.upstream.database == database;
    let has_pool = || house.registry.all().iter().any(|p| p.key.project == project && p.key.database == database);
    house.settings.get().projects.iter().any(|p| is_own(p)) || has_pool()
}

fn unknown(name: &str) -> PgError {
    let error = PgError::error(SqlState::UNKNOWN_DATABASE, format!("database \"{name}\" does not exist"));
    if CONSOLE_DATABASES.contains(&name) {
        return error.with_hint("The console itself is always there: SHOW DATABASES lists what can be named.");
    }
    error.with_hint("SHOW DATABASES and SHOW PROJECTS list what can be named; a project stands for all of its databases.")
}
