//! What clients of a project are told that a reload has disabled or removed.

use crate::config::{ErrorTexts, Settings};
use crate::error::hosted::Hosted;
use crate::error::{PgError, SqlState};
use crate::pool::Unavailable;

/// To whoever wants to log in.
pub fn to_new(why: &Unavailable, project: &str, settings: &Settings) -> PgError {
    match (why, settings.error_texts) {
        (Unavailable::Disabled(reason), ErrorTexts::Supabase) => Hosted::Banned { reason }.into(),
        (Unavailable::Disabled(reason), ErrorTexts::Postgres) => {
            PgError::fatal(SqlState::CANNOT_CONNECT_NOW, format!("project \"{project}\" lets nobody in: {reason}"))
                .with_hint(format!("Whoever runs Sidepool has set projects.{project}.disabled."))
        }
        (Unavailable::Gone, _) => {
            PgError::fatal(SqlState::INVALID_AUTHORIZATION, format!("project \"{project}\" does not exist"))
                .with_hint("It was removed from the configuration a moment ago.")
        }
    }
}

/// To whoever is connected, in the middle of what it does.
pub fn to_connected(why: &Unavailable, project: &str, settings: &Settings) -> PgError {
    let ended = "terminating connection due to administrator command";
    match (why, settings.error_texts) {
        (Unavailable::Disabled(reason), ErrorTexts::Supabase) => Hosted::Banned { reason }.into(),
        (Unavailable::Disabled(reason), ErrorTexts::Postgres) => PgError::fatal(SqlState::ADMIN_SHUTDOWN, ended)
            .with_detail(format!("Project \"{project}\" lets nobody in any more: {reason}")),
        (Unavailable::Gone, _) => PgError::fatal(SqlState::ADMIN_SHUTDOWN, ended)
            .with_detail(format!("Project \"{project}\" was removed from the configuration.")),
    }
}
