//! Takes values off the front of a message body that somebody else wrote: every step may find too little.

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|one| one[0])
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }

    /// The bytes before the next NUL, which is taken too; `None` where there is no NUL.
    pub(crate) fn cstr(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(0, self.rest)?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_what_is_there_and_no_more() {
        let mut reader = Reader::new(b"\0\0\0\x07ab\0c");
        assert_eq!(reader.i32(), Some(7));
        assert_eq!(reader.cstr(), Some(&b"ab"[..]));
        assert_eq!(reader.cstr(), None);
        assert_eq!(reader.i32(), None);
        assert_eq!(reader.byte(), Some(b'c'));
        assert_eq!(reader.byte(), None);
        assert!(reader.is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>, counts: Vec<usize>) {
            let mut reader = Reader::new(&body);
            for count in counts {
                let _ = (reader.take(count), reader.cstr(), reader.i32());
            }
            prop_assert!(reader.rest().len() <= body.len());
        }
    }
}
