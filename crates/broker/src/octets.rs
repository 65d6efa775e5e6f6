//! The count of octets that messages cost, in the log and on their way there.
//!
//! One count for all of them, so that its changes have one order, whichever threads make them.
//! Invariant: whoever shrinks it after another thread's [`OctetCount::latest`] sees what that
//! thread wrote before; whoever shrank it earlier is counted there. So of two threads, one that
//! shrinks the count and then looks at a flag, and one that sets the flag and then looks at the
//! count, at least one sees what the other did.

use std::sync::{Arc, atomic::Ordering};

use crate::sync::AtomicU64;

/// A count that its clones share.
#[derive(Debug, Clone, Default)]
pub struct OctetCount(Arc<AtomicU64>);

impl OctetCount {
    /// More octets are there.
    pub(crate) fn grow(&self, octets: u64) {
        self.0.fetch_add(octets, Ordering::Relaxed);
    }

    /// Octets are gone.
    pub(crate) fn shrink(&self, octets: u64) {
        self.0.fetch_sub(octets, Ordering::Acquire);
    }

    /// The octets, with all that this thread did; other threads' changes may be seen later.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The octets, with every change that does not come after this look. A write, and so dearer
    /// than [`OctetCount::get`].
    pub(crate) fn latest(&self) -> u64 {
        self.0.fetch_add(0, Ordering::Release)
    }
}
