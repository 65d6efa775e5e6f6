//! Where a message lives: the eight octets that a queue holds for it.
//!
//! ```text
//!   63            62        28 27          0
//!   +-------------+-----------+------------+
//!   | redelivered |   chunk   |   number   |
//!   +-------------+-----------+------------+
//!       1 bit        35 bits     28 bits
//! ```

use std::fmt;

/// A message in the log, as a chunk's slot and its number in the chunk, and whether it was
/// delivered before. A number stays true when the chunk is rewritten without its dead messages,
/// so nobody who holds a location has to be told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location(u64);

const NUMBER_BITS: u32 = 28;
const CHUNK_BITS: u32 = 35;
const REDELIVERED: u64 = 1 << 63;

impl Location {
    /// How many messages a chunk can hold.
    pub const CHUNK_MESSAGES_MAX: usize = 1 << NUMBER_BITS;
    /// How many chunks there can be at a time.
    pub const CHUNKS_MAX: usize = 1 << CHUNK_BITS;

    /// The message of that number in the chunk in slot `chunk`.
    ///
    /// # Panics
    /// When either is out of its range, which only our own log could cause.
    #[must_use]
    pub fn new(chunk: usize, number: usize) -> Self {
        assert!(chunk < Self::CHUNKS_MAX && number < Self::CHUNK_MESSAGES_MAX, "location out of range");
        Self((chunk as u64) << NUMBER_BITS | number as u64)
    }

    /// The slot of the chunk.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "35 bits fit a 64-bit usize, the only kind supported")]
    pub const fn chunk(self) -> usize {
        (self.0 >> NUMBER_BITS & ((1 << CHUNK_BITS) - 1)) as usize
    }

    /// The message's number in its chunk.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "28 bits fit")]
    pub const fn number(self) -> usize {
        (self.0 & ((1 << NUMBER_BITS) - 1)) as usize
    }

    /// The message this many numbers on in the same chunk.
    #[must_use]
    pub fn plus(self, numbers: usize) -> Self {
        debug_assert!(self.number() + numbers < Self::CHUNK_MESSAGES_MAX, "numbers are checked when given");
        Self(self.0 + numbers as u64)
    }

    /// Whether the message was delivered before.
    #[must_use]
    pub const fn redelivered(self) -> bool {
        self.0 & REDELIVERED != 0
    }

    /// The same message, to be delivered again.
    #[must_use]
    pub const fn as_redelivered(self) -> Self {
        Self(self.0 | REDELIVERED)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.redelivered() { "+" } else { "" };
        write!(f, "{}:{}{mark}", self.chunk(), self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_at_their_limits() {
        for chunk in [0, 1, Location::CHUNKS_MAX - 1] {
            for number in [0, 1, Location::CHUNK_MESSAGES_MAX - 1] {
                let location = Location::new(chunk, number);
                assert_eq!(
                    (location.chunk(), location.number(), location.redelivered()),
                    (chunk, number, false)
                );
                let again = location.as_redelivered();
                assert_eq!((again.chunk(), again.number(), again.redelivered()), (chunk, number, true));
            }
        }
    }
}
