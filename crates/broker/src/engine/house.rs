//! The housekeeper: what has to be done though no connection does anything, because a time has come.
//!
//! Driven as a connection is: [`House::advance`] when it was woken or its deadline came. Invariant:
//! a turn is bounded; what is left is taken up by the next one.

use std::sync::Arc;

use super::{
    Engine,
    dead_letters::Undertaker,
    delays::Resumption,
    inbox::Wake,
    queue_cell::{QueueCell, Scratch},
};
use crate::{Now, model::any_queue::AnyQueue};

/// Queues looked at in one turn.
const TURN_QUEUES_MAX: usize = 256;
/// Dead letters that cost as much as looking at a queue.
const LOOK_LETTERS: usize = 64;
/// Dead letters put into queues in one turn.
const TURN_APPENDS_MAX: usize = 16 * 1024;
/// References of deleted queues given back in one turn.
const TURN_FREES_MAX: usize = 16 * 1024;

/// What nobody's connection does.
pub struct House {
    engine: Arc<Engine>,
    scratch: Scratch,
    undertaker: Undertaker,
    resumption: Resumption,
    frees: super::teardown::Frees,
}

impl House {
    /// The housekeeper of an engine, which wakes it by `waker`. There is to be one.
    #[must_use]
    pub fn new(engine: &Arc<Engine>, waker: Box<dyn Wake>) -> Self {
        engine.deadlines.set_waker(waker);
        Self {
            engine: Arc::clone(engine),
            scratch: Scratch::default(),
            undertaker: Undertaker::default(),
            resumption: Resumption::default(),
            frees: super::teardown::Frees::default(),
        }
    }

    /// When to call [`House::advance`] though nothing happened, by the monotonic clock.
    #[must_use]
    pub fn next_deadline_millis(&self) -> Option<u64> {
        let times = [self.engine.deadlines.next_millis(), self.engine.delays.next_millis()];
        times.into_iter().flatten().min()
    }

    /// Does what is due. True when there is more to do at once.
    pub fn advance(&mut self, now: Now) -> bool {
        self.scratch.now = now;
        self.look_at_queues();
        let delayed = self.resumption.work(&self.engine, &mut self.scratch, now, TURN_APPENDS_MAX);
        let more = self.undertaker.work(&self.engine, &mut self.scratch, now, TURN_APPENDS_MAX);
        let mut budget = TURN_FREES_MAX;
        self.frees.run(&self.engine, &mut budget);
        let due = self.next_deadline_millis().is_some_and(|at| at <= now.monotonic_millis);
        more || delayed || due || !self.frees.is_empty()
    }

    /// Looks at the queues that are due. What they buried before has its turn first, or it would
    /// pile up.
    fn look_at_queues(&mut self) {
        let mut budget = TURN_QUEUES_MAX;
        while budget > 0 && !self.undertaker.is_busy() {
            let now = self.scratch.now.monotonic_millis;
            let Some((at_millis, queue)) = self.engine.deadlines.take_due(now) else { return };
            let buried_before = self.scratch.dead_letters.len();
            self.look_at(&queue, at_millis);
            let buried = self.scratch.dead_letters.len() - buried_before;
            budget = budget.saturating_sub(1 + buried / LOOK_LETTERS);
        }
    }

    fn look_at(&mut self, queue: &Arc<QueueCell>, at_millis: u64) {
        let now = self.scratch.now.monotonic_millis;
        let is_over = queue.on_deadline(&self.engine, &mut self.scratch, at_millis);
        let Some(vhost) = queue.vhost.upgrade().filter(|_| is_over) else { return };
        let still_unused = |queue: &AnyQueue| if queue.is_past_its_time(now) { Ok(()) } else { Err(()) };
        if let Ok(Some(remains)) = self.engine.kill_queue(&vhost, queue, still_unused) {
            tracing::debug!(
                queue = &*queue.name,
                vhost = &*vhost.name,
                "a queue that nobody used is deleted"
            );
            if let Some(owner) = queue.declaration.owner {
                self.engine.tell_queue_gone(owner, queue.serial);
            }
            self.frees.push_drained(remains.drained);
        }
    }
}

impl std::fmt::Debug for House {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("House").finish_non_exhaustive()
    }
}
