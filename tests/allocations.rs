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

#[cfg(target_os = "linux")]
#[test]
fn nor_does_a_worker_that_wakes_a_task() {
    let once = allocations_of_a_worker(WARM_UP).expect("it runs");
    assert!(once > 0, "it makes sockets and tasks");
    assert_eq!(allocations_of_a_worker(WARM_UP + MEASURED).expect("it runs"), once);
}

/// That sends as many bytes there and back between two tasks.
#[cfg(target_os = "linux")]
fn allocations_of_a_worker(bytes: usize) -> std::io::Result<u64> {
    use sidepool::net::{socket::Socket, spawner::Spawner, worker};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let there_and_back = async || {
        let (near, far) = std::os::unix::net::UnixStream::pair()?;
        [&near, &far].into_iter().try_for_each(|socket| socket.set_nonblocking(true))?;
        let (mut near, mut far) = (Socket::unix(near)?, Socket::unix(far)?);
        Spawner::current().spawn(async move { while far.read_u8().await.is_ok() && far.write_u8(7).await.is_ok() {} });
        for _ in 0..bytes {
            near.write_u8(0).await?;
            assert_eq!(near.read_u8().await?, 7);
        }
        std::io::Result::Ok(())
    };
    let mut end = Ok(());
    let counted = allocation_counter::measure(|| end = worker::run(runtime.handle(), there_and_back()).flatten());
    end.map(|()| counted.count_total)
}

/// What this many runs allocate when a few went before.
fn allocations(mut run: impl FnMut()) -> u64 {
    (0..WARM_UP).for_each(|_| run());
    allocation_counter::measure(|| (0..MEASURED).for_each(|_| run())).count_total
}
