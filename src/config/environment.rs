//! Which variables are ours.

use std::collections::BTreeMap;

use super::kind::Kind;
use super::nearest::nearest;
use super::options::{self, CONFIG_FILE, ENV_PREFIX, Opt};

/// The environment as `main` found it. Nothing below asks the process for it.
pub type Env = BTreeMap<String, String>;

/// What of the environment sets options, and what is to be said about the rest.
#[derive(Default)]
pub(super) struct Selected {
    /// By the option's key. Empty variables count as unset, as `docker compose` passes those it has no value for.
    pub(super) values: BTreeMap<&'static str, String>,
    pub(super) notes: Vec<String>,
}

/// An unknown `SIDEPOOL_*` is no mistake: Kubernetes sets `SIDEPOOL_PORT=tcp://…` in every pod beside a Service called
/// `sidepool`, and a Service called `sidepool-session` even sets `SIDEPOOL_SESSION_PORT`, which is a name of ours.
pub(super) fn select(env: &Env) -> Selected {
    let mut selected = Selected::default();
    let mut of_kubernetes = Vec::new();
    for (name, value) in env.iter().filter(|(name, value)| name.starts_with(ENV_PREFIX) && !value.is_empty()) {
        match options::all().find(|option| option.env == name) {
            Some(option) if !is_service_port(option, value) => {
                selected.values.insert(option.key, value.clone());
            }
            None if name == CONFIG_FILE.1 => {}
            None if !is_service_name(name, value) => selected.notes.push(unknown(name)),
            _ => of_kubernetes.push(name.as_str()),
        }
    }
    if !of_kubernetes.is_empty() {
        let names = of_kubernetes.join(", ");
        selected.notes.push(format!("ignored variables that Kubernetes sets for a Service: {names}"));
    }
    selected
}

fn unknown(name: &str) -> String {
    let known = options::all().map(|option| option.env).chain([CONFIG_FILE.1]);
    let guess = nearest(name, known).map(|known| format!("; did you mean {known}?")).unwrap_or_default();
    format!("the variable {} is unknown and has no effect{guess}", name.escape_debug())
}

fn is_service_port(option: &Opt, value: &str) -> bool {
    matches!(option.kind, Kind::Port(_)) && is_service_url(value)
}

fn is_service_name(name: &str, value: &str) -> bool {
    let numbered = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains(protocol)) && name.contains("_PORT_");
    let plain = name.ends_with("_PORT") && is_service_url(value);
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || numbered || plain
}

fn is_service_url(value: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(pairs: &[(&str, &str)]) -> Selected {
        select(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn known_names_are_taken_as_they_are() {
        let Selected { values, notes } =
            selected(&[("SIDEPOOL_POOL_SIZE", "007"), ("SIDEPOOL_LOG", ""), ("SIDEPOOL_CONFIG", "x"), ("PATH", "/bin")]);
        assert_eq!(values, BTreeMap::from([("limits.pool_size", "007".to_owned())]));
        assert_eq!(notes, Vec::<String>::new());
    }

    #[test]
    fn unknown_names_are_noted_with_the_nearest_known_one() {
        let notes = selected(&[("SIDEPOOL_POOLSIZE", "3"), ("SIDEPOOL_QUANTUM", "3")]).notes;
        assert_eq!(
            notes,
            [
                "the variable SIDEPOOL_POOLSIZE is unknown and has no effect; did you mean SIDEPOOL_POOL_SIZE?",
                "the variable SIDEPOOL_QUANTUM is unknown and has no effect",
            ]
        );
    }

    #[test]
    fn what_kubernetes_sets_for_services_is_one_note_and_no_setting() {
        let Selected { values, notes } = selected(&[
            ("SIDEPOOL_PORT", "tcp://10.0.0.1:5432"),
            ("SIDEPOOL_PORT_5432_TCP", "tcp://10.0.0.1:5432"),
            ("SIDEPOOL_PORT_5432_TCP_ADDR", "10.0.0.1"),
            ("SIDEPOOL_SERVICE_HOST", "10.0.0.1"),
            ("SIDEPOOL_SERVICE_PORT_SESSION", "5432"),
            ("SIDEPOOL_SESSION_PORT", "tcp://10.0.0.2:5432"),
            ("SIDEPOOL_TRANSACTION_PORT", "7000"),
        ]);
        assert_eq!(values, BTreeMap::from([("listen.transaction_port", "7000".to_owned())]));
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("SIDEPOOL_SESSION_PORT") && !notes[0].contains("SIDEPOOL_TRANSACTION_PORT"));
    }
}
