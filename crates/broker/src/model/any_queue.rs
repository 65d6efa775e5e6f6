//! What a step works on: a queue, or a stream that looks like one from outside.
//!
//! Invariant: what one of them cannot do is refused before it comes here, or means here what
//! RabbitMQ makes of it.

use super::{
    consumer::{ChannelCredit, ConsumerSettings},
    queue::{ConsumerSlot, Drained, Effects, InExclusiveUse, Messages, Notice, Position, Queue, Take},
    queue_arguments::{QueueArguments, QueueType},
    stream::{Stream, StreamOffset},
};
use crate::{AwayRun, Location, Ordinal};

/// A queue or a stream.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most are queues, and a box would cost each step a look")]
pub enum AnyQueue {
    /// Messages leave it.
    Queue(Queue),
    /// Messages stay, and are read.
    Stream(Stream),
}

impl AnyQueue {
    /// An empty one, of the type that the arguments ask for. `is_paged` says that messages may be
    /// put on pages, which those of streams are not yet.
    #[must_use]
    pub fn new(arguments: &QueueArguments, now_millis: u64, is_paged: bool) -> Self {
        match arguments.queue_type {
            QueueType::Classic | QueueType::Quorum => {
                Self::Queue(Queue::new(arguments.settings, now_millis, is_paged))
            }
            QueueType::Stream => Self::Stream(Stream::new(arguments.stream)),
        }
    }

    /// Gives an empty queue that was there before the broker was started its pages, how often some of
    /// its messages came back, and the ordinals that the next messages have.
    pub fn revive(&mut self, kept: &[AwayRun], returns: &[(Ordinal, u32)], ends: &[Ordinal]) {
        match self {
            Self::Queue(queue) => queue.revive(kept, returns, ends),
            Self::Stream(stream) => ends.iter().for_each(|end| stream.begin_at(end.0)),
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

    /// How many consumers clients are told of.
    #[must_use]
    pub fn told_consumer_count(&self) -> usize {
        match self {
            Self::Queue(queue) => queue.told_consumer_count(),
            Self::Stream(stream) => stream.reader_count(),
        }
    }

    /// A consumer that was cancelled holds messages still.
    pub const fn hold(&mut self) {
        if let Self::Queue(queue) = self {
            queue.hold();
        }
    }

    /// So many who held messages hold none any more.
    pub const fn let_go(&mut self, holders: usize, now_millis: u64) {
        if let Self::Queue(queue) = self {
            queue.let_go(holders, now_millis);
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
            Self::Stream(stream) => stream.next_deadline_millis(messages),
        }
    }

    /// Takes messages whose time is over out.
    pub fn keep_time(&mut self, messages: &dyn Messages, effects: &mut Effects) {
        match self {
            Self::Queue(queue) => queue.keep_time(messages, effects),
            Self::Stream(stream) => stream.retain(messages, effects),
        }
    }

    /// Whether that takes another step.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        match self {
            Self::Queue(queue) => queue.is_behind(),
            Self::Stream(stream) => stream.is_behind(),
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

    /// Ends a consumer; true when [`AnyQueue::succeed`] is to be called for it.
    pub fn remove_consumer(&mut self, slot: ConsumerSlot, now_millis: u64) -> bool {
        match self {
            Self::Queue(queue) => queue.remove_consumer(slot, now_millis),
            Self::Stream(stream) => {
                stream.remove_reader(slot);
                false
            }
        }
    }

    /// What a single active consumer was handed is back.
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

    /// Consumers of one channel may have credit again.
    pub fn wake_together(
        &mut self,
        slots: &mut [ConsumerSlot],
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        match self {
            Self::Queue(queue) => queue.wake_together(slots, messages, effects),
            Self::Stream(stream) => slots.iter().for_each(|slot| stream.wake(*slot, effects)),
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

    /// Deliveries whose channel is gone go back. A stream has them still.
    pub fn abandon(
        &mut self,
        deliveries: impl ExactSizeIterator<Item = (Position, Location)>,
        messages: &dyn Messages,
        effects: &mut Effects,
    ) {
        match self {
            Self::Queue(queue) => queue.abandon(deliveries, messages, effects),
            Self::Stream(_) => effects.dropped.extend(deliveries.map(|(_, location)| location)),
        }
    }

    /// Messages that a consumer was handed and never sent go back. A stream has them still.
    pub fn put_back(
        &mut self,
        unsent: impl DoubleEndedIterator<Item = (Position, Location)>,
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
    pub fn take(&mut self, no_ack: bool, messages: &dyn Messages, effects: &mut Effects) -> Take {
        match self {
            Self::Queue(queue) => queue.take(no_ack, messages, effects),
            Self::Stream(_) => Take::Empty,
        }
    }

    /// Where the ready messages stand: from the first to the last of each range.
    #[must_use]
    pub fn ready_positions(&self) -> Vec<(Position, Position)> {
        match self {
            Self::Queue(queue) => queue.ready_positions(),
            Self::Stream(stream) => stream.positions(),
        }
    }

    /// Takes all ready messages out, for a purge or for good.
    pub fn drain(&mut self) -> Drained {
        match self {
            Self::Queue(queue) => queue.drain(),
            Self::Stream(stream) => Drained { locations: stream.drain(), ..Drained::default() },
        }
    }

    /// What steps found out about pages since the last call.
    #[inline]
    pub fn take_notice(&mut self) -> Option<Notice> {
        match self {
            Self::Queue(queue) => queue.take_notice(),
            Self::Stream(_) => None,
        }
    }

    /// The queue, whose messages may be put on pages.
    pub const fn as_queue(&mut self) -> Option<&mut Queue> {
        match self {
            Self::Queue(queue) => Some(queue),
            Self::Stream(_) => None,
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
