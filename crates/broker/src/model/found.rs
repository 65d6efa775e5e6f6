//! The destinations that a message was found to have, each once, in the order they were found.
//!
//! Most messages have one or two, which are told apart by looking at them; a set that is hashed
//! costs an allocation and a hash for each before it is of use. Invariant: a destination stands
//! here once.

use indexmap::IndexSet;
use smallvec::SmallVec;

use super::binding::Destination;

/// Up to so many are compared one by one.
const FEW_MAX: usize = 8;

/// Destinations, each once.
#[derive(Debug)]
pub struct Found(Shape);

#[derive(Debug)]
enum Shape {
    Few(SmallVec<[Destination; FEW_MAX]>),
    Many(IndexSet<Destination>),
}

impl Default for Found {
    fn default() -> Self {
        Self(Shape::Few(SmallVec::new()))
    }
}

impl Found {
    /// Adds a destination, unless it is there.
    pub fn insert(&mut self, destination: Destination) {
        match &mut self.0 {
            Shape::Few(few) if few.contains(&destination) => {}
            Shape::Few(few) if few.len() < FEW_MAX => few.push(destination),
            Shape::Few(few) => {
                let mut many: IndexSet<_> = few.drain(..).collect();
                many.insert(destination);
                self.0 = Shape::Many(many);
            }
            Shape::Many(many) => drop(many.insert(destination)),
        }
    }

    /// The destination at that place.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<Destination> {
        match &self.0 {
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
        match &self.0 {
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
