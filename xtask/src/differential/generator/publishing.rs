//! Messages: where they go, what they carry, what is told of them.
//!
//! Knows properties and sizes; not who gets a message.

use super::Draw;
use crate::differential::{
    features::Feature,
    field::{Field, Fields},
    operation::{Message, Operation, Property},
};

impl Draw {
    pub(super) fn publishing(&mut self) -> Vec<Operation> {
        match self.random.below(100) {
            0..=59 => vec![self.publish()],
            60..=75 => vec![self.get()],
            76..=79 => vec![Operation::ConfirmSelect { nowait: self.random.one_in(4) }],
            80 => vec![Operation::TxSelect],
            81 => vec![Operation::TxCommit],
            82 => vec![Operation::TxRollback],
            83..=89 => self.transaction(),
            90..=93 => vec![self.bind_queue()],
            94..=96 => vec![Operation::PurgeQueue { queue: self.queue(), nowait: false }],
            97 => vec![Operation::CloseChannel],
            _ if self.has(Feature::DirectReplyTo) => self.direct_reply(),
            _ => vec![self.publish()],
        }
    }

    /// Several publishes and what becomes of them, on one channel.
    fn transaction(&mut self) -> Vec<Operation> {
        let end = self.random.pick(&[Operation::TxCommit, Operation::TxCommit, Operation::TxRollback]);
        let mut operations = vec![Operation::TxSelect];
        for _ in 0..=self.random.below(3) {
            let operation = if self.random.one_in(4) { self.settle() } else { self.publish() };
            operations.push(operation);
        }
        operations.push(end);
        operations
    }

    pub(super) fn publish(&mut self) -> Operation {
        let (body, octets) = self.body();
        let by_default = self.random.one_in(2);
        let (exchange, routing_key) = if by_default {
            (String::new(), self.queue())
        } else {
            let exchange = self.exchange();
            (exchange, self.key())
        };
        Operation::Publish(Message {
            mandatory: self.random.one_in(2),
            immediate: false,
            properties: self.properties(),
            body_octets: self.body_octets(octets),
            body,
            exchange,
            routing_key,
        })
    }

    /// Mostly the body as it is; sometimes nothing, or about as much as a frame or two hold.
    fn body_octets(&mut self, octets: usize) -> usize {
        match self.random.below(40) {
            0 => 0,
            1 => self.random.pick(&[4087, 4088, 4089, 8176, 8177]),
            2 => self.random.pick(&[8183, 8184, 8185, 16_369]),
            3 if self.random.one_in(4) => self.random.pick(&[131_063, 131_064, 131_065, 300_000]),
            _ => octets,
        }
    }

    fn properties(&mut self) -> Vec<Property> {
        let mut properties = Vec::new();
        if self.random.one_in(2) {
            properties.push(Property::Headers(self.headers()));
        }
        if self.random.one_in(4) {
            properties.push(Property::DeliveryMode(self.random.pick(&[1, 2, 1])));
        }
        if self.has(Feature::PriorityQueues) && self.random.one_in(3) {
            properties.push(Property::Priority(self.random.pick(&[0, 1, 3, 9, 255])));
        }
        if self.has(Feature::MessageExpiration) && self.random.one_in(12) {
            properties.push(Property::Expiration("600000".to_owned()));
        }
        while self.random.one_in(3) {
            let property = self.plain_property();
            properties.push(property);
        }
        properties
    }

    fn plain_property(&mut self) -> Property {
        let text = self.random.pick(&["", "text/plain", "é", "\u{e0ff}\u{e080}", "id-1"]).to_owned();
        match self.random.below(11) {
            0 => Property::ContentType(text),
            1 => Property::ContentEncoding(text),
            2 => Property::CorrelationId(text),
            3 => Property::ReplyTo("somewhere".to_owned()),
            4 => Property::MessageId(text),
            5 => Property::Timestamp(self.random.pick(&[0, 1, 1_700_000_000, u64::MAX])),
            6 => Property::Kind(text),
            7 => Property::UserId("guest".to_owned()),
            8 => Property::AppId(text),
            9 => Property::Priority(self.random.pick(&[0, 9, 255])),
            _ => Property::ClusterId(text),
        }
    }

    fn headers(&mut self) -> Fields {
        let mut fields = Vec::new();
        for _ in 0..self.random.below(4) {
            let name = self.random.pick(&["h", "i", "x-h", "h", ""]).to_owned();
            fields.push((name, self.header_value()));
        }
        if self.has(Feature::CarbonCopies) && self.random.one_in(6) {
            let name = self.random.pick(&["CC", "BCC"]).to_owned();
            fields.push((name, self.copies()));
        }
        fields
    }

    fn copies(&mut self) -> Field {
        match self.random.below(10) {
            0 => Field::text("~q1"),
            1 => Field::Array(vec![Field::I32(1)]),
            2 => Field::Array(Vec::new()),
            _ => {
                let keys =
                    (0..=self.random.below(2)).map(|_| self.random.pick(&["~q1", "~q2", "~a.k", "~q1"]));
                Field::Array(keys.map(Field::text).collect())
            }
        }
    }

    /// A question and its answer, each of which may find nobody.
    fn direct_reply(&mut self) -> Vec<Operation> {
        let name = "amq.rabbitmq.reply-to";
        let (body, body_octets) = self.body();
        let question = Message {
            routing_key: "~q1".to_owned(),
            properties: vec![Property::ReplyTo(name.to_owned())],
            body,
            body_octets,
            ..Message::default()
        };
        let (body, body_octets) = self.body();
        let answer = Message {
            routing_key: "@0".to_owned(),
            mandatory: true,
            body,
            body_octets,
            ..Message::default()
        };
        let consume = Operation::Consume {
            queue: name.to_owned(),
            consumer_tag: "r".to_owned(),
            no_local: false,
            no_ack: !self.random.one_in(6),
            exclusive: self.random.one_in(8),
            nowait: false,
            arguments: Vec::new(),
        };
        let get = Operation::Get { queue: "~q1".to_owned(), no_ack: true };
        vec![consume, Operation::Publish(question), get, Operation::Publish(answer)]
    }
}
