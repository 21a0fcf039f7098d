//! Who is answered what.

use std::net::{IpAddr, SocketAddr};

use subtle::ConstantTimeEq;

use super::ready::{Readiness, Ready};
use super::request::{Method, Request};
use super::{action, metrics, state};
use crate::admin::{Remote, snapshot};
use crate::config::Password;
use crate::server::Signal;

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The dashboard: path, type and text.
const PAGE: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/page.parts.js", SCRIPT, include_str!("page/page.parts.js")),
    ("/page.history.js", SCRIPT, include_str!("page/page.history.js")),
    ("/page.actions.js", SCRIPT, include_str!("page/page.actions.js")),
];
/// Nothing from elsewhere, and nobody may put the page into theirs.
const PAGE_POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-ancestors 'none'";

/// What requests are answered from.
#[derive(Debug)]
pub(super) struct Desk {
    remote: Remote,
    trust: Trust,
    readiness: Readiness,
}

/// Who is let in to more than the probes.
#[derive(Debug)]
pub(super) enum Trust {
    /// Who shows it.
    Token(Password),
    /// Whoever is on this machine.
    Local,
}

impl Trust {
    /// `bound` is where HTTP is served. `None`: other machines reach that, and nothing would tell them apart.
    pub(super) fn new(token: Option<Password>, bound: SocketAddr) -> Option<Self> {
        match token {
            Some(token) => Some(Self::Token(token)),
            None => bound.ip().to_canonical().is_loopback().then_some(Self::Local),
        }
    }
}

impl Desk {
    pub(super) fn new(remote: Remote, trust: Trust) -> Self {
        let readiness = Readiness::new(&remote.house);
        Self { remote, trust, readiness }
    }

    /// `peer` is who asks, for the log.
    pub(super) async fn answer(&self, request: &Request<'_>, peer: SocketAddr) -> Answer {
        if let Some(action) = action::named(request.path) {
            let refusal = action.refuse(request).or_else(|| self.refuse(request)).or_else(|| refuse_accident(request));
            return match refusal {
                Some(refusal) => action.refused(refusal, peer),
                None => action.run(&self.remote, request.query, peer).await,
            };
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            return Answer::wrong_method("GET, HEAD");
        }
        // Probes have no token, and learn nothing but yes or no.
        match request.path {
            "/healthz" => return Answer::plain(200, "ok\n"),
            "/readyz" => return self.ready().await,
            _ => {}
        }
        // The page has nothing to hide: what it shows it asks for, with the token it was given.
        if let Some((_, kind, text)) = PAGE.iter().find(|(path, ..)| *path == request.path) {
            return Answer::new(200, kind, (*text).to_owned());
        }
        if let Some(refusal) = self.refuse(request) {
            return refusal;
        }
        match request.path {
            "/metrics" => Answer::new(200, PROMETHEUS, metrics::page(&snapshot::take(&self.remote.house))),
            "/api/state" => {
                let ready = self.readiness.look().await;
                Answer::new(200, JSON, state::json(&self.remote, ready))
            }
            _ => Answer::plain(404, "there are /, /metrics, /healthz, /readyz and /api/state\n"),
        }
    }

    /// What is to be done when the answer is on its way, be it read or not.
    pub(super) fn said(&self, answer: &Answer) {
        if let Some(signal) = answer.then {
            self.remote.signal(signal);
        }
    }

    async fn ready(&self) -> Answer {
        let ready = self.readiness.look().await;
        let status = if ready == Ready::Yes { 200 } else { 503 };
        Answer::plain(status, &format!("{}\n", ready.as_str()))
    }

    /// Without a token, a page in somebody's browser could give its own name our address, and read what is said here as its
    /// own: only names that nobody else can own are answered.
    fn refuse(&self, request: &Request<'_>) -> Option<Answer> {
        match &self.trust {
            Trust::Token(token) => {
                let shown = request.token.unwrap_or_default().as_bytes();
                let same = bool::from(shown.ct_eq(token.reveal().as_bytes()));
                (!same).then(|| Answer::plain(401, "show the token: Authorization: Bearer TOKEN\n"))
            }
            Trust::Local if request.host.is_some_and(|host| !is_nobodys_name(host)) => {
                Some(Answer::plain(403, "ask for localhost or an IP address, or set listen.http_token\n"))
            }
            Trust::Local => None,
        }
    }
}

/// A page in somebody's browser can post to any address without reading the answer, but not with a header of its own: that
/// it may do only where it is told so, and here it never is.
fn refuse_accident(request: &Request<'_>) -> Option<Answer> {
    (!request.is_deliberate).then(|| Answer::plain(403, "say that you mean it: X-Sidepool: 1\n"))
}

/// An address or `localhost`, with or without a port.
fn is_nobodys_name(host: &str) -> bool {
    let has_port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = has_port.filter(|(name, _)| !name.contains(':') || name.ends_with(']')).map_or(host, |(name, _)| name);
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok() || bare.eq_ignore_ascii_case("localhost")
}

#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
    /// Methods that would have been right.
    allow: Option<&'static str>,
    /// For the process, when this has been said.
    then: Option<Signal>,
}

impl Answer {
    fn new(status: u16, kind: &'static str, body: String) -> Self {
        Self { status, kind, body, allow: None, then: None }
    }

    pub(super) fn and_then(self, signal: Option<Signal>) -> Self {
        Self { then: signal, ..self }
    }

    pub(super) fn wrong_method(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::plain(405, &format!("what is here is asked for by {allow}\n")) }
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn plain(status: u16, body: &str) -> Self {
        Self::new(status, TEXT, body.to_owned())
    }

    pub(super) fn bytes(&self, method: Method) -> Vec<u8> {
        let Self { status, kind, body, allow, .. } = self;
        let more = match status {
            401 => "WWW-Authenticate: Bearer\r\n".to_owned(),
            _ => allow.map(|methods| format!("Allow: {methods}\r\n")).unwrap_or_default(),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Security-Policy: {PAGE_POLICY}\r\nConnection: close\r\n\r\n",
            reason(*status)
        );
        let body = if method == Method::Head { "" } else { body };
        [head.as_bytes(), body.as_bytes()].concat()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        _ => "Service Unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_can_own_are_answered_without_a_token() {
        for host in ["localhost", "LOCALHOST:9930", "127.0.0.1", "127.0.0.1:80", "[::1]:9930", "[::1]", "10.1.2.3:1"] {
            assert!(is_nobodys_name(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:9930", "localhost.evil.example", "127.0.0.1.evil.example:1", ":80"] {
            assert!(!is_nobodys_name(host), "{host}");
        }
    }
}
