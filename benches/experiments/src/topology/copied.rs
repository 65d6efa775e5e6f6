//! Variant A: every change copies the exchange's table and swaps the pointer to it.
//!
//! A publish takes the table as it is and needs no cache. One turn's deletes share one copy. Invariant: a
//! table that was once visible never changes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};

use super::vhost::{Owner, Queue, RouteCache, Routes, Vhost};

#[derive(Default)]
struct Copied {
    queues: Mutex<HashMap<Arc<str>, Arc<Queue>>>,
    fanout: RwLock<Routes>,
    /// Held while a copy is made, so that readers wait for the swap alone.
    fanout_writer: Mutex<()>,
    direct: RwLock<Arc<HashMap<Box<str>, Routes>>>,
}

pub(super) fn new() -> Arc<dyn Vhost> {
    Arc::new(Copied::default())
}

impl Copied {
    /// Swaps the table; the old one is freed, where nobody reads it, outside the lock.
    fn swap(&self, table: Vec<Arc<Queue>>) {
        let table = Arc::new(table);
        let old = std::mem::replace(&mut *self.fanout.write(), table);
        drop(old);
    }
}

impl Vhost for Copied {
    fn declare(&self, name: Arc<str>, owner: &Arc<Owner>) -> Arc<Queue> {
        let queue = Queue::new(Arc::clone(&name), owner);
        self.queues.lock().insert(name, Arc::clone(&queue));
        queue
    }

    fn bind(&self, queue: &Arc<Queue>) {
        let _writer = self.fanout_writer.lock();
        let current = Arc::clone(&self.fanout.read());
        let mut table = Vec::with_capacity(current.len() + 1);
        table.extend(current.iter().cloned());
        table.push(Arc::clone(queue));
        drop(current);
        self.swap(table);
    }

    fn bind_all(&self, queues: &[Arc<Queue>]) {
        let _writer = self.fanout_writer.lock();
        let current = Arc::clone(&self.fanout.read());
        self.swap(current.iter().chain(queues).cloned().collect());
    }

    fn bind_direct(&self, key: &str, queue: &Arc<Queue>) {
        let mut direct = self.direct.write();
        let mut table = HashMap::clone(&direct);
        table.insert(key.into(), Arc::new(vec![Arc::clone(queue)]));
        *direct = Arc::new(table);
    }

    fn delete(&self, queues: &[Arc<Queue>]) {
        let gone: HashSet<_> = queues.iter().map(Arc::as_ptr).collect();
        let writer = self.fanout_writer.lock();
        let current = Arc::clone(&self.fanout.read());
        self.swap(current.iter().filter(|queue| !gone.contains(&Arc::as_ptr(queue))).cloned().collect());
        drop(writer);
        for queue in queues {
            self.queues.lock().remove(&queue.name);
        }
    }

    fn fanout(&self, _cache: &mut RouteCache) -> (Routes, usize) {
        (Arc::clone(&self.fanout.read()), 0)
    }

    fn direct(&self, key: &str, _cache: &mut RouteCache) -> Routes {
        let table = Arc::clone(&self.direct.read());
        table.get(key).cloned().unwrap_or_default()
    }
}
