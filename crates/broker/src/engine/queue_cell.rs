//! A queue with its lock: the unit that a step works on.
//!
//! A step locks the queue, lets the model decide, puts the messages that go out into their
//! consumers' inboxes while the order is still held, unlocks, and only then gives references
//! back and wakes. Invariant: a dead queue is never stepped again.

use std::{
    cell::RefCell,
    sync::{Arc, atomic::Ordering},
};

use leveret_wire::TableBuf;

use super::{
    ConnectionId, Engine,
    inbox::{Inbox, Letter},
    sources::SourceId,
};
use crate::{
    Location,
    model::{
        arguments::QueueArguments,
        exchange::Version,
        queue::{Assignment, BodyOctets, ConsumerSlot, Effects, Queue},
        topology::QueueId,
    },
    planted::{self, Bug},
    store::LastChunk,
    sync::Mutex,
};

/// How a queue was declared.
#[derive(Debug, Clone)]
pub(super) struct QueueDeclaration {
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    /// The only connection that may use it.
    pub(super) owner: Option<ConnectionId>,
    pub(super) arguments: TableBuf,
    pub(super) parsed: QueueArguments,
}

/// A queue as connections share it.
pub(super) struct QueueCell {
    /// Never used again, unlike its id in the topology.
    pub(super) serial: u64,
    pub(super) name: Box<str>,
    pub(super) declaration: QueueDeclaration,
    /// Changes when the queue is deleted; routes by the default exchange rest on it.
    pub(super) liveness: Version,
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    /// Whose consumer stands in which slot.
    links: Vec<Option<Link>>,
    /// None before it is in the topology and after it is deleted.
    id: Option<QueueId>,
    dead: bool,
}

struct Link {
    inbox: Arc<Inbox>,
    source: SourceId,
}

/// Buffers that a connection keeps for its steps.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) effects: Effects,
    /// What deliveries that need no acknowledgement give back.
    pub(super) freed: Vec<Location>,
    wakes: Vec<Arc<Inbox>>,
}

/// What is left of a deleted queue.
pub(super) struct Remains {
    pub(super) messages: u64,
    pub(super) locations: Vec<std::collections::VecDeque<Location>>,
}

impl QueueCell {
    pub(super) fn new(serial: u64, name: &str, declaration: QueueDeclaration) -> Arc<Self> {
        let queue = Queue::new(declaration.parsed.limits);
        let state = State { queue, links: Vec::new(), id: None, dead: false };
        Arc::new(Self {
            serial,
            name: name.into(),
            declaration,
            liveness: Version::default(),
            state: Mutex::new(state),
        })
    }

    /// Tells the queue its place in the topology.
    pub(super) fn place(&self, id: QueueId) {
        self.state.lock().id = Some(id);
    }

    /// Runs one step; `None` when the queue is deleted.
    pub(super) fn step<R>(
        &self,
        engine: &Engine,
        scratch: &mut Scratch,
        work: impl FnOnce(&mut Queue, BodyOctets<'_>, &mut Effects) -> R,
    ) -> Option<R> {
        let mut state = self.state.lock();
        if state.dead {
            return None;
        }
        let result = work(&mut state.queue, &body_octets(engine), &mut scratch.effects);
        state.post(scratch);
        drop(state);
        scratch.finish(engine);
        Some(result)
    }

    /// Starts a consumer whose messages go to that inbox.
    pub(super) fn add_consumer(
        &self,
        engine: &Engine,
        scratch: &mut Scratch,
        settings: crate::model::consumer::ConsumerSettings,
        inbox: &Arc<Inbox>,
        source: SourceId,
    ) -> Option<Result<ConsumerSlot, crate::model::queue::InExclusiveUse>> {
        let mut state = self.state.lock();
        if state.dead {
            return None;
        }
        let slot = match state.queue.add_consumer(settings) {
            Ok(slot) => slot,
            Err(in_use) => return Some(Err(in_use)),
        };
        if state.links.len() <= slot {
            state.links.resize_with(slot + 1, || None);
        }
        state.links[slot] = Some(Link { inbox: Arc::clone(inbox), source });
        state.queue.wake(slot, &body_octets(engine), &mut scratch.effects);
        state.post(scratch);
        drop(state);
        scratch.finish(engine);
        Some(Ok(slot))
    }

    /// Ends a consumer; true when that leaves an auto-delete queue without any.
    pub(super) fn remove_consumer(&self, slot: ConsumerSlot) -> bool {
        let mut state = self.state.lock();
        if state.dead {
            return false;
        }
        state.queue.remove_consumer(slot);
        state.links[slot] = None;
        self.declaration.auto_delete && state.queue.is_abandoned() && !planted::is(Bug::AutoDeleteForgotten)
    }

    /// Deletes the queue if `condition` holds, and takes its place from `forget`.
    ///
    /// The caller holds the topology's lock; consumers are told.
    pub(super) fn kill<E>(
        &self,
        condition: impl FnOnce(&Queue) -> Result<(), E>,
        forget: impl FnOnce(QueueId),
    ) -> Result<Option<Remains>, E> {
        let mut state = self.state.lock();
        let (false, Some(id)) = (state.dead, state.id) else { return Ok(None) };
        condition(&state.queue)?;
        state.dead = true;
        self.liveness.fetch_add(1, Ordering::Release);
        forget(id);
        let messages = state.queue.ready();
        let (returned, fresh) = state.queue.drain();
        let links = std::mem::take(&mut state.links);
        drop(state);
        for link in links.into_iter().flatten() {
            link.inbox.put_cancelled(link.source);
        }
        Ok(Some(Remains { messages, locations: vec![returned.into_values().collect(), fresh] }))
    }
}

impl State {
    /// Puts what was assigned into the inboxes, a run for each consumer.
    fn post(&mut self, scratch: &mut Scratch) {
        let assigned = &mut scratch.effects.assigned;
        if assigned.is_empty() {
            return;
        }
        // Each consumer's messages stay in order, because the sort is stable.
        if !assigned.is_sorted_by_key(|assignment| assignment.consumer) {
            assigned.sort_by_key(|assignment| assignment.consumer);
        }
        for run in assigned.chunk_by(|one, other| one.consumer == other.consumer) {
            let link = self.links[run[0].consumer].as_ref().expect("a consumer has a link");
            let window = run.iter().map(|assignment| assignment.window).sum();
            let letter = |a: &Assignment| Letter { location: a.location, position: a.position };
            link.inbox.put(link.source, window, run.iter().map(letter));
            scratch.wakes.push(Arc::clone(&link.inbox));
        }
        assigned.clear();
    }
}

impl Scratch {
    /// What follows a step outside the queue's lock.
    fn finish(&mut self, engine: &Engine) {
        if !self.effects.dropped.is_empty() {
            engine.release(self.effects.dropped.drain(..));
        }
        for inbox in self.wakes.drain(..) {
            inbox.wake();
        }
    }
}

/// Looks up octets of bodies during one step.
fn body_octets(engine: &Engine) -> impl Fn(Location) -> u64 {
    let last_chunk = RefCell::new(LastChunk::default());
    move |location| {
        let mut last_chunk = last_chunk.borrow_mut();
        last_chunk.find(&engine.log, location).record(location).body_octets as u64
    }
}

impl Engine {
    /// Gives references back to the log.
    pub(super) fn release(&self, locations: impl IntoIterator<Item = Location>) {
        self.log.release(locations);
        // A chunk that is rewritten while an output holds it costs more than before.
        self.alarm.grown();
        self.alarm.shrunk();
    }
}
