//! Messages of a client, byte by byte (protocol chapter "Message Formats").

/// A tag, the length, the body.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &length(body), body].concat()
}

/// A startup packet has no tag.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(text(name));
        body.extend(text(value));
    }
    body.push(0);
    untagged(&body)
}

pub fn ssl_request() -> Vec<u8> {
    untagged(&80_877_103_u32.to_be_bytes())
}

pub fn gss_request() -> Vec<u8> {
    untagged(&80_877_104_u32.to_be_bytes())
}

/// What BackendKeyData had: the pid and the key.
pub fn cancel_request(key_data: &[u8]) -> Vec<u8> {
    untagged(&[&80_877_102_u32.to_be_bytes(), key_data].concat())
}

pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &text(sql))
}

/// With the types left to the server.
pub fn parse(statement: &str, sql: &str) -> Vec<u8> {
    parse_typed(statement, sql, &[])
}

pub fn parse_typed(statement: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let types = [count(types.len()).to_vec(), types.iter().flat_map(|oid| oid.to_be_bytes()).collect()].concat();
    frame(b'P', &[text(statement), text(sql), types].concat())
}

/// Values as text; `None` is NULL. Results come as text.
pub fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    let mut body = [text(portal), text(statement)].concat();
    body.extend(count(0));
    body.extend(count(values.len()));
    for value in values {
        match value {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(value) => {
                body.extend(u32::try_from(value.len()).expect("tests send short values").to_be_bytes());
                body.extend(value.as_bytes());
            }
        }
    }
    body.extend(count(0));
    frame(b'B', &body)
}

pub fn describe_statement(name: &str) -> Vec<u8> {
    named(b'D', b'S', name)
}

pub fn describe_portal(name: &str) -> Vec<u8> {
    named(b'D', b'P', name)
}

/// `rows` 0 is all.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    frame(b'E', &[text(portal), rows.to_be_bytes().to_vec()].concat())
}

pub fn close_statement(name: &str) -> Vec<u8> {
    named(b'C', b'S', name)
}

pub fn close_portal(name: &str) -> Vec<u8> {
    named(b'C', b'P', name)
}

pub fn sync() -> Vec<u8> {
    frame(b'S', &[])
}

pub fn flush() -> Vec<u8> {
    frame(b'H', &[])
}

pub fn copy_data(data: &[u8]) -> Vec<u8> {
    frame(b'd', data)
}

pub fn copy_done() -> Vec<u8> {
    frame(b'c', &[])
}

pub fn copy_fail(reason: &str) -> Vec<u8> {
    frame(b'f', &text(reason))
}

pub fn password(body: &[u8]) -> Vec<u8> {
    frame(b'p', body)
}

pub fn terminate() -> Vec<u8> {
    frame(b'X', &[])
}

/// With its final zero.
pub fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn named(tag: u8, kind: u8, name: &str) -> Vec<u8> {
    frame(tag, &[vec![kind], text(name)].concat())
}

fn untagged(body: &[u8]) -> Vec<u8> {
    [&length(body), body].concat()
}

/// It counts itself.
fn length(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4).expect("tests send short messages").to_be_bytes()
}

fn count(count: usize) -> [u8; 2] {
    u16::try_from(count).expect("tests send short lists").to_be_bytes()
}
