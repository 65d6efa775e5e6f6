//! The ready messages of a queue, in the order in which they go out.
//!
//! Each priority has a band of its own, the highest first; a queue without priorities has one.
//! A message gets its *position* when it first leaves, and goes back there when it is requeued.
//! Invariant: what came back stands before everything of its band that never left.

use std::collections::{BTreeMap, VecDeque};

use smallvec::{SmallVec, smallvec};

use crate::Location;

/// Messages that an empty band keeps room for.
const IDLE_MESSAGES_MAX: usize = 4096;

/// Where a message stood in its queue. Lower ones go out first.
///
/// ```text
///   63      56 55                                0        63              16 15        0
///   +---------+----------------------------------+        +------------------+---------+
///   |  band   |              index               |   or   |      index       | returns |
///   +---------+----------------------------------+        +------------------+---------+
/// ```
///
/// The second form is that of queues that count how often a message came back; those have one band.
/// In a stream it is the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position(u64);

const BAND_SHIFT: u32 = 56;
const RETURNS_BITS: u32 = 16;
const RETURNS_MASK: u64 = (1 << RETURNS_BITS) - 1;

impl Position {
    /// Of a message in a stream.
    #[must_use]
    pub const fn of_offset(offset: u64) -> Self {
        Self(offset)
    }

    /// In a stream.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.0
    }

    /// How often the message came back, in a queue that counts it.
    #[must_use]
    pub const fn returns(self) -> u32 {
        (self.0 & RETURNS_MASK) as u32
    }

    /// The same position of a message that came back once more.
    const fn returned(self) -> Self {
        if self.0 & RETURNS_MASK == RETURNS_MASK { self } else { Self(self.0 + 1) }
    }

    #[allow(clippy::cast_possible_truncation, reason = "eight bits are left")]
    const fn band(self) -> usize {
        (self.0 >> BAND_SHIFT) as usize
    }
}

/// Messages of one priority that never left.
#[derive(Debug, Default)]
struct Band {
    fresh: VecDeque<Location>,
    /// The index of the first one.
    head: u64,
}

/// Ready messages.
#[derive(Debug)]
pub struct Ready {
    /// From the highest priority to the lowest.
    bands: SmallVec<[Band; 1]>,
    returned: BTreeMap<Position, Location>,
    counts_returns: bool,
    fresh_count: usize,
}

impl Default for Ready {
    fn default() -> Self {
        Self::new(0, false)
    }
}

impl Ready {
    pub(super) fn new(priority_max: u8, counts_returns: bool) -> Self {
        let mut bands = smallvec![Band::default()];
        if !counts_returns {
            bands.resize_with(usize::from(priority_max) + 1, Band::default);
        }
        Self { bands, returned: BTreeMap::new(), counts_returns, fresh_count: 0 }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.fresh_count + self.returned.len()
    }

    /// Whether priorities are told apart.
    pub(super) fn has_priorities(&self) -> bool {
        self.bands.len() > 1
    }

    /// Adds messages of the lowest priority behind the others.
    pub(super) fn extend(&mut self, batch: &[Location]) {
        let lowest = self.bands.len() - 1;
        self.bands[lowest].fresh.extend(batch);
        self.fresh_count += batch.len();
    }

    /// Adds a message behind the others of its priority; a higher one than there is counts as the
    /// highest.
    pub(super) fn push(&mut self, location: Location, priority: u8) {
        let lowest = self.bands.len() - 1;
        self.bands[lowest.saturating_sub(priority.into())].fresh.push_back(location);
        self.fresh_count += 1;
    }

    /// Puts a message back where it stood. `has_left` says that somebody was given it.
    pub(super) fn put_back(&mut self, position: Position, location: Location, has_left: bool) -> Position {
        let position = if self.counts_returns && has_left { position.returned() } else { position };
        let before = self.returned.insert(position, location);
        assert!(before.is_none(), "a position belongs to one message");
        position
    }

    /// Takes the first message.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(Location, Position)> {
        if self.returned.is_empty() && self.bands.len() == 1 {
            return self.pop_fresh(0);
        }
        self.pop_in_order()
    }

    fn pop_in_order(&mut self) -> Option<(Location, Position)> {
        let band = self.first_fresh_band();
        if let Some(entry) = self.returned.first_entry()
            && band.is_none_or(|band| self.counts_returns || entry.key().band() <= band)
        {
            let (position, location) = entry.remove_entry();
            return Some((location, position));
        }
        self.pop_fresh(band?)
    }

    fn first_fresh_band(&self) -> Option<usize> {
        self.bands.iter().position(|band| !band.fresh.is_empty())
    }

    #[inline]
    fn pop_fresh(&mut self, at: usize) -> Option<(Location, Position)> {
        let band = &mut self.bands[at];
        let location = band.fresh.pop_front()?;
        let index = band.head;
        band.head += 1;
        self.fresh_count -= 1;
        let position =
            if self.counts_returns { index << RETURNS_BITS } else { (at as u64) << BAND_SHIFT | index };
        Some((location, Position(position)))
    }

    /// The first message of each priority.
    pub(super) fn heads(&self) -> impl Iterator<Item = Location> {
        (0..self.bands.len()).filter_map(|band| self.head(band))
    }

    pub(super) fn band_count(&self) -> usize {
        self.bands.len()
    }

    /// The first message of a band.
    pub(super) fn head(&self, band: usize) -> Option<Location> {
        let returned = self.returned_of(band).map(|(_, location)| *location);
        returned.or_else(|| self.bands[band].fresh.front().copied())
    }

    fn returned_of(&self, band: usize) -> Option<(&Position, &Location)> {
        if self.counts_returns {
            return self.returned.first_key_value();
        }
        let first = Position((band as u64) << BAND_SHIFT);
        self.returned.range(first..).next().filter(|(position, _)| position.band() == band)
    }

    /// Takes the first message of a band.
    pub(super) fn pop_head(&mut self, band: usize) -> Option<Location> {
        if let Some((&position, _)) = self.returned_of(band) {
            return self.returned.remove(&position);
        }
        self.pop_fresh(band).map(|(location, _)| location)
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> Vec<VecDeque<Location>> {
        let mut drained = vec![std::mem::take(&mut self.returned).into_values().collect()];
        for band in &mut self.bands {
            band.head += band.fresh.len() as u64;
            drained.push(std::mem::take(&mut band.fresh));
        }
        self.fresh_count = 0;
        drained
    }

    /// A queue that was long keeps no more room than it needs.
    pub(super) fn give_back_room(&mut self) {
        for Band { fresh, .. } in &mut self.bands {
            if fresh.capacity() > IDLE_MESSAGES_MAX && fresh.len() < fresh.capacity() / 8 {
                fresh.shrink_to((fresh.len() * 2).max(IDLE_MESSAGES_MAX));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(n: usize) -> Location {
        Location::new(n, 0)
    }

    fn popped(ready: &mut Ready) -> Vec<usize> {
        std::iter::from_fn(|| ready.pop()).map(|(location, _)| location.chunk()).collect()
    }

    #[test]
    fn higher_priorities_go_first_and_each_keeps_its_order() {
        let mut ready = Ready::new(3, false);
        for (number, priority) in [0, 2, 9, 3, 2].into_iter().enumerate() {
            ready.push(location(number), priority);
        }
        assert_eq!(popped(&mut ready), [2, 3, 1, 4, 0]);
    }

    #[test]
    fn what_comes_back_stands_before_the_others_of_its_priority_only() {
        let mut ready = Ready::new(1, false);
        ready.push(location(0), 0);
        ready.push(location(1), 0);
        let (first, position) = ready.pop().unwrap();
        ready.put_back(position, first, true);
        ready.push(location(2), 1);
        assert_eq!(ready.heads().map(Location::chunk).collect::<Vec<_>>(), [2, 0]);
        assert_eq!(popped(&mut ready), [2, 0, 1]);
    }

    #[test]
    fn returns_are_counted_up_to_a_bound_and_do_not_change_the_order() {
        let mut ready = Ready::new(0, true);
        ready.extend(&[location(0), location(1)]);
        let (_, mut position) = ready.pop().unwrap();
        assert_eq!(position.returns(), 0);
        for returns in 1..70_000_u32 {
            position = ready.put_back(position, location(0), true);
            assert_eq!(position.returns(), returns.min(65_535));
            ready.pop().unwrap();
        }
        position = ready.put_back(position, location(0), false);
        assert_eq!(position.returns(), 65_535);
        assert_eq!(popped(&mut ready), [0, 1]);
    }
}
