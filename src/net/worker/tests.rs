use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;
use crate::net::socket::Socket;
use crate::net::spawner::{Spawner, Stoppable};
use crate::net::tests::spawn;

const PATIENCE: Duration = Duration::from_secs(20);

/// To its end on a worker, whose timers have a thread of their own.
pub(in crate::net) fn on_worker<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    run(runtime.handle(), future).unwrap()
}

fn pair() -> (Socket, Socket) {
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    [&one, &other].into_iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
    (Socket::unix(one).unwrap(), Socket::unix(other).unwrap())
}

fn watched() -> usize {
    with_local(|local| local.watched()).unwrap()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it is woken")
}

#[test]
fn the_time_is_one_for_a_turn_and_later_in_the_next() {
    assert_eq!(turn_time(), None, "this thread is no worker");
    on_worker(async {
        let first = turn_time().unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(turn_time(), Some(first));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(turn_time().unwrap() - first >= Duration::from_millis(5));
    });
}

#[test]
fn tasks_run_in_the_order_in_which_they_are_spawned_and_have_the_numbers_of_those_that_are_gone() {
    on_worker(async {
        let said = Arc::new(parking_lot::Mutex::new(Vec::new()));
        for round in 0..3 {
            let ends: Vec<_> = (0..5)
                .map(|i| {
                    let said = Arc::clone(&said);
                    spawn(async move { said.lock().push(round * 5 + i) })
                })
                .collect();
            for end in ends {
                soon(end).await.unwrap();
            }
        }
        assert_eq!(*said.lock(), (0..15).collect::<Vec<_>>());
        let number = with_local(|local| local.running().number);
        assert_eq!(number, Some(ROOT));
        let inner = spawn(async { with_local(|local| local.running().number) });
        let number = soon(inner).await.unwrap().unwrap();
        assert!((1..=5).contains(&number), "{number}");
    });
}

#[test]
fn other_threads_wake_and_spawn() {
    on_worker(async {
        let spawner = Spawner::current();
        let (asks, asked) = mpsc::channel::<oneshot::Sender<std::thread::ThreadId>>();
        let theirs = std::thread::spawn(move || {
            for answer in asked {
                spawner.spawn(async move { answer.send(std::thread::current().id()).unwrap() });
            }
        });
        // Often enough to be asked awake, asleep, and in between.
        for round in 0..2_000 {
            let (answer, answered) = oneshot::channel();
            asks.send(answer).unwrap();
            if round % 3 == 0 {
                std::thread::yield_now();
            }
            assert_eq!(soon(answered).await.unwrap(), std::thread::current().id());
        }
        drop(asks);
        theirs.join().unwrap();
    });
}

#[test]
fn a_task_that_panics_ends_alone() {
    on_worker(async {
        let panics = spawn(async { panic!("meant to") });
        assert!(soon(panics).await.is_err());
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("meant to")
            }
        }
        let bomb = Bomb;
        let panics = spawn(async move { drop(bomb) });
        assert!(soon(panics).await.is_err());
        assert_eq!(soon(spawn(async { 7 })).await.unwrap(), 7);
    });
}

#[test]
fn whoever_never_waits_keeps_nobody_waiting() {
    on_worker(async {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let busy = Stoppable::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let (mut near, mut far) = pair();
        far.write_all(&[0; 1024]).await.unwrap();
        tokio::task::yield_now().await;
        let before = turns.load(Ordering::Relaxed);
        for _ in 0..1024 {
            near.read_u8().await.unwrap();
        }
        let between = turns.load(Ordering::Relaxed) - before;
        assert!(between > 2, "others had {between} turns while there was something to read");
        // And sockets are heard beside one that is always ready.
        let (mut near, mut far) = pair();
        far.write_all(b"a").await.unwrap();
        assert_eq!(soon(near.read_u8()).await.unwrap(), b'a');
        busy.abort();
        soon(busy.ended()).await;
    });
}

#[test]
fn a_task_may_have_wakers_of_its_own() {
    on_worker(async {
        let (near, far): (Vec<_>, Vec<_>) = (0..3).map(|_| pair()).unzip();
        let mut reads: FuturesUnordered<_> =
            near.into_iter().map(|mut near| async move { near.read_u8().await.unwrap() }).collect();
        for (at, mut far) in far.into_iter().enumerate().rev() {
            assert!(futures_util::poll!(reads.next()).is_pending());
            let byte = u8::try_from(at).unwrap();
            far.write_all(&[byte]).await.unwrap();
            assert_eq!(soon(reads.next()).await, Some(byte));
        }
    });
}

#[test]
fn the_end_is_heard_behind_what_came_with_it() {
    on_worker(async {
        for _ in 0..3 {
            let (mut near, mut far) = pair();
            far.write_all(b"last").await.unwrap();
            drop(far);
            let mut room = [0; 64];
            assert_eq!(soon(near.read(&mut room)).await.unwrap(), 4);
            assert_eq!(soon(near.read(&mut room)).await.unwrap(), 0);
            assert_eq!(soon(near.read(&mut room)).await.unwrap(), 0, "which stays so");
        }
    });
}

#[test]
fn a_socket_is_forgotten_wherever_it_is_dropped() {
    on_worker(async {
        let (mut near, far) = pair();
        assert_eq!(watched(), 2);
        std::thread::spawn(move || drop(far)).join().unwrap();
        assert_eq!(soon(near.read(&mut [0; 4])).await.unwrap(), 0);
        assert_eq!(watched(), 1);
        drop(near);
        assert_eq!(watched(), 0);
    });
}

#[test]
fn a_socket_that_is_polled_elsewhere_says_so_at_once() {
    on_worker(async {
        let (mut near, _far) = pair();
        let read = tokio::spawn(async move { near.read(&mut [0; 4]).await.map_err(|error| error.to_string()) });
        assert_eq!(soon(read).await.unwrap(), Err("the socket is another worker's".to_owned()));
    });
}

#[test]
fn what_is_left_at_the_end_is_dropped() {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let counts = || Counts(Arc::clone(&dropped));
    on_worker(async {
        let (mut near, far) = pair();
        for counts in [counts(), counts()] {
            Spawner::current().spawn(async move {
                let _counts = counts;
                std::future::pending::<()>().await;
            });
        }
        let counts = counts();
        Spawner::current().spawn(async move {
            let _ = (near.read_u8().await, far, counts);
        });
        tokio::task::yield_now().await;
    });
    assert_eq!(dropped.load(Ordering::Relaxed), 3);
}

#[test]
fn timers_are_heard() {
    on_worker(async {
        let begun = std::time::Instant::now();
        for _ in 0..5 {
            soon(tokio::time::sleep(Duration::from_millis(10))).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(50));
    });
}
