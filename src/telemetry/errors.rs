//! Errors that clients were told, by class and by whose fault they were.

use super::Count;
use crate::error::Fault;

/// The classes of PostgreSQL's appendix A that are errors, and one for all others (extensions have their own).
const CLASSES: [&str; 42] = [
    "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "25", "26", "27", "28", "2B", "2D",
    "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX",
    "other",
];

const FAULTS: [(Fault, &str); 3] = [(Fault::Client, "client"), (Fault::Server, "server"), (Fault::Pooler, "pooler")];

#[derive(Debug)]
pub struct Errors([[Count; CLASSES.len()]; FAULTS.len()]);

impl Default for Errors {
    fn default() -> Self {
        Self(std::array::from_fn(|_| std::array::from_fn(|_| Count::default())))
    }
}

impl Errors {
    /// `sqlstate` may be anything.
    pub fn count(&self, fault: Fault, sqlstate: &[u8]) {
        let class = sqlstate.get(..2).unwrap_or_default();
        let column = CLASSES.iter().position(|c| c.as_bytes() == class).unwrap_or(CLASSES.len() - 1);
        let row = FAULTS.iter().position(|(f, _)| *f == fault).unwrap_or_default();
        self.0[row][column].one();
    }

    /// Side at fault, class and count of those that there were.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let cells = self
            .0
            .iter()
            .zip(FAULTS)
            .flat_map(|(row, (_, fault))| row.iter().zip(CLASSES).map(move |(count, class)| (fault, class, count.get())));
        cells.filter(|(.., count)| *count > 0)
    }
}

/// Whose fault an error of the pooler's own is, by its SQLSTATE: what a client asked for that cannot be had is the client's;
/// limits, time-outs and what is broken are ours.
pub fn fault_of(sqlstate: &str) -> Fault {
    match sqlstate.get(..2) {
        Some("08" | "0A" | "22" | "25" | "26" | "28" | "3D" | "42" | "54") => Fault::Client,
        _ => Fault::Pooler,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_bounded_whatever_a_server_says() {
        let errors = Errors::default();
        for code in [&b"42P01"[..], b"42601", b"YY123", b"", b"4", b"\xff\xff\xff"] {
            errors.count(Fault::Server, code);
        }
        errors.count(Fault::Pooler, b"53300");
        let counts: Vec<_> = errors.counts().collect();
        assert_eq!(counts, [("server", "42", 2), ("server", "other", 4), ("pooler", "53", 1)]);
    }
}
