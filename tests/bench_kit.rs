//! The bench kit measures, and leaves nothing running: with this build of Sidepool, one workload of each kind that is quick.
//! Its figures say nothing here.

use std::path::Path;
use std::process::{Command, Output};

const NEEDS: [&str; 3] = ["python3", "pgbench", "psql"];

#[test]
fn the_kit_measures_what_it_lists() {
    if let Some(missing) = NEEDS.iter().find(|program| !is_there(program)) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing} is not installed");
        return eprintln!("skipped: {missing} is not installed");
    }
    let listed = said(&kit(&["--list", "--quick"]));
    assert!(listed.lines().count() > 10, "{listed}");

    let out = tempfile::tempdir().expect("there is room");
    let place = out.path().to_str().expect("it is text");
    let only = "select-1-simple-1,logins-scram,idle-tls,copy-in,burst";
    let table = said(&kit(&["--quick", "--no-build", "--peers", "sidepool", "--only", only, "--out", place]));
    let rows = rows_with_figures(&table, 5);
    assert!(rows[2].contains(" 2 000 ") && rows[2].contains("100.0"), "not all of the burst were served: {table}");
    for (file, beginning) in [("table.md", "PostgreSQL "), ("plot.svg", "<svg "), ("figures.json", "{")] {
        let written = std::fs::read_to_string(out.path().join(file)).expect(file);
        assert!(written.starts_with(beginning), "{file}: {written}");
    }
}

#[test]
fn candidates_that_take_turns_within_a_round_are_told_apart_by_what_each_costs() {
    if NEEDS.iter().any(|program| !is_there(program)) {
        return eprintln!("skipped: one of {NEEDS:?} is not installed");
    }
    let out = tempfile::tempdir().expect("there is room");
    let place = out.path().to_str().expect("it is text");
    let only = ["--only", "select-1-simple-1,reconnect-8", "--peers", "sidepool,pgbouncer", "--out", place];
    let table = said(&kit(&[&["--slices", "--no-build", "--rounds", "2", "--seconds", "1"], &only[..]].concat()));
    rows_with_figures(&table, 2);
    // What cannot be cut is measured as ever.
    let heads: Vec<_> = table.lines().filter(|line| line.starts_with("| **")).collect();
    assert!(!heads[0].contains("per second") && heads[1].contains("per second"), "{table}");
    let says_how_far = table.contains("CPU of sidepool / pgbouncer in 2 rounds");
    assert_eq!(says_how_far, is_there("pgbouncer") || Path::new("/usr/sbin/pgbouncer").exists(), "{table}");
}

#[test]
fn what_there_was_no_time_or_no_program_for_is_named() {
    if NEEDS.iter().any(|program| !is_there(program)) {
        return eprintln!("skipped: one of {NEEDS:?} is not installed");
    }
    let out = tempfile::tempdir().expect("there is room");
    let place = out.path().to_str().expect("it is text");
    let mut kit = command(&["--rounds", "2", "--no-build", "--peers", "sidepool,relay", "--only", "select-1-simple-1,burst"]);
    kit.args(["--minutes", "0.001", "--out", place]).env("RELAY", "/nowhere/relay");
    let table = said(&kit.output().expect("python3 is there"));
    let rows = table.lines().filter(|line| line.starts_with("| sidepool ") && line.contains("not run, the time was up"));
    assert_eq!(rows.count(), 2, "{table}");
    assert!(table.contains("Not run for want of it: select-1-simple-1 (2 rounds), burst (2 rounds)."), "{table}");
    assert!(table.contains("relay is not there; cargo build --release --example relay makes it"), "{table}");
}

/// One for each workload; the kit says n/a where something failed.
fn rows_with_figures(table: &str, count: usize) -> Vec<&str> {
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| sidepool  ")).collect();
    assert_eq!(rows.len(), count, "{table}");
    assert!(rows.iter().all(|row| row.contains(|c: char| c.is_ascii_digit()) && !row.contains("n/a")), "{table}");
    rows
}

fn kit(arguments: &[&str]) -> Output {
    command(arguments).output().expect("python3 is there")
}

fn command(arguments: &[&str]) -> Command {
    let mut kit = Command::new("python3");
    kit.arg("benches/run.py").args(arguments).env("SIDEPOOL", env!("CARGO_BIN_EXE_sidepool"));
    kit
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
