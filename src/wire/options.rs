//! The startup parameter `options`: command-line switches for the server process, as a client may send them.

use crate::error::{PgError, SqlState};

/// What `options` asks for: settings in the order given, and the project it names, if any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub settings: Vec<(String, String)>,
    /// Supabase's way to name a project beside the user name: `reference=…`, `--reference=…`, `-c reference=…`.
    pub reference: Option<String>,
}

impl Options {
    /// Reads the text as PostgreSQL does (`pg_split_opts`, `process_postgres_switches`), of whose switches `-c` and
    /// `--name=value` are taken.
    ///
    /// Errors are PostgreSQL's own, with SQLSTATE 42601.
    pub fn parse(text: &str) -> Result<Self, PgError> {
        let mut options = Self::default();
        let mut words = split(text).into_iter().map(decoded);
        while let Some(word) = words.next() {
            match Switch::of(&word) {
                Switch::Set { dashes, assignment: "" } if dashes == "-c " => {
                    let assignment = words.next().ok_or_else(|| missing_argument(&word))?;
                    options.assign(dashes, &assignment)?;
                }
                Switch::Set { dashes, assignment } => options.assign(dashes, assignment)?,
                Switch::Reference(name) => options.reference = Some(name.to_owned()),
                Switch::Unknown => return Err(invalid_argument(&word)),
            }
        }
        Ok(options)
    }

    fn assign(&mut self, dashes: &str, assignment: &str) -> Result<(), PgError> {
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(PgError::fatal(SqlState::SYNTAX_ERROR, format!("{dashes}{assignment} requires a value")));
        };
        // PostgreSQL's ParseLongOption: `--search-path` is `search_path`.
        let name = name.replace('-', "_");
        if name.is_empty() {
            return Err(invalid_argument(assignment));
        }
        match name.as_str() {
            "reference" => self.reference = Some(value.to_owned()),
            _ => self.settings.push((name, value.to_owned())),
        }
        Ok(())
    }
}

enum Switch<'a> {
    Set { dashes: &'static str, assignment: &'a str },
    Reference(&'a str),
    Unknown,
}

impl<'a> Switch<'a> {
    fn of(word: &'a str) -> Self {
        // A bare `--` ends the switches for getopt, and what follows is no switch of PostgreSQL's.
        if let Some(assignment) = word.strip_prefix("--").filter(|a| !a.is_empty()) {
            return Self::Set { dashes: "--", assignment };
        }
        if let Some(assignment) = word.strip_prefix("-c") {
            return Self::Set { dashes: "-c ", assignment };
        }
        word.strip_prefix("reference=").map_or(Self::Unknown, Self::Reference)
    }
}

/// Clients that encode the value twice send `reference%3D…`, and the hosted pooler takes it. No other word is decoded: a
/// percent sign is one in PostgreSQL.
fn decoded(word: String) -> String {
    let assignment = word.trim_start_matches("-c").trim_start_matches('-');
    let escaped = assignment.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("reference%3d"));
    match percent_encoding::percent_decode_str(&word).decode_utf8() {
        Ok(plain) if escaped => plain.into_owned(),
        _ => word,
    }
}

/// `pg_split_opts`: words between white space; a backslash takes the next character as it is.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if is_space(character) {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match character {
            '\\' => word.extend(characters.next()),
            other => word.push(other),
        }
    }
    words.extend(word);
    words
}

/// C's `isspace` in the C locale, which unlike [`char::is_ascii_whitespace`] knows the vertical tab.
fn is_space(character: char) -> bool {
    character.is_ascii_whitespace() || character == '\x0b'
}

fn invalid_argument(word: &str) -> PgError {
    PgError::fatal(SqlState::SYNTAX_ERROR, format!("invalid command-line argument for server process: {word}"))
        .with_hint("Settings are given as \"-c name=value\" or \"--name=value\".")
}

fn missing_argument(word: &str) -> PgError {
    invalid_argument(word).with_detail("The switch is the last word, and nothing follows it.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(text: &str) -> Vec<(String, String)> {
        Options::parse(text).unwrap().settings
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn trap_53_every_form_of_a_setting() {
        for text in ["-c work_mem=4MB", "-cwork_mem=4MB", "--work_mem=4MB", "--work-mem=4MB", "  -c\t\x0bwork-mem=4MB \n"] {
            assert_eq!(settings(text), [pair("work_mem", "4MB")], "{text:?}");
        }
    }

    #[test]
    fn trap_53_backslashes_keep_spaces_and_themselves() {
        assert_eq!(settings(r"-c search_path=a,\ b --x=\\ -c y="), [pair("search_path", "a, b"), pair("x", r"\"), pair("y", "")]);
        assert_eq!(settings(r"-c\ x=1"), [pair(" x", "1")]);
        assert_eq!(settings("-c x=1\\"), [pair("x", "1")]);
    }

    #[test]
    fn only_names_have_their_dashes_changed_and_later_equal_signs_are_the_value() {
        assert_eq!(settings("--a-b=c-d=e"), [pair("a_b", "c-d=e")]);
    }

    #[test]
    fn every_form_of_a_reference() {
        for text in [
            "reference=abc",
            "--reference=abc",
            "-c reference=abc",
            "-creference=abc",
            "reference%3Dabc",
            "reference%3dabc",
            "--reference%3Dabc",
            "-c reference%3Dabc",
            "reference%3D%61bc",
        ] {
            let options = Options::parse(text).unwrap();
            assert_eq!(options, Options { settings: vec![], reference: Some("abc".into()) }, "{text}");
        }
    }

    #[test]
    fn trap_53_what_is_not_a_setting_is_postgresqls_error() {
        for (text, message) in [
            ("-S 4096", "invalid command-line argument for server process: -S"),
            ("work_mem=1", "invalid command-line argument for server process: work_mem=1"),
            ("-- x=1", "invalid command-line argument for server process: --"),
            ("-c", "invalid command-line argument for server process: -c"),
            ("-c work_mem", "-c work_mem requires a value"),
            ("--work_mem", "--work_mem requires a value"),
            ("-c =1", "invalid command-line argument for server process: =1"),
        ] {
            let error = Options::parse(text).unwrap_err();
            assert_eq!((error.message.as_ref(), error.code), (message, SqlState::SYNTAX_ERROR), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = Options::parse(&text);
        }

        #[test]
        fn settings_survive_escaping(pairs in prop::collection::vec(("[a-z_.]{1,12}", any::<String>()), 0..6)) {
            prop_assume!(pairs.iter().all(|(name, _)| name != "reference"));
            let escape = |value: &str| value.chars().flat_map(|c| ['\\', c]).collect::<String>();
            let text: Vec<_> = pairs.iter().map(|(name, value)| format!("-c {name}={}", escape(value))).collect();
            prop_assert_eq!(settings(&text.join(" ")), pairs);
        }
    }
}
