//! What the protocol costs per transaction, without sockets: both turns, from lease to release.

#[path = "support/turns.rs"]
mod turns;

use criterion::{Criterion, criterion_group, criterion_main};
use turns::{Transaction, Turns};

fn transactions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    let simple = Transaction::simple();
    let mut turns = Turns::new(&[""]);
    group.bench_function("simple query", |bencher| bencher.iter(|| turns.run(0, &simple)));

    let prepared = Transaction::prepared();
    let mut turns = Turns::new(&[""]);
    turns.run(0, &Transaction::preparing());
    group.bench_function("prepared statement", |bencher| bencher.iter(|| turns.run(0, &prepared)));
    group.finish();
}

/// Two transactions an iteration: the server goes to the other client and back.
fn transfers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transfer there and back");
    let simple = Transaction::simple();
    let mut turns = Turns::new(&["", ""]);
    group.bench_function("same settings", |bencher| {
        bencher.iter(|| (turns.run(0, &simple), turns.run(1, &simple)));
    });

    let [a, b] = ["a", "b"].map(|name| Transaction::simple().after_setting("application_name", name));
    let mut turns = Turns::new(&["a", "b"]);
    group.bench_function("one setting differs", |bencher| {
        bencher.iter(|| (turns.run(0, &a), turns.run(1, &b)));
    });
    group.finish();
}

criterion_group!(benches, transactions, transfers);
criterion_main!(benches);
