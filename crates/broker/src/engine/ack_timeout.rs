//! Consumers that keep deliveries too long: their channel is closed, as on RabbitMQ's page on
//! delivery acknowledgement timeouts. Off unless it is configured, for all or by a queue's argument or
//! policy.
//!
//! Invariant: a delivery is found too old neither before its time nor more than a look and a mark
//! after it.

use std::collections::VecDeque;

use indexmap::IndexSet;

use super::{
    connection::{ChannelData, Connection},
    queue_cell::QueueCell,
    sources::{Delivery, Sources},
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

    /// Forgets marks of deliveries that are settled.
    fn forget_before(&mut self, first_tag: Option<u64>) {
        let Some(first_tag) = first_tag else { return self.marks.clear() };
        while self.marks.get(1).is_some_and(|(tag, _)| *tag <= first_tag) {
            self.marks.pop_front();
        }
    }

    /// The latest time at which that delivery may have been made.
    fn made_by_millis(&self, tag: u64) -> Option<u64> {
        let before = self.marks.partition_point(|(first, _)| *first <= tag);
        let (_, marked) = self.marks.get(before.saturating_sub(1))?;
        Some(marked + MARK_MILLIS)
    }
}

impl Connection {
    /// Deliveries of that queue are to come: how long they may be kept is the queue's to say.
    pub(super) fn heed_ack_timeout(&mut self, queue: &QueueCell) {
        let Some(timeout_millis) = queue.declaration.parsed.ack_timeout_millis else { return };
        if self.ack_timeout_millis.is_none_or(|least| timeout_millis < least) {
            self.ack_timeout_millis = Some(timeout_millis);
            self.ack_look_millis = self.now.monotonic_millis;
        }
    }

    /// When to look at deliveries next, where any of them may not be kept for ever.
    pub(super) fn next_ack_look_millis(&self) -> Option<u64> {
        self.ack_timeout_millis.map(|_| self.ack_look_millis)
    }

    /// Closes the first channel whose consumers kept a delivery too long; the next look finds more.
    pub(super) fn look_at_acks(&mut self) {
        let Some(least_millis) = self.ack_timeout_millis else { return };
        let now = self.now.monotonic_millis;
        if now < self.ack_look_millis || self.failure.is_some() {
            return;
        }
        self.ack_look_millis = now + (least_millis / 4).clamp(LOOK_MILLIS_MIN, LOOK_MILLIS_MAX);
        let (sources, common) = (&mut self.sources, self.engine.config.ack_timeout_millis);
        let mut open = self.session.channels().filter(|(_, channel)| channel.is_open());
        let late = open.find_map(|(id, channel)| Some((id, timeout_passed(channel, sources, common, now)?)));
        let Some((channel, timeout_millis)) = late else { return };
        let refusal = Refusal::AckTimeout { channel, timeout_millis };
        self.failure = Some(Failure::Refused { channel, ids: (0, 0), refusal });
        self.ack_look_millis = now;
    }
}

/// The timeout that a delivery of the channel is beyond, if any is. Of those from one queue the
/// oldest is enough to look at.
fn timeout_passed(
    channel: &mut Channel<ChannelData, Delivery>,
    sources: &mut Sources,
    common_millis: Option<u64>,
    now_millis: u64,
) -> Option<u64> {
    let marks = &mut channel.data.marks;
    marks.forget_before(channel.unacked.first_tag());
    let mut seen = IndexSet::new();
    channel.unacked.iter().filter(|(_, delivery)| seen.insert(delivery.source)).find_map(|(tag, delivery)| {
        let own = sources.of(delivery.source).queue.declaration.parsed.ack_timeout_millis;
        let timeout = own.or(common_millis)?;
        (marks.made_by_millis(tag)? + timeout <= now_millis).then_some(timeout)
    })
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
        assert_eq!(marks.made_by_millis(1), Some(1_000));
        assert_eq!(marks.made_by_millis(2), Some(1_000));
        assert_eq!(marks.made_by_millis(3), Some(2_000));
        assert_eq!(marks.made_by_millis(9), Some(6_000));
        marks.forget_before(Some(4));
        assert_eq!((marks.marks.len(), marks.made_by_millis(4)), (1, Some(6_000)));
        marks.forget_before(None);
        assert_eq!(marks.made_by_millis(5), None);
        assert!(marks.marks.is_empty());
    }
}
