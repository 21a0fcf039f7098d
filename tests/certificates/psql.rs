//! libpq, through psql.

use std::process::Stdio;

use tokio::process::Command;

/// What became of one statement.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) good: bool,
    pub(crate) text: String,
}

/// Runs `SELECT current_user` with these connection parameters, and the password `secret` where one is asked for.
pub(crate) async fn psql(parameters: &str) -> Said {
    let mut command = Command::new("psql");
    command.args(["-X", "-w", "-A", "-t", "-c", "SELECT current_user", parameters]).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PGPASSWORD", "secret");
    let output = tokio::time::timeout(crate::common::PATIENCE, command.output()).await.expect("in time").expect("psql");
    let text = [output.stdout, output.stderr].concat();
    Said { good: output.status.success(), text: String::from_utf8_lossy(&text).trim().to_owned() }
}

impl Said {
    #[track_caller]
    pub(crate) fn is(&self, user: &str) {
        assert!(self.good && self.text == user, "{self:?}");
    }

    #[track_caller]
    pub(crate) fn fails_with(&self, text: &str) {
        assert!(!self.good && self.text.contains(text), "{self:?}");
    }
}
