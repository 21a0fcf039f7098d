//! What the compiler cannot know.

/// The branch that calls this is nearly never taken: its code goes behind the rest of the function.
///
/// Each instruction of a transaction is run about once, and what the kernel runs in between takes the cache: what they cost is
/// the lines they are on. Of the bytes in those lines 45 of 100 were of branches that nothing took.
///
/// In place of `std::hint::cold_path`, for compilers before 1.95.
#[cold]
#[inline]
pub(crate) fn rare() {}
