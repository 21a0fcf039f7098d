//! Keys that were derived from passwords, so that a password costs its PBKDF2 once and not at every login.

use std::collections::HashMap;
use std::num::NonZeroU32;

use parking_lot::Mutex;

use crate::auth::keys::{KEY_BYTES, ScramKeys, hmac};
use crate::auth::process_secret::{NoRandomness, random};

/// Far more than the secrets of one configuration; a server that invents a new salt each time cannot fill memory.
const ENTRIES_MAX: usize = 1024;

/// Found by a keyed hash of password, salt and iterations: the passwords themselves are not kept here.
pub struct KeyCache {
    secret: zeroize::Zeroizing<[u8; KEY_BYTES]>,
    entries: Mutex<HashMap<[u8; KEY_BYTES], ScramKeys>>,
}

impl KeyCache {
    pub fn new() -> Result<Self, NoRandomness> {
        Ok(Self { secret: random().map(zeroize::Zeroizing::new)?, entries: Mutex::default() })
    }

    pub fn get(&self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Option<ScramKeys> {
        self.entries.lock().get(&self.index(password, salt, iterations)).cloned()
    }

    /// From the cache, or derived and kept: up to [`ScramKeys::derive`]'s time, so not for a data worker.
    pub fn get_or_derive(&self, password: &str, salt: &[u8], iterations: NonZeroU32) -> ScramKeys {
        if let Some(known) = self.get(password, salt, iterations) {
            return known;
        }
        let keys = ScramKeys::derive(password, salt, iterations);
        let mut entries = self.entries.lock();
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(self.index(password, salt, iterations), keys.clone());
        keys
    }

    fn index(&self, password: &str, salt: &[u8], iterations: NonZeroU32) -> [u8; KEY_BYTES] {
        let mut message = zeroize::Zeroizing::new(Vec::with_capacity(12 + salt.len() + password.len()));
        message.extend(iterations.get().to_be_bytes());
        message.extend((salt.len() as u64).to_be_bytes());
        message.extend(salt);
        message.extend(password.as_bytes());
        hmac(&*self.secret, &message)
    }
}

impl std::fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCache").field("entries", &self.entries.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    #[test]
    fn trap_64_a_password_is_derived_once() {
        let cache = KeyCache::new().unwrap();
        assert_eq!(cache.get("secret", b"salt", ONE), None);
        let keys = cache.get_or_derive("secret", b"salt", ONE);
        assert_eq!(keys, ScramKeys::derive("secret", b"salt", ONE));
        assert_eq!(cache.get("secret", b"salt", ONE), Some(keys));
    }

    #[test]
    fn whatever_differs_is_another_entry() {
        let cache = KeyCache::new().unwrap();
        cache.get_or_derive("secret", b"salt", ONE);
        assert_eq!(cache.get("secre", b"tsalt", ONE), None);
        assert_eq!(cache.get("tsecret", b"sal", ONE), None);
        assert_eq!(cache.get("secret", b"salt", NonZeroU32::new(2).unwrap()), None);
    }

    #[test]
    fn a_server_with_ever_new_salts_does_not_fill_memory() {
        let cache = KeyCache::new().unwrap();
        for salt in 0..2 * ENTRIES_MAX as u32 {
            cache.get_or_derive("secret", &salt.to_be_bytes(), ONE);
        }
        assert!(cache.entries.lock().len() <= ENTRIES_MAX);
    }
}
