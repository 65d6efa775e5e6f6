//! How often messages came back to a queue that counts it.
//!
//! Invariant: a count never falls, so that what says it may be carried out again, in any order.

use std::collections::BTreeMap;

use super::ranges::{Range, RangeSet};

/// A message that came back so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Return {
    /// Its ordinal.
    pub ordinal: u64,
    /// How often, at least once.
    pub count: u32,
}

/// Messages of a queue that came back, by their ordinals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Returns {
    counts: BTreeMap<u64, u32>,
}

impl Returns {
    /// A message came back so often, if not more often already.
    pub fn note(&mut self, Return { ordinal, count }: Return) {
        let known = self.counts.entry(ordinal).or_default();
        *known = count.max(*known);
    }

    /// Messages left the queue.
    pub fn forget(&mut self, Range { first, last }: Range) {
        while let Some((&ordinal, _)) = self.counts.range(first..=last).next() {
            self.counts.remove(&ordinal);
        }
    }

    /// Forgets all messages that left the queue.
    pub fn forget_gone(&mut self, gone: &RangeSet) {
        self.counts.retain(|ordinal, _| !gone.contains(*ordinal));
    }

    /// In the order of their ordinals.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Return> {
        self.counts.iter().map(|(&ordinal, &count)| Return { ordinal, count })
    }

    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether none came back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(returns: &[(u64, u32)]) -> Returns {
        let mut counted = Returns::default();
        returns.iter().for_each(|&(ordinal, count)| counted.note(Return { ordinal, count }));
        counted
    }

    #[test]
    fn a_count_never_falls_whatever_the_order() {
        assert_eq!(counted(&[(3, 1), (3, 2), (9, 1)]), counted(&[(9, 1), (3, 2), (3, 1), (3, 2)]));
        let told: Vec<_> = counted(&[(3, 2), (3, 1)]).iter().collect();
        assert_eq!(told, [Return { ordinal: 3, count: 2 }]);
    }

    #[test]
    fn what_left_is_forgotten() {
        let mut returns = counted(&[(1, 1), (4, 1), (5, 2), (u64::MAX, 1)]);
        returns.forget(Range { first: 2, last: 4 });
        assert_eq!(returns, counted(&[(1, 1), (5, 2), (u64::MAX, 1)]));
        returns.forget_gone(&[Range::of(1), Range::of(u64::MAX)].into_iter().collect());
        assert_eq!(returns, counted(&[(5, 2)]));
        returns.forget(Range { first: 0, last: u64::MAX });
        assert!(returns.is_empty());
    }
}
