//! The memory alarm: above a watermark of our own count of octets publishers wait.
//!
//! Counted are the messages in the log and those that connections hold before they get there.
//! Invariant: whoever waits is woken when the alarm clears, also when it clears while they begin
//! to wait.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use indexmap::IndexMap;
use parking_lot::Mutex;

use super::{ConnectionId, inbox::Inbox};

/// The alarm clears below this share of the watermark, in percent, so that it does not flicker.
const CLEAR_PERCENT: u64 = 95;

pub(super) struct MemoryAlarm {
    watermark_octets: u64,
    raised: AtomicBool,
    /// Octets that connections hold outside the log.
    held_octets: AtomicU64,
    waiting: Mutex<IndexMap<ConnectionId, Arc<Inbox>>>,
}

impl MemoryAlarm {
    pub(super) fn new(watermark_octets: u64) -> Self {
        Self {
            watermark_octets,
            raised: AtomicBool::new(false),
            held_octets: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }

    #[inline]
    pub(super) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    pub(super) fn held_octets(&self) -> u64 {
        self.held_octets.load(Ordering::Relaxed)
    }

    /// A connection holds another number of octets than before.
    pub(super) fn held_changed(&self, before: u64, after: u64, log_octets: u64) {
        if after > before {
            self.held_octets.fetch_add(after - before, Ordering::Relaxed);
            self.grown(log_octets);
        } else {
            self.held_octets.fetch_sub(before - after, Ordering::Relaxed);
            self.shrunk(log_octets);
        }
    }

    /// Looks at the count after it grew.
    #[inline]
    pub(super) fn grown(&self, log_octets: u64) {
        let octets = log_octets + self.held_octets();
        if octets > self.watermark_octets && !self.raised.swap(true, Ordering::SeqCst) {
            tracing::warn!(
                octets,
                watermark_octets = self.watermark_octets,
                "memory alarm: publishers are not read from until consumers have caught up"
            );
        }
    }

    /// Looks at the count after it shrank.
    #[inline]
    pub(super) fn shrunk(&self, log_octets: u64) {
        if !self.is_raised() {
            return;
        }
        let octets = log_octets + self.held_octets();
        if octets <= self.clear_octets() {
            self.clear(octets);
        }
    }

    /// Whether what connections hold keeps it raised, however many messages are consumed.
    pub(super) fn is_held_up(&self) -> bool {
        self.is_raised() && self.held_octets() > self.clear_octets()
    }

    const fn clear_octets(&self) -> u64 {
        self.watermark_octets / 100 * CLEAR_PERCENT
    }

    fn clear(&self, octets: u64) {
        if !self.raised.swap(false, Ordering::SeqCst) {
            return;
        }
        tracing::warn!(octets, "memory alarm cleared: publishers are read from again");
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for inbox in waiting.values() {
            inbox.call();
        }
    }

    /// Wakes the inbox once the alarm clears; false when it is clear already.
    pub(super) fn wait(&self, id: ConnectionId, inbox: &Arc<Inbox>) -> bool {
        let mut waiting = self.waiting.lock();
        if !self.is_raised() {
            return false;
        }
        waiting.insert(id, Arc::clone(inbox));
        true
    }

    pub(super) fn forget(&self, id: ConnectionId) {
        self.waiting.lock().swap_remove(&id);
    }
}
