//! The memory alarm: above a watermark of our own count of octets publishers wait.
//!
//! Invariant: whoever waits is woken when the alarm clears, also when it clears while they begin
//! to wait.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use super::inbox::Inbox;

/// The alarm clears below this share of the watermark, in percent, so that it does not flicker.
const CLEAR_PERCENT: u64 = 95;

pub(super) struct MemoryAlarm {
    watermark_octets: u64,
    raised: AtomicBool,
    waiting: Mutex<Vec<Arc<Inbox>>>,
}

impl MemoryAlarm {
    pub(super) const fn new(watermark_octets: u64) -> Self {
        Self { watermark_octets, raised: AtomicBool::new(false), waiting: Mutex::new(Vec::new()) }
    }

    #[inline]
    pub(super) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    /// Looks at the count after it grew.
    #[inline]
    pub(super) fn grown(&self, octets: u64) {
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
    pub(super) fn shrunk(&self, octets: u64) {
        if self.is_raised() && octets <= self.watermark_octets / 100 * CLEAR_PERCENT {
            self.clear(octets);
        }
    }

    fn clear(&self, octets: u64) {
        if !self.raised.swap(false, Ordering::SeqCst) {
            return;
        }
        tracing::warn!(octets, "memory alarm cleared: publishers are read from again");
        for inbox in std::mem::take(&mut *self.waiting.lock()) {
            inbox.wake();
        }
    }

    /// Wakes the inbox once the alarm clears; false when it is clear already.
    pub(super) fn wait(&self, inbox: &Arc<Inbox>) -> bool {
        let mut waiting = self.waiting.lock();
        if !self.is_raised() {
            return false;
        }
        waiting.push(Arc::clone(inbox));
        true
    }

    pub(super) fn forget(&self, inbox: &Arc<Inbox>) {
        self.waiting.lock().retain(|other| !Arc::ptr_eq(other, inbox));
    }
}
