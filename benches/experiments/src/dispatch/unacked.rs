//! The deliveries of one consumer that wait for their acknowledgement.
//!
//! Leaves credit and the log to its owner. Invariant: the first entry is the oldest tag not settled.

use std::collections::VecDeque;

use super::log::Location;

/// Unsettled deliveries by tag; tags are dense and begin at zero.
#[derive(Default)]
pub(super) struct Unacked {
    first_tag: u64,
    entries: VecDeque<Option<Location>>,
}

impl Unacked {
    pub(super) fn extend(&mut self, locations: &[Location]) {
        self.entries.extend(locations.iter().copied().map(Some));
    }

    /// Moves the locations of the acknowledged tags into `settled`.
    pub(super) fn settle(&mut self, tags: &[u64], settled: &mut Vec<Location>) {
        for tag in tags {
            let entry = self.entries.get_mut((tag - self.first_tag) as usize);
            settled.extend(entry.and_then(Option::take));
        }
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first_tag += 1;
        }
    }
}
