//! The messages of one priority that never left their queue, in order, in memory or on pages.
//!
//! ```text
//!   fresh          rest
//!   +-----------+  +------+------+------+------+------+
//!   | locations |  | here | away | away | here | here |  <- the last one grows
//!   +-----------+  +------+------+------+------+------+
//! ```
//!
//! Messages go out of `fresh` alone; when that is empty the first run takes its place. Knows where
//! runs stand; never which of them are to be put away or read. Invariant: `fresh` is empty only
//! when there is no run, or when the first one is away; indexes rise, and within a run that is here
//! they have no gaps.

use std::collections::VecDeque;

use crate::{AwayRun, Location, Ordinal, Run};

/// KiB of messages in a run, each message rounded up as its location says. A page of the smallest
/// messages is some tens of KiB then, so that a thousand queues with their heads in memory take
/// little, and one of 1 KiB each costs a read of some hundred.
const RUN_KIBIBYTES_MAX: u32 = 256;
/// Where `fresh` is all there is and is counted anew, it takes more if at least this is free.
const ROOM_KIBIBYTES_MIN: u32 = RUN_KIBIBYTES_MAX / 4;

/// Messages that follow one another.
#[derive(Debug)]
enum Segment {
    Here(HereRun),
    Away(AwayRun),
}

#[derive(Debug)]
struct HereRun {
    /// The index of the first one.
    first: u64,
    locations: VecDeque<Location>,
    /// It was read from a page, or cannot be put on one.
    stays: bool,
}

impl HereRun {
    const fn new(first: u64) -> Self {
        Self { first, locations: VecDeque::new(), stays: false }
    }

    fn end(&self) -> u64 {
        self.first + self.locations.len() as u64
    }
}

impl Segment {
    fn first(&self) -> u64 {
        match self {
            Self::Here(run) => run.first,
            Self::Away(run) => run.first.index(),
        }
    }

    fn end(&self) -> u64 {
        match self {
            Self::Here(run) => run.end(),
            Self::Away(run) => run.last.index() + 1,
        }
    }
}

/// Messages of one priority that never left.
#[derive(Debug, Default)]
pub(super) struct Band {
    fresh: VecDeque<Location>,
    /// The index of the first one of `fresh`, or of the next message where there is none.
    head: u64,
    rest: VecDeque<Segment>,
    /// KiB that the last run may still take.
    room_kibibytes: u32,
    /// Runs of the rest that can be put away: here, not to stay, and with others behind them.
    sealed_runs: usize,
}

/// What became of a message that joined a band.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    Growing,
    /// A run of the rest grows no more.
    Sealed,
}

impl Band {
    /// Gives an empty band its pages, and the index that the next message has.
    pub(super) fn revive(&mut self, mut kept: Vec<AwayRun>, next: u64) {
        kept.sort_unstable_by_key(|run| run.first);
        self.head = kept.first().map_or(next, |run| run.first.index());
        if !kept.is_empty() {
            self.rest = kept.into_iter().map(Segment::Away).collect();
            self.rest.push_back(Segment::Here(HereRun::new(next)));
            self.room_kibibytes = RUN_KIBIBYTES_MAX;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.rest.is_empty()
    }

    /// Whether there are messages and the first one is on a page.
    pub(super) fn is_head_away(&self) -> bool {
        self.fresh.is_empty() && !self.rest.is_empty()
    }

    pub(super) fn front(&self) -> Option<Location> {
        self.fresh.front().copied()
    }

    /// Messages that can go out before a run is looked at.
    pub(super) fn fresh_len(&self) -> usize {
        self.fresh.len()
    }

    /// Adds messages that are never put away.
    pub(super) fn extend(&mut self, batch: &[Location]) {
        self.fresh.extend(batch);
    }

    /// Adds messages to a band of which runs may be put away.
    pub(super) fn extend_paged(&mut self, batch: &[Location]) -> Joined {
        let kibibytes = batch.iter().map(|location| location.size_kibibytes()).sum::<u32>();
        if self.rest.is_empty() && kibibytes <= self.room_kibibytes {
            self.room_kibibytes -= kibibytes;
            self.fresh.extend(batch);
            return Joined::Growing;
        }
        let mut joined = Joined::Growing;
        for &location in batch {
            if self.push_paged(location) == Joined::Sealed {
                joined = Joined::Sealed;
            }
        }
        joined
    }

    fn push_paged(&mut self, location: Location) -> Joined {
        let kibibytes = location.size_kibibytes();
        let fits = kibibytes <= self.room_kibibytes && !matches!(self.rest.back(), Some(Segment::Away(_)));
        let joined = if fits { Joined::Growing } else { self.make_room(kibibytes) };
        // One that is larger than a run is a run alone.
        self.room_kibibytes = self.room_kibibytes.saturating_sub(kibibytes);
        match self.rest.back_mut() {
            Some(Segment::Here(run)) => run.locations.push_back(location),
            _ => self.fresh.push_back(location),
        }
        joined
    }

    #[cold]
    fn make_room(&mut self, kibibytes: u32) -> Joined {
        if self.rest.is_empty() {
            let used = self.fresh.iter().map(|location| location.size_kibibytes()).sum();
            self.room_kibibytes = RUN_KIBIBYTES_MAX.saturating_sub(used);
            if self.fresh.is_empty() || self.room_kibibytes >= kibibytes.max(ROOM_KIBIBYTES_MIN) {
                return Joined::Growing;
            }
        }
        self.room_kibibytes = RUN_KIBIBYTES_MAX;
        let joined = match self.rest.back() {
            None => Joined::Growing,
            Some(Segment::Here(run)) if run.locations.is_empty() => return Joined::Growing,
            Some(Segment::Here(run)) if !run.stays => {
                self.sealed_runs += 1;
                Joined::Sealed
            }
            Some(_) => Joined::Growing,
        };
        self.rest.push_back(Segment::Here(HereRun::new(self.end())));
        joined
    }

    /// The index of the first message, or of the next one where there is none.
    pub(super) const fn head(&self) -> u64 {
        self.head
    }

    /// The index of the next message.
    pub(super) fn end(&self) -> u64 {
        self.rest.back().map_or(self.head + self.fresh.len() as u64, Segment::end)
    }

    /// Takes the first message, with its index.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(Location, u64)> {
        let location = self.fresh.pop_front()?;
        let index = self.head;
        self.head += 1;
        Some((location, index))
    }

    /// Whether a run is to take the place of `fresh`.
    #[inline]
    pub(super) fn has_run_out(&self) -> bool {
        self.fresh.is_empty() && !self.rest.is_empty()
    }

    /// Lets the first run take the place of `fresh`, which is empty, if it is here.
    pub(super) fn promote(&mut self) {
        while self.fresh.is_empty()
            && let Some(Segment::Here(_)) = self.rest.front()
        {
            let Some(Segment::Here(run)) = self.rest.pop_front() else { return };
            self.sealed_runs -= usize::from(!run.stays && !self.rest.is_empty());
            self.head = run.first;
            self.fresh = run.locations;
        }
        if self.fresh.is_empty()
            && let Some(first) = self.rest.front()
        {
            self.head = first.first();
        }
    }

    /// The first run that is away, if fewer than `ahead` runs stand before it.
    pub(super) fn next_away(&self, ahead: usize) -> Option<AwayRun> {
        let runs = self.rest.iter().take(ahead);
        runs.filter_map(|segment| match segment {
            Segment::Away(run) => Some(*run),
            Segment::Here(_) => None,
        })
        .next()
    }

    /// The newest runs that can be put away and grow no more, the newest last.
    pub(super) fn newest_sealed(&self, band: usize, runs_max: usize) -> Vec<Run> {
        let sealed = self.rest.iter().rev().skip(1).filter_map(|segment| match segment {
            Segment::Here(run) if !run.stays => Some(run),
            _ => None,
        });
        let mut runs: Vec<_> = sealed
            .take(runs_max.min(self.sealed_runs))
            .map(|run| Run {
                first: Ordinal::new(band, run.first),
                locations: run.locations.iter().copied().collect(),
            })
            .collect();
        runs.reverse();
        runs
    }

    fn find(&mut self, first: Ordinal) -> Option<usize> {
        self.rest.binary_search_by_key(&first.index(), Segment::first).ok()
    }

    /// Puts a page in the place of a run, and returns the run's messages; `None` when the run is
    /// not there any more.
    pub(super) fn put_away(&mut self, away: AwayRun) -> Option<VecDeque<Location>> {
        let at = self.find(away.first)?;
        let segment = &mut self.rest[at];
        match segment {
            Segment::Here(run) if !run.stays && run.locations.len() == away.messages as usize => {
                let locations = std::mem::take(&mut run.locations);
                self.sealed_runs -= 1;
                *segment = Segment::Away(away);
                Some(locations)
            }
            _ => None,
        }
    }

    /// A run cannot be put on a page.
    pub(super) fn keep_here(&mut self, first: Ordinal) {
        if let Some(at) = self.find(first)
            && let Segment::Here(run) = &mut self.rest[at]
            && !run.stays
        {
            run.stays = true;
            self.sealed_runs -= 1;
        }
    }

    /// Puts what was on a page in the place where it stood; false, with the runs untouched, when it
    /// is not there any more.
    pub(super) fn supply(&mut self, away: &AwayRun, runs: &mut Vec<Run>) -> bool {
        let Some(at) = self.find(away.first) else { return false };
        if !matches!(&self.rest[at], Segment::Away(run) if run.page == away.page) {
            return false;
        }
        if at + 1 == self.rest.len() {
            // What was read grows no more, and what comes next has none of its numbers.
            self.rest.push_back(Segment::Here(HereRun::new(away.last.index() + 1)));
            self.room_kibibytes = RUN_KIBIBYTES_MAX;
        }
        self.rest.remove(at);
        for (place, run) in (at..).zip(runs.drain(..)) {
            let first = run.first.index();
            self.rest.insert(
                place,
                Segment::Here(HereRun { first, locations: run.locations.into(), stays: true }),
            );
        }
        self.promote();
        true
    }

    /// Takes all messages out.
    pub(super) fn drain(&mut self, locations: &mut Vec<VecDeque<Location>>, away: &mut Vec<AwayRun>) {
        self.head = self.end();
        locations.push(std::mem::take(&mut self.fresh));
        for segment in self.rest.drain(..) {
            match segment {
                Segment::Here(run) => locations.push(run.locations),
                Segment::Away(run) => away.push(run),
            }
        }
        self.rest.shrink_to_fit();
        (self.room_kibibytes, self.sealed_runs) = (0, 0);
    }

    /// A band that was long keeps no more room than it needs.
    pub(super) fn give_back_room(&mut self, idle_messages_max: usize) {
        let fresh = &mut self.fresh;
        if fresh.capacity() > idle_messages_max && fresh.len() < fresh.capacity() / 8 {
            fresh.shrink_to((fresh.len() * 2).max(idle_messages_max));
        }
    }
}
