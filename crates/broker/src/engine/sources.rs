//! Where a connection's deliveries come from: its consumers, and queues it gets from.
//!
//! Invariant: a source is there as long as it is a consumer or a delivery of its own is
//! unacknowledged.

use std::sync::Arc;

use slab::Slab;

use super::queue_cell::QueueCell;
use crate::{
    Location,
    model::queue::{ConsumerSlot, Position},
};

/// A source of this connection. A number of its own tells it from an earlier one in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SourceId {
    slot: usize,
    serial: u64,
}

/// An unacknowledged delivery.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    pub(super) location: Location,
    pub(super) position: Position,
    pub(super) source: SourceId,
    /// Whether it counts in the channel's shared prefetch.
    pub(super) holds_credit: bool,
}

/// A consumer, or a queue that is got from.
pub(super) struct Source {
    pub(super) channel: u16,
    pub(super) queue: Arc<QueueCell>,
    pub(super) tag: Box<[u8]>,
    pub(super) no_ack: bool,
    /// Its place in the queue, while it is a consumer.
    pub(super) slot: Option<ConsumerSlot>,
    pub(super) unacked: u32,
    /// Whether its queue knows that it was cancelled and holds messages still.
    pub(super) is_held: bool,
    /// Whether what it is handed counts in the channel's shared prefetch.
    pub(super) shares_credit: bool,
    /// Whether it is a consumer of answers, whose deliveries have the next tag and do not use it up.
    pub(super) is_of_replies: bool,
    serial: u64,
}

impl Source {
    /// Whether messages are asked for one by one.
    pub(super) fn is_getter(&self) -> bool {
        self.tag.is_empty()
    }

    /// Counts deliveries as settled, and says how many holders of messages the queue has less.
    pub(super) fn settle(&mut self, count: u32) -> usize {
        self.unacked -= count;
        if self.is_getter() {
            return count as usize;
        }
        let was_last = self.is_held && self.unacked == 0;
        self.is_held &= !was_last;
        usize::from(was_last)
    }
}

#[derive(Default)]
pub(super) struct Sources {
    slots: Slab<Source>,
    last_serial: u64,
}

impl Sources {
    pub(super) fn insert(
        &mut self,
        channel: u16,
        queue: Arc<QueueCell>,
        tag: &[u8],
        no_ack: bool,
    ) -> SourceId {
        self.last_serial += 1;
        let serial = self.last_serial;
        let source = Source {
            channel,
            queue,
            tag: tag.into(),
            no_ack,
            slot: None,
            unacked: 0,
            is_held: false,
            shares_credit: false,
            is_of_replies: false,
            serial,
        };
        SourceId { slot: self.slots.insert(source), serial }
    }

    pub(super) fn find(&mut self, id: SourceId) -> Option<&mut Source> {
        self.slots.get_mut(id.slot).filter(|source| source.serial == id.serial)
    }

    /// The source of a delivery that is not settled.
    pub(super) fn of(&mut self, id: SourceId) -> &mut Source {
        self.find(id).expect("a source stays while its deliveries do")
    }

    /// By queue and tag, as RabbitMQ orders what it gives back of a channel; what was asked for one
    /// by one first.
    pub(super) fn sort_by_tag<T>(&self, of: &mut [T], id: impl Fn(&T) -> SourceId) {
        let source = |item: &T| &self.slots[id(item).slot];
        of.sort_by(|one, other| {
            let (one, other) = (source(one), source(other));
            (&one.queue.name, &one.tag).cmp(&(&other.queue.name, &other.tag))
        });
    }

    /// Forgets the source if nothing needs it.
    pub(super) fn tidy(&mut self, id: SourceId) {
        if self.find(id).is_some_and(|source| source.slot.is_none() && source.unacked == 0) {
            self.slots.remove(id.slot);
        }
    }
}
