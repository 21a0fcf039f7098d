//! Scripts of clients: what drivers send, what sloppy ones send, and mixtures of it, from a seed.

use super::rng::Rng;

/// Session state that no transfer carries over: a client with it keeps its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pins {
    Never,
    Sometimes,
}

const ROWS: [&str; 5] = ["select 1", "select 2", "select 3", "values (1),(2),(3)", "show TimeZone"];
const SETS: [&str; 10] = [
    "set work_mem = '8MB'",
    "set TimeZone = 'europe/vienna'",
    "set TimeZone = 'utc'",
    "set DateStyle = 'german'",
    "set DateStyle = 'sql, ymd'",
    "set application_name = 'it''s'",
    "set application_name = 'b'",
    "reset DateStyle",
    "reset all",
    "set TimeZone = 'nowhere'",
];
const SHOWS: [&str; 3] = ["show application_name", "show DateStyle", "show TimeZone"];
const NAMES: [&str; 6] = ["", "", "s1", "s2", "s3", "sidepool_1"];
const PORTALS: [&str; 4] = ["", "", "", "p1"];
const FAILS: &str = "select 1/zero from z";

/// The messages of one client, each in the notation's words.
pub(super) fn script(rng: &mut Rng, pins: Pins) -> Vec<String> {
    let mut words = Vec::new();
    for _ in 0..3 + rng.below(6) {
        scene(rng, pins, &mut words);
    }
    // Whatever is still under way ends here: a COPY, a batch, a transaction.
    words.extend(["c".into(), "c".into(), "S".into(), "Q(rollback)".into()]);
    words
}

fn scene(rng: &mut Rng, pins: Pins, words: &mut Vec<String>) {
    match rng.below(16) {
        0..=1 => words.push(query(rng)),
        2..=6 => (0..1 + rng.below(3)).for_each(|_| batch(rng, words)),
        7..=8 => transaction(rng, words),
        9 => settings(rng, words),
        10 => names_in_text(rng, words),
        11 => all_forgotten(rng, words),
        12..=13 => copy(rng, words),
        14 if pins == Pins::Sometimes => pinned(rng, words),
        _ => soup(rng, words),
    }
}

fn text(rng: &mut Rng) -> String {
    match rng.below(14) {
        0 => "selec".into(),
        1 => FAILS.into(),
        2 => String::new(),
        3 => "insert into t values (1)".into(),
        4 => rng.pick(&SETS).into(),
        5 => rng.pick(&SHOWS).into(),
        6 => rng.pick(&["begin", "commit", "rollback"]).into(),
        7 => "copy z to stdout".into(),
        _ => rng.pick(&ROWS).into(),
    }
}

fn query(rng: &mut Rng) -> String {
    let several = if rng.one_in(4) { 2 + rng.below(2) } else { 1 };
    let texts: Vec<String> = (0..several).map(|_| text(rng)).collect();
    format!("Q({})", texts.join("; "))
}

/// As drivers do it, more or less: Parse, Bind, Describe, Execute, Sync.
fn batch(rng: &mut Rng, words: &mut Vec<String>) {
    let (name, portal) = (rng.pick(&NAMES), rng.pick(&PORTALS));
    if rng.one_in(12) {
        words.push(format!("B(,{})", rng.pick(&["nope", "s1", "sidepool_2"])));
    }
    if !rng.one_in(3) {
        words.push(format!("P({name},{})", text(rng)));
    }
    if rng.one_in(4) {
        words.push(format!("DS({name})"));
    }
    words.push(format!("B({portal},{name})"));
    if rng.one_in(3) {
        words.push(format!("DP({portal})"));
    }
    match rng.below(6) {
        0 => words.extend([format!("E({portal},2)"), format!("E({portal},2)")]),
        1 => {}
        _ => words.push(format!("E({portal})")),
    }
    if rng.one_in(3) {
        words.push(format!("CS({})", rng.pick(&NAMES)));
    }
    if rng.one_in(5) {
        words.push(rng.pick(&["H", "CP(p1)", "DS(s2)", "DP(p1)"]).into());
    }
    if !rng.one_in(5) {
        words.push("S".into());
    }
}

fn transaction(rng: &mut Rng, words: &mut Vec<String>) {
    words.push("Q(begin)".into());
    for _ in 0..rng.below(4) {
        match rng.below(3) {
            0 => words.push(query(rng)),
            1 => batch(rng, words),
            _ => settings(rng, words),
        }
    }
    words.push("S".into());
    words.push(format!("Q({})", rng.pick(&["commit", "rollback"])));
}

fn settings(rng: &mut Rng, words: &mut Vec<String>) {
    let set = rng.pick(&SETS);
    match rng.one_in(2) {
        true => words.push(format!("Q({set})")),
        false => words.extend([format!("P(,{set})"), "B(,)".into(), "E".into(), "S".into()]),
    }
    words.push(format!("Q({})", rng.pick(&SHOWS)));
}

/// EXECUTE and DEALLOCATE of names that only statements with rows have, and DEALLOCATE of any.
fn names_in_text(rng: &mut Rng, words: &mut Vec<String>) {
    let mut name = rng.pick(&["e1", "e1", "e2", "nope"]);
    if name != "nope" && rng.one_in(2) {
        words.push(format!("P({name},{})", rng.pick(&ROWS)));
        words.push("S".into());
    }
    let verb = rng.pick(&["execute", "execute", "deallocate"]);
    if verb == "deallocate" && rng.one_in(2) {
        name = rng.pick(&["s1", "s2", "sidepool_1"]);
    }
    // Closed at once: a name in a text means what it meant when that was parsed.
    match rng.below(4) {
        3 => words.push(format!("Q({})", several(rng, name))),
        0 => words.extend(super::notation::split(&format!("S P(,{verb} {name}) B(,) E S CS() S"))),
        1 => words.extend(super::notation::split(&format!("S CS(n1) S P(n1,{verb} {name}) B(,n1) E S CS(n1) S"))),
        _ => words.push(format!("Q({verb} {name})")),
    }
    if rng.one_in(2) {
        batch(rng, words);
    }
    words.push("S".into());
}

/// Names among other statements of one query.
fn several(rng: &mut Rng, name: &str) -> String {
    let other = rng.pick(&["e1", "e2", "s1", "sidepool_1", "\"e1\""]);
    match rng.below(8) {
        0 => format!("begin; deallocate {name}; commit"),
        1 => format!("begin; deallocate {name}; rollback"),
        2 => format!("deallocate {name}; deallocate {other}; select 1"),
        3 => format!("select 1; execute e1; deallocate {other}; execute e2"),
        4 => format!("execute e1; {FAILS}; deallocate {name}"),
        5 => format!("deallocate {name}; execute e1; deallocate all; execute e2"),
        6 => format!("begin; execute e1; deallocate {name}; execute e1"),
        _ => format!("copy t from stdin; deallocate {other}"),
    }
}

fn all_forgotten(rng: &mut Rng, words: &mut Vec<String>) {
    let all = rng.pick(&["deallocate all", "deallocate all", "discard all", "select 1; deallocate all"]);
    match rng.one_in(3) && !all.contains(';') {
        true => words.extend([format!("P(,{all})"), "B(,)".into(), "E".into(), "S".into()]),
        false => words.push(format!("Q({all})")),
    }
    batch(rng, words);
}

/// COPY in the orders that drivers send it, and in worse ones.
fn copy(rng: &mut Rng, words: &mut Vec<String>) {
    let table = rng.pick(&["t", "t", "t", "tb"]);
    let data = rng.pick(&["d(1\n)", "d(1\n)", "d(bad\n)"]);
    let ends = rng.pick(&["c", "c", "c", "f(no)"]);
    let begin = format!("P(,copy {table} from stdin) B(,) E");
    let orders = [
        format!("Q(copy {table} from stdin) {data} {data} {ends}"),
        format!("Q(copy {table} from stdin; select 7; copy t from stdin) {data} c d(1\n) {ends}"),
        format!("Q(copy {table} from stdin) {data} S H {ends}"),
        format!("{begin} H {data} {ends} S"),
        format!("{begin} S {data} {data} {ends} S"),
        format!("{begin} {data} S {ends} S"),
        format!("{begin} S {ends} {data} c S"),
        format!("{begin} {ends} B(,) E S"),
        format!("{begin} S {data} {ends} B(,) E S"),
        format!("{begin} S P(s1,select 1) B(,s1) E S"),
        format!("{begin} S {data} P(s1,select 1) B(,s1) E S"),
        format!("Q(copy {table} from stdin) S {data} P(s1,select 1) B(,s1) E S"),
    ];
    let order = &orders[rng.below(orders.len())];
    // Not at the blanks: they stand inside words too.
    words.extend(super::notation::split(order));
    if rng.one_in(4) {
        words.extend(super::notation::split("d(1\n) c"));
    }
}

fn pinned(rng: &mut Rng, words: &mut Vec<String>) {
    words.extend(super::notation::split(rng.pick(&[
        "Q(listen x)",
        "Q(select pg_advisory_lock(1))",
        "Q(create temp table tt (a int))",
        "Q(prepare q1 as select 9)",
        "Q(execute q1)",
        "Q(deallocate q1)",
        "Q(begin; prepare q1 as select 8; execute q1; commit)",
        "Q(deallocate e1; prepare e1 as select 8; execute e1; deallocate e1)",
        "B(,q1) E CS(q1) S",
        "Q(prepare q1 as select 9) P(q1,select 1) S",
        "P(q1,select 1) B(,q1) E S Q(execute q1)",
        "P(q1,selec) S",
        "S P(,prepare q1 as select 9) B(,) E S CS() S",
        "Q(prepare e1 as select 8) P(e1,select 1) S Q(execute e1)",
        "P(e1,select 1) S S P(,prepare e1 as select 9) B(,) E S CS() S Q(execute e1)",
        "Q(prepare sidepool_1 as select 8) P(sidepool_1,select 1) S Q(deallocate sidepool_1)",
    ])));
}

/// Anything behind anything.
fn soup(rng: &mut Rng, words: &mut Vec<String>) {
    for _ in 0..1 + rng.below(8) {
        let (name, portal) = (rng.pick(&NAMES), rng.pick(&PORTALS));
        words.push(match rng.below(12) {
            0 => query(rng),
            1..=2 => format!("P({name},{})", text(rng)),
            3..=4 => format!("B({portal},{name})"),
            5 => format!("E({portal})"),
            6 => format!("DS({name})"),
            7 => format!("CS({name})"),
            8 => format!("CP({portal})"),
            9 => rng.pick(&["H", "c", "d(1\n)", "f(no)", "F"]).into(),
            _ => "S".into(),
        });
    }
    words.push("S".into());
}
