//! How long something takes, in buckets.

use super::Sole;

/// Upper ends of the buckets, in µs; a last one has no end.
pub const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Two additions for each observation and no allocation; the histogram of the `metrics` crate keeps every single value until
/// somebody comes to collect them. One at a time observes; others may read.
#[derive(Debug, Default)]
pub struct Histogram {
    sum_ns: Sole,
    counts: [Sole; BOUNDS_US.len() + 1],
}

/// What was observed so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Observations up to each bound, all of the shorter ones among them.
    pub up_to: [u64; BOUNDS_US.len()],
    pub count: u64,
    pub sum_seconds: f64,
}

impl Histogram {
    #[inline]
    pub fn observe_ns(&self, ns: u64) {
        let bucket = BOUNDS_US.iter().position(|bound| ns < (bound + 1) * 1000).unwrap_or(BOUNDS_US.len());
        self.counts[bucket].one();
        self.sum_ns.add(ns);
    }

    /// All that was observed by another, too.
    pub(super) fn absorb(&self, other: &Self) {
        self.counts.iter().zip(&other.counts).for_each(|(to, from)| to.add(from.get()));
        self.sum_ns.add(other.sum_ns.get());
    }

    pub fn observed(&self) -> Observed {
        let mut count = 0;
        let up_to = std::array::from_fn(|at| {
            count += self.counts[at].get();
            count
        });
        count += self.counts[BOUNDS_US.len()].get();
        Observed { up_to, count, sum_seconds: self.sum_ns.get() as f64 / 1e9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_in_its_bucket_and_all_above() {
        let histogram = Histogram::default();
        for us in [100, 101, 20_000_000] {
            histogram.observe_ns(us * 1000);
        }
        let observed = histogram.observed();
        assert_eq!(observed.up_to[..3], [1, 2, 2]);
        assert_eq!((observed.up_to[BOUNDS_US.len() - 1], observed.count), (2, 3));
        assert!((observed.sum_seconds - 20.000_201).abs() < 1e-9, "{}", observed.sum_seconds);
    }
}
