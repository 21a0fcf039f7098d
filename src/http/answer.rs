//! Who is answered what.

use std::net::IpAddr;

use subtle::ConstantTimeEq;

use super::ready::{Readiness, Ready};
use super::request::{Method, Request};
use super::{Shown, metrics, state};
use crate::admin::snapshot;
use crate::config::Password;

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// The dashboard: path, type and text.
const PAGE: [(&str, &str, &str); 3] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
];
/// Nothing from elsewhere, and nobody may put the page into theirs.
const PAGE_POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-ancestors 'none'";

/// What requests are answered from.
#[derive(Debug)]
pub(super) struct Desk {
    house: Shown,
    token: Option<Password>,
    readiness: Readiness,
}

impl Desk {
    pub(super) fn new(house: Shown, token: Option<Password>) -> Self {
        let readiness = Readiness::new(&house);
        Self { house, token, readiness }
    }

    pub(super) async fn answer(&self, request: &Request<'_>) -> Answer {
        if request.method == Method::Other {
            return Answer::plain(405, "only GET and HEAD are answered here\n");
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
            "/metrics" => Answer::new(200, PROMETHEUS, metrics::page(&snapshot::take(&self.house))),
            "/api/state" => {
                let ready = self.readiness.look().await;
                Answer::new(200, JSON, state::json(&snapshot::take(&self.house), ready))
            }
            _ => Answer::plain(404, "there are /, /metrics, /healthz, /readyz and /api/state\n"),
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
        match &self.token {
            Some(token) => {
                let shown = request.token.unwrap_or_default().as_bytes();
                let same = bool::from(shown.ct_eq(token.reveal().as_bytes()));
                (!same).then(|| Answer::plain(401, "show the token: Authorization: Bearer TOKEN\n"))
            }
            None if request.host.is_some_and(|host| !is_nobodys_name(host)) => {
                Some(Answer::plain(403, "ask for localhost or an IP address, or set listen.http_token\n"))
            }
            None => None,
        }
    }
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
}

impl Answer {
    fn new(status: u16, kind: &'static str, body: String) -> Self {
        Self { status, kind, body }
    }

    pub(super) fn plain(status: u16, body: &str) -> Self {
        Self::new(status, TEXT, body.to_owned())
    }

    pub(super) fn bytes(&self, method: Method) -> Vec<u8> {
        let Self { status, kind, body } = self;
        let more = match status {
            401 => "WWW-Authenticate: Bearer\r\n",
            405 => "Allow: GET, HEAD\r\n",
            _ => "",
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
        431 => "Request Header Fields Too Large",
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
