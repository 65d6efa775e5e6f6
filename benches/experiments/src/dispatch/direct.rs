//! Design B: the publisher's thread encodes into the output buffer of the consumer's connection.
//!
//! The connection's task only swaps the buffer out and writes it. Invariant: a consumer without room has
//! `stalled` set in its output, so that its next swap opens it to the queue again.

use std::{collections::VecDeque, mem, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    Feed, Queue,
    log::{DELIVERY_HEADER_OCTETS, Location, Log},
    settings::Settings,
    unacked::Unacked,
};

#[derive(Default)]
struct Buffer {
    octets: Vec<u8>,
    next_tag: u64,
    unacked: Unacked,
    stalled: bool,
}

#[derive(Default)]
struct Output {
    buffer: Mutex<Buffer>,
    wake: Notify,
}

struct Consumer {
    output: Arc<Output>,
    credit: u32,
    /// Messages that fit the buffer for sure; the connection may have made more room since.
    room: u32,
    chosen: Vec<Location>,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Location>,
    consumers: Vec<Consumer>,
    next: usize,
}

/// A queue whose publishers encode.
pub(super) struct DirectQueue {
    state: Mutex<State>,
    log: Arc<Log>,
    settings: Arc<Settings>,
}

impl DirectQueue {
    pub(super) fn new(log: Arc<Log>, settings: Arc<Settings>) -> Self {
        Self { state: Mutex::default(), log, settings }
    }

    fn room_max(&self) -> u32 {
        (self.settings.output_octets / (DELIVERY_HEADER_OCTETS + self.settings.body_octets)).max(1) as u32
    }

    fn dispatch(&self, state: &mut State) {
        while self.choose_all(state) {
            for consumer in state.consumers.iter_mut().filter(|consumer| !consumer.chosen.is_empty()) {
                self.encode(consumer);
            }
        }
    }

    /// Chooses consumers for what is ready, and answers whether there was one.
    fn choose_all(&self, state: &mut State) -> bool {
        let mut any = false;
        while !state.ready.is_empty() {
            let credits = state.consumers.iter().map(|consumer| consumer.credit.min(consumer.room));
            let Some((index, run)) = super::choose(credits, state.next, state.ready.len()) else { break };
            let consumer = &mut state.consumers[index];
            if self.settings.prefetch > 0 {
                consumer.credit -= run as u32;
            }
            consumer.room -= run as u32;
            consumer.chosen.extend(state.ready.drain(..run));
            state.next = index + 1;
            any = true;
        }
        any
    }

    fn encode(&self, consumer: &mut Consumer) {
        let release = self.settings.prefetch == 0;
        let mut buffer = consumer.output.buffer.lock();
        let Buffer { octets, next_tag, unacked, stalled } = &mut *buffer;
        let written = self.log.encode(&consumer.chosen, *next_tag, release, usize::MAX, octets);
        *next_tag += written as u64;
        if !release {
            unacked.extend(&consumer.chosen);
        }
        let record_octets = DELIVERY_HEADER_OCTETS + self.settings.body_octets;
        consumer.room = self.room_max().saturating_sub((octets.len() / record_octets) as u32);
        *stalled |= consumer.room == 0;
        drop(buffer);
        consumer.chosen.clear();
        consumer.output.wake.notify_one();
    }

    fn reopen(&self, index: usize) {
        let mut state = self.state.lock();
        state.consumers[index].room = self.room_max();
        self.dispatch(&mut state);
    }
}

impl Queue for DirectQueue {
    fn publish(&self, batch: &[Location]) {
        let mut state = self.state.lock();
        state.ready.extend(batch);
        self.dispatch(&mut state);
    }

    fn attach(self: Arc<Self>) -> Box<dyn Feed> {
        let output = Arc::new(Output::default());
        let credit = if self.settings.prefetch == 0 { u32::MAX } else { self.settings.prefetch };
        let room = self.room_max();
        let mut state = self.state.lock();
        state.consumers.push(Consumer { output: Arc::clone(&output), credit, room, chosen: Vec::new() });
        let index = state.consumers.len() - 1;
        drop(state);
        Box::new(DirectFeed { queue: self, index, output })
    }
}

struct DirectFeed {
    queue: Arc<DirectQueue>,
    index: usize,
    output: Arc<Output>,
}

impl Feed for DirectFeed {
    fn wake(&self) -> &Notify {
        &self.output.wake
    }

    fn fill(&mut self, output: &mut Vec<u8>) {
        let mut buffer = self.output.buffer.lock();
        mem::swap(&mut buffer.octets, output);
        let stalled = mem::take(&mut buffer.stalled);
        drop(buffer);
        if stalled {
            self.queue.reopen(self.index);
        }
    }

    fn acknowledged(&mut self, tags: &[u64]) {
        let mut settled = Vec::with_capacity(tags.len());
        self.output.buffer.lock().unacked.settle(tags, &mut settled);
        self.queue.log.release_all(&settled);
        let mut state = self.queue.state.lock();
        state.consumers[self.index].credit += settled.len() as u32;
        self.queue.dispatch(&mut state);
    }
}
