//! Variants B and C: one table a vhost under a lock, changed in place, with versions for route caches.
//!
//! The next publish after a change collects the fanout's queues again. Invariant: a version changes under
//! the write lock, with its exchange's table.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use indexmap::IndexMap;
use parking_lot::RwLock;

use super::vhost::{Owner, Queue, RouteCache, Routes, Vhost};

#[derive(Default)]
struct Tables {
    queues: HashMap<Arc<str>, Arc<Queue>>,
    fanout: IndexMap<Arc<str>, Arc<Queue>>,
    direct: HashMap<Box<str>, Vec<Arc<Queue>>>,
}

#[derive(Default)]
struct InPlace {
    tables: RwLock<Tables>,
    fanout_version: AtomicU64,
    direct_version: AtomicU64,
}

pub(super) fn new() -> Arc<dyn Vhost> {
    Arc::new(InPlace::default())
}

impl Vhost for InPlace {
    fn declare(&self, name: Arc<str>, owner: &Arc<Owner>) -> Arc<Queue> {
        let queue = Queue::new(Arc::clone(&name), owner);
        self.tables.write().queues.insert(name, Arc::clone(&queue));
        queue
    }

    fn bind(&self, queue: &Arc<Queue>) {
        let mut tables = self.tables.write();
        tables.fanout.insert(Arc::clone(&queue.name), Arc::clone(queue));
        self.fanout_version.fetch_add(1, Ordering::Release);
    }

    fn bind_all(&self, queues: &[Arc<Queue>]) {
        queues.iter().for_each(|queue| self.bind(queue));
    }

    fn bind_direct(&self, key: &str, queue: &Arc<Queue>) {
        let mut tables = self.tables.write();
        tables.direct.entry(key.into()).or_default().push(Arc::clone(queue));
        self.direct_version.fetch_add(1, Ordering::Release);
    }

    fn delete(&self, queues: &[Arc<Queue>]) {
        for queue in queues {
            let mut tables = self.tables.write();
            tables.queues.remove(&queue.name);
            tables.fanout.swap_remove(&queue.name);
            self.fanout_version.fetch_add(1, Ordering::Release);
        }
    }

    fn fanout(&self, cache: &mut RouteCache) -> (Routes, usize) {
        cache.fanout(self.fanout_version.load(Ordering::Acquire), || {
            let tables = self.tables.read();
            let version = self.fanout_version.load(Ordering::Acquire);
            (version, Arc::new(tables.fanout.values().cloned().collect()))
        })
    }

    fn direct(&self, key: &str, cache: &mut RouteCache) -> Routes {
        cache.direct(key, self.direct_version.load(Ordering::Acquire), || {
            let tables = self.tables.read();
            let version = self.direct_version.load(Ordering::Acquire);
            (version, Arc::new(tables.direct.get(key).cloned().unwrap_or_default()))
        })
    }
}
