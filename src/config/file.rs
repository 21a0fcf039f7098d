//! The file: read with a bound, parsed, and searched for keys that do not exist.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ::config::{ConfigError as MergeError, File, FileFormat, Map, Source, Value, ValueKind};

use super::kind::Given;
use super::nearest::nearest;
use super::options::{self, Opt, SECTIONS};
use super::{ConfigError, Stamp};

/// Some 10 000 projects.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The longest piece of an unknown key that is shown, in characters.
const KEY_CHARS_MAX: usize = 80;

pub(super) type Table = Map<String, Value>;

/// A file whose keys outside `projects` and `users` are known to exist.
pub(super) struct ConfigFile {
    /// As it was named, for messages.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) stamp: Option<Stamp>,
    /// What relative paths in it start from.
    pub(super) directory: PathBuf,
    pub(super) text: String,
    pub(super) tree: Table,
}

impl ConfigFile {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let unreadable = |error: &dyn fmt::Display, hint: &str| {
            ConfigError::new(format!("the configuration file {name} cannot be read: {error}"), hint)
        };
        let failed = |error: io::Error| unreadable(&error, hint(&error));
        let stamp = Stamp::of(path);
        let mut text = String::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(unreadable(&format!("it is longer than {FILE_BYTES_MAX} bytes"), NAME_ANOTHER));
        }
        Ok(Self { stamp, ..Self::parse(name, path, text)? })
    }

    pub(super) fn parse(name: String, path: &Path, text: String) -> Result<Self, ConfigError> {
        let tree = File::from_str(&text, FileFormat::Toml).collect().map_err(|error| syntax_error(&name, &error))?;
        // Before the merge, and on the bare tree: config-rs reads a quoted key such as "a[999999999]" as a path when it
        // merges, and makes an array of that length.
        check_keys(&name, &tree)?;
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { name, path: path.to_owned(), stamp: None, directory, text, tree })
    }
}

const NAME_ANOTHER: &str = "Name an existing file with --config or SIDEPOOL_CONFIG, or none.";

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "Let the user that runs Sidepool read it, or name another with --config.",
        io::ErrorKind::InvalidData => "Save it as UTF-8.",
        _ => NAME_ANOTHER,
    }
}

/// A value without its structure. `None` for tables and for lists of anything but plain values.
pub(super) fn given(value: &Value) -> Option<Given> {
    match &value.kind {
        ValueKind::Array(values) => values.iter().map(scalar).collect::<Option<_>>().map(Given::Many),
        _ => scalar(value).map(Given::One),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil => None,
        plain => Some(plain.to_string()),
    }
}

pub(super) fn table<'a>(file: &str, key: &str, value: &'a Value) -> Result<&'a Table, ConfigError> {
    match &value.kind {
        ValueKind::Table(table) => Ok(table),
        _ => {
            Err(ConfigError::new(format!("{} in {file} must be a table", shown(key)), "Write it as [name] on a line of its own."))
        }
    }
}

/// "unknown key `a` in f; did you mean `b`?"
pub(super) fn unknown_key(file: &str, key: &str, guess: Option<&str>) -> ConfigError {
    let guess = guess.map(|guess| format!("; did you mean `{guess}`?")).unwrap_or_default();
    let hint = "`sidepool --help` and config/sidepool.toml name every option.";
    ConfigError::new(format!("unknown key `{}` in {file}{guess}", shown(key)), hint)
}

pub(super) fn shown(key: &str) -> String {
    key.chars().take(KEY_CHARS_MAX).collect::<String>().escape_debug().to_string()
}

fn check_keys(file: &str, tree: &Table) -> Result<(), ConfigError> {
    for (key, value) in tree {
        let section = SECTIONS.iter().find(|section| !section.table.is_empty() && section.table == key);
        match section {
            Some(section) => {
                for name in table(file, key, value)?.keys() {
                    if !section.options.iter().any(|option| option.name() == name) {
                        let key = format!("{key}.{name}");
                        return Err(unknown_key(file, &key, guess(&key)));
                    }
                }
            }
            None if key == "projects" || key == "users" => {}
            None if options::all().any(|option| option.key == key) => {}
            None => {
                let tables = SECTIONS.iter().map(|section| section.table).chain(["projects", "users"]);
                let guess = guess(key).or_else(|| nearest(key, tables.filter(|table| !table.is_empty())));
                return Err(unknown_key(file, key, guess));
            }
        }
    }
    Ok(())
}

/// The right name in the wrong table, another pooler's name, or a slip of the hand in either, in that order.
pub(crate) fn guess(key: &str) -> Option<&'static str> {
    let name = key.rsplit('.').next().unwrap_or(key);
    let misplaced = options::all().find(|option| option.name() == name || option.flag == name);
    let foreign = || options::all().find(|option| option.elsewhere.iter().any(|(_, theirs)| *theirs == name));
    let exact = misplaced.or_else(foreign).map(|option| option.key);
    let near_ours = || {
        let near = nearest(name, options::all().map(Opt::name))?;
        options::all().find(|option| option.name() == near).map(|option| option.key)
    };
    let near_theirs = || {
        let near = nearest(name, options::all().flat_map(|option| option.elsewhere.iter().map(|(_, theirs)| *theirs)))?;
        options::all().find(|option| option.elsewhere.iter().any(|(_, theirs)| *theirs == near)).map(|option| option.key)
    };
    exact.or_else(|| nearest(key, options::all().map(|option| option.key))).or_else(near_ours).or_else(near_theirs)
}

/// The parser quotes the line it stumbled over, and that line may hold a password: only the place and the reason are shown.
fn syntax_error(file: &str, error: &MergeError) -> ConfigError {
    let text = match error {
        MergeError::FileParse { cause, .. } => cause.to_string(),
        _ => String::new(),
    };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let place = lines.next().and_then(|first| first.strip_prefix("TOML parse error at "));
    let reason = lines.next_back().filter(|line| !line.contains('|'));
    let (place, reason) = match (place, reason) {
        (Some(place), Some(reason)) => (format!(" at {place}"), reason.to_owned()),
        _ => (String::new(), "it is not TOML, or holds a number out of range".to_owned()),
    };
    ConfigError::new(format!("syntax error in {file}{place}: {reason}"), "Texts stand in quotation marks: key = \"value\".")
}
