//! When which queue has to be looked at though nobody uses it: a message's or its own time is over.
//!
//! A leaf lock: whoever holds it asks for no other. Invariant: a queue with a deadline stands here
//! once, with that or an earlier one; one that is deleted does not.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, Weak},
};

use parking_lot::Mutex;

use super::{inbox::Wake, queue_cell::QueueCell};

/// The time by the monotonic clock, and the queue's serial.
type Key = (u64, u64);

#[derive(Default)]
pub(super) struct Deadlines {
    queues: Mutex<BTreeMap<Key, Weak<QueueCell>>>,
    /// Makes the housekeeper look here again.
    waker: OnceLock<Box<dyn Wake>>,
}

impl Deadlines {
    /// Who is told of deadlines that are earlier than all others. Only the first one is.
    pub(super) fn set_waker(&self, waker: Box<dyn Wake>) {
        let _ = self.waker.set(waker);
    }

    /// Adds a queue's deadline in the place of a later one; true when it is the earliest of all, and
    /// the housekeeper is to be woken.
    pub(super) fn add(
        &self,
        at_millis: u64,
        later_millis: Option<u64>,
        serial: u64,
        queue: Weak<QueueCell>,
    ) -> bool {
        let mut queues = self.queues.lock();
        if let Some(later) = later_millis {
            queues.remove(&(later, serial));
        }
        let is_earliest = queues.first_key_value().is_none_or(|(&(first, _), _)| at_millis < first);
        queues.insert((at_millis, serial), queue);
        is_earliest
    }

    /// Forgets a queue's deadline.
    pub(super) fn remove(&self, at_millis: u64, serial: u64) {
        self.queues.lock().remove(&(at_millis, serial));
    }

    /// The earliest one.
    pub(super) fn next_millis(&self) -> Option<u64> {
        self.queues.lock().first_key_value().map(|(&(at, _), _)| at)
    }

    /// Takes a queue whose deadline has come, with that deadline.
    pub(super) fn take_due(&self, now_millis: u64) -> Option<(u64, Arc<QueueCell>)> {
        let mut queues = self.queues.lock();
        loop {
            let first = queues.first_entry().filter(|first| first.key().0 <= now_millis)?;
            let ((at, _), queue) = first.remove_entry();
            if let Some(queue) = queue.upgrade() {
                return Some((at, queue));
            }
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}
