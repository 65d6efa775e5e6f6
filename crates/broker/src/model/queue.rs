//! A queue: ready messages in order, consumers in a round, limits.
//!
//! Messages are locations; whoever steps the queue holds their octets. A message gets its
//! *position* when it first leaves the ready ones, and goes back there when it is requeued.
//! Invariant: after every step, no message is ready while a consumer of the round could take it.

use std::collections::{BTreeMap, VecDeque};

use slab::Slab;

use super::consumer::{ChannelCredit, Consumer, ConsumerSettings};
use crate::{
    Location,
    planted::{self, Bug},
};

/// What happens to a message that does not fit (`x-overflow`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The oldest ready messages are dropped.
    #[default]
    DropHead,
    /// The new message is refused, and a publisher that asked for confirms gets a nack.
    RejectPublish,
}

/// Messages that an empty queue keeps room for.
const IDLE_MESSAGES_MAX: usize = 4096;

/// How much may be ready. Unacknowledged messages do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueLimits {
    /// `x-max-length`, in messages.
    pub messages_max: Option<u64>,
    /// `x-max-length-bytes`, in octets of bodies.
    pub octets_max: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
}

/// The slot of a consumer within its queue; free again once it is cancelled.
pub type ConsumerSlot = usize;

/// Where a message stood in its queue.
pub type Position = u64;

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

/// What follows from a step, in buffers of the caller's.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages that go to consumers, in order.
    pub assigned: Vec<Assignment>,
    /// Messages that left the queue for good.
    pub dropped: Vec<Location>,
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

/// Looks up octets of a message's body, for the limit by octets.
pub type BodyOctets<'a> = &'a dyn Fn(Location) -> u64;

/// Consumers that cannot stand together: one of them is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InExclusiveUse;

/// A queue.
#[derive(Debug, Default)]
pub struct Queue {
    limits: QueueLimits,
    /// Never delivered, in order; the first one has position `fresh_head`.
    fresh: VecDeque<Location>,
    fresh_head: Position,
    /// Requeued: all of them stood before every fresh one.
    returned: BTreeMap<Position, Location>,
    /// Octets of the ready bodies; counted only under a limit by octets.
    ready_octets: u64,
    unacked: u64,
    delivered: u64,
    consumers: Slab<Consumer>,
    /// Consumers that may have credit, in the order of their turns.
    round: VecDeque<ConsumerSlot>,
    had_consumer: bool,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Messages waiting for a consumer.
    #[must_use]
    pub fn ready(&self) -> u64 {
        (self.fresh.len() + self.returned.len()) as u64
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

    /// Whether there was a consumer and there is none now.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.had_consumer && self.consumers.is_empty()
    }

    /// Takes a batch of messages in order.
    pub fn enqueue(&mut self, batch: &[Location], body_octets: BodyOctets<'_>, effects: &mut Effects) {
        if self.limits.overflow == Overflow::RejectPublish && self.is_limited() {
            return self.enqueue_or_reject(batch, body_octets, effects);
        }
        self.fresh.extend(batch);
        self.count_octets(batch, body_octets);
        self.dispatch(body_octets, effects);
        self.drop_head(body_octets, effects);
    }

    const fn is_limited(&self) -> bool {
        self.limits.messages_max.is_some() || self.limits.octets_max.is_some()
    }

    fn count_octets(&mut self, batch: &[Location], body_octets: BodyOctets<'_>) {
        if self.limits.octets_max.is_some() {
            self.ready_octets += batch.iter().map(|&location| body_octets(location)).sum::<u64>();
        }
    }

    /// One by one, because whether a message fits depends on where those before it went.
    fn enqueue_or_reject(&mut self, batch: &[Location], body_octets: BodyOctets<'_>, effects: &mut Effects) {
        for (place, &location) in batch.iter().enumerate() {
            let octets = if self.limits.octets_max.is_some() { body_octets(location) } else { 0 };
            let fits = self.limits.messages_max.is_none_or(|max| self.ready() < max)
                && self.limits.octets_max.is_none_or(|max| self.ready_octets + octets <= max);
            if !fits {
                effects.rejected.push(place);
                effects.dropped.push(location);
                continue;
            }
            self.fresh.push_back(location);
            self.ready_octets += octets;
            self.dispatch(body_octets, effects);
        }
    }

    fn drop_head(&mut self, body_octets: BodyOctets<'_>, effects: &mut Effects) {
        if self.limits.overflow != Overflow::DropHead {
            return;
        }
        let spare = u64::from(planted::is(Bug::LimitOffByOne));
        while self.limits.messages_max.is_some_and(|max| self.ready() > max + spare)
            || self.limits.octets_max.is_some_and(|max| self.ready_octets > max)
        {
            let Some((location, _)) = self.pop(body_octets) else { return };
            effects.dropped.push(location);
        }
    }

    fn pop(&mut self, body_octets: BodyOctets<'_>) -> Option<(Location, Position)> {
        let popped = match self.returned.pop_first() {
            Some((position, location)) => (location, position),
            None => {
                let location = self.fresh.pop_front()?;
                self.fresh_head += 1;
                (location, self.fresh_head - 1)
            }
        };
        if self.limits.octets_max.is_some() {
            self.ready_octets -= body_octets(popped.0);
        }
        Some(popped)
    }

    /// Hands ready messages to the consumers of the round, one each in turn, while any of them
    /// has credit. A consumer that is alone is given all that it can take at once.
    fn dispatch(&mut self, body_octets: BodyOctets<'_>, effects: &mut Effects) {
        while let Some(&slot) = self.round.front() {
            let ready = u32::try_from(self.ready()).unwrap_or(u32::MAX);
            if ready == 0 {
                return;
            }
            let alone = self.round.len() == 1 && !self.consumers[slot].shares_credit();
            let granted = self.consumers[slot].reserve(if alone { ready } else { 1 });
            if granted == 0 {
                self.consumers[slot].in_round = false;
                self.round.pop_front();
                continue;
            }
            self.assign(slot, granted, body_octets, effects);
            if !planted::is(Bug::NoRoundRobin) {
                self.round.rotate_left(1);
            }
            self.give_back_room();
        }
    }

    /// A queue that was long keeps no more room than it needs.
    fn give_back_room(&mut self) {
        if self.fresh.capacity() > IDLE_MESSAGES_MAX && self.fresh.len() < self.fresh.capacity() / 8 {
            self.fresh.shrink_to((self.fresh.len() * 2).max(IDLE_MESSAGES_MAX));
        }
    }

    /// Hands over what was granted, as far as the consumer's window goes.
    fn assign(
        &mut self,
        slot: ConsumerSlot,
        granted: u32,
        body_octets: BodyOctets<'_>,
        effects: &mut Effects,
    ) {
        effects.assigned.reserve(granted as usize);
        let mut count = 0;
        while count < granted && self.consumers[slot].has_window() {
            let (location, position) = self.pop(body_octets).expect("credit was reserved for ready messages");
            let window = self.consumers[slot].hand_over(location.size_kibibytes());
            effects.assigned.push(Assignment { consumer: slot, location, position, window });
            count += 1;
        }
        self.consumers[slot].give_back(granted - count);
        self.delivered += u64::from(count);
        if !self.consumers[slot].settings().no_ack {
            self.unacked += u64::from(count);
        }
    }

    /// Starts a consumer; its messages are among the effects.
    ///
    /// # Errors
    /// [`InExclusiveUse`] when it or another one wants to be alone.
    pub fn add_consumer(&mut self, settings: ConsumerSettings) -> Result<ConsumerSlot, InExclusiveUse> {
        // An exclusive consumer is the only one, so looking at one is enough.
        let occupied = self
            .consumers
            .iter()
            .next()
            .is_some_and(|(_, other)| settings.exclusive || other.settings().exclusive);
        if occupied {
            return Err(InExclusiveUse);
        }
        self.had_consumer = true;
        Ok(self.consumers.insert(Consumer::new(settings)))
    }

    /// Ends a consumer. What it holds stays unacknowledged until it is settled or requeued.
    pub fn remove_consumer(&mut self, slot: ConsumerSlot) {
        self.consumers.remove(slot);
        self.round.retain(|&other| other != slot);
    }

    /// The consumer may have credit again, or is new.
    pub fn wake(&mut self, slot: ConsumerSlot, body_octets: BodyOctets<'_>, effects: &mut Effects) {
        let consumer = &mut self.consumers[slot];
        if !consumer.in_round {
            consumer.in_round = true;
            self.round.push_back(slot);
        }
        self.dispatch(body_octets, effects);
    }

    /// A part of the consumer's window came back.
    pub fn refill(
        &mut self,
        slot: ConsumerSlot,
        window: u32,
        body_octets: BodyOctets<'_>,
        effects: &mut Effects,
    ) {
        self.consumers[slot].refill(window);
        self.wake(slot, body_octets, effects);
    }

    /// `count` deliveries were acknowledged or dropped, of the consumer if it is still there.
    pub fn settle(
        &mut self,
        slot: Option<ConsumerSlot>,
        count: u32,
        body_octets: BodyOctets<'_>,
        effects: &mut Effects,
    ) {
        self.forget_unacked(u64::from(count));
        if let Some(slot) = slot {
            self.consumers[slot].settle(count);
            self.wake(slot, body_octets, effects);
        }
    }

    fn forget_unacked(&mut self, count: u64) {
        assert!(self.unacked >= count, "settled more than was delivered");
        self.unacked -= count;
    }

    /// Messages go back to where they stood. `acknowledgeable` of them counted as unacknowledged.
    pub fn requeue(
        &mut self,
        messages: impl IntoIterator<Item = (Position, Location)>,
        slot: Option<ConsumerSlot>,
        acknowledgeable: u32,
        body_octets: BodyOctets<'_>,
        effects: &mut Effects,
    ) {
        self.forget_unacked(acknowledgeable.into());
        for (position, location) in messages {
            self.count_octets(&[location], body_octets);
            if planted::is(Bug::RequeueToTail) {
                self.fresh.push_back(location);
                continue;
            }
            let before = self.returned.insert(position, location);
            assert!(before.is_none(), "a position belongs to one message");
        }
        // Unlike on a publish, as in RabbitMQ: consumers see what the limits leave.
        self.drop_head(body_octets, effects);
        match slot {
            Some(slot) => {
                self.consumers[slot].settle(acknowledgeable);
                self.wake(slot, body_octets, effects);
            }
            None => self.dispatch(body_octets, effects),
        }
    }

    /// Takes the first message for `basic.get`.
    pub fn take(&mut self, no_ack: bool, body_octets: BodyOctets<'_>) -> Option<Taken> {
        let (location, position) = self.pop(body_octets)?;
        self.delivered += 1;
        self.unacked += u64::from(!no_ack);
        Some(Taken { location, position, remaining: self.ready() })
    }

    /// Takes all ready messages out, for a purge or for good.
    pub fn drain(&mut self) -> (BTreeMap<Position, Location>, VecDeque<Location>) {
        self.fresh_head += self.fresh.len() as u64;
        self.ready_octets = 0;
        (std::mem::take(&mut self.returned), std::mem::take(&mut self.fresh))
    }

    /// Puts a consumer under a channel's shared prefetch.
    pub fn share_credit(&mut self, slot: ConsumerSlot, credit: &std::sync::Arc<ChannelCredit>) {
        self.consumers[slot].share_credit(credit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(n: usize) -> Location {
        Location::new(n, 0)
    }

    /// Ten octets a message.
    const TEN: BodyOctets<'static> = &|_| 10;

    struct Check {
        queue: Queue,
        effects: Effects,
        next: usize,
    }

    impl Check {
        fn new(limits: QueueLimits) -> Self {
            Self { queue: Queue::new(limits), effects: Effects::default(), next: 0 }
        }

        fn publish(&mut self, count: usize) -> &mut Self {
            let batch: Vec<_> = (self.next..self.next + count).map(location).collect();
            self.next += count;
            self.queue.enqueue(&batch, TEN, &mut self.effects);
            self
        }

        fn consume(&mut self, settings: ConsumerSettings) -> ConsumerSlot {
            let slot = self.queue.add_consumer(settings).unwrap();
            self.queue.wake(slot, TEN, &mut self.effects);
            slot
        }

        /// The numbers of the messages that went to consumers since the last call.
        fn delivered(&mut self) -> Vec<(ConsumerSlot, usize)> {
            self.effects.assigned.drain(..).map(|a| (a.consumer, a.location.chunk())).collect()
        }

        fn dropped(&mut self) -> Vec<usize> {
            self.effects.dropped.drain(..).map(Location::chunk).collect()
        }
    }

    fn prefetch(prefetch: u16) -> ConsumerSettings {
        ConsumerSettings { prefetch, ..ConsumerSettings::default() }
    }

    #[test]
    fn consumers_take_turns() {
        let mut check = Check::new(QueueLimits::default());
        check.consume(prefetch(2));
        check.consume(prefetch(0));
        check.publish(5);
        assert_eq!(check.delivered(), [(0, 0), (1, 1), (0, 2), (1, 3), (1, 4)]);
    }

    #[test]
    fn requeued_messages_go_back_to_their_position() {
        let mut check = Check::new(QueueLimits::default());
        check.publish(5);
        for _ in 0..3 {
            check.queue.take(false, TEN).unwrap();
        }
        let back = [(2, location(2)), (0, location(0))];
        check.queue.requeue(back, None, 2, TEN, &mut Effects::default());
        assert_eq!((check.queue.ready(), check.queue.unacked()), (4, 1));
        check.queue.requeue([(1, location(1))], None, 1, TEN, &mut Effects::default());
        check.consume(prefetch(0));
        assert_eq!(check.delivered(), [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
    }

    #[test]
    fn settling_makes_room() {
        let mut check = Check::new(QueueLimits::default());
        let slot = check.consume(prefetch(1));
        check.publish(3);
        assert_eq!(check.delivered(), [(slot, 0)]);
        check.queue.settle(Some(slot), 1, TEN, &mut check.effects);
        assert_eq!(check.delivered(), [(slot, 1)]);
        assert_eq!(check.queue.unacked(), 1);
    }

    #[test]
    fn drop_head_keeps_the_newest() {
        let limits = QueueLimits { messages_max: Some(2), ..QueueLimits::default() };
        let mut check = Check::new(limits);
        check.publish(5);
        assert_eq!(check.dropped(), [0, 1, 2]);
        let limits = QueueLimits { octets_max: Some(25), ..QueueLimits::default() };
        let mut check = Check::new(limits);
        check.publish(3).publish(1);
        assert_eq!(check.dropped(), [0, 1]);
        assert_eq!(check.queue.ready_octets, 20);
    }

    #[test]
    fn what_a_consumer_takes_is_not_dropped() {
        let limits = QueueLimits { messages_max: Some(0), ..QueueLimits::default() };
        let mut check = Check::new(limits);
        check.consume(prefetch(2));
        check.publish(3);
        assert_eq!(check.delivered(), [(0, 0), (0, 1)]);
        assert_eq!(check.dropped(), [2]);
    }

    #[test]
    fn reject_publish_refuses_what_does_not_fit() {
        let limits =
            QueueLimits { messages_max: Some(2), overflow: Overflow::RejectPublish, octets_max: None };
        let mut check = Check::new(limits);
        check.consume(prefetch(1));
        check.publish(4);
        assert_eq!(check.delivered(), [(0, 0)]);
        assert_eq!(check.effects.rejected, [3]);
        assert_eq!(check.dropped(), [3]);
    }

    #[test]
    fn exclusive_consumers_stand_alone() {
        let exclusive = || ConsumerSettings { exclusive: true, ..ConsumerSettings::default() };
        let mut queue = Queue::default();
        let slot = queue.add_consumer(exclusive()).unwrap();
        assert_eq!(queue.add_consumer(ConsumerSettings::default()), Err(InExclusiveUse));
        queue.remove_consumer(slot);
        assert!(queue.is_abandoned());
        queue.add_consumer(ConsumerSettings::default()).unwrap();
        assert_eq!(queue.add_consumer(exclusive()), Err(InExclusiveUse));
    }
}
