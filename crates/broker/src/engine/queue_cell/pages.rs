//! A queue and its pages: what the workers of `paging` do with it, each under its lock for a moment.
//!
//! Invariant: the spiller knows a queue that has runs to put away, and the loader one that wants a
//! page; what they are told is changed under the queue's lock.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use super::{super::inbox::Inbox, Engine, QueueCell, Scratch, State};
use crate::{
    AwayRun, Location, Ordinal, Run,
    model::queue::{Notice, Take, Taken},
};

impl QueueCell {
    /// A step found out something about pages.
    #[cold]
    pub(super) fn note_pages(
        &self,
        state: &mut State,
        notice: Notice,
        engine: &Engine,
        scratch: &mut Scratch,
    ) {
        if notice.is_sealed {
            if !std::mem::replace(&mut state.is_spillable, true) {
                engine.paging.add_spillable(self.serial, Weak::clone(&self.this));
            }
            engine.paging.grown(engine.alarm.octets());
        }
        if notice.wants_page && !std::mem::replace(&mut state.wants_page, true) {
            engine.paging.add_wanting(Weak::clone(&self.this));
            scratch.wakes_loader = true;
        }
    }

    /// The newest runs that can be put away, with a further reference to each message.
    pub(in crate::engine) fn take_sealed(&self, engine: &Engine, runs_max: usize) -> Vec<Run> {
        let mut state = self.state.lock();
        let queue = state.queue.as_queue();
        let runs = queue.map(|queue| queue.newest_sealed(runs_max)).unwrap_or_default();
        if runs.is_empty() && std::mem::take(&mut state.is_spillable) {
            engine.paging.remove_spillable(self.serial);
        }
        runs.iter().for_each(|run| engine.log.retain(run.locations.iter().copied()));
        runs
    }

    /// Puts a page in the place of a run, and returns the run's messages; `None` when they were
    /// taken meanwhile.
    pub(in crate::engine) fn put_away(&self, away: AwayRun) -> Option<VecDeque<Location>> {
        self.state.lock().queue.as_queue()?.put_away(away)
    }

    /// A run is not to be put on a page.
    pub(in crate::engine) fn keep_here(&self, first: Ordinal) {
        if let Some(queue) = self.state.lock().queue.as_queue() {
            queue.keep_here(first);
        }
    }

    /// The page that the queue wants next. With `None` the loader forgets it.
    pub(in crate::engine) fn next_away(&self) -> Option<AwayRun> {
        let mut state = self.state.lock();
        let next = state.queue.as_queue().and_then(|queue| queue.next_away());
        state.wants_page = next.is_some();
        next
    }

    /// Puts what was on a page back, and goes on with what waited for it. False, with the runs
    /// untouched, when the queue does not await it any more.
    pub(in crate::engine) fn supply(
        &self,
        engine: &Engine,
        scratch: &mut Scratch,
        away: &AwayRun,
        runs: &mut Vec<Run>,
    ) -> bool {
        let mut waiters = Vec::new();
        let supplied = self.step_state(engine, scratch, |state, messages, effects| {
            let queue = state.queue.as_queue();
            let supplied = queue.is_some_and(|queue| queue.supply(away, runs, messages, effects));
            waiters = std::mem::take(&mut state.waiters);
            supplied
        });
        // They look for themselves whether the first message is there.
        waiters.iter().for_each(|inbox: &Arc<Inbox>| inbox.call());
        supplied.unwrap_or(false)
    }

    /// Takes the first message for `basic.get`. Where that is on a page, the inbox's owner is called
    /// when it was read. An empty answer is also that of a queue that is gone.
    pub(in crate::engine) fn take(
        &self,
        engine: &Engine,
        scratch: &mut Scratch,
        no_ack: bool,
        inbox: &Arc<Inbox>,
    ) -> Take {
        loop {
            let step = self.step_state(engine, scratch, |state, messages, effects| {
                let taken = state.queue.take(no_ack, messages, effects);
                let waits = state.waiters.iter().any(|waiter| Arc::ptr_eq(waiter, inbox));
                if taken == Take::Away && !waits {
                    state.waiters.push(Arc::clone(inbox));
                }
                (taken, state.queue.is_behind())
            });
            match step {
                None => return Take::Empty,
                Some((Take::Behind, _)) => {}
                // What is left counts once all of it is seen whose time is over.
                Some((Take::Message(taken), true)) => {
                    let (remaining, _) = self.count(engine, scratch).unwrap_or_default();
                    return Take::Message(Taken { remaining, ..taken });
                }
                Some((taken, _)) => return taken,
            }
        }
    }
}
