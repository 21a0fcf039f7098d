//! Scripts out of a seed: what applications do to their session, mixed as none of them would.

use crate::common::wire;
use crate::rng::Rng;

/// What one client sends, and how it asks to be let in.
#[derive(Debug)]
pub(crate) struct Script {
    /// Startup parameters: RESET returns to them.
    pub(crate) startup: Vec<(&'static str, &'static str)>,
    pub(crate) steps: Vec<Step>,
}

/// Messages that leave in one write, and how many ReadyForQuery answer them.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ready: usize,
    /// The same for people.
    pub(crate) text: String,
}

/// What every database of the scripts has.
pub(crate) const SCHEMA: &str = "
    CREATE SCHEMA \"A b\"; GRANT ALL ON SCHEMA \"A b\" TO PUBLIC;
    CREATE TABLE numbered (id serial, a int); GRANT ALL ON numbered TO PUBLIC; GRANT ALL ON numbered_id_seq TO PUBLIC;
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
    CREATE PROCEDURE sets(value text) LANGUAGE plpgsql AS $$ BEGIN
        PERFORM set_config('work_mem', value, false); SET lock_timeout = '34s'; END $$;
    CREATE PROCEDURE commits(value text) LANGUAGE plpgsql AS $$ BEGIN
        PERFORM set_config('lock_timeout', value, false); COMMIT; SET work_mem = '11MB'; ROLLBACK; END $$;";

/// Before each play, so that all of them find the same.
pub(crate) const RESTART: &str = "TRUNCATE public.numbered RESTART IDENTITY";

const SETTINGS: [(&str, &[&str]); 17] = [
    ("work_mem", &["'1MB'", "'2MB'", "4096", "'much'"]),
    ("search_path", &["pg_catalog", "\"A b\", public", "''", "pg_temp, public", "'a,b'", "\"$user\", public"]),
    ("statement_timeout", &["'31s'", "32000", "0"]),
    ("lock_timeout", &["'33s'", "0"]),
    ("TimeZone", &["'UTC'", "'Asia/Tokyo'", "'Nowhere/Never'", "-3"]),
    ("DateStyle", &["'German'", "'SQL, DMY'", "ISO, MDY"]),
    ("IntervalStyle", &["iso_8601", "postgres"]),
    ("application_name", &["'it''s'", "'back\\slash'", "''", "mine"]),
    ("app.x", &["'1'", "'it''s \\ \"x\"'", "''", "two"]),
    ("app.y", &["'2'", "'\u{e4}'"]),
    ("extra_float_digits", &["0", "-3", "9"]),
    ("standard_conforming_strings", &["off", "on"]),
    ("default_transaction_isolation", &["'serializable'", "'repeatable read'"]),
    ("default_transaction_read_only", &["on", "off"]),
    ("client_min_messages", &["error", "notice", "warning"]),
    ("plan_cache_mode", &["force_generic_plan", "auto"]),
    ("bytea_output", &["escape", "hex"]),
];

struct Writer {
    rng: Rng,
    seed: u64,
    in_transaction: bool,
    /// It said at its start that it reads sequences, so that what it draws is kept for it.
    reads_sequences: bool,
    reads_random: bool,
    /// RESET returns to startup parameters. In a text of several statements it does so at its end only, here.
    has_defaults: bool,
    /// The statement that is being written is one of several of its text.
    is_one_of_several: bool,
    /// It is one of several of its batch.
    is_in_batch: bool,
}

pub(crate) fn script(seed: u64) -> Script {
    let mut rng = Rng::new(seed);
    let reads_sequences = rng.one_in(8);
    let reads_random = rng.one_in(16);
    let mut startup = Vec::new();
    if rng.one_in(4) {
        startup.push(("TimeZone", rng.pick(&["Europe/Vienna", "UTC"])));
    }
    if rng.one_in(4) {
        startup
            .push(("options", rng.pick(&["-c work_mem=3MB", "-c app.x=start -c search_path=pg_catalog", "-c DateStyle=German"])));
    }
    let has_defaults = !startup.is_empty();
    let mut writer = Writer {
        rng,
        seed,
        in_transaction: false,
        reads_sequences,
        reads_random,
        has_defaults,
        is_one_of_several: false,
        is_in_batch: false,
    };
    let mut steps = Vec::new();
    if reads_sequences {
        steps.push(simple("SELECT lastval()"));
    }
    if reads_random {
        steps.push(simple("SELECT setseed(0.25)"));
    }
    let length = 4 + writer.rng.below(20);
    for _ in 0..length {
        let step = writer.step();
        steps.push(step);
        if has_defaults && writer.rng.one_in(6) {
            writer.in_transaction = false;
            steps.extend([simple("ROLLBACK"), simple(&writer.reset())]);
        }
    }
    // Whatever was still to be told is told with it.
    steps.push(simple("SELECT 'last'"));
    Script { startup, steps }
}

fn simple(sql: &str) -> Step {
    Step { bytes: wire::query(sql), ready: 1, text: sql.into() }
}

/// One batch without its Sync.
struct Part {
    bytes: Vec<u8>,
    text: String,
}

impl Part {
    fn synced(self) -> Step {
        Step { bytes: [self.bytes, wire::sync()].concat(), ready: 1, text: format!("{} Sync", self.text) }
    }
}

impl Writer {
    fn step(&mut self) -> Step {
        match self.rng.below(20) {
            0..=9 => simple(&self.statement()),
            10..=11 => self.several_statements(),
            12..=15 => self.part().synced(),
            16..=17 => {
                self.is_in_batch = true;
                let parts: Vec<Part> = (0..2 + self.rng.below(3)).map(|_| self.part()).collect();
                self.is_in_batch = false;
                let text = parts.iter().map(|part| part.text.clone()).collect::<Vec<_>>().join(" ");
                Part { bytes: parts.into_iter().flat_map(|part| part.bytes).collect(), text }.synced()
            }
            18 => self.at_once(),
            _ => self.copy(),
        }
    }

    fn several_statements(&mut self) -> Step {
        let count = 2 + self.rng.below(3);
        self.is_one_of_several = true;
        let statements: Vec<String> = (0..count).map(|_| self.statement()).collect();
        self.is_one_of_several = false;
        simple(&statements.join("; "))
    }

    /// Several requests in one write.
    fn at_once(&mut self) -> Step {
        let mut all = Step { bytes: Vec::new(), ready: 0, text: "at once:".into() };
        for _ in 0..2 + self.rng.below(3) {
            let one = if self.rng.one_in(2) { simple(&self.statement()) } else { self.part().synced() };
            all.bytes.extend(one.bytes);
            all.ready += one.ready;
            all.text = format!("{} | {}", all.text, one.text);
        }
        all
    }

    fn copy(&mut self) -> Step {
        if self.rng.one_in(2) {
            return simple("COPY (SELECT generate_series(1, 3)) TO STDOUT");
        }
        let table = self.table();
        let query = format!("COPY {table} FROM STDIN");
        let rows: &[u8] = self.rng.pick(&[&b"1\n2\n"[..], b"no number\n"]);
        let end = if self.rng.one_in(4) { wire::copy_fail("enough") } else { wire::copy_done() };
        Step { bytes: [wire::query(&query), wire::copy_data(rows), end].concat(), ready: 1, text: format!("{query} …") }
    }

    /// Messages of the extended protocol.
    fn part(&mut self) -> Part {
        let name = self.rng.pick(&["", "s1", "s2", "s3"]);
        match self.rng.below(12) {
            0..=3 => {
                let sql = self.statement();
                let bytes = [wire::parse("", &sql), wire::bind("", "", &[]), wire::describe_portal(""), wire::execute("", 0)];
                Part { bytes: bytes.concat(), text: format!("run[{sql}]") }
            }
            4 | 5 => {
                let sql = self.statement();
                // It would be one that runs itself, or that another EXECUTE runs: docs/compatibility.md.
                let names_another = ["EXECUTE s", "PREPARE s", "DEALLOCATE s"].iter().any(|naming| sql.contains(naming));
                // Bound behind others, it would be too early for channels that come home: docs/compatibility.md.
                let is_early = sql.contains("pg_listening_channels");
                let sql = if !name.is_empty() && names_another || is_early { "SELECT 1".into() } else { sql };
                Part { bytes: wire::parse(name, &sql), text: format!("Parse({name})[{sql}]") }
            }
            6..=8 => {
                let bytes = [wire::bind("", name, &[]), wire::execute("", 0)].concat();
                Part { bytes, text: format!("Bind({name}) Execute") }
            }
            9 => {
                let (setting, values) = self.rng.pick(&SETTINGS);
                let value = self.rng.pick(values).trim_matches('\'');
                let is_local = self.rng.pick(&["true", "false"]);
                let bytes = [
                    wire::parse("", &format!("SELECT set_config($1, $2, {is_local})")),
                    wire::bind("", "", &[Some(setting), Some(value)]),
                    wire::execute("", 0),
                ];
                Part { bytes: bytes.concat(), text: format!("set_config({setting}, {value}, {is_local}), bound") }
            }
            10 => {
                let bytes = [wire::describe_statement(name), wire::close_statement(name)];
                match self.rng.one_in(2) {
                    true => Part { bytes: bytes.concat(), text: format!("Describe({name}) Close({name})") },
                    false => Part { bytes: wire::close_statement(name), text: format!("Close({name})") },
                }
            }
            _ => {
                let bytes = [wire::bind("p", name, &[]), wire::execute("p", 2), wire::execute("p", 0)];
                Part { bytes: bytes.concat(), text: format!("Bind(p, {name}) Execute(p, 2) Execute(p)") }
            }
        }
    }

    fn statement(&mut self) -> String {
        if self.in_transaction && self.rng.one_in(5) {
            self.in_transaction = false;
            return self.rng.pick(&["COMMIT", "COMMIT", "ROLLBACK", "ROLLBACK", "COMMIT AND CHAIN", "END"]).into();
        }
        match self.rng.below(32) {
            0..=7 => self.set(),
            8..=9 => self.show(),
            10..=11 => self.transaction(),
            12 => self.identity(),
            13..=15 => self.prepared(),
            16..=17 => self.cursor(),
            18..=20 => self.temporary(),
            21..=22 => self.lock(),
            23..=24 => self.listen(),
            25 => self.discard(),
            26 => self.failure(),
            27..=28 => self.procedural(),
            29 => self.sequence(),
            _ => self.plain(),
        }
    }

    fn set(&mut self) -> String {
        let (name, values) = self.rng.pick(&SETTINGS);
        let value = self.rng.pick(values);
        let bare = value.trim_matches('\'').replace('\\', "").replace("''", "");
        match self.rng.below(16) {
            0..=4 => format!("SET {name} = {value}"),
            5 => format!("SET SESSION {name} TO {value}"),
            6..=7 => format!("SET LOCAL {name} = {value}"),
            8..=9 => self.reset_within(),
            10 => format!("SELECT set_config('{name}', '{bare}', false)"),
            11 => format!("SELECT set_config('{name}', '{bare}', true), 1"),
            12 => format!("UPDATE pg_settings SET setting = '{bare}' WHERE name = '{name}'"),
            // Channels that have moved come back for it, and then it is too late for SET TRANSACTION: docs/compatibility.md.
            13 if self.in_transaction => "SET TIME ZONE 'UTC'".into(),
            13 => self
                .rng
                .pick(&["SET NAMES 'UTF8'", "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", "SET TIME ZONE 'UTC'"])
                .into(),
            14 => {
                let mode = self.rng.pick(&["READ ONLY", "READ WRITE", "ISOLATION LEVEL REPEATABLE READ, DEFERRABLE"]);
                let what = self.rng.pick(&["SESSION CHARACTERISTICS AS TRANSACTION", "TRANSACTION"]);
                format!("SET {what} {mode}")
            }
            _ => self.rng.pick(&["/* a comment */ SET work_mem = '5MB'", "(SELECT set_config('app.x', 'in', false))"]).into(),
        }
    }

    fn reset_within(&mut self) -> String {
        match self.has_defaults {
            true if self.is_one_of_several => "SHOW work_mem".into(),
            // What it resets is known by its answer, and what is sent at once with it comes before that.
            true => Some(self.reset()).filter(|text| text != "DISCARD ALL").unwrap_or_else(|| "RESET ALL".into()),
            false => self.reset(),
        }
    }

    fn reset(&mut self) -> String {
        let (name, _) = self.rng.pick(&SETTINGS);
        match self.rng.below(6) {
            0 => format!("SET {name} TO DEFAULT"),
            1 => "SET TIME ZONE LOCAL".into(),
            2 => "RESET ALL".into(),
            3 => "DISCARD ALL".into(),
            _ => format!("RESET {name}"),
        }
    }

    fn show(&mut self) -> String {
        let (name, _) = self.rng.pick(&SETTINGS);
        match self.rng.below(4) {
            // Whether the parameter was ever defined is the server connection's, not the session's.
            _ if name.contains('.') => format!("SELECT coalesce(current_setting('{name}', true), '')"),
            0 => format!(
                "SELECT name, setting FROM pg_settings WHERE name IN ('{}') ORDER BY 1",
                SETTINGS.map(|(n, _)| n).join("', '")
            ),
            1 => "SELECT timestamptz '2026-02-01 00:00:00+00', interval '1 day 2 hours', 0.1::float8, '\\x00'::bytea".into(),
            _ => format!("SHOW {name}"),
        }
    }

    fn transaction(&mut self) -> String {
        if !self.in_transaction {
            self.in_transaction = true;
            return self.rng.pick(&["BEGIN", "BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL SERIALIZABLE"]).into();
        }
        let savepoint = self.rng.pick(&["a", "b"]);
        let verb = self.rng.pick(&["SAVEPOINT", "SAVEPOINT", "ROLLBACK TO", "ROLLBACK TO", "RELEASE"]);
        format!("{verb} {savepoint}")
    }

    fn identity(&mut self) -> String {
        let statements = [
            "SET ROLE app",
            "SET ROLE app",
            "SET LOCAL ROLE app",
            "RESET ROLE",
            "SET ROLE none",
            "SET ROLE nobody_of_this_name",
            "SET SESSION AUTHORIZATION app",
            "SET SESSION AUTHORIZATION DEFAULT",
            "RESET SESSION AUTHORIZATION",
            "SELECT current_user, session_user",
            "SELECT current_user, session_user",
            "SHOW role",
        ];
        self.rng.pick(&statements).into()
    }

    fn prepared(&mut self) -> String {
        let name = self.rng.pick(&["p1", "p2", "\"P 3\""]);
        let any_name = self.rng.pick(&[name, "s1", "s2"]);
        match self.rng.below(12) {
            0..=1 => format!("PREPARE {any_name} AS SELECT '{name}', {}", self.rng.below(9)),
            2 => format!("PREPARE {any_name} (int) AS SELECT $1 + 1"),
            3 => format!(
                "PREPARE {any_name} AS {}",
                self.rng.pick(&["INSERT INTO t1 VALUES (3)", "SELECT * FROM t1", "VALUES (1), (2)"])
            ),
            // It may be a RESET, like those of `reset_within`.
            4..=6 if self.has_defaults && self.is_one_of_several => format!("EXECUTE {name}"),
            4..=6 => format!("EXECUTE {any_name}"),
            7 => format!("EXECUTE {any_name}(3)"),
            8 => format!("DEALLOCATE {any_name}"),
            9 => format!("EXPLAIN (COSTS OFF) EXECUTE {any_name}"),
            10 => self.rng.pick(&["DEALLOCATE ALL", "DEALLOCATE PREPARE ALL", "DISCARD PLANS"]).into(),
            _ => "SELECT name, statement FROM pg_prepared_statements WHERE from_sql ORDER BY 1".into(),
        }
    }

    fn cursor(&mut self) -> String {
        let name = self.rng.pick(&["c1", "c2"]);
        let hold = self.rng.pick(&[" WITH HOLD", " WITH HOLD", "", " SCROLL", " WITHOUT HOLD"]).replace(" SCROLL", "");
        match self.rng.below(10) {
            0..=2 => format!("DECLARE {name} SCROLL CURSOR{hold} FOR SELECT generate_series(1, 9)"),
            3 => format!("FETCH 2 FROM {name}"),
            4 => format!("FETCH BACKWARD 1 FROM {name}"),
            5 => format!("MOVE FORWARD 3 IN {name}"),
            6 => format!("CLOSE {name}"),
            7 => "CLOSE ALL".into(),
            _ => "SELECT name, is_holdable FROM pg_cursors WHERE name ~ '^c' ORDER BY 1".into(),
        }
    }

    fn table(&mut self) -> &'static str {
        self.rng.pick(&["t1", "t1", "t2"])
    }

    fn temporary(&mut self) -> String {
        let table = self.table();
        match self.rng.below(16) {
            0..=2 => format!("CREATE TEMP TABLE {table} (a int)"),
            3 => format!("CREATE TABLE pg_temp.{table} (a int)"),
            4 => format!("CREATE LOCAL TEMPORARY TABLE IF NOT EXISTS {table} (a int) ON COMMIT DROP"),
            5 => format!("CREATE TEMP TABLE {table} ON COMMIT DELETE ROWS AS SELECT 7 AS a"),
            6 => format!("SELECT 5 AS a INTO TEMP {table}"),
            7 => "CREATE TEMP VIEW v1 AS SELECT 'view' AS a".into(),
            8 => format!("INSERT INTO {table} VALUES (1), (2)"),
            9..=11 => format!("SELECT * FROM {table}"),
            12..=13 => format!("DROP TABLE {table}"),
            14 => "CREATE FUNCTION pg_temp.one() RETURNS int LANGUAGE sql AS 'SELECT 1'".into(),
            _ => "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() ORDER BY 1".into(),
        }
    }

    fn lock(&mut self) -> String {
        // Nobody else's: another script may still be on its way out.
        let key = self.seed * 10 + self.rng.below(2) as u64;
        let calls = [
            "pg_advisory_lock",
            "pg_try_advisory_lock",
            "pg_advisory_lock_shared",
            "pg_advisory_xact_lock",
            "pg_try_advisory_xact_lock_shared",
            "pg_advisory_unlock",
            "pg_advisory_unlock",
            "pg_advisory_unlock_shared",
        ];
        match self.rng.below(10) {
            0 => "SELECT pg_advisory_unlock_all()".into(),
            1..=2 => {
                "SELECT mode, objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() ORDER BY 1, 2".into()
            }
            _ => format!("SELECT {}({key})", self.rng.pick(&calls)),
        }
    }

    fn listen(&mut self) -> String {
        let channel = self.rng.pick(&["ch1", "\"Ch 2\""]);
        match self.rng.below(9) {
            0..=1 => format!("LISTEN {channel}"),
            2 => format!("UNLISTEN {channel}"),
            3 => "UNLISTEN *".into(),
            // To nobody: what a client tells itself may come behind the answer, when its channels have moved (tests/listen.rs).
            4..=5 => "NOTIFY nobody, 'payload'".into(),
            6 => "SELECT pg_notify('nobody', 'by function')".into(),
            // Of a transaction that began on another server, or behind others of its batch: docs/compatibility.md.
            _ if self.in_transaction || self.is_in_batch => "NOTIFY nobody".into(),
            _ => "SELECT pg_listening_channels() ORDER BY 1".into(),
        }
    }

    fn discard(&mut self) -> String {
        if self.rng.one_in(3) {
            return self.reset_within();
        }
        self.rng.pick(&["DISCARD TEMP", "DISCARD PLANS", "DISCARD SEQUENCES"]).into()
    }

    fn failure(&mut self) -> String {
        let statements = [
            "SELECT 1/0",
            "SELEC 1",
            "SELECT * FROM no_such_table",
            "SELECT 'unterminated",
            "SET work_mem = 'x'; SELECT 1",
            "SELECT 'a\\'; SELECT 2 --'",
        ];
        self.rng.pick(&statements).into()
    }

    fn procedural(&mut self) -> String {
        let statements = [
            "DO $$ BEGIN SET work_mem = '6MB'; END $$",
            "DO $$ BEGIN PERFORM set_config('app.y', 'do', false); RAISE NOTICE 'done'; END $$",
            "DO $$ BEGIN SET work_mem = '7MB'; RAISE EXCEPTION 'undone'; END $$",
            "DO $$ BEGIN BEGIN SET app.x = 'sub'; PERFORM 1/0; EXCEPTION WHEN OTHERS THEN NULL; END; END $$",
            "DO $$ BEGIN CREATE TEMP TABLE t1 (a int); END $$",
            "DO $$ BEGIN EXECUTE 'PREPARE p1 AS SELECT 1'; END $$",
            "DO 'BEGIN SET LOCAL work_mem = ''8MB''; END'",
            "DO $$ BEGIN RESET work_mem; END $$",
            "CALL public.sets('9MB')",
            "CALL public.sets('none')",
            "CALL public.commits('35s')",
            "SELECT public.twice(2)",
            "SELECT public.twice(3), current_setting('work_mem')",
        ];
        let text = self.rng.pick(&statements);
        match self.has_defaults && self.is_one_of_several && text.contains("RESET") {
            true => "SHOW work_mem".into(),
            false => text.into(),
        }
    }

    fn sequence(&mut self) -> String {
        if self.reads_random && self.rng.one_in(2) {
            return "SELECT random()".into();
        }
        if !self.reads_sequences {
            return "INSERT INTO public.numbered (a) VALUES (1) RETURNING id".into();
        }
        let statements = [
            "INSERT INTO public.numbered (a) VALUES (1)",
            "SELECT nextval('public.numbered_id_seq')",
            "SELECT setval('public.numbered_id_seq', 50)",
            "SELECT currval('public.numbered_id_seq')",
            "SELECT currval('public.numbered_id_seq')",
            "SELECT lastval()",
        ];
        self.rng.pick(&statements).into()
    }

    fn plain(&mut self) -> String {
        self.rng.pick(&["SELECT 1", "VALUES (1), (2)", "", "SELECT 'x' AS a, NULL AS b", "SHOW server_encoding"]).into()
    }
}
