//! What came of a question.

use zeroize::Zeroizing;

use crate::auth::md5::Md5Secret;
use crate::auth::verifier::{Verifier, VerifierError};
use crate::config::Password;
use crate::upstream::intake::Message;
use crate::wire::reader::Reader;

/// What the upstream said of one user.
#[derive(Debug)]
pub enum Answer {
    Role(RoleSecret),
    Nobody(Nobody),
}

/// Against what a role's password is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleSecret {
    Scram(Verifier),
    Md5(Md5Secret),
    /// From a query of one's own.
    Plain(Password),
}

/// Why nobody can log in as this user. For logs: clients are told of a wrong password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nobody {
    /// Or it may not log in.
    Unknown,
    /// Or it has expired.
    NoPassword,
    /// The row is somebody else's.
    Another,
    /// There is more than one row.
    Several,
    Unusable(VerifierError),
}

impl Answer {
    /// From the first DataRow, if there was one, and how many there were.
    pub(super) fn read(user: &str, row: Option<&Message>, rows: usize) -> Option<Self> {
        let Some(row) = row else { return Some(Self::Nobody(Nobody::Unknown)) };
        let [name, secret] = two_values(row.body())?;
        Some(match (name, secret) {
            _ if rows > 1 => Self::Nobody(Nobody::Several),
            // A query that is asked for one user and answers with another does not decide who that is (CVE-2015-6817).
            (name, _) if name != Some(user.as_bytes()) => Self::Nobody(Nobody::Another),
            (_, None | Some(b"")) => Self::Nobody(Nobody::NoPassword),
            (_, Some(secret)) => RoleSecret::parse(secret).map_or_else(|why| Self::Nobody(Nobody::Unusable(why)), Self::Role),
        })
    }
}

impl RoleSecret {
    fn parse(bytes: &[u8]) -> Result<Self, VerifierError> {
        let text = Zeroizing::new(std::str::from_utf8(bytes).map_err(|_| VerifierError::Shape)?.to_owned());
        if let Some(md5) = Md5Secret::parse(&text) {
            return Ok(Self::Md5(md5));
        }
        match text.starts_with("SCRAM-SHA-256$") {
            true => Verifier::parse(&text).map(Self::Scram),
            false => Ok(Self::Plain(Password::new(text.as_str()))),
        }
    }
}

impl std::fmt::Display for Nobody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("the upstream has no such role, or it may not log in"),
            Self::NoPassword => f.write_str("the role has no password, or one that has expired"),
            Self::Another => f.write_str("auth_query answered with another user"),
            Self::Several => f.write_str("auth_query answered with several rows"),
            Self::Unusable(error) => write!(f, "the role's verifier cannot be used: {error}"),
        }
    }
}

/// The values of a DataRow that has just two.
fn two_values(body: &[u8]) -> Option<[Option<&[u8]>; 2]> {
    let mut reader = Reader::new(body);
    if reader.take(2)? != [0, 2] {
        return None;
    }
    let mut value = || match usize::try_from(reader.i32()?) {
        Ok(length) => reader.take(length).map(Some),
        Err(_) => Some(None),
    };
    let values = [value()?, value()?];
    reader.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_apart() {
        assert!(matches!(RoleSecret::parse(b"md59d792a3a8853c2411afb9163d088c036"), Ok(RoleSecret::Md5(_))));
        assert_eq!(RoleSecret::parse(b"hunter2"), Ok(RoleSecret::Plain(Password::new("hunter2"))));
        assert_eq!(RoleSecret::parse(b"md5"), Ok(RoleSecret::Plain(Password::new("md5"))));
        assert!(RoleSecret::parse(b"SCRAM-SHA-256$4096").is_err());
        assert!(RoleSecret::parse(b"\xff").is_err());
    }

    #[test]
    fn rows_of_another_shape_are_none() {
        let row = |values: &[&[u8]]| {
            let mut body = (values.len() as u16).to_be_bytes().to_vec();
            for value in values {
                body.extend((value.len() as u32).to_be_bytes());
                body.extend_from_slice(value);
            }
            body
        };
        assert_eq!(two_values(&row(&[b"a", b""])), Some([Some(&b"a"[..]), Some(&b""[..])]));
        assert_eq!(two_values(&[&[0, 2][..], &[255; 8]].concat()), Some([None, None]));
        assert_eq!(two_values(&row(&[b"a"])), None);
        assert_eq!(two_values(&row(&[b"a", b"b", b"c"])), None);
        let whole = row(&[b"ab", b"cd"]);
        for cut in 0..whole.len() {
            assert_eq!(two_values(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(two_values(&[0, 2, 127, 255, 255, 255]), None, "a length is not believed");
    }
}
