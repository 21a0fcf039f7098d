//! The SQL that the model knows, and the settings it has.

use std::collections::BTreeMap;

/// One statement, as far as it matters to the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    Empty,
    Begin,
    Commit,
    Rollback,
    /// Rows of one column.
    Select(Vec<String>),
    /// A row that cannot be had.
    Fails,
    Show(String),
    Set(String, String),
    SetConfig(String, String),
    SetWorkMem,
    ResetWorkMem,
    /// The pooler's question about what a session left.
    Probe(String),
    Insert,
    Reset(String),
    ResetAll,
    CopyIn,
    CopyOut,
    Execute(String),
    Deallocate(String),
    DeallocateAll,
    DiscardAll,
    Prepare(String, String),
    Listen,
    Unlisten,
    Lock,
    UnlockAll,
    Temp,
    DiscardTemp,
    /// Anything of which only the tag matters here.
    Done(&'static str),
}

impl Statement {
    /// A failed transaction takes it.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback)
    }
}

/// Statements of a query, without their semicolons; no empty ones.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        quoted ^= c == '\'';
        match c {
            ';' if !quoted => statements.push(String::new()),
            c => statements.last_mut().unwrap().push(c),
        }
    }
    statements.into_iter().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
}

/// What a statement is, or what PostgreSQL says of it when it is parsed.
pub(super) fn parse(text: &str) -> Result<Statement, String> {
    let folded = text.trim().to_ascii_lowercase();
    let words: Vec<&str> = folded.split_ascii_whitespace().collect();
    Ok(match words[..] {
        [] => Statement::Empty,
        ["begin"] => Statement::Begin,
        ["commit"] => Statement::Commit,
        ["rollback"] => Statement::Rollback,
        ["select", "pg_advisory_lock(1)"] => Statement::Lock,
        ["select", "pg_catalog.pg_advisory_unlock_all()"] => Statement::UnlockAll,
        ["select", "1/zero", "from", "z"] => Statement::Fails,
        ["select", "'','',''", ..] => Statement::Probe(folded),
        ["select", number] if number.parse::<u32>().is_ok() => Statement::Select(vec![number.into()]),
        ["values", rows] => Statement::Select(rows.split(',').map(|r| r.trim_matches(['(', ')']).into()).collect()),
        ["select", ..] if folded.starts_with("select pg_catalog.set_config(") => set_config(text),
        ["show", name] => Statement::Show(name.into()),
        ["set", "session", "authorization", "default"] => Statement::Done("SET"),
        ["set", name, ..] if name.starts_with("work_mem") && folded.contains("8mb") => Statement::SetWorkMem,
        // To its default, which only the pooler does.
        ["set", name, ..] if name.starts_with("work_mem") => Statement::ResetWorkMem,
        ["set", "transaction", ..]
        | ["set", "statement_timeout=0"]
        | ["set", "local", "statement_timeout=0" | "lock_timeout=0"] => Statement::Done("SET"),
        ["set", ..] => set(text),
        ["reset", "all"] => Statement::ResetAll,
        ["reset", "\"work_mem\""] => Statement::ResetWorkMem,
        ["reset", "role"] => Statement::Done("RESET"),
        ["reset", name] => Statement::Reset(name.trim_matches('"').into()),
        ["copy", "t" | "tb", "from", "stdin"] => Statement::CopyIn,
        ["copy", "z", "to", "stdout"] => Statement::CopyOut,
        ["insert", ..] => Statement::Insert,
        ["execute", name] => Statement::Execute(identifier(name)),
        ["deallocate", "all"] => Statement::DeallocateAll,
        ["deallocate", name] => Statement::Deallocate(identifier(name)),
        ["discard", "all"] => Statement::DiscardAll,
        ["discard", "temp"] => Statement::DiscardTemp,
        ["discard", "sequences"] => Statement::Done("DISCARD SEQUENCES"),
        ["close", "all"] => Statement::Done("CLOSE CURSOR ALL"),
        ["prepare", name, "as", ..] => Statement::Prepare(identifier(name), text.split_once(" as ").unwrap().1.into()),
        ["listen", _] => Statement::Listen,
        ["unlisten", _] => Statement::Unlisten,
        ["create", "temp", ..] => Statement::Temp,
        [first, ..] => return Err(format!("42601 syntax error at or near \"{first}\"")),
    })
}

fn identifier(written: &str) -> String {
    written.trim_matches('"').into()
}

/// `set name = 'value'`, `SET name=E'value'`.
fn set(text: &str) -> Statement {
    let (name, value) = text[4..].split_once('=').unwrap();
    Statement::Set(name.trim().into(), literal(value))
}

/// `SELECT pg_catalog.set_config('name','value',false)`.
fn set_config(text: &str) -> Statement {
    let arguments = text.split_once('(').unwrap().1.trim_end_matches(",false)");
    let (name, value) = arguments.split_once(',').unwrap();
    Statement::SetConfig(literal(name), literal(value))
}

fn literal(written: &str) -> String {
    let written = written.trim();
    match written.strip_prefix('E') {
        Some(escaped) => escaped.trim_matches('\'').replace("\\\\", "\\").replace("''", "'"),
        None => written.strip_prefix('\'').and_then(|w| w.strip_suffix('\'')).unwrap_or(written).replace("''", "'"),
    }
}

/// The settings that are reported: as they are, as they were when the transaction began, as the client was told.
#[derive(Debug)]
pub(super) struct Settings {
    now: BTreeMap<&'static str, String>,
    committed: BTreeMap<&'static str, String>,
    reported: BTreeMap<&'static str, String>,
}

/// As every server of the sweep has them when it is opened.
pub(super) const INITIAL: [(&str, &str); 3] = [("application_name", ""), ("DateStyle", "ISO, MDY"), ("TimeZone", "UTC")];

impl Default for Settings {
    fn default() -> Self {
        let initial: BTreeMap<_, _> = INITIAL.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { now: initial.clone(), committed: initial.clone(), reported: initial }
    }
}

impl Settings {
    pub(super) fn get(&self, name: &str) -> String {
        self.now[known(name)].clone()
    }

    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = known(name);
        let value = match name {
            "DateStyle" => date_style(&self.now[name], value)?,
            "TimeZone" if value.eq_ignore_ascii_case("utc") => "UTC".into(),
            "TimeZone" if value.eq_ignore_ascii_case("europe/vienna") => "Europe/Vienna".into(),
            "TimeZone" => return Err(format!("22023 invalid value for parameter \"TimeZone\": \"{value}\"")),
            _ => value.into(),
        };
        self.now.insert(name, value);
        Ok(())
    }

    pub(super) fn reset(&mut self, name: &str) {
        let name = known(name);
        let initial = INITIAL.iter().find(|(n, _)| *n == name).unwrap().1;
        self.now.insert(name, initial.into());
    }

    pub(super) fn reset_all(&mut self) {
        INITIAL.iter().for_each(|(name, _)| self.reset(name));
    }

    pub(super) fn commit(&mut self) {
        self.committed.clone_from(&self.now);
    }

    pub(super) fn roll_back(&mut self) {
        self.now.clone_from(&self.committed);
    }

    /// What the client has not been told, in PostgreSQL's order.
    pub(super) fn news(&mut self) -> Vec<(&'static str, String)> {
        let news = INITIAL.iter().map(|(name, _)| (*name, self.now[name].clone()));
        let news = news.filter(|(name, value)| self.reported[name] != *value).collect();
        self.reported.clone_from(&self.now);
        news
    }
}

fn known(name: &str) -> &'static str {
    INITIAL.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).unwrap_or_else(|| panic!("no setting {name}")).0
}

/// Style and order; what is not said stays, but German means DMY.
fn date_style(now: &str, value: &str) -> Result<String, String> {
    let (mut style, mut order) = now.split_once(", ").unwrap();
    let mut given = None;
    for word in value.split(',') {
        match word.trim().to_ascii_lowercase().as_str() {
            "iso" => style = "ISO",
            "sql" => style = "SQL",
            "german" => {
                style = "German";
                order = "DMY";
            }
            "mdy" => given = Some("MDY"),
            "dmy" => given = Some("DMY"),
            "ymd" => given = Some("YMD"),
            _ => return Err(format!("22023 invalid value for parameter \"DateStyle\": \"{value}\"")),
        }
    }
    Ok(format!("{style}, {}", given.unwrap_or(order)))
}
