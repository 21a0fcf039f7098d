//! The committed reference texts are the ones the option table makes. `SIDEPOOL_BLESS=1` rewrites them.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

use std::path::Path;

use sidepool::config::{Sources, load, reference};

fn committed(path: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("SIDEPOOL_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, generated).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let first = text.lines().zip(generated.lines()).position(|(is, should)| is != should);
    assert!(text == generated, "{} differs from line {first:?} (0-based) on; run with SIDEPOOL_BLESS=1", path.display());
}

#[test]
fn the_commented_file_is_generated() {
    committed("config/sidepool.toml", &reference::toml());
}

#[test]
fn the_documentation_is_generated() {
    committed("docs/configuration.md", &reference::markdown());
}

fn settings_of(text: &str, upstream: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sidepool.toml");
    std::fs::write(&path, text).unwrap();
    let flags = [("upstream", upstream.to_owned())].into();
    let loaded = load(&Sources { flags, config_file: Some(path), ..Sources::default() }).unwrap();
    assert_eq!(loaded.notes.len(), 1, "{:?}", loaded.notes);
    format!("{:?}", loaded.settings)
}

const UPSTREAM: &str = "postgres://u@db.example.com";

#[test]
fn the_commented_file_sets_nothing() {
    assert_eq!(settings_of(&reference::toml(), UPSTREAM), settings_of("", UPSTREAM));
}

/// What a person gets who takes away every `#`: the defaults again, with the examples where there are none.
#[test]
fn the_commented_options_are_the_defaults() {
    let examples = [
        "upstream",
        "state_dir",
        "unix_socket_dir",
        "control_socket",
        "http_token",
        "certificate",
        "key",
        "client_ca",
        "client_cert",
        "auth_user",
        "auth_password",
        "admin_users",
        "stats_users",
    ];
    let uncommented: String = reference::toml()
        .split("\n# Projects.")
        .next()
        .unwrap()
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .filter(|line| !examples.iter().any(|name| line.starts_with(&format!("{name} = "))))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(uncommented.contains("\npool_size = 20\n"));
    assert_eq!(settings_of(&uncommented, UPSTREAM), settings_of("", UPSTREAM));
}

#[test]
fn the_examples_are_legal() {
    let uncommented: String = reference::toml()
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sidepool.toml");
    std::fs::write(&path, uncommented).unwrap();
    let loaded = load(&Sources { config_file: Some(path), ..Sources::default() }).unwrap();
    let names: Vec<&str> = loaded.settings.projects.iter().map(|project| project.name.as_str()).collect();
    assert_eq!(names, ["shop", "*"]);
    assert_eq!(loaded.settings.projects[0].users.len(), 3);
}
