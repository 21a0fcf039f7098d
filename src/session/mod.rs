//! One client: from its first byte on.

pub mod login;
