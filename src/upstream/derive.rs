//! PBKDF2 away from the data workers.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::auth::key_cache::KeyCache;
use crate::auth::keys::ScramKeys;
use crate::config::Password;

/// The keys of a password: at once where the cache has them, else computed on a thread for blocking work.
///
/// # Errors
/// Only when the runtime is being shut down.
pub async fn derive_keys(
    cache: &Arc<KeyCache>,
    password: &Password,
    salt: &[u8],
    iterations: NonZeroU32,
) -> io::Result<ScramKeys> {
    if let Some(known) = cache.get(password.reveal(), salt, iterations) {
        return Ok(known);
    }
    let (cache, password, salt) = (cache.clone(), password.clone(), salt.to_vec());
    let derive = move || cache.get_or_derive(password.reveal(), &salt, iterations);
    tokio::task::spawn_blocking(derive).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On one thread that carries data: it is polled, and goes on with others while the keys are made.
    #[tokio::test]
    async fn others_go_on_while_keys_are_made_and_the_second_time_none_are() {
        let (cache, password) = (Arc::new(KeyCache::new().unwrap()), Password::new("secret"));
        let iterations = NonZeroU32::new(20_000).unwrap();
        for expected in ["others", "keys"] {
            let mut keys = std::pin::pin!(derive_keys(&cache, &password, b"salt", iterations));
            let first = tokio::select! {
                biased;
                _ = &mut keys => "keys",
                () = tokio::task::yield_now() => "others",
            };
            assert_eq!(first, expected);
            if first == "others" {
                keys.await.unwrap();
            }
        }
    }
}
