//! A queue with its lock: the unit that a step works on.
//!
//! A step locks the queue, lets the model decide, puts the messages that go out into their
//! consumers' inboxes while the order is still held, unlocks, and only then gives references
//! back and wakes. Invariant: a dead queue is never stepped again.

use std::{
    cell::RefCell,
    collections::VecDeque,
    sync::{Arc, Weak, atomic::Ordering},
};

use leveret_wire::{Properties, TableBuf};

use super::{
    ConnectionId, Engine,
    dead_letters::DeadLetter,
    inbox::{Inbox, Letter},
    sources::SourceId,
    vhost::Vhost,
};
use crate::{
    Location, Now,
    model::{
        arguments::QueueArguments,
        exchange::Version,
        queue::{Assignment, ConsumerSlot, Effects, Messages, Queue},
        topology::QueueId,
    },
    planted::{self, Bug},
    store::{LastChunk, Record},
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
    pub(super) vhost: Weak<Vhost>,
    pub(super) declaration: QueueDeclaration,
    this: Weak<Self>,
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
    /// The earliest of its deadlines that the housekeeper knows.
    deadline_millis: Option<u64>,
}

struct Link {
    inbox: Arc<Inbox>,
    source: SourceId,
}

/// Buffers that a connection keeps for its steps.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) now: Now,
    pub(super) effects: Effects,
    /// What the steps buried, to be published anew.
    pub(super) dead_letters: VecDeque<DeadLetter>,
    /// A deadline that is the earliest of all was set.
    wakes_house: bool,
    /// What deliveries that need no acknowledgement give back.
    pub(super) freed: Vec<Location>,
    wakes: Vec<Arc<Inbox>>,
}

/// What is left of a deleted queue.
pub(super) struct Remains {
    pub(super) messages: u64,
    pub(super) locations: Vec<VecDeque<Location>>,
}

impl QueueCell {
    pub(super) fn new(
        serial: u64,
        name: &str,
        vhost: Weak<Vhost>,
        declaration: QueueDeclaration,
        now: Now,
    ) -> Arc<Self> {
        let queue = Queue::new(declaration.parsed.settings, now.monotonic_millis);
        let state = State { queue, links: Vec::new(), id: None, dead: false, deadline_millis: None };
        Arc::new_cyclic(|this| Self {
            serial,
            name: name.into(),
            vhost,
            declaration,
            this: Weak::clone(this),
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
        work: impl FnOnce(&mut Queue, &dyn Messages, &mut Effects) -> R,
    ) -> Option<R> {
        let mut state = self.state.lock();
        if state.dead {
            return None;
        }
        let lookup = Lookup::new(engine, scratch.now);
        let result = work(&mut state.queue, &lookup, &mut scratch.effects);
        self.note_deadline(&mut state, &lookup, scratch);
        state.post(scratch);
        drop(lookup);
        drop(state);
        self.finish(engine, scratch);
        Some(result)
    }

    /// Tells the housekeeper when to look at the queue, if it is to do so earlier than it knows.
    fn note_deadline(&self, state: &mut State, lookup: &Lookup<'_>, scratch: &mut Scratch) {
        let Some(at) = state.queue.next_deadline_millis(lookup) else { return };
        if state.deadline_millis.is_none_or(|known| at < known) {
            state.deadline_millis = Some(at);
            let is_earliest = lookup.engine.deadlines.add(at, self.serial, Weak::clone(&self.this));
            scratch.wakes_house |= is_earliest && !planted::is(Bug::DeadlineNotTold);
        }
    }

    /// A deadline came. True when it may be the queue's own time that is over.
    pub(super) fn on_deadline(&self, engine: &Engine, scratch: &mut Scratch, at_millis: u64) -> bool {
        {
            let mut state = self.state.lock();
            state.deadline_millis = state.deadline_millis.filter(|known| *known != at_millis);
        }
        let now = scratch.now.monotonic_millis;
        let expire = |queue: &mut Queue, messages: &dyn Messages, effects: &mut Effects| {
            queue.expire(messages, effects);
            queue.is_past_its_time(now)
        };
        self.step(engine, scratch, expire).unwrap_or(false)
    }

    /// What follows a step outside the queue's lock.
    fn finish(&self, engine: &Engine, scratch: &mut Scratch) {
        if !scratch.effects.dead.is_empty()
            && let Some(this) = self.this.upgrade()
        {
            scratch.note_dead(&this);
        }
        scratch.finish(engine);
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
        let lookup = Lookup::new(engine, scratch.now);
        state.queue.wake(slot, &lookup, &mut scratch.effects);
        self.note_deadline(&mut state, &lookup, scratch);
        state.post(scratch);
        drop(lookup);
        drop(state);
        self.finish(engine, scratch);
        Some(Ok(slot))
    }

    /// Ends a consumer; true when that leaves an auto-delete queue without any.
    pub(super) fn remove_consumer(&self, engine: &Engine, scratch: &mut Scratch, slot: ConsumerSlot) -> bool {
        let mut state = self.state.lock();
        if state.dead {
            return false;
        }
        state.queue.remove_consumer(slot, scratch.now.monotonic_millis);
        state.links[slot] = None;
        self.note_deadline(&mut state, &Lookup::new(engine, scratch.now), scratch);
        let abandoned = self.declaration.auto_delete && state.queue.is_abandoned();
        drop(state);
        scratch.finish(engine);
        abandoned && !planted::is(Bug::AutoDeleteForgotten)
    }

    /// Whether it was not deleted.
    pub(super) fn is_alive(&self) -> bool {
        !self.state.lock().dead
    }

    /// Whether one consumer at a time is given messages.
    pub(super) const fn has_single_active_consumer(&self) -> bool {
        self.declaration.parsed.settings.single_active_consumer
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
        let locations = state.queue.drain();
        let links = std::mem::take(&mut state.links);
        drop(state);
        for link in links.into_iter().flatten() {
            link.inbox.put_cancelled(link.source);
        }
        Ok(Some(Remains { messages, locations }))
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
        if std::mem::take(&mut self.wakes_house) {
            engine.deadlines.wake();
        }
    }
}

/// Looks messages up during one step.
struct Lookup<'e> {
    engine: &'e Engine,
    now: Now,
    last_chunk: RefCell<LastChunk>,
}

impl<'e> Lookup<'e> {
    fn new(engine: &'e Engine, now: Now) -> Self {
        Self { engine, now, last_chunk: RefCell::default() }
    }

    fn look<R>(&self, location: Location, at: impl FnOnce(Record<'_>) -> R) -> R {
        let mut last_chunk = self.last_chunk.borrow_mut();
        at(last_chunk.find(&self.engine.log, location).record(location))
    }

    /// The properties were checked when the message came.
    fn property<R>(&self, location: Location, of: impl FnOnce(Properties<'_>) -> Option<R>) -> Option<R> {
        self.look(location, |record| Properties::decode(record.property_octets()).ok().and_then(of))
    }
}

impl Messages for Lookup<'_> {
    fn now_millis(&self) -> u64 {
        self.now.monotonic_millis
    }

    fn body_octets(&self, location: Location) -> u64 {
        self.look(location, |record| record.body_octets as u64)
    }

    fn priority(&self, location: Location) -> u8 {
        self.property(location, |properties| properties.priority).unwrap_or(0)
    }

    fn arrived_millis(&self, location: Location) -> u64 {
        if planted::is(Bug::RequeueRenewsLife) && location.redelivered() {
            return self.now.monotonic_millis;
        }
        self.look(location, |record| record.arrived_millis)
    }

    fn expiration_millis(&self, location: Location) -> Option<u64> {
        self.property(location, |properties| properties.expiration?.to_str()?.parse().ok())
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
