//! Consumers, gets and settlements.
//!
//! Knows what a consumer can ask for; not what it is given.

use super::Draw;
use crate::differential::{
    features::Feature,
    field::{Field, Fields},
    operation::{Operation, Tag},
};

impl Draw {
    pub(super) fn consuming(&mut self) -> Operation {
        match self.random.below(100) {
            0..=14 => self.consume(),
            15..=19 => Operation::Cancel { consumer_tag: self.consumer_tag(), nowait: self.random.one_in(6) },
            20..=47 => self.publish(),
            48..=54 => self.get(),
            55..=83 => self.settle(),
            84..=87 => self.recover(),
            88..=93 => Operation::Qos {
                prefetch_octets: 0,
                prefetch_count: self.random.pick(&[0, 1, 2, 3]),
                global: self.random.one_in(3),
            },
            94..=95 => self.delete_queue(),
            96 => Operation::PurgeQueue { queue: self.queue(), nowait: false },
            97 => Operation::CloseChannel,
            98 => self.random.pick(&[Operation::CloseConnection, Operation::Vanish]),
            _ if self.random.one_in(2) => Operation::Wait { milliseconds: 20 },
            _ => Operation::TxSelect,
        }
    }

    /// A consumer as most scripts have it.
    pub(super) fn consume_from(&mut self, queue: &str) -> Operation {
        Operation::Consume {
            queue: queue.to_owned(),
            consumer_tag: self.consumer_tag(),
            no_local: false,
            no_ack: self.random.one_in(6),
            exclusive: false,
            nowait: false,
            arguments: Vec::new(),
        }
    }

    fn consume(&mut self) -> Operation {
        Operation::Consume {
            queue: self.queue(),
            consumer_tag: self.consumer_tag(),
            no_local: self.random.one_in(8),
            no_ack: self.random.one_in(4),
            exclusive: self.random.one_in(8),
            nowait: self.random.one_in(12),
            arguments: self.consumer_arguments(),
        }
    }

    fn consumer_arguments(&mut self) -> Fields {
        if self.has(Feature::ConsumerPriorities) && self.random.one_in(4) {
            let value = match self.random.below(8) {
                0 => Field::text("high"),
                1 => Field::I64(-1),
                2 => Field::Void,
                n => Field::I32(i32::try_from(n).unwrap_or_default()),
            };
            return vec![("x-priority".to_owned(), value)];
        }
        if self.random.one_in(12) { vec![("x-unknown".to_owned(), Field::I32(1))] } else { Vec::new() }
    }

    pub(super) fn get(&mut self) -> Operation {
        Operation::Get { queue: self.queue(), no_ack: self.random.one_in(3) }
    }

    fn delivery(&mut self) -> Tag {
        match self.random.below(30) {
            0 => Tag::Number(self.random.pick(&[0, 1, 2, 77, u64::MAX])),
            n => Tag::Unacked(n % 4),
        }
    }

    pub(super) fn settle(&mut self) -> Operation {
        let (tag, multiple, requeue) = (self.delivery(), self.random.one_in(4), self.random.one_in(2));
        match self.random.below(7) {
            0..=2 => Operation::Ack { tag, multiple },
            3 | 4 => Operation::Nack { tag, multiple, requeue },
            5 => Operation::Reject { tag, requeue },
            _ if self.random.one_in(2) => Operation::Nack { tag: Tag::Number(0), multiple: true, requeue },
            _ => Operation::Ack { tag: Tag::Number(0), multiple: true },
        }
    }

    fn recover(&mut self) -> Operation {
        if self.random.one_in(2) {
            Operation::Recover { requeue: true }
        } else {
            Operation::RecoverAsync { requeue: true }
        }
    }
}
