//! A queue with its lock: the unit that a step works on.
//!
//! A step locks the queue, lets the model decide, puts the messages that go out into their
//! consumers' inboxes while the order is still held, unlocks, and only then gives references
//! back and wakes. What it has to do with pages is in `queue_cell/pages.rs`. Invariant: a dead queue
//! is never stepped again.

mod pages;

use std::{
    cell::RefCell,
    collections::VecDeque,
    sync::{Arc, Weak, atomic::Ordering},
};

use leveret_wire::{Properties, TableBuf};

use super::{
    ConnectionId, Engine,
    dead_letters::DeadLetter,
    durability::DurableQueue,
    inbox::{Inbox, Letter, Notice},
    sources::SourceId,
    vhost::Vhost,
};
use crate::{
    AwayRun, Location, Now, Ordinal,
    model::{
        any_queue::AnyQueue,
        exchange::Version,
        queue::{Assignment, ConsumerSlot, Drained, Effects, Messages, Position},
        queue_arguments::{QueueArguments, QueueType},
        stream::StreamOffset,
        topology::QueueId,
    },
    planted::{self, Bug},
    store::{LastChunk, Record, journal, returns::Returns},
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
    /// What is kept of it where its messages are to last.
    pub(super) durable: Option<Arc<DurableQueue>>,
    this: Weak<Self>,
    /// Changes when the queue is deleted; routes by the default exchange rest on it.
    pub(super) liveness: Version,
    state: Mutex<State>,
}

struct State {
    queue: AnyQueue,
    /// Whose consumer stands in which slot.
    links: Vec<Option<Link>>,
    /// None before it is in the topology and after it is deleted.
    id: Option<QueueId>,
    dead: bool,
    /// The earliest of its deadlines that the housekeeper knows.
    deadline_millis: Option<u64>,
    /// The spiller knows that it has runs to put away.
    is_spillable: bool,
    /// The loader knows that it wants a page.
    wants_page: bool,
    /// Who waits for a page to take its first message.
    waiters: Vec<Arc<Inbox>>,
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
    /// A queue wants a page.
    wakes_loader: bool,
    /// What deliveries that need no acknowledgement give back.
    pub(super) freed: Vec<Location>,
    /// Where those stood, in a durable queue.
    pub(super) left: Vec<Position>,
    wakes: Vec<Arc<Inbox>>,
}

/// What follows from the end of a consumer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Removal {
    /// It leaves an auto-delete queue without any.
    pub(super) is_abandoned: bool,
    /// It was the single active one; the next one waits until what it was handed is back.
    pub(super) was_active: bool,
}

/// What is left of a deleted queue.
pub(super) struct Remains {
    pub(super) messages: u64,
    pub(super) drained: Drained,
    /// The spiller knows it.
    pub(super) is_spillable: bool,
    /// The deadline that the housekeeper knows.
    pub(super) deadline_millis: Option<u64>,
    /// Up to where the journal has to be synced for the queue to stay deleted.
    pub(super) lasts_at: Option<journal::Position>,
}

impl QueueCell {
    pub(super) fn new(
        serial: u64,
        name: &str,
        vhost: Weak<Vhost>,
        declaration: QueueDeclaration,
        now: Now,
        is_paged: bool,
    ) -> Arc<Self> {
        let durable = declaration.durable.then(Arc::default);
        Self::with(serial, name, vhost, declaration, now, is_paged, durable)
    }

    /// One that was there before the broker was started, of which that is known.
    pub(super) fn revived(
        serial: u64,
        name: &str,
        vhost: Weak<Vhost>,
        declaration: QueueDeclaration,
        now: Now,
        durable: Arc<DurableQueue>,
    ) -> Arc<Self> {
        let is_paged = true;
        Self::with(serial, name, vhost, declaration, now, is_paged, Some(durable))
    }

    /// Gives a revived queue its messages, how often some of them came back, and the ordinals that
    /// come next.
    pub(super) fn revive(&self, kept: &[AwayRun], returns: &Returns, ends: &[Ordinal]) {
        let returns: Vec<_> =
            returns.iter().map(|message| (Ordinal(message.ordinal), message.count)).collect();
        self.state.lock().queue.revive(kept, &returns, ends);
    }

    /// Gives a revived stream its messages, with their offsets.
    pub(super) fn revive_stream(&self, entries: &[(u64, Location)]) {
        if let AnyQueue::Stream(stream) = &mut self.state.lock().queue {
            stream.revive(entries);
        }
    }

    fn with(
        serial: u64,
        name: &str,
        vhost: Weak<Vhost>,
        declaration: QueueDeclaration,
        now: Now,
        is_paged: bool,
        durable: Option<Arc<DurableQueue>>,
    ) -> Arc<Self> {
        let state = State {
            queue: AnyQueue::new(&declaration.parsed, now.monotonic_millis, is_paged),
            links: Vec::new(),
            id: None,
            dead: false,
            deadline_millis: None,
            is_spillable: false,
            wants_page: false,
            waiters: Vec::new(),
        };
        Arc::new_cyclic(|this| Self {
            serial,
            name: name.into(),
            vhost,
            durable,
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
        work: impl FnOnce(&mut AnyQueue, &dyn Messages, &mut Effects) -> R,
    ) -> Option<R> {
        self.step_state(engine, scratch, |state, messages, effects| work(&mut state.queue, messages, effects))
    }

    #[inline]
    fn step_state<R>(
        &self,
        engine: &Engine,
        scratch: &mut Scratch,
        work: impl FnOnce(&mut State, &dyn Messages, &mut Effects) -> R,
    ) -> Option<R> {
        let mut state = self.state.lock();
        if state.dead {
            return None;
        }
        let lookup = Lookup::new(engine, scratch.now);
        let result = work(&mut state, &lookup, &mut scratch.effects);
        self.note(&mut state, &lookup, scratch);
        state.post(engine, scratch);
        drop(lookup);
        drop(state);
        self.finish(engine, scratch);
        Some(result)
    }

    /// Tells those who do what connections do not what a step has for them.
    #[inline]
    fn note(&self, state: &mut State, lookup: &Lookup<'_>, scratch: &mut Scratch) {
        self.note_deadline(state, lookup, scratch);
        if let Some(notice) = state.queue.take_notice() {
            self.note_pages(state, notice, lookup.engine, scratch);
        }
    }

    /// Tells the housekeeper when to look at the queue, if it is to do so earlier than it knows.
    fn note_deadline(&self, state: &mut State, lookup: &Lookup<'_>, scratch: &mut Scratch) {
        let Some(at) = state.queue.next_deadline_millis(lookup) else { return };
        if state.deadline_millis.is_none_or(|known| at < known) {
            let later = state.deadline_millis.replace(at);
            let this = Weak::clone(&self.this);
            let is_earliest = lookup.engine.deadlines.add(at, later, self.serial, this);
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
        let expire = |queue: &mut AnyQueue, messages: &dyn Messages, effects: &mut Effects| {
            queue.keep_time(messages, effects);
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
        self.left(engine, scratch.effects.gone.drain(..));
        scratch.finish(engine);
    }

    /// Starts a consumer whose messages go to that inbox.
    pub(super) fn add_consumer(
        &self,
        engine: &Engine,
        scratch: &mut Scratch,
        settings: crate::model::consumer::ConsumerSettings,
        offset: StreamOffset,
        inbox: &Arc<Inbox>,
        source: SourceId,
    ) -> Option<Result<ConsumerSlot, crate::model::queue::InExclusiveUse>> {
        let mut state = self.state.lock();
        if state.dead {
            return None;
        }
        let lookup = Lookup::new(engine, scratch.now);
        let slot = match state.queue.add_consumer(settings, offset, &lookup) {
            Ok(slot) => slot,
            Err(in_use) => return Some(Err(in_use)),
        };
        if state.links.len() <= slot {
            state.links.resize_with(slot + 1, || None);
        }
        state.links[slot] = Some(Link { inbox: Arc::clone(inbox), source });
        state.queue.wake(slot, &lookup, &mut scratch.effects);
        self.note(&mut state, &lookup, scratch);
        state.post(engine, scratch);
        drop(lookup);
        drop(state);
        self.finish(engine, scratch);
        Some(Ok(slot))
    }

    /// Ends a consumer.
    pub(super) fn remove_consumer(
        &self,
        engine: &Engine,
        scratch: &mut Scratch,
        slot: ConsumerSlot,
    ) -> Removal {
        let mut state = self.state.lock();
        if state.dead {
            return Removal::default();
        }
        let was_active = state.queue.remove_consumer(slot, scratch.now.monotonic_millis);
        state.links[slot] = None;
        self.note_deadline(&mut state, &Lookup::new(engine, scratch.now), scratch);
        let is_abandoned = self.declaration.auto_delete && state.queue.is_abandoned();
        drop(state);
        scratch.finish(engine);
        Removal { is_abandoned: is_abandoned && !planted::is(Bug::AutoDeleteForgotten), was_active }
    }

    /// How many messages are ready and how many consumers there are, once messages whose time is
    /// over are out, which may take several steps; `None` when the queue is deleted.
    pub(super) fn count(&self, engine: &Engine, scratch: &mut Scratch) -> Option<(u64, usize)> {
        loop {
            let (counts, is_behind) = self.step(engine, scratch, |queue, messages, effects| {
                queue.touch(messages.now_millis());
                queue.keep_time(messages, effects);
                ((queue.ready(), queue.told_consumer_count()), queue.is_behind())
            })?;
            if !is_behind {
                return Some(counts);
            }
        }
    }

    /// Whether it was not deleted.
    pub(super) fn is_alive(&self) -> bool {
        !self.state.lock().dead
    }

    /// Whether a message lasts in the queue. Quorum queues and streams keep every message.
    pub(super) fn keeps(&self, is_persistent: bool) -> bool {
        self.durable.is_some() && (is_persistent || self.queue_type() != QueueType::Classic)
    }

    pub(super) const fn queue_type(&self) -> QueueType {
        self.declaration.parsed.queue_type
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
        condition: impl FnOnce(&AnyQueue) -> Result<(), E>,
        forget: impl FnOnce(QueueId),
    ) -> Result<Option<Remains>, E> {
        let mut state = self.state.lock();
        let (false, Some(id)) = (state.dead, state.id) else { return Ok(None) };
        condition(&state.queue)?;
        state.dead = true;
        self.liveness.fetch_add(1, Ordering::Release);
        forget(id);
        let messages = state.queue.ready();
        let drained = state.queue.drain();
        let deadline_millis = state.deadline_millis.take();
        let is_spillable = std::mem::take(&mut state.is_spillable);
        let links = std::mem::take(&mut state.links);
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        waiters.iter().for_each(|inbox| inbox.call());
        for link in links.into_iter().flatten() {
            link.inbox.put_notice(Notice::Cancelled(link.source));
        }
        Ok(Some(Remains { messages, drained, is_spillable, deadline_millis, lasts_at: None }))
    }
}

impl QueueCell {
    /// Ends a queue that stands in no topology, and returns what is left in it.
    pub(super) fn retire(&self, engine: &Engine) -> Drained {
        let mut state = self.state.lock();
        state.dead = true;
        if let Some(at) = state.deadline_millis.take() {
            engine.deadlines.remove(at, self.serial);
        }
        if std::mem::take(&mut state.is_spillable) {
            engine.paging.remove_spillable(self.serial);
        }
        self.liveness.fetch_add(1, Ordering::Release);
        state.links.clear();
        state.queue.drain()
    }
}

impl State {
    /// Puts what was assigned into the inboxes, a run for each consumer.
    fn post(&mut self, engine: &Engine, scratch: &mut Scratch) {
        let assigned = &mut scratch.effects.assigned;
        if assigned.is_empty() {
            return;
        }
        if self.queue.keeps_what_it_hands_over() {
            engine.log.retain(assigned.iter().map(|assignment| assignment.location));
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
        if std::mem::take(&mut self.wakes_loader) {
            engine.paging.wake_loader();
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

    fn wall_millis(&self) -> u64 {
        self.now.wall_millis
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
        self.property(location, |properties| {
            properties.expiration?.to_str()?.trim_start_matches(['+', '-']).parse().ok()
        })
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
