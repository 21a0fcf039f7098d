//! A secret of this process, from which come the salts of users: the same for a known and an unknown one.

use ring::rand::{SecureRandom, SystemRandom};

use crate::auth::keys::{ITERATIONS_DEFAULT, KEY_BYTES, ServerKey, StoredKey, hmac};
use crate::auth::verifier::Verifier;

/// As many as PostgreSQL's.
pub const SALT_BYTES: usize = 16;

/// Lives as long as the process: a user's salt may not change between logins, or an unknown user would show.
pub struct ProcessSecret(zeroize::Zeroizing<[u8; KEY_BYTES]>);

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

impl ProcessSecret {
    pub fn generate() -> Result<Self, NoRandomness> {
        random().map(|bytes| Self(zeroize::Zeroizing::new(bytes)))
    }

    /// The salt this user is told, whether or not there is such a user.
    pub fn salt(&self, project: &str, user: &str) -> [u8; SALT_BYTES] {
        let digest = self.digest(b"salt", project, user);
        std::array::from_fn(|i| digest[i])
    }

    /// A verifier for somebody unknown: the exchange runs as with any other, and nothing fits it.
    pub fn mock_verifier(&self, project: &str, user: &str) -> Verifier {
        Verifier {
            salt: self.salt(project, user).to_vec(),
            iterations: ITERATIONS_DEFAULT,
            stored_key: StoredKey::new(self.digest(b"stored", project, user)),
            server_key: ServerKey::new(self.digest(b"server", project, user)),
        }
    }

    /// Names have no NUL in them, so that no two pairs of them make the same message.
    fn digest(&self, purpose: &[u8], project: &str, user: &str) -> [u8; KEY_BYTES] {
        hmac(&*self.0, &[purpose, project.as_bytes(), user.as_bytes()].join(&0))
    }
}

impl std::fmt::Debug for ProcessSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProcessSecret([redacted])")
    }
}

impl std::fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the operating system gave no random bytes")
    }
}

impl std::error::Error for NoRandomness {}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_are_stable_in_one_process_and_differ_between_users_projects_and_processes() {
        let (one, other) = (ProcessSecret::generate().unwrap(), ProcessSecret::generate().unwrap());
        assert_eq!(one.salt("p", "u"), one.salt("p", "u"));
        assert_eq!(one.mock_verifier("p", "u"), one.mock_verifier("p", "u"));
        for salt in [one.salt("p", "v"), one.salt("q", "u"), one.salt("", "pu"), other.salt("p", "u")] {
            assert!(salt != one.salt("p", "u"));
        }
    }
}
