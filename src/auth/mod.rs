//! Who is who, without IO and without a clock: verifiers, SCRAM both ways, md5, `user.project`.

pub mod key_cache;
pub mod keys;
pub mod md5;
pub mod process_secret;
pub mod reserve;
pub mod scram;
pub mod username;
pub mod verifier;
