//! Cut-through: what leaves for one side, as one run of the input where that is possible.

use std::ops::Range;

/// Outgoing bytes of one turn. As long as everything that leaves is one stretch of the input, nothing is copied;
/// an insertion or a gap moves what was collected into `held`, a stretch at a time.
#[derive(Debug)]
pub struct Cut<'a> {
    input: &'a [u8],
    /// Behind what is in `held`.
    run: Range<usize>,
    held: &'a mut Vec<u8>,
}

impl<'a> Cut<'a> {
    /// `held` may already hold bytes that must leave first.
    pub fn new(input: &'a [u8], held: &'a mut Vec<u8>) -> Self {
        Self { input, run: 0..0, held }
    }

    /// Lets a stretch of the input through.
    #[inline]
    pub fn forward(&mut self, part: Range<usize>) {
        if self.run.end == part.start {
            self.run.end = part.end;
        } else {
            self.begin(part);
        }
    }

    #[inline(never)]
    fn begin(&mut self, part: Range<usize>) {
        self.settle();
        self.run = part;
    }

    /// Puts bytes of our own at this place.
    pub fn insert(&mut self, bytes: &[u8]) {
        self.settle().extend_from_slice(bytes);
    }

    /// The buffer, with all that was let through so far in it, to append to.
    #[inline(never)]
    pub fn settle(&mut self) -> &mut Vec<u8> {
        if !self.run.is_empty() {
            self.held.extend_from_slice(&self.input[self.run.clone()]);
            self.run.start = self.run.end;
        }
        self.held
    }

    /// What may be written straight from the input; empty where everything is in `held`.
    #[inline]
    pub fn finish(mut self) -> Range<usize> {
        if self.held.is_empty() && !self.run.is_empty() {
            return self.run;
        }
        self.settle();
        0..0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stretch_is_not_copied() {
        let mut held = Vec::new();
        let mut cut = Cut::new(b"abcdef", &mut held);
        cut.forward(1..3);
        cut.forward(3..5);
        assert_eq!(cut.finish(), 1..5);
        assert!(held.is_empty());
    }

    #[test]
    fn gaps_insertions_and_earlier_bytes_keep_their_order() {
        let mut held = b"<".to_vec();
        let mut cut = Cut::new(b"abcdef", &mut held);
        cut.forward(0..2);
        cut.insert(b"+");
        cut.forward(4..6);
        assert_eq!(cut.finish(), 0..0);
        assert_eq!(held, b"<ab+ef");

        let mut held = Vec::new();
        let mut cut = Cut::new(b"abcdef", &mut held);
        cut.forward(0..2);
        cut.forward(3..4);
        assert_eq!(cut.finish(), 0..0);
        assert_eq!(held, b"abd");
    }
}
