//! A PostgreSQL backend in memory: protocol bytes in, protocol bytes out, and just enough SQL to have state.
//!
//! What it says is what PostgreSQL 15 says to the same bytes, message by message, as far as the sweep's scripts go. Its
//! output is a function of its input alone: whoever cuts, delays or interleaves the bytes changes nothing.

use std::collections::{BTreeMap, VecDeque};

use super::notation::from_server;
use super::sql::{Settings, Statement, parse, split};

const ABORTED: &str = "25P02 current transaction is aborted, commands ignored until end of transaction block";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transaction {
    None,
    /// Of messages whose Sync has not come; `true` once something was executed in it.
    Implicit(bool),
    Block,
    Failed,
}

#[derive(Debug, PartialEq, Eq)]
enum Reading {
    Messages,
    SkipToSync,
    Copy(Copy),
}

/// A COPY FROM STDIN under way: rows so far, and what comes behind it.
#[derive(Debug, PartialEq, Eq)]
struct Copy {
    rows: usize,
    then: Then,
}

#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// The rest of the simple query's statements.
    Query(VecDeque<String>),
    /// The batch goes on.
    Batch,
}

#[derive(Debug)]
struct Portal {
    text: String,
    /// Rows that it has given, or everything once it was run to its end.
    given: Given,
}

#[derive(Debug, PartialEq, Eq)]
enum Given {
    Rows(usize),
    Everything,
}

/// What a session leaves on a server besides settings and statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Residue {
    pub(super) locks: usize,
    pub(super) listens: bool,
    pub(super) temp: bool,
    /// A setting that is not reported.
    pub(super) work_mem: bool,
}

/// Rows inserted, for good and in the transaction under way.
#[derive(Debug, Default)]
struct Rows {
    committed: usize,
    pending: usize,
}

#[derive(Debug)]
pub(super) struct Backend {
    input: Vec<u8>,
    /// Said, but held back until a Sync, a Flush, an error.
    held: Vec<u8>,
    output: Vec<u8>,
    /// By name; the unnamed one too.
    statements: BTreeMap<String, String>,
    portals: BTreeMap<String, Portal>,
    transaction: Transaction,
    reading: Reading,
    settings: Settings,
    pub(super) residue: Residue,
    rows: Rows,
    /// Closes that it did not come to look at.
    pub(super) closes_skipped: usize,
    closed: bool,
}

/// An error, in the notation's words.
type Failure = String;

impl Backend {
    pub(super) fn new() -> Self {
        Self {
            input: Vec::new(),
            held: Vec::new(),
            output: Vec::new(),
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            transaction: Transaction::None,
            reading: Reading::Messages,
            settings: Settings::default(),
            residue: Residue::default(),
            rows: Rows::default(),
            closes_skipped: 0,
            closed: false,
        }
    }

    /// Everything this says to these bytes, to whoever is alone with it.
    pub(super) fn alone(bytes: &[u8]) -> Self {
        let mut backend = Self::new();
        backend.hear(bytes);
        backend.flush();
        backend
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while !self.closed
            && let Some(length) = self.input.get(1..5).map(|l| u32::from_be_bytes(l.try_into().unwrap()) as usize)
            && self.input.len() > length
        {
            let message: Vec<u8> = self.input.drain(..=length).collect();
            self.message(message[0], &message[5..]);
        }
    }

    /// What is on its way out, to take from.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Its buffer was full.
    pub(super) fn flush(&mut self) {
        self.output.append(&mut self.held);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn rows_committed(&self) -> usize {
        self.rows.committed
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.input
    }

    /// Nothing is on its way out; something may be held back.
    pub(super) fn is_silent(&self) -> bool {
        self.output.is_empty()
    }

    /// It has said everything, and is in no transaction.
    pub(super) fn is_quiet(&self) -> bool {
        self.held.is_empty()
            && self.output.is_empty()
            && self.transaction == Transaction::None
            && self.reading == Reading::Messages
    }

    pub(super) fn statements(&self) -> impl Iterator<Item = &str> {
        self.statements.keys().map(String::as_str)
    }

    fn say(&mut self, words: &str) {
        self.held.extend(from_server(words));
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        if let Reading::Copy(_) = self.reading {
            return self.message_of_copy(tag, body);
        }
        if self.reading == Reading::SkipToSync && tag != b'S' {
            self.closes_skipped += usize::from(tag == b'C');
            return;
        }
        let done = match tag {
            b'Q' => return self.query(&text(body)),
            b'S' => return self.sync(),
            b'F' => return self.function_call(),
            b'H' => return self.flush(),
            b'c' | b'd' | b'f' => return,
            b'P' => self.parse(&texts(body)),
            b'B' => self.bind(&texts(body)),
            b'D' => self.describe(body[0], &text(&body[1..])),
            b'C' => self.close(body[0], &text(&body[1..])),
            b'E' => self.execute(&text(body), u32::from_be_bytes(*body.last_chunk().unwrap()) as usize),
            _ => panic!("no message of a client: {tag}"),
        };
        if let Err(failure) = done {
            self.fail(&failure);
            self.reading = Reading::SkipToSync;
        }
    }

    /// An error: what the transaction did is undone, and the client hears at once.
    fn fail(&mut self, failure: &str) {
        self.say(&format!("E({failure})"));
        self.flush();
        match self.transaction {
            Transaction::Block | Transaction::Failed => {
                self.transaction = Transaction::Failed;
                self.settings.roll_back();
                self.rows.pending = 0;
            }
            Transaction::None | Transaction::Implicit(_) => self.end_transaction(false),
        }
    }

    fn end_transaction(&mut self, commits: bool) {
        match commits {
            true => {
                self.settings.commit();
                self.rows.committed += self.rows.pending;
            }
            false => self.settings.roll_back(),
        }
        self.rows.pending = 0;
        self.portals.clear();
        self.transaction = Transaction::None;
    }

    fn begin_command(&mut self) {
        if self.transaction == Transaction::None {
            self.transaction = Transaction::Implicit(false);
        }
    }

    fn ready(&mut self) {
        if let Transaction::Implicit(_) = self.transaction {
            self.end_transaction(true);
        }
        for (name, value) in self.settings.news() {
            self.say(&format!("S({name}={value})"));
        }
        self.say(match self.transaction {
            Transaction::None | Transaction::Implicit(_) => "Z(I)",
            Transaction::Block => "Z(T)",
            Transaction::Failed => "Z(E)",
        });
        self.flush();
    }

    fn sync(&mut self) {
        self.reading = Reading::Messages;
        self.ready();
    }

    fn function_call(&mut self) {
        self.begin_command();
        match self.transaction {
            Transaction::Failed => self.fail(ABORTED),
            _ => self.say("V"),
        }
        self.ready();
    }

    fn query(&mut self, text: &str) {
        self.statements.remove("");
        let statements: VecDeque<String> = split(text).into();
        if statements.is_empty() {
            self.say("I");
            return self.ready();
        }
        // All of the text is read before any of it is run.
        if let Some(failure) = statements.iter().find_map(|s| parse(s).err()) {
            self.begin_command();
            self.fail(&failure);
            return self.ready();
        }
        self.go_on_with_query(statements, true);
    }

    /// Runs statements until they are through, one fails, or one wants data.
    fn go_on_with_query(&mut self, mut statements: VecDeque<String>, is_first: bool) {
        let alone = is_first && statements.len() == 1;
        while let Some(text) = statements.pop_front() {
            self.begin_command();
            match self.statement_of_query(&text, alone) {
                Ok(false) => _ = self.portals.remove(""),
                Ok(true) => {
                    self.reading = Reading::Copy(Copy { rows: 0, then: Then::Query(statements) });
                    if text == "copy tb from stdin" {
                        self.copy_fails("P0001 boom");
                    }
                    return;
                }
                Err(failure) => {
                    self.fail(&failure);
                    break;
                }
            }
        }
        self.ready();
    }

    /// Whether it wants data.
    fn statement_of_query(&mut self, text: &str, alone: bool) -> Result<bool, Failure> {
        let statement = self.checked(text)?;
        // It has the unnamed portal while it runs; if it fails, that is there to the transaction's end.
        self.portals.insert(String::new(), Portal { text: text.into(), given: Given::Rows(0) });
        if let Some(rows) = self.rows(&statement)? {
            self.say("T");
            self.say_rows(&statement, &rows)?;
            let tag = self.tag_of_rows(&statement, rows.len());
            self.say(&format!("C({tag})"));
            return Ok(false);
        }
        self.run(&statement, alone)
    }

    /// The statement, if the transaction may take it.
    fn checked(&self, text: &str) -> Result<Statement, Failure> {
        let statement = parse(text)?;
        match self.transaction == Transaction::Failed && !statement.ends_transaction() {
            true => Err(ABORTED.into()),
            false => Ok(statement),
        }
    }

    /// The rows it gives, if it is a statement that gives any.
    fn rows(&self, statement: &Statement) -> Result<Option<Vec<String>>, Failure> {
        Ok(match statement {
            Statement::Select(rows) => Some(rows.clone()),
            Statement::Fails | Statement::Lock | Statement::UnlockAll | Statement::SetConfig(..) => Some(vec![String::new()]),
            Statement::Show(name) => Some(vec![self.settings.get(name)]),
            Statement::Probe(sql) => Some(self.found(sql)),
            Statement::Execute(name) => {
                let text = self.statements.get(name).ok_or_else(|| unknown(name))?;
                self.rows(&parse(text)?)?
            }
            _ => None,
        })
    }

    fn say_rows(&mut self, statement: &Statement, rows: &[String]) -> Result<(), Failure> {
        match statement {
            Statement::Fails => return Err("22012 division by zero".into()),
            Statement::Lock => self.residue.locks += 1,
            Statement::UnlockAll => self.residue.locks = 0,
            Statement::SetConfig(name, value) => self.settings.set(name, value)?,
            Statement::Execute(name) => {
                let inner = parse(&self.statements[name].clone())?;
                return self.say_rows(&inner, rows);
            }
            _ => {}
        }
        match statement {
            Statement::Probe(_) => rows.iter().for_each(|row| self.say_three_columns(row)),
            _ => rows.iter().for_each(|row| self.say(&format!("D({row})"))),
        }
        Ok(())
    }

    /// What is there of what it asks about: a letter each, and settings as `sNAME=VALUE`.
    fn found(&self, sql: &str) -> Vec<String> {
        let Residue { locks, listens, temp, work_mem } = self.residue;
        let own = self.statements.keys().any(|name| is_from_sql(name));
        let mut found = vec![String::new()];
        for (letter, is_there) in [("l", locks > 0), ("n", listens), ("t", temp), ("p", own)] {
            if is_there && sql.contains(&format!("select '{letter}'")) {
                found.push(letter.into());
            }
        }
        if sql.contains("pg_settings") && work_mem {
            found.push("swork_mem=8MB".into());
        } else if sql.contains("'work_mem'") {
            found.push(format!("swork_mem={}", if work_mem { "8MB" } else { "4MB" }));
        }
        found
    }

    fn say_three_columns(&mut self, row: &str) {
        let (kind, setting) = row.split_at(row.len().min(1));
        let (name, value) = setting.split_once('=').unwrap_or_default();
        let columns = [kind, name, value];
        let bytes = 4 + 2 + columns.iter().map(|c| 4 + c.len()).sum::<usize>();
        self.held.push(b'D');
        self.held.extend_from_slice(&u32::try_from(bytes).unwrap().to_be_bytes());
        self.held.extend_from_slice(&[0, 3]);
        for column in columns {
            self.held.extend_from_slice(&u32::try_from(column.len()).unwrap().to_be_bytes());
            self.held.extend_from_slice(column.as_bytes());
        }
    }

    fn tag_of_rows(&self, statement: &Statement, count: usize) -> String {
        match statement {
            Statement::Show(_) => "SHOW".into(),
            Statement::Execute(name) => parse(&self.statements[name]).map_or_else(|e| e, |s| self.tag_of_rows(&s, count)),
            _ => format!("SELECT {count}"),
        }
    }

    /// Runs what gives no rows; whether it wants data.
    fn run(&mut self, statement: &Statement, alone: bool) -> Result<bool, Failure> {
        let tag = match statement {
            Statement::Empty => {
                self.say("I");
                return Ok(false);
            }
            Statement::Begin | Statement::Commit | Statement::Rollback => self.run_transaction(statement),
            Statement::CopyIn => {
                self.say("G");
                self.flush();
                return Ok(true);
            }
            Statement::CopyOut => {
                self.say("H d(0\n) c");
                "COPY 1".into()
            }
            Statement::Execute(name) => {
                let inner = parse(&self.statements[name].clone())?;
                return self.run(&inner, alone);
            }
            Statement::Deallocate(name) => {
                self.statements.remove(name).ok_or_else(|| unknown(name))?;
                "DEALLOCATE".into()
            }
            Statement::Prepare(name, text) => {
                if self.statements.contains_key(name) {
                    return Err(duplicate(name));
                }
                self.statements.insert(name.clone(), text.clone());
                "PREPARE".into()
            }
            Statement::DiscardAll => {
                self.may_discard_all(alone)?;
                self.deallocate_all();
                self.settings.reset_all();
                self.residue = Residue::default();
                "DISCARD ALL".into()
            }
            other => self.run_utility(other)?,
        };
        self.say(&format!("C({tag})"));
        if *statement == Statement::DiscardAll {
            self.end_transaction(true);
        }
        Ok(false)
    }

    fn run_transaction(&mut self, statement: &Statement) -> String {
        let was = self.transaction;
        match (statement, was) {
            (Statement::Begin, Transaction::Block) => self.say("N(25001 there is already a transaction in progress)"),
            (Statement::Begin, _) => self.transaction = Transaction::Block,
            (_, Transaction::None | Transaction::Implicit(_)) => self.say("N(25P01 there is no transaction in progress)"),
            _ => {}
        }
        match statement {
            Statement::Begin => return "BEGIN".into(),
            Statement::Commit if was != Transaction::Failed => self.end_transaction(true),
            _ => self.end_transaction(false),
        }
        if *statement == Statement::Commit && was != Transaction::Failed { "COMMIT".into() } else { "ROLLBACK".into() }
    }

    fn run_utility(&mut self, statement: &Statement) -> Result<String, Failure> {
        Ok(match statement {
            Statement::Set(name, value) => {
                self.settings.set(name, value)?;
                "SET".into()
            }
            Statement::Reset(name) => {
                self.settings.reset(name);
                "RESET".into()
            }
            Statement::ResetWorkMem => {
                self.residue.work_mem = false;
                "RESET".into()
            }
            Statement::SetWorkMem => {
                self.residue.work_mem = true;
                "SET".into()
            }
            Statement::Insert => {
                self.rows.pending += 1;
                "INSERT 0 1".into()
            }
            Statement::ResetAll => {
                self.settings.reset_all();
                self.residue.work_mem = false;
                "RESET".into()
            }
            Statement::DeallocateAll => {
                self.deallocate_all();
                "DEALLOCATE ALL".into()
            }
            Statement::Listen => {
                self.residue.listens = true;
                "LISTEN".into()
            }
            Statement::Unlisten => {
                self.residue.listens = false;
                "UNLISTEN".into()
            }
            Statement::DiscardTemp => {
                self.residue.temp = false;
                "DISCARD TEMP".into()
            }
            Statement::Temp if self.residue.temp => return Err("42P07 relation \"tt\" already exists".into()),
            Statement::Temp => {
                self.residue.temp = true;
                "CREATE TABLE".into()
            }
            Statement::Done(tag) => (*tag).into(),
            _ => unreachable!("{statement:?} is run elsewhere"),
        })
    }

    fn may_discard_all(&self, alone: bool) -> Result<(), Failure> {
        match self.transaction {
            Transaction::Implicit(true) => Err("25001 DISCARD ALL cannot be executed within a pipeline".into()),
            Transaction::Block => Err("25001 DISCARD ALL cannot run inside a transaction block".into()),
            _ if !alone => Err("25001 DISCARD ALL cannot run inside a transaction block".into()),
            _ => Ok(()),
        }
    }

    /// All but the unnamed one.
    fn deallocate_all(&mut self) {
        self.statements.retain(|name, _| name.is_empty());
    }

    fn message_of_copy(&mut self, tag: u8, body: &[u8]) {
        let Reading::Copy(copy) = &mut self.reading else { unreachable!("asked for while copying") };
        match tag {
            b'H' | b'S' => {}
            b'd' if body.starts_with(b"bad") => self.copy_fails("22P02 invalid input syntax for type integer: \"bad\""),
            b'd' => copy.rows += 1,
            b'f' => self.copy_fails(&format!("57014 COPY from stdin failed: {}", text(body))),
            b'c' => {
                let rows = copy.rows;
                let Reading::Copy(copy) = std::mem::replace(&mut self.reading, Reading::Messages) else { unreachable!() };
                self.say(&format!("C(COPY {rows})"));
                if let Then::Query(statements) = copy.then {
                    self.portals.remove("");
                    self.go_on_with_query(statements, false);
                }
            }
            _ => {
                self.say(&format!("E(08P01 unexpected message type 0x{tag:02X} during COPY from stdin)"));
                self.say("E(FATAL 08P01 terminating connection because protocol synchronization was lost)");
                self.flush();
                self.closed = true;
            }
        }
    }

    fn copy_fails(&mut self, failure: &str) {
        let Reading::Copy(copy) = std::mem::replace(&mut self.reading, Reading::Messages) else { unreachable!() };
        self.fail(failure);
        match copy.then {
            Then::Query(_) => self.ready(),
            Then::Batch => self.reading = Reading::SkipToSync,
        }
    }

    fn parse(&mut self, texts: &[String]) -> Result<(), Failure> {
        self.begin_command();
        let (name, text) = (&texts[0], &texts[1]);
        if name.is_empty() {
            self.statements.remove("");
        }
        if parse(text)? != Statement::Empty {
            self.checked(text)?;
        }
        if self.statements.contains_key(name) {
            return Err(duplicate(name));
        }
        self.statements.insert(name.clone(), text.clone());
        self.say("1");
        Ok(())
    }

    fn bind(&mut self, texts: &[String]) -> Result<(), Failure> {
        self.begin_command();
        let (portal, name) = (&texts[0], &texts[1]);
        let text = self.statements.get(name).cloned().ok_or_else(|| unknown(name))?;
        self.checked(&text)?;
        if !portal.is_empty() && self.portals.contains_key(portal) {
            return Err(format!("42P03 cursor \"{portal}\" already exists"));
        }
        self.portals.insert(portal.clone(), Portal { text, given: Given::Rows(0) });
        self.say("2");
        Ok(())
    }

    fn describe(&mut self, kind: u8, name: &str) -> Result<(), Failure> {
        self.begin_command();
        let text = match kind {
            b'S' => self.statements.get(name).cloned().ok_or_else(|| unknown(name))?,
            _ => self.portals.get(name).map(|p| p.text.clone()).ok_or_else(|| no_portal(name))?,
        };
        // As it was when it was prepared: nothing to be said against it any more.
        let gives_rows = self.rows(&parse(&text)?).unwrap_or(None).is_some();
        if gives_rows && self.transaction == Transaction::Failed {
            return Err(ABORTED.into());
        }
        if kind == b'S' {
            self.say("t");
        }
        self.say(if gives_rows { "T" } else { "n" });
        Ok(())
    }

    fn close(&mut self, kind: u8, name: &str) -> Result<(), Failure> {
        self.begin_command();
        match kind {
            b'S' => _ = self.statements.remove(name),
            _ => _ = self.portals.remove(name),
        }
        self.say("3");
        Ok(())
    }

    fn execute(&mut self, name: &str, limit: usize) -> Result<(), Failure> {
        self.begin_command();
        let Some(Portal { text, given }) = self.portals.get_mut(name) else { return Err(no_portal(name)) };
        let (text, was) = (text.clone(), std::mem::replace(given, Given::Everything));
        if parse(&text)? == Statement::Empty {
            self.say("I");
            return Ok(());
        }
        let statement = self.checked(&text)?;
        let ended = if let Some(rows) = self.rows(&statement)? {
            self.execute_rows(name, &statement, rows, &was, limit)?;
            false
        } else {
            if was == Given::Everything {
                return Err(format!("55000 portal \"{name}\" cannot be run"));
            }
            if self.run(&statement, true)? {
                self.reading = Reading::Copy(Copy { rows: 0, then: Then::Batch });
                if text == "copy tb from stdin" {
                    self.copy_fails("P0001 boom");
                }
            }
            statement.ends_transaction() || statement == Statement::Begin || statement == Statement::DiscardAll
        };
        if !ended && self.transaction == Transaction::Implicit(false) {
            self.transaction = Transaction::Implicit(true);
        }
        Ok(())
    }

    fn execute_rows(
        &mut self,
        name: &str,
        statement: &Statement,
        rows: Vec<String>,
        was: &Given,
        limit: usize,
    ) -> Result<(), Failure> {
        let from = match was {
            Given::Rows(rows) => *rows,
            Given::Everything => rows.len(),
        };
        let until = if limit == 0 { rows.len() } else { rows.len().min(from + limit) };
        let some = &rows[from..until];
        if !some.is_empty() {
            self.say_rows(statement, some)?;
        }
        if limit > 0 && some.len() == limit {
            self.say("s");
            if let Some(portal) = self.portals.get_mut(name) {
                portal.given = Given::Rows(until);
            }
        } else {
            let tag = self.tag_of_rows(statement, some.len());
            self.say(&format!("C({tag})"));
        }
        Ok(())
    }
}

fn unknown(name: &str) -> Failure {
    match name {
        "" => "26000 unnamed prepared statement does not exist".into(),
        name => format!("26000 prepared statement \"{name}\" does not exist"),
    }
}

/// By what the pooler calls its own.
pub(super) fn is_from_sql(name: &str) -> bool {
    !name.is_empty() && (!name.starts_with("sidepool_") || name.ends_with('?'))
}

fn duplicate(name: &str) -> Failure {
    format!("42P05 prepared statement \"{name}\" already exists")
}

fn no_portal(name: &str) -> Failure {
    format!("34000 portal \"{name}\" does not exist")
}

fn text(body: &[u8]) -> String {
    texts(body).swap_remove(0)
}

fn texts(body: &[u8]) -> Vec<String> {
    body.split(|b| *b == 0).map(|t| String::from_utf8_lossy(t).into_owned()).collect()
}
