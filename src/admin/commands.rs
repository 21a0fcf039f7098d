//! What may be commanded: one table, every command for administrators alone.

use std::sync::Arc;
use std::time::Duration;

use super::database::{self, described};
use super::setting::Setting;
use super::tokens::Token;
use crate::error::{PgError, SqlState};
use crate::pool::{Pause, Scope};
use crate::server::{Reins, Reloaded, Signal};
use crate::session::{Console, House, Stop};

/// How often a command that waits looks again.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    verb: Verb,
    /// For SHOW HELP and the documentation.
    pub(super) usage: &'static str,
}

pub(super) const SET: Command = Command { name: "SET", takes: Takes::Setting, verb: Verb::Set, usage: "SET key = value" };

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "PAUSE", takes: Takes::MaybeDatabase, verb: Verb::Pause, usage: "PAUSE [db]" },
    Command { name: "RESUME", takes: Takes::MaybeDatabase, verb: Verb::Resume, usage: "RESUME [db]" },
    Command { name: "DISABLE", takes: Takes::Database, verb: Verb::Disable, usage: "DISABLE db" },
    Command { name: "ENABLE", takes: Takes::Database, verb: Verb::Enable, usage: "ENABLE db" },
    Command { name: "RECONNECT", takes: Takes::MaybeDatabase, verb: Verb::Reconnect, usage: "RECONNECT [db]" },
    Command { name: "RELOAD", takes: Takes::Nothing, verb: Verb::Reload, usage: "RELOAD" },
    SET,
    Command { name: "RESET", takes: Takes::Option, verb: Verb::Set, usage: "RESET key" },
    Command { name: "WAIT_CLOSE", takes: Takes::MaybeDatabase, verb: Verb::WaitClose, usage: "WAIT_CLOSE [db]" },
    Command { name: "KILL", takes: Takes::MaybeDatabase, verb: Verb::Kill, usage: "KILL [db]" },
    Command { name: "KILL_CLIENT", takes: Takes::Client, verb: Verb::KillClient, usage: "KILL_CLIENT id" },
    Command { name: "SHUTDOWN", takes: Takes::Way, verb: Verb::Shutdown, usage: "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]" },
];

#[derive(Clone, Copy, Debug)]
enum Verb {
    Pause,
    Resume,
    Disable,
    Enable,
    Reconnect,
    Reload,
    Set,
    WaitClose,
    Kill,
    KillClient,
    Shutdown,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Takes {
    Nothing,
    MaybeDatabase,
    Database,
    Client,
    Way,
    /// An option and its value.
    Setting,
    Option,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    None,
    Database(Option<String>),
    Client(u64),
    /// Of going down.
    Way(Signal),
    Setting(Setting),
}

/// What commands work on.
pub(super) struct Means<'a> {
    pub(super) house: &'a Arc<House>,
    pub(super) reins: &'a Reins,
    pub(super) console: &'a dyn Console,
}

/// What is left to do when a command has been run.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// For the process, when the client has its answer.
    pub(crate) signal: Option<Signal>,
    pub(crate) notices: Vec<PgError>,
}

impl Done {
    /// What whoever asked for another configuration should know of it.
    pub(super) fn of(reloaded: &Reloaded) -> Self {
        let said = |what: &str, options: &[&str]| {
            (!options.is_empty()).then(|| PgError::notice(format!("{what}: {}", options.join(", "))))
        };
        let needs_restart = said("these need a restart, and stay as they were", &reloaded.needs_restart);
        let unset = said("these had been set, and are as configured again", &reloaded.unset);
        let notes = reloaded.notes.iter().map(|note| PgError::notice(note.clone()));
        Self { signal: None, notices: needs_restart.into_iter().chain(unset).chain(notes).collect() }
    }
}

/// `name` in upper case.
pub(super) fn named(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

impl Takes {
    /// # Errors
    /// 42601 for what the command does not take.
    pub(super) fn read(self, command: &Command, rest: &[Token]) -> Result<Argument, PgError> {
        match self {
            Self::Setting => return Setting::assigned(rest).map(Argument::Setting),
            Self::Option => return Setting::reset(rest).map(Argument::Setting),
            _ => {}
        }
        let words: Option<Vec<&str>> = rest.iter().map(Token::word).collect();
        let argument = match (self, words.as_deref()) {
            (Self::Nothing, Some([])) => Some(Argument::None),
            (Self::MaybeDatabase, Some([])) => Some(Argument::Database(None)),
            (Self::MaybeDatabase | Self::Database, Some([name])) => Some(Argument::Database(Some((*name).to_owned()))),
            (Self::Client, Some([id])) => id.parse().ok().map(Argument::Client),
            (Self::Way, Some([])) => Some(Argument::Way(Signal::Stop)),
            (Self::Way, Some([way])) if way.eq_ignore_ascii_case("WAIT_FOR_SERVERS") => Some(Argument::Way(Signal::Drain)),
            (Self::Way, Some([way])) if way.eq_ignore_ascii_case("WAIT_FOR_CLIENTS") => Some(Argument::Way(Signal::Close)),
            _ => None,
        };
        argument.ok_or_else(|| {
            PgError::error(SqlState::SYNTAX_ERROR, format!("syntax error in {}", command.name))
                .with_hint(format!("Write {}; names with other characters than letters and digits in \"…\".", command.usage))
        })
    }
}

impl Command {
    /// Runs it. Dropped while it waits, it is taken back.
    ///
    /// # Errors
    /// What it is about does not exist, or is not in the state to do that.
    pub(super) async fn run(&self, means: &Means<'_>, argument: &Argument) -> Result<Done, PgError> {
        let Means { house, reins, console } = means;
        match argument {
            Argument::None => return reload(reins).await,
            Argument::Client(id) => kill_client(house, *console, *id)?,
            Argument::Way(signal) => return Ok(Done { signal: Some(*signal), ..Done::default() }),
            Argument::Setting(setting) => return setting.run(reins).await,
            Argument::Database(name) => {
                let scope = database::scope(house, name.as_deref())?;
                match self.verb {
                    Verb::Pause => paused(house, &scope, pause(house, &scope)?).await?,
                    Verb::WaitClose => wait_close(house, &scope).await,
                    _ => self.begin(house, &scope)?,
                }
            }
        }
        Ok(Done::default())
    }

    /// What it does at once, without waiting for what comes of that.
    ///
    /// # Errors
    /// As [`Command::run`].
    pub(super) fn begin(&self, house: &House, scope: &Scope) -> Result<(), PgError> {
        let registry = &house.registry;
        match self.verb {
            Verb::Pause => return pause(house, scope).map(drop),
            Verb::Resume if !registry.resume(scope) => return Err(not("paused", house, scope)),
            Verb::Disable => registry.disable(scope.clone()),
            Verb::Enable if !registry.enable(scope) => return Err(not("disabled", house, scope)),
            Verb::Reconnect => registry.covered(scope).iter().for_each(|pool| pool.reconnect()),
            Verb::Kill => kill(house, scope),
            Verb::Resume | Verb::Enable => {}
            Verb::WaitClose | Verb::Reload | Verb::Set | Verb::KillClient | Verb::Shutdown => {}
        }
        Ok(())
    }
}

/// With whatever is wrong, as the log has it; what needs a restart is a notice.
async fn reload(reins: &Reins) -> Result<Done, PgError> {
    let Some(reloader) = reins.reloader.get() else {
        return Err(PgError::error(SqlState::FEATURE_NOT_SUPPORTED, "this Sidepool has nothing to reload"));
    };
    let reloaded = reloader.reload().await.map_err(|refused| {
        PgError::error(SqlState::CONFIG_FILE_ERROR, refused.to_string())
            .with_detail("Nothing has changed.")
            .with_hint("Correct it, and RELOAD again.")
    })?;
    Ok(Done::of(&reloaded))
}

fn pause(house: &House, scope: &Scope) -> Result<Pause, PgError> {
    house.registry.pause(scope.clone()).ok_or_else(|| {
        let message = format!("{} is already paused", described(house, scope));
        let error = PgError::error(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message);
        error.with_hint("RESUME ends the pause.")
    })
}

/// Until the servers of a pause that has begun are gone.
async fn paused(house: &House, scope: &Scope, pause: Pause) -> Result<(), PgError> {
    let undo = Undo { house, pause: Some(pause) };
    let is_empty = || house.registry.covered(scope).iter().all(|pool| pool.has_no_servers());
    until(|| !house.registry.has_pause(scope) || is_empty()).await;
    undo.keep();
    if !house.registry.has_pause(scope) {
        let message = format!("the pause of {} was ended by RESUME", described(house, scope));
        return Err(PgError::error(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message));
    }
    Ok(())
}

/// A pause that nobody waits for any more: by a cancel request, or because the client went.
struct Undo<'a> {
    house: &'a House,
    pause: Option<Pause>,
}

impl Undo<'_> {
    fn keep(mut self) {
        self.pause = None;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(pause) = &self.pause {
            self.house.registry.take_back(pause);
        }
    }
}

async fn wait_close(house: &House, scope: &Scope) {
    until(|| house.registry.covered(scope).iter().all(|pool| pool.outdated() == 0)).await;
}

/// Clients go at once, their servers as soon as they are brought back; nobody gets new ones until a RESUME.
fn kill(house: &House, scope: &Scope) {
    house.registry.keep_paused(scope.clone());
    for session in house.sessions.all().iter().filter(|session| scope.covers(&session.about.pool)) {
        session.stop(Stop::Now);
    }
}

fn kill_client(house: &House, console: &dyn Console, id: u64) -> Result<(), PgError> {
    if house.sessions.stop(id) || console.end(id) {
        return Ok(());
    }
    let error = PgError::error(SqlState::UNDEFINED_OBJECT, format!("client {id} does not exist"));
    Err(error.with_hint("SHOW CLIENTS has the ids in its last column."))
}

fn not(what: &str, house: &House, scope: &Scope) -> PgError {
    let message = format!("{} is not {what}", described(house, scope));
    let error = PgError::error(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message);
    error.with_hint(
        "SHOW DATABASES says which are paused and which are disabled; what was done to everything is taken back for everything.",
    )
}

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tokens::statements;

    fn read(text: &str) -> Result<Argument, PgError> {
        let tokens = statements(text).unwrap().remove(0);
        let command = named(&tokens[0].word().unwrap().to_ascii_uppercase()).expect(text);
        command.takes.read(command, &tokens[1..])
    }

    #[test]
    fn arguments_are_what_the_command_takes() {
        assert_eq!(read("pause"), Ok(Argument::Database(None)));
        assert_eq!(read("PAUSE \"my db\""), Ok(Argument::Database(Some("my db".into()))));
        assert_eq!(read("KILL_CLIENT 17"), Ok(Argument::Client(17)));
        assert_eq!(read("SHUTDOWN wait_for_clients"), Ok(Argument::Way(Signal::Close)));
        for text in ["PAUSE a b", "DISABLE", "KILL_CLIENT", "KILL_CLIENT -1", "KILL_CLIENT all", "SHUTDOWN now", "PAUSE ="] {
            assert_eq!(read(text).expect_err(text).code, SqlState::SYNTAX_ERROR, "{text}");
        }
    }

    #[test]
    fn every_usage_begins_with_its_command() {
        for command in COMMANDS {
            assert_eq!(command.usage.split(' ').next(), Some(command.name));
        }
    }
}
