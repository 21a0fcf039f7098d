//! Positions in texts: an error's counts the characters of what the server got, which may have another name in place of the
//! client's.

/// One name in place of another, in the text that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// Characters before it.
    at: u32,
    /// How many more it has than the client's.
    by: i32,
}

impl Shift {
    /// `before` is what was sent before the name.
    pub fn new(before: &[u8], written: &[u8], sent: &[u8]) -> Self {
        let by = characters(sent) as i64 - characters(written) as i64;
        // A message has at most 1 GiB.
        Self { at: characters(before) as u32, by: by as i32 }
    }
}

/// The position in the client's text for one in what was sent; both begin at 1. `None`: it is the same.
pub fn in_clients_text(position: u32, shifts: &[Shift]) -> Option<u32> {
    let before = shifts.iter().filter(|shift| shift.at < position.saturating_sub(1));
    let by: i64 = before.map(|shift| i64::from(shift.by)).sum();
    u32::try_from(i64::from(position) - by).ok().filter(|moved| *moved > 0 && by != 0)
}

/// Of another encoding than UTF-8, those of one byte each.
fn characters(text: &[u8]) -> usize {
    std::str::from_utf8(text).map_or(text.len(), |text| text.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_a_name_moves_by_what_that_is_longer() {
        let (sent, one) = ("execute sidepool_1(no)", Shift::new(b"execute ", b"s1", b"sidepool_1"));
        let position = |what: &str| sent.find(what).unwrap() as u32 + 1;
        assert_eq!(in_clients_text(position("no"), &[one]), Some(12));
        assert_eq!(in_clients_text(position("sidepool_1"), &[one]), None);
        assert_eq!(in_clients_text(1, &[one]), None);
        let two = Shift::new(b"execute sidepool_1; execute ", b"a_long_name", b"sidepool_2");
        assert_eq!(in_clients_text(40, &[one, two]), Some(33));
        assert_eq!(in_clients_text(u32::MAX, &[one]), Some(u32::MAX - 8));
    }

    #[test]
    fn characters_count_and_not_their_bytes() {
        let shift = Shift::new("/* \u{e4} */ execute ".as_bytes(), "\"\u{e4}\u{f6}\"".as_bytes(), b"sidepool_1");
        assert_eq!(shift, Shift { at: 16, by: 6 });
        assert_eq!(Shift::new(b"/* \xe4 */", b"s", b"s"), Shift { at: 7, by: 0 });
    }
}
