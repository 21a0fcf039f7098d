//! `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as `pg_authid.rolpassword` has it: enough to let a client in,
//! not enough to log in with.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::auth::keys::{ITERATIONS_MAX, KEY_BYTES, ScramKeys, ServerKey, StoredKey};

/// The longest salt taken, in bytes; PostgreSQL makes 16.
pub const SALT_BYTES_MAX: usize = 1024;

const PREFIX: &str = "SCRAM-SHA-256$";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    pub salt: Vec<u8>,
    /// At most [`ITERATIONS_MAX`].
    pub iterations: NonZeroU32,
    pub stored_key: StoredKey,
    pub server_key: ServerKey,
}

/// Why a text is no verifier. Says nothing of the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifierError {
    Md5,
    Shape,
    Iterations,
    Salt,
    Key,
}

impl Verifier {
    pub fn parse(text: &str) -> Result<Self, VerifierError> {
        let rest = text.strip_prefix(PREFIX).ok_or_else(|| match is_md5(text) {
            true => VerifierError::Md5,
            false => VerifierError::Shape,
        })?;
        let (salting, keys) = rest.split_once('$').ok_or(VerifierError::Shape)?;
        let (iterations, salt) = salting.split_once(':').ok_or(VerifierError::Shape)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(VerifierError::Shape)?;
        Ok(Self {
            iterations: parse_iterations(iterations).ok_or(VerifierError::Iterations)?,
            salt: parse_salt(salt).ok_or(VerifierError::Salt)?,
            stored_key: decode_key(stored_key).and_then(|key| StoredKey::from_slice(&key)).ok_or(VerifierError::Key)?,
            server_key: decode_key(server_key).and_then(|key| ServerKey::from_slice(&key)).ok_or(VerifierError::Key)?,
        })
    }

    pub fn from_keys(keys: &ScramKeys, salt: &[u8], iterations: NonZeroU32) -> Self {
        Self { salt: salt.to_vec(), iterations, stored_key: keys.client.stored(), server_key: keys.server.clone() }
    }

    /// The text that [`Verifier::parse`] reads. As secret as the verifier.
    pub fn to_text(&self) -> String {
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        let (stored, server) = (encode(self.stored_key.reveal()), encode(self.server_key.reveal()));
        format!("{PREFIX}{}:{}${stored}:{server}", self.iterations, encode(&self.salt))
    }
}

impl fmt::Display for VerifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Md5 => {
                "it is an md5 hash, which a SCRAM login cannot be checked against; \
                 set the password again with password_encryption = 'scram-sha-256'"
            }
            Self::Shape => "it does not read SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>",
            Self::Iterations => "its iteration count is not a number from 1 to 10000000",
            Self::Salt => "its salt is not base64 of 1 to 1024 bytes",
            Self::Key => "its keys are not base64 of 32 bytes each",
        })
    }
}

impl std::error::Error for VerifierError {}

pub(crate) fn parse_iterations(text: &str) -> Option<NonZeroU32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<NonZeroU32>().ok().filter(|count| digits && count.get() <= ITERATIONS_MAX)
}

pub(crate) fn parse_salt(text: &str) -> Option<Vec<u8>> {
    // Base64 has four characters for three bytes: nothing longer is even decoded.
    let short = text.len() <= SALT_BYTES_MAX.div_ceil(3) * 4;
    let salt = short.then(|| STANDARD.decode(text).ok())??;
    (1..=SALT_BYTES_MAX).contains(&salt.len()).then_some(salt)
}

fn decode_key(text: &str) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    (text.len() <= KEY_BYTES * 2).then(|| STANDARD.decode(text).ok())?.map(zeroize::Zeroizing::new)
}

fn is_md5(text: &str) -> bool {
    text.strip_prefix("md5").is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 7677's example: the password is `pencil`.
    const TEXT: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn a_password_makes_the_verifier_postgresql_would_make() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let iterations = NonZeroU32::new(4096).unwrap();
        let keys = ScramKeys::derive("pencil", &salt, iterations);
        assert_eq!(Verifier::from_keys(&keys, &salt, iterations).to_text(), TEXT);
        assert_eq!(Verifier::parse(TEXT).unwrap().to_text(), TEXT);
    }

    #[test]
    fn other_iteration_counts_are_taken_up_to_a_bound() {
        for (count, taken) in [("1", true), ("600000", true), ("10000000", true), ("10000001", false), ("0", false)] {
            assert_eq!(Verifier::parse(&TEXT.replace("4096", count)).is_ok(), taken, "{count}");
        }
        for count in ["", "+1", "-1", "1e3", " 1", "99999999999"] {
            assert_eq!(Verifier::parse(&TEXT.replace("4096", count)), Err(VerifierError::Iterations), "{count}");
        }
    }

    #[test]
    fn trap_67_an_md5_hash_is_refused_by_name() {
        assert_eq!(Verifier::parse(&format!("md5{}", "0a".repeat(16))), Err(VerifierError::Md5));
        assert_eq!(Verifier::parse(&format!("md5{}", "0a".repeat(17))), Err(VerifierError::Shape));
    }

    #[test]
    fn broken_texts_say_where() {
        for (text, error) in [
            ("", VerifierError::Shape),
            ("SCRAM-SHA-256$4096", VerifierError::Shape),
            ("SCRAM-SHA-256$4096:!$a:b", VerifierError::Salt),
            ("SCRAM-SHA-256$4096:$a:b", VerifierError::Salt),
            ("SCRAM-SHA-256$4096:YQ==$YQ==:YQ==", VerifierError::Key),
        ] {
            assert_eq!(Verifier::parse(text), Err(error), "{text}");
        }
        let long = STANDARD.encode(vec![0; SALT_BYTES_MAX + 1]);
        assert_eq!(Verifier::parse(&TEXT.replace("W22ZaJ0SNY7soEsUEjb6gQ==", &long)), Err(VerifierError::Salt));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?}", Verifier::parse(TEXT).unwrap());
        assert!(!shown.contains("WG5d8oPm") && shown.contains("redacted"), "{shown}");
    }

    proptest! {
        #[test]
        fn never_panics(text in "(SCRAM-SHA-256\\$)?[0-9:$a-zA-Z=/+]{0,120}") {
            let _ = Verifier::parse(&text);
        }

        #[test]
        fn round_trips(salt in prop::collection::vec(any::<u8>(), 1..40), count in 1u32..=ITERATIONS_MAX, a: [u8; 32], b: [u8; 32]) {
            let iterations = NonZeroU32::new(count).unwrap();
            let verifier = Verifier { salt, iterations, stored_key: StoredKey::new(a), server_key: ServerKey::new(b) };
            prop_assert_eq!(Verifier::parse(&verifier.to_text()), Ok(verifier));
        }
    }
}
