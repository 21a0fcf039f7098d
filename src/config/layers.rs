//! The sources laid over each other, and which of them had the last word.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ::config::{Config, ConfigError as MergeError, Environment, File, FileFormat, Source, Value, ValueKind};

use super::draft::Draft;
use super::file::{ConfigFile, Table, given};
use super::kind::Kind;
use super::options::{self, Opt};
use super::settings::Shown;
use super::{ConfigError, Password};

/// What is merged, weakest first, after the defaults.
pub(super) struct Layers<'a> {
    pub(super) file: Option<&'a ConfigFile>,
    pub(super) env: &'a BTreeMap<&'static str, String>,
    pub(super) flags: &'a BTreeMap<&'static str, String>,
    /// While it runs. An empty text takes the option away, where it may be missing.
    pub(super) set: &'a BTreeMap<&'static str, Password>,
}

/// Which layer had the last word on an option.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    Default,
    File(&'a ConfigFile),
    Env(&'static str),
    Flag(&'static str),
    Set,
}

impl<'a> Layers<'a> {
    pub(super) fn draft(&self) -> Result<Draft, ConfigError> {
        let merged = self.merged().map_err(|_| ConfigError::new("the settings cannot be merged", "Check the file's tables."))?;
        let mut draft = Draft::blank();
        for option in options::all() {
            let Some(value) = find(&merged, option.key).filter(|_| !self.is_taken_away(option)) else {
                draft.shown.push(Shown { option: option.key, value: None });
                continue;
            };
            let origin = self.origin(option.key);
            let name = origin.of(option.key);
            let value = given(value).ok_or_else(|| {
                ConfigError::new(format!("{name} must be {}", option.kind.expects()), "It is a table or a list of lists there.")
            })?;
            option.kind.take(&name, &value, &mut draft)?;
            draft.shown.push(Shown { option: option.key, value: option.kind.shown(&value) });
            origin.anchor(option, &mut draft);
        }
        Ok(draft)
    }

    /// The values of these options as they were written, all layers merged.
    pub(super) fn values(&self, of: impl Iterator<Item = &'static Opt>) -> BTreeMap<&'static str, Password> {
        // What cannot be merged was refused with the draft.
        let Ok(merged) = self.merged() else { return BTreeMap::new() };
        let written = |option: &'static Opt| Some((option.key, Password::new(given(find(&merged, option.key)?)?.into_text())));
        of.filter_map(written).collect()
    }

    /// `try_parsing` stays off: it would turn a password such as 0123 into 123.
    fn merged(&self) -> Result<Table, MergeError> {
        let mut builder = Config::builder();
        for option in options::all().filter(|option| !option.default.is_empty()) {
            builder = builder.set_default(option.key, option.default)?;
        }
        if self.has_profile("supabase") {
            for (key, value) in options::SUPABASE {
                builder = builder.set_default(*key, *value)?;
            }
        }
        if let Some(file) = self.file {
            builder = builder.add_source(File::from_str(&file.text, FileFormat::Toml));
        }
        let variables = self.env.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        builder = builder.add_source(Environment::default().source(Some(variables)));
        for (key, value) in self.flags {
            builder = builder.set_override(*key, value.as_str())?;
        }
        for (key, value) in self.set {
            builder = builder.set_override(*key, value.reveal())?;
        }
        builder.build()?.collect()
    }

    /// As the last layer to name one has it. What is no profile's name is refused when the options are taken.
    fn has_profile(&self, name: &str) -> bool {
        let in_file = || Some(find(&self.file?.tree, "profile")?.to_string());
        let set = self.set.get("profile").map(|profile| profile.reveal().to_owned());
        let named = set.or_else(|| self.flags.get("profile").or_else(|| self.env.get("profile")).cloned()).or_else(in_file);
        named.is_some_and(|named| named.trim() == name)
    }

    fn is_taken_away(&self, option: &Opt) -> bool {
        option.default.is_empty() && self.set.get(option.key).is_some_and(|value| value.reveal().is_empty())
    }

    pub(super) fn origin(&self, key: &str) -> Origin<'a> {
        let option = options::all().find(|option| option.key == key);
        match (option, self.file) {
            (Some(option), _) if self.set.contains_key(option.key) => Origin::Set,
            (Some(option), _) if self.flags.contains_key(key) => Origin::Flag(option.flag),
            (Some(option), _) if self.env.contains_key(key) => Origin::Env(option.env),
            (_, Some(file)) if find(&file.tree, key).is_some() => Origin::File(file),
            _ => Origin::Default,
        }
    }

    /// Every source that sets anything, by name.
    pub(super) fn describe(&self) -> Vec<String> {
        let variables = options::all().filter(|option| self.env.contains_key(option.key)).map(|option| option.env.to_owned());
        let flags =
            options::all().filter(|option| self.flags.contains_key(option.key)).map(|option| format!("--{}", option.flag));
        self.file.map(|file| file.name.clone()).into_iter().chain(variables).chain(flags).collect()
    }
}

impl Origin<'_> {
    /// The option's key and where it was set.
    pub(super) fn of(&self, key: &str) -> String {
        match self {
            Self::Default => key.to_owned(),
            Self::File(file) => format!("{key} in {}", file.name),
            Self::Env(name) => format!("{key} (from {name})"),
            Self::Flag(name) => format!("{key} (from --{name})"),
            Self::Set => format!("{key} (from SET)"),
        }
    }

    /// A relative path in a file starts from the file: services are started in / or anywhere.
    fn anchor(&self, option: &Opt, draft: &mut Draft) {
        let Self::File(file) = self else { return };
        let anchor = |path: &mut PathBuf| *path = file.directory.join(&*path);
        match &option.kind {
            Kind::Path(place) => place(draft).iter_mut().for_each(anchor),
            Kind::Paths(place) => place(draft).iter_mut().for_each(anchor),
            _ => {}
        }
    }
}

fn find<'a>(tree: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => tree.get(key),
        Some((table, rest)) => match &tree.get(table)?.kind {
            ValueKind::Table(tree) => find(tree, rest),
            _ => None,
        },
    }
}
