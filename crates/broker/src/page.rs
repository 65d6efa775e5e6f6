//! Where a page lies: messages of one queue that stand on disk and not in memory.
//!
//! What a queue holds in the place of their locations. Invariant: whoever takes one out of a queue
//! gives it back to the page files, once.

use crate::Location;
use crate::store::ranges::Range;

/// A page, as its file and where in it the page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PagePlace {
    /// The file's number.
    pub file: u32,
    /// Octets of the page.
    pub octets: u32,
    /// Where it begins in the file.
    pub offset: u64,
}

/// A message's number in its queue: its band, and its index in that.
///
/// ```text
///   63      56 55                                0
///   +---------+----------------------------------+
///   |  band   |              index               |
///   +---------+----------------------------------+
/// ```
///
/// Queues that count returns have one band, so that theirs is the index alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Ordinal(pub u64);

const BAND_SHIFT: u32 = 56;

impl Ordinal {
    /// Of that index in that band.
    #[must_use]
    pub const fn new(band: usize, index: u64) -> Self {
        Self((band as u64) << BAND_SHIFT | index)
    }

    /// The band.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "eight bits are left")]
    pub const fn band(self) -> usize {
        (self.0 >> BAND_SHIFT) as usize
    }

    /// The index in the band.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.0 & ((1 << BAND_SHIFT) - 1)
    }
}

/// Messages that follow one another in a queue without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The number of the first one.
    pub first: Ordinal,
    /// The messages.
    pub locations: Vec<Location>,
}

/// Messages of a queue that are on a page, in the place where they stand in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwayRun {
    /// The number of the first one.
    pub first: Ordinal,
    /// The number of the last one; there may be gaps between.
    pub last: Ordinal,
    /// How many there are.
    pub messages: u32,
    /// Octets of their bodies.
    pub body_octets: u64,
    /// Where they are.
    pub page: PagePlace,
}

impl AwayRun {
    /// From the first one's number to the last one's.
    #[must_use]
    pub const fn range(&self) -> Range {
        Range { first: self.first.0, last: self.last.0 }
    }
}
