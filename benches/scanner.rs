//! What it costs to look at bytes: headers, replies, the text of a query.

#[path = "support/turns.rs"]
mod turns;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sidepool::wire::cut::Cut;
use sidepool::wire::frame::Header;
use sidepool::wire::sql;
use turns::{Transaction, Turns, row};

/// One read of the relay, in bytes.
const SEGMENT_BYTES: usize = 16 * 1024;
/// Sizes of the one column of a row, in bytes.
const COLUMNS: [u32; 3] = [4, 32, 256];

fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("headers of 16 KiB");
    for column in COLUMNS {
        let segment = rows(column);
        group.throughput(Throughput::Bytes(segment.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(column), &segment, |bencher, segment| {
            bencher.iter(|| walk(black_box(segment)));
        });
    }
    group.finish();
}

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replies of 16 KiB");
    for column in COLUMNS {
        let segment = rows(column);
        let mut turns = Turns::new(&[""]);
        turns.ask(0, &Transaction::simple().request);
        group.throughput(Throughput::Bytes(segment.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(column), &segment, |bencher, segment| {
            bencher.iter(|| turns.answer(0, black_box(segment)));
        });
    }
    group.finish();
}

/// What a client sends in a pipeline: each request needs an entry of the reply plan.
fn pipeline(criterion: &mut Criterion) {
    let prepared = Transaction::prepared();
    let times = SEGMENT_BYTES / prepared.request.len();
    let (requests, answers) = (prepared.request.repeat(times), prepared.answer.repeat(times));
    let mut turns = Turns::new(&[""]);
    turns.run(0, &Transaction::preparing());
    let mut group = criterion.benchmark_group("pipeline of 16 KiB");
    group.throughput(Throughput::Elements(times as u64));
    group.bench_function("prepared statements", |bencher| {
        bencher.iter(|| (turns.ask(0, black_box(&requests)), turns.answer(0, black_box(&answers))));
    });
    group.finish();
}

fn texts(criterion: &mut Criterion) {
    let columns = |count: usize| (0..count).map(|n| format!("\"public\".\"User\".\"column{n}\"")).collect::<Vec<_>>().join(", ");
    let select =
        |count| format!("SELECT {} FROM \"public\".\"User\" WHERE (\"public\".\"User\".\"id\" = $1 AND 1=1)", columns(count));
    let texts = [
        ("pgbench", "SELECT abalance FROM pgbench_accounts WHERE aid = 52341;".to_owned()),
        ("an ORM's", select(12)),
        ("long", select(600)),
        ("statements", "INSERT INTO t VALUES (1, 'a'); ".repeat(30)),
        ("deallocate", "DEALLOCATE ALL".to_owned()),
    ];
    let mut group = criterion.benchmark_group("scan of a text");
    for (name, text) in texts {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new(name, text.len()), text.as_bytes(), |bencher, text| {
            bencher.iter(|| sql::scan(black_box(text)));
        });
    }
    group.finish();
}

fn rows(column: u32) -> Vec<u8> {
    let row = row(column);
    row.repeat(SEGMENT_BYTES / row.len())
}

/// Lets every message through; the stretch that may be written at once.
fn walk(segment: &[u8]) -> usize {
    let mut held = Vec::new();
    let mut cut = Cut::new(segment, &mut held);
    let mut at = 0;
    while let Ok(Some(header)) = Header::read(&segment[at..]) {
        let end = at + header.message_bytes();
        cut.forward(at..end);
        at = end;
    }
    cut.finish().len()
}

criterion_group!(benches, headers, replies, pipeline, texts);
criterion_main!(benches);
