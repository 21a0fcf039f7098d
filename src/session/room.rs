//! Where what is read goes first.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use crate::hint::rare;

/// Read from one side at once, in bytes.
pub(super) const READ_BYTES: usize = 16 * 1024;

thread_local! {
    static ROOM: RefCell<[MaybeUninit<u8>; READ_BYTES]> = const { RefCell::new([MaybeUninit::uninit(); READ_BYTES]) };
}

/// Lends the thread's room for one read: an idle session holds none, and on the stack the two of them were eight pages for every wake-up to
/// touch.
#[inline]
pub(super) fn with_room<T>(read: impl FnOnce(&mut [MaybeUninit<u8>]) -> T) -> T {
    ROOM.with(|lent| {
        let (mut room, mut another);
        let room = match lent.try_borrow_mut() {
            Ok(lent) => {
                room = lent;
                &mut room[..]
            }
            // No read is within another; were one, it would have its own.
            Err(_) => {
                rare();
                another = vec![MaybeUninit::uninit(); READ_BYTES];
                &mut another[..]
            }
        };
        read(room)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_within_a_read_has_a_room_of_its_own() {
        with_room(|outer| {
            outer[0].write(1);
            with_room(|inner| {
                assert_eq!((inner.len(), outer.len()), (READ_BYTES, READ_BYTES));
                assert_ne!(inner.as_ptr(), outer.as_ptr());
            });
        });
        let first = with_room(|room| room.as_ptr().addr());
        assert_eq!(with_room(|room| room.as_ptr().addr()), first, "it was given back");
    }
}
