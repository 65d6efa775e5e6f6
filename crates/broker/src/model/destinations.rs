//! A set of destinations, each with the number of bindings that lead to it.
//!
//! Invariant: a destination stands in a set once, with a count of at least one.

use indexmap::IndexMap;
use smallvec::SmallVec;

use super::{binding::Destination, found::Found};

/// Sets up to this size are searched in line; most keys have one destination.
const FEW_MAX: usize = 8;

/// Destinations under one key.
#[derive(Debug, Clone)]
pub enum DestinationSet {
    /// So few that they are searched in line.
    Few(SmallVec<[(Destination, u32); 1]>),
    /// Any number.
    Many(Box<IndexMap<Destination, u32>>),
}

impl Default for DestinationSet {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl DestinationSet {
    /// Counts one more binding to the destination.
    pub fn insert(&mut self, destination: Destination) {
        match self {
            Self::Few(few) => match few.iter().position(|(found, _)| *found == destination) {
                Some(at) => few[at].1 += 1,
                None if few.len() < FEW_MAX => few.push((destination, 1)),
                None => {
                    let mut many: IndexMap<_, _> = few.drain(..).collect();
                    many.insert(destination, 1);
                    *self = Self::Many(Box::new(many));
                }
            },
            Self::Many(many) => *many.entry(destination).or_insert(0) += 1,
        }
    }

    /// Counts one binding less; at none the destination is out of the set.
    pub fn remove(&mut self, destination: Destination) {
        match self {
            Self::Few(few) => {
                let Some(at) = few.iter().position(|(found, _)| *found == destination) else { return };
                few[at].1 -= 1;
                if few[at].1 == 0 {
                    few.remove(at);
                }
            }
            Self::Many(many) => {
                let Some(count) = many.get_mut(&destination) else { return };
                *count -= 1;
                if *count == 0 {
                    many.swap_remove(&destination);
                }
            }
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Destination> + '_ {
        let (few, many) = match self {
            Self::Few(few) => (few.as_slice(), None),
            Self::Many(many) => (&[][..], Some(many.keys().copied())),
        };
        few.iter().map(|(destination, _)| *destination).chain(many.into_iter().flatten())
    }

    /// Adds all of them to `found`.
    pub fn collect_into(&self, found: &mut Found) {
        found.extend(self.iter());
    }
}

#[cfg(test)]
mod tests {
    use super::{super::topology::QueueId, *};

    fn members(set: &DestinationSet) -> usize {
        let mut found = Found::default();
        set.collect_into(&mut found);
        found.len()
    }

    #[test]
    fn counts_hold_across_the_change_of_shape() {
        let queue = |n| Destination::Queue(QueueId(n));
        let mut set = DestinationSet::default();
        for n in 0..20 {
            set.insert(queue(n));
            set.insert(queue(n));
        }
        assert_eq!(members(&set), 20);
        for n in 0..20 {
            set.remove(queue(n));
        }
        assert_eq!(members(&set), 20, "each has one binding left");
        for n in 0..20 {
            set.remove(queue(n));
            set.remove(queue(n));
        }
        assert!(set.is_empty());
    }
}
