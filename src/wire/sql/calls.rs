//! What the functions called in a text do to the session's state.

use std::cmp::Ordering;

use super::effects::Effects;
use super::leaves::Leaves;
use super::words::is_word;

/// Functions of PostgreSQL and its common extensions that leave nothing in the session, and keywords that a parenthesis
/// may follow; one a line, sorted.
const KNOWN: &str = include_str!("known_calls.txt");

/// Words before a name that is no function's, though a parenthesis follows it.
const BEFORE_A_RELATION: [&[u8]; 9] =
    [b"into", b"table", b"exists", b"as", b"references", b"with", b"recursive", b"view", b"copy"];

/// What the functions called do. A call needs a parenthesis: text without one costs a single `memchr`.
pub(super) fn effects(text: &[u8]) -> Effects {
    let mut effects = Effects::NOTHING;
    for open in memchr::memchr_iter(b'(', text) {
        let name = Name::before(&text[..open]);
        if !name.last.is_empty() {
            effects.add(call(&name, &text[open + 1..]));
        }
    }
    effects
}

/// A name with what stands before it.
struct Name<'a> {
    /// Its last part, without quotes.
    last: &'a [u8],
    schema: Option<&'a [u8]>,
    before: &'a [u8],
}

impl<'a> Name<'a> {
    fn before(text: &'a [u8]) -> Self {
        let (rest, last) = last_part(text.trim_ascii_end());
        let (mut rest, mut schema) = (rest, None);
        while let Some(qualifier) = rest.trim_ascii_end().strip_suffix(b".") {
            let (before, part) = last_part(qualifier.trim_ascii_end());
            if part.is_empty() {
                break;
            }
            (rest, schema) = (before, Some(part));
        }
        Self { last, schema, before: rest.trim_ascii_end() }
    }

    fn is_relation(&self) -> bool {
        // `FROM f(x) t(a)`
        if self.before.ends_with(b")") {
            return true;
        }
        let (_, word) = last_part(self.before);
        BEFORE_A_RELATION.iter().any(|w| w.eq_ignore_ascii_case(word))
    }
}

/// Cuts the last identifier off.
fn last_part(text: &[u8]) -> (&[u8], &[u8]) {
    match text.strip_suffix(b"\"") {
        Some(quoted) => match memchr::memrchr(b'"', quoted) {
            Some(start) => (&text[..start], &quoted[start + 1..]),
            None => (text, b""),
        },
        None => {
            let start = text.iter().rposition(|b| !is_word(*b)).map_or(0, |at| at + 1);
            text.split_at(start)
        }
    }
}

fn call(name: &Name<'_>, arguments: &[u8]) -> Effects {
    let is = |function: &[u8]| name.last.eq_ignore_ascii_case(function);
    match name.last.first().map_or(0, u8::to_ascii_lowercase) {
        b's' if is(b"set_config") => set_config(arguments),
        b's' if is(b"setval") => Effects::leaving(Leaves::SEQUENCES),
        b's' if is(b"setseed") => Effects::leaving(Leaves::SEED),
        b'n' if is(b"nextval") => Effects::leaving(Leaves::SEQUENCES),
        b'c' if is(b"currval") => Effects::leaving(Leaves::CURRVAL),
        b'l' if is(b"lastval") => Effects::leaving(Leaves::CURRVAL),
        b'p' if is(b"pg_advisory_lock") || is(b"pg_advisory_lock_shared") => Effects::leaving(Leaves::LOCKS),
        b'p' if is(b"pg_try_advisory_lock") || is(b"pg_try_advisory_lock_shared") => Effects::leaving(Leaves::LOCKS),
        b'p' if is(b"pg_listening_channels") => Effects::NOTHING.about_channels(),
        b'p' if is(b"pg_advisory_unlock") || is(b"pg_advisory_unlock_shared") || is(b"pg_advisory_unlock_all") => {
            Effects::freeing(Leaves::LOCKS)
        }
        _ if is_known(name) || name.is_relation() => Effects::NOTHING,
        _ => Effects::leaving(Leaves::HIDDEN),
    }
}

/// `set_config(name, value, is_local)`: what is local is gone with the transaction.
fn set_config(arguments: &[u8]) -> Effects {
    let [name, _, is_local] = first_three(arguments);
    if [&b"true"[..], b"'t'", b"'true'", b"true::bool", b"true::boolean"].iter().any(|yes| yes.eq_ignore_ascii_case(is_local)) {
        return Effects::NOTHING;
    }
    let (cast_off, _) = name.split_at(memchr::memmem::find(name, b"::").unwrap_or(name.len()));
    match cast_off.trim_ascii_end() {
        [b'\'', literal @ .., b'\''] if literal.eq_ignore_ascii_case(b"client_encoding") => {
            Effects::setting(literal).about_channels()
        }
        [b'\'', literal @ .., b'\''] if !literal.contains(&b'\'') => Effects::setting(literal),
        [b'$', number @ ..] => match std::str::from_utf8(number).ok().and_then(|n| n.parse().ok()) {
            Some(number) => Effects::bound_setting(number),
            None => Effects::any_setting(),
        },
        _ => Effects::any_setting(),
    }
}

/// The first three arguments as written, cut at commas outside quotes and parentheses.
fn first_three(text: &[u8]) -> [&[u8]; 3] {
    let mut found = [&b""[..]; 3];
    let (mut at, mut start, mut depth, mut quoted) = (0, 0, 0usize, false);
    for (i, &byte) in text.iter().enumerate() {
        match byte {
            b'\'' => quoted = !quoted,
            _ if quoted => {}
            b'(' => depth += 1,
            b')' | b',' if depth == 0 => {
                found[at] = text[start..i].trim_ascii();
                (at, start) = (at + 1, i + 1);
                if byte == b')' || at == found.len() {
                    break;
                }
            }
            b')' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// Whether the name is in the list; one with a schema only if that is PostgreSQL's own.
fn is_known(name: &Name<'_>) -> bool {
    name.schema.is_none_or(|s| s.eq_ignore_ascii_case(b"pg_catalog")) && find(KNOWN.as_bytes(), name.last)
}

/// Binary search over lines, without an index of them.
fn find(lines: &[u8], wanted: &[u8]) -> bool {
    let mut lines = lines;
    while !lines.is_empty() {
        let middle = lines.len() / 2;
        let start = memchr::memrchr(b'\n', &lines[..middle]).map_or(0, |at| at + 1);
        let end = memchr::memchr(b'\n', &lines[start..]).map_or(lines.len(), |at| start + at);
        match compare(&lines[start..end], wanted) {
            Ordering::Equal => return true,
            Ordering::Less => lines = lines.get(end + 1..).unwrap_or_default(),
            Ordering::Greater => lines = &lines[..start],
        }
    }
    false
}

fn compare(line: &[u8], wanted: &[u8]) -> Ordering {
    line.iter().copied().cmp(wanted.iter().map(u8::to_ascii_lowercase))
}
