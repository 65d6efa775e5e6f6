//! Design C: a publish wakes idle consumers, and each takes a batch from the queue itself.
//!
//! Nobody chooses a consumer, so the order of round robin is not kept: who comes first takes most.
//! Invariant: a consumer is in `idle` only while it found the queue empty and has credit.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    Feed, Queue,
    log::{DELIVERY_HEADER_OCTETS, Location, Log},
    settings::Settings,
    unacked::Unacked,
};

#[derive(Default)]
struct State {
    ready: VecDeque<Location>,
    idle: VecDeque<usize>,
    is_idle: Vec<bool>,
    wakes: Vec<Arc<Notify>>,
}

/// A queue that consumers take from.
pub(super) struct PullQueue {
    state: Mutex<State>,
    log: Arc<Log>,
    settings: Arc<Settings>,
}

impl PullQueue {
    pub(super) fn new(log: Arc<Log>, settings: Arc<Settings>) -> Self {
        Self { state: Mutex::default(), log, settings }
    }
}

impl Queue for PullQueue {
    fn publish(&self, batch: &[Location]) {
        let mut state = self.state.lock();
        state.ready.extend(batch);
        for _ in 0..batch.len() {
            let Some(index) = state.idle.pop_front() else { break };
            state.is_idle[index] = false;
            state.wakes[index].notify_one();
        }
    }

    fn attach(self: Arc<Self>) -> Box<dyn Feed> {
        let wake = Arc::new(Notify::new());
        let mut state = self.state.lock();
        state.wakes.push(Arc::clone(&wake));
        state.is_idle.push(false);
        let index = state.wakes.len() - 1;
        drop(state);
        let credit = if self.settings.prefetch == 0 { usize::MAX } else { self.settings.prefetch as usize };
        let unacked = Unacked::default();
        Box::new(PullFeed { queue: self, index, wake, credit, taken: Vec::new(), next_tag: 0, unacked })
    }
}

struct PullFeed {
    queue: Arc<PullQueue>,
    index: usize,
    wake: Arc<Notify>,
    credit: usize,
    taken: Vec<Location>,
    next_tag: u64,
    unacked: Unacked,
}

impl PullFeed {
    fn take(&mut self) {
        let settings = &self.queue.settings;
        let fits = settings.output_octets / (DELIVERY_HEADER_OCTETS + settings.body_octets);
        let count_max = fits.max(1).min(self.credit);
        self.taken.clear();
        if count_max == 0 {
            return;
        }
        let mut state = self.queue.state.lock();
        let count = count_max.min(state.ready.len());
        self.taken.extend(state.ready.drain(..count));
        if count == 0 && !state.is_idle[self.index] {
            state.is_idle[self.index] = true;
            state.idle.push_back(self.index);
        }
    }
}

impl Feed for PullFeed {
    fn wake(&self) -> &Notify {
        &self.wake
    }

    fn fill(&mut self, output: &mut Vec<u8>) {
        self.take();
        let release = self.queue.settings.prefetch == 0;
        let written = self.queue.log.encode(&self.taken, self.next_tag, release, usize::MAX, output);
        self.next_tag += written as u64;
        if !release {
            self.unacked.extend(&self.taken);
            self.credit -= written;
        }
    }

    fn acknowledged(&mut self, tags: &[u64]) {
        let mut settled = Vec::with_capacity(tags.len());
        self.unacked.settle(tags, &mut settled);
        self.queue.log.release_all(&settled);
        self.credit += settled.len();
    }
}
