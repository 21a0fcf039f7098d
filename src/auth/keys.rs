//! SCRAM's keys (RFC 5802 §3) and how they come from a password.
//!
//! Wiped when dropped, never shown, compared in constant time.

use std::fmt;
use std::num::NonZeroU32;

use pgwire::api::auth::sasl::scram::gen_salted_password;
use ring::{digest, hmac};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The output of SHA-256, which every key here is.
pub const KEY_BYTES: usize = 32;
/// PostgreSQL's default (`scram_iterations`), a millisecond of one core.
pub const ITERATIONS_DEFAULT: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");
/// More than anybody sets: two or three seconds of one core, so that no server and no verifier can ask for hours.
pub const ITERATIONS_MAX: u32 = 10_000_000;

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Zeroizing<[u8; KEY_BYTES]>);

        impl $name {
            pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
                Self(Zeroizing::new(bytes))
            }

            /// `None` unless it has [`KEY_BYTES`].
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::new)
            }

            /// The key itself. Whoever calls this may not log it.
            pub fn reveal(&self) -> &[u8; KEY_BYTES] {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(other.0.as_slice()).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }
    };
}

key!(
    /// With it anybody can log in as the user whose verifier it fits: as good as the password.
    ClientKey
);
key!(
    /// The hash of the [`ClientKey`], by which a server knows a client.
    StoredKey
);
key!(
    /// By which a client knows its server.
    ServerKey
);

/// What stands in for a password in a SCRAM login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramKeys {
    pub client: ClientKey,
    pub server: ServerKey,
}

impl ScramKeys {
    /// Takes a millisecond for every 4096 iterations: not for a data worker.
    pub fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let salted = Zeroizing::new(gen_salted_password(password, salt, iterations.get() as usize));
        Self { client: ClientKey::new(hmac(&salted, b"Client Key")), server: ServerKey::new(hmac(&salted, b"Server Key")) }
    }
}

impl ClientKey {
    pub fn stored(&self) -> StoredKey {
        StoredKey::new(sha256(self.reveal()))
    }
}

/// Exclusive or: of a proof and a signature it is the key, of a key and a signature the proof.
pub(crate) fn xor(left: &[u8; KEY_BYTES], right: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    std::array::from_fn(|i| left[i] ^ right[i])
}

pub(crate) fn hmac(key: &[u8], message: &[u8]) -> [u8; KEY_BYTES] {
    fixed(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref())
}

fn sha256(message: &[u8]) -> [u8; KEY_BYTES] {
    fixed(digest::digest(&digest::SHA256, message).as_ref())
}

fn fixed(output: &[u8]) -> [u8; KEY_BYTES] {
    output.try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_by_value_and_never_shown() {
        let key = ServerKey::new([0xab; KEY_BYTES]);
        assert_eq!(key, ServerKey::from_slice(&[0xab; KEY_BYTES]).unwrap());
        assert!(key != ServerKey::new([0xac; KEY_BYTES]));
        assert_eq!(format!("{key:?}"), "ServerKey([redacted])");
        assert!(ClientKey::from_slice(&[0; 31]).is_none());
    }

    #[test]
    fn passwords_are_normalized_and_odd_ones_taken_as_they_are() {
        let derive = |password: &str| ScramKeys::derive(password, b"salt", NonZeroU32::MIN);
        // SASLprep: a no-break space is a space, a soft hyphen nothing.
        assert_eq!(derive("a\u{a0}b"), derive("a b"));
        assert_eq!(derive("I\u{ad}X"), derive("IX"));
        // A control character is prohibited there; PostgreSQL then takes the password raw.
        assert!(derive("a\u{7}") != derive("a"));
    }
}
