//! Sets of numbers that come mostly one behind the other.
//!
//! Invariant: ranges neither overlap nor touch, so a set has one form.

use std::collections::BTreeMap;

/// Numbers from the first to the last, both of them in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The lowest.
    pub first: u64,
    /// The highest, which is not below the lowest.
    pub last: u64,
}

impl Range {
    /// One number.
    #[must_use]
    pub const fn of(number: u64) -> Self {
        Self { first: number, last: number }
    }

    /// How many numbers there are; the count of all numbers counts as one less.
    #[must_use]
    pub const fn len(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// Never: a range has a first number.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }
}

/// Adds a number to ranges that are collected in order, where it mostly follows the last one.
pub fn collect(ranges: &mut Vec<Range>, number: u64) {
    match ranges.last_mut() {
        Some(range) if range.last.checked_add(1) == Some(number) => range.last = number,
        _ => ranges.push(Range::of(number)),
    }
}

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// From the first number of each range to the last.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds the numbers of a range, those that are in the set already among them.
    pub fn insert(&mut self, range: Range) {
        let Range { mut first, mut last } = range;
        if let Some((&before, &end)) = self.ranges.range(..=first).next_back()
            && end >= first.saturating_sub(1)
        {
            if end >= last {
                return;
            }
            first = before;
        }
        while let Some((&next, &end)) = self.ranges.range(first..).next()
            && next <= last.saturating_add(1)
        {
            last = last.max(end);
            self.ranges.remove(&next);
        }
        self.ranges.insert(first, last);
    }

    /// Whether the number is in the set.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.covers(Range::of(number))
    }

    /// Whether all numbers of the range are in the set.
    #[must_use]
    pub fn covers(&self, range: Range) -> bool {
        self.ranges.range(..=range.first).next_back().is_some_and(|(_, end)| *end >= range.last)
    }

    /// Whether any number of the range is in the set.
    #[must_use]
    pub fn meets(&self, range: Range) -> bool {
        self.ranges.range(..=range.last).next_back().is_some_and(|(_, end)| *end >= range.first)
    }

    /// How many numbers of the range are in the set.
    #[must_use]
    pub fn count_within(&self, range: Range) -> u64 {
        let before = self.ranges.range(..range.first).next_back();
        let within = self.ranges.range(range.first..=range.last);
        let overlap = |(&first, &last): (&u64, &u64)| {
            let (first, last) = (first.max(range.first), last.min(range.last));
            if first > last { 0 } else { Range { first, last }.len() }
        };
        before.into_iter().chain(within).map(overlap).sum()
    }

    /// The lowest number of the set that is higher than that.
    #[must_use]
    pub fn first_behind(&self, number: u64) -> Option<u64> {
        let next = number.checked_add(1)?;
        if self.contains(next) {
            return Some(next);
        }
        self.ranges.range(next..).next().map(|(first, _)| *first)
    }

    /// Adds all of the range but what is in `without`, whose ranges are in order and within it.
    pub fn close_within(&mut self, range: Range, without: impl IntoIterator<Item = Range>) {
        let mut next = range.first;
        for Range { first, last } in without {
            if first > next {
                self.insert(Range { first: next, last: first - 1 });
            }
            next = last + 1;
        }
        if next <= range.last {
            self.insert(Range { first: next, last: range.last });
        }
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range> {
        self.ranges.iter().map(|(&first, &last)| Range { first, last })
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether no number is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl FromIterator<Range> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check(inserted: &[(u64, u64)], wanted: &[(u64, u64)]) {
        let range = |&(first, last): &(u64, u64)| Range { first, last };
        let set: RangeSet = inserted.iter().map(range).collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), wanted.iter().map(range).collect::<Vec<_>>());
    }

    #[test]
    fn neighbours_become_one() {
        check(&[(1, 1), (3, 3), (2, 2)], &[(1, 3)]);
        check(&[(5, 9), (1, 2)], &[(1, 2), (5, 9)]);
        check(&[(5, 9), (1, 4)], &[(1, 9)]);
        check(&[(5, 9), (0, u64::MAX)], &[(0, u64::MAX)]);
        check(&[(0, 3), (2, 7), (1, 1)], &[(0, 7)]);
    }

    #[test]
    fn it_holds_what_a_plain_set_holds() {
        let mut state = 9_u64;
        let (mut set, mut plain) = (RangeSet::default(), BTreeSet::new());
        for _ in 0..400 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (first, length) = (state >> 33 & 127, state >> 60);
            set.insert(Range { first, last: first + length });
            plain.extend(first..=first + length);
            assert!((0..160).all(|number| set.contains(number) == plain.contains(&number)));
            let some = Range { first: first / 2, last: first / 2 + 3 * length };
            let count = plain.range(some.first..=some.last).count() as u64;
            assert_eq!(set.count_within(some), count, "{some:?} of {set:?}");
            if set.covers(Range { first: 0, last: 127 }) {
                (set, plain) = (RangeSet::default(), BTreeSet::new());
            }
        }
    }

    #[test]
    fn what_lies_around_others_is_added() {
        let range = |first, last| Range { first, last };
        let mut set = RangeSet::default();
        set.close_within(range(10, 30), [range(10, 12), range(15, 15), range(20, 25)]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [range(13, 14), range(16, 19), range(26, 30)]);
        assert!(set.meets(range(0, 13)) && !set.meets(range(20, 25)) && !set.meets(range(0, 12)));
        assert_eq!(
            (set.first_behind(13), set.first_behind(14), set.first_behind(30)),
            (Some(14), Some(16), None)
        );
    }

    #[test]
    fn numbers_in_order_are_collected_as_ranges() {
        let mut ranges = Vec::new();
        [4, 5, 6, 9, 1, 2].into_iter().for_each(|number| collect(&mut ranges, number));
        let wanted = [(4, 6), (9, 9), (1, 2)].map(|(first, last)| Range { first, last });
        assert_eq!(ranges, wanted);
    }
}
