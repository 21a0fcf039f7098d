//! Who may do what. Nobody may anything, unless it says so here.

use crate::config::Settings;
use crate::error::{PgError, SqlState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything.
    Admin,
    /// To look.
    Stats,
}

impl Role {
    /// Of somebody who has proved who he is. Asked again for each statement: a reload may have changed it.
    ///
    /// # Errors
    /// 42501 for everybody else.
    pub(super) fn of(settings: &Settings, project: &str, user: &str) -> Result<Self, PgError> {
        // The names of other projects are other people.
        let is_of_default = project == settings.default_project().name;
        let found = is_of_default.then(|| Self::named(settings, user)).flatten();
        found.ok_or_else(|| {
            PgError::fatal(SqlState::INSUFFICIENT_PRIVILEGE, "permission denied for database \"sidepool\"")
                .with_detail("The console is open to the user in the default project's upstream, and to those listed.")
                .with_hint("List the user in admin_users or stats_users.")
        })
    }

    fn named(settings: &Settings, user: &str) -> Option<Self> {
        let is_in = |list: &[String]| list.iter().any(|name| name == user);
        if settings.default_project().upstream.user == user || is_in(&settings.console.admin_users) {
            return Some(Self::Admin);
        }
        is_in(&settings.console.stats_users).then_some(Self::Stats)
    }

    /// # Errors
    /// 42501 for whoever may only look.
    pub(super) fn may_command(self, command: &str) -> Result<(), PgError> {
        match self {
            Self::Admin => Ok(()),
            Self::Stats => Err(PgError::error(SqlState::INSUFFICIENT_PRIVILEGE, format!("permission denied for {command}"))
                .with_detail("Users in stats_users may run SHOW and nothing else.")
                .with_hint("Log in as the upstream's own user, or list the user in admin_users.")),
        }
    }
}
