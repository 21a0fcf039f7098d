//! What people are told on the terminal.

use std::io::{IsTerminal, Write};

use crate::config::{ConfigError, Env};

/// Exit code for mistakes in the configuration and at start-up; as for a wrong command line, so that a supervisor can tell
/// "no use in trying again" from a crash.
pub const MISTAKE: u8 = 2;

const RED: &str = "\x1b[1;31m";
const CYAN: &str = "\x1b[1;36m";
const YELLOW: &str = "\x1b[1;33m";
const PLAIN: &str = "\x1b[0m";

/// Whether standard error takes colours: only a terminal does, and not with `NO_COLOR` (no-color.org) or `TERM=dumb`.
pub fn colour(env: &Env) -> bool {
    wants_colour(env) && std::io::stderr().is_terminal()
}

/// `error: …` and `hint: …`, to standard error.
pub fn print_error(error: &ConfigError, colour: bool) {
    to_stderr(&render_error(error, colour));
}

/// `note: …` for each, to standard error.
pub fn print_notes(notes: &[String], colour: bool) {
    let lines: String = notes.iter().map(|note| label("note", YELLOW, note, colour)).collect();
    to_stderr(&lines);
}

fn render_error(error: &ConfigError, colour: bool) -> String {
    label("error", RED, &error.message, colour) + &label("hint", CYAN, &error.hint, colour)
}

fn label(name: &str, start: &str, text: &str, colour: bool) -> String {
    if colour { format!("{start}{name}:{PLAIN} {text}\n") } else { format!("{name}: {text}\n") }
}

fn wants_colour(env: &Env) -> bool {
    let refused = env.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && env.get("TERM").is_none_or(|term| term != "dumb")
}

/// In one write, so that the lines of two processes do not mix. If standard error is gone, there is nobody left to tell.
fn to_stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_a_line_for_what_and_one_for_what_to_do() {
        let error = ConfigError::new("limits.pool_size is too large", "Lower it.");
        assert_eq!(render_error(&error, false), "error: limits.pool_size is too large\nhint: Lower it.\n");
        assert_eq!(
            render_error(&error, true),
            "\x1b[1;31merror:\x1b[0m limits.pool_size is too large\n\x1b[1;36mhint:\x1b[0m Lower it.\n"
        );
    }

    #[test]
    fn colours_can_be_refused() {
        let env = |name: &str, value: &str| Env::from([(name.to_owned(), value.to_owned())]);
        assert!(wants_colour(&Env::new()) && wants_colour(&env("NO_COLOR", "")) && wants_colour(&env("TERM", "xterm")));
        assert!(!wants_colour(&env("NO_COLOR", "1")) && !wants_colour(&env("TERM", "dumb")));
    }
}
