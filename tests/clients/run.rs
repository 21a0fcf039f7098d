//! One program of a client: run to its end, and judged by what it said.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use crate::install::Place;

/// The programs bound themselves; this is for when that fails.
const LIMIT: Duration = Duration::from_secs(300);

/// Where it matters, nothing is skipped.
pub(crate) fn skip(name: &str, missing: &str) {
    eprintln!("skipped: {name}: {missing}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} cannot be skipped here: {missing}");
}

/// It succeeds, in time, and has said `ok …` about each of its cases and nothing else.
pub(crate) async fn run(name: &str, place: &Place, command: &[&str], environment: &[(&str, String)]) {
    let output = place.directory.join(format!("{name}.out"));
    if let Err(why) = finish(&place.directory, command, environment, &output).await {
        panic!("{name}: {why}\n{}", fs::read_to_string(&output).unwrap_or_default());
    }
}

async fn finish(directory: &Path, command: &[&str], environment: &[(&str, String)], output: &Path) -> Result<(), String> {
    let file = File::create(output).expect("it is ours");
    let program = if command[0].contains('/') { directory.join(command[0]) } else { command[0].into() };
    let mut child = Command::new(&program)
        .args(&command[1..])
        .current_dir(directory)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("it is open"))
        .stderr(file)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("nobody has waited for it");
    let Ok(status) = tokio::time::timeout(LIMIT, child.wait()).await else {
        // With the programs that it started.
        kill_process_group(group, Signal::KILL).expect("it has not ended");
        return Err(format!("it took more than {LIMIT:?}"));
    };
    let said = fs::read_to_string(output).map_err(|error| error.to_string())?;
    match status {
        Ok(status) if !status.success() => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
        Ok(_) if said.is_empty() => Err("it tried nothing".into()),
        Ok(_) => said.lines().find(|line| !line.starts_with("ok ")).map_or(Ok(()), |line| Err(format!("it said {line:?}"))),
    }
}
