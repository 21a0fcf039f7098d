//! `md5` password authentication: towards servers that still ask for it, and towards clients whose roles have such a secret.

use std::fmt;

use pgwire::api::auth::md5pass::hash_md5_password;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// `md5` and 32 hexadecimal digits.
const TEXT_BYTES: usize = 35;

/// The answer to AuthenticationMD5Password: `md5` and 32 hexadecimal digits.
pub fn answer(user: &str, password: &str, salt: [u8; 4]) -> String {
    hash_md5_password(user, password, &salt)
}

/// A role's md5 secret, as `pg_authid.rolpassword` has it. Whoever has it can log in with it: as good as the password, to a
/// server that asks for md5.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Secret(Zeroizing<String>);

impl Md5Secret {
    /// `None` unless it is just `md5` and 32 hexadecimal digits (trap 67).
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("md5").filter(|_| text.len() == TEXT_BYTES)?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| Self(Zeroizing::new(text.to_ascii_lowercase())))
    }

    /// Whether that is the password of which it was made, for the role of this name; in constant time.
    pub fn is_of(&self, user: &str, password: &str) -> bool {
        let made = Zeroizing::new([password.as_bytes(), user.as_bytes()].concat());
        format!("md5{:x}", md5::compute(&*made)).as_bytes().ct_eq(self.0.as_bytes()).into()
    }

    /// What logs in with it.
    pub fn answer(&self, salt: [u8; 4]) -> String {
        format!("md5{:x}", md5::compute([&self.0.as_bytes()[3..], &salt].concat()))
    }

    /// Whether that is the answer to this salt, all of it and nothing more; in constant time.
    pub fn verify(&self, salt: [u8; 4], answer: &[u8]) -> bool {
        self.answer(salt).as_bytes().ct_eq(answer).into()
    }
}

impl fmt::Debug for Md5Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Secret([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// md5('secret' || 'ann'), computed with md5sum.
    const SECRET: &str = "md59d792a3a8853c2411afb9163d088c036";

    #[test]
    fn the_answer_postgresql_expects() {
        // md5(md5('secret' || 'ann') || '\x01020304'), computed with md5sum.
        assert_eq!(answer("ann", "secret", [1, 2, 3, 4]), "md59009ce60b9ca97f1e752376843d1309e");
    }

    #[test]
    fn a_stored_secret_answers_as_its_password_does() {
        let inner = format!("md5{:x}", md5::compute("secretann"));
        let secret = Md5Secret::parse(&inner).unwrap();
        assert_eq!(secret.answer([1, 2, 3, 4]), answer("ann", "secret", [1, 2, 3, 4]));
        assert!(secret.is_of("ann", "secret") && !secret.is_of("ann", "secre") && !secret.is_of("bob", "secret"));
    }

    #[test]
    fn trap_67_an_answer_is_compared_whole() {
        let secret = Md5Secret::parse(SECRET).unwrap();
        let right = secret.answer([9; 4]);
        assert!(secret.verify([9; 4], right.as_bytes()));
        for wrong in [&right[..34], &format!("{right}0"), "", "md5"] {
            assert!(!secret.verify([9; 4], wrong.as_bytes()), "{wrong}");
        }
        assert!(!secret.verify([8; 4], right.as_bytes()));
    }

    #[test]
    fn what_is_no_md5_secret_is_none() {
        for text in ["", "md5", &SECRET[..34], &format!("{SECRET}0"), &SECRET.replace('0', "g"), &SECRET[3..]] {
            assert_eq!(Md5Secret::parse(text), None, "{text}");
        }
        assert!(!format!("{:?}", Md5Secret::parse(SECRET)).contains("9d79"));
    }
}
