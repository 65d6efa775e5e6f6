//! When each message that waits for its confirm was handed to the socket.
//!
//! Messages that left together share one entry. Knows numbers and times; which numbers are confirmed for the
//! first time is for `seen` to say. Invariant: every entry has a message that is unconfirmed, so that there
//! are never more of them than the producer's window allows messages.

use std::collections::VecDeque;

use super::stamp::Ticks;

#[derive(Debug)]
struct Batch {
    first: u64,
    /// One more than the last.
    end: u64,
    unconfirmed: u64,
    when: Ticks,
}

#[derive(Debug, Default)]
pub(super) struct Handed {
    /// In the order of their numbers.
    batches: VecDeque<Batch>,
}

impl Handed {
    /// `count` messages, from number `first` on, which follows those before.
    pub(super) fn add(&mut self, first: u64, count: u64, when: Ticks) {
        self.batches.push_back(Batch { first, end: first + count, unconfirmed: count, when });
    }

    /// Takes out a message that was not confirmed before; when it was handed over.
    pub(super) fn take(&mut self, number: u64) -> Option<Ticks> {
        let index = self.batches.partition_point(|batch| batch.end <= number);
        let batch = self.batches.get_mut(index).filter(|batch| batch.first <= number)?;
        let when = batch.when;
        batch.unconfirmed -= 1;
        if batch.unconfirmed == 0 {
            self.batches.remove(index);
        }
        Some(when)
    }

    /// Takes out the `new` messages up to number `last` that were not confirmed before; `each` is told when
    /// so many of them were handed over.
    pub(super) fn take_through(&mut self, last: u64, mut new: u64, mut each: impl FnMut(Ticks, u64)) {
        while let Some(batch) = self.batches.front_mut().filter(|batch| batch.first <= last && new > 0) {
            // Of the last batch only a part may be meant.
            let taken = batch.unconfirmed.min(new);
            batch.unconfirmed -= taken;
            new -= taken;
            each(batch.when, taken);
            if batch.unconfirmed > 0 {
                return;
            }
            self.batches.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(handed: &mut Handed, last: u64, new: u64) -> Vec<(u64, u64)> {
        let mut taken = Vec::new();
        handed.take_through(last, new, |when, count| taken.push((when.0, count)));
        taken
    }

    #[test]
    fn each_message_is_told_with_the_time_of_its_batch() {
        let mut handed = Handed::default();
        handed.add(0, 10, Ticks(100));
        handed.add(10, 5, Ticks(200));
        handed.add(15, 1, Ticks(300));
        assert_eq!(handed.take(12), Some(Ticks(200)));
        assert_eq!(handed.take(15), Some(Ticks(300)));
        assert_eq!(handed.take(15), None, "its batch is gone");
        assert_eq!(through(&mut handed, 3, 4), [(100, 4)]);
        // Up to number 13, of which 12 was confirmed alone.
        assert_eq!(through(&mut handed, 13, 9), [(100, 6), (200, 3)]);
        assert_eq!(handed.take(14), Some(Ticks(200)));
        assert!(handed.batches.is_empty());
    }

    #[test]
    fn a_batch_in_the_middle_goes_when_its_last_message_is_confirmed() {
        let mut handed = Handed::default();
        for number in 0..1000 {
            handed.add(number, 1, Ticks(number));
        }
        for number in 1..1000 {
            assert_eq!(handed.take(number), Some(Ticks(number)));
        }
        assert_eq!(handed.batches.len(), 1);
        assert_eq!(through(&mut handed, 999, 1), [(0, 1)]);
    }
}
