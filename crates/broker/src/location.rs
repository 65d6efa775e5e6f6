//! Where a message lives: the eight octets that a queue holds for it.
//!
//! ```text
//!   63            62        61      58 57        27 26          0
//!   +-------------+---------+----------+-----------+------------+
//!   | redelivered | expires |   size   |   chunk   |   number   |
//!   +-------------+---------+----------+-----------+------------+
//!       1 bit        1 bit     4 bits     31 bits     27 bits
//! ```

use std::fmt;

/// A message in the log, as a chunk's slot and its number in the chunk, roughly how large it is,
/// whether it has a life of its own, and whether it was delivered before. A number stays true when the chunk is rewritten without
/// its dead messages, so nobody who holds a location has to be told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location(u64);

const NUMBER_BITS: u32 = 27;
const CHUNK_BITS: u32 = 31;
const SIZE_BITS: u32 = 4;
const SIZE_SHIFT: u32 = NUMBER_BITS + CHUNK_BITS;
const SIZE_MASK: u64 = ((1 << SIZE_BITS) - 1) << SIZE_SHIFT;
const EXPIRES: u64 = 1 << 62;
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
    #[allow(clippy::cast_possible_truncation, reason = "31 bits fit")]
    pub const fn chunk(self) -> usize {
        (self.0 >> NUMBER_BITS & ((1 << CHUNK_BITS) - 1)) as usize
    }

    /// The message's number in its chunk.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "27 bits fit")]
    pub const fn number(self) -> usize {
        (self.0 & ((1 << NUMBER_BITS) - 1)) as usize
    }

    /// The message this many numbers on in the same chunk.
    #[must_use]
    pub fn plus(self, numbers: usize) -> Self {
        debug_assert!(self.number() + numbers < Self::CHUNK_MESSAGES_MAX, "numbers are checked when given");
        Self(self.0 + numbers as u64)
    }

    /// The same place, of a message of that many octets.
    #[must_use]
    pub fn of_octets(self, octets: usize) -> Self {
        let kibibytes = octets.div_ceil(1024).max(1);
        let power = kibibytes.next_power_of_two().trailing_zeros().min((1 << SIZE_BITS) - 1);
        Self(self.0 & !SIZE_MASK | u64::from(power) << SIZE_SHIFT)
    }

    /// Octets of the message in KiB, rounded up to a power of two; 32 MiB for all that is larger.
    #[must_use]
    #[inline]
    pub const fn size_kibibytes(self) -> u32 {
        1 << ((self.0 & SIZE_MASK) >> SIZE_SHIFT)
    }

    /// The same message, this many numbers on from `first`.
    #[must_use]
    pub fn behind(self, first: Self) -> Self {
        const KEPT: u64 = SIZE_MASK | EXPIRES;
        Self(first.plus(self.number()).0 & !KEPT | self.0 & KEPT)
    }

    /// The same message, with the property `expiration` or without it.
    #[must_use]
    pub const fn expiring(self, expires: bool) -> Self {
        if expires { Self(self.0 | EXPIRES) } else { self }
    }

    /// Whether the message has the property `expiration`.
    #[must_use]
    pub const fn expires(self) -> bool {
        self.0 & EXPIRES != 0
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
                let again = location.of_octets(1 << 20).as_redelivered();
                assert_eq!((again.chunk(), again.number(), again.redelivered()), (chunk, number, true));
                assert_eq!((again.size_kibibytes(), again.expires()), (1024, false));
                assert!(again.expiring(true).expires());
            }
        }
    }

    #[test]
    fn sizes_are_rounded_up_to_a_power_of_two() {
        let check = |octets, kibibytes| {
            let location = Location::new(1, 2).of_octets(octets);
            assert_eq!(location.size_kibibytes(), kibibytes, "{octets} octets");
            let placed = location.expiring(true).behind(Location::new(7, 10));
            assert!(placed.expires());
            assert_eq!((placed.chunk(), placed.number(), placed.size_kibibytes()), (7, 12, kibibytes));
        };
        check(0, 1);
        check(1024, 1);
        check(1025, 2);
        check(100_000, 128);
        check(128 * 1024 * 1024, 32 * 1024);
    }
}
