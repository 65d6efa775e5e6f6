//! Deliveries of a channel that await their acknowledgement, by delivery tag.
//!
//! Tags only grow, and are mostly settled in order; so they stand in a sorted run in which
//! settled ones leave holes. Invariant: there are never more holes than deliveries, plus a few.

use std::collections::VecDeque;

/// Holes that are left alone, however few deliveries there are.
const HOLES_FREE: usize = 64;

/// A tag that is not outstanding on the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownDeliveryTag(pub u64);

/// The unacknowledged deliveries of a channel.
#[derive(Debug)]
pub struct Unacked<T> {
    entries: VecDeque<(u64, Option<T>)>,
    live: usize,
    last_tag: u64,
}

impl<T> Default for Unacked<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), live: 0, last_tag: 0 }
    }
}

impl<T> Unacked<T> {
    /// The next delivery tag, for a delivery that needs no acknowledgement.
    #[inline]
    pub const fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// Keeps a delivery and returns its tag.
    #[inline]
    pub fn push(&mut self, delivery: T) -> u64 {
        let tag = self.next_tag();
        self.entries.push_back((tag, Some(delivery)));
        self.live += 1;
        tag
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The tag given last.
    #[must_use]
    pub const fn last_tag(&self) -> u64 {
        self.last_tag
    }

    /// The tag of the oldest one.
    #[must_use]
    pub fn first_tag(&self) -> Option<u64> {
        self.entries.front().map(|(tag, _)| *tag)
    }

    /// The deliveries with their tags, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.entries.iter().filter_map(|(tag, delivery)| Some((*tag, delivery.as_ref()?)))
    }

    /// The deliveries in the order of their tags.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|(_, delivery)| delivery.as_mut())
    }

    /// Takes one delivery.
    ///
    /// # Errors
    /// [`UnknownDeliveryTag`] when it is not outstanding.
    pub fn take(&mut self, tag: u64) -> Result<T, UnknownDeliveryTag> {
        let at = self.find(tag).ok_or(UnknownDeliveryTag(tag))?;
        let delivery = self.entries[at].1.take().ok_or(UnknownDeliveryTag(tag))?;
        self.live -= 1;
        self.close_holes();
        Ok(delivery)
    }

    /// Takes every delivery up to and with that tag into `taken`; all of them for tag 0.
    ///
    /// # Errors
    /// [`UnknownDeliveryTag`] when the tag itself is not outstanding, as RabbitMQ has it.
    pub fn take_through(&mut self, tag: u64, taken: &mut Vec<T>) -> Result<(), UnknownDeliveryTag> {
        let end = match tag {
            0 => self.entries.len(),
            _ => match self.find(tag) {
                Some(at) if self.entries[at].1.is_some() => at + 1,
                _ => return Err(UnknownDeliveryTag(tag)),
            },
        };
        let before = taken.len();
        taken.extend(self.entries.drain(..end).filter_map(|(_, delivery)| delivery));
        self.live -= taken.len() - before;
        self.close_holes();
        Ok(())
    }

    /// The tags that settling `tag` would settle, without doing so.
    ///
    /// # Errors
    /// [`UnknownDeliveryTag`] as [`Unacked::take`] and [`Unacked::take_through`] have it.
    pub fn tags(&self, tag: u64, multiple: bool) -> Result<Vec<u64>, UnknownDeliveryTag> {
        let at = self.find(tag).filter(|&at| self.entries[at].1.is_some());
        let (first, end) = match (at, multiple) {
            (None, true) if tag == 0 => (0, self.entries.len()),
            (None, _) => return Err(UnknownDeliveryTag(tag)),
            (Some(at), true) => (0, at + 1),
            (Some(at), false) => (at, at + 1),
        };
        let entries = self.entries.range(first..end);
        Ok(entries.filter(|(_, delivery)| delivery.is_some()).map(|(tag, _)| *tag).collect())
    }

    fn find(&self, tag: u64) -> Option<usize> {
        let (first, _) = self.entries.front()?;
        let guess = usize::try_from(tag.checked_sub(*first)?).ok()?;
        match self.entries.get(guess) {
            Some((found, _)) if *found == tag => Some(guess),
            _ => self.entries.binary_search_by_key(&tag, |(tag, _)| *tag).ok(),
        }
    }

    fn close_holes(&mut self) {
        while let Some((_, None)) = self.entries.front() {
            self.entries.pop_front();
        }
        if self.entries.len() > 2 * self.live + HOLES_FREE {
            self.entries.retain(|(_, delivery)| delivery.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u64) -> Unacked<u64> {
        let mut unacked = Unacked::default();
        for n in 1..=count {
            assert_eq!(unacked.push(n), n);
        }
        unacked
    }

    #[test]
    fn a_tag_is_taken_once() {
        let mut unacked = filled(3);
        assert_eq!(unacked.take(2), Ok(2));
        assert_eq!(unacked.take(2), Err(UnknownDeliveryTag(2)));
        assert_eq!(unacked.take(4), Err(UnknownDeliveryTag(4)));
        assert_eq!(unacked.take(0), Err(UnknownDeliveryTag(0)));
        assert_eq!((unacked.take(1), unacked.take(3)), (Ok(1), Ok(3)));
        assert!(unacked.is_empty());
    }

    #[test]
    fn multiple_takes_what_came_before() {
        let mut unacked = filled(5);
        unacked.take(2).unwrap();
        let mut taken = Vec::new();
        unacked.take_through(3, &mut taken).unwrap();
        assert_eq!(taken, [1, 3]);
        assert_eq!(unacked.take_through(3, &mut taken), Err(UnknownDeliveryTag(3)));
        assert_eq!(unacked.take_through(9, &mut taken), Err(UnknownDeliveryTag(9)));
        unacked.take_through(0, &mut taken).unwrap();
        assert_eq!(taken, [1, 3, 4, 5]);
        assert_eq!(unacked.take_through(0, &mut taken), Ok(()));
    }

    #[test]
    fn one_old_delivery_does_not_keep_holes() {
        let mut unacked = filled(1);
        for n in 2..10_000 {
            assert_eq!(unacked.push(n), n);
            assert_eq!(unacked.take(n), Ok(n));
        }
        assert!(unacked.entries.len() <= 2 + HOLES_FREE);
        unacked.next_tag();
        assert_eq!(unacked.push(7), 10_001);
        assert_eq!((unacked.take(10_001), unacked.take(1)), (Ok(7), Ok(1)));
    }
}
