//! The head of a request (RFC 9112), as far as it matters here.

/// The longest head taken, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub method: Method,
    /// Without what follows a question mark.
    pub path: &'a str,
    /// What follows it; may be empty.
    pub query: &'a str,
    pub host: Option<&'a str>,
    /// What follows `Authorization: Bearer`.
    pub token: Option<&'a str>,
    /// Whether there is `X-Sidepool: 1`, which a page of somebody else's can send only after it has asked, and been refused.
    pub is_deliberate: bool,
    /// Whether it announces one, of whatever length.
    pub has_body: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Put,
    Other,
}

impl<'a> Request<'a> {
    /// `None` unless it is one request in order, with nothing behind it that would be its body's length in dispute.
    pub(super) fn parse(head: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(head).ok()?.strip_suffix("\r\n\r\n")?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") || !target.starts_with('/') {
            return None;
        }
        let method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            other if !other.is_empty() && other.bytes().all(|b| b.is_ascii_uppercase()) => Method::Other,
            _ => return None,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Request { method, path, query, host: None, token: None, is_deliberate: false, has_body: false };
        for line in lines {
            request.header(line)?;
        }
        Some(request)
    }

    fn header(&mut self, line: &'a str) -> Option<()> {
        let (name, value) = line.split_once(':')?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) || value.bytes().any(|b| b < b' ' && b != b'\t') {
            return None;
        }
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("host") {
            // Two of them are two opinions.
            return self.host.replace(value).is_none().then_some(());
        }
        if name.eq_ignore_ascii_case("authorization") {
            let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
            self.token = scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '));
        }
        self.is_deliberate |= name.eq_ignore_ascii_case("x-sidepool") && value == "1";
        let is_length = name.eq_ignore_ascii_case("content-length");
        self.has_body |= (is_length && value != "0") || name.eq_ignore_ascii_case("transfer-encoding");
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_of_a_request_is_read() {
        let head = b"GET /metrics?x=1 HTTP/1.1\r\nhOST: localhost:9930\r\nAuthorization: bearer  abc \r\nAccept: */*\r\n\r\n";
        let request = Request::parse(head).unwrap();
        let expected = Request {
            method: Method::Get,
            path: "/metrics",
            query: "x=1",
            host: Some("localhost:9930"),
            token: Some("abc"),
            is_deliberate: false,
            has_body: false,
        };
        assert_eq!(request, expected);
        let post = Request::parse(b"POST /a HTTP/1.1\r\nx-SIDEPOOL: 1\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!((post.method, post.query, post.is_deliberate, post.has_body), (Method::Post, "", true, false));
        for body in ["Content-Length: 1", "Transfer-Encoding: chunked", "Content-Length: 0\r\nContent-Length: 9", "X-Sidepool: 0"]
        {
            let head = format!("PUT / HTTP/1.1\r\n{body}\r\n\r\n");
            let put = Request::parse(head.as_bytes()).unwrap();
            assert_eq!((put.has_body, put.is_deliberate), (!body.starts_with('X'), false), "{body}");
        }
        let basic = Request::parse(b"HEAD / HTTP/1.0\r\nAuthorization: Basic abc\r\n\r\n").unwrap();
        assert_eq!((basic.method, basic.token), (Method::Head, None));
        assert_eq!(Request::parse(b"DELETE / HTTP/1.1\r\n\r\n").unwrap().method, Method::Other);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for head in [
            &b"\r\n\r\n"[..],
            b"GET /\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/2\r\n\r\n",
            b"GET http://a/ HTTP/1.1\r\n\r\n",
            b"get / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1 x\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\n: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET / HTTP/1.1\nHost: a\n\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(Request::parse(head), None, "{}", head.escape_ascii());
        }
    }
}
