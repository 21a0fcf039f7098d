//! What Supabase's hosted pooler (Supavisor 2.9) says where PostgreSQL has no words: for `error_texts = "supabase"`.
//!
//! FATAL, XX000 and `(ECODE) text`, without detail or hint; it closes the connection after each.

use std::time::Duration;

use super::{PgError, SqlState};

/// Which of its refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosted<'a> {
    /// More clients than may be (`EMAXCONN`).
    Clients { limit: usize },
    /// More clients in session mode than there are server connections (`EMAXCONNSESSION`).
    SessionClients { pool_size: usize },
    /// No server connection in time (`ECHECKOUTTIMEOUT`).
    Checkout { after: Duration, mode: Mode },
    /// `ENOTFOUND`.
    Project { user: &'a str, project: &'a str },
    /// `EBANNED`.
    Banned { reason: &'a str },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Session,
    Transaction,
}

impl From<Hosted<'_>> for PgError {
    fn from(refusal: Hosted<'_>) -> Self {
        let message = match refusal {
            Hosted::Clients { limit } => format!("(EMAXCONN) max client connections reached, limit: {limit}"),
            Hosted::SessionClients { pool_size } => format!(
                "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: {pool_size}"
            ),
            Hosted::Checkout { after, mode } => format!(
                "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after {}ms in {mode:?} mode",
                after.as_millis()
            ),
            Hosted::Project { user, project } => format!("(ENOTFOUND) tenant/user {user}.{project} not found"),
            Hosted::Banned { reason } => format!("(EBANNED) tenant is banned: {reason}"),
        };
        Self::fatal(SqlState::INTERNAL_ERROR, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Severity;

    #[test]
    fn the_texts_are_the_hosted_ones() {
        for (refusal, text) in [
            (Hosted::Clients { limit: 200 }, "(EMAXCONN) max client connections reached, limit: 200"),
            (
                Hosted::SessionClients { pool_size: 15 },
                "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15",
            ),
            (
                Hosted::Checkout { after: Duration::from_secs(60), mode: Mode::Transaction },
                "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after 60000ms in Transaction mode",
            ),
            (
                Hosted::Checkout { after: Duration::from_millis(500), mode: Mode::Session },
                "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after 500ms in Session mode",
            ),
            (Hosted::Project { user: "postgres", project: "foo" }, "(ENOTFOUND) tenant/user postgres.foo not found"),
            (Hosted::Banned { reason: "too much" }, "(EBANNED) tenant is banned: too much"),
        ] {
            let error = PgError::from(refusal);
            assert_eq!((error.severity, error.code, &*error.message), (Severity::Fatal, SqlState::INTERNAL_ERROR, text));
            assert_eq!((error.detail, error.hint), (None, None));
        }
    }
}
