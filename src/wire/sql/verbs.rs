//! What one statement does to the session's state, by its verb.

use super::effects::{Effects, Touched};
use super::leaves::Leaves;
use super::words::{Words, has_word, identifier};

/// Parameters that every server reports whenever they change (`GUC_REPORT` in 14 to 18): ParameterStatus tells of them.
const REPORTED: [&[u8]; 7] = [
    b"application_name",
    b"client_encoding",
    b"datestyle",
    b"default_transaction_read_only",
    b"intervalstyle",
    b"standard_conforming_strings",
    b"timezone",
];

/// What one statement does.
pub(super) fn effects(statement: &[u8]) -> Effects {
    let mut words = Words { text: statement, at: 0 };
    let Some(verb) = words.next_word() else { return Effects::NOTHING };
    let verb = &statement[verb];
    let is = |keyword: &[u8]| verb.eq_ignore_ascii_case(keyword);
    let leaving = Effects::leaving;
    match verb.first().map_or(0, u8::to_ascii_lowercase) {
        b's' if is(b"set") => set(&mut words),
        b's' if is(b"select") && has_into(statement) => leaving(Leaves::TEMP),
        b'r' if is(b"reset") => reset(&mut words),
        b'p' if is(b"prepare") && !next_is(&mut words, b"transaction") => leaving(Leaves::STATEMENTS),
        b'l' if is(b"listen") => leaving(Leaves::LISTEN).about_channels(),
        b'l' if is(b"load") => leaving(Leaves::LIBRARY),
        b'd' if is(b"declare") && has_word(statement, b"hold") => leaving(Leaves::CURSORS),
        b'd' if is(b"do") => block(statement),
        b'd' if is(b"drop") => Effects::freeing(Leaves::TEMP),
        b'd' if is(b"discard") => discard(&mut words),
        b'd' if is(b"deallocate") => Effects::freeing(Leaves::STATEMENTS),
        b'c' if is(b"call") => Effects::anything(),
        b'c' if is(b"create") && has_temp(statement) => leaving(Leaves::TEMP),
        b'c' if is(b"close") => Effects::freeing(Leaves::CURSORS),
        b'c' if is(b"copy") && (has_word(statement, b"from") || draws(statement)) => leaving(Leaves::SEQUENCES),
        b'i' if is(b"insert") => leaving(Leaves::SEQUENCES),
        b'm' if is(b"merge") => leaving(Leaves::SEQUENCES),
        b'u' if is(b"unlisten") => Effects::freeing(Leaves::LISTEN).about_channels(),
        // It calls set_config.
        b'u' if is(b"update") && has_word(statement, b"pg_settings") => Effects::any_setting(),
        b'u' if is(b"update") && has_word(statement, b"default") => leaving(Leaves::SEQUENCES),
        // A column of numbers is filled.
        b'a' if is(b"alter") && has_word(statement, b"add") => leaving(Leaves::SEQUENCES),
        b'w' if is(b"with") => with(statement),
        b'e' if is(b"explain") => explain(statement),
        _ => Effects::NOTHING,
    }
}

/// Where the text cannot be cut into its statements: by any word in it.
pub(super) fn effects_anywhere(text: &[u8]) -> Effects {
    const SUSPECTS: [&[u8]; 11] =
        [b"set", b"reset", b"prepare", b"listen", b"load", b"hold", b"do", b"call", b"temp", b"temporary", b"pg_temp"];
    let is_suspect = SUSPECTS.iter().any(|word| has_word(text, word));
    let effects = if is_suspect { Effects::anything() } else { Effects::leaving(Leaves::SEQUENCES) };
    if names_listen(text) { effects.about_channels() } else { effects }
}

/// DO
fn block(statement: &[u8]) -> Effects {
    let resets = has_word(statement, b"reset") || has_word(statement, b"default");
    let effects = if resets { Effects::anything().resetting(Touched::any()) } else { Effects::anything() };
    if names_listen(statement) { effects.about_channels() } else { effects }
}

fn names_listen(text: &[u8]) -> bool {
    has_word(text, b"listen") || has_word(text, b"unlisten")
}

/// `SET [SESSION | LOCAL] …`
fn set(words: &mut Words<'_>) -> Effects {
    let Some(mut word) = next_lower(words) else { return Effects::NOTHING };
    if word == b"session" {
        word = next_lower(words).unwrap_or_default();
        match &*word {
            b"characteristics" => return characteristics(),
            b"authorization" => return identities(),
            _ => {}
        }
    }
    let name = match &*word {
        // Gone with the transaction.
        b"local" | b"transaction" | b"constraints" => return with_temp(Effects::NOTHING, words),
        // `SET TIME ZONE LOCAL`, `SET NAMES` alone.
        b"time" if has_word(words.text, b"local") => return back_to_default(b"timezone"),
        b"time" => b"timezone".to_vec(),
        b"names" if words.at_end() => return back_to_default(b"client_encoding"),
        b"names" => b"client_encoding".to_vec(),
        b"schema" => b"search_path".to_vec(),
        b"xml" => b"xmloption".to_vec(),
        b"seed" => return Effects::leaving(Leaves::SEED),
        b"" => return Effects::any_setting(),
        _ => dotted(words, word),
    };
    let to_default = has_word(words.text, b"default");
    with_temp(if to_default { back_to_default(&name) } else { setting(&name) }, words)
}

/// Of those that are reported ParameterStatus tells. Notifications come in the client's encoding.
fn setting(name: &[u8]) -> Effects {
    match name {
        b"client_encoding" => Effects::NOTHING.about_channels(),
        name if REPORTED.contains(&name) => Effects::NOTHING,
        name => Effects::setting(name),
    }
}

fn touched(name: &[u8]) -> Touched {
    std::str::from_utf8(name).map_or_else(|_| Touched::any(), Touched::named)
}

/// A search_path may make tables temporary without another word.
fn with_temp(mut effects: Effects, words: &Words<'_>) -> Effects {
    if has_word(words.text, b"pg_temp") {
        effects.leaves |= Leaves::TEMP;
    }
    effects
}

fn reset(words: &mut Words<'_>) -> Effects {
    let word = next_lower(words).unwrap_or_default();
    let name = match &*word {
        b"all" | b"" => return Effects::any_setting().resetting(Touched::any()).about_channels(),
        b"session" => return identities(),
        b"time" => b"timezone".to_vec(),
        _ => dotted(words, word),
    };
    back_to_default(&name)
}

/// Which of them is a setting of the session's own no more only the list of those tells.
fn back_to_default(name: &[u8]) -> Effects {
    let effects = if REPORTED.contains(&name) { setting(name) } else { Effects::any_setting() };
    effects.resetting(touched(name))
}

/// Another session user has no role set.
fn identities() -> Effects {
    let mut effects = Effects::setting(b"session_authorization");
    effects.add(Effects::setting(b"role"));
    effects
}

fn characteristics() -> Effects {
    let mut effects = Effects::setting(b"default_transaction_isolation");
    effects.add(Effects::setting(b"default_transaction_deferrable"));
    effects
}

fn discard(words: &mut Words<'_>) -> Effects {
    match next_lower(words).as_deref() {
        Some(b"temp" | b"temporary") => Effects::freeing(Leaves::TEMP),
        Some(b"sequences") => Effects::freeing(Leaves::SEQUENCES),
        // What else `DISCARD ALL` does is known by its tag.
        _ => Effects::NOTHING.about_channels(),
    }
}

fn with(statement: &[u8]) -> Effects {
    let temp = if has_into(statement) && has_temp(statement) { Leaves::TEMP } else { Leaves::NOTHING };
    Effects::leaving(temp | drawn(statement))
}

/// With ANALYZE it is done.
fn explain(statement: &[u8]) -> Effects {
    let temp = if has_temp(statement) { Leaves::TEMP } else { Leaves::NOTHING };
    Effects::leaving(temp | drawn(statement))
}

fn drawn(statement: &[u8]) -> Leaves {
    if draws(statement) { Leaves::SEQUENCES } else { Leaves::NOTHING }
}

/// Whether a column may be given the next number of its sequence, somewhere in it: by default, or by `SET a = DEFAULT`.
fn draws(statement: &[u8]) -> bool {
    [&b"insert"[..], b"merge", b"default"].iter().any(|word| has_word(statement, word))
}

fn next_is(words: &mut Words<'_>, keyword: &[u8]) -> bool {
    words.next_word().is_some_and(|w| words.text[w].eq_ignore_ascii_case(keyword))
}

fn next_lower(words: &mut Words<'_>) -> Option<Vec<u8>> {
    let word = words.next_word()?;
    Some(identifier(&words.text[word]))
}

/// The rest of a custom parameter's name: `app.user_id`.
fn dotted(words: &mut Words<'_>, mut name: Vec<u8>) -> Vec<u8> {
    while words.skip_dot()
        && let Some(part) = next_lower(words)
    {
        name.push(b'.');
        name.extend_from_slice(&part);
    }
    name
}

fn has_temp(text: &[u8]) -> bool {
    has_word(text, b"temp") || has_word(text, b"temporary") || has_word(text, b"pg_temp")
}

/// SELECT INTO, which answers with SELECT's own tag. Looked for in every query, so by its first letter: 15 ns per 100
/// bytes where a walk over all words takes 100.
fn has_into(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'i', b'I', text).any(|at| text[at..].get(..4).is_some_and(|w| w.eq_ignore_ascii_case(b"into")))
}
