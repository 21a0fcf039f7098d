//! Messages in a line of text, and back.
//!
//! Words of the client: `Q(text)` `P(name,text)` `B(portal,statement)` `DS(name)` `DP(name)` `CS(name)` `CP(name)`
//! `E` `E(portal)` `E(portal,rows)` `S` `H` `F` `d(data)` `c` `f(reason)` `X`.
//! Words of the server: `1` `2` `3` `n` `t` `T` `D(value)` `C(tag)` `s` `I` `V` `G` `H` `W` `d(data)` `c` `Z(I)`
//! `S(name=value)` `A(channel)` `A(channel,payload)` `N(00000 text)` `E(42P05 text)` `E(FATAL 57P01 text)` `E(0A000/Routine text)`.

/// Bytes of a client's messages.
pub(super) fn from_client(text: &str) -> Vec<u8> {
    words(text).into_iter().flat_map(|(word, argument)| client_message(word, argument)).collect()
}

/// Bytes of a server's messages.
pub(super) fn from_server(text: &str) -> Vec<u8> {
    words(text).into_iter().flat_map(|(word, argument)| server_message(word, argument)).collect()
}

/// A client's messages as words; a message that is not whole ends in `…`.
pub(super) fn show_client(bytes: &[u8]) -> String {
    show(bytes, client_word)
}

/// A server's messages as words.
pub(super) fn show_server(bytes: &[u8]) -> String {
    show(bytes, server_word)
}

/// The words of a line, each for itself.
pub(super) fn split(text: &str) -> Vec<String> {
    words(text).into_iter().map(|(word, argument)| with(word, argument)).collect()
}

/// One tagged message.
pub(super) fn message(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, &body].concat()
}

/// `word` or `word(argument)`, parentheses in the argument balanced.
fn words(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', '(']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let length = if after.starts_with('(') { balanced(after) } else { 0 };
        found.push((word, after.get(1..length.max(2) - 1).filter(|_| length > 0).unwrap_or("")));
        rest = after[length..].trim_start();
    }
    found
}

/// Bytes of the parenthesis `text` starts with.
fn balanced(text: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    panic!("no end of the parenthesis in {text:?}")
}

fn pair(argument: &str) -> (&str, &str) {
    argument.split_once(',').unwrap_or((argument, ""))
}

fn client_message(word: &str, argument: &str) -> Vec<u8> {
    let (first, second) = pair(argument);
    let (first, second) = (first.as_bytes(), second.as_bytes());
    let whole = argument.as_bytes();
    match word {
        "Q" => message(b'Q', &[whole, b"\0"]),
        "P" => message(b'P', &[first, b"\0", second, b"\0\0\0"]),
        "B" => message(b'B', &[first, b"\0", second, b"\0\0\0\0\0\0\0"]),
        "DS" | "DP" | "CS" | "CP" => message(word.as_bytes()[0], &[&word.as_bytes()[1..], whole, b"\0"]),
        "E" => {
            let rows: u32 = if second.is_empty() { 0 } else { std::str::from_utf8(second).unwrap().parse().unwrap() };
            message(b'E', &[first, b"\0", &rows.to_be_bytes()])
        }
        "f" => message(b'f', &[whole, b"\0"]),
        "d" => message(b'd', &[whole]),
        "S" | "H" | "c" | "X" | "F" => message(word.as_bytes()[0], &[]),
        _ => panic!("no word of a client: {word:?}"),
    }
}

fn server_message(word: &str, argument: &str) -> Vec<u8> {
    let whole = argument.as_bytes();
    let tag = word.as_bytes()[0];
    match word {
        "1" | "2" | "3" | "n" | "s" | "I" | "c" => message(tag, &[]),
        "t" | "T" => message(tag, &[b"\0\0"]),
        "V" => message(tag, &[b"\xff\xff\xff\xff"]),
        "G" | "H" | "W" => message(tag, &[b"\0\0\0"]),
        "D" => message(tag, &[b"\0\x01", &u32::try_from(whole.len()).unwrap().to_be_bytes(), whole]),
        "d" | "Z" => message(tag, &[whole]),
        "C" => message(tag, &[whole, b"\0"]),
        "S" => {
            let (name, value) = argument.split_once('=').unwrap();
            message(tag, &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"])
        }
        "A" => {
            let (channel, payload) = pair(argument);
            message(tag, &[b"\0\0\0\x07", channel.as_bytes(), b"\0", payload.as_bytes(), b"\0"])
        }
        "E" | "N" => report(tag, argument),
        _ => panic!("no word of a server: {word:?}"),
    }
}

/// ErrorResponse or NoticeResponse: `[FATAL ]code[/routine] text`.
fn report(tag: u8, argument: &str) -> Vec<u8> {
    let (severity, rest) = match (argument.strip_prefix("FATAL "), tag) {
        (Some(rest), _) => ("FATAL", rest),
        (None, b'E') => ("ERROR", argument),
        (None, _) => ("WARNING", argument),
    };
    let (code, text) = rest.split_once(' ').unwrap();
    let (code, routine) = code.split_once('/').unwrap_or((code, ""));
    let mut body = format!("S{severity}\0V{severity}\0C{code}\0M{text}\0");
    if !routine.is_empty() {
        body += &format!("R{routine}\0");
    }
    message(tag, &[body.as_bytes(), b"\0"])
}

fn show(mut bytes: &[u8], word: fn(u8, &[u8]) -> String) -> String {
    let mut shown = Vec::new();
    while let Some(header) = bytes.first_chunk::<5>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let Some(body) = bytes.get(5..1 + length) else { break };
        shown.push(word(header[0], body));
        bytes = &bytes[1 + length..];
    }
    if !bytes.is_empty() {
        shown.push(format!("{}…", char::from(bytes[0])));
    }
    shown.join(" ")
}

fn with(word: impl std::fmt::Display, argument: &str) -> String {
    if argument.is_empty() { word.to_string() } else { format!("{word}({argument})") }
}

fn texts(body: &[u8]) -> Vec<String> {
    body.split(|b| *b == 0).map(|t| String::from_utf8_lossy(t).into_owned()).collect()
}

fn client_word(tag: u8, body: &[u8]) -> String {
    let texts = texts(body);
    let word = char::from(tag);
    match tag {
        b'Q' | b'f' => format!("{word}({})", texts[0]),
        b'd' => format!("d({})", texts[0]),
        b'P' | b'B' => format!("{word}({},{})", texts[0], texts[1]),
        b'D' | b'C' => format!("{word}{}({})", char::from(body[0]), &texts[0][1..]),
        b'E' => {
            let rows = u32::from_be_bytes(*body.last_chunk().unwrap());
            with(word, &if rows == 0 { texts[0].clone() } else { format!("{},{rows}", texts[0]) })
        }
        _ => word.to_string(),
    }
}

fn server_word(tag: u8, body: &[u8]) -> String {
    let word = char::from(tag);
    match tag {
        b'D' => with(word, &String::from_utf8_lossy(body.get(6..).unwrap_or(b""))),
        b'C' => with(word, &texts(body)[0]),
        b'd' | b'Z' => with(word, &String::from_utf8_lossy(body)),
        b'S' => with(word, &texts(body)[..2].join("=")),
        b'A' => with(word, texts(&body[4..])[..2].join(",").trim_end_matches(',')),
        b'E' | b'N' => with(word, &reported(&texts(body))),
        _ => word.to_string(),
    }
}

fn reported(fields: &[String]) -> String {
    let field = |kind| fields.iter().find_map(|f| f.strip_prefix(kind)).unwrap_or("");
    let fatal = if field('V') == "FATAL" { "FATAL " } else { "" };
    let routine = field('R');
    let slash = if routine.is_empty() { "" } else { "/" };
    format!("{fatal}{}{slash}{routine} {}", field('C'), field('M'))
}

#[test]
fn words_and_bytes_go_both_ways() {
    for text in
        ["Q(select f(1), 'x') P(s1,select 1) B(p,s1) B(,) DS(s1) DP() CS(s1) E E(p) E(p,2) S H d(1) c f(no) X", "P(,) Q()"]
    {
        let shown = show_client(&from_client(text));
        assert_eq!(shown, text);
    }
    let text = "1 2 3 n t T D(7) C(SELECT 1) s I V G H W d(1) c Z(I) S(a=b) A(x) N(00000 hey) E(42P05 no) E(FATAL 57P01 x)";
    assert_eq!(show_server(&from_server(text)), text);
    assert_eq!(show_server(&from_server("E(0A000/R x)")), "E(0A000/R x)");
    assert_eq!(show_server(b"Z\0\0\0\x05"), "Z…");
}
