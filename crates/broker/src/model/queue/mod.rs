//! A queue: ready messages in order, consumers in a round, limits and lives.
//!
//! Messages are locations; what a queue must know of one beyond that, whoever steps it looks up.
//! Invariant: after every step, no message is ready while a consumer of the round could take it,
//! and no head is past its time, unless the first message is on a page that is being read, or there
//! were too many for one step; then none is handed out.

mod band;
mod paging;
#[cfg(test)]
mod paging_tests;
mod ready;
mod returned;
mod round;
mod settings;
#[cfg(test)]
mod tests;

use slab::Slab;

pub use self::{
    ready::{Drained, Notice, Position, Ready},
    settings::{Overflow, QueueSettings},
};
use self::{returned::Comeback, round::Round};
use super::consumer::{ChannelCredit, Consumer, ConsumerSettings};
use crate::{
    AwayRun, Location, Ordinal,
    planted::{self, Bug},
};

/// The slot of a consumer within its queue; free again once it is cancelled.
pub type ConsumerSlot = usize;

/// A message that goes to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// Who gets it.
    pub consumer: ConsumerSlot,
    /// The message.
    pub location: Location,
    /// Where it stood.
    pub position: Position,
    /// How much of the consumer's window comes back once it is on its way out.
    pub window: u32,
}

/// Why a message left its queue without having been consumed, as `x-death` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeathReason {
    /// A consumer refused it.
    Rejected,
    /// Its time was over.
    Expired,
    /// It did not fit.
    MaxLength,
    /// It came back too often.
    DeliveryLimit,
}

/// A message that goes to its queue's dead-letter exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    /// The message.
    pub location: Location,
    /// Why.
    pub reason: DeathReason,
    /// Where it stood; `None` when the queue did not take it.
    pub position: Option<Position>,
}

/// Messages of a batch that a durable queue took: neighbours in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// The place of the first one in the batch.
    pub place: usize,
    /// How many there are.
    pub count: usize,
    /// Where the first one stands.
    pub position: Position,
}

/// What follows from a step, in buffers of the caller's.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages that go to consumers, in order.
    pub assigned: Vec<Assignment>,
    /// Messages that left the queue for good.
    pub dropped: Vec<Location>,
    /// Messages that left the queue and go to its dead-letter exchange, in order.
    pub dead: Vec<Dead>,
    /// Messages of the batch that a durable queue took.
    pub added: Vec<Added>,
    /// Where those stood that left a durable queue in the step for good, dead letters apart.
    pub gone: Vec<Position>,
    /// Where those stand now that came back to a durable queue that counts it.
    pub returned: Vec<Position>,
    /// Which messages of the batch were refused, by their place in it.
    pub rejected: Vec<usize>,
}

/// A message taken by `basic.get`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The message.
    pub location: Location,
    /// Where it stood.
    pub position: Position,
    /// Ready messages that are left.
    pub remaining: u64,
}

/// What `basic.get` finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The first message.
    Message(Taken),
    /// The first message is on a page, which is to be read.
    Away,
    /// There are more before it whose time is over than one step takes out.
    Behind,
    /// There is none.
    Empty,
}

/// What a queue may have to know of its messages, and the time of the step.
pub trait Messages {
    /// By the monotonic clock.
    fn now_millis(&self) -> u64;
    /// By the wall clock, since 1970.
    fn wall_millis(&self) -> u64;
    /// Octets of the body.
    fn body_octets(&self, location: Location) -> u64;
    /// The priority property, 0 if there is none.
    fn priority(&self, location: Location) -> u8;
    /// When it came, by the monotonic clock.
    fn arrived_millis(&self, location: Location) -> u64;
    /// The expiration property.
    fn expiration_millis(&self, location: Location) -> Option<u64>;
}

/// Consumers that cannot stand together: one of them is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InExclusiveUse;

/// Whether a message that becomes the first one may have been there for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heads {
    /// They all just came, and even one without any time is given its chance.
    New,
    /// Its time may be over.
    Lived,
}

/// A queue.
#[derive(Debug, Default)]
pub struct Queue {
    settings: QueueSettings,
    ready: Ready,
    /// Octets of the ready bodies; counted only under a limit by octets.
    ready_octets: u64,
    /// Whether a message with a life of its own may be among the ready ones.
    may_expire: bool,
    unacked: u64,
    delivered: u64,
    consumers: Slab<Consumer>,
    /// Who holds messages without being a consumer: whoever took one by `basic.get`, and consumers
    /// that were cancelled.
    holders: usize,
    /// Consumers that may have credit, in the order of their turns.
    round: Round,
    /// How often a consumer left the round because it had no credit.
    parked: u64,
    /// The one consumer that is given messages, where there may be only one.
    active: Option<ConsumerSlot>,
    /// Who comes after it: all consumers in order, where there may be only one active.
    succession: Round,
    /// How many consumers stopped being the active one whose messages are not back yet.
    successions: u32,
    /// Whether there may be heads past their time, because there were too many for one step.
    is_behind: bool,
    had_consumer: bool,
    last_used_millis: u64,
}

/// Messages that a step takes out of the queue before it leaves heads past their time to the next.
const STEP_BURIALS_MAX: usize = 1024;

impl Queue {
    /// An empty queue. `is_paged` says that messages may be put on pages.
    #[must_use]
    pub fn new(settings: QueueSettings, now_millis: u64, is_paged: bool) -> Self {
        let ready = Ready::new(settings.priority_max, settings.counts_returns, is_paged);
        Self { settings, ready, last_used_millis: now_millis, ..Self::default() }
    }

    /// Gives an empty queue its pages, how often some of its messages came back if it counts that, and
    /// the ordinals that the next messages have.
    pub fn revive(&mut self, kept: &[AwayRun], returns: &[(Ordinal, u32)], ends: &[Ordinal]) {
        self.ready.revive(kept, returns, ends);
        if self.settings.octets_max.is_some() {
            self.ready_octets = kept.iter().map(|run| run.body_octets).sum();
        }
        self.may_expire = !kept.is_empty();
    }

    /// How it treats its messages.
    #[must_use]
    pub const fn settings(&self) -> &QueueSettings {
        &self.settings
    }

    /// Messages waiting for a consumer.
    #[must_use]
    pub fn ready(&self) -> u64 {
        self.ready.len() as u64
    }

    /// Messages delivered and not settled.
    #[must_use]
    pub const fn unacked(&self) -> u64 {
        self.unacked
    }

    /// Messages handed out since the queue is there.
    #[must_use]
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// How many consumers there are.
    #[must_use]
    pub fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// How many consumers clients are told of. As by RabbitMQ's quorum queues (`rabbit_fifo`), those
    /// that wait until they are the active one are left out there, and all who hold messages count.
    #[must_use]
    pub fn told_consumer_count(&self) -> usize {
        if !self.settings.counts_returns {
            return self.consumers.len();
        }
        let alone = self.settings.single_active_consumer;
        self.holders + if alone { usize::from(self.active.is_some()) } else { self.consumers.len() }
    }

    /// A consumer that was cancelled holds messages still.
    pub const fn hold(&mut self) {
        self.holders += 1;
    }

    /// So many who held messages hold none any more.
    pub const fn let_go(&mut self, holders: usize, now_millis: u64) {
        assert!(self.holders >= holders, "more let go than held");
        self.holders -= holders;
        if self.settings.counts_returns && holders > 0 {
            self.touch(now_millis);
        }
    }

    /// Whether there was a consumer and there is none now.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.had_consumer && self.consumers.is_empty()
    }

    /// Somebody used the queue: its own life begins anew.
    pub const fn touch(&mut self, now_millis: u64) {
        self.last_used_millis = now_millis;
    }

    /// Whether nobody used the queue for as long as it may be unused.
    #[must_use]
    pub fn is_past_its_time(&self, now_millis: u64) -> bool {
        self.expires_at().is_some_and(|at| at <= now_millis)
    }

    fn expires_at(&self) -> Option<u64> {
        let is_held = self.settings.counts_returns && self.holders > 0;
        let unused = self.consumers.is_empty() && !is_held || planted::is(Bug::UsedQueueExpires);
        let life = self.settings.expires_millis.filter(|_| unused)?;
        Some(self.last_used_millis + life)
    }

    /// When to step the queue though nothing happens, by the monotonic clock.
    #[must_use]
    pub fn next_deadline_millis(&self, messages: &dyn Messages) -> Option<u64> {
        let head = if self.keeps_time() { self.ready.first() } else { None };
        let head = head.and_then(|head| self.message_expires_at(head, messages));
        [head, self.expires_at()].into_iter().flatten().min()
    }

    const fn keeps_time(&self) -> bool {
        self.may_expire || self.settings.message_ttl_millis.is_some()
    }

    fn message_expires_at(&self, location: Location, messages: &dyn Messages) -> Option<u64> {
        let own = if location.expires() { messages.expiration_millis(location) } else { None };
        let life = [own, self.settings.message_ttl_millis].into_iter().flatten().min()?;
        Some(messages.arrived_millis(location) + life)
    }

    /// Takes heads whose time is over out, and lets consumers have what is behind them.
    pub fn keep_time(&mut self, messages: &dyn Messages, effects: &mut Effects) {
        self.go_on(messages, effects);
    }

    /// Whether heads past their time were too many for one step, so that it takes another one
    /// before any message is handed out.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Takes first messages whose time is over out. Those behind them, of lower priorities too, wait
    /// until they are the first, as in RabbitMQ.
    fn expire(&mut self, messages: &dyn Messages, effects: &mut Effects) {
        if !self.keeps_time() {
            return;
        }
        let now = messages.now_millis();
        for band in 0..self.ready.band_count() {
            while let Some(head) = self.ready.head(band)
                && self.message_expires_at(head, messages).is_some_and(|at| at <= now)
            {
                if effects.dead.len() + effects.dropped.len() >= STEP_BURIALS_MAX {
                    self.is_behind = true;
                    return;
                }
                let position = self.ready.pop_head(band);
                self.discount_octets(head, messages);
                self.bury(head, position, DeathReason::Expired, effects);
            }
            if self.ready.has_any_in(band) {
                break;
            }
        }
        self.is_behind = false;
        self.may_expire &= self.ready.len() > 0;
    }

    /// The message leaves the queue without having been consumed.
    fn bury(
        &self,
        location: Location,
        position: Option<Position>,
        reason: DeathReason,
        effects: &mut Effects,
    ) {
        if self.settings.dead_letters {
            effects.dead.push(Dead { location, reason, position });
        } else {
            effects.dropped.push(location);
            effects.gone.extend(position.filter(|_| self.settings.is_durable));
        }
    }

    /// Takes a batch of messages in order.
    pub fn enqueue(&mut self, batch: &[Location], messages: &dyn Messages, effects: &mut Effects) {
        self.expire(messages, effects);
        let keeps_time = self.keeps_time() || batch.iter().any(|location| location.expires());
        if !self.settings.is_limited() {
            self.enqueue_all(0, batch, messages, effects);
        } else if self.settings.overflow.rejects() {
            self.enqueue_or_reject(batch, messages, effects);
        } else if self.ready.has_priorities() || keeps_time {
            // One by one, as RabbitMQ does: what is dropped for a large message may be what came before
            // it and not what came behind it, and what stands first by that may have no time left.
            for (place, location) in batch.iter().enumerate() {
                self.enqueue_all(place, std::slice::from_ref(location), messages, effects);
            }
        } else {
            self.enqueue_all(0, batch, messages, effects);
        }
    }

    /// Takes neighbours of the step's batch, the first of which has that place in it, and makes room
    /// for them.
    fn enqueue_all(
        &mut self,
        place: usize,
        batch: &[Location],
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        self.add(place, batch, messages, effects);
        self.dispatch(Heads::New, messages, effects);
        self.drop_head(messages, effects);
        // What has no time at all was given its chance.
        self.expire(messages, effects);
    }

    /// Adds neighbours of the step's batch, the first of which has that place in it.
    fn add(&mut self, place: usize, batch: &[Location], messages: &dyn Messages, effects: &mut Effects) {
        self.count_octets(batch, messages);
        self.may_expire |= batch.iter().any(|location| location.expires());
        if !self.ready.has_priorities() {
            let position = self.ready.extend(batch);
            return self.note_added(Added { place, count: batch.len(), position }, effects);
        }
        for (place, &location) in (place..).zip(batch) {
            let position = self.ready.push(location, messages.priority(location));
            self.note_added(Added { place, count: 1, position }, effects);
        }
    }

    fn note_added(&self, added: Added, effects: &mut Effects) {
        if self.settings.is_durable {
            effects.added.push(added);
        }
    }

    fn count_octets(&mut self, batch: &[Location], messages: &dyn Messages) {
        if self.settings.octets_max.is_some() {
            self.ready_octets += batch.iter().map(|&location| messages.body_octets(location)).sum::<u64>();
        }
    }

    fn discount_octets(&mut self, location: Location, messages: &dyn Messages) {
        if self.settings.octets_max.is_some() {
            self.ready_octets -= messages.body_octets(location);
        }
    }

    /// One by one, because whether a message fits depends on where those before it went.
    fn enqueue_or_reject(&mut self, batch: &[Location], messages: &dyn Messages, effects: &mut Effects) {
        for (place, &location) in batch.iter().enumerate() {
            let octets = if self.settings.octets_max.is_some() { messages.body_octets(location) } else { 0 };
            let fits = self.settings.messages_max.is_none_or(|max| self.ready() < max)
                && self.settings.octets_max.is_none_or(|max| self.ready_octets + octets <= max);
            if !fits {
                effects.rejected.push(place);
                self.refuse(location, effects);
                continue;
            }
            self.enqueue_all(place, &[location], messages, effects);
        }
    }

    fn refuse(&self, location: Location, effects: &mut Effects) {
        if self.settings.overflow == Overflow::RejectPublishDlx {
            self.bury(location, None, DeathReason::MaxLength, effects);
        } else {
            effects.dropped.push(location);
        }
    }

    fn drop_head(&mut self, messages: &dyn Messages, effects: &mut Effects) {
        if self.settings.overflow != Overflow::DropHead {
            return;
        }
        let spare = u64::from(planted::is(Bug::LimitOffByOne));
        while self.settings.messages_max.is_some_and(|max| self.ready() > max + spare)
            || self.settings.octets_max.is_some_and(|max| self.ready_octets > max)
        {
            let Some((location, position)) = self.pop(messages) else {
                // If it is on a page, it goes once that is read.
                self.ready.is_head_away();
                return;
            };
            if planted::is(Bug::DropHeadWithoutLetter) {
                effects.dropped.push(location);
                continue;
            }
            self.bury(location, Some(position), DeathReason::MaxLength, effects);
        }
    }

    // The innermost loop of a step: as a call it costs 20 instructions a message more
    // (`cargo xtask instructions drain`).
    #[inline(always)]
    fn pop(&mut self, messages: &dyn Messages) -> Option<(Location, Position)> {
        let popped = self.ready.pop()?;
        self.discount_octets(popped.0, messages);
        Some(popped)
    }

    /// Hands ready messages to the consumers of the round, one each in turn, while any of them
    /// has credit. A consumer that is alone is given all that it can take at once.
    fn dispatch(&mut self, heads: Heads, messages: &dyn Messages, effects: &mut Effects) {
        while !self.is_behind
            && let Some(slot) = self.round.front()
        {
            let ready = u32::try_from(self.ready.available()).unwrap_or(u32::MAX);
            if ready == 0 {
                return;
            }
            let alone = self.round.front_is_alone() && !self.consumers[slot].shares_credit();
            let granted = self.consumers[slot].reserve(if alone { ready } else { 1 });
            if granted == 0 {
                self.parked += 1;
                self.consumers[slot].in_round = false;
                self.consumers[slot].parked = self.parked;
                self.round.pop_front();
                continue;
            }
            self.assign(slot, granted, heads, messages, effects);
            if !planted::is(Bug::NoRoundRobin) {
                self.round.rotate();
            }
            self.ready.give_back_room();
        }
    }

    /// Hands over what was granted, as far as the consumer's window goes.
    fn assign(
        &mut self,
        slot: ConsumerSlot,
        granted: u32,
        heads: Heads,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        effects.assigned.reserve(granted as usize);
        let may_expire = heads == Heads::Lived && self.keeps_time();
        let mut count = 0;
        while count < granted && self.consumers[slot].has_window() && !self.is_behind {
            // What the messages before it hid may be past its time and gone.
            let Some((location, position)) = self.pop(messages) else { break };
            let window = self.consumers[slot].hand_over(location.size_kibibytes());
            effects.assigned.push(Assignment { consumer: slot, location, position, window });
            count += 1;
            if may_expire {
                self.expire(messages, effects);
            }
        }
        self.consumers[slot].give_back(granted - count);
        self.delivered += u64::from(count);
        if !self.consumers[slot].settings().no_ack {
            self.unacked += u64::from(count);
        }
    }

    /// Starts a consumer; [`Queue::wake`] gives it its first messages.
    ///
    /// # Errors
    /// [`InExclusiveUse`] when it or another one wants to be alone. One that wants to be alone is
    /// refused where a single consumer is active in any case, as RabbitMQ refuses it.
    pub fn add_consumer(&mut self, settings: ConsumerSettings) -> Result<ConsumerSlot, InExclusiveUse> {
        // An exclusive consumer is the only one, so looking at one is enough.
        let occupied = self
            .consumers
            .iter()
            .next()
            .is_some_and(|(_, other)| settings.exclusive || other.settings().exclusive);
        if occupied || settings.exclusive && self.settings.single_active_consumer {
            return Err(InExclusiveUse);
        }
        self.had_consumer = true;
        let priority = settings.priority;
        let slot = self.consumers.insert(Consumer::new(settings));
        if self.settings.single_active_consumer {
            self.succession.push(slot, priority);
            self.active.get_or_insert(slot);
        }
        Ok(slot)
    }

    /// Ends a consumer. What it holds stays unacknowledged until it is settled or requeued. True
    /// when it was the single active one: then the next one is chosen, and is handed nothing
    /// before [`Queue::succeed`] is called, once what the first was handed is back.
    pub fn remove_consumer(&mut self, slot: ConsumerSlot, now_millis: u64) -> bool {
        self.consumers.remove(slot);
        self.round.remove(slot);
        self.succession.remove(slot);
        if self.consumers.is_empty() {
            self.touch(now_millis);
        }
        let was_active = self.active == Some(slot);
        if was_active {
            self.successions += 1;
            self.active = self.succession.front();
        }
        was_active
    }

    /// What an active consumer that is gone was handed is back. The next one may follow.
    pub fn succeed(&mut self, messages: &dyn Messages, effects: &mut Effects) {
        self.successions -= 1;
        match self.active.filter(|_| !planted::is(Bug::SuccessionForgotten)) {
            Some(next) => self.wake(next, messages, effects),
            None => self.go_on(messages, effects),
        }
    }

    /// The consumer may have credit again, or is new.
    pub fn wake(&mut self, slot: ConsumerSlot, messages: &dyn Messages, effects: &mut Effects) {
        self.let_into_round(slot);
        self.go_on(messages, effects);
    }

    /// Consumers of one channel may have credit again. As in RabbitMQ they come back in the order in
    /// which they were found to have none.
    pub fn wake_together(
        &mut self,
        slots: &mut [ConsumerSlot],
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        slots.sort_by_key(|slot| self.consumers[*slot].parked);
        slots.iter().for_each(|slot| self.let_into_round(*slot));
        self.go_on(messages, effects);
    }

    fn let_into_round(&mut self, slot: ConsumerSlot) {
        let is_alone = self.settings.single_active_consumer;
        let may_be_given = !is_alone
            || self.active == Some(slot) && self.successions == 0
            || planted::is(Bug::PassiveConsumerServed);
        let consumer = &mut self.consumers[slot];
        if may_be_given && !consumer.in_round {
            consumer.in_round = true;
            let ignored = planted::is(Bug::ConsumerPriorityIgnored);
            self.round.push(slot, if ignored { 0 } else { consumer.settings().priority });
        }
    }

    /// A part of the consumer's window came back.
    pub fn refill(
        &mut self,
        slot: ConsumerSlot,
        window: u32,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        self.consumers[slot].refill(window);
        self.wake(slot, messages, effects);
    }

    /// `count` deliveries were acknowledged or dropped, of the consumer if it is still there.
    pub fn settle(
        &mut self,
        slot: Option<ConsumerSlot>,
        count: u32,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        self.forget_unacked(u64::from(count));
        if slot.is_some() {
            self.settle_consumer(slot, count, messages, effects);
        }
    }

    /// The consumer may have room again. One that shares its channel's prefetch is woken with the
    /// others of its channel, in their turn.
    fn settle_consumer(
        &mut self,
        slot: Option<ConsumerSlot>,
        count: u32,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        let Some(slot) = slot else { return self.go_on(messages, effects) };
        self.consumers[slot].settle(count);
        if self.consumers[slot].shares_credit() {
            self.go_on(messages, effects);
        } else {
            self.wake(slot, messages, effects);
        }
    }

    fn forget_unacked(&mut self, count: u64) {
        assert!(self.unacked >= count, "settled more than was delivered");
        self.unacked -= count;
    }

    /// Deliveries that a consumer returned go back to where they stood, but for those that came back
    /// too often; in a queue that counts that, behind what came back before them or all others.
    /// Each counted as unacknowledged.
    pub fn requeue(
        &mut self,
        deliveries: impl ExactSizeIterator<Item = (Position, Location)>,
        slot: Option<ConsumerSlot>,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        let how = if self.settings.returns_last { Comeback::BehindAll } else { Comeback::BehindReturned };
        self.take_back(deliveries, slot, how, messages, effects);
    }

    /// The same of deliveries whose channel is gone.
    pub fn abandon(
        &mut self,
        deliveries: impl ExactSizeIterator<Item = (Position, Location)>,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        self.take_back(deliveries, None, Comeback::BehindReturned, messages, effects);
    }

    fn take_back(
        &mut self,
        deliveries: impl ExactSizeIterator<Item = (Position, Location)>,
        slot: Option<ConsumerSlot>,
        how: Comeback,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        let count = u32::try_from(deliveries.len()).expect("fewer than 2^32 deliveries");
        self.forget_unacked(count.into());
        for (position, location) in deliveries {
            let spare = u32::from(planted::is(Bug::DeliveryLimitOffByOne));
            let is_over = |max: u32| position.returns() >= max.saturating_add(spare);
            if self.settings.returns_max.is_some_and(is_over) {
                self.bury(location, Some(position), DeathReason::DeliveryLimit, effects);
            } else {
                let position = self.put_back_one(position, location, how, messages);
                if self.settings.counts_returns && self.settings.is_durable {
                    effects.returned.push(position);
                }
            }
        }
        // Unlike on a publish, as in RabbitMQ: consumers see what the limits leave.
        self.drop_head(messages, effects);
        self.settle_consumer(slot, count, messages, effects);
    }

    /// Messages that a consumer was handed and never sent are ready again, as they were.
    /// `acknowledgeable` of them counted as unacknowledged.
    pub fn put_back(
        &mut self,
        unsent: impl DoubleEndedIterator<Item = (Position, Location)>,
        acknowledgeable: u32,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        self.forget_unacked(acknowledgeable.into());
        for (position, location) in unsent.rev() {
            self.put_back_one(position, location, Comeback::Unsent, messages);
        }
        self.drop_head(messages, effects);
        self.go_on(messages, effects);
    }

    fn put_back_one(
        &mut self,
        position: Position,
        location: Location,
        how: Comeback,
        messages: &dyn Messages,
    ) -> Position {
        self.count_octets(&[location], messages);
        self.may_expire |= location.expires();
        if planted::is(Bug::RequeueToTail) {
            self.ready.extend(&[location])
        } else {
            self.ready.put_back(position, location, how)
        }
    }

    fn go_on(&mut self, messages: &dyn Messages, effects: &mut Effects) {
        self.expire(messages, effects);
        self.dispatch(Heads::Lived, messages, effects);
    }

    /// Takes the first message for `basic.get`.
    pub fn take(&mut self, no_ack: bool, messages: &dyn Messages, effects: &mut Effects) -> Take {
        if !planted::is(Bug::ExpiryNotRenewedByGet) {
            self.touch(messages.now_millis());
        }
        if !planted::is(Bug::ExpiredFetched) {
            self.expire(messages, effects);
        }
        if self.is_behind {
            return Take::Behind;
        }
        let Some((location, position)) = self.pop(messages) else {
            return if self.ready.is_head_away() { Take::Away } else { Take::Empty };
        };
        self.delivered += 1;
        self.unacked += u64::from(!no_ack);
        self.holders += usize::from(!no_ack);
        // A quorum queue of RabbitMQ's counts them until it is looked at again, which taking a message
        // for good is.
        if no_ack || !self.settings.counts_returns {
            self.expire(messages, effects);
        }
        Take::Message(Taken { location, position, remaining: self.ready() })
    }

    /// Takes all ready messages out, for a purge or for good.
    pub fn drain(&mut self) -> Drained {
        self.ready_octets = 0;
        self.ready.drain()
    }

    /// Where the ready messages stand: from the first to the last of each range.
    #[must_use]
    pub fn ready_positions(&self) -> Vec<(Position, Position)> {
        self.ready.positions()
    }

    /// Puts a consumer under a channel's shared prefetch.
    pub fn share_credit(&mut self, slot: ConsumerSlot, credit: &std::sync::Arc<ChannelCredit>) {
        self.consumers[slot].share_credit(credit);
    }
}
