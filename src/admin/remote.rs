//! What HTTP is given of the console: some of its views, and its commands.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::runtime::Handle;

use super::commands::{self, Argument, Done, Means};
use super::database;
use super::table::{Cell, Column, Row};
use super::views::{self, own};
use crate::error::{PgError, SqlState};
use crate::server::{Reins, Running, Signal};
use crate::session::{Console, House};

/// Rows given of each view, in rows.
const ROWS_MAX: usize = 100;

/// Looks and commands from a thread that is none of the data workers'.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) house: Arc<House>,
    reins: Reins,
    console: Arc<dyn Console>,
    /// Commands open and close connections, which belong to the runtime they were made on.
    workers: Handle,
}

/// What a command is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Without a database, all of the project; without a project, the default one; without both, everything.
    Pools {
        project: Option<String>,
        database: Option<String>,
    },
    Client(u64),
    /// The process.
    Process,
    /// How it is to end.
    End(Signal),
}

impl Remote {
    /// Must be called inside the runtime that serves the clients.
    pub(crate) fn new(running: &Running) -> Self {
        let (house, console) = (Arc::clone(&running.house), running.console());
        Self { house, reins: running.reins.clone(), console, workers: Handle::current() }
    }

    /// Runs a command of the console's; what there is to say of it, and to do when that has been said. PAUSE comes back when
    /// the pools are shut, and waits for no server: whoever asks over HTTP has no patience, and sees them go.
    ///
    /// # Errors
    /// What it is about does not exist, or is not in the state to do that.
    pub(crate) async fn command(&self, name: &str, target: Target) -> Result<Done, PgError> {
        let command =
            commands::named(name).ok_or_else(|| PgError::error(SqlState::SYNTAX_ERROR, format!("there is no command {name}")))?;
        let (house, reins, console) = (Arc::clone(&self.house), self.reins.clone(), Arc::clone(&self.console));
        let run = async move {
            let means = Means { house: &house, reins: &reins, console: &*console };
            match target {
                Target::Pools { project, database } => {
                    let scope = database::exactly(&house, project.as_deref(), database.as_deref())?;
                    command.begin(&house, &scope).map(|()| Done::default())
                }
                Target::Client(id) => command.run(&means, &Argument::Client(id)).await,
                Target::End(signal) => command.run(&means, &Argument::Way(signal)).await,
                Target::Process => command.run(&means, &Argument::None).await,
            }
        };
        let done = self.workers.spawn(run).await;
        // It fails by itself only while the process ends, or by a fault of ours.
        done.unwrap_or_else(|_| Err(PgError::error(SqlState::INTERNAL_ERROR, "the command was interrupted")))
    }

    /// For the process.
    pub(crate) fn signal(&self, signal: Signal) {
        // It may be going down already.
        let _ = self.reins.signals.send(signal);
    }

    /// Who waits, the longest first.
    pub(crate) fn waiters(&self) -> Value {
        let mut rows = own::waiters(&self.house);
        let waited = |row: &Row| row.last().map(|cell| if let Cell::Number(ms) = cell { *ms } else { 0 });
        rows.sort_by_key(|row| std::cmp::Reverse(waited(row)));
        listed(views::WAITERS, rows)
    }

    /// Who has a server, the longest first.
    pub(crate) fn holders(&self) -> Value {
        listed(views::HOLDERS, own::holders(&self.house))
    }

    /// Who keeps one between transactions, and why.
    pub(crate) fn pins(&self) -> Value {
        listed(views::PINS, own::pins(&self.house))
    }

    pub(crate) fn lint(&self) -> Value {
        listed(views::LINT, own::lint(&self.house))
    }
}

/// The first rows, by the names of the columns, and how many there are.
fn listed(columns: &[Column], mut rows: Vec<Row>) -> Value {
    let total = rows.len();
    rows.truncate(ROWS_MAX);
    let object = |row: Row| columns.iter().map(|column| column.name.to_owned()).zip(row.into_iter().map(value)).collect();
    let rows: Vec<Map<String, Value>> = rows.into_iter().map(object).collect();
    json!({"total": total, "rows": rows})
}

fn value(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => text.into(),
        Cell::Number(number) => number.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::table::{int8, text};

    #[test]
    fn rows_are_named_and_bounded_and_the_rest_is_counted() {
        let columns = [text("who"), int8("ms"), text("why")];
        let row = |n: u64| vec!["x".into(), n.into(), Cell::Null];
        let list = listed(&columns, (0..ROWS_MAX as u64 + 5).map(row).collect());
        assert_eq!(list["total"], ROWS_MAX + 5);
        assert_eq!(list["rows"].as_array().map(Vec::len), Some(ROWS_MAX));
        assert_eq!(list["rows"][1], json!({"who": "x", "ms": 1, "why": null}));
    }
}
