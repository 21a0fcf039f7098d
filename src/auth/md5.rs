//! `md5` password authentication, towards servers that still ask for it. Clients are never asked.

use pgwire::api::auth::md5pass::hash_md5_password;

/// The answer to AuthenticationMD5Password: `md5` and 32 hexadecimal digits.
pub fn answer(user: &str, password: &str, salt: [u8; 4]) -> String {
    hash_md5_password(user, password, &salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_postgresql_expects() {
        // md5(md5('secret' || 'ann') || '\x01020304'), computed with md5sum.
        assert_eq!(answer("ann", "secret", [1, 2, 3, 4]), "md59009ce60b9ca97f1e752376843d1309e");
    }
}
