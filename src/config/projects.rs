//! `[projects.NAME]` and the lists of users.

use ::config::{Value, ValueKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::draft::Draft;
use super::file::{ConfigFile, Table, given, shown, table, unknown_key};
use super::nearest::nearest;
use super::options::Opt;
use super::{ConfigError, Limits, Logins, Password, Secret, UpstreamSocket, User, options};

/// PostgreSQL's NAMEDATALEN less one; Supabase's project refs have 20.
const NAME_BYTES_MAX: usize = 63;

/// The longest reason for a project's being disabled, in characters.
const REASON_CHARS_MAX: usize = 200;

/// A project before its URL is read.
#[derive(Debug)]
pub(super) struct ProjectSpec {
    pub(super) name: String,
    pub(super) server_name: Option<String>,
    pub(super) url: Password,
    /// Where the URL stands, for messages.
    pub(super) url_place: String,
    pub(super) socket: UpstreamSocket,
    pub(super) limits: Limits,
    pub(super) logins: Logins,
    pub(super) users: Vec<User>,
    pub(super) disabled: Option<String>,
}

/// The keys of `[projects.NAME]` that override the limit of the same name.
const OVERRIDES: [&str; 3] = ["pool_size", "min_pool_size", "max_server_connections"];
/// The one that overrides a general option.
const SOCKET: &str = "upstream_socket";

/// The projects in the file, in its order; users without a project belong to every one that does not list the name itself.
pub(super) fn projects(file: &ConfigFile, draft: &Draft) -> Result<Vec<ProjectSpec>, ConfigError> {
    let everywhere = everywhere(file)?;
    let Some(value) = file.tree.get("projects") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (name, value) in table(&file.name, "projects", value)? {
        let key = format!("projects.{name}");
        let mut spec = project(file, name, table(&file.name, &key, value)?, draft)?;
        let listed = |user: &&User| !spec.users.iter().any(|own| own.name == user.name);
        let inherited: Vec<User> = everywhere.iter().filter(listed).cloned().collect();
        spec.users.extend(inherited);
        found.push(spec);
    }
    Ok(found)
}

/// The users that every project has.
pub(super) fn everywhere(file: &ConfigFile) -> Result<Vec<User>, ConfigError> {
    file.tree.get("users").map_or_else(|| Ok(Vec::new()), |value| users(&file.name, "users", value))
}

fn project(file: &ConfigFile, name: &str, settings: &Table, draft: &Draft) -> Result<ProjectSpec, ConfigError> {
    check_project_name(&file.name, name)?;
    let mut own = draft.clone();
    let (mut url, mut server_name, mut disabled) = (None, None, None);
    let mut own_users = Vec::new();
    for (setting, value) in settings {
        let key = format!("projects.{name}.{setting}");
        match setting.as_str() {
            "users" => own_users = users(&file.name, &key, value)?,
            "upstream" => url = text(value),
            "disabled" => disabled = reason(file, &key, value)?,
            "server_name" => server_name = Some(host_name(file, &key, value)?),
            name if overridable(name).is_some() => take_override(file, &key, name, value, &mut own)?,
            unknown => {
                let guess = nearest(
                    unknown,
                    OVERRIDES.into_iter().chain(options::LOGINS.options.iter().map(Opt::name)).chain([
                        "upstream",
                        SOCKET,
                        "users",
                        "server_name",
                        "disabled",
                    ]),
                );
                let guess = guess.map(|guess| format!("projects.{name}.{guess}"));
                return Err(unknown_key(&file.name, &key, guess.as_deref()));
            }
        }
    }
    let url = url.filter(|url| !url.is_empty()).ok_or_else(|| {
        let message = format!("projects.{} in {} has no upstream", shown(name), file.name);
        ConfigError::new(message, "Add upstream = \"postgres://USER:PASSWORD@HOST:PORT/DATABASE\".")
    })?;
    let url_place = format!("projects.{name}.upstream in {}", file.name);
    Ok(ProjectSpec {
        name: name.to_owned(),
        server_name,
        url: Password::new(url),
        url_place,
        socket: own.upstream_socket,
        limits: own.limits,
        logins: own.logins,
        users: own_users,
        disabled,
    })
}

/// The option that a key of `[projects.NAME]` overrides.
fn overridable(name: &str) -> Option<&'static Opt> {
    let limit = || options::all().find(|option| option.key.strip_prefix("limits.") == Some(name));
    let login = options::LOGINS.options.iter().find(|option| option.name() == name);
    let socket = || options::all().find(|option| option.key == SOCKET && name == SOCKET);
    login.or_else(|| OVERRIDES.contains(&name).then(limit).flatten()).or_else(socket)
}

fn take_override(file: &ConfigFile, key: &str, own_name: &str, value: &Value, own: &mut Draft) -> Result<(), ConfigError> {
    let Some(option) = overridable(own_name) else { return Ok(()) };
    let name = format!("{key} in {}", file.name);
    let expects = || ConfigError::new(format!("{name} must be {}", option.kind.expects()), "Correct it.");
    let value = given(value).ok_or_else(expects)?;
    option.kind.take(&name, &value, own)
}

/// `true`, `false`, or why.
fn reason(file: &ConfigFile, key: &str, value: &Value) -> Result<Option<String>, ConfigError> {
    match &value.kind {
        ValueKind::Boolean(false) => Ok(None),
        ValueKind::Boolean(true) => Ok(Some("it is disabled in the configuration".to_owned())),
        ValueKind::String(why) if (1..=REASON_CHARS_MAX).contains(&why.chars().count()) && !why.contains(char::is_control) => {
            Ok(Some(why.clone()))
        }
        _ => {
            let message = format!("{} in {} must be true, false, or a text that says why", shown(key), file.name);
            Err(ConfigError::new(
                message,
                format!("Clients are told the text: one line of at most {REASON_CHARS_MAX} characters."),
            ))
        }
    }
}

fn host_name(file: &ConfigFile, key: &str, value: &Value) -> Result<String, ConfigError> {
    let legal =
        |name: &String| (1..=253).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    text(value).filter(legal).ok_or_else(|| {
        let message = format!("{} in {} must be a host name", shown(key), file.name);
        ConfigError::new(message, "Write the name that clients connect to: \"shop.db.example.com\".")
    })
}

fn check_project_name(file: &str, name: &str) -> Result<(), ConfigError> {
    let hint = "Take letters, digits, - and _; or * for a project that takes any name.";
    let refuse = |why: String| Err(ConfigError::new(format!("the project name `{}` in {file} {why}", shown(name)), hint));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return refuse(format!("must have 1 to {NAME_BYTES_MAX} printable ASCII characters"));
    }
    if name.contains('.') {
        return refuse("has a dot, and a user name such as user.project is split at the last one".to_owned());
    }
    if name.contains('*') && name != "*" {
        return refuse("has a * beside other characters".to_owned());
    }
    Ok(())
}

/// Either a list, `[[users]] name = …, password = …`, or a table: `name = "password"` or `[users.name] password = …`.
fn users(file: &str, key: &str, value: &Value) -> Result<Vec<User>, ConfigError> {
    let mut found: Vec<User> = Vec::new();
    match &value.kind {
        ValueKind::Array(entries) => {
            for entry in entries {
                let entry = table(file, key, entry)?;
                let name = entry.get("name").and_then(text).ok_or_else(|| user_error(file, key, "", "has no name"))?;
                found.push(user(file, key, &name, entry, &["name", "password"])?);
            }
        }
        ValueKind::Table(entries) => {
            for (name, entry) in entries {
                found.push(match &entry.kind {
                    ValueKind::Table(entry) => user(file, key, name, entry, &["password"])?,
                    _ => checked_user(file, key, name, text(entry))?,
                });
            }
        }
        _ => return Err(ConfigError::new(format!("{} in {file} must be a list or a table", shown(key)), USERS)),
    }
    for (index, user) in found.iter().enumerate() {
        if found[..index].iter().any(|earlier| earlier.name == user.name) {
            return Err(user_error(file, key, &user.name, "stands there twice"));
        }
    }
    Ok(found)
}

const USERS: &str = "Write [[users]] with name = \"…\" and password = \"…\" below it.";

fn user(file: &str, key: &str, name: &str, entry: &Table, known: &[&str]) -> Result<User, ConfigError> {
    if let Some(unknown) = entry.keys().find(|field| !known.contains(&field.as_str())) {
        return Err(unknown_key(file, &format!("{key}.{unknown}"), nearest(unknown, known.iter().copied())));
    }
    checked_user(file, key, name, entry.get("password").and_then(text))
}

fn checked_user(file: &str, key: &str, name: &str, password: Option<String>) -> Result<User, ConfigError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(user_error(file, key, name, "must have a name of 1 to 63 bytes without control characters"));
    }
    let Some(password) = password.filter(|password| !password.is_empty()) else {
        return Err(user_error(file, key, name, "has no password, or one that is not a text"));
    };
    let secret = secret(password).map_err(|why| user_error(file, key, name, why))?;
    Ok(User { name: name.to_owned(), secret })
}

fn user_error(file: &str, key: &str, name: &str, why: &str) -> ConfigError {
    let message = format!("the user `{}` of `{}` in {file} {why}", shown(name), shown(key));
    ConfigError::new(message, "Give a name and a password, in plain text or as PostgreSQL's SCRAM-SHA-256$… verifier.")
}

/// PostgreSQL takes a mangled verifier for a strange plain password; whoever mangled it would look for the reason for long.
fn secret(password: String) -> Result<Secret, &'static str> {
    let md5 = password.strip_prefix("md5").is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    match password.strip_prefix("SCRAM-SHA-256$") {
        _ if md5 => Err("has an md5 hash for a password, which proves nothing to SCRAM"),
        None => Ok(Secret::Password(Password::new(password))),
        Some(rest) if is_verifier(rest) => Ok(Secret::Verifier(Password::new(password))),
        Some(_) => Err("has a mangled verifier"),
    }
}

/// `<iterations>:<salt>$<StoredKey>:<ServerKey>` (pg_authid.rolpassword), the keys 32 bytes each.
fn is_verifier(rest: &str) -> bool {
    let Some((front, keys)) = rest.split_once('$') else { return false };
    let (Some((iterations, salt)), Some((stored, server))) = (front.split_once(':'), keys.split_once(':')) else { return false };
    let bytes = |text: &str| STANDARD.decode(text).map_or(0, |bytes| bytes.len());
    iterations.parse::<u32>().is_ok_and(|n| n > 0) && bytes(salt) > 0 && bytes(stored) == 32 && bytes(server) == 32
}

fn text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_override_is_an_option_of_the_limits() {
        for name in OVERRIDES {
            assert!(options::all().any(|option| option.key == format!("limits.{name}")), "{name}");
        }
    }

    #[test]
    fn secrets_are_told_apart() {
        let key = STANDARD.encode([7; 32]);
        let verifier = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
        assert_eq!(secret(verifier.clone()), Ok(Secret::Verifier(Password::new(verifier.clone()))));
        assert_eq!(secret("md5".into()), Ok(Secret::Password(Password::new("md5"))));
        for mangled in [&verifier[..verifier.len() - 1], "SCRAM-SHA-256$", "SCRAM-SHA-256$0:c2FsdA==$x:y", "SCRAM-SHA-256$1:$:"] {
            assert_eq!(secret(mangled.to_owned()), Err("has a mangled verifier"));
        }
        assert!(secret(format!("md5{}", "0a".repeat(16))).is_err());
    }
}
