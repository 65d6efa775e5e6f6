//! Mistakes, each on purpose.
//!
//! Knows what a client can do wrong; not what it is told.

use leveret_wire::{
    Method,
    method::{access, basic, channel, confirm, connection, exchange, queue, tx},
};

use super::Draw;
use crate::differential::{
    encode::to_hex,
    features::Feature,
    field::Field,
    operation::{LogIn, Message, Operation, Property, Step, Tag},
};

impl Draw {
    pub(super) fn errors(&mut self) -> Vec<Step> {
        match self.random.below(100) {
            0..=49 => {
                let operation = self.mild_error();
                vec![self.at(operation)]
            }
            50..=64 => {
                let operation = self.topology();
                vec![self.at(operation)]
            }
            65..=71 => vec![self.wrong_place()],
            72..=84 => {
                let operation = self.broken();
                vec![self.at(operation)]
            }
            85..=96 => {
                let operation = self.not_implemented();
                vec![self.at(operation)]
            }
            _ => {
                let operation = Operation::LogIn(self.log_in());
                vec![self.at(operation)]
            }
        }
    }

    /// What costs the channel at most.
    pub(super) fn mild_error(&mut self) -> Operation {
        match self.random.below(16) {
            0 => Operation::Ack {
                tag: Tag::Number(self.random.pick(&[0, 1, 50])),
                multiple: self.random.one_in(2),
            },
            1 => Operation::Nack { tag: Tag::Number(50), multiple: self.random.one_in(2), requeue: true },
            2 => Operation::Reject { tag: Tag::Number(self.random.pick(&[0, 50, u64::MAX])), requeue: true },
            3 => self.publish_with(Property::UserId("bob".to_owned())),
            4 => {
                let mode = self.random.pick(&[0, 3, 7]);
                self.publish_with(Property::DeliveryMode(mode))
            }
            5 if self.has(Feature::MessageExpiration) => {
                let expiration = self.random.pick(&BAD_EXPIRATIONS).to_owned();
                self.publish_with(Property::Expiration(expiration))
            }
            6 => Operation::TxCommit,
            7 => self.random.pick(&[Operation::TxSelect, Operation::ConfirmSelect { nowait: true }]),
            8 => Operation::Get { queue: "~gone".to_owned(), no_ack: true },
            9 => Operation::Publish(Message { exchange: "~gone".to_owned(), ..Message::default() }),
            10 if self.has(Feature::CarbonCopies) => {
                let copies = self.bad_copies();
                self.publish_with(Property::Headers(vec![("CC".to_owned(), copies)]))
            }
            11 => Operation::AccessRequest,
            12 => Operation::Flow { active: true },
            13 => Operation::UpdateSecret,
            14 => self.long_name(),
            _ => Operation::CloseChannel,
        }
    }

    fn bad_copies(&mut self) -> Field {
        if self.random.one_in(2) { Field::text("~q1") } else { Field::Array(vec![Field::I32(1)]) }
    }

    fn publish_with(&mut self, property: Property) -> Operation {
        let (body, body_octets) = self.body();
        let routing_key = self.queue();
        let mandatory = self.random.one_in(2);
        let properties = vec![property];
        Operation::Publish(Message {
            routing_key,
            mandatory,
            properties,
            body,
            body_octets,
            ..Message::default()
        })
    }

    /// Names whose texts do not fit into a reply.
    fn long_name(&mut self) -> Operation {
        let letter = self.random.pick(&["n", "é", "€", "😀"]);
        let name = letter.repeat((self.random.pick(&[190, 200, 240]) / letter.len()).max(1));
        let mut declare = super::topology::plain_queue(&name);
        if let Operation::DeclareQueue { passive, .. } = &mut declare {
            *passive = true;
        }
        declare
    }

    /// A method where it does not belong.
    fn wrong_place(&mut self) -> Step {
        let step = self.at(Operation::TxSelect);
        match self.random.below(6) {
            0 => Step { operation: Operation::OpenChannel, ..step },
            1 => Step { channel: 7, operation: Operation::OpenChannel, ..step },
            2 => Step { channel: 9, operation: Operation::TxCommit, ..step },
            3 => Step { channel: 9, operation: Operation::CloseChannel, ..step },
            4 => Step { channel: 0, operation: Operation::TxSelect, ..step },
            _ => Step { channel: 0, operation: Operation::CloseConnection, ..step },
        }
    }

    /// What ends the connection because it is not done, or not allowed.
    fn not_implemented(&mut self) -> Operation {
        match self.random.below(9) {
            0 => Operation::Qos { prefetch_octets: 5, prefetch_count: 1, global: false },
            1 => Operation::Recover { requeue: false },
            2 => Operation::RecoverAsync { requeue: false },
            3 => Operation::Flow { active: false },
            4 => Operation::Publish(Message { immediate: true, ..Message::default() }),
            5 => self.unknown_exchange_type(),
            6 => Operation::Qos { prefetch_octets: u32::MAX, prefetch_count: 0, global: true },
            _ => self.servers_own(),
        }
    }

    fn unknown_exchange_type(&mut self) -> Operation {
        let kind = self.random.pick(&["x-nope", "", "Direct", "direct ", "é"]);
        super::topology::plain_exchange("~other", kind)
    }

    /// A method that only a server sends.
    fn servers_own(&mut self) -> Operation {
        let methods: [Method<'static>; 15] = [
            channel::OpenOk::default().into(),
            channel::FlowOk { active: true }.into(),
            channel::CloseOk {}.into(),
            exchange::DeclareOk {}.into(),
            queue::DeclareOk::default().into(),
            queue::UnbindOk {}.into(),
            access::RequestOk { ticket: 1 }.into(),
            basic::QosOk {}.into(),
            basic::ConsumeOk::default().into(),
            basic::GetEmpty::default().into(),
            tx::SelectOk {}.into(),
            confirm::SelectOk {}.into(),
            connection::Open::default().into(),
            connection::Tune::default().into(),
            connection::CloseOk {}.into(),
        ];
        let mut payload = Vec::new();
        self.random.pick(&methods).encode(&mut payload);
        Operation::RawMethod { payload: to_hex(&payload) }
    }

    fn broken(&mut self) -> Operation {
        match self.random.below(10) {
            0..=2 => self.broken_method(),
            3 => Operation::RawFrame { kind: 9, payload: "616263".to_owned(), end: 0xce },
            4 => {
                Operation::RawFrame { kind: self.random.pick(&[1, 3, 8]), payload: "6162".to_owned(), end: 0 }
            }
            5 => Operation::RawFrame {
                kind: self.random.pick(&[2, 3, 8, 0]),
                payload: String::new(),
                end: 0xce,
            },
            6 | 7 => self.broken_header(),
            _ => self.broken_body(),
        }
    }

    fn broken_method(&mut self) -> Operation {
        let payloads = [
            // A declare that is cut short, one that goes on too long, one whose name is no text.
            "0032000a0000056162",
            "0032000a000001610000000000ff",
            "0032000a000001ff0000000000",
            // Unknown methods and classes, and less than a method.
            "0032ffff",
            "ffff000a",
            "0032",
            "",
            // An unknown field type, and a table that is longer than its method.
            "0032000a00000161000000000501613f00",
            "0032000a0000016100000000ff",
            // A get with a bit too many, an ack that is cut short.
            "003c0046000001610002",
            "003c005000000000",
        ];
        Operation::RawMethod { payload: self.random.pick(&payloads).to_owned() }
    }

    fn broken_header(&mut self) -> Operation {
        let payloads = [
            // Another class, a weight, properties that are cut short or go on, flags that go on.
            "003200000000000000000000 0000",
            "003c00010000000000000000 0000",
            "003c00000000000000000000 1000",
            "003c00000000000000000000 100002ff",
            "003c00000000000000000000 00010000",
            "003c00000000000000000000 2000000000050161 3f00",
            "003c",
            "",
        ];
        Operation::RawHeader { payload: self.random.pick(&payloads).replace(' ', "") }
    }

    fn broken_body(&mut self) -> Operation {
        let (announced, pieces) = self.random.pick(&[
            (0, vec![0]),
            (0, vec![1]),
            (3, vec![4]),
            (3, vec![1, 1, 2]),
            (3, vec![]),
            (3, vec![0, 3]),
            (3, vec![1, 1, 1]),
            (9, vec![5]),
        ]);
        Operation::ShortBody { announced, pieces }
    }

    fn log_in(&mut self) -> LogIn {
        let good = LogIn {
            header: to_hex(b"AMQP\x00\x00\x09\x01"),
            mechanism: "PLAIN".to_owned(),
            response: to_hex(b"\0guest\0guest"),
            failure_close: true,
            channel_max: 2047,
            frame_max: 131_072,
            virtual_host: "/".to_owned(),
            channels: vec![1],
        };
        match self.random.below(24) {
            0 => LogIn { header: to_hex(b"AMQP\x01\x01\x00\x09"), ..good },
            1 => LogIn { header: to_hex(b"AMQP\x00\x01\x00\x00"), ..good },
            2 => LogIn { header: to_hex(b"GET / HTTP/1.1\r\n"), ..good },
            3 => LogIn { response: to_hex(b"\0guest\0wrong"), ..good },
            4 => LogIn { response: to_hex(b"\0nobody\0guest"), ..good },
            5 => LogIn { virtual_host: "~nov".to_owned(), ..good },
            6 => LogIn { virtual_host: String::new(), ..good },
            7 => LogIn { channel_max: 1, channels: vec![5, 6], ..good },
            8 => LogIn { channel_max: 2, channels: vec![65_535, 1, 2], ..good },
            9 => LogIn { frame_max: 4096, ..good },
            10 => LogIn { channels: vec![1, 1], ..good },
            11 => LogIn { channels: vec![0], ..good },
            12 => LogIn { mechanism: "AMQPLAIN".to_owned(), response: amqplain("guest"), ..good },
            13 => LogIn { mechanism: "AMQPLAIN".to_owned(), response: amqplain("wrong"), ..good },
            // These are answered by three seconds of silence.
            14 => LogIn { mechanism: "NOPE".to_owned(), ..good },
            15 => LogIn { response: to_hex(b"guest"), ..good },
            16 => LogIn { response: to_hex(b"\0guest\0wrong"), failure_close: false, ..good },
            17 => LogIn { frame_max: self.random.pick(&[0, 131_073, 4095]), ..good },
            18 => LogIn { channel_max: self.random.pick(&[0, 2048]), ..good },
            _ => good,
        }
    }
}

const BAD_EXPIRATIONS: [&str; 7] = ["", "abc", "-1", "1.5", " 1", "315360000001", "1 "];

/// The response of that mechanism: a table without its length.
fn amqplain(password: &str) -> String {
    let table = leveret_wire::TableBuf::new()
        .with("LOGIN", leveret_wire::Value::LongStr(b"guest"))
        .with("PASSWORD", leveret_wire::Value::LongStr(password.as_bytes()));
    to_hex(table.as_table().as_bytes())
}
