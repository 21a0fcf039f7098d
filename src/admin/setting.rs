//! SET and RESET of the pooler's own options: those that a reload takes up.

use std::fmt;
use std::time::Duration;

use super::commands::Done;
use super::tokens::Token;
use crate::config::kind::Kind;
use crate::config::options::{self, Opt, Reload};
use crate::config::units::format_duration;
use crate::config::{Password, guess};
use crate::error::{PgError, SqlState};
use crate::server::Reins;

/// One option and what becomes of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Setting {
    option: &'static str,
    /// `None` is RESET.
    value: Option<Password>,
}

impl Setting {
    /// What stands behind SET: `name = value` or `name TO value`.
    ///
    /// # Errors
    /// 42601; 42704 for a name that is none; 55P02 for an option that needs a restart.
    pub(super) fn assigned(rest: &[Token]) -> Result<Self, PgError> {
        let [Token::Word(name), equals, value @ ..] = rest else { return Err(unreadable()) };
        if *equals != Token::Symbol('=') && !equals.is("to") || value.is_empty() {
            return Err(unreadable());
        }
        // `a, b`, `10.0.0.0/8` and `info,sidepool=debug` are several words; with blanks in it, a value stands in quotation marks.
        let value: String = value.iter().map(ToString::to_string).collect();
        let Named { option, is_theirs } = named(name)?;
        let value = if is_theirs { in_our_units(option, value) } else { value };
        Ok(Self { option: option.key, value: Some(Password::new(value)) })
    }

    /// What stands behind RESET.
    ///
    /// # Errors
    /// As [`Setting::assigned`].
    pub(super) fn reset(rest: &[Token]) -> Result<Self, PgError> {
        let [Token::Word(name)] = rest else { return Err(unreadable()) };
        Ok(Self { option: named(name)?.option.key, value: None })
    }

    /// Takes it up as a reload would.
    ///
    /// # Errors
    /// 22023, with what is wrong with it.
    pub(super) async fn run(&self, reins: &Reins) -> Result<Done, PgError> {
        let Some(reloader) = reins.reloader.get() else {
            return Err(PgError::error(SqlState::FEATURE_NOT_SUPPORTED, "this Sidepool has no configuration to change"));
        };
        let reloaded = reloader.set(self.option, self.value.clone()).await.map_err(|refused| {
            PgError::error(SqlState::INVALID_PARAMETER_VALUE, refused.to_string()).with_detail("Nothing has changed.")
        })?;
        Ok(Done::of(&reloaded))
    }
}

/// Without the value, which may be a secret: the log has it from whoever takes it up.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.option)
    }
}

/// Whether an option has this name, ours or PgBouncer's.
pub(super) fn is_known(name: &str) -> bool {
    options::all().any(|option| option.key == name || is_theirs(option, name))
}

struct Named {
    option: &'static Opt,
    /// It was called as PgBouncer calls it.
    is_theirs: bool,
}

fn is_theirs(option: &Opt, name: &str) -> bool {
    option.elsewhere.contains(&("PgBouncer", name))
}

/// In lower case.
fn named(name: &str) -> Result<Named, PgError> {
    let name = name.to_ascii_lowercase();
    let ours = options::all().find(|option| option.key == name).map(|option| Named { option, is_theirs: false });
    let found = ours.map_or_else(|| by_their_name(&name), Ok)?;
    if found.option.reload == Reload::Live {
        return Ok(found);
    }
    let message = format!("parameter \"{name}\" cannot be changed without restarting Sidepool");
    Err(PgError::error(SqlState::CANT_CHANGE_RUNTIME_PARAM, message)
        .with_hint("Change it where it is configured, and restart; SHOW CONFIG says of each option whether it is changeable."))
}

/// Some of PgBouncer's options are several here. Where one of them is the number that PgBouncer has, that is meant, as in
/// SHOW CONFIG.
fn by_their_name(name: &str) -> Result<Named, PgError> {
    let all: Vec<&Opt> = options::all().filter(|option| is_theirs(option, name)).collect();
    let number = all.iter().find(|option| option.kind.number(option.default).is_some());
    match (number, all.as_slice()) {
        (Some(option), _) | (None, [option]) => Ok(Named { option, is_theirs: true }),
        (None, []) => Err(unknown(name)),
        (None, several) => {
            let names: Vec<_> = several.iter().map(|option| option.key).collect();
            Err(PgError::error(SqlState::UNDEFINED_OBJECT, format!("parameter \"{name}\" is several here"))
                .with_hint(format!("Set one of them: {}.", names.join(", "))))
        }
    }
}

fn unknown(name: &str) -> PgError {
    let guess = guess(name).map(|guess| format!("Did you mean {guess}? ")).unwrap_or_default();
    PgError::error(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
        .with_hint(format!("{guess}SHOW CONFIG lists those that there are."))
}

/// PgBouncer's times are in seconds, with a fraction or without.
fn in_our_units(option: &Opt, value: String) -> String {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = || Duration::try_from_secs_f64(value.parse().ok()?).ok();
    match seconds().filter(|_| is_number && matches!(option.kind, Kind::Duration { .. })) {
        // What is too little to be written in our units is not the same as none.
        Some(time) if time.is_zero() || time.as_millis() > 0 => format_duration(time),
        _ => value,
    }
}

fn unreadable() -> PgError {
    PgError::error(SqlState::SYNTAX_ERROR, "syntax error in SET or RESET")
        .with_hint("Write SET key = value, with a value of several words in '…', or RESET key.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tokens::statements;

    fn assigned(text: &str) -> Result<(&'static str, String), PgError> {
        let setting = Setting::assigned(&statements(text).unwrap()[0])?;
        Ok((setting.option, setting.value.unwrap().reveal().to_owned()))
    }

    #[test]
    fn options_have_our_names_and_pgbouncers_with_its_units() {
        for (text, option, value) in [
            ("limits.pool_size = 7", "limits.pool_size", "7"),
            ("LIMITS.POOL_SIZE TO '7'", "limits.pool_size", "7"),
            ("default_pool_size=7", "limits.pool_size", "7"),
            ("timeouts.queue_wait = 90s", "timeouts.queue_wait", "90s"),
            ("timeouts.queue_wait = 90", "timeouts.queue_wait", "90"),
            ("query_wait_timeout = 90", "timeouts.queue_wait", "90s"),
            ("query_wait_timeout = 0.5", "timeouts.queue_wait", "500ms"),
            ("query_wait_timeout = 0", "timeouts.queue_wait", "0"),
            ("query_wait_timeout = 0.0001", "timeouts.queue_wait", "0.0001"),
            ("query_wait_timeout = 2min", "timeouts.queue_wait", "2min"),
            ("query_wait_timeout = inf", "timeouts.queue_wait", "inf"),
            ("max_prepared_statements = 9", "limits.prepared_statements_per_server", "9"),
            ("admin_users = ops, deploy", "admin_users", "ops,deploy"),
            ("stats_users = ''", "stats_users", ""),
            ("allow = 10.0.0.0/8, ::1", "allow", "10.0.0.0/8,::1"),
            ("log.filter = info,sidepool::pool=debug", "log.filter", "info,sidepool::pool=debug"),
            ("auth_query = 'SELECT a, b FROM f($1)'", "auth_query", "SELECT a, b FROM f($1)"),
        ] {
            assert_eq!(assigned(text), Ok((option, value.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_set_is_refused_with_what_to_do() {
        for (text, code, hint) in [
            ("workers = 3", SqlState::CANT_CHANGE_RUNTIME_PARAM, "restart"),
            ("listen_addr = '*'", SqlState::CANT_CHANGE_RUNTIME_PARAM, "restart"),
            ("pool_size = 3", SqlState::UNDEFINED_OBJECT, "Did you mean limits.pool_size?"),
            ("default_pool_sise = 3", SqlState::UNDEFINED_OBJECT, "Did you mean limits.pool_size?"),
            ("nothing_of_the_kind = 3", SqlState::UNDEFINED_OBJECT, "SHOW CONFIG lists"),
            (
                "client_tls_sslmode = require",
                SqlState::UNDEFINED_OBJECT,
                "require_tls, client_tls.enabled, client_tls.client_cert",
            ),
            ("limits.pool_size 3", SqlState::SYNTAX_ERROR, "SET key = value"),
            ("limits.pool_size =", SqlState::SYNTAX_ERROR, "SET key = value"),
            ("= 3", SqlState::SYNTAX_ERROR, "SET key = value"),
        ] {
            let error = assigned(text).expect_err(text);
            assert!(error.code == code && error.hint.as_deref().is_some_and(|said| said.contains(hint)), "{text}: {error:?}");
        }
    }

    #[test]
    fn every_option_can_be_set_unless_it_needs_a_restart() {
        for option in options::all() {
            let code = assigned(&format!("{} = x", option.key)).err().map(|error| error.code);
            let expected = (option.reload == Reload::Restart).then_some(SqlState::CANT_CHANGE_RUNTIME_PARAM);
            assert_eq!(code, expected, "{}", option.key);
        }
    }

    #[test]
    fn no_value_is_in_the_log() {
        let setting = Setting::assigned(&statements("auth_password = hunter2").unwrap()[0]).unwrap();
        assert_eq!(format!("{setting:?}"), "auth_password");
    }
}
