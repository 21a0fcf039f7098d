//! The option table. Flags, variables, the file's keys, `--help` and both reference texts are made from it and from nothing
//! else, so that an option cannot be known to one of them and unknown to the next.

mod general;
mod limits;
mod listen;
mod logins;
mod timeouts;

use super::kind::Kind;

/// Options that stand together in the file (`[limits]`), in `--help` and in the documentation.
pub(crate) struct Section {
    /// The table in the file; empty for the keys above all tables.
    pub(crate) table: &'static str,
    pub(crate) title: &'static str,
    pub(crate) options: &'static [Opt],
}

/// One option, everything there is to know about it.
pub(crate) struct Opt {
    /// The path in the file: `limits.pool_size`.
    pub(crate) key: &'static str,
    /// Without the dashes.
    pub(crate) flag: &'static str,
    /// `SIDEPOOL_` and the flag in upper case.
    pub(crate) env: &'static str,
    /// As it would be written in the file; empty where the option may be missing.
    pub(crate) default: &'static str,
    /// For the reference, where there is no default.
    pub(crate) example: &'static str,
    /// What other poolers call it: (pooler, name).
    pub(crate) elsewhere: &'static [(&'static str, &'static str)],
    pub(crate) reload: Reload,
    pub(crate) kind: Kind,
    /// One paragraph; the first sentence alone is the short help.
    pub(crate) doc: &'static str,
}

/// Whether a running pooler takes up another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// At the next login or lease.
    Live,
    /// A reload names it in the log, and goes on with the value of the start.
    Restart,
}

/// The options that name a file to read the others from; it has no key in that file.
pub(crate) const CONFIG_FILE: (&str, &str) = ("config", "SIDEPOOL_CONFIG");

/// Flags that a shorter word stands for as well.
const ALSO: [(&str, &str); 1] = [("listen-addresses", "listen")];

/// The file that is read if it exists and none was named.
pub(crate) const DEFAULT_FILE: &str = "sidepool.toml";

/// Every variable of ours begins so.
pub(crate) const ENV_PREFIX: &str = "SIDEPOOL_";

pub(crate) const SECTIONS: &[Section] = &[
    Section { table: "", title: "General", options: general::GENERAL },
    LOGINS,
    Section { table: "listen", title: "Listening", options: listen::LISTEN },
    Section { table: "client_tls", title: "TLS towards clients", options: listen::CLIENT_TLS },
    Section { table: "limits", title: "Limits", options: limits::LIMITS },
    Section { table: "timeouts", title: "Timeouts", options: timeouts::TIMEOUTS },
    Section { table: "log", title: "Log", options: general::LOG },
];

/// What a project may have its own of, by the same names.
pub(crate) const LOGINS: Section = Section { table: "", title: "Who may log in", options: logins::LOGINS };

/// Defaults of `profile = "supabase"`: the hosted pooler's on the smallest instance.
pub(crate) const SUPABASE: &[(&str, &str)] = &[
    ("limits.pool_size", "15"),
    ("limits.max_clients", "200"),
    ("limits.max_pools", "50"),
    ("limits.startup_bytes", "1024B"),
    ("session_overflow", "refuse"),
    ("startup_parameters", "drop"),
    ("named_statements", "forget"),
    ("error_texts", "supabase"),
];

pub(crate) fn all() -> impl Iterator<Item = &'static Opt> {
    SECTIONS.iter().flat_map(|section| section.options)
}

/// Those that a reload leaves as they are.
pub(crate) fn fixed() -> impl Iterator<Item = &'static Opt> {
    all().filter(|option| option.reload == Reload::Restart)
}

impl Opt {
    /// The last part of the path.
    pub(crate) fn name(&self) -> &'static str {
        self.key.rsplit('.').next().unwrap_or(self.key)
    }

    /// A shorter word for the flag, if there is one.
    pub(crate) fn also(&self) -> Option<&'static str> {
        ALSO.iter().find(|(flag, _)| *flag == self.flag).map(|(_, also)| *also)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_agree_with_each_other() {
        let mut seen = HashSet::from(ALSO.map(|(_, also)| also));
        assert_eq!(all().filter(|option| option.also().is_some()).count(), ALSO.len());
        assert!(all().all(|option| !option.doc.contains("  ")), "a line break without its backslash");
        for section in SECTIONS {
            for option in section.options {
                let table = option.key.rsplit_once('.').map_or("", |(table, _)| table);
                assert_eq!(table, section.table, "{}", option.key);
                assert_eq!(option.env, format!("{ENV_PREFIX}{}", option.flag.to_uppercase().replace('-', "_")));
                for name in [option.key, option.flag, option.env] {
                    assert!(seen.insert(name) || option.key == option.flag, "{name} stands twice");
                }
                assert!(!option.default.is_empty() || !option.example.is_empty(), "{}", option.key);
                assert!(option.doc.ends_with('.') && !option.doc.contains('\n'), "{}", option.key);
            }
        }
    }
}
