//! Durations and sizes as people write them: `500ms`, `5min`, `64KiB`, `1MB`.
//!
//! The names of the time units are PostgreSQL's. Sizes differ from its: `kB` and `MB` are powers of ten here and `KiB` and
//! `MiB` powers of two, because `1MB` meaning 1 048 576 bytes surprises everybody who does not know `postgresql.conf`.

use std::time::Duration;

/// Largest first: the canonical form takes the first unit that divides.
const DURATION_UNITS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

const SIZE_UNITS: &[(&str, u64)] =
    &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000), ("B", 1)];

/// `30s`, `500ms`, `5min`, `1h`, `1d`, and `0` without a unit. `None` for everything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, DURATION_UNITS).map(Duration::from_millis)
}

/// The shortest form [`parse_duration`] reads back as the same; less than a millisecond is cut off.
pub fn format_duration(duration: Duration) -> String {
    format(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATION_UNITS)
}

/// Bytes: `16MiB`, `64KiB`, `1MB`, `100B`, and `0` without a unit. `None` for everything else.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, SIZE_UNITS)
}

/// The shortest form [`parse_size`] reads back as the same.
pub fn format_size(bytes: u64) -> String {
    format(bytes, SIZE_UNITS)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        // A bare number would be seconds to one reader and milliseconds to the next; zero is zero in both.
        return (number == 0).then_some(0);
    }
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor)
}

fn format(amount: u64, units: &[(&str, u64)]) -> String {
    let divides = units.iter().find(|(_, factor)| amount.is_multiple_of(*factor));
    match divides {
        Some((unit, factor)) if amount > 0 => format!("{}{unit}", amount / factor),
        _ => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        let read = |text| parse_duration(text).map(|d| d.as_millis());
        for (text, ms) in
            [("0", 0), ("0s", 0), ("500ms", 500), ("30s", 30_000), ("5min", 300_000), ("1h", 3_600_000), ("2d", 172_800_000)]
        {
            assert_eq!(read(text), Some(ms), "{text}");
        }
        assert_eq!(read(" 30 S "), Some(30_000));
        for text in
            ["", "s", "30", "1.5s", "-1s", "+1s", "1h30min", "30 s s", "1m", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [("0", 0), ("64KiB", 65_536), ("1MB", 1_000_000), ("16MiB", 16 << 20), ("1kb", 1_000), ("7B", 7)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "64", "64K", "1.5MB", "-1B", "18446744073709551615GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn the_canonical_form_takes_the_largest_unit_that_divides() {
        let written = |ms| format_duration(Duration::from_millis(ms));
        assert_eq!([written(0), written(1500), written(60_000), written(90_000)], ["0", "1500ms", "1min", "90s"]);
        assert_eq!([format_size(65_536), format_size(1_000_000), format_size(1_001)], ["64KiB", "1MB", "1001B"]);
    }

    proptest! {
        #[test]
        fn durations_come_back_as_they_were(ms: u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }

        #[test]
        fn sizes_come_back_as_they_were(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_panics(text in "\\PC*", mixed in "[0-9]{0,30} ?[a-zA-Zµé]{0,4}") {
            for text in [&text, &mixed] {
                let _ = (parse_duration(text), parse_size(text));
            }
        }
    }
}
