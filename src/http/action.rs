//! Commands by HTTP: which there are, what they are about, and the line that each leaves in the log.

use std::net::SocketAddr;

use percent_encoding::percent_decode_str;

use super::answer::Answer;
use super::request::{Method, Request};
use crate::admin::{Done, Remote, Target};
use crate::error::{PgError, SqlState};
use crate::server::Signal;

#[derive(Debug)]
pub(super) struct Action {
    path: &'static str,
    method: Method,
    /// The console's name for it.
    command: &'static str,
    takes: Takes,
}

#[derive(Clone, Copy, Debug)]
enum Takes {
    /// `?project=p&database=d`, each or none.
    Pools,
    /// One of them at least.
    SomePools,
    /// `?wait_for=servers`, `?wait_for=clients`, or nothing.
    Way,
    /// `?id=n`
    Client,
    Nothing,
}

const ACTIONS: [Action; 9] = [
    Action { path: "/api/pause", method: Method::Post, command: "PAUSE", takes: Takes::Pools },
    Action { path: "/api/resume", method: Method::Post, command: "RESUME", takes: Takes::Pools },
    Action { path: "/api/reconnect", method: Method::Post, command: "RECONNECT", takes: Takes::Pools },
    Action { path: "/api/disable", method: Method::Post, command: "DISABLE", takes: Takes::SomePools },
    Action { path: "/api/enable", method: Method::Post, command: "ENABLE", takes: Takes::SomePools },
    Action { path: "/api/kill", method: Method::Post, command: "KILL", takes: Takes::Pools },
    Action { path: "/api/shutdown", method: Method::Post, command: "SHUTDOWN", takes: Takes::Way },
    Action { path: "/api/kill_client", method: Method::Post, command: "KILL_CLIENT", takes: Takes::Client },
    Action { path: "/api/reload", method: Method::Put, command: "RELOAD", takes: Takes::Nothing },
];

pub(super) fn named(path: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|action| action.path == path)
}

impl Action {
    /// What can be seen from the request alone.
    pub(super) fn refuse(&self, request: &Request<'_>) -> Option<Answer> {
        if request.method != self.method {
            return Some(Answer::wrong_method(if self.method == Method::Put { "PUT" } else { "POST" }));
        }
        request.has_body.then(|| Answer::plain(413, "commands have no body: what they are about stands behind the ?\n"))
    }

    pub(super) fn refused(&self, answer: Answer, peer: SocketAddr) -> Answer {
        tracing::warn!(command = self.command, %peer, status = answer.status(), "command over HTTP refused");
        answer
    }

    pub(super) async fn run(&self, remote: &Remote, query: &str, peer: SocketAddr) -> Answer {
        let Some(target) = self.takes.read(query) else {
            return self.refused(Answer::plain(400, self.takes.usage()), peer);
        };
        // As it was asked: the way back to who asked it.
        let (command, about) = (self.command, query);
        match remote.command(command, target).await {
            Ok(Done { notices, signal }) => {
                tracing::info!(command, about, %peer, "command over HTTP");
                let said: String = notices.iter().map(|notice| format!("{}\n", notice.message)).collect();
                Answer::plain(200, &format!("{command}\n{said}")).and_then(signal)
            }
            Err(error) => {
                tracing::warn!(command, about, %peer, %error, "command over HTTP failed");
                Answer::plain(status(&error), &words(&error))
            }
        }
    }
}

impl Takes {
    /// `None` for anything more, anything twice, and what cannot be read.
    fn read(self, query: &str) -> Option<Target> {
        let (mut project, mut database, mut id, mut wait_for) = (None, None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            let value = percent_decode_str(value).decode_utf8().ok()?.into_owned();
            let into = match (self, name) {
                (Self::Pools | Self::SomePools, "project") => &mut project,
                (Self::Pools | Self::SomePools, "database") => &mut database,
                (Self::Way, "wait_for") => &mut wait_for,
                (Self::Client, "id") => &mut id,
                _ => return None,
            };
            if into.replace(value).is_some() {
                return None;
            }
        }
        match self {
            Self::SomePools if project.is_none() && database.is_none() => None,
            Self::Pools | Self::SomePools => Some(Target::Pools { project, database }),
            Self::Way => match wait_for.as_deref() {
                None => Some(Target::End(Signal::Stop)),
                Some("servers") => Some(Target::End(Signal::Drain)),
                Some("clients") => Some(Target::End(Signal::Close)),
                Some(_) => None,
            },
            Self::Client => id?.parse().ok().map(Target::Client),
            Self::Nothing => Some(Target::Process),
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Pools => "write ?project=PROJECT&database=DATABASE, one of them, or neither for all pools\n",
            Self::SomePools => "write ?project=PROJECT&database=DATABASE, or one of them\n",
            Self::Way => "write ?wait_for=servers or ?wait_for=clients, or nothing to end it now\n",
            Self::Client => "write ?id=N, with the client's id\n",
            Self::Nothing => "nothing can stand behind the ? here\n",
        }
    }
}

fn status(error: &PgError) -> u16 {
    match error.code {
        SqlState::UNKNOWN_DATABASE | SqlState::UNDEFINED_OBJECT => 404,
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => 409,
        SqlState::CONFIG_FILE_ERROR => 422,
        SqlState::FEATURE_NOT_SUPPORTED => 501,
        _ => 500,
    }
}

/// One line each.
fn words(error: &PgError) -> String {
    let more = [&error.detail, &error.hint].into_iter().flatten();
    std::iter::once(&error.message).chain(more).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(project: Option<&str>, database: Option<&str>) -> Option<Target> {
        Some(Target::Pools { project: project.map(Into::into), database: database.map(Into::into) })
    }

    #[test]
    fn queries_say_what_a_command_is_about() {
        assert_eq!(Takes::Pools.read(""), pools(None, None));
        assert_eq!(Takes::Pools.read("project=%2A&database=a%20b%26%C3%A4"), pools(Some("*"), Some("a b&ä")));
        assert_eq!(Takes::Pools.read("database="), pools(None, Some("")));
        assert_eq!(Takes::Client.read("id=17"), Some(Target::Client(17)));
        assert_eq!(Takes::Nothing.read(""), Some(Target::Process));
        assert_eq!(Takes::SomePools.read("project=p"), pools(Some("p"), None));
        assert_eq!(Takes::Way.read(""), Some(Target::End(Signal::Stop)));
        assert_eq!(Takes::Way.read("wait_for=servers"), Some(Target::End(Signal::Drain)));
        assert_eq!(Takes::Way.read("wait_for=clients"), Some(Target::End(Signal::Close)));
    }

    #[test]
    fn what_is_more_or_twice_or_unreadable_is_refused() {
        for query in ["database", "databse=x", "id=1", "database=a&database=b", "database=%ff", "project=a&x=1"] {
            assert_eq!(Takes::Pools.read(query), None, "{query}");
        }
        for query in ["", "id=", "id=x", "id=-1", "id=1&id=1", "id=18446744073709551616", "database=x"] {
            assert_eq!(Takes::Client.read(query), None, "{query}");
        }
        for query in ["wait_for=", "wait_for=ever", "wait_for", "way=servers", "wait_for=servers&wait_for=servers", "database=x"]
        {
            assert_eq!(Takes::Way.read(query), None, "{query}");
        }
        assert_eq!(Takes::SomePools.read(""), None);
        assert_eq!(Takes::Nothing.read("database=x"), None);
    }

    #[test]
    fn nothing_that_changes_anything_is_asked_for_by_get() {
        for action in &ACTIONS {
            assert!(matches!(action.method, Method::Post | Method::Put) && action.path.starts_with("/api/"), "{action:?}");
        }
    }
}
