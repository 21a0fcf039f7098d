//! The examples in `config/` say what is so: options that exist, values that are taken, metrics that are counted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use sidepool::config::{Env, Sources, load, reference};
use yaml_rust2::{Yaml, YamlLoader};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Words of these bytes that begin so.
fn words(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_word(c)).filter(|word| word.len() > prefix.len() && word.starts_with(prefix));
    words.map(str::to_owned).collect()
}

/// Starts with nothing but these variables, and has nothing to say about them.
fn taken(name: &str, variables: &[(String, String)]) -> sidepool::cli::Loaded {
    let mut env: Env = variables.iter().cloned().collect();
    env.entry("SIDEPOOL_UPSTREAM".into()).or_insert_with(|| "postgres://u:p@db.example.com/d".into());
    let loaded = load(&Sources { env, ..Sources::default() }).unwrap_or_else(|error| panic!("{name}: {error}"));
    let about_variables: Vec<_> = loaded.notes.iter().filter(|note| note.contains("variable")).collect();
    assert!(about_variables.is_empty(), "{name}: {about_variables:?}");
    loaded
}

#[test]
fn every_variable_and_flag_exists() {
    let known = reference::toml();
    for name in ["sidepool.service", "Dockerfile", "compose.yaml", "kubernetes.yaml"] {
        let variables = words(&text(name), "SIDEPOOL_");
        assert!(!variables.is_empty(), "{name}");
        for variable in variables {
            assert!(words(&known, "SIDEPOOL_").contains(&variable), "{name}: {variable} is no option");
        }
    }
    let help = Command::new(env!("CARGO_BIN_EXE_sidepool")).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let unit = text("sidepool.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    for flag in start.split(' ').filter(|word| word.starts_with("--")) {
        assert!(help.contains(&format!("{flag} ")), "{flag} is no flag of `sidepool run`");
    }
}

#[test]
fn the_variables_of_the_image_are_taken() {
    let dockerfile = text("Dockerfile").replace("\\\n", " ");
    let line = dockerfile.lines().find_map(|line| line.strip_prefix("ENV ")).unwrap();
    let pairs: Vec<_> = line.split_whitespace().map(|pair| pair.split_once('=').unwrap()).map(owned).collect();
    let loaded = taken("Dockerfile", &pairs);
    assert!(loaded.settings.listen.http.unwrap().ip().is_loopback(), "without a token");
    assert!(loaded.settings.listen.addresses.iter().any(|address| address.is_unspecified()));
    assert!(dockerfile.contains("HEALTHCHECK") && dockerfile.contains(r#"CMD ["/sidepool", "health"]"#));
    assert!(dockerfile.lines().any(|line| line == "USER 65532:65532"), "not root");
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn what_compose_sets_is_taken_and_the_drain_has_time() {
    let document = &yaml("compose.yaml")[0];
    let sidepool = &document["services"]["sidepool"];
    let environment = sidepool["environment"].as_hash().unwrap();
    let password = "${POSTGRES_PASSWORD:?set a password}";
    let pairs: Vec<_> = environment
        .iter()
        .map(|(name, value)| (name.as_str().unwrap().to_owned(), value.as_str().unwrap().replace(password, "secret")))
        .collect();
    let loaded = taken("compose.yaml", &pairs);
    let grace: u64 = sidepool["stop_grace_period"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    assert!(loaded.settings.timeouts.drain.as_secs() < grace);
    let build = &sidepool["build"];
    let dockerfile = path("").join(build["context"].as_str().unwrap()).join(build["dockerfile"].as_str().unwrap());
    assert!(dockerfile.is_file(), "{}", dockerfile.display());
    for depends in [sidepool, &document["services"]["app"]] {
        let on = depends["depends_on"].as_hash().unwrap().iter().next().unwrap();
        assert!(!document["services"][on.0.as_str().unwrap()].is_badvalue(), "{on:?}");
        assert_eq!(on.1["condition"].as_str(), Some("service_healthy"));
    }
}

#[test]
fn the_sidecar_of_kubernetes_is_one() {
    let documents = yaml("kubernetes.yaml");
    let secret = &documents[0]["stringData"];
    let pod = &documents[1]["spec"]["template"]["spec"];
    let sidecar = &pod["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"].as_str(), Some("Always"));
    let pairs: Vec<_> = sidecar["env"]
        .as_vec()
        .unwrap()
        .iter()
        .map(|variable| {
            let key = &variable["valueFrom"]["secretKeyRef"]["key"];
            let value = variable["value"].as_str().or_else(|| secret[key.as_str()?].as_str());
            (variable["name"].as_str().unwrap().to_owned(), value.unwrap_or_else(|| panic!("{variable:?}")).to_owned())
        })
        .collect();
    let settings = taken("kubernetes.yaml", &pairs).settings;
    let port = settings.listen.http.unwrap().port();
    assert_eq!(sidecar["ports"][0]["containerPort"].as_i64(), Some(port.into()));
    for (probe, expected) in [("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
        let get = &sidecar[probe]["httpGet"];
        assert_eq!((get["path"].as_str(), get["port"].as_str()), (Some(expected), sidecar["ports"][0]["name"].as_str()));
    }
    let grace = pod["terminationGracePeriodSeconds"].as_i64().unwrap();
    assert!(i64::try_from(settings.timeouts.drain.as_secs()).unwrap() < grace);
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    assert_eq!(sidecar["securityContext"]["readOnlyRootFilesystem"].as_bool(), Some(true));
}

#[test]
fn the_unit_gives_the_drain_time_and_the_sockets_are_the_ports() {
    let unit = text("sidepool.service");
    let environment = unit.lines().find_map(|line| line.strip_prefix("Environment=")).unwrap();
    let pairs: Vec<_> = environment.split(' ').map(|pair| pair.split_once('=').unwrap()).map(owned).collect();
    let settings = taken("sidepool.service", &pairs).settings;
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s')).unwrap();
    assert!(settings.timeouts.drain + settings.timeouts.drain_delay < std::time::Duration::from_secs(stop.parse().unwrap()));
    let socket = text("sidepool.socket");
    let ports: BTreeSet<u16> =
        socket.lines().filter_map(|line| line.strip_prefix("ListenStream=")?.rsplit_once(':')?.1.parse().ok()).collect();
    let listen = &settings.listen;
    let wanted = [listen.session_port, listen.transaction_port, listen.http.map(|http| http.port())];
    assert_eq!(ports, wanted.into_iter().flatten().collect());
}

/// Where systemd is installed, it reads them itself.
#[test]
fn systemd_takes_the_units() {
    let place = tempfile::tempdir().unwrap();
    let unit = text("sidepool.service").replace("/usr/local/bin/sidepool", env!("CARGO_BIN_EXE_sidepool"));
    let (service, socket) = (place.path().join("sidepool.service"), place.path().join("sidepool.socket"));
    std::fs::write(&service, unit).unwrap();
    std::fs::write(&socket, text("sidepool.socket")).unwrap();
    let verify = Command::new("systemd-analyze").arg("verify").arg("--man=no").args([&service, &socket]).output();
    let output = match verify {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return eprintln!("no systemd-analyze: units not verified"),
        Err(error) => panic!("{error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // Of other units of the machine there may be more.
    let about_ours: Vec<_> = said.lines().filter(|line| line.contains("sidepool")).collect();
    assert!(output.status.success() && about_ours.is_empty(), "{said}");
}

#[test]
fn every_metric_that_is_drawn_or_alerted_on_is_counted() {
    let documented = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let names: BTreeSet<_> = documented.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut expressions = Vec::new();
    for rule in yaml("alerts.yaml")[0]["groups"][0]["rules"].as_vec().unwrap() {
        assert!(rule["annotations"]["summary"].as_str().is_some() && rule["labels"]["severity"].as_str().is_some());
        expressions.push(rule["expr"].as_str().unwrap().to_owned());
    }
    let dashboard: serde_json::Value = serde_json::from_str(&text("grafana.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        expressions.extend(variable["query"]["query"].as_str().map(str::to_owned));
    }
    assert!(expressions.len() > 40);
    for expression in expressions {
        let used: Vec<_> = ["sidepool_", "pgbouncer_"].iter().flat_map(|prefix| words(&expression, prefix)).collect();
        assert!(!used.is_empty() || expression.starts_with("up{"), "{expression}");
        for metric in used {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| metric.strip_suffix(part)).unwrap_or(&metric);
            assert!(names.contains(family), "{metric} is not in docs/metrics.md");
        }
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            assert_eq!(expression.matches(open).count(), expression.matches(close).count(), "{expression}");
        }
    }
}

/// Where Prometheus is installed, it reads the rules itself.
#[test]
fn prometheus_takes_the_rules() {
    match Command::new("promtool").args(["check", "rules"]).arg(path("alerts.yaml")).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => eprintln!("no promtool: rules not checked by it"),
        Err(error) => panic!("{error}"),
    }
}
