//! Putting a queue's messages on pages, and taking them back.
//!
//! Whoever does so copies and reads outside the queue's lock: here a run is looked at, replaced and
//! supplied. Invariant: a run that changed meanwhile is left as it is.

use std::collections::VecDeque;

use super::{Effects, Heads, Messages, Notice, Queue};
use crate::{AwayRun, Location, Ordinal, Run};

impl Queue {
    /// What steps found out about pages since the last call.
    #[inline]
    pub fn take_notice(&mut self) -> Option<Notice> {
        self.ready.take_notice()
    }

    /// The page to be read next, if one is.
    #[must_use]
    pub fn next_away(&self) -> Option<AwayRun> {
        self.ready.next_away()
    }

    /// The newest runs that can be put away, the newest last.
    #[must_use]
    pub fn newest_sealed(&self, runs_max: usize) -> Vec<Run> {
        self.ready.newest_sealed(runs_max)
    }

    /// Puts a page in the place of a run, and returns the run's messages; `None` when they were
    /// taken meanwhile.
    pub fn put_away(&mut self, away: AwayRun) -> Option<VecDeque<Location>> {
        self.ready.put_away(away)
    }

    /// A run cannot be put on a page.
    pub fn keep_here(&mut self, first: Ordinal) {
        self.ready.keep_here(first);
    }

    /// Puts what was on a page back in its place, and goes on with what had to wait for it. False
    /// when it is not awaited any more: the queue was purged. The runs are untouched then.
    pub fn supply(
        &mut self,
        away: &AwayRun,
        runs: &mut Vec<Run>,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) -> bool {
        let missing = self.octets_missing(away, runs, messages);
        if !self.ready.supply(away, runs) {
            return false;
        }
        self.ready_octets -= missing;
        self.expire(messages, effects);
        self.dispatch(Heads::Lived, messages, effects);
        self.drop_head(messages, effects);
        true
    }

    /// Octets that were counted and do not come back.
    fn octets_missing(&self, away: &AwayRun, runs: &[Run], messages: &dyn Messages) -> u64 {
        if self.settings.octets_max.is_none() {
            return 0;
        }
        let locations = runs.iter().flat_map(|run| &run.locations);
        let here = locations.map(|&location| messages.body_octets(location)).sum::<u64>();
        away.body_octets.saturating_sub(here)
    }
}
