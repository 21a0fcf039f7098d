//! `sidepool`: arguments and environment in, exit code out.

use std::process::ExitCode;

use sidepool::cli::{self, CliError, Command, report};
use sidepool::config::{ConfigError, Env};

fn main() -> ExitCode {
    // A variable that is not UTF-8 is none of ours.
    let env: Env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let colour = report::colour(&env);
    match cli::parse(std::env::args_os(), env) {
        Ok(Command::Urls { loaded, passwords }) => cli::print_urls(&loaded, passwords, colour),
        Ok(Command::Run(loaded)) => cli::serve::run(&loaded, colour),
        Ok(Command::Dev { .. } | Command::Check(_)) => {
            let error = ConfigError::new("this build has no pooler in it, only its configuration", "Try `sidepool urls`.");
            CliError::from(error).report(colour)
        }
        Err(error) => error.report(colour),
    }
}
