//! The parameters a server reports (ParameterStatus), interned so that "same settings" is one pointer comparison.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Sets that nobody has any more are forgotten when there are twice as many as were left by the last time, but not below
/// this many.
const SWEEP_AT_LEAST: usize = 64;

/// Names in one set; a server that reports more is not believed. PostgreSQL 18 reports 16.
const NAMES_MAX: usize = 256;

/// Reported parameters: name as the server spells it, value as the server has it. Sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Params(Vec<(Box<str>, Box<str>)>);

impl Params {
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut params = Self::default();
        for (name, value) in pairs {
            params.set(name.as_ref(), value.as_ref());
        }
        params
    }

    /// Names compare without case, as PostgreSQL compares them.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| &**v)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    /// A name that is there already keeps its spelling.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter().position(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some(at) => self.0[at].1 = value.into(),
            None => {
                let at = self.0.partition_point(|(n, _)| **n < *name);
                self.0.insert(at, (name.into(), value.into()));
            }
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn with(&self, name: &str, value: &str) -> Self {
        let mut changed = self.clone();
        changed.set(name, value);
        changed
    }
}

/// Whether a session may set it: the others describe the server or the role (guc_tables.c, `GUC_REPORT` without
/// `GUC_DISALLOW_IN_FILE` or an identity behind it).
pub fn is_settable(name: &str) -> bool {
    !matches!(
        name,
        "in_hot_standby"
            | "integer_datetimes"
            | "is_superuser"
            | "server_encoding"
            | "server_version"
            | "session_authorization"
            | "role"
    )
}

/// The sets in use, each once. It keeps none of them alive: a value may be as long as a message.
#[derive(Debug, Default)]
pub struct ParamSets(Mutex<Sets>);

#[derive(Debug, Default)]
struct Sets {
    hasher: RandomState,
    /// By the hash of all of it. Of two that have the same one the later is there; the other is right, but not shared.
    by_hash: HashMap<u64, Weak<Params>>,
    sweep_at: usize,
}

impl ParamSets {
    /// The shared instance equal to `params`.
    pub fn intern(&self, params: Params) -> Arc<Params> {
        let mut sets = self.0.lock();
        let hash = sets.hasher.hash_one(&params);
        if let Some(known) = sets.by_hash.get(&hash).and_then(Weak::upgrade)
            && *known == params
        {
            return known;
        }
        sets.sweep();
        let new = Arc::new(params);
        sets.by_hash.insert(hash, Arc::downgrade(&new));
        new
    }

    /// `params` with one value changed, shared again.
    pub fn change(&self, params: &Arc<Params>, name: &str, value: &str) -> Arc<Params> {
        match params.get(name) {
            Some(known) if known == value => Arc::clone(params),
            None if params.0.len() >= NAMES_MAX => Arc::clone(params),
            _ => self.intern(params.with(name, value)),
        }
    }
}

impl Sets {
    fn sweep(&mut self) {
        if self.by_hash.len() >= self.sweep_at.max(SWEEP_AT_LEAST) {
            self.by_hash.retain(|_, params| params.strong_count() > 0);
            self.sweep_at = self.by_hash.len() * 2;
        }
    }
}

/// Name and value of a ParameterStatus body; `None` when malformed.
pub fn parse_status(body: &[u8]) -> Option<(&str, &str)> {
    let (name, rest) = super::frame::cstr(body)?;
    let (value, rest) = super::frame::cstr(rest)?;
    rest.is_empty().then_some(())?;
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}

/// Appends a ParameterStatus message.
pub fn write_status(name: &str, value: &str, out: &mut Vec<u8>) {
    let body = u32::try_from(name.len() + value.len() + 2).unwrap_or(u32::MAX);
    super::frame::Header { tag: super::tag::server::PARAMETER_STATUS, body }.write(out);
    for text in [name, value] {
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    }
}

/// Parameters whose value is a list with each element quoted (`GUC_LIST_QUOTE` in guc_tables.c).
const QUOTED_LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// Appends one statement that sets `name`, meaning the same whatever `standard_conforming_strings` is.
///
/// `SET` costs the server the least. It would quote a list that is quoted already, and wants a plain name; whatever is
/// not plain goes through `set_config`, which takes name and value as they are.
pub fn write_set(name: &str, value: &str, sql: &mut Vec<u8>) {
    let plain = name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_') && !name.is_empty();
    if plain && !QUOTED_LISTS.iter().any(|q| q.eq_ignore_ascii_case(name)) {
        sql.extend_from_slice(b"SET ");
        sql.extend_from_slice(name.as_bytes());
        sql.push(b'=');
        write_literal(value, sql);
    } else {
        sql.extend_from_slice(b"SELECT pg_catalog.set_config(");
        write_literal(name, sql);
        sql.push(b',');
        write_literal(value, sql);
        sql.extend_from_slice(b",false)");
    }
    sql.push(b';');
}

/// Appends one statement that gives `name` back the value it had at login.
pub fn write_reset(name: &str, sql: &mut Vec<u8>) {
    sql.extend_from_slice(b"RESET ");
    for (at, part) in name.split('.').enumerate() {
        sql.extend_from_slice(if at > 0 { b".\"" } else { b"\"" });
        sql.extend(part.bytes().flat_map(|b| std::iter::repeat_n(b, if b == b'"' { 2 } else { 1 })));
        sql.push(b'"');
    }
    sql.push(b';');
}

/// As a literal that means the same whatever `standard_conforming_strings` is.
pub(super) fn write_literal(text: &str, sql: &mut Vec<u8>) {
    let escape = text.contains('\\');
    if escape {
        sql.extend_from_slice(b" E");
    }
    sql.push(b'\'');
    for &byte in text.as_bytes() {
        if byte == b'\'' || byte == b'\\' {
            sql.push(byte);
        }
        sql.push(byte);
    }
    sql.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_one_pointer() {
        let sets = ParamSets::default();
        let a = sets.intern(Params::from_pairs([("TimeZone", "UTC"), ("DateStyle", "ISO, MDY")]));
        let b = sets.intern(Params::from_pairs([("DateStyle", "ISO, MDY"), ("TimeZone", "UTC")]));
        assert!(Arc::ptr_eq(&a, &b));
        let c = sets.change(&a, "TimeZone", "Europe/Vienna");
        assert!(!Arc::ptr_eq(&a, &c));
        assert!(Arc::ptr_eq(&a, &sets.change(&c, "TimeZone", "UTC")));
        assert!(Arc::ptr_eq(&a, &sets.change(&a, "TimeZone", "UTC")));
        assert_eq!(a.get("timezone"), Some("UTC"));
        assert!(Arc::ptr_eq(&c, &sets.change(&a, "timezone", "Europe/Vienna")));
    }

    #[test]
    fn what_nobody_has_any_more_is_not_kept() {
        let sets = ParamSets::default();
        let one = |i: usize| Params::from_pairs([("burst.value", i.to_string())]);
        let held: Vec<_> = (0..SWEEP_AT_LEAST).map(|i| sets.intern(one(i))).collect();
        for i in 0..10 * SWEEP_AT_LEAST {
            let gone = Arc::downgrade(&sets.intern(one(SWEEP_AT_LEAST + i)));
            assert_eq!(gone.strong_count(), 0);
        }
        assert!(sets.0.lock().by_hash.len() <= 2 * SWEEP_AT_LEAST);
        assert!(held.iter().enumerate().all(|(i, held)| Arc::ptr_eq(held, &sets.intern(one(i)))));
    }

    #[test]
    fn a_set_grows_no_further_than_it_may() {
        let sets = ParamSets::default();
        let mut params = sets.intern(Params::default());
        for i in 0..2 * NAMES_MAX {
            params = sets.change(&params, &format!("x{i}"), "1");
        }
        assert_eq!(params.iter().count(), NAMES_MAX);
        assert_eq!(sets.change(&params, "x7", "2").get("x7"), Some("2"));
    }

    #[test]
    fn values_are_quoted_whatever_they_hold() {
        let set = |name, value| {
            let mut sql = Vec::new();
            write_set(name, value, &mut sql);
            String::from_utf8(sql).unwrap()
        };
        assert_eq!(set("application_name", "it's"), "SET application_name='it''s';");
        assert_eq!(set("application_name", r"a\'b"), r"SET application_name= E'a\\''b';");
        assert_eq!(set("application_name", ""), "SET application_name='';");
        assert_eq!(set("search_path", "\"A\", b"), "SELECT pg_catalog.set_config('search_path','\"A\", b',false);");
        assert_eq!(set("a'.x", "1"), "SELECT pg_catalog.set_config('a''.x','1',false);");
    }

    #[test]
    fn status_messages_round_trip_and_refuse_rubbish() {
        let mut out = Vec::new();
        write_status("TimeZone", "UTC", &mut out);
        assert_eq!(parse_status(&out[5..]), Some(("TimeZone", "UTC")));
        assert_eq!(parse_status(b"TimeZone\0UTC"), None);
        assert_eq!(parse_status(b"TimeZone\0UTC\0x"), None);
        assert_eq!(parse_status(b"\xff\0\xff\0"), None);
    }
}
