//! Cancel keys, and the process ids that go with them.

/// Length of the cancel keys we give to clients that speak protocol 3.2, in bytes; 3.0 has room for four.
pub(super) const LONG_KEY_BYTES: usize = 32;
pub(super) const SHORT_KEY_BYTES: usize = 4;
pub(super) const PID_BYTES: usize = 4;

/// What a cancel request must show besides the process id.
pub(super) enum Key {
    Short([u8; SHORT_KEY_BYTES]),
    /// Of the few that speak protocol 3.2.
    Long(Box<[u8; LONG_KEY_BYTES]>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(key) => key,
            Self::Long(key) => &**key,
        }
    }
}

/// Positive, as a process id is.
pub(super) fn made_up_pid(random: [u8; PID_BYTES]) -> u32 {
    u32::from_be_bytes(random) & 0x7fff_ffff
}
