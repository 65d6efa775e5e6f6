//! Where a message lives: the eight octets that a queue holds for it.
//!
//! ```text
//!   63            62        28 27          0
//!   +-------------+-----------+------------+
//!   | redelivered |   chunk   |   offset   |
//!   +-------------+-----------+------------+
//!       1 bit        35 bits     28 bits
//! ```

use std::fmt;

/// A message in the log, as a chunk's slot and an offset in the chunk, and whether it was
/// delivered before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location(u64);

const OFFSET_BITS: u32 = 28;
const CHUNK_BITS: u32 = 35;
const REDELIVERED: u64 = 1 << 63;

impl Location {
    /// The largest chunk, in octets.
    pub const CHUNK_OCTETS_MAX: usize = 1 << OFFSET_BITS;
    /// How many chunks there can be at a time.
    pub const CHUNKS_MAX: usize = 1 << CHUNK_BITS;

    /// The message at `offset` octets into the chunk in slot `chunk`.
    ///
    /// # Panics
    /// When either is out of its range, which only our own log could cause.
    #[must_use]
    pub fn new(chunk: usize, offset: usize) -> Self {
        assert!(chunk < Self::CHUNKS_MAX && offset < Self::CHUNK_OCTETS_MAX, "location out of range");
        Self((chunk as u64) << OFFSET_BITS | offset as u64)
    }

    /// The slot of the chunk.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "35 bits fit a 64-bit usize, the only kind supported")]
    pub const fn chunk(self) -> usize {
        (self.0 >> OFFSET_BITS & ((1 << CHUNK_BITS) - 1)) as usize
    }

    /// Octets from the start of the chunk.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "28 bits fit")]
    pub const fn offset(self) -> usize {
        (self.0 & ((1 << OFFSET_BITS) - 1)) as usize
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
        write!(f, "{}:{}{mark}", self.chunk(), self.offset())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_at_their_limits() {
        for chunk in [0, 1, Location::CHUNKS_MAX - 1] {
            for offset in [0, 1, Location::CHUNK_OCTETS_MAX - 1] {
                let location = Location::new(chunk, offset);
                assert_eq!(
                    (location.chunk(), location.offset(), location.redelivered()),
                    (chunk, offset, false)
                );
                let again = location.as_redelivered();
                assert_eq!((again.chunk(), again.offset(), again.redelivered()), (chunk, offset, true));
            }
        }
    }
}
