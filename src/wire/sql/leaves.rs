//! Kinds of session state.

use std::ops::{BitOr, BitOrAssign, Not};

/// Kinds of session state a server may carry for its owner, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaves(u16);

impl Leaves {
    pub const NOTHING: Self = Self(0);
    /// SET, set_config, SET ROLE, SET SESSION AUTHORIZATION, of parameters that the server does not report.
    pub const SETTINGS: Self = Self(1);
    /// SQL-level PREPARE.
    pub const STATEMENTS: Self = Self(1 << 1);
    /// Temporary tables and whatever else lives in pg_temp.
    pub const TEMP: Self = Self(1 << 2);
    pub const LISTEN: Self = Self(1 << 3);
    /// Session-level advisory locks.
    pub const LOCKS: Self = Self(1 << 4);
    /// Cursors WITH HOLD.
    pub const CURSORS: Self = Self(1 << 5);
    /// What currval and lastval return.
    pub const SEQUENCES: Self = Self(1 << 6);
    /// Whatever functions did that the text does not show.
    pub const HIDDEN: Self = Self(1 << 7);
    /// LOAD: nothing takes a library out again.
    pub const LIBRARY: Self = Self(1 << 8);
    /// setseed: nothing tells what the next random number would be.
    pub const SEED: Self = Self(1 << 9);
    /// Not state, but a reader of it: currval or lastval was called.
    pub const CURRVAL: Self = Self(1 << 10);
    /// Not state, but the way back from it: RESET, SET … TO DEFAULT. The client's startup parameters are its defaults.
    pub const RESETS: Self = Self(1 << 11);
    /// Not state, but a change or a reader of it: channels are listened to, or not any more, or asked for.
    pub const CHANNELS: Self = Self(1 << 12);

    /// What the server can be asked about ([`Probe`](crate::wire::probe)).
    pub const ASKABLE: Self =
        Self(Self::SETTINGS.0 | Self::STATEMENTS.0 | Self::TEMP.0 | Self::LISTEN.0 | Self::LOCKS.0 | Self::CURSORS.0);
    /// What stays with the server until its connection ends.
    pub const INDELIBLE: Self = Self(Self::LIBRARY.0 | Self::SEED.0);
    /// DO, CALL, text that was not scanned: any of it.
    pub const ANYTHING: Self = Self(Self::ASKABLE.0 | Self::SEQUENCES.0 | Self::HIDDEN.0);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::SETTINGS, "settings"),
        (Self::STATEMENTS, "statements prepared in SQL"),
        (Self::TEMP, "temporary tables"),
        (Self::LISTEN, "LISTEN"),
        (Self::LOCKS, "advisory locks"),
        (Self::CURSORS, "cursors WITH HOLD"),
        (Self::SEQUENCES, "currval"),
        (Self::INDELIBLE, "LOAD or setseed"),
    ];

    /// The name of each kind in it, for people.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(kind, _)| self.has(*kind)).map(|(_, name)| name)
    }

    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// Any of `kinds`.
    pub const fn has(self, kinds: Self) -> bool {
        self.0 & kinds.0 != 0
    }

    pub const fn only(self, kinds: Self) -> Self {
        Self(self.0 & kinds.0)
    }

    pub const fn without(self, kinds: Self) -> Self {
        Self(self.0 & !kinds.0)
    }

    pub const fn with(self, kinds: Self) -> Self {
        Self(self.0 | kinds.0)
    }

    pub const fn bits(self) -> u16 {
        self.0
    }

    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

/// For people: what holds a server.
impl std::fmt::Display for Leaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, name) in self.names().enumerate() {
            f.write_str(if at > 0 { ", " } else { "" })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl BitOr for Leaves {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Leaves {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl Not for Leaves {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}
