//! The two reference texts, made from the option table: `config/sidepool.toml` and `docs/configuration.md`.
//!
//! `tests/config_docs.rs` holds the committed files to them.

use std::fmt::Write;

use super::kind::Kind;
use super::options::{Opt, Reload, SECTIONS, Section};

/// Width of comments, in characters.
const COLUMNS: usize = 110;

/// The commented reference: legal TOML that sets nothing. An option is commented out by `#` alone, an explanation by `# `.
pub fn toml() -> String {
    let mut text = include_str!("reference/head.toml").to_owned();
    for section in SECTIONS {
        if !section.table.is_empty() {
            push(&mut text, format_args!("\n\n[{}]\n", section.table));
        }
        for option in section.options {
            push(&mut text, format_args!("\n{}", toml_option(option)));
        }
    }
    text.push_str(include_str!("reference/tail.toml"));
    text
}

/// The same for readers.
pub fn markdown() -> String {
    let mut text = include_str!("reference/head.md").to_owned();
    for section in SECTIONS {
        push(&mut text, format_args!("\n{}", markdown_section(section)));
    }
    text.push_str(include_str!("reference/tail.md"));
    text
}

/// Lines of at most `columns` characters, broken between words, each behind `prefix`.
pub(crate) fn wrap(text: &str, columns: usize, prefix: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && prefix.len() + line.chars().count() + 1 + word.chars().count() > columns {
            push(&mut lines, format_args!("{prefix}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push(&mut lines, format_args!("{prefix}{line}\n"));
    lines
}

fn toml_option(option: &Opt) -> String {
    let also = option.also().map(|also| format!(" or --{also}")).unwrap_or_default();
    let mut names = format!("Takes {}. Flag --{}{also}, variable {}.", option.kind.expects(), option.flag, option.env);
    if !option.elsewhere.is_empty() {
        push(&mut names, format_args!(" {}.", elsewhere(option, "")));
    }
    if option.reload == Reload::Restart {
        names.push_str(" A change needs a restart.");
    }
    let doc = wrap(option.doc, COLUMNS, "# ");
    let names = wrap(&names, COLUMNS, "# ");
    format!("{doc}{names}#{} = {}\n", option.name(), toml_value(option))
}

fn toml_value(option: &Opt) -> String {
    let text = if option.default.is_empty() { option.example } else { option.default };
    let bare = match option.kind {
        Kind::Integer { .. } | Kind::Port(_) | Kind::Bool(_) => true,
        Kind::Duration { .. } | Kind::Size { .. } => text == "0",
        Kind::Query(_) => text == "true" || text == "false",
        _ => false,
    };
    if bare { text.to_owned() } else { format!("\"{text}\"") }
}

fn markdown_section(section: &Section) -> String {
    let table = if section.table.is_empty() { String::new() } else { format!(": `[{}]`", section.table) };
    let mut text = format!("### {}{table}\n\n", section.title);
    text.push_str("| Key | Flag and variable | Default | Reload | Meaning |\n|---|---|---|---|---|\n");
    for option in section.options {
        let default = if option.default.is_empty() { "not set".to_owned() } else { format!("`{}`", option.default) };
        let mut meaning = format!("{} Takes {}.", option.doc, option.kind.expects());
        if !option.elsewhere.is_empty() {
            push(&mut meaning, format_args!(" {}.", elsewhere(option, "`")));
        }
        let reload = match option.reload {
            Reload::Live => "yes",
            Reload::Restart => "restart",
        };
        let meaning = meaning.replace('|', "\\|").replace(" * ", " \\* ");
        let (name, flag, env) = (option.name(), option.flag, option.env);
        let also = option.also().map(|also| format!("<br>`--{also}`")).unwrap_or_default();
        push(&mut text, format_args!("| `{name}` | `--{flag}`{also}<br>`{env}` | {default} | {reload} | {meaning} |\n"));
    }
    text
}

/// "PgBouncer: max_client_conn; Supavisor: default_max_clients"
fn elsewhere(option: &Opt, quote: &str) -> String {
    let names = option.elsewhere.iter().map(|(pooler, name)| format!("{pooler}: {quote}{name}{quote}"));
    names.collect::<Vec<_>>().join("; ")
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::draft::Draft;
    use crate::config::kind::Given;
    use crate::config::options;

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrap("one two three", 9, "# "), "# one two\n# three\n");
        assert_eq!(wrap("", 9, "# "), "# \n");
        assert_eq!(wrap("incomprehensibilities", 9, ""), "incomprehensibilities\n");
    }

    /// A default written in another unit than the canonical one would be another text in `--help` than in the log.
    #[test]
    fn defaults_and_examples_are_legal_and_canonical() {
        use crate::config::units::{format_duration, format_size, parse_duration, parse_size};
        for option in options::all() {
            for text in [option.default, option.example].into_iter().filter(|text| !text.is_empty()) {
                let taken = option.kind.take(option.key, &Given::One(text.to_owned()), &mut Draft::blank());
                assert_eq!(taken, Ok(()), "{}", option.key);
                let canonical = match option.kind {
                    Kind::Duration { .. } => parse_duration(text).map(format_duration),
                    Kind::Size { .. } => parse_size(text).map(format_size),
                    _ => None,
                };
                assert_eq!(canonical.as_deref().unwrap_or(text), text, "{}", option.key);
            }
        }
    }
}
