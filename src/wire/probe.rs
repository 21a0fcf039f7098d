//! What a server is asked about the state its client left: which of it is really there, and what the settings are now.
//!
//! Asked outside a transaction, so that what comes back is what PostgreSQL made of SET, SET LOCAL, savepoints and
//! ROLLBACK. Every name is qualified, operators too: the question must mean the same whatever the client's search_path.

use super::listen::CHANNELS_MAX;
use super::params::{Params, write_literal};
use super::sql::{Leaves, Scope, Touched};

/// Settings of one session that are kept; a session with more keeps its server.
pub const SETTINGS_MAX: usize = 128;
/// Longest value that is kept, in bytes.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// In front of a message that has a transaction of its own: to its end it runs without the session's timeouts. PostgreSQL looks
/// at them before each statement of a message.
pub const UNTIMED: &[u8] = b"SET LOCAL statement_timeout=0;SET LOCAL lock_timeout=0;";
/// What that lifts.
const LIFTED: [&str; 2] = ["statement_timeout", "lock_timeout"];

/// A question that was put, and what has come of it.
#[derive(Debug)]
pub struct Probe {
    /// Kinds it asks about.
    pub asked: Leaves,
    /// Settings it asks about: what texts may have changed.
    pub touched: Touched,
    pub answer: Answer,
}

#[derive(Debug)]
pub enum Answer {
    /// Kinds that are there, settings as they are, and channels that are listened to.
    Coming { remains: Leaves, settings: Params, channels: Vec<Box<[u8]>> },
    /// The server said no, or what it said cannot be kept: everything asked about is taken to be there.
    Useless,
}

/// Beyond what the server itself does about it: the two identities, which `pg_settings` leaves out.
pub const IDENTITIES: [&str; 2] = ["session_authorization", "role"];

/// The SQL of the question, and a place for the answer. `known` are the settings as the session had them before.
pub fn ask(asked: Leaves, touched: Touched, known: &Params) -> (Vec<u8>, Probe) {
    let mut sql = CHARACTERISTICS.to_vec();
    let lifts = lift_timeouts(asked, &touched, known, &mut sql);
    ask_kinds(asked, &mut sql);
    if asked.has(Leaves::SETTINGS) {
        ask_settings(&touched, known, lifts, &mut sql);
    }
    sql.push(0);
    let settings = if touched.scope == Scope::Named { known.clone() } else { Params::default() };
    (sql, Probe::new(asked, touched, settings))
}

/// The same about all there may be, whatever the texts touched.
pub fn ask_all(touched: Touched, known: &Params) -> (Vec<u8>, Probe) {
    let mut sql = CHARACTERISTICS.to_vec();
    ask_kinds(Leaves::ASKABLE, &mut sql);
    let is_dotted = |name: &&str| name.contains('.');
    ask_listed(&mut sql);
    // What is known may be a default by now, which the list leaves out; unless it was reset, it is asked for as well.
    let may_be_default = |name: &&str| touched.scope == Scope::Named && !IDENTITIES.contains(name);
    let known = known.iter().map(|(name, _)| name).filter(|name| may_be_default(name) || is_dotted(name));
    known.for_each(|name| ask_setting(name, &mut sql));
    touched.names.iter().map(|name| &**name).filter(is_dotted).for_each(|name| ask_setting(name, &mut sql));
    sql.push(0);
    (sql, Probe::new(Leaves::ASKABLE, touched, Params::default()))
}

/// The question's own: a deferrable default would wait.
const CHARACTERISTICS: &[u8] = b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY, NOT DEFERRABLE;";

/// The question does not run under what its session is known to have set: whether they are lifted. It has a transaction of its
/// own, with whose end they are as they were. What is asked of themselves comes in front. Where any setting is asked about they
/// stay, for their source, which tells whose they are, would be the session then.
fn lift_timeouts(asked: Leaves, touched: &Touched, known: &Params, sql: &mut Vec<u8>) -> bool {
    let asks_settings = asked.has(Leaves::SETTINGS);
    let is_touched = |name: &str| asks_settings && touched.names.iter().any(|touched| **touched == *name);
    let may_be_set = LIFTED.iter().any(|name| known.get(name).is_some() || is_touched(name));
    if !may_be_set || (asks_settings && touched.scope == Scope::Any) {
        return false;
    }
    if LIFTED.iter().any(|name| is_touched(name)) {
        sql.extend_from_slice(b"SELECT '','',''");
        LIFTED.iter().filter(|name| is_touched(name)).for_each(|name| ask_setting(name, sql));
        sql.push(b';');
    }
    sql.extend_from_slice(UNTIMED);
    true
}

fn ask_kinds(asked: Leaves, sql: &mut Vec<u8>) {
    sql.extend_from_slice(b"SELECT '','',''");
    for (kind, letter, condition) in CONDITIONS {
        if asked.has(kind) {
            let row = format!(" UNION ALL SELECT '{letter}','','' WHERE EXISTS ({condition})");
            sql.extend_from_slice(row.as_bytes());
        }
    }
    if asked.has(Leaves::LISTEN) {
        sql.extend_from_slice(b" UNION ALL SELECT 'n',c,'' FROM pg_catalog.pg_listening_channels() AS c");
    }
}

const CONDITIONS: [(Leaves, char, &str); 4] = [
    (
        Leaves::LOCKS,
        'l',
        "SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
         AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
    ),
    (
        Leaves::TEMP,
        't',
        "SELECT FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() \
         UNION ALL SELECT FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() \
         UNION ALL SELECT FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()",
    ),
    (Leaves::CURSORS, 'c', "SELECT FROM pg_catalog.pg_cursors WHERE is_holdable"),
    (Leaves::STATEMENTS, 'p', "SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql"),
];

fn ask_settings(touched: &Touched, known: &Params, are_lifted: bool, sql: &mut Vec<u8>) {
    if touched.scope == Scope::Any {
        ask_listed(sql);
        // pg_settings leaves out what nobody has defined.
        known.iter().filter(|(name, _)| name.contains('.')).for_each(|(name, _)| ask_setting(name, sql));
    }
    let was_asked = |name: &str| are_lifted && LIFTED.contains(&name);
    for name in touched.names.iter().filter(|name| touched.scope == Scope::Named || name.contains('.')) {
        if was_asked(name) {
            continue;
        }
        ask_setting(name, sql);
    }
}

/// All that the session has set, of what is defined.
fn ask_listed(sql: &mut Vec<u8>) {
    sql.extend_from_slice(
        b" UNION ALL SELECT 's',name,pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
          WHERE source OPERATOR(pg_catalog.=) 'session'",
    );
    IDENTITIES.iter().for_each(|name| ask_setting(name, sql));
}

fn ask_setting(name: &str, sql: &mut Vec<u8>) {
    for (before, after) in [(&b" UNION ALL SELECT 's',"[..], &b",pg_catalog.current_setting("[..]), (b"", b",true)")] {
        sql.extend_from_slice(before);
        write_literal(name, sql);
        sql.extend_from_slice(after);
    }
}

impl Probe {
    fn new(asked: Leaves, touched: Touched, settings: Params) -> Self {
        Self { asked, touched, answer: Answer::Coming { remains: Leaves::NOTHING, settings, channels: Vec::new() } }
    }

    /// A DataRow's body.
    pub fn row(&mut self, body: &[u8]) {
        if self.take_row(body).is_none() {
            self.answer = Answer::Useless;
        }
    }

    fn take_row(&mut self, body: &[u8]) -> Option<()> {
        let Answer::Coming { remains, settings, channels } = &mut self.answer else { return Some(()) };
        let mut row = Row { rest: body.get(2..)? };
        let (kind, name, value) = (row.next()??, row.next()??, row.next()?);
        match kind {
            b"" => {}
            b"s" => {
                let name = std::str::from_utf8(name).ok()?;
                match value {
                    Some(value) if value.len() <= VALUE_BYTES_MAX => settings.set(name, std::str::from_utf8(value).ok()?),
                    Some(_) => return None,
                    None => settings.remove(name),
                }
                (settings.iter().count() <= SETTINGS_MAX).then_some(())?;
            }
            b"n" => {
                *remains |= Leaves::LISTEN;
                // One more than can be moved says that they cannot; and the pooler's own may be among them.
                if channels.len() <= CHANNELS_MAX + 1 {
                    channels.push(name.into());
                }
            }
            [letter] => *remains |= CONDITIONS.iter().find(|(_, l, _)| *l == char::from(*letter))?.0,
            _ => return None,
        }
        Some(())
    }
}

struct Row<'a> {
    rest: &'a [u8],
}

impl<'a> Row<'a> {
    /// The next column; the inner `None` is NULL.
    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.rest = rest;
            return Some(None);
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(columns: [Option<&str>; 3]) -> Vec<u8> {
        let mut body = vec![0, 3];
        for column in columns {
            body.extend_from_slice(&column.map_or(-1, |c| c.len() as i32).to_be_bytes());
            body.extend_from_slice(column.unwrap_or_default().as_bytes());
        }
        body
    }

    #[test]
    fn named_settings_change_what_was_known_and_the_rest_stays() {
        let known = Params::from_pairs([("work_mem", "4MB"), ("app.x", "1")]);
        let (sql, mut probe) = ask(Leaves::SETTINGS | Leaves::LOCKS, Touched::named("app.x"), &known);
        let sql = String::from_utf8(sql).unwrap();
        assert!(sql.contains("current_setting('app.x',true)") && sql.contains("pg_locks") && !sql.contains("pg_class"), "{sql}");
        probe.row(&row([Some(""), Some(""), Some("")]));
        probe.row(&row([Some("l"), Some(""), Some("")]));
        probe.row(&row([Some("s"), Some("app.x"), None]));
        let Answer::Coming { remains, settings, .. } = probe.answer else { panic!() };
        assert_eq!((remains, settings), (Leaves::LOCKS, Params::from_pairs([("work_mem", "4MB")])));
    }

    #[test]
    fn all_settings_replace_what_was_known() {
        let known = Params::from_pairs([("work_mem", "4MB"), ("app.x", "1")]);
        let (sql, mut probe) = ask(Leaves::SETTINGS, Touched::any(), &known);
        let sql = String::from_utf8(sql).unwrap();
        assert!(sql.contains("pg_settings") && sql.contains("'app.x'") && sql.contains("'role'"), "{sql}");
        probe.row(&row([Some("s"), Some("search_path"), Some("\"a\", b")]));
        let Answer::Coming { settings, .. } = probe.answer else { panic!() };
        assert_eq!(settings, Params::from_pairs([("search_path", "\"a\", b")]));
    }

    #[test]
    fn what_is_known_is_asked_for_with_the_rest_unless_it_was_reset() {
        let known = Params::from_pairs([("work_mem", "4MB"), ("app.x", "1"), ("role", "app")]);
        let asks = |touched| String::from_utf8(ask_all(touched, &known).0).unwrap();
        let sql = asks(Touched::named("app.y"));
        assert!(["'work_mem'", "'app.x'", "'app.y'", "source"].iter().all(|part| sql.contains(part)), "{sql}");
        assert_eq!(sql.matches("current_setting('role'").count(), 1, "{sql}");
        let sql = asks(Touched::any());
        assert!(!sql.contains("'work_mem'") && sql.contains("'app.x'"), "{sql}");
    }

    #[test]
    fn channels_are_taken_down() {
        let (sql, mut probe) = ask(Leaves::LISTEN, Touched::default(), &Params::default());
        assert!(String::from_utf8(sql).unwrap().contains("pg_listening_channels()"));
        for name in ["jobs", "A \"b\""] {
            probe.row(&row([Some("n"), Some(name), Some("")]));
        }
        let Answer::Coming { remains, channels, .. } = probe.answer else { panic!() };
        assert_eq!((remains, channels), (Leaves::LISTEN, vec![(*b"jobs").into(), (*b"A \"b\"").into()]));
    }

    #[test]
    fn what_cannot_be_kept_makes_the_answer_useless() {
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        for bad in
            [row([Some("s"), Some("a"), Some(&long)]), row([None, None, None]), row([Some("?"), Some(""), Some("")]), vec![]]
        {
            let (_, mut probe) = ask(Leaves::SETTINGS, Touched::any(), &Params::default());
            probe.row(&bad);
            assert!(matches!(probe.answer, Answer::Useless));
        }
    }

    proptest! {
        #[test]
        fn rows_of_any_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let (_, mut probe) = ask(Leaves::ASKABLE, Touched::any(), &Params::default());
            probe.row(&body);
        }
    }
}
