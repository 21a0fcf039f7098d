//! What the listener has heard for one client.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

/// Notifications that wait until their client is outside a transaction and reads, in bytes of memory. A client that lets more come
/// up is ended: PostgreSQL would stop the queue of the whole cluster for it.
pub const MAILBOX_BYTES_MAX: usize = 8 << 20;

/// What each costs besides its own bytes: its place in the queue, which grows by doubling, and what shares it among many.
const LETTER_BYTES: usize = 2 * size_of::<Bytes>() + 64;

/// Places that an empty mailbox keeps.
const KEPT_LETTERS: usize = 32;
/// With so many bytes in it, the listener waits for a client that is reading: it is only slower than a burst.
const CROWDED_BYTES: usize = 1 << 20;
/// A client that has taken nothing for so long is not reading, or in a transaction: the others do not wait for it.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// Written to by the listener, read by one session.
#[derive(Debug)]
pub(super) struct Mailbox(Mutex<Letters>);

#[derive(Debug)]
struct Letters {
    standing: Standing,
    /// Whole NotificationResponse messages. Those that go to many are shared.
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// When it was last emptied, or begun to be.
    taken_at: Instant,
    waker: Waker,
}

/// How a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The listener has been asked to listen.
    Asked,
    /// It does.
    Ready,
    /// The way back is taken; what is there is the last of it.
    Over,
    /// The listener cannot be had. Nothing was moved.
    Refused,
    /// The listener's connection ended: notifications may be lost.
    Lost,
    /// There are more than [`MAILBOX_BYTES_MAX`].
    Full,
}

impl Mailbox {
    pub(super) fn new(waker: &Waker) -> Self {
        let letters = Letters {
            standing: Standing::Asked,
            queue: VecDeque::new(),
            bytes: 0,
            taken_at: Instant::now(),
            waker: waker.clone(),
        };
        Self(Mutex::new(letters))
    }

    pub(super) fn standing(&self) -> Standing {
        self.0.lock().standing
    }

    /// ## Asked => (Ready | Refused), (Asked | Ready) => (Over | Lost)
    pub(super) fn becomes(&self, standing: Standing) {
        let mut letters = self.0.lock();
        if letters.standing != Standing::Full {
            letters.standing = standing;
        }
        letters.waker.wake_by_ref();
    }

    fn is_crowded(&self) -> bool {
        self.0.lock().bytes > CROWDED_BYTES
    }

    fn is_stalled(&self) -> bool {
        self.0.lock().taken_at.elapsed() >= STALLED_AFTER
    }

    /// Whether there are many now that were not before: it belongs to the [`Crowd`].
    pub(super) fn put(&self, message: &Bytes) -> bool {
        let mut letters = self.0.lock();
        let weight = weight(message);
        if letters.bytes + weight > MAILBOX_BYTES_MAX {
            // ## Ready => Full
            letters.standing = Standing::Full;
            letters.queue = VecDeque::new();
            letters.bytes = 0;
        } else if letters.standing == Standing::Ready {
            letters.bytes += weight;
            letters.queue.push_back(message.clone());
        }
        letters.waker.wake_by_ref();
        letters.bytes > CROWDED_BYTES && letters.bytes - weight <= CROWDED_BYTES
    }

    /// Moves messages to `out`, in order, until it has `room` bytes more or there are no more; how many, and whether these were
    /// all.
    pub(super) fn take(&self, out: &mut Vec<u8>, room: usize) -> (u64, bool) {
        let mut letters = self.0.lock();
        let (limit, mut count) = (out.len() + room, 0);
        while out.len() < limit
            && let Some(message) = letters.queue.pop_front()
        {
            letters.bytes -= weight(&message);
            out.extend_from_slice(&message);
            count += 1;
        }
        if count > 0 {
            letters.taken_at = Instant::now();
        }
        if letters.queue.is_empty() {
            letters.queue.shrink_to(KEPT_LETTERS);
        }
        (count, letters.queue.is_empty())
    }
}

fn weight(message: &Bytes) -> usize {
    message.len() + LETTER_BYTES
}

/// Those with many letters. One whose client has stalled stays among them: it may read again, and is waited for then.
#[derive(Debug, Default)]
pub(super) struct Crowd(Vec<Weak<Mailbox>>);

impl Crowd {
    pub(super) fn add(&mut self, mailbox: &Arc<Mailbox>) {
        self.0.push(Arc::downgrade(mailbox));
    }

    /// Whether it is better to wait until one of them has read some.
    pub(super) fn is_reading(&mut self) -> bool {
        let mut is_reading = false;
        self.0.retain(|mailbox| {
            let crowded = mailbox.upgrade().filter(|mailbox| mailbox.is_crowded());
            is_reading |= crowded.as_ref().is_some_and(|mailbox| !mailbox.is_stalled());
            crowded.is_some()
        });
        is_reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_takes_nothing_is_found_out_and_costs_no_more() {
        let mailbox = Mailbox::new(Waker::noop());
        mailbox.becomes(Standing::Ready);
        let message = Bytes::from(vec![b'A'; 8000]);
        let most = MAILBOX_BYTES_MAX / weight(&message);
        let crowded = (0..most).map(|_| mailbox.put(&message)).filter(|crowded| *crowded).count();
        assert_eq!(crowded, 1);
        assert_eq!(mailbox.standing(), Standing::Ready);
        assert!(!mailbox.put(&message));
        mailbox.becomes(Standing::Over);
        assert_eq!(mailbox.standing(), Standing::Full);
        assert_eq!(mailbox.take(&mut Vec::new(), 1), (0, true));
    }

    #[test]
    fn notifications_without_a_payload_come_to_their_limit_too() {
        let mailbox = Mailbox::new(Waker::noop());
        mailbox.becomes(Standing::Ready);
        let message = Bytes::from_static(b"A\0\0\0\x0c\0\0\0\x01a\0\0");
        let fit = (0..MAILBOX_BYTES_MAX).take_while(|_| {
            mailbox.put(&message);
            mailbox.standing() == Standing::Ready
        });
        let fit = fit.count();
        let places = size_of::<Bytes>() * fit.next_power_of_two();
        assert!(fit > 10_000 && fit * message.len() + places <= MAILBOX_BYTES_MAX, "{fit}");
    }

    #[test]
    fn who_reads_is_waited_for_however_long_it_stalled_before() {
        let mailbox = Arc::new(Mailbox::new(Waker::noop()));
        mailbox.becomes(Standing::Ready);
        let mut crowd = Crowd::default();
        while !mailbox.put(&Bytes::from(vec![b'A'; 8000])) {
            assert!(!crowd.is_reading());
        }
        crowd.add(&mailbox);
        mailbox.put(&Bytes::from(vec![b'A'; 8000]));
        assert!(crowd.is_reading());
        mailbox.0.lock().taken_at -= STALLED_AFTER;
        assert!(!crowd.is_reading());
        mailbox.take(&mut Vec::new(), 1);
        assert!(crowd.is_reading());
        mailbox.take(&mut Vec::new(), CROWDED_BYTES);
        assert!(!crowd.is_reading() && crowd.0.is_empty());
    }

    #[test]
    fn nobody_waits_for_a_client_that_left() {
        let mailbox = Arc::new(Mailbox::new(Waker::noop()));
        mailbox.becomes(Standing::Ready);
        let mut crowd = Crowd::default();
        while !mailbox.put(&Bytes::from(vec![b'A'; 8000])) {}
        crowd.add(&mailbox);
        assert!(crowd.is_reading());
        drop(mailbox);
        assert!(!crowd.is_reading() && crowd.0.is_empty());
    }

    #[test]
    fn no_more_is_taken_than_there_is_room_for_but_for_the_last() {
        let mailbox = Mailbox::new(Waker::noop());
        mailbox.becomes(Standing::Ready);
        for letter in *b"abc" {
            mailbox.put(&Bytes::from(vec![letter; 10]));
        }
        let mut out = b"before".to_vec();
        assert_eq!(mailbox.take(&mut out, 11), (2, false));
        assert_eq!(mailbox.take(&mut out, 11), (1, true));
        assert_eq!(out, b"beforeaaaaaaaaaabbbbbbbbbbcccccccccc");
    }
}
