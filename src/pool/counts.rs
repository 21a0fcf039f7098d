//! What there is in a pool at one moment.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Health, Pool};

/// Whether an upstream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// There are connections to it.
    Up,
    /// It let nobody in.
    Down,
    /// Nobody has had a reason to find out.
    Unknown,
}

/// How many of each a pool has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub idle: usize,
    pub open: usize,
    pub opening: usize,
    /// Kept by clients for state of theirs, in a transaction or between two.
    pub held: usize,
    pub waiting: usize,
    /// How long the first in the queue has been there.
    pub longest_wait: Duration,
    pub clients: usize,
}

impl Pool {
    /// What is known of the upstream by the last attempts to log in, without asking it.
    pub fn reach(&self) -> Reach {
        match &self.state.lock().health {
            Health::Down { .. } => Reach::Down,
            Health::Up if self.open_count() > 0 => Reach::Up,
            Health::Up => Reach::Unknown,
        }
    }

    /// Counts for logs and metrics.
    pub fn counts(&self) -> Counts {
        let state = self.state.lock();
        // Whoever left has its place until the next sweep.
        let mut waiting = state.waiters.iter().filter(|waiter| waiter.ticket.is_waiting());
        let longest_wait = waiting.next().map(|first| first.since.elapsed());
        Counts {
            idle: state.idle.len(),
            open: self.open_count(),
            opening: state.opening,
            held: state.held.len(),
            waiting: usize::from(longest_wait.is_some()) + waiting.count(),
            longest_wait: longest_wait.unwrap_or_default(),
            clients: self.clients.load(Ordering::Relaxed),
        }
    }
}
