//! Whether a queue hands over what was published: each message once, and in order where order is promised.
//!
//! Messages of this run are known by their stamp; those of other runs, left in a queue by an earlier one,
//! are checked among themselves. Invariant: a message that the broker marks as redelivered is never held
//! against it.

use std::collections::HashMap;

use super::{
    seen::{Mark, Seen},
    stamp::Stamp,
};

/// Other runs' producers in a queue beyond which messages are no longer taken for a load generator's.
const OTHERS_MAX: usize = 1024;
/// Where several consumers share a queue, how far one may be ahead of another when a sequence is come upon.
const OTHERS_MARGIN: u64 = 1 << 16;

/// What a queue's check has found, or those of all queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Messages whose number was looked at.
    pub(super) checked: u64,
    /// Messages that carry no stamp, or one of too many others.
    pub(super) unchecked: u64,
    /// Of those checked, messages that another run published.
    pub(super) of_other_runs: u64,
    /// Messages left out before one that came.
    pub(super) gaps: u64,
    /// Messages that came again without being marked as redelivered.
    pub(super) repeats: u64,
    /// Messages that came after a later one of the same producer, from a queue with one consumer.
    pub(super) out_of_order: u64,
    pub(super) redelivered: u64,
}

impl Findings {
    pub(super) fn is_clean(&self) -> bool {
        self.gaps == 0 && self.repeats == 0 && self.out_of_order == 0
    }

    pub(super) fn add(&mut self, other: Self) {
        self.checked += other.checked;
        self.unchecked += other.unchecked;
        self.of_other_runs += other.of_other_runs;
        self.gaps += other.gaps;
        self.repeats += other.repeats;
        self.out_of_order += other.out_of_order;
        self.redelivered += other.redelivered;
    }
}

/// The check of one queue.
#[derive(Debug)]
pub(super) struct Check {
    run: u32,
    own: Vec<Seen>,
    others: HashMap<(u32, u16), usize>,
    others_seen: Vec<Seen>,
    /// Whose message of another run came last: mostly the next is of the same.
    last_other: Option<((u32, u16), usize)>,
    is_ordered: bool,
    findings: Findings,
}

impl Check {
    /// For a queue that producers of `run` publish to. One consumer alone gets them in order.
    pub(super) fn new(run: u32, producers: usize, is_ordered: bool) -> Self {
        let own = vec![Seen::default(); producers];
        Self {
            run,
            own,
            others: HashMap::new(),
            others_seen: Vec::new(),
            last_other: None,
            is_ordered,
            findings: Findings::default(),
        }
    }

    /// Looks at a message; whether this run published it.
    #[inline]
    pub(super) fn look_at(&mut self, stamp: &Stamp, redelivered: bool) -> bool {
        self.findings.redelivered += u64::from(redelivered);
        let is_own = stamp.run == self.run && usize::from(stamp.producer) < self.own.len();
        let mark = match is_own {
            true => mark(&mut self.own[usize::from(stamp.producer)], stamp.sequence),
            false => self.mark_other(stamp),
        };
        match mark {
            Some(Mark::Next | Mark::Skipping) => {}
            None => {
                self.findings.unchecked += 1;
                return false;
            }
            Some(_) if redelivered => {}
            Some(Mark::Repeated) => self.findings.repeats += 1,
            Some(Mark::Late) => self.findings.out_of_order += u64::from(self.is_ordered),
        }
        self.findings.checked += 1;
        is_own
    }

    /// Counts a message that carries no stamp.
    pub(super) fn pass(&mut self, redelivered: bool) {
        self.findings.unchecked += 1;
        self.findings.redelivered += u64::from(redelivered);
    }

    fn mark_other(&mut self, stamp: &Stamp) -> Option<Mark> {
        let key = (stamp.run, stamp.producer);
        let index = match self.last_other {
            Some((last, index)) if last == key => index,
            _ => match self.others.get(&key) {
                Some(index) => *index,
                None => return self.meet(key, stamp.sequence),
            },
        };
        self.last_other = Some((key, index));
        self.findings.of_other_runs += 1;
        mark(&mut self.others_seen[index], stamp.sequence)
    }

    /// Takes up a producer of another run, where that is not one too many.
    #[cold]
    fn meet(&mut self, key: (u32, u16), sequence: u32) -> Option<Mark> {
        if self.others.len() >= OTHERS_MAX {
            return None;
        }
        let margin = if self.is_ordered { 0 } else { OTHERS_MARGIN };
        self.others.insert(key, self.others_seen.len());
        self.others_seen.push(Seen::from_within(sequence.into(), margin));
        self.findings.of_other_runs += 1;
        Some(Mark::Next)
    }

    /// What was found, with the gaps that are there now.
    pub(super) fn findings(&self) -> Findings {
        let gaps = self.own.iter().chain(&self.others_seen).map(Seen::missing).sum();
        Findings { gaps, ..self.findings }
    }
}

/// A number from before the first is one that cannot be new.
#[inline]
fn mark(seen: &mut Seen, sequence: u32) -> Option<Mark> {
    Some(seen.widen(sequence).map_or(Mark::Repeated, |number| seen.mark(number)))
}

#[cfg(test)]
mod tests {
    use super::super::stamp::Ticks;
    use super::*;

    const RUN: u32 = 7;

    fn check(is_ordered: bool, messages: &[(u32, u16, u32, bool)], wanted: Findings) {
        let mut check = Check::new(RUN, 2, is_ordered);
        for &(run, producer, sequence, redelivered) in messages {
            let is_own = check.look_at(&Stamp { run, producer, sequence, sent: Ticks(0) }, redelivered);
            assert_eq!(is_own, run == RUN);
        }
        assert_eq!(check.findings(), wanted, "{messages:?}");
    }

    #[test]
    fn a_clean_run_finds_nothing() {
        let wanted = Findings { checked: 4, ..Findings::default() };
        check(true, &[(7, 0, 0, false), (7, 1, 0, false), (7, 0, 1, false), (7, 1, 1, false)], wanted);
    }

    #[test]
    fn gaps_repeats_and_disorder_are_told_apart() {
        let messages = [(7, 0, 1, false), (7, 0, 0, false), (7, 0, 3, false), (7, 0, 3, false)];
        let wanted = Findings { checked: 4, gaps: 1, repeats: 1, out_of_order: 1, ..Findings::default() };
        check(true, &messages, wanted);
        check(false, &messages, Findings { out_of_order: 0, ..wanted });
        assert!(!wanted.is_clean());
    }

    #[test]
    fn what_is_redelivered_is_counted_apart() {
        let wanted = Findings { checked: 3, redelivered: 1, ..Findings::default() };
        check(true, &[(7, 0, 0, false), (7, 0, 1, false), (7, 0, 0, true)], wanted);
        assert!(wanted.is_clean());
    }

    #[test]
    fn what_another_run_left_is_checked_from_where_it_begins() {
        let messages = [(8, 0, 40, false), (8, 0, 41, false), (7, 0, 0, false), (8, 0, 43, false)];
        let wanted = Findings { checked: 4, of_other_runs: 3, gaps: 1, ..Findings::default() };
        check(true, &messages, wanted);
    }
}
