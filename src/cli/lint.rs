//! `sidepool lint -- COMMAND`: the command runs against a pooler and a PostgreSQL of its own; at the end stands what it ran
//! that would break on a hosted pooler.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::dev::{self, Failure, Wishes};
use super::{serve, urls};
use crate::admin;
use crate::config::{ConfigError, Lint, Loaded, Prepared};
use crate::embedded::Server;
use crate::pool::PoolMode;
use crate::server::{self, Running, Signal, Signals};
use crate::session::{Finding, Findings};

/// There is something to correct.
const FOUND: u8 = 1;
/// What shells say of a command that a signal ended, less its number.
const BY_SIGNAL: i32 = 128;

/// Runs `program` with DATABASE_URL and DIRECT_URL set. Exit code: the program's own if it fails, else 1 if anything was
/// found, else 0; 2 if it could not be run.
pub fn run(prepared: Prepared, wishes: &Wishes, program: &[OsString], colour: bool) -> ExitCode {
    // Nothing is reloaded here.
    let _ = serve::init_log(prepared.log(), colour);
    let workers = prepared.workers();
    match serve::on_runtime(workers, async { Ok(lint(prepared, wishes, program).await) }) {
        Ok(Ok(Some(outcome))) => outcome.tell(),
        // A signal came before there was anything to run.
        Ok(Ok(None)) => ExitCode::FAILURE,
        Ok(Err(failure)) => failure.report(colour),
        Err(error) => Failure::from(error).report(colour),
    }
}

struct Outcome {
    status: ExitStatus,
    findings: Vec<Finding>,
}

async fn lint(prepared: Prepared, wishes: &Wishes, program: &[OsString]) -> Result<Option<Outcome>, Failure> {
    let mut signals = serve::signals()?;
    let mut postgres = tokio::select! {
        started = dev::start_postgres(&prepared, wishes) => started?,
        _ = signals.recv() => return Ok(None),
    };
    let outcome = front(&mut postgres, prepared, signals, program).await;
    let stopped = postgres.stop().await;
    let outcome = outcome?;
    stopped?;
    Ok(Some(outcome))
}

async fn front(postgres: &mut Server, prepared: Prepared, signals: Signals, program: &[OsString]) -> Result<Outcome, Failure> {
    let loaded = dev::settle(&dev::Place::of(postgres), prepared.lint_unless_told(Lint::Collect))?;
    let running = server::start(&loaded.settings, admin::console)?;
    let findings = running.house.lint.read().clone();
    let child = spawn(&running, &loaded, program)?;
    let (tell, told) = mpsc::unbounded_channel();
    let serving = tokio::spawn(running.serve(told));
    let status = wait(child, postgres, signals).await;
    let _ = tell.send(Signal::Stop);
    // It ends by itself, and says so in the log if it breaks.
    let _ = serving.await;
    Ok(Outcome { status: status?, findings: findings.as_deref().map(Findings::all).unwrap_or_default() })
}

fn spawn(running: &Running, loaded: &Loaded, program: &[OsString]) -> Result<Child, ConfigError> {
    let mut endpoint = urls::Endpoint::of(&loaded.settings.listen);
    endpoint.session_port = running.port(PoolMode::Session);
    endpoint.transaction_port = running.port(PoolMode::Transaction);
    let settings = dev::with_passwords(&loaded.settings);
    let Some((transaction, session)) = urls::pair(&settings, &endpoint) else {
        return Err(ConfigError::new("both ports are needed to run a command", "Switch neither of them off."));
    };
    let Some((name, arguments)) = program.split_first() else {
        return Err(ConfigError::new("there is no command to run", "Write it behind --: sidepool lint -- npm test"));
    };
    let mut command = Command::new(name);
    command.args(arguments).env("DATABASE_URL", transaction).env("DIRECT_URL", session).kill_on_drop(true);
    command.spawn().map_err(|error| {
        let name = name.to_string_lossy();
        ConfigError::new(format!("cannot run `{}`: {error}", name.escape_debug()), "Check its name and the PATH.")
    })
}

/// Until the command ends. A signal is passed on: it decides what to do about it. Without PostgreSQL there is no use in
/// going on.
async fn wait(mut child: Child, postgres: &mut Server, mut signals: Signals) -> Result<ExitStatus, Failure> {
    loop {
        tokio::select! {
            status = child.wait() => return status.map_err(|error| {
                ConfigError::new(format!("the command's end could not be waited for: {error}"), "This is a fault of the system.").into()
            }),
            Some(signal) = signals.recv() => pass_on(&child, signal),
            status = postgres.ended() => {
                let _ = child.kill().await;
                return Err(Failure::PostgresDied { status, log: postgres.log() });
            }
        }
    }
}

fn pass_on(child: &Child, signal: Signal) {
    let signal = match signal {
        Signal::Drain => rustix::process::Signal::TERM,
        Signal::Close | Signal::Stop => rustix::process::Signal::INT,
    };
    let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
        // It may have ended.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

impl Outcome {
    fn tell(&self) -> ExitCode {
        if let Err(error) = io::stdout().write_all(text(&self.findings).as_bytes())
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return ExitCode::FAILURE;
        }
        match self.status.code().or_else(|| self.status.signal().map(|signal| BY_SIGNAL + signal)) {
            Some(0) if self.findings.is_empty() => ExitCode::SUCCESS,
            Some(0) => FOUND.into(),
            code => code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FOUND).into(),
        }
    }
}

/// Kind by kind: what it is, why it breaks, what to write instead, and the statements.
fn text(findings: &[Finding]) -> String {
    let mut lines = vec![String::new()];
    for of_kind in findings.chunk_by(|one, other| one.remark.hazard == other.remark.hazard) {
        let hazard = of_kind[0].remark.hazard;
        lines.push(format!("{}: {}", hazard.title(), of_kind.len()));
        lines.push(format!("  why  {}", hazard.why()));
        lines.push(format!("  fix  {}", hazard.fix()));
        lines.extend(of_kind.iter().map(line));
        lines.push(String::new());
    }
    lines.push(match findings.len() {
        0 => "lint: nothing found that would break on a hosted transaction-mode pooler".to_owned(),
        1 => "lint: 1 statement would break or leak on a hosted transaction-mode pooler".to_owned(),
        many => format!("lint: {many} statements would break or leak on a hosted transaction-mode pooler"),
    });
    lines.join("\n") + "\n"
}

/// Neither text is ours: control characters do not reach the terminal.
fn line(finding: &Finding) -> String {
    let Finding { remark, application } = finding;
    let printable = |text: &str| text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    match application.as_str() {
        "" => format!("    {}", printable(&remark.statement)),
        name => format!("    {}  [{}]", printable(&remark.statement), printable(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sql::{Hazard, Remark};

    fn finding(hazard: Hazard, statement: &str, application: &str) -> Finding {
        Finding { remark: Remark { hazard, statement: statement.into() }, application: application.into() }
    }

    #[test]
    fn findings_are_grouped_with_their_fix() {
        let all = [
            finding(Hazard::Setting, "SET a = ?", "shop"),
            finding(Hazard::Setting, "SET b = ?\x1b[2J", ""),
            finding(Hazard::Listen, "LISTEN jobs", "worker"),
        ];
        let text = text(&all);
        assert!(text.contains("a setting of the session: 2\n") && text.contains("LISTEN: 1\n"), "{text}");
        assert!(text.contains("    SET a = ?  [shop]\n    SET b = ?\u{fffd}[2J\n"), "{text}");
        assert!(
            text.contains(Hazard::Listen.fix())
                && text.ends_with("3 statements would break or leak on a hosted transaction-mode pooler\n")
        );
        assert!(text.find("SET b") < text.find("LISTEN jobs"));
    }

    #[test]
    fn the_commands_failure_goes_before_findings() {
        let code = |raw: i32, findings: Vec<Finding>| Outcome { status: ExitStatus::from_raw(raw), findings }.tell();
        let one = || vec![finding(Hazard::Listen, "LISTEN jobs", "")];
        let same = |code: ExitCode, expected: u8| format!("{code:?}") == format!("{:?}", ExitCode::from(expected));
        assert!(same(code(0, vec![]), 0) && same(code(0, one()), FOUND));
        assert!(same(code(7 << 8, one()), 7) && same(code(9, vec![]), 137));
    }
}
