//! What cannot be heard: how many of a queue's waiting messages the broker has already handed
//! to its consumers' connections.
//!
//! A queue keeps no message while a consumer has credit, so their number is mostly known
//! exactly: all that the consumers could take. It is a range where limits of other queues play
//! in, or a window is nearly used up.

use leveret_broker::model::consumer::DELIVERY_WINDOW;

use super::{ConsumerKey, Message, Model, QueueKey, queue::Active};

/// From so many to so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Range {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Range {
    pub(super) const fn contains(self, number: u64) -> bool {
        self.min <= number && number <= self.max
    }

    const fn with(self, other: Self) -> Self {
        Self { min: self.min + other.min, max: self.max + other.max }
    }
}

/// The broker is at most a window ahead of a consumer's socket: so many messages, or fewer
/// large ones.
const AHEAD_MAX: u64 = DELIVERY_WINDOW as u64;
/// When nothing is under way it is ready to go ahead by at least half of a window.
const AHEAD_FRESH: u64 = AHEAD_MAX / 2;

/// What a message takes of a window at most: as many as it has KiB, with its frames and its
/// place in memory, rounded up to a power of two.
pub(super) fn window_share(message: &Message) -> u64 {
    let octets = message.exchange.len()
        + message.routing_key.len()
        + message.property_octets.len()
        + message.body.len()
        + message.history.octets_max();
    ((octets as u64 + FRAMES_OCTETS_MAX) / 1024 + 1).next_power_of_two()
}

/// Octets that frames and a place in memory may add to a message.
const FRAMES_OCTETS_MAX: u64 = 128;

impl Model {
    /// How many messages the consumer may have been handed beyond those heard.
    pub(super) fn credit(&self, key: ConsumerKey) -> Range {
        let consumer = &self.consumers[&key];
        let active = self.queue(consumer.queue).active;
        if active != Active::Nobody && !matches!(active, Active::Known(one) if one == key) {
            return Range { min: 0, max: if active == Active::Open { AHEAD_MAX } else { 0 } };
        }
        if consumer.going {
            return Range { min: 0, max: AHEAD_MAX };
        }
        let share_max = self.queue(consumer.queue).window_share_max.max(1);
        let ahead_min = (AHEAD_FRESH.saturating_sub(consumer.heard) / share_max).max(1);
        if consumer.no_ack {
            // While the channel's prefetch is used up it is handed nothing more.
            let waits = self.channel(consumer.channel).shared_limit.current.is_some();
            return Range { min: if waits { 0 } else { ahead_min }, max: AHEAD_MAX };
        }
        let own = match consumer.prefetch {
            0 => u64::MAX,
            prefetch => u64::from(prefetch).saturating_sub(consumer.unacked),
        };
        let channel = self.channel(consumer.channel);
        let limit = &channel.shared_limit;
        let shared = limit.ceiling.map_or(u64::MAX, |ceiling| ceiling.saturating_sub(limit.held));
        let min = if limit.current.is_some() { 0 } else { own.min(ahead_min) };
        Range { min, max: own.min(AHEAD_MAX).min(shared) }
    }

    /// How many of the waiting messages were handed out.
    pub(super) fn hidden(&self, key: QueueKey) -> Range {
        let queue = self.queue(key);
        let credits = queue.consumers.iter().map(|consumer| self.credit(*consumer));
        let sum = credits.fold(Range::default(), Range::with);
        let min = if queue.expecting.is_empty() { sum.min.min(queue.sure()) } else { 0 };
        Range { min, max: sum.max.min(queue.all()) }
    }

    /// How many messages are ready, as the broker would say.
    pub(super) fn ready(&self, key: QueueKey) -> Range {
        let queue = self.queue(key);
        let hidden = self.hidden(key);
        let sure = if queue.expecting.is_empty() { queue.sure() } else { 0 };
        Range { min: sure.saturating_sub(hidden.max), max: queue.all() - hidden.min }
    }

    /// How many of the waiting messages were handed to the queue's other consumers.
    pub(super) fn hidden_elsewhere(&self, key: QueueKey, consumer: ConsumerKey) -> Range {
        let queue = self.queue(key);
        let others = queue.consumers.iter().filter(|other| **other != consumer);
        let sum = others.map(|other| self.credit(*other)).fold(Range::default(), Range::with);
        let left = if queue.expecting.is_empty() { queue.sure() } else { 0 };
        let left = left.saturating_sub(self.credit(consumer).max);
        Range { min: sum.min.min(left), max: sum.max.min(queue.all()) }
    }
}
