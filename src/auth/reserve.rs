//! Random bytes in stock.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, Zeroizing};

use super::process_secret::NoRandomness;

/// Fetched at once, in bytes: one system call for the keys of some thirty logins.
const STOCK_BYTES: usize = 256;

/// The system's own random bytes, fetched ahead. Each is given out once, and is not here any more then: whoever reads this memory
/// learns nothing of what was given out.
#[derive(Default)]
pub struct Reserve(Zeroizing<Vec<u8>>);

impl Reserve {
    /// # Errors
    /// The system gives none; `out` is as it was.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<(), NoRandomness> {
        if self.0.len() < out.len() {
            let mut fresh = Zeroizing::new(vec![0; STOCK_BYTES.max(out.len())]);
            SystemRandom::new().fill(&mut fresh).map_err(|_| NoRandomness)?;
            self.0 = fresh;
        }
        let taken = self.0.len() - out.len();
        out.copy_from_slice(&self.0[taken..]);
        self.0[taken..].zeroize();
        self.0.truncate(taken);
        Ok(())
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reserve(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_byte_is_given_out_once_and_forgotten() {
        let mut reserve = Reserve::default();
        let mut given = HashSet::new();
        for _ in 0..4 * STOCK_BYTES {
            let mut key = [0; 8];
            reserve.fill(&mut key).unwrap();
            assert!(given.insert(key), "given out before");
            assert!(!reserve.0.windows(8).any(|left| left == key));
        }
        let mut long = vec![0; 2 * STOCK_BYTES];
        reserve.fill(&mut long).unwrap();
        assert_ne!(long[..STOCK_BYTES], long[STOCK_BYTES..]);
        assert!(reserve.0.is_empty());
    }
}
