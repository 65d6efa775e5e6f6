//! Consumers that keep deliveries too long: their channel is closed, as on RabbitMQ's page on
//! delivery acknowledgement timeouts. Off unless it is configured.
//!
//! Invariant: a delivery is found too old neither before its time nor more than a look and a mark
//! after it.

use std::collections::VecDeque;

use super::{
    connection::{ChannelData, Connection},
    sources::Delivery,
};
use crate::{
    Refusal,
    session::{Channel, Failure},
};

/// Deliveries within this time of one another share a mark.
const MARK_MILLIS: u64 = 1_000;
/// How often deliveries are looked at, where the timeout is not shorter.
const LOOK_MILLIS_MAX: u64 = 60_000;
const LOOK_MILLIS_MIN: u64 = 50;

/// When deliveries were made: the first tag of each mark, and its time.
#[derive(Debug, Default)]
pub(super) struct DeliveryMarks {
    marks: VecDeque<(u64, u64)>,
}

impl DeliveryMarks {
    /// A delivery was made that is to be acknowledged.
    pub(super) fn note(&mut self, tag: u64, now_millis: u64) {
        if self.marks.back().is_none_or(|(_, marked)| now_millis >= marked + MARK_MILLIS) {
            self.marks.push_back((tag, now_millis));
        }
    }

    /// The latest time at which the oldest delivery may have been made.
    fn oldest_millis(&mut self, first_tag: Option<u64>) -> Option<u64> {
        let Some(first_tag) = first_tag else {
            self.marks.clear();
            return None;
        };
        while self.marks.get(1).is_some_and(|(tag, _)| *tag <= first_tag) {
            self.marks.pop_front();
        }
        self.marks.front().map(|(_, marked)| marked + MARK_MILLIS)
    }
}

impl Connection {
    /// When to look at deliveries next, where that is configured.
    pub(super) fn next_ack_look_millis(&self) -> Option<u64> {
        self.engine.config.ack_timeout_millis.map(|_| self.ack_look_millis)
    }

    /// Closes the first channel whose consumers kept a delivery too long; the next look finds more.
    pub(super) fn look_at_acks(&mut self) {
        let Some(timeout_millis) = self.engine.config.ack_timeout_millis else { return };
        let now = self.now.monotonic_millis;
        if now < self.ack_look_millis || self.failure.is_some() {
            return;
        }
        self.ack_look_millis = now + (timeout_millis / 4).clamp(LOOK_MILLIS_MIN, LOOK_MILLIS_MAX);
        let is_late = |channel: &mut Channel<ChannelData, Delivery>| {
            let first_tag = channel.unacked.first_tag();
            channel.data.marks.oldest_millis(first_tag).is_some_and(|at| at + timeout_millis <= now)
        };
        let mut open = self.session.channels().filter(|(_, channel)| channel.is_open());
        let Some(channel) = open.find_map(|(id, channel)| is_late(channel).then_some(id)) else { return };
        let refusal = Refusal::AckTimeout { channel, timeout_millis };
        self.failure = Some(Failure::Refused { channel, ids: (0, 0), refusal });
        self.ack_look_millis = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_delivery_is_known_to_a_mark() {
        let mut marks = DeliveryMarks::default();
        for (tag, millis) in [(1, 0), (2, 500), (3, 1_000), (4, 5_000)] {
            marks.note(tag, millis);
        }
        assert_eq!(marks.oldest_millis(Some(1)), Some(1_000));
        assert_eq!(marks.oldest_millis(Some(2)), Some(1_000));
        assert_eq!(marks.oldest_millis(Some(3)), Some(2_000));
        assert_eq!(marks.oldest_millis(Some(4)), Some(6_000));
        assert_eq!(marks.oldest_millis(None), None);
        assert!(marks.marks.is_empty());
    }
}
