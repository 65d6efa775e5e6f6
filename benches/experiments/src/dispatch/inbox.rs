//! Design A: under the queue's lock, references go into the inbox of the consumer's connection.
//!
//! The connection's own task numbers and encodes. Credit is a window: an entry that ends half a window
//! returns that half. Invariant: lock order is queue, then inbox, and never two queues.

use std::{collections::VecDeque, mem, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    Feed, Queue,
    log::{Location, Log},
    settings::Settings,
    unacked::Unacked,
};

/// Consecutive inbox entries of one consumer; `returns` is the credit that goes back behind them.
struct Run {
    count: usize,
    returns: u32,
}

#[derive(Default)]
struct Entries {
    locations: Vec<Location>,
    runs: VecDeque<Run>,
}

#[derive(Default)]
struct Inbox {
    entries: Mutex<Entries>,
    wake: Notify,
}

struct Consumer {
    inbox: Arc<Inbox>,
    credit: u32,
    /// Messages until credit is asked back; never reached where acknowledgements return it.
    until_marker: usize,
    marker_every: usize,
    chosen: Vec<Location>,
}

impl Consumer {
    /// Appends what was chosen to the inbox, with its markers, and wakes the connection.
    fn hand_over(&mut self) {
        let mut count = self.chosen.len();
        let mut entries = self.inbox.entries.lock();
        entries.locations.append(&mut self.chosen);
        while count >= self.until_marker {
            entries.runs.push_back(Run { count: self.until_marker, returns: self.marker_every as u32 });
            count -= self.until_marker;
            self.until_marker = self.marker_every;
        }
        if count > 0 {
            entries.runs.push_back(Run { count, returns: 0 });
            self.until_marker -= count;
        }
        drop(entries);
        self.inbox.wake.notify_one();
    }
}

#[derive(Default)]
struct State {
    ready: VecDeque<Location>,
    consumers: Vec<Consumer>,
    next: usize,
}

impl State {
    fn dispatch(&mut self) {
        while !self.ready.is_empty() {
            let credits = self.consumers.iter().map(|consumer| consumer.credit);
            let Some((index, run)) = super::choose(credits, self.next, self.ready.len()) else { break };
            let consumer = &mut self.consumers[index];
            consumer.credit -= run as u32;
            consumer.chosen.extend(self.ready.drain(..run));
            self.next = index + 1;
        }
        for consumer in self.consumers.iter_mut().filter(|consumer| !consumer.chosen.is_empty()) {
            consumer.hand_over();
        }
    }
}

/// A queue that hands references to connections.
pub(super) struct InboxQueue {
    state: Mutex<State>,
    log: Arc<Log>,
    settings: Arc<Settings>,
}

impl InboxQueue {
    pub(super) fn new(log: Arc<Log>, settings: Arc<Settings>) -> Self {
        Self { state: Mutex::default(), log, settings }
    }

    fn credit(&self, index: usize, count: u32) {
        let mut state = self.state.lock();
        state.consumers[index].credit += count;
        state.dispatch();
    }
}

impl Queue for InboxQueue {
    fn publish(&self, batch: &[Location]) {
        let mut state = self.state.lock();
        state.ready.extend(batch);
        state.dispatch();
    }

    fn attach(self: Arc<Self>) -> Box<dyn Feed> {
        let inbox = Arc::new(Inbox::default());
        let windowed = self.settings.prefetch == 0;
        let credit = if windowed { self.settings.window } else { self.settings.prefetch };
        let marker_every = if windowed { (credit / 2).max(1) as usize } else { usize::MAX };
        let mut state = self.state.lock();
        state.consumers.push(Consumer {
            inbox: Arc::clone(&inbox),
            credit,
            until_marker: marker_every,
            marker_every,
            chosen: Vec::new(),
        });
        let index = state.consumers.len() - 1;
        drop(state);
        let unacked = Unacked::default();
        Box::new(InboxFeed {
            queue: self,
            index,
            inbox,
            taken: Entries::default(),
            done: 0,
            next_tag: 0,
            unacked,
        })
    }
}

struct InboxFeed {
    queue: Arc<InboxQueue>,
    index: usize,
    inbox: Arc<Inbox>,
    taken: Entries,
    /// How many of the taken locations are encoded.
    done: usize,
    next_tag: u64,
    unacked: Unacked,
}

impl InboxFeed {
    fn take(&mut self) {
        if self.taken.runs.is_empty() {
            self.taken.locations.clear();
            self.done = 0;
            mem::swap(&mut self.taken, &mut self.inbox.entries.lock());
        }
    }

    /// Encodes from the first run, and answers the credit to return when that completes it.
    fn encode_run(&mut self, output: &mut Vec<u8>) -> Option<u32> {
        let settings = &self.queue.settings;
        let run = self.taken.runs.front_mut()?;
        let locations = &self.taken.locations[self.done..self.done + run.count];
        let release = settings.prefetch == 0;
        let log = &self.queue.log;
        let written = log.encode(locations, self.next_tag, release, settings.output_octets, output);
        if !release {
            self.unacked.extend(&locations[..written]);
        }
        self.next_tag += written as u64;
        self.done += written;
        run.count -= written;
        if run.count > 0 {
            return None;
        }
        self.taken.runs.pop_front().map(|run| run.returns)
    }
}

impl Feed for InboxFeed {
    fn wake(&self) -> &Notify {
        &self.inbox.wake
    }

    fn fill(&mut self, output: &mut Vec<u8>) {
        self.take();
        let mut returned = 0;
        while let Some(credit) = self.encode_run(output) {
            returned += credit;
        }
        if returned > 0 {
            self.queue.credit(self.index, returned);
        }
    }

    fn acknowledged(&mut self, tags: &[u64]) {
        let mut settled = Vec::with_capacity(tags.len());
        self.unacked.settle(tags, &mut settled);
        self.queue.log.release_all(&settled);
        self.queue.credit(self.index, settled.len() as u32);
    }
}
