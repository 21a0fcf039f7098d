//! What other settings are to a process that runs already.

use std::sync::Arc;

use super::Try;
use crate::config::{Settings, options};

/// A value that is not the default, of every option that needs a restart.
const OTHERS: [(&str, &str); 13] = [
    ("isolation", "strict"),
    ("workers", "3"),
    ("watch", "true"),
    ("listen.addresses", "127.0.0.1"),
    ("listen.session_port", "7001"),
    ("listen.transaction_port", "7002"),
    ("listen.unix_socket_dir", "/run/sidepool"),
    ("listen.reuse_port", "true"),
    ("listen.control_socket", "/run/sidepool/control"),
    ("listen.http", "127.0.0.1:9930"),
    ("listen.http_token", "secret"),
    ("log.format", "json"),
    ("named_statements", "forget"),
];

#[test]
fn what_needs_a_restart_is_named_and_stays_as_it_was() {
    let running = Try::new().load().unwrap();
    for option in options::fixed() {
        let (_, value) = OTHERS.iter().find(|(key, _)| *key == option.key).unwrap_or_else(|| panic!("{}", option.key));
        let other = Try::new().flag(option.key, value).load().unwrap();
        assert_ne!(format!("{:?}", other.settings), format!("{:?}", running.settings), "{}", option.key);
        assert_eq!(other.fixed.changed_since(&running.fixed), [option.key]);
        let taken = Settings::clone(&other.settings).in_place_of(&running.settings);
        assert_eq!(format!("{taken:?}"), format!("{:?}", running.settings), "{}", option.key);
    }
}

#[test]
fn the_rest_counts_and_is_not_named() {
    let running = Try::new().load().unwrap();
    let other = Try::new().flag("limits.pool_size", "7").flag("log.filter", "debug").load().unwrap();
    assert_eq!(other.fixed.changed_since(&running.fixed), [] as [&str; 0]);
    let taken = Settings::clone(&other.settings).in_place_of(&running.settings);
    assert_eq!(format!("{taken:?}"), format!("{:?}", other.settings));
}

#[test]
fn a_project_that_is_the_same_is_the_same_one() {
    let projects = |size: usize| {
        let file = format!(
            "[projects.a]\nupstream = \"postgres://h/d\"\n[projects.b]\nupstream = \"postgres://h/d\"\npool_size = {size}\n"
        );
        Try::default().file(&file).settings()
    };
    let (running, other) = (projects(3), projects(4));
    let taken = Settings::clone(&other).in_place_of(&running);
    let kept: Vec<_> = taken.projects.iter().zip(&running.projects).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
    assert_eq!(kept, [true, false]);
    assert_eq!(taken.projects[1].pool_size, 4);
}

#[test]
fn a_project_is_disabled_for_a_reason() {
    let disabled =
        |value: &str| Try::default().file(&format!("[projects.a]\nupstream = \"postgres://h/d\"\ndisabled = {value}\n"));
    let reason = |value| disabled(value).settings().projects[0].disabled.clone();
    assert_eq!(reason("false"), None);
    assert_eq!(reason("true").as_deref(), Some("it is disabled in the configuration"));
    assert_eq!(reason("\"until 6 pm\"").as_deref(), Some("until 6 pm"));
    for bad in ["1", "\"\"", "\"two\\nlines\"", "[]"] {
        assert_eq!(disabled(bad).error(), "projects.a.disabled in sidepool.toml must be true, false, or a text that says why");
    }
}
