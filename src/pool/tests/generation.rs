//! RECONNECT: which servers may be leased again.

use super::bed::Bed;

#[tokio::test]
async fn trap_15_a_server_from_before_is_closed_at_its_release_and_an_idle_one_at_once() {
    let bed = Bed::new(2).await;
    let (leased, idle) = (bed.server().await, bed.server().await);
    let before = leased.handle.id.max(idle.handle.id);
    bed.pool.release(idle);
    bed.pool.reconnect();
    assert_eq!((bed.pool.counts().idle, bed.pool.counts().open, bed.pool.outdated()), (0, 1, 1));
    assert!(bed.pool.is_outdated(&leased));
    bed.pool.release(leased);
    assert_eq!((bed.pool.counts().open, bed.pool.outdated()), (0, 0));
    let next = bed.server().await;
    assert!(next.handle.id > before && !bed.pool.is_outdated(&next));
    let kept = next.handle.id;
    bed.pool.release(next);
    assert_eq!(bed.server().await.handle.id, kept, "and that one is kept");
}

#[tokio::test]
async fn trap_15_whoever_waits_is_not_handed_a_server_from_before() {
    let bed = Bed::new(1).await;
    let leased = bed.server().await;
    let before = leased.handle.id;
    let waiting = bed.queue();
    bed.pool.reconnect();
    bed.pool.release(leased);
    assert!(bed.served(&waiting).await.handle.id > before);
}

#[tokio::test]
async fn trap_15_nor_the_one_that_a_login_under_way_brings() {
    let bed = Bed::closed(1).await;
    let waiting = bed.queue();
    bed.began(1).await;
    bed.pool.reconnect();
    bed.upstream.let_in(1);
    // The first is closed as it comes, and another is opened.
    bed.began(2).await;
    bed.upstream.let_in(1);
    let server = bed.served(&waiting).await;
    assert_eq!((bed.pool.is_outdated(&server), bed.pool.outdated(), bed.pool.counts().open), (false, 0, 1));
}
