//! The memory alarm: above a watermark of our own count of octets publishers wait.
//!
//! Counted are the messages in the log and those that connections hold before they get there.
//! Invariant: whoever waits is woken when the alarm clears, also when it clears while they begin
//! to wait; and once nobody changes the count any more, the alarm is not raised below the share
//! that clears it.

use std::sync::{Arc, atomic::Ordering};

use indexmap::IndexMap;

use super::{ConnectionId, inbox::Inbox};
use crate::{
    OctetCount,
    planted::{self, Bug},
    sync::{AtomicBool, AtomicU64, Mutex},
};

/// The alarm clears below this share of the watermark, in percent, so that it does not flicker.
const CLEAR_PERCENT: u64 = 95;

pub(super) struct MemoryAlarm {
    watermark_octets: u64,
    /// All of them.
    octets: OctetCount,
    /// Those among them that connections hold outside the log.
    held_octets: AtomicU64,
    /// Who must see it set is told by the count, see [`OctetCount`]; who must see it cleared by the
    /// lock or by the wake.
    raised: AtomicBool,
    /// The disk has no room, or fails.
    disk: AtomicBool,
    waiting: Mutex<IndexMap<ConnectionId, Arc<Inbox>>>,
}

impl MemoryAlarm {
    pub(super) fn new(watermark_octets: u64, octets: OctetCount) -> Self {
        Self {
            watermark_octets,
            octets,
            raised: AtomicBool::new(false),
            disk: AtomicBool::new(false),
            held_octets: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }

    #[inline]
    pub(super) fn is_raised(&self) -> bool {
        self.is_memory_short() || self.is_disk_short()
    }

    pub(super) fn is_memory_short(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    pub(super) fn is_disk_short(&self) -> bool {
        self.disk.load(Ordering::Relaxed)
    }

    /// What `connection.blocked` says, in RabbitMQ's words (`rabbit_reader`), which has the disk first.
    pub(super) fn reason(&self) -> &'static str {
        match (self.is_disk_short(), self.is_memory_short()) {
            (true, true) => "low on disk & memory",
            (true, false) => "low on disk",
            (false, _) => "low on memory",
        }
    }

    /// The disk has no room, or has again. Says whether that is new.
    pub(super) fn set_disk_short(&self, is_short: bool) -> bool {
        let was_short = self.disk.swap(is_short, Ordering::AcqRel);
        if was_short && !is_short {
            self.wake_waiting();
        }
        was_short != is_short
    }

    pub(super) fn octets(&self) -> u64 {
        self.octets.get()
    }

    /// A connection holds another number of octets than before.
    pub(super) fn held_changed(&self, before: u64, after: u64) {
        if after > before {
            self.held_octets.fetch_add(after - before, Ordering::Relaxed);
            self.octets.grow(after - before);
            self.grown();
        } else {
            self.held_octets.fetch_sub(before - after, Ordering::Relaxed);
            self.octets.shrink(before - after);
            self.shrunk();
        }
    }

    /// Looks at the count after it grew.
    #[inline]
    pub(super) fn grown(&self) {
        let octets = self.octets.get();
        if octets > self.watermark_octets && !self.raised.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                octets,
                watermark_octets = self.watermark_octets,
                "memory alarm: publishers are not read from until consumers have caught up"
            );
            // Who made it shrink meanwhile may not have seen that it is raised, and may have been
            // the last to look.
            self.clear_below(self.octets.latest());
        }
    }

    /// Looks at the count after it shrank.
    #[inline]
    pub(super) fn shrunk(&self) {
        if self.is_memory_short() {
            self.clear_below(self.octets.get());
        }
    }

    /// Whether what connections hold keeps it raised, however many messages are consumed.
    pub(super) fn is_held_up(&self) -> bool {
        self.is_memory_short() && self.held_octets.load(Ordering::Relaxed) > self.clear_octets()
    }

    const fn clear_octets(&self) -> u64 {
        self.watermark_octets / 100 * CLEAR_PERCENT
    }

    fn clear_below(&self, octets: u64) {
        if octets > self.clear_octets() || !self.raised.swap(false, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(octets, "memory alarm cleared: publishers are read from again");
        self.wake_waiting();
    }

    /// Each looks whether it waits still.
    fn wake_waiting(&self) {
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

    /// Looks again for one who waits and was woken. It may have cleared and been raised since:
    /// then that one waits on.
    pub(super) fn still_waits(&self, id: ConnectionId, inbox: &Arc<Inbox>) -> bool {
        if planted::is(Bug::AlarmForgetsWaiting) && self.is_raised() {
            return true;
        }
        self.wait(id, inbox)
    }

    pub(super) fn forget(&self, id: ConnectionId) {
        self.waiting.lock().swap_remove(&id);
    }
}
