//! `sidepool`: arguments and environment in, exit code out.

use std::process::ExitCode;

use sidepool::cli::{self, Command, report};
use sidepool::config::Env;

/// Two thousand clients at once leave 10 MiB behind with glibc's, and with this one nothing (docs/performance.md).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // A variable that is not UTF-8 is none of ours.
    let env: Env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let colour = report::colour(&env);
    match cli::parse(std::env::args_os(), env) {
        Ok(Command::Urls { loaded, passwords }) => cli::print_urls(&loaded, passwords, colour),
        Ok(Command::Run { loaded, sources, begin }) => cli::serve::run(loaded, sources, begin, colour),
        Ok(Command::Dev { prepared, wishes, sources }) => cli::dev::run(*prepared, &wishes, sources, colour),
        Ok(Command::Lint { prepared, wishes, program }) => cli::lint::run(*prepared, &wishes, &program, colour),
        Ok(Command::Check(loaded)) => cli::check::run(&loaded, colour),
        Ok(Command::Health(prepared)) => cli::health::run(prepared.listen()),
        Ok(Command::Top { prepared, once }) => cli::top::run(&prepared, once, colour),
        Err(error) => error.report(colour),
    }
}
