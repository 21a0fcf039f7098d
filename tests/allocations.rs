//! A transaction in steady state allocates nothing: a session that keeps up needs no allocator.

#[path = "../benches/support/turns.rs"]
mod turns;

use turns::{Transaction, Turns};

/// What is still the first time may allocate.
const WARM_UP: usize = 10;
const MEASURED: usize = 100;
/// A transfer with a setting that differs builds the text of its SET, and the set of parameters that results from it.
const TRANSFER_MAX: u64 = 16;

#[test]
fn a_simple_query_allocates_nothing() {
    let mut turns = Turns::new(&[""]);
    let simple = Transaction::simple();
    assert_eq!(allocations(|| _ = turns.run(0, &simple)), 0);
}

#[test]
fn nor_does_an_insert() {
    let mut turns = Turns::new(&[""]);
    let insert = Transaction::insert();
    assert_eq!(allocations(|| _ = turns.run(0, &insert)), 0);
}

#[test]
fn a_prepared_statement_allocates_nothing() {
    let mut turns = Turns::new(&[""]);
    turns.run(0, &Transaction::preparing());
    let prepared = Transaction::prepared();
    assert_eq!(allocations(|| _ = turns.run(0, &prepared)), 0);
}

#[test]
fn a_transfer_between_clients_alike_allocates_nothing() {
    let mut turns = Turns::new(&["", ""]);
    let simple = Transaction::simple();
    let there_and_back = || {
        turns.run(0, &simple);
        turns.run(1, &simple);
    };
    assert_eq!(allocations(there_and_back), 0);
}

#[test]
fn a_transfer_with_a_setting_that_differs_allocates_little() {
    let mut turns = Turns::new(&["a", "b"]);
    let [a, b] = ["a", "b"].map(|name| Transaction::simple().after_setting("application_name", name));
    let there_and_back = || {
        turns.run(0, &a);
        turns.run(1, &b);
    };
    let each = allocations(there_and_back) / (2 * MEASURED as u64);
    assert!((1..=TRANSFER_MAX).contains(&each), "{each} allocations");
}

/// What this many runs allocate when a few went before.
fn allocations(mut run: impl FnMut()) -> u64 {
    (0..WARM_UP).for_each(|_| run());
    allocation_counter::measure(|| (0..MEASURED).for_each(|_| run())).count_total
}
