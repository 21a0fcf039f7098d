//! What is counted for every transaction.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Histogram, Tally};

/// Of one server connection, counted by whoever holds it and by nobody else, so that to count takes no locked instruction (eleven
/// of them, of 6 to 13 ns each, were in every transaction) and no cache line is fought over by workers.
///
/// In this order in memory: what nearly every transaction counts is on one line of the cache.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Turnover {
    /// See [`Tally`] for what each is.
    pub queries: Sole,
    pub transactions: Sole,
    pub client_bytes: Sole,
    pub server_bytes: Sole,
    pub leases: Sole,
    pub transfers: Sole,
    pub replays: Sole,
    pub client_parses: Sole,
    pub server_parses: Sole,
    pub binds: Sole,
    pub waits: Histogram,
    pub lease_times: Histogram,
}

/// A number that only grows, and that one at a time adds to. Others may read it.
#[derive(Debug, Default)]
pub struct Sole(AtomicU64);

impl Sole {
    #[inline]
    pub fn one(&self) {
        self.add(1);
    }

    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.get() + count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The turnover of a server that is open; dropped, it stays in the pool's tally.
#[derive(Debug)]
pub struct Account {
    turnover: Arc<Turnover>,
    tally: Arc<Tally>,
}

impl Account {
    pub fn new(tally: &Arc<Tally>) -> Self {
        let turnover = Arc::<Turnover>::default();
        tally.open.lock().push(Arc::clone(&turnover));
        Self { turnover, tally: Arc::clone(tally) }
    }
}

impl Deref for Account {
    type Target = Turnover;

    fn deref(&self) -> &Turnover {
        &self.turnover
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Under the lock, so that whoever sums up finds it once.
        let mut open = self.tally.open.lock();
        open.retain(|turnover| !Arc::ptr_eq(turnover, &self.turnover));
        self.tally.absorb(&self.turnover);
    }
}

impl Tally {
    /// With what servers that are open have turned over.
    pub fn sum(&self) -> Self {
        let sum = Self::default();
        let open = self.open.lock();
        sum.add_fixed(self);
        open.iter().for_each(|turnover| sum.absorb(turnover));
        drop(open);
        sum
    }

    fn absorb(&self, turnover: &Turnover) {
        // All of them by name, so that none that is added later is forgotten here.
        let Turnover {
            queries,
            transactions,
            client_bytes,
            server_bytes,
            leases,
            transfers,
            replays,
            client_parses,
            server_parses,
            binds,
            waits,
            lease_times,
        } = turnover;
        self.queries.add(queries.get());
        self.transactions.add(transactions.get());
        self.client_bytes.add(client_bytes.get());
        self.server_bytes.add(server_bytes.get());
        self.leases.add(leases.get());
        self.transfers.add(transfers.get());
        self.replays.add(replays.get());
        self.client_parses.add(client_parses.get());
        self.server_parses.add(server_parses.get());
        self.binds.add(binds.get());
        self.waits.absorb(waits);
        self.lease_times.absorb(lease_times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_turned_over_is_in_the_sum_while_it_is_open_and_afterwards() {
        let tally = Arc::<Tally>::default();
        let (first, second) = (Account::new(&tally), Account::new(&tally));
        first.queries.add(3);
        first.waits.observe_ns(200_000);
        second.queries.one();
        second.binds.one();
        tally.client_bytes.add(5);
        tally.logins.one();
        let told = |tally: &Tally| {
            let sum = tally.sum();
            (sum.queries.get(), sum.binds.get(), sum.client_bytes.get(), sum.logins.get(), sum.waits.observed().count)
        };
        assert_eq!(told(&tally), (4, 1, 5, 1, 1));
        drop(first);
        assert_eq!(told(&tally), (4, 1, 5, 1, 1));
        second.client_bytes.add(2);
        drop(second);
        assert_eq!(told(&tally), (4, 1, 7, 1, 1));
        assert!(tally.open.lock().is_empty());
    }
}
