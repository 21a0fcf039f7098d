//! How many servers are opened, when, how often again, and how long they live.

use std::task::Waker;
use std::time::Duration;

use super::bed::Bed;
use crate::pool::open::LIFETIME_JITTER;
use crate::pool::{Outcome, Refusal, StartupKey};
use crate::telemetry::Moment;

/// Attempts on a dead upstream, since the first of them: the pause doubles from 100 ms and is 3 s at most.
const ATTEMPTS_MS: [u128; 8] = [0, 100, 300, 700, 1500, 3100, 6100, 9100];

#[tokio::test]
async fn one_login_finds_out_and_then_four_are_under_way_at_once() {
    let bed = Bed::closed(10).await;
    let waiting: Vec<_> = (0..8).map(|_| bed.queue()).collect();
    assert_eq!(bed.pool.counts().opening, 1, "nobody knows yet whether the credential is right");
    bed.began(1).await;
    bed.upstream.let_in(1);
    for login in 2..=5 {
        bed.began(login).await;
    }
    assert_eq!((bed.pool.counts().open, bed.pool.counts().opening), (1, 4));
    bed.upstream.let_in(1);
    bed.began(6).await;
    assert_eq!((bed.pool.counts().open, bed.pool.counts().opening), (2, 4));
    bed.upstream.open();
    let mut servers = Vec::new();
    for ticket in &waiting {
        servers.push(bed.served(ticket).await);
    }
    assert_eq!((servers.len(), bed.pool.counts().open, bed.pool.counts().opening), (8, 8, 0), "one for each, and none beside");
}

#[tokio::test]
async fn parallel_logins_are_as_many_as_configured() {
    let bed = Bed::with(10, &[("limits.parallel_logins", "2")]).await;
    let first = bed.server().await;
    let waiting: Vec<_> = (0..5).map(|_| bed.queue()).collect();
    assert_eq!(bed.pool.counts().opening, 2);
    for ticket in &waiting {
        bed.pool.release(bed.served(ticket).await);
    }
    bed.pool.release(first);
}

/// Servers opened together grow old one after the other (trap 17).
#[tokio::test]
async fn trap_17_lifetimes_are_spread() {
    const LIFETIME: Duration = Duration::from_secs(600);
    let off = [("timeouts.server_idle", "0"), ("timeouts.server_check", "0"), ("timeouts.server_lifetime", "10min")];
    let bed = Bed::with(8, &off).await;
    let mut servers = Vec::new();
    for _ in 0..8 {
        servers.push(bed.server().await);
    }
    let lived = servers.iter().map(|server| server.retires_at.unwrap() - server.idle_since);
    let mut lifetimes: Vec<_> = lived.map(|lifetime| lifetime.div_duration_f64(LIFETIME)).collect();
    lifetimes.sort_by(f64::total_cmp);
    assert!(lifetimes[0] >= 1.0 && lifetimes[7] <= 1.0 + LIFETIME_JITTER, "{lifetimes:?}");
    // Evenly: an eighth of the jitter apart, give or take what the golden ratio takes.
    let gaps: Vec<_> = lifetimes.windows(2).map(|pair| (pair[1] - pair[0]) / LIFETIME_JITTER).collect();
    assert!(gaps.iter().all(|gap| (0.05..0.3).contains(gap)), "{gaps:?}");

    let opened = servers.iter().map(|server| server.idle_since).collect::<Vec<_>>();
    let retire = |at: usize| servers[at].retires_at.unwrap();
    let (first, last) = ((0..8).map(retire).min().unwrap(), (0..8).map(retire).max().unwrap());
    servers.into_iter().for_each(|server| bed.pool.release(server));
    let instant = Duration::from_nanos(1);
    bed.pool.keep(*opened.iter().min().unwrap() + (LIFETIME - instant));
    assert_eq!(bed.pool.counts().open, 8);
    bed.pool.keep(first);
    assert_eq!(bed.pool.counts().open, 7, "one alone");
    bed.pool.keep(opened[0] + (last - opened[0] - instant));
    assert_eq!(bed.pool.counts().open, 1);
    bed.pool.keep(last);
    assert_eq!(bed.pool.counts().open, 0);
}

/// By tokio's clock, which stands still but for the pauses.
#[tokio::test(start_paused = true)]
async fn attempts_on_a_dead_upstream_back_off_from_100_ms_to_3_s() {
    let bed = Bed::dead().await;
    let begun = tokio::time::Instant::now();
    let ticket = bed.queue();
    for (before, expected) in ATTEMPTS_MS.into_iter().enumerate() {
        bed.until(|pool| pool.tally.connect_failures.get() > before as u64).await;
        let at = begun.elapsed().as_millis();
        // Looked at once in a millisecond.
        assert!((expected..=expected + ATTEMPTS_MS.len() as u128).contains(&at), "attempt {before} at {at} ms, not {expected}");
    }
    assert!(matches!(ticket.outcome(), Outcome::Waiting));
    assert_eq!(bed.pool.counts().opening, 1, "one alone tries");
}

#[tokio::test]
async fn a_server_that_starts_up_is_waited_for() {
    let bed = Bed::new(2).await;
    bed.upstream.refuse("57P03", "the database system is starting up");
    let waiting = [bed.queue(), bed.queue()];
    bed.began(1).await;
    bed.began(2).await;
    assert!(waiting.iter().all(|ticket| matches!(ticket.outcome(), Outcome::Waiting)));
    bed.upstream.refuse_no_longer();
    for ticket in &waiting {
        bed.pool.release(bed.served(ticket).await);
    }
}

#[tokio::test]
async fn whoever_has_waited_for_long_hears_what_the_server_said() {
    let bed = Bed::with(2, &[("timeouts.server_down", "4s")]).await;
    bed.upstream.refuse("57P03", "the database system is starting up");
    let ticket = bed.queue();
    // The second attempt: what came of the first is known.
    bed.began(1).await;
    bed.began(2).await;
    let now = Moment::now();
    bed.pool.keep(now);
    assert!(matches!(ticket.outcome(), Outcome::Waiting));
    bed.pool.keep(now + Duration::from_secs(4));
    let Outcome::Refused(Refusal::Upstream(error)) = ticket.outcome() else { panic!("it waits on") };
    assert_eq!(&error[..], b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0");
}

#[tokio::test]
async fn any_other_refusal_is_told_at_once() {
    let bed = Bed::new(2).await;
    bed.upstream.refuse("3D000", "database \"test\" does not exist");
    let waiting = [bed.queue(), bed.queue()];
    bed.until(|pool| pool.counts().opening == 0).await;
    for ticket in waiting {
        let Outcome::Refused(Refusal::Upstream(error)) = ticket.outcome() else { panic!("it waits") };
        assert_eq!(&error[..], b"SFATAL\0VFATAL\0C3D000\0Mdatabase \"test\" does not exist\0\0");
    }
    // Nor is it remembered.
    bed.upstream.refuse_no_longer();
    bed.server().await;
}

#[tokio::test]
async fn pools_of_one_upstream_share_its_limit() {
    let bed = Bed::with(10, &[("limits.max_server_connections", "2")]).await;
    let (first, second) = (bed.server().await, bed.server().await);
    let other = bed.pool_of("other");
    let ticket = bed.queue_in(&other);
    let connections = || bed.registry.upstream_connections(&bed.pool.key.project);
    assert_eq!((other.counts().opening, connections()), (0, Some((2, 2))), "there is no room");
    // What comes free makes room.
    bed.pool.release(first);
    assert_eq!(bed.pool.counts().idle, 0);
    let third = bed.served(&ticket).await;
    assert_eq!((bed.pool.counts().open, other.counts().open, connections()), (1, 1, Some((2, 2))));
    // And so does what is idle when somebody comes.
    other.release(third);
    assert_eq!(other.counts().idle, 1);
    let fourth = bed.server().await;
    assert_eq!((bed.pool.counts().open, other.counts().open, connections()), (2, 0, Some((2, 2))));
    [second, fourth].into_iter().for_each(|server| bed.pool.release(server));
}

/// It waited for room, and a server of its own came back first.
#[tokio::test]
async fn a_pool_whose_clients_are_served_costs_nobody_a_server() {
    let bed = Bed::with(10, &[("limits.max_server_connections", "2")]).await;
    let (first, second) = (bed.server().await, bed.server().await);
    let ticket = bed.queue();
    bed.pool.release(first);
    let first = bed.served(&ticket).await;
    bed.pool.release(first);
    assert_eq!((bed.pool.counts().open, bed.pool.counts().idle), (2, 1));
    // Of one whose client has gone there is nothing to be had either.
    let other = bed.pool_of("other");
    let _first = bed.server().await;
    let gone = bed.queue_in(&other);
    assert!(gone.leave().is_none());
    bed.pool.release(second);
    assert_eq!((bed.pool.counts().open, bed.pool.counts().idle), (2, 1));
}

#[tokio::test]
async fn room_that_the_first_in_line_has_no_use_for_is_the_next_ones() {
    let bed = Bed::with(10, &[("limits.max_server_connections", "1")]).await;
    let only = bed.server().await;
    let (one, other) = (bed.pool_of("one"), bed.pool_of("other"));
    let (gone, ticket) = (bed.queue_in(&one), bed.queue_in(&other));
    assert!(gone.leave().is_none());
    bed.pool.discard(only);
    assert_eq!((other.counts().opening, one.counts().opening), (1, 0));
    bed.served(&ticket).await;
}

#[tokio::test]
async fn the_minimum_is_open_while_there_are_clients() {
    let flags = [("limits.min_pool_size", "2"), ("timeouts.server_idle", "1min"), ("timeouts.server_check", "0")];
    let bed = Bed::with(5, &flags).await;
    bed.pool.keep(Moment::now());
    bed.until(|pool| pool.counts().idle == 2).await;
    let servers = [bed.server().await, bed.server().await, bed.server().await];
    servers.into_iter().for_each(|server| bed.pool.release(server));
    assert_eq!(bed.pool.counts().idle, 3);
    let later = Moment::now() + Duration::from_secs(60);
    bed.pool.keep(later);
    assert_eq!((bed.pool.counts().open, bed.pool.counts().opening), (2, 0), "what is beyond it goes for being idle");
    bed.pool.client_went();
    bed.pool.keep(later);
    assert_eq!((bed.pool.counts().open, bed.pool.counts().opening), (0, 0));
}

/// And not when the server went idle, which may have been long before.
#[tokio::test]
async fn a_lease_begins_when_the_server_is_handed_over() {
    let bed = Bed::with(1, &[("timeouts.server_check", "1s")]).await;
    let server = bed.server().await;
    bed.pool.release(server);
    let waits = bed.pool.tally.sum().waits.observed().count;
    // It is asked for a sign of life, and somebody comes before it has given one.
    bed.pool.keep(Moment::now() + Duration::from_secs(1));
    let queued = Moment::now();
    let ticket = bed.queue();
    assert!(bed.served(&ticket).await.leased_at() >= queued);
    assert_eq!(bed.pool.tally.sum().waits.observed().count, waits + 1);
}

#[tokio::test]
async fn servers_of_a_project_that_comes_back_are_counted_as_before() {
    let bed = Bed::new(1).await;
    let server = bed.server().await;
    bed.remove_and_restore();
    let connections = || bed.registry.upstream_connections("*").map(|(open, _)| open);
    assert_eq!(connections(), Some(1), "it is there");
    bed.pool.release(server);
    assert_eq!(connections(), Some(bed.pool.counts().open));
}

/// Whoever gives a wait up and waits anew has no older place, and no older time.
#[tokio::test]
async fn a_wait_that_was_cancelled_is_no_part_of_the_next() {
    let bed = Bed::with(1, &[("timeouts.queue_wait", "60s")]).await;
    let server = bed.server().await;
    let (first, second) = (bed.queue(), bed.queue());
    assert!(first.refuse(Refusal::Canceled));
    assert!(matches!(first.outcome(), Outcome::Refused(Refusal::Canceled)));
    assert_eq!(bed.pool.counts().waiting, 1, "before anybody has swept");
    let again = Moment::now();
    bed.pool.queue(&first, &StartupKey::default(), Waker::noop());
    assert_eq!(bed.pool.counts().waiting, 2);
    bed.pool.release(server);
    let server = bed.served(&second).await;
    assert!(matches!(first.outcome(), Outcome::Waiting), "it overtakes nobody");
    bed.pool.keep(again + (Duration::from_secs(60) - Duration::from_nanos(1)));
    assert!(matches!(first.outcome(), Outcome::Notice), "its time is not over");
    bed.pool.release(server);
    bed.served(&first).await;
    assert_eq!(bed.pool.counts().waiting, 0);
}

/// They have their places until the next sweep.
#[tokio::test]
async fn who_left_the_queue_is_not_counted_as_waiting() {
    let bed = Bed::new(1).await;
    let server = bed.server().await;
    let gone = bed.queue();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let came = Moment::now();
    let waits = bed.queue();
    gone.leave();
    let counts = bed.pool.counts();
    assert_eq!(counts.waiting, 1);
    assert!(counts.longest_wait <= came.elapsed(), "of who waits: {:?}", counts.longest_wait);
    waits.leave();
    let counts = bed.pool.counts();
    assert_eq!((counts.waiting, counts.longest_wait), (0, Duration::ZERO));
    drop(server);
}

/// As on several threads, where a server may come back after a client has looked for one and before it queues.
#[tokio::test]
async fn whoever_queues_beside_an_idle_server_is_given_it() {
    let bed = Bed::new(1).await;
    let server = bed.server().await;
    let id = server.handle.id;
    bed.pool.release(server);
    let ticket = bed.queue();
    let Outcome::Served(server) = ticket.outcome() else { panic!("it waits, and nobody looks at the idle ones any more") };
    assert_eq!((server.handle.id, bed.pool.counts().waiting), (id, 0));
}
