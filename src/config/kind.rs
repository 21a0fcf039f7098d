//! What kind of value an option takes, and how its text is read into its place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::draft::Draft;
use super::units::{format_duration, format_size, parse_duration, parse_size};
use super::{AuthQuery, ConfigError, Network, Password, UpstreamSocket};
use crate::auth::username::is_valid_name;

/// The longest piece of a wrong value that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// Where an option's value goes.
type Place<T> = fn(&mut Draft) -> &mut T;

pub(crate) enum Kind {
    Integer {
        min: usize,
        max: usize,
        place: Place<usize>,
    },
    /// `auto` or an integer.
    Automatic {
        min: usize,
        max: usize,
        place: Place<Option<usize>>,
    },
    Port(Place<Option<u16>>),
    Duration {
        min: Duration,
        max: Duration,
        place: Place<Duration>,
    },
    /// Bytes.
    Size {
        min: u64,
        max: u64,
        place: Place<usize>,
    },
    Bool(Place<bool>),
    Choice(&'static [Choice]),
    /// IP addresses, with commas between them or as a list.
    Addresses(Place<Vec<IpAddr>>),
    Socket(Place<Option<SocketAddr>>),
    Path(Place<Option<PathBuf>>),
    /// With commas between them or as a list.
    Paths(Place<Vec<PathBuf>>),
    LogFilter(Place<String>),
    /// A URL, which may hold a password.
    Url(Place<Option<Password>>),
    Text(Place<Option<String>>),
    /// Never shown.
    Secret(Place<Option<Password>>),
    /// `true`, `false` or SQL.
    Query(Place<AuthQuery>),
    /// `auto`, `off` or a directory.
    UpstreamSocket(Place<UpstreamSocket>),
    /// Names of users, with commas between them or as a list.
    Names(Place<Vec<String>>),
    /// Ranges of IP addresses, with commas between them or as a list.
    Networks(Place<Vec<Network>>),
}

/// One allowed word and what it does.
pub(crate) struct Choice {
    pub(crate) word: &'static str,
    pub(crate) choose: fn(&mut Draft),
}

/// A value as some source gave it.
pub(super) enum Given {
    One(String),
    Many(Vec<String>),
}

impl Given {
    /// To be compared with another.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::One(text) => text.trim().to_owned(),
            Self::Many(texts) => texts.join(","),
        }
    }
}

impl Kind {
    /// Reads the value into its place. `name` is how the error calls the option.
    pub(super) fn take(&self, name: &str, given: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
        self.place(given, draft).ok_or_else(|| self.refusal(name, given))
    }

    /// What `--help` puts behind the flag.
    pub(crate) fn value_name(&self) -> &'static str {
        match self {
            Self::Integer { .. } => "N",
            Self::Automatic { .. } => "N|auto",
            Self::Port(_) => "PORT|off",
            Self::Duration { .. } => "DURATION",
            Self::Size { .. } => "SIZE",
            Self::Bool(_) => "BOOL",
            Self::Choice(_) => "WORD",
            Self::Addresses(_) => "ADDRESS,…",
            Self::Socket(_) => "ADDRESS:PORT",
            Self::Path(_) => "PATH",
            Self::Paths(_) => "PATH,…",
            Self::LogFilter(_) => "FILTER",
            Self::Url(_) => "URL",
            Self::Text(_) => "TEXT",
            Self::Secret(_) => "PASSWORD",
            Self::Query(_) => "BOOL|SQL",
            Self::UpstreamSocket(_) => "auto|off|PATH",
            Self::Names(_) => "NAME,…",
            Self::Networks(_) => "NETWORK,…",
        }
    }

    /// Completes "must be …".
    pub(crate) fn expects(&self) -> String {
        match self {
            Self::Integer { min, max, .. } => format!("a whole number from {min} to {max}"),
            Self::Automatic { min, max, .. } => format!("auto or a whole number from {min} to {max}"),
            Self::Port(_) => "a port from 0 to 65535, or off".to_owned(),
            Self::Duration { min, max, .. } => {
                format!(
                    "a duration from {} to {} with its unit: ms, s, min, h or d",
                    format_duration(*min),
                    format_duration(*max)
                )
            }
            Self::Size { min, max, .. } => {
                format!(
                    "a size from {} to {} with its unit: B, kB, KiB, MB, MiB, GB or GiB",
                    format_size(*min),
                    format_size(*max)
                )
            }
            Self::Bool(_) => "true or false".to_owned(),
            Self::Choice(choices) => choices.iter().map(|choice| choice.word).collect::<Vec<_>>().join(" or "),
            Self::Addresses(_) => "IP addresses, localhost, * (all) or off".to_owned(),
            Self::Socket(_) => "an IP address with its port, such as 127.0.0.1:9930, or off".to_owned(),
            Self::Path(_) => "a path".to_owned(),
            Self::Paths(_) => "a path or several".to_owned(),
            Self::LogFilter(_) => "a log filter, such as info or info,sidepool::pool=debug".to_owned(),
            Self::Url(_) => "one URL".to_owned(),
            Self::Text(_) => "a text".to_owned(),
            Self::Secret(_) => "a password".to_owned(),
            Self::Query(_) => "true, false or a query with $1 for the user's name".to_owned(),
            Self::UpstreamSocket(_) => "auto, off or the absolute path of a directory".to_owned(),
            Self::Names(_) => "a name or several, each once, of 1 to 63 bytes".to_owned(),
            Self::Networks(_) => "addresses and networks, such as 10.0.0.0/8,::1, or all".to_owned(),
        }
    }

    /// As `SHOW CONFIG` has it; `None`: there is nothing that may be shown.
    pub(super) fn shown(&self, given: &Given) -> Option<String> {
        match (self, given) {
            (Self::Url(_) | Self::Secret(_), _) => None,
            (_, Given::One(text)) => Some(text.trim().to_owned()),
            (_, Given::Many(texts)) => Some(texts.join(",")),
        }
    }

    /// A value as PgBouncer would have it, where that is a number: times in seconds.
    pub(crate) fn number(&self, text: &str) -> Option<String> {
        match self {
            Self::Integer { .. } => text.parse::<u64>().ok().map(|number| number.to_string()),
            Self::Duration { .. } => parse_duration(text).map(|duration| duration.as_secs_f64().to_string()),
            _ => None,
        }
    }

    /// `None` if the value is not what [`Kind::expects`] says.
    fn place(&self, given: &Given, draft: &mut Draft) -> Option<()> {
        if let Self::Addresses(place) = self {
            *place(draft) = addresses(given)?;
            return Some(());
        }
        if let Self::Paths(place) = self {
            *place(draft) = paths(given)?;
            return Some(());
        }
        if let Self::Networks(place) = self {
            *place(draft) = networks(given)?;
            return Some(());
        }
        if let Self::Names(place) = self {
            *place(draft) = names(given)?;
            return Some(());
        }
        let Given::One(text) = given else { return None };
        if let Self::Secret(place) = self {
            // Blanks at its ends are part of it.
            *place(draft) = Some(Password::new(text.as_str())).filter(|secret| !secret.reveal().is_empty());
            return place(draft).is_some().then_some(());
        }
        let text = text.trim();
        match self {
            Self::Integer { min, max, place } => *place(draft) = integer(text, *min, *max)?,
            Self::Automatic { place, .. } if text == "auto" => *place(draft) = None,
            Self::Automatic { min, max, place } => *place(draft) = Some(integer(text, *min, *max)?),
            Self::Port(place) => *place(draft) = if text == "off" { None } else { Some(port(text)?) },
            Self::Duration { min, max, place } => {
                *place(draft) = parse_duration(text).filter(|duration| (min..=max).contains(&duration))?;
            }
            Self::Size { min, max, place } => {
                let bytes = parse_size(text).filter(|bytes| (min..=max).contains(&bytes))?;
                *place(draft) = usize::try_from(bytes).ok()?;
            }
            Self::Bool(place) => *place(draft) = boolean(text)?,
            Self::Choice(choices) => (choices.iter().find(|choice| choice.word == text)?.choose)(draft),
            Self::Addresses(_) | Self::Paths(_) | Self::Networks(_) | Self::Names(_) | Self::Secret(_) => return None,
            Self::Socket(place) => *place(draft) = if text == "off" { None } else { Some(socket(text)?) },
            Self::Path(_) | Self::LogFilter(_) | Self::Url(_) | Self::Text(_) if text.is_empty() => return None,
            Self::Path(place) => *place(draft) = Some(text.into()),
            Self::LogFilter(place) => *place(draft) = log_filter(text)?,
            Self::Url(place) => *place(draft) = Some(Password::new(text)),
            Self::Text(place) => *place(draft) = Some(text.to_owned()),
            Self::Query(place) => *place(draft) = query(text)?,
            Self::UpstreamSocket(place) => *place(draft) = UpstreamSocket::parse(text)?,
        }
        Some(())
    }

    fn refusal(&self, name: &str, given: &Given) -> ConfigError {
        let expects = self.expects();
        if matches!(self, Self::Url(_)) {
            return ConfigError::new(format!("{name} must be {expects}"), "Write postgres://USER:PASSWORD@HOST:PORT/DATABASE.");
        }
        if matches!(self, Self::Secret(_)) {
            return ConfigError::new(format!("{name} must be {expects}"), "Write it as a text in quotation marks.");
        }
        let (shown, bare) = match given {
            Given::Many(_) if !matches!(self, Self::Addresses(_) | Self::Networks(_) | Self::Names(_)) => {
                ("a list".to_owned(), None)
            }
            Given::Many(texts) => (shown(&texts.join(",")), None),
            Given::One(text) => (shown(text), text.trim().parse::<u64>().ok()),
        };
        let hint = match (self, bare) {
            (Self::Duration { .. }, Some(number)) => format!("A bare number has no unit: write {number}s or {number}ms."),
            (Self::Size { .. }, Some(number)) => format!("A bare number has no unit: write {number}MiB or {number}B."),
            _ => "Correct it, or leave it out for the default.".to_owned(),
        };
        ConfigError::new(format!("{name} must be {expects}, not {shown}"), hint)
    }
}

fn integer(text: &str, min: usize, max: usize) -> Option<usize> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits && (min..=max).contains(number))
}

fn port(text: &str) -> Option<u16> {
    integer(text, 0, usize::from(u16::MAX)).and_then(|number| u16::try_from(number).ok())
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn socket(text: &str) -> Option<SocketAddr> {
    let text = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().ok()
}

fn addresses(given: &Given) -> Option<Vec<IpAddr>> {
    const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let words: Vec<&str> = match given {
        Given::One(text) if text.trim() == "off" => Vec::new(),
        Given::One(text) => text.split(',').map(str::trim).collect(),
        Given::Many(texts) => texts.iter().map(|text| text.trim()).collect(),
    };
    let mut found = Vec::new();
    for word in words {
        let group = match word {
            "localhost" => LOCALHOST.to_vec(),
            "*" => ANY.to_vec(),
            address => vec![address.parse().ok()?],
        };
        for address in group {
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    Some(found)
}

/// A comma cannot stand in a path, which in a list it could, but then in no variable.
fn paths(given: &Given) -> Option<Vec<PathBuf>> {
    let texts: Vec<&str> = match given {
        Given::One(text) => text.split(',').collect(),
        Given::Many(texts) => texts.iter().map(String::as_str).collect(),
    };
    let path = |text: &str| (!text.trim().is_empty()).then(|| PathBuf::from(text.trim()));
    texts.into_iter().map(path).collect::<Option<Vec<_>>>().filter(|paths| !paths.is_empty())
}

fn names(given: &Given) -> Option<Vec<String>> {
    let words: Vec<&str> = match given {
        Given::One(text) => text.split(',').map(str::trim).collect(),
        Given::Many(texts) => texts.iter().map(|text| text.trim()).collect(),
    };
    let distinct = words.iter().enumerate().all(|(at, word)| is_valid_name(word) && !words[..at].contains(word));
    distinct.then(|| words.into_iter().map(str::to_owned).collect())
}

fn query(text: &str) -> Option<AuthQuery> {
    match boolean(text) {
        Some(true) => Some(AuthQuery::Verifiers),
        Some(false) => Some(AuthQuery::Off),
        None => (text.contains("$1") && !text.contains('\0')).then(|| AuthQuery::Sql(text.to_owned())),
    }
}

fn networks(given: &Given) -> Option<Vec<Network>> {
    let words: Vec<&str> = match given {
        Given::One(text) if text.trim() == "all" => Vec::new(),
        Given::One(text) => text.split(',').map(str::trim).collect(),
        Given::Many(texts) => texts.iter().map(|text| text.trim()).collect(),
    };
    words.into_iter().map(Network::parse).collect()
}

/// `tracing` takes any word for the name of a module, so that `--log inof` would show nothing at all, in silence.
fn log_filter(text: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let directives = text.split(',').map(str::trim);
    let known =
        |word: &str| LEVELS.contains(&word.to_ascii_lowercase().as_str()) || word.contains(['=', '[', ':']) || word == "sidepool";
    let legal = directives.clone().all(known) && tracing_subscriber::EnvFilter::try_new(text).is_ok();
    legal.then(|| text.to_owned())
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}
