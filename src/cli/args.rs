//! The command line: the option table as flags, and the commands.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{NonEmptyStringValueParser, PathBufValueParser, StyledStr};
use clap::{Arg, ArgAction, ArgMatches, Command as Clap, value_parser};

use super::dev::Wishes;
use super::serve::Begin;
use super::urls::Passwords;
use super::{CliError, Command};
use crate::config::options::{self, CONFIG_FILE, DEFAULT_FILE, Opt, SECTIONS};
use crate::config::reference::wrap;
use crate::config::{ConfigError, Prepared, Sources, load};
use crate::embedded::Storage;

/// Width of the long help, in characters. clap would need another feature and crate to ask the terminal.
const HELP_COLUMNS: usize = 90;

/// What the embedded PostgreSQL can be asked for; which of them can be had is its own business.
const POSTGRES_VERSIONS: std::ops::RangeInclusive<i64> = 10..=99;

/// Reads the arguments into `sources` and loads what the command needs.
pub(super) fn read(argv: impl IntoIterator<Item = OsString>, mut sources: Sources) -> Result<Command, CliError> {
    let matches = clap().try_get_matches_from(argv).map_err(without_urls)?;
    let (name, matches) = matches.subcommand().unwrap_or(("run", &matches));
    sources.config_file = matches.get_one::<PathBuf>(CONFIG_FILE.0).cloned();
    for option in options::all() {
        if let Some(value) = matches.get_one::<String>(option.flag) {
            sources.flags.insert(option.key, value.clone());
        }
    }
    match name {
        "dev" => dev(matches, sources),
        "lint" => lint(matches, sources),
        "check" => Ok(Command::Check(load(&sources)?)),
        "health" => Ok(Command::Health(Box::new(Prepared::new(&sources)?))),
        "top" => Ok(Command::Top { once: matches.get_flag("once"), prepared: Box::new(Prepared::new(&sources)?) }),
        "urls" => {
            let passwords = if matches.get_flag("show-passwords") { Passwords::Shown } else { Passwords::Hidden };
            Ok(Command::Urls { loaded: load(&sources)?, passwords })
        }
        _ => {
            // Without the command there is no flag of its own.
            let takes_over = matches!(matches.try_get_one("take-over"), Ok(Some(true)));
            let begin = if takes_over { Begin::TakingOver } else { Begin::Anew };
            Ok(Command::Run { loaded: load(&sources)?, sources, begin })
        }
    }
}

fn dev(matches: &ArgMatches, sources: Sources) -> Result<Command, CliError> {
    takes_no_upstream("dev", &sources)?;
    let storage = if matches.get_flag("fresh") { Storage::Fresh } else { Storage::Kept };
    let wishes = Wishes { storage, ..wishes(matches) };
    Ok(Command::Dev { prepared: Box::new(Prepared::new(&sources)?), wishes, sources })
}

/// It must not be in the way of a `sidepool dev` that runs: on free ports, with a database of its own.
fn lint(matches: &ArgMatches, mut sources: Sources) -> Result<Command, CliError> {
    takes_no_upstream("lint", &sources)?;
    for port in ["listen.session_port", "listen.transaction_port"] {
        sources.flags.entry(port).or_insert_with(|| "0".to_owned());
    }
    let mut wishes = wishes(matches);
    wishes.storage = if wishes.data_dir.is_some() { Storage::Kept } else { Storage::Throwaway };
    let program = matches.get_many::<OsString>("command").into_iter().flatten().cloned().collect();
    Ok(Command::Lint { prepared: Box::new(Prepared::new(&sources)?), wishes, program })
}

fn takes_no_upstream(command: &str, sources: &Sources) -> Result<(), ConfigError> {
    if !sources.flags.contains_key("upstream") {
        return Ok(());
    }
    let hint = format!("Leave out --upstream, or start `sidepool` without `{command}`.");
    Err(ConfigError::new(format!("`sidepool {command}` brings its own PostgreSQL and takes no --upstream"), hint))
}

fn wishes(matches: &ArgMatches) -> Wishes {
    Wishes {
        data_dir: matches.get_one("data-dir").cloned(),
        postgres_version: matches.get_one("postgres-version").copied(),
        ..Wishes::default()
    }
}

fn clap() -> Clap {
    Clap::new("sidepool")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A local PostgreSQL connection pooler: session mode on port 5432, transaction mode on port 6543.")
        .override_usage("sidepool [COMMAND] [OPTIONS]")
        .after_help(
            "Without a command, `run` is meant. Every option can also be set in a file and by a variable: --help says how\n\
             for each, and config/sidepool.toml has them all.",
        )
        .args_override_self(true)
        .subcommand_value_name("COMMAND")
        .disable_help_subcommand(true)
        .arg(config_file())
        .args(SECTIONS.iter().flat_map(|section| section.options.iter().map(|option| flag(option, section.title))))
        .subcommand(
            Clap::new("run").about("Pool the upstream's connections (the default)").arg(
                Arg::new("take-over").long("take-over").action(ArgAction::SetTrue).help(
                    "Take the listening sockets from the Sidepool at --control-socket, which then ends with its last client",
                ),
            ),
        )
        .subcommand(dev_command())
        .subcommand(lint_command())
        .subcommand(Clap::new("check").about("Check the settings and log in to every upstream once"))
        .subcommand(Clap::new("health").about("Say whether the Sidepool with these settings is ready, by the exit code too"))
        .subcommand(
            Clap::new("top")
                .about("Watch the pools of the Sidepool with these settings")
                .arg(Arg::new("once").long("once").action(ArgAction::SetTrue).help("Print it once, for scripts")),
        )
        .subcommand(
            Clap::new("urls").about("Print connection strings for psql, Prisma, postgres.js and pgbench").arg(
                Arg::new("show-passwords").long("show-passwords").action(ArgAction::SetTrue).help("Print the passwords too"),
            ),
        )
}

fn dev_command() -> Clap {
    let fresh =
        Arg::new("fresh").long("fresh").action(ArgAction::SetTrue).help("Throw the database away and begin with an empty one");
    Clap::new("dev").about("Pool a PostgreSQL of its own, for development: needs no upstream").arg(fresh).args(of_postgres())
}

fn lint_command() -> Clap {
    let command = Arg::new("command").value_name("COMMAND").num_args(1..).required(true).last(true);
    Clap::new("lint")
        .about("Run a command against a PostgreSQL of its own, and list what would break on a hosted pooler")
        .after_help(
            "Exit code: the command's own if it fails, else 1 if anything was found. Its DATABASE_URL and DIRECT_URL are set.",
        )
        .args(of_postgres())
        .arg(command.value_parser(value_parser!(OsString)).help("What to run, with its arguments: -- npm test"))
}

fn of_postgres() -> [Arg; 2] {
    let data_dir = Arg::new("data-dir").long("data-dir").value_name("PATH").value_parser(PathBufValueParser::new());
    let version = Arg::new("postgres-version").long("postgres-version").value_name("N");
    let version = version.value_parser(value_parser!(u16).range(POSTGRES_VERSIONS));
    [data_dir.help("Where the database is kept"), version.help("Major version of PostgreSQL, such as 17")]
}

fn config_file() -> Arg {
    let (flag, variable) = CONFIG_FILE;
    let long = format!(
        "Configuration file. Not given, it is {DEFAULT_FILE} in the current directory, if there is one. Variable: {variable}."
    );
    let long = wrap(&long, HELP_COLUMNS, "").trim_end().to_owned();
    Arg::new(flag)
        .long(flag)
        .global(true)
        .value_name("PATH")
        .value_parser(PathBufValueParser::new())
        .help("Configuration file")
        .long_help(long)
        .help_heading(SECTIONS[0].title)
}

fn flag(option: &'static Opt, heading: &'static str) -> Arg {
    Arg::new(option.flag)
        .long(option.flag)
        .visible_aliases(option.also())
        .global(true)
        .value_name(option.kind.value_name())
        .value_parser(NonEmptyStringValueParser::new())
        .help(short_help(option))
        .long_help(long_help(option))
        .help_heading(heading)
}

/// The first sentence and the default.
fn short_help(option: &Opt) -> StyledStr {
    let sentence = option.doc.split_inclusive(". ").next().unwrap_or(option.doc).trim_end().trim_end_matches('.');
    let default = if option.default.is_empty() { String::new() } else { format!(" [{}]", option.default) };
    format!("{sentence}{default}").into()
}

fn long_help(option: &Opt) -> StyledStr {
    let mut names = format!("Takes {}.", option.kind.expects());
    if !option.default.is_empty() {
        names.push_str(&format!(" Default: {}.", option.default));
    }
    names.push_str(&format!(" File: {}. Variable: {}.", option.key, option.env));
    let help = wrap(option.doc, HELP_COLUMNS, "") + &wrap(&names, HELP_COLUMNS, "");
    help.trim_end().to_owned().into()
}

/// clap repeats an argument it does not know, and an upstream's URL without its flag holds a password.
fn without_urls(error: clap::Error) -> CliError {
    if error.exit_code() != 0 && error.to_string().contains("://") {
        return ConfigError::new("a URL stands on the command line where none belongs", "Write --upstream before it.").into();
    }
    CliError::Arguments(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, CliError> {
        read(line.split(' ').map(OsString::from), Sources::default())
    }

    fn refusal(line: &str) -> String {
        match parse(line) {
            Err(CliError::Arguments(error)) => error.to_string(),
            Err(CliError::Config(error)) => error.to_string(),
            Ok(_) => panic!("{line} was taken"),
        }
    }

    const URL: &str = "--upstream=postgres://u:hunter2@db.example.com/d";

    #[test]
    fn claps_own_checks_pass() {
        clap().debug_assert();
    }

    #[test]
    fn flags_stand_before_and_behind_the_command() {
        for line in [format!("sidepool {URL} --pool-size 7"), format!("sidepool run {URL} --pool-size 7")] {
            let Ok(Command::Run { loaded, .. }) = parse(&line) else { panic!("{line} is run") };
            assert_eq!(loaded.settings.limits.pool_size, 7);
        }
        for line in [format!("sidepool {URL} check --pool-size 7"), format!("sidepool --pool-size 7 check {URL}")] {
            let Ok(Command::Check(loaded)) = parse(&line) else { panic!("{line} is check") };
            assert_eq!(loaded.settings.limits.pool_size, 7);
        }
        let Ok(Command::Run { loaded, .. }) = parse(&format!("sidepool {URL} --pool-size 7 --pool-size 8")) else {
            panic!("run")
        };
        assert_eq!(loaded.settings.limits.pool_size, 8, "the last one counts, so that a wrapper's flags can be overridden");
    }

    #[test]
    fn a_shorter_word_is_the_same_flag() {
        let addresses = |flag: &str| match parse(&format!("sidepool {URL} {flag} 127.0.0.9")) {
            Ok(Command::Run { loaded, .. }) => loaded.settings.listen.addresses.clone(),
            _ => panic!("run"),
        };
        let given = [std::net::IpAddr::from([127, 0, 0, 9])];
        assert_eq!((&addresses("--listen")[..], &addresses("--listen-addresses")[..]), (&given[..], &given[..]));
    }

    #[test]
    fn every_option_has_a_flag_that_reaches_its_setting() {
        for option in options::all().filter(|option| option.key != "upstream") {
            let value = if option.default.is_empty() { option.example } else { option.default };
            // A certificate needs its key, what is asked of clients' own an authority, a password its user.
            let both = "--client-tls-certificate=c --client-tls-key=k --client-tls-client-ca=a --auth-user=asker";
            let Ok(Command::Run { loaded, .. }) = parse(&format!("sidepool {URL} {both} --{}={value}", option.flag)) else {
                panic!("{}", option.flag)
            };
            assert!(loaded.source.contains(&format!("--{}", option.flag)), "{}", loaded.source);
        }
    }

    #[test]
    fn run_may_take_over() {
        for (line, expected) in
            [("sidepool", Begin::Anew), ("sidepool run", Begin::Anew), ("sidepool run --take-over", Begin::TakingOver)]
        {
            let Ok(Command::Run { begin, .. }) = parse(&format!("{line} {URL}")) else { panic!("{line} is run") };
            assert_eq!(begin, expected, "{line}");
        }
        assert!(refusal("sidepool dev --take-over").contains("--take-over"));
    }

    #[test]
    fn dev_takes_the_flags_of_run_and_its_own() {
        let line = "sidepool dev --session-port 15432 --fresh --data-dir /d --postgres-version 17";
        let Ok(Command::Dev { prepared, wishes, .. }) = parse(line) else { panic!("dev") };
        assert_eq!(wishes, Wishes { storage: Storage::Fresh, data_dir: Some("/d".into()), postgres_version: Some(17) });
        assert_eq!(prepared.listen().session_port, Some(15_432));
        let Ok(Command::Dev { wishes, .. }) = parse("sidepool dev") else { panic!("dev") };
        assert_eq!(wishes, Wishes::default());
        assert!(refusal(&format!("sidepool dev {URL}")).starts_with("`sidepool dev` brings its own PostgreSQL"));
        assert!(refusal("sidepool dev --postgres-version seventeen").contains("seventeen"));
        assert!(refusal("sidepool run --fresh").contains("--fresh"));
    }

    #[test]
    fn lint_takes_a_command_and_stays_out_of_the_way() {
        let line = "sidepool lint --postgres-version 17 -- npm test --watch";
        let Ok(Command::Lint { prepared, wishes, program }) = parse(line) else { panic!("lint") };
        assert_eq!(program, ["npm", "test", "--watch"]);
        assert_eq!(wishes, Wishes { storage: Storage::Throwaway, data_dir: None, postgres_version: Some(17) });
        assert_eq!((prepared.listen().session_port, prepared.listen().transaction_port), (Some(0), Some(0)));
        let Ok(Command::Lint { prepared, wishes, .. }) = parse("sidepool lint --data-dir /d --session-port 7 -- a") else {
            panic!("lint")
        };
        assert_eq!((wishes.storage, prepared.listen().session_port), (Storage::Kept, Some(7)));
        assert!(refusal("sidepool lint").contains("COMMAND"));
        assert!(refusal(&format!("sidepool lint {URL} -- a")).starts_with("`sidepool lint` brings its own PostgreSQL"));
    }

    #[test]
    fn urls_hides_passwords_unless_told_otherwise() {
        let passwords = |line: String| match parse(&line) {
            Ok(Command::Urls { passwords, .. }) => passwords,
            _ => panic!("{line} is urls"),
        };
        assert_eq!(passwords(format!("sidepool urls {URL}")), Passwords::Hidden);
        assert_eq!(passwords(format!("sidepool urls {URL} --show-passwords")), Passwords::Shown);
    }

    #[test]
    fn misspelt_flags_are_corrected_and_urls_not_repeated() {
        assert!(refusal("sidepool --pool-sice 3").contains("--pool-size"));
        assert!(refusal("sidepool chek").contains("check"));
        assert!(refusal("sidepool --pool-size=").contains("--pool-size"));
        for line in [
            "sidepool postgres://u:hunter2@h/d",
            "sidepool run postgres://u:hunter2@h/d",
            "sidepool --upstrem=postgres://u:hunter2@h/d",
            "sidepool --upstrem postgres://u:hunter2@h/d",
            "sidepool dev --postgres-version postgres://u:hunter2@h/d",
            "sidepool urls --show-passwords=postgres://u:hunter2@h/d",
            "sidepool --postgres://u:hunter2@h/d",
            "sidepool --upstream postgres://u:hunter2@h:x/d",
        ] {
            assert!(!refusal(line).contains("hunter2"), "{line}: {}", refusal(line));
        }
    }

    #[test]
    fn help_and_version_are_no_mistakes() {
        for line in ["sidepool --help", "sidepool -h", "sidepool --version", "sidepool dev --help"] {
            let Err(CliError::Arguments(error)) = parse(line) else { panic!("{line}") };
            assert_eq!(error.exit_code(), 0);
        }
        let help = refusal("sidepool --help");
        for option in options::all() {
            assert!(help.contains(option.flag) && help.contains(option.env) && help.contains(option.key), "{}", option.key);
        }
        for section in SECTIONS {
            assert!(help.contains(&format!("{}:", section.title)), "{}", section.title);
        }
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
    }
}
