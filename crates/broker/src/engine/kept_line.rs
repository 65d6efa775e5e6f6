//! Messages that last though they are in no queue: those that wait at an exchange.
//!
//! To the store a line is a durable queue with a number of its own, whose messages have ordinals and
//! leave it for good. Invariant: an ordinal is told to have left after what takes its message's place
//! is in the journal.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::durability::{Durability, DurableQueue};
use crate::{
    Ordinal,
    planted::{self, Bug},
    store::{journal::QueueNumber, ranges::Range, snapshot::QueueState},
};

/// A line of messages.
#[derive(Debug)]
pub(super) struct KeptLine {
    pub(super) number: QueueNumber,
    pub(super) durable: Arc<DurableQueue>,
    next_index: AtomicU64,
}

impl KeptLine {
    /// A line as the store has it, with the index that its next message has.
    pub(super) fn new(number: QueueNumber, state: QueueState, next_index: u64) -> Self {
        Self { number, durable: Arc::new(DurableQueue::new(state)), next_index: AtomicU64::new(next_index) }
    }

    /// The ordinal of the next message.
    pub(super) fn next_ordinal(&self) -> Ordinal {
        Ordinal(self.next_index.fetch_add(1, Ordering::Relaxed))
    }

    /// A message left it for good.
    pub(super) fn left(&self, durability: &Durability, ordinal: Ordinal) {
        if planted::is(Bug::DelayGoneNotKept) {
            return;
        }
        let left = [Range { first: ordinal.0, last: ordinal.0 }];
        self.durable.leave(durability, self.number, &left);
    }
}
