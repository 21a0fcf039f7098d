//! Positions in texts: an error's counts the characters of what the server got, which may have another name in place of the
//! client's.

use std::ops::Range;

/// One name in place of another, in the text that was sent; in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    before: u32,
    behind: u32,
    length: u16,
    /// How much longer it is than the client's.
    by: i16,
}

impl Shift {
    /// The client wrote a name, and another was sent in its place, with this before and behind it.
    pub fn new(before: &[u8], written: &[u8], sent: &[u8], behind: &[u8]) -> Self {
        Self::of(characters(before), characters(written), characters(sent), characters(behind))
    }

    /// Of several names of a text, in order: where each stood, and where what was sent in its place stands.
    pub fn all(text: &[u8], sent: &[u8], places: Vec<(Range<usize>, Range<usize>)>) -> Vec<Self> {
        // What stands before each is counted once: a text may have thousands.
        let count = if std::str::from_utf8(sent).is_ok() { characters } else { <[u8]>::len };
        let (whole, mut at, mut before) = (count(sent), 0, 0);
        let shift = |(name, place): (Range<usize>, Range<usize>)| {
            before += count(&sent[at..place.start]);
            at = place.start;
            let length = count(&sent[place]);
            Self::of(before, count(&text[name]), length, whole - before - length)
        };
        places.into_iter().map(shift).collect()
    }

    fn of(before: usize, written: usize, length: usize, behind: usize) -> Self {
        let by = i16::try_from(length).unwrap_or(i16::MAX).saturating_sub(i16::try_from(written).unwrap_or(i16::MAX));
        let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self { before: bounded(before), behind: bounded(behind), length: u16::try_from(length).unwrap_or(u16::MAX), by }
    }

    /// Of these characters before a place, none can be before one in this text: the place is inside the name, or behind the
    /// text's end. It is in the text of the statement that was run.
    fn excludes(&self, at: u64) -> bool {
        let (before, length, behind) = (u64::from(self.before), u64::from(self.length), u64::from(self.behind));
        (before + 1..before + length).contains(&at) || at > before + length + behind
    }
}

/// The position in the client's text for one in what was sent; both begin at 1. `None`: it is the same, or one in another text.
pub fn in_clients_text(position: u32, shifts: &[Shift]) -> Option<u32> {
    let at = u64::from(position.checked_sub(1)?);
    let before = shifts.iter().filter(|shift| u64::from(shift.before) < at);
    let by: i64 = before.map(|shift| i64::from(shift.by)).sum();
    let is_same = by == 0 || shifts.iter().any(|shift| shift.excludes(at));
    u32::try_from(i64::from(position) - by).ok().filter(|moved| *moved > 0 && !is_same)
}

/// Of another encoding than UTF-8, those of one byte each.
fn characters(text: &[u8]) -> usize {
    std::str::from_utf8(text).map_or(text.len(), |text| text.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_names_each_shift_is_what_it_is_alone() {
        for other in ["\u{e4}", "a"].map(str::as_bytes).into_iter().chain([&b"\xff"[..]]) {
            let text = [b"execute s1; '", other, b"'; execute a_long_name; no"].concat();
            let sent = [b"execute sidepool_1; '", other, b"'; execute sidepool_2; no"].concat();
            let at = |text: &[u8], name: &[u8]| {
                let start = memchr::memmem::find(text, name).unwrap();
                start..start + name.len()
            };
            let places =
                vec![(at(&text, b"s1"), at(&sent, b"sidepool_1")), (at(&text, b"a_long_name"), at(&sent, b"sidepool_2"))];
            let (first, second) = (&places[0].1, &places[1].1);
            let count = |text: &[u8]| if other == b"\xff" { text.len() } else { characters(text) };
            let alone = |place: &Range<usize>, written: usize| {
                Shift::of(count(&sent[..place.start]), written, 10, count(&sent[place.end..]))
            };
            let expected = [alone(first, 2), alone(second, 11)];
            assert_eq!(Shift::all(&text, &sent, places.clone()), expected);
        }
    }

    #[test]
    fn what_stands_behind_a_name_moves_by_what_that_is_longer() {
        let sent = "execute sidepool_1(no); execute sidepool_2; no";
        let position = |what: &str| sent.find(what).unwrap() as u32 + 1;
        let shift = |nth: usize, written: &[u8]| {
            let (at, end) = (sent.match_indices("sidepool_").nth(nth).unwrap().0, 10);
            Shift::new(&sent.as_bytes()[..at], written, &sent.as_bytes()[at..at + end], &sent.as_bytes()[at + end..])
        };
        let (one, two) = (shift(0, b"s1"), shift(1, b"a_long_name"));
        assert_eq!(in_clients_text(position("(no"), &[one]), Some(11));
        assert_eq!(in_clients_text(position("sidepool_1"), &[one]), None);
        assert_eq!(in_clients_text(1, &[one]), None);
        assert_eq!(in_clients_text(0, &[one]), None);
        assert_eq!(in_clients_text(position("; no") + 2, &[one, two]), Some(position("; no") + 2 - 8 + 1));
        // At its end, and in the text of what was run.
        assert_eq!(in_clients_text(sent.len() as u32 + 1, &[one]), Some(sent.len() as u32 + 1 - 8));
        for inner in [position("sidepool_1") + 1, position("(no") - 1, sent.len() as u32 + 2, u32::MAX] {
            assert_eq!(in_clients_text(inner, &[one]), None, "{inner}");
        }
    }

    #[test]
    fn characters_count_and_not_their_bytes() {
        let shift =
            Shift::new("/* \u{e4} */ execute ".as_bytes(), "\"\u{e4}\u{f6}\"".as_bytes(), b"sidepool_1", "\u{e4}".as_bytes());
        assert_eq!(shift, Shift { before: 16, behind: 1, length: 10, by: 6 });
        assert_eq!(Shift::new(b"/* \xe4 */", b"s", b"s", b"").before, 7);
        let long = [b'x'; 100_000];
        assert_eq!(Shift::new(b"", &long, b"s", b"").by, 1 - i16::MAX);
    }
}
