//! What a step works on: a queue, or a stream that looks like one from outside.
//!
//! Invariant: what one of them cannot do is refused before it comes here, or means here what
//! RabbitMQ makes of it.

use std::collections::VecDeque;

use super::{
    consumer::{ChannelCredit, ConsumerSettings},
    queue::{ConsumerSlot, Effects, InExclusiveUse, Messages, Position, Queue, Taken},
    queue_arguments::{QueueArguments, QueueType},
    stream::{Stream, StreamOffset},
};
use crate::Location;

/// A queue or a stream.
#[derive(Debug)]
pub enum AnyQueue {
    /// Messages leave it.
    Queue(Queue),
    /// Messages stay, and are read.
    Stream(Stream),
}

impl AnyQueue {
    /// An empty one, of the type that the arguments ask for.
    #[must_use]
    pub fn new(arguments: &QueueArguments, now_millis: u64) -> Self {
        match arguments.queue_type {
            QueueType::Classic | QueueType::Quorum => Self::Queue(Queue::new(arguments.settings, now_millis)),
            QueueType::Stream => Self::Stream(Stream::new(arguments.stream)),
        }
    }

    /// Messages that could be given to a consumer.
    #[must_use]
    pub fn ready(&self) -> u64 {
        match self {
            Self::Queue(queue) => queue.ready(),
            Self::Stream(stream) => stream.len(),
        }
    }

    /// Messages handed out since it is there.
    #[must_use]
    pub const fn delivered(&self) -> u64 {
        match self {
            Self::Queue(queue) => queue.delivered(),
            Self::Stream(stream) => stream.delivered(),
        }
    }

    /// How many consumers there are.
    #[must_use]
    pub fn consumer_count(&self) -> usize {
        match self {
            Self::Queue(queue) => queue.consumer_count(),
            Self::Stream(stream) => stream.reader_count(),
        }
    }

    /// Whether there was a consumer and there is none now.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        match self {
            Self::Queue(queue) => queue.is_abandoned(),
            Self::Stream(stream) => stream.is_abandoned(),
        }
    }

    /// Somebody used it.
    pub const fn touch(&mut self, now_millis: u64) {
        if let Self::Queue(queue) = self {
            queue.touch(now_millis);
        }
    }

    /// Whether nobody used it for as long as it may be unused.
    #[must_use]
    pub fn is_past_its_time(&self, now_millis: u64) -> bool {
        match self {
            Self::Queue(queue) => queue.is_past_its_time(now_millis),
            Self::Stream(_) => false,
        }
    }

    /// When to step it though nothing happens, by the monotonic clock.
    #[must_use]
    pub fn next_deadline_millis(&self, messages: &dyn Messages) -> Option<u64> {
        match self {
            Self::Queue(queue) => queue.next_deadline_millis(messages),
            Self::Stream(stream) => stream.oldest_goes_at(messages),
        }
    }

    /// Takes messages whose time is over out.
    pub fn expire(&mut self, messages: &dyn Messages, effects: &mut Effects) {
        match self {
            Self::Queue(queue) => queue.expire(messages, effects),
            Self::Stream(stream) => stream.retain(messages, effects),
        }
    }

    /// Takes a batch of messages in order.
    pub fn enqueue(&mut self, batch: &[Location], messages: &dyn Messages, effects: &mut Effects) {
        match self {
            Self::Queue(queue) => queue.enqueue(batch, messages, effects),
            Self::Stream(stream) => stream.append(batch, messages, effects),
        }
    }

    /// Starts a consumer, in a stream at that offset.
    ///
    /// # Errors
    /// [`InExclusiveUse`] when it or another one wants to be alone.
    pub fn add_consumer(
        &mut self,
        settings: ConsumerSettings,
        offset: StreamOffset,
        messages: &dyn Messages,
    ) -> Result<ConsumerSlot, InExclusiveUse> {
        match self {
            Self::Queue(queue) => queue.add_consumer(settings),
            Self::Stream(stream) => stream.add_reader(settings, offset, messages),
        }
    }

    /// Ends a consumer.
    pub fn remove_consumer(&mut self, slot: ConsumerSlot, now_millis: u64) {
        match self {
            Self::Queue(queue) => queue.remove_consumer(slot, now_millis),
            Self::Stream(stream) => stream.remove_reader(slot),
        }
    }

    /// Lets another consumer become the active one if there is none.
    pub fn succeed(&mut self, messages: &dyn Messages, effects: &mut Effects) {
        if let Self::Queue(queue) = self {
            queue.succeed(messages, effects);
        }
    }

    /// The consumer may have credit again, or is new.
    pub fn wake(&mut self, slot: ConsumerSlot, messages: &dyn Messages, effects: &mut Effects) {
        match self {
            Self::Queue(queue) => queue.wake(slot, messages, effects),
            Self::Stream(stream) => stream.wake(slot, effects),
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
        match self {
            Self::Queue(queue) => queue.refill(slot, window, messages, effects),
            Self::Stream(stream) => stream.refill(slot, window, effects),
        }
    }

    /// `count` deliveries were acknowledged or dropped, of the consumer if it is still there.
    pub fn settle(
        &mut self,
        slot: Option<ConsumerSlot>,
        count: u32,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        match self {
            Self::Queue(queue) => queue.settle(slot, count, messages, effects),
            Self::Stream(stream) => stream.settle(slot, count, effects),
        }
    }

    /// Deliveries go back. A stream has them still.
    pub fn requeue(
        &mut self,
        deliveries: impl ExactSizeIterator<Item = (Position, Location)>,
        slot: Option<ConsumerSlot>,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        match self {
            Self::Queue(queue) => queue.requeue(deliveries, slot, messages, effects),
            Self::Stream(stream) => {
                let count = u32::try_from(deliveries.len()).expect("fewer than 2^32 deliveries");
                effects.dropped.extend(deliveries.map(|(_, location)| location));
                stream.settle(slot, count, effects);
            }
        }
    }

    /// Messages that a consumer was handed and never sent go back. A stream has them still.
    pub fn put_back(
        &mut self,
        unsent: impl Iterator<Item = (Position, Location)>,
        acknowledgeable: u32,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        match self {
            Self::Queue(queue) => queue.put_back(unsent, acknowledgeable, messages, effects),
            Self::Stream(_) => effects.dropped.extend(unsent.map(|(_, location)| location)),
        }
    }

    /// Takes the first message for `basic.get`, which streams do not have.
    pub fn take(&mut self, no_ack: bool, messages: &dyn Messages, effects: &mut Effects) -> Option<Taken> {
        match self {
            Self::Queue(queue) => queue.take(no_ack, messages, effects),
            Self::Stream(_) => None,
        }
    }

    /// Takes all ready messages out, for a purge or for good.
    pub fn drain(&mut self) -> Vec<VecDeque<Location>> {
        match self {
            Self::Queue(queue) => queue.drain(),
            Self::Stream(stream) => stream.drain(),
        }
    }

    /// Puts a consumer under a channel's shared prefetch; false for a stream, which has none.
    pub fn share_credit(&mut self, slot: ConsumerSlot, credit: &std::sync::Arc<ChannelCredit>) -> bool {
        match self {
            Self::Queue(queue) => {
                queue.share_credit(slot, credit);
                true
            }
            Self::Stream(_) => false,
        }
    }

    /// Whether messages stay though a consumer is handed them, so that each handed over is one
    /// reference more.
    #[must_use]
    pub const fn keeps_what_it_hands_over(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}
