//! Which numbered lines of each source have come, and which have not.
//!
//! Knows stamps only; never messages, queues or time. Invariant: a source's holes lie below its highest
//! number, apart from each other, in order.

use std::{collections::HashMap, ops::RangeInclusive};

use crate::cli::stamp::{Source, Stamp};

/// Sources remembered at once. A machine that runs `emit` for every message makes a new one each time;
/// the one that was silent the longest is forgotten first.
const SOURCES_MAX: usize = 1024;

/// Holes remembered for one source; of more, the oldest are no longer expected to be filled.
const HOLES_MAX: usize = 256;

/// What a line's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The next one, or the first of a source that may have begun before us.
    InOrder,
    /// So many numbers before it have not come; `across_gap` where a gap lies between.
    AfterHole { missed: u64, across_gap: bool },
    /// It was missed before, and came late.
    Late,
    /// It has come before.
    Repeat,
}

#[derive(Debug, Default)]
pub(crate) struct Tracker {
    sources: HashMap<Source, Progress>,
    clock: u64,
    last_gap: u64,
}

#[derive(Debug)]
struct Progress {
    highest: u64,
    holes: Vec<RangeInclusive<u64>>,
    last_heard: u64,
}

impl Tracker {
    /// Takes note of a line. `from_first` says that its source is known to have begun after us, so that
    /// all of its lines were ours to see.
    pub(crate) fn observe(&mut self, stamp: Stamp, from_first: bool) -> Seen {
        self.clock += 1;
        let (clock, last_gap) = (self.clock, self.last_gap);
        if !self.sources.contains_key(&stamp.source) {
            self.make_room();
        }
        let progress = self.sources.entry(stamp.source).or_insert_with(|| {
            let highest = if from_first { 0 } else { stamp.number - 1 };
            Progress { highest, holes: Vec::new(), last_heard: 0 }
        });
        let across_gap = std::mem::replace(&mut progress.last_heard, clock) < last_gap;
        progress.observe(stamp.number, across_gap)
    }

    /// No queue of ours was bound between the last line and the next one.
    pub(crate) fn gap(&mut self) {
        self.clock += 1;
        self.last_gap = self.clock;
    }

    fn make_room(&mut self) {
        if self.sources.len() < SOURCES_MAX {
            return;
        }
        let oldest = self.sources.iter().min_by_key(|(_, progress)| progress.last_heard);
        if let Some(oldest) = oldest.map(|(source, _)| *source) {
            self.sources.remove(&oldest);
        }
    }
}

impl Progress {
    fn observe(&mut self, number: u64, across_gap: bool) -> Seen {
        if number <= self.highest {
            return if self.fill(number) { Seen::Late } else { Seen::Repeat };
        }
        let missed = number - self.highest - 1;
        if missed > 0 {
            self.holes.push(self.highest + 1..=number - 1);
            if self.holes.len() > HOLES_MAX {
                self.holes.remove(0);
            }
        }
        self.highest = number;
        if missed > 0 { Seen::AfterHole { missed, across_gap } } else { Seen::InOrder }
    }

    /// Takes a number out of the hole it lies in, if it lies in one.
    fn fill(&mut self, number: u64) -> bool {
        let Some(at) = self.holes.iter().position(|hole| hole.contains(&number)) else { return false };
        let hole = self.holes.remove(at);
        let parts = [*hole.start()..=number - 1, number + 1..=*hole.end()];
        let left = parts.into_iter().filter(|part| !part.is_empty());
        self.holes.splice(at..at, left);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn source(random: u32) -> Source {
        Source::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1), random)
    }

    fn observe(tracker: &mut Tracker, number: u64, from_first: bool) -> Seen {
        tracker.observe(Stamp { source: source(1), number }, from_first)
    }

    fn hole(missed: u64) -> Seen {
        Seen::AfterHole { missed, across_gap: false }
    }

    #[track_caller]
    fn check(from_first: bool, numbers: &[u64], last: Seen) {
        let mut tracker = Tracker::default();
        let seen = numbers.iter().map(|number| observe(&mut tracker, *number, from_first)).last();
        assert_eq!(seen, Some(last), "{numbers:?}");
    }

    #[test]
    fn a_jump_is_a_hole_of_what_lies_between() {
        check(true, &[1, 2, 3], Seen::InOrder);
        check(true, &[1, 5], hole(3));
        check(true, &[3], hole(2));
    }

    #[test]
    fn a_source_that_was_there_before_us_begins_where_we_meet_it() {
        check(false, &[401], Seen::InOrder);
        check(false, &[401, 403], hole(1));
    }

    #[test]
    fn what_comes_late_fills_its_hole_once() {
        check(true, &[1, 5, 3], Seen::Late);
        check(true, &[1, 5, 3, 3], Seen::Repeat);
        check(true, &[1, 5, 3, 2, 4], Seen::Late);
        check(true, &[1, 5, 2, 3, 4, 6], Seen::InOrder);
    }

    #[test]
    fn what_came_before_is_a_repeat() {
        check(true, &[1, 2, 2], Seen::Repeat);
        check(true, &[1, 2, 3, 1], Seen::Repeat);
        check(false, &[10, 9], Seen::Repeat);
    }

    #[test]
    fn sources_do_not_mix_and_the_longest_silent_one_is_forgotten() {
        let mut tracker = Tracker::default();
        observe(&mut tracker, 1, true);
        for random in 2..=u32::try_from(SOURCES_MAX).expect("small") {
            tracker.observe(Stamp { source: source(random), number: 1 }, true);
        }
        assert_eq!(observe(&mut tracker, 2, true), Seen::InOrder, "still known");
        for random in 10_000..10_000 + u32::try_from(SOURCES_MAX).expect("small") {
            tracker.observe(Stamp { source: source(random), number: 1 }, true);
        }
        assert_eq!(tracker.sources.len(), SOURCES_MAX);
        assert_eq!(observe(&mut tracker, 9, false), Seen::InOrder, "met anew");
    }

    #[test]
    fn the_first_hole_of_each_source_after_a_gap_is_the_gaps() {
        let mut tracker = Tracker::default();
        for (random, number) in [(1, 1), (2, 1)] {
            tracker.observe(Stamp { source: source(random), number }, true);
        }
        tracker.gap();
        let across = |missed| Seen::AfterHole { missed, across_gap: true };
        assert_eq!(observe(&mut tracker, 5, true), across(3));
        assert_eq!(observe(&mut tracker, 7, true), hole(1));
        assert_eq!(tracker.observe(Stamp { source: source(2), number: 3 }, true), across(1));
        assert_eq!(
            tracker.observe(Stamp { source: source(3), number: 3 }, true),
            across(2),
            "began in the gap"
        );
    }

    #[test]
    fn holes_are_bounded() {
        let mut tracker = Tracker::default();
        for number in 1..=1000 {
            observe(&mut tracker, number * 2, true);
        }
        assert_eq!(tracker.sources[&source(1)].holes.len(), HOLES_MAX);
        assert_eq!(observe(&mut tracker, 1, true), Seen::Repeat, "its hole is forgotten");
        assert_eq!(observe(&mut tracker, 1999, true), Seen::Late);
    }
}
