//! What both kinds of tables share: queues, their owners, and what a vhost is asked.
//!
//! Leaves the tables to `copied` and `in_place`. Invariant: a queue whose owner is dead takes no message.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

/// The keys of the direct exchange that the steady publisher uses, one queue each.
pub(super) const STEADY_KEYS: usize = 256;

/// The connection that exclusive queues belong to.
#[derive(Default)]
pub(super) struct Owner {
    dead: AtomicBool,
}

impl Owner {
    /// Makes all queues of this owner dead at once; they are freed later.
    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::Release);
    }
}

/// A queue of locations.
pub(super) struct Queue {
    pub(super) name: Arc<str>,
    owner: Arc<Owner>,
    ready: Mutex<VecDeque<u64>>,
}

impl Queue {
    pub(super) fn new(name: Arc<str>, owner: &Arc<Owner>) -> Arc<Self> {
        Arc::new(Self { name, owner: Arc::clone(owner), ready: Mutex::default() })
    }

    pub(super) fn append(&self, batch: &[u64]) {
        if !self.owner.dead.load(Ordering::Acquire) {
            self.ready.lock().extend(batch);
        }
    }

    /// Frees the messages, and answers how many those were.
    pub(super) fn free(&self) -> usize {
        std::mem::take(&mut *self.ready.lock()).len()
    }
}

/// The queues that a message goes to.
pub(super) type Routes = Arc<Vec<Arc<Queue>>>;

/// The two exchanges of the experiment: a fanout that churns, and the steady publisher's direct one.
pub(super) trait Vhost: Send + Sync {
    fn declare(&self, name: Arc<str>, owner: &Arc<Owner>) -> Arc<Queue>;

    /// Binds to the fanout.
    fn bind(&self, queue: &Arc<Queue>);

    /// Binds many to the fanout at once, to set up what a phase begins with.
    fn bind_all(&self, queues: &[Arc<Queue>]);

    /// Binds to the direct exchange.
    fn bind_direct(&self, key: &str, queue: &Arc<Queue>);

    /// Removes queues and their bindings to the fanout; `queues` is what one turn deletes.
    fn delete(&self, queues: &[Arc<Queue>]);

    /// The fanout's queues, and the steps that it took to find them.
    fn fanout(&self, cache: &mut RouteCache) -> (Routes, usize);

    fn direct(&self, key: &str, cache: &mut RouteCache) -> Routes;
}

/// A small direct-mapped cache of one publisher; an entry holds while its exchange's version stands.
#[derive(Default)]
pub(super) struct RouteCache {
    fanout: Option<(u64, Routes)>,
    direct: Vec<Option<DirectEntry>>,
}

struct DirectEntry {
    key: Box<str>,
    version: u64,
    routes: Routes,
}

const DIRECT_ENTRIES: usize = 64;

impl RouteCache {
    pub(super) fn fanout(&mut self, version: u64, build: impl FnOnce() -> (u64, Routes)) -> (Routes, usize) {
        if let Some((cached, routes)) = &self.fanout
            && *cached == version
        {
            return (Arc::clone(routes), 0);
        }
        let (version, routes) = build();
        self.fanout = Some((version, Arc::clone(&routes)));
        let steps = routes.len();
        (routes, steps)
    }

    pub(super) fn direct(
        &mut self,
        key: &str,
        version: u64,
        build: impl FnOnce() -> (u64, Routes),
    ) -> Routes {
        self.direct.resize_with(DIRECT_ENTRIES, || None);
        let hash =
            key.bytes().fold(0usize, |hash, octet| hash.wrapping_mul(31).wrapping_add(usize::from(octet)));
        let slot = &mut self.direct[hash % DIRECT_ENTRIES];
        if let Some(entry) = slot
            && entry.version == version
            && *entry.key == *key
        {
            return Arc::clone(&entry.routes);
        }
        let (version, routes) = build();
        *slot = Some(DirectEntry { key: key.into(), version, routes: Arc::clone(&routes) });
        routes
    }
}
