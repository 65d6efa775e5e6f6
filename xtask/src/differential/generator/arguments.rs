//! Arguments of queues and bindings, good, nearly good and bad.
//!
//! Knows which values stand at the edges; not what becomes of them.

use super::Draw;
use crate::differential::{
    features::Feature,
    field::{Field, Fields},
};

/// A number in one of the widths that the wire has.
impl Draw {
    pub(super) fn number(&mut self, number: i32) -> Field {
        let byte = i8::try_from(number);
        match (self.random.below(8), byte) {
            (0, Ok(byte)) => Field::I8(byte),
            (1, Ok(byte)) => Field::I16(byte.into()),
            (2, Ok(byte)) if byte >= 0 => Field::U8(byte.unsigned_abs()),
            (3, Ok(byte)) if byte >= 0 => Field::U16(byte.unsigned_abs().into()),
            (4, Ok(byte)) if byte >= 0 => Field::U32(byte.unsigned_abs().into()),
            (5, _) => Field::I64(number.into()),
            _ => Field::I32(number),
        }
    }

    /// What is no good number.
    fn no_number(&mut self) -> Field {
        match self.random.below(8) {
            0 => Field::text("5"),
            1 => Field::Bool(true),
            2 => Field::F64(1.5),
            3 => Field::Void,
            4 => Field::Timestamp(3),
            5 => Field::Table(Vec::new()),
            6 => Field::Array(vec![Field::I32(1)]),
            _ => Field::I32(-1),
        }
    }

    /// Arguments for a queue that is declared to be declared: edges and mistakes among them.
    pub(super) fn queue_arguments(&mut self) -> Fields {
        let mut fields = Vec::new();
        for _ in 0..=self.random.below(2) {
            fields.extend(self.queue_argument());
        }
        if self.random.one_in(12) {
            fields.reverse();
        }
        fields
    }

    fn queue_argument(&mut self) -> Option<(String, Field)> {
        let (name, value) = match self.random.below(24) {
            0..=2 => ("x-max-length", self.count(&[0, 1, 2, 100])),
            3 | 4 => ("x-max-length-bytes", self.count(&[0, 1, 10, 1000])),
            5 | 6 => ("x-overflow", self.overflow()),
            7 => ("x-queue-mode", self.word(&["default", "lazy", "nope", ""])),
            8 => ("x-queue-version", self.count(&[1, 2, 3])),
            9 => ("x-queue-type", self.queue_type()),
            10 => ("x-unknown", self.count(&[1])),
            11 => ("x-queue-leader-locator", self.word(&["client-local", "nope"])),
            // A value that is no text crashes RabbitMQ's channel.
            12 => ("x-queue-master-locator", Field::text(self.random.pick(&["client-local", "min-masters"]))),
            _ => return self.later_argument(),
        };
        Some((name.to_owned(), value))
    }

    /// Arguments that the broker has learnt, or is yet to learn, after the first ones.
    fn later_argument(&mut self) -> Option<(String, Field)> {
        let choices: [(Feature, &str); 10] = [
            (Feature::MessageTtl, "x-message-ttl"),
            (Feature::QueueExpiry, "x-expires"),
            (Feature::DeadLettering, "x-dead-letter-exchange"),
            (Feature::DeadLettering, "x-dead-letter-routing-key"),
            (Feature::DeadLettering, "x-dead-letter-strategy"),
            (Feature::PriorityQueues, "x-max-priority"),
            (Feature::SingleActiveConsumer, "x-single-active-consumer"),
            (Feature::DeliveryLimit, "x-delivery-limit"),
            (Feature::StreamArguments, "x-max-age"),
            (Feature::QuorumQueues, "x-quorum-initial-group-size"),
        ];
        let (feature, name) = self.random.pick(&choices);
        if !self.has(feature) {
            return None;
        }
        let value = match name {
            "x-message-ttl" => self.long_time(),
            "x-expires" => self.long_time(),
            "x-dead-letter-exchange" => self.name_value(&["~direct", "~fanout", "", "~gone"]),
            "x-dead-letter-routing-key" => self.name_value(&["~a.k", "~q2", ""]),
            "x-dead-letter-strategy" => self.word(&["at-most-once", "at-least-once", "nope"]),
            "x-max-priority" => self.count(&[0, 1, 5, 255, 256]),
            "x-single-active-consumer" => {
                self.random.pick(&[Field::Bool(true), Field::Bool(false), Field::I32(1)])
            }
            "x-max-age" => self.word(&["10m", "1Y", "nope", ""]),
            _ => self.count(&[0, 1, 3]),
        };
        Some((name.to_owned(), value))
    }

    fn count(&mut self, good: &[i32]) -> Field {
        if self.random.one_in(5) {
            return self.no_number();
        }
        let number = self.random.pick(good);
        self.number(number)
    }

    /// Milliseconds that are not over before the script is, and what is out of range.
    fn long_time(&mut self) -> Field {
        match self.random.below(8) {
            0 => self.no_number(),
            1 => Field::I64(315_360_000_000),
            2 => Field::I64(315_360_000_001),
            3 => Field::I32(0),
            4 => Field::I64(600_000),
            _ => Field::I32(600_000),
        }
    }

    fn word(&mut self, words: &[&str]) -> Field {
        if self.random.one_in(8) { Field::I32(1) } else { Field::text(self.random.pick(words)) }
    }

    fn name_value(&mut self, names: &[&str]) -> Field {
        if self.random.one_in(8) { Field::I32(1) } else { Field::text(self.random.pick(names)) }
    }

    fn overflow(&mut self) -> Field {
        if self.has(Feature::RejectPublishDeadLetter) && self.random.one_in(4) {
            return Field::text("reject-publish-dlx");
        }
        self.word(&["drop-head", "reject-publish", "nope"])
    }

    fn queue_type(&mut self) -> Field {
        if self.has(Feature::QuorumQueues) && self.random.one_in(3) {
            return Field::text("quorum");
        }
        self.word(&["classic", "nope", ""])
    }

    /// Arguments of a binding to that exchange.
    pub(super) fn binding_arguments(&mut self, exchange: &str) -> Fields {
        if exchange != "~headers" {
            return if self.random.one_in(10) { vec![("n".to_owned(), Field::I32(1))] } else { Vec::new() };
        }
        let mut fields = Vec::new();
        if !self.random.one_in(4) {
            fields.push(("x-match".to_owned(), self.x_match()));
        }
        for _ in 0..self.random.below(3) {
            let name = self.random.pick(&["h", "i", "x-h"]).to_owned();
            fields.push((name, self.header_value()));
        }
        fields
    }

    fn x_match(&mut self) -> Field {
        match self.random.below(24) {
            0 => Field::text("zz"),
            1 => Field::I32(1),
            2 => Field::text(""),
            3..=5 => Field::text("any-with-x"),
            6..=8 => Field::text("all-with-x"),
            9..=15 => Field::text("any"),
            _ => Field::text("all"),
        }
    }

    /// Values that look alike, for headers on both sides.
    pub(super) fn header_value(&mut self) -> Field {
        match self.random.below(16) {
            0 => Field::I64(1),
            1 => Field::U8(1),
            2 => Field::F64(1.0),
            3 => Field::Bool(true),
            4 => Field::Void,
            5 => Field::Octets("s".to_owned()),
            6 => Field::Timestamp(1),
            7 => Field::Table(vec![("n".to_owned(), Field::I32(1))]),
            8 => Field::Array(vec![Field::I32(1)]),
            9 => Field::Decimal(1, 10),
            10..=12 => Field::text("s"),
            _ => Field::I32(1),
        }
    }
}
