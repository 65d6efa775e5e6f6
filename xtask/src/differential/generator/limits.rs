//! Queues with limits, and what happens at the limit.
//!
//! Knows which arguments make a queue do something by itself; not what it does.

use super::{Draw, topology::plain_queue};
use crate::differential::{
    features::Feature,
    field::{Field, Fields},
    operation::{Message, Operation, Property, Tag},
};

/// Longer than every short time to live that is drawn.
const WAIT_MILLISECONDS: u64 = 400;

impl Draw {
    pub(super) fn limits(&mut self) -> Vec<Operation> {
        match self.random.below(100) {
            0..=49 => vec![self.publish()],
            50..=59 => vec![self.get()],
            60..=71 => vec![self.settle_hard()],
            72..=77 => vec![self.consuming()],
            78..=82 => vec![Operation::ConfirmSelect { nowait: false }],
            83..=86 => {
                let queue = self.queue();
                vec![Operation::DeclareQueue {
                    queue,
                    passive: true,
                    durable: false,
                    exclusive: false,
                    auto_delete: false,
                    nowait: false,
                    arguments: Vec::new(),
                }]
            }
            87..=90 => {
                let queue = self.random.pick(&super::QUEUES).to_owned();
                vec![self.limited_queue(&queue)]
            }
            91..=93 if self.has(Feature::MessageExpiration) => self.short_lived(),
            94..=95 => vec![self.bind_queue()],
            _ => vec![self.publish()],
        }
    }

    fn settle_hard(&mut self) -> Operation {
        match self.random.below(4) {
            0 => Operation::Reject { tag: Tag::Unacked(0), requeue: self.random.one_in(3) },
            1 => Operation::Nack { tag: Tag::Unacked(1), multiple: true, requeue: self.random.one_in(3) },
            _ => self.settle(),
        }
    }

    /// A message that expires, and the time in which it does.
    fn short_lived(&mut self) -> Vec<Operation> {
        let (body, body_octets) = self.body();
        let expiration = self.random.pick(&["0", "60", "100"]).to_owned();
        let message = Message {
            routing_key: self.queue(),
            properties: vec![Property::Expiration(expiration)],
            body,
            body_octets,
            ..Message::default()
        };
        vec![Operation::Publish(message), Operation::Wait { milliseconds: WAIT_MILLISECONDS }]
    }

    /// A queue that does something by itself.
    pub(super) fn limited_queue(&mut self, queue: &str) -> Operation {
        let mut declare = plain_queue(queue);
        let is_quorum = self.has(Feature::QuorumQueues) && self.random.one_in(5);
        let limits = if is_quorum { self.quorum_arguments() } else { self.limiting_arguments() };
        if let Operation::DeclareQueue { arguments, durable, .. } = &mut declare {
            *arguments = limits;
            *durable = is_quorum;
        }
        declare
    }

    fn limiting_arguments(&mut self) -> Fields {
        let mut fields = Vec::new();
        let mut add = |name: &str, value| fields.push((name.to_owned(), value));
        match self.random.below(4) {
            0 | 1 => add("x-max-length", Field::I32(self.random.pick(&[0, 1, 2, 3]))),
            2 => add("x-max-length-bytes", Field::I32(self.random.pick(&[0, 4, 9, 100]))),
            _ => {}
        }
        match self.random.below(4) {
            0 => add("x-overflow", Field::text("reject-publish")),
            1 if self.has(Feature::RejectPublishDeadLetter) => {
                add("x-overflow", Field::text("reject-publish-dlx"));
            }
            _ => {}
        }
        if self.has(Feature::DeadLettering) && self.random.one_in(2) {
            add(
                "x-dead-letter-exchange",
                Field::text(self.random.pick(&["", "~direct", "~fanout", "~topic"])),
            );
            if self.random.one_in(2) {
                add(
                    "x-dead-letter-routing-key",
                    Field::text(self.random.pick(&["~q1", "~q2", "~q3", "~a.k"])),
                );
            }
        }
        if self.has(Feature::PriorityQueues) && self.random.one_in(4) {
            add("x-max-priority", Field::I32(self.random.pick(&[1, 5, 10])));
        }
        if self.has(Feature::SingleActiveConsumer) && self.random.one_in(6) {
            add("x-single-active-consumer", Field::Bool(true));
        }
        if self.has(Feature::MessageTtl) && self.random.one_in(10) {
            add("x-message-ttl", Field::I32(self.random.pick(&[0, 80, 600_000])));
        }
        fields
    }

    fn quorum_arguments(&mut self) -> Fields {
        let mut fields = vec![("x-queue-type".to_owned(), Field::text("quorum"))];
        if self.has(Feature::DeliveryLimit) && !self.random.one_in(3) {
            fields.push(("x-delivery-limit".to_owned(), Field::I32(self.random.pick(&[0, 1, 2]))));
        }
        if self.has(Feature::DeadLettering) && self.random.one_in(2) {
            fields.push(("x-dead-letter-exchange".to_owned(), Field::text("")));
            fields.push(("x-dead-letter-routing-key".to_owned(), Field::text("~q1")));
        }
        fields
    }
}
