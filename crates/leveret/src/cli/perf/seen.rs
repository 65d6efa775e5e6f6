//! Which numbers of a sequence have been seen: all below one, and single ones beyond it.
//!
//! Numbers that come in order cost a comparison and an addition. Only when one is left out is there a bit
//! for each that follows, until the hole is filled. Consumers find gaps and repeats with it, and producers
//! which of their messages are confirmed. Invariant: a number counts as new once.

use std::collections::VecDeque;

const WORD_BITS: u64 = u64::BITS as u64;
/// How far beyond a hole numbers may go, 32 MiB of bits, before the hole is given up as never to be filled.
const AHEAD_MAX: u64 = 1 << 28;

/// What a number is, in the light of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The one after the highest.
    Next,
    /// Higher than that: some were left out, at least for now.
    Skipping,
    /// One that had been left out.
    Late,
    /// One that had been seen.
    Repeated,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Every number below this one was seen, or is no longer waited for.
    next: u64,
    /// One more than the highest number seen.
    end: u64,
    /// A bit for each number from `base` on; empty while there is no hole.
    bits: VecDeque<u64>,
    base: u64,
    /// Numbers below this one may come but need not.
    floor: u64,
    given_up: u64,
}

impl Seen {
    /// For a sequence that is come upon somewhere: `first` is the first number seen, and the `margin` before
    /// it may still come.
    pub(super) fn from_within(first: u64, margin: u64) -> Self {
        let start = first.saturating_sub(margin);
        let mut seen = Self { next: start, end: start, floor: first, ..Self::default() };
        seen.mark(first);
        seen
    }

    /// The number whose last 32 bits these are, next to those that were seen; `None` if it is below 0.
    #[inline]
    pub(super) fn widen(&self, low: u32) -> Option<u64> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "modulo 2^32")]
        let distance = low.wrapping_sub(self.end as u32) as i32;
        self.end.checked_add_signed(distance.into())
    }

    #[inline]
    pub(super) fn mark(&mut self, number: u64) -> Mark {
        if number == self.end && self.bits.is_empty() {
            self.end += 1;
            self.next = self.end;
            return Mark::Next;
        }
        self.mark_among_holes(number)
    }

    #[cold]
    fn mark_among_holes(&mut self, number: u64) -> Mark {
        if number < self.next {
            return Mark::Repeated;
        }
        let is_next = number == self.end;
        let is_late = number < self.end;
        self.reach(number);
        if !self.set(number) {
            return Mark::Repeated;
        }
        self.floor = self.floor.min(number);
        self.close_up();
        match (is_next, is_late) {
            (true, _) => Mark::Next,
            (_, true) => Mark::Late,
            _ => Mark::Skipping,
        }
    }

    /// Marks every number up to `last`; how many of them are new.
    pub(super) fn mark_through(&mut self, last: u64) -> u64 {
        if last < self.next {
            return 0;
        }
        if self.bits.is_empty() {
            let new = last + 1 - self.next;
            (self.next, self.end) = (last + 1, last + 1);
            return new;
        }
        (self.next..=last).map(|number| self.mark(number)).filter(|mark| *mark != Mark::Repeated).count()
            as u64
    }

    /// Numbers below the highest that did not come.
    pub(super) fn missing(&self) -> u64 {
        if self.bits.is_empty() {
            return self.given_up;
        }
        let from = self.floor.max(self.next);
        let holes = (from..self.end).filter(|number| !self.holds(*number)).count() as u64;
        self.given_up + holes
    }

    /// Makes room for the bit of `number`.
    fn reach(&mut self, number: u64) {
        if !self.bits.is_empty() && number - self.base > AHEAD_MAX {
            self.given_up = self.missing();
            self.next = self.end;
            self.bits.clear();
        }
        if self.bits.is_empty() {
            self.base = self.next / WORD_BITS * WORD_BITS;
            self.bits.push_back((1 << (self.next % WORD_BITS)) - 1);
        }
        self.end = self.end.max(number + 1);
        // A number that is far away by itself is not worth a bit for each before it.
        if number - self.base > AHEAD_MAX {
            self.given_up += number - self.next;
            self.base = number / WORD_BITS * WORD_BITS;
            self.bits.clear();
            self.bits.push_back((1 << (number % WORD_BITS)) - 1);
        }
        while self.base + self.bits.len() as u64 * WORD_BITS <= number {
            self.bits.push_back(0);
        }
    }

    fn place(&self, number: u64) -> (usize, u64) {
        let offset = number - self.base;
        let word = usize::try_from(offset / WORD_BITS).expect("at most AHEAD_MAX bits");
        (word, 1 << (offset % WORD_BITS))
    }

    fn holds(&self, number: u64) -> bool {
        let (word, bit) = self.place(number);
        self.bits[word] & bit != 0
    }

    /// Sets the bit; whether it was not set.
    fn set(&mut self, number: u64) -> bool {
        let (word, bit) = self.place(number);
        let is_new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        is_new
    }

    /// Drops the words in front that have no hole, and all of them after the last hole.
    fn close_up(&mut self) {
        while self.bits.front() == Some(&u64::MAX) {
            self.bits.pop_front();
            self.base += WORD_BITS;
        }
        self.next = self.base + self.bits.front().map_or(0, |word| u64::from(word.trailing_ones()));
        if self.next >= self.end {
            self.bits.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mark::{Late, Next, Repeated, Skipping};

    fn check(numbers: &[u64], wanted: &[Mark], missing: u64) -> Seen {
        let mut seen = Seen::default();
        let marks: Vec<Mark> = numbers.iter().map(|number| seen.mark(*number)).collect();
        assert_eq!(marks, wanted, "{numbers:?}");
        assert_eq!(seen.missing(), missing, "{numbers:?}");
        seen
    }

    #[test]
    fn numbers_are_told_apart() {
        check(&[0, 1, 2], &[Next, Next, Next], 0);
        check(&[0, 0, 1], &[Next, Repeated, Next], 0);
        check(&[2, 3, 0], &[Skipping, Next, Late], 1);
        check(&[2, 1, 0, 3, 1], &[Skipping, Late, Late, Next, Repeated], 0);
        check(&[64, 0, 64, 65], &[Skipping, Next.late(), Repeated, Next], 63);
        check(&[200, 201, 200], &[Skipping, Next, Repeated], 200);
    }

    impl Mark {
        /// What is next in the sequence is late where higher ones were seen.
        fn late(self) -> Self {
            assert_eq!(self, Next);
            Late
        }
    }

    #[test]
    fn a_filled_hole_leaves_no_bits() {
        let mut order: Vec<u64> = (0..500).collect();
        order.reverse();
        let mut seen = Seen::default();
        for number in order {
            seen.mark(number);
        }
        assert_eq!((seen.missing(), seen.end, seen.bits.len()), (0, 500, 0));
        assert_eq!(seen.mark(500), Next);
    }

    #[test]
    fn many_at_once_count_what_is_new() {
        let mut seen = Seen::default();
        assert_eq!(seen.mark_through(9), 10);
        assert_eq!(seen.mark(12), Skipping);
        assert_eq!(seen.mark_through(14), 4);
        assert_eq!(seen.mark_through(14), 0);
        assert_eq!((seen.missing(), seen.end), (0, 15));
    }

    #[test]
    fn a_sequence_that_is_come_upon_has_no_beginning_to_miss() {
        let mut seen = Seen::from_within(1000, 100);
        assert_eq!((seen.missing(), seen.mark(998)), (0, Late));
        assert_eq!((seen.missing(), seen.mark(1001)), (1, Next));
        assert_eq!((seen.mark(999), seen.missing(), seen.mark(899)), (Late, 0, Repeated));
    }

    #[test]
    fn a_hole_is_given_up_where_it_would_cost_too_much() {
        let far = AHEAD_MAX * 3;
        let mut seen = check(&[0, far], &[Next, Skipping], far - 1);
        assert_eq!(seen.mark(far + 1), Next);
        assert_eq!(seen.mark(5), Repeated);
        let mut seen = check(&[0, 2], &[Next, Skipping], 1);
        assert_eq!((seen.mark(far), seen.missing()), (Skipping, far - 2));
    }

    #[test]
    fn low_bits_are_taken_near_the_end() {
        let seen = Seen { end: (1 << 32) + 5, ..Seen::default() };
        assert_eq!(seen.widen(5), Some((1 << 32) + 5));
        assert_eq!(seen.widen(u32::MAX), Some(u64::from(u32::MAX)));
        assert_eq!(Seen::default().widen(u32::MAX), None);
    }
}
