//! Messages of a server, and how a test sees them.

use std::fmt;

/// One message, with the length taken off.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl Reply {
    /// A field of an ErrorResponse or NoticeResponse: `C` the SQLSTATE, `M` the message, `S` the severity …
    pub fn field(&self, kind: u8) -> Option<String> {
        let mut fields = self.body.split(|byte| *byte == 0);
        fields.find_map(|field| field.strip_prefix(&[kind])).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The values of a DataRow as text; `None` is NULL.
    pub fn values(&self) -> Vec<Option<String>> {
        let mut rest = self.body.get(2..).unwrap_or_default();
        let mut values = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(i32::from_be_bytes(*length)).ok();
            let (value, after) = after.split_at_checked(length.unwrap_or(0)).expect("a server's rows are whole");
            values.push(length.map(|_| String::from_utf8_lossy(value).into_owned()));
            rest = after;
        }
        values
    }

    /// With all that a client can tell apart, but not what differs from run to run (pids, lines of PostgreSQL's sources).
    pub fn in_full(&self) -> String {
        let tag = char::from(self.tag);
        match self.tag {
            b'E' | b'N' => {
                let fields: Vec<String> = b"SCMDHP".iter().filter_map(|kind| self.field(*kind)).collect();
                format!("{tag}({})", fields.join(" | "))
            }
            b'D' => {
                let values: Vec<String> = self.values().into_iter().map(|value| value.unwrap_or_else(|| "NULL".into())).collect();
                format!("D({})", values.join(","))
            }
            b'T' => format!("T({})", self.columns().join(",")),
            b'd' => format!("d({})", self.body.escape_ascii()),
            b't' => format!("t({})", self.body.escape_ascii()),
            _ => self.to_string(),
        }
    }

    /// The names in a RowDescription.
    pub fn columns(&self) -> Vec<String> {
        let mut rest = self.body.get(2..).unwrap_or_default();
        let mut names = Vec::new();
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
            // Table, column, type, length, modifier, format: 18 bytes.
            rest = rest.get(end + 19..).unwrap_or_default();
        }
        names
    }

    fn texts(&self, from: usize) -> Vec<String> {
        let body = self.body.get(from..).unwrap_or_default();
        let body = body.strip_suffix(b"\0").unwrap_or(body);
        body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }
}

/// The tag, and in brackets the little that decides what follows: `C(SELECT 1)`, `Z(I)`, `E(42P01)`, `S(TimeZone=UTC)`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = char::from(self.tag);
        match self.tag {
            b'C' => write!(f, "C({})", self.texts(0).join(" ")),
            b'Z' => write!(f, "Z({})", self.body.escape_ascii()),
            b'E' | b'N' => write!(f, "{tag}({})", self.field(b'C').unwrap_or_default()),
            b'S' => write!(f, "S({})", self.texts(0).join("=")),
            b'A' => write!(f, "A({})", self.texts(4).join(",")),
            b'R' => write!(f, "R({})", self.body.get(3).copied().unwrap_or_default()),
            _ => write!(f, "{tag}"),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_full())
    }
}

/// `T D C(SELECT 1) Z(I)`.
pub fn show(replies: &[Reply]) -> String {
    replies.iter().map(Reply::to_string).collect::<Vec<_>>().join(" ")
}

/// The same, with [`Reply::in_full`].
pub fn show_in_full(replies: &[Reply]) -> String {
    replies.iter().map(Reply::in_full).collect::<Vec<_>>().join(" ")
}
