//! Paging: messages of long queues go to disk while memory is short, and come back before they are
//! wanted.
//!
//! Two workers do what waits for the disk, each driven as a connection is: the [`Spiller`] writes
//! runs of messages, the [`Loader`] reads them back. A queue that has something for them stands
//! here; connections only note that, and never wait. Invariant: a page is held by the one queue that
//! has it in the place of its messages, or by the worker that is about to put it there.

mod loader;
mod spiller;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

pub use self::{loader::Loader, spiller::Spiller};
use super::{inbox::Wake, queue_cell::QueueCell};
use crate::{AwayRun, store::PageFiles};

/// Publishers wait above this share of the threshold while there is something to put away, in
/// percent.
const BEHIND_PERCENT: u64 = 150;
/// A publisher waits a millisecond longer for each such part of the threshold above that.
const PAUSE_PARTS: u64 = 16;
const PAUSE_MILLIS_MAX: u64 = 20;

/// Wakes a worker once until it has looked.
#[derive(Default)]
struct Bell {
    waker: OnceLock<Box<dyn Wake>>,
    has_rung: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        if !self.has_rung.swap(true, Ordering::AcqRel)
            && let Some(waker) = self.waker.get()
        {
            waker.wake();
        }
    }

    /// The worker is about to look: whoever rings from here on wakes it again.
    fn answer(&self) {
        self.has_rung.swap(false, Ordering::AcqRel);
    }
}

/// What queues have for the workers. Leaf locks.
pub(super) struct Paging {
    /// Octets of messages above which runs are put away; `None` without a disk.
    threshold_octets: Option<u64>,
    pub(super) files: PageFiles,
    /// Queues that have runs to put away, by their serials.
    spillable: Mutex<BTreeMap<u64, Weak<QueueCell>>>,
    has_spillable: AtomicBool,
    /// Queues that want a page, in the order in which they began to.
    wanting: Mutex<VecDeque<Weak<QueueCell>>>,
    /// The disk takes nothing.
    is_failing: AtomicBool,
    spiller: Bell,
    loader: Bell,
}

impl Paging {
    pub(super) fn new(threshold_octets: Option<u64>) -> Self {
        Self {
            threshold_octets,
            files: PageFiles::default(),
            spillable: Mutex::default(),
            has_spillable: AtomicBool::new(false),
            wanting: Mutex::default(),
            is_failing: AtomicBool::new(false),
            spiller: Bell::default(),
            loader: Bell::default(),
        }
    }

    /// Whether runs may be put away at all.
    pub(super) const fn is_on(&self) -> bool {
        self.threshold_octets.is_some()
    }

    /// Looks at the count of octets after it grew.
    #[inline]
    pub(super) fn grown(&self, octets: u64) {
        if let Some(threshold) = self.threshold_octets
            && octets > threshold
            && self.has_spillable.load(Ordering::Relaxed)
        {
            self.spiller.ring();
        }
    }

    /// How long a publisher is to wait because more comes than the disk takes.
    pub(super) fn publisher_pause_millis(&self, octets: u64) -> Option<u64> {
        let threshold = self.threshold_octets?;
        let excess = octets.checked_sub(threshold / 100 * BEHIND_PERCENT)?;
        let helps = self.has_spillable.load(Ordering::Relaxed) && !self.is_failing.load(Ordering::Relaxed);
        helps.then(|| (1 + excess / (threshold / PAUSE_PARTS).max(1)).min(PAUSE_MILLIS_MAX))
    }

    /// A queue has runs to put away.
    pub(super) fn add_spillable(&self, serial: u64, queue: Weak<QueueCell>) {
        let mut spillable = self.spillable.lock();
        spillable.insert(serial, queue);
        self.has_spillable.store(true, Ordering::Relaxed);
    }

    /// A queue has none, or is gone.
    pub(super) fn remove_spillable(&self, serial: u64) {
        let mut spillable = self.spillable.lock();
        spillable.remove(&serial);
        self.has_spillable.store(!spillable.is_empty(), Ordering::Relaxed);
    }

    /// The queue behind that one in the order of their serials, and round.
    fn spillable_behind(&self, serial: u64) -> Option<(u64, Weak<QueueCell>)> {
        let spillable = self.spillable.lock();
        let behind = spillable.range((Bound::Excluded(serial), Bound::Unbounded)).next();
        let (serial, queue) = behind.or_else(|| spillable.first_key_value())?;
        Some((*serial, Weak::clone(queue)))
    }

    /// A queue wants a page and says so once until it has it; the loader is to be woken.
    pub(super) fn add_wanting(&self, queue: Weak<QueueCell>) {
        self.wanting.lock().push_back(queue);
    }

    pub(super) fn wake_loader(&self) {
        self.loader.ring();
    }

    /// Gives the pages of runs back, which nobody reads any more.
    pub(super) fn give_back(&self, away: impl IntoIterator<Item = AwayRun>) {
        if self.files.give_back(away.into_iter().map(|run| run.page)) {
            self.spiller.ring();
        }
    }
}

/// A queue that a worker works on.
type Cell = Arc<QueueCell>;
