//! The destinations that a message was found to have, each once, in the order they were found.
//!
//! Most messages have one or two, which are told apart by looking at them; a set that is hashed
//! costs an allocation and a hash for each before it is of use. Invariant: a destination stands
//! here once, however often it was offered.

use indexmap::IndexSet;
use smallvec::SmallVec;

use super::binding::Destination;

/// Up to so many are compared one by one.
const FEW_MAX: usize = 8;

/// Destinations, each once.
#[derive(Debug, Default)]
pub struct Found {
    shape: Shape,
    offered: usize,
}

#[derive(Debug)]
enum Shape {
    Few(SmallVec<[Destination; FEW_MAX]>),
    Many(IndexSet<Destination>),
}

impl Default for Shape {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Found {
    /// Adds a destination, unless it is there.
    pub fn insert(&mut self, destination: Destination) {
        self.offered += 1;
        match &mut self.shape {
            Shape::Few(few) if few.contains(&destination) => {}
            Shape::Few(few) if few.len() < FEW_MAX => few.push(destination),
            Shape::Few(few) => {
                let mut many: IndexSet<_> = few.drain(..).collect();
                many.insert(destination);
                self.shape = Shape::Many(many);
            }
            Shape::Many(many) => drop(many.insert(destination)),
        }
    }

    /// How many were offered so far, those that were there already among them. An exchange that
    /// offers none has no use for the message.
    #[must_use]
    pub const fn offered(&self) -> usize {
        self.offered
    }

    /// The destination at that place.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<Destination> {
        match &self.shape {
            Shape::Few(few) => few.get(place).copied(),
            Shape::Many(many) => many.get_index(place).copied(),
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Destination> + '_ {
        (0..).map_while(|place| self.get(place))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.shape {
            Shape::Few(few) => few.len(),
            Shape::Many(many) => many.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Extend<Destination> for Found {
    fn extend<I: IntoIterator<Item = Destination>>(&mut self, destinations: I) {
        for destination in destinations {
            self.insert(destination);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::topology::QueueId, *};

    #[test]
    fn order_and_oneness_hold_across_the_change_of_shape() {
        let queue = |n| Destination::Queue(QueueId(n));
        let mut found = Found::default();
        for n in 0..20 {
            found.extend([queue(n), queue(n / 2)]);
            assert_eq!(found.len(), n + 1);
        }
        assert!(found.iter().eq((0..20).map(queue)));
    }
}
