//! Clients that are many in one: hundreds of queues and consumers, thousands of messages.
//!
//! They keep to names of their own, so that what the broker does in slices is theirs alone.

use leveret_wire::method::{basic, exchange, queue};

use super::{Client, Mode};

/// The queue that all of them use.
const QUEUE: &str = "flood";
/// The exchange that leads to all queues of all hoarders.
const EXCHANGE: &str = "flood-fan";
/// Messages that such a client publishes.
const MESSAGES_MAX: u32 = 24_000;
/// Consumers that it starts.
const CONSUMERS_MAX: u32 = 600;

impl Client {
    fn crowd_channel(&mut self) -> Option<u16> {
        if self.channels.is_empty() {
            self.channels.insert(1, super::Channel::default());
            self.say(1, leveret_wire::method::channel::Open::default());
            self.say(
                1,
                exchange::Declare { exchange: EXCHANGE.into(), kind: "fanout".into(), ..Default::default() },
            );
            self.say(1, queue::Declare { queue: QUEUE.into(), ..Default::default() });
            return None;
        }
        self.open_channel()
    }

    pub(super) fn hoard(&mut self) {
        let Some(number) = self.crowd_channel() else { return };
        match self.random.below(20) {
            0 | 1 => self.declare_many(number),
            2 | 3 => self.consume_many(number),
            4 if self.random.percent(30) => self.end_channel(number),
            5 if self.random.percent(10) => self.close(),
            6..9 => self.settle_all(number),
            _ => self.get(number, QUEUE, false),
        }
    }

    fn declare_many(&mut self, number: u16) {
        if self.tags > CONSUMERS_MAX {
            return;
        }
        let no_ack = self.random.percent(50);
        for _ in 0..60 + self.random.below(240) {
            self.say(number, queue::Declare { exclusive: true, ..Default::default() });
            self.say(number, queue::Bind { exchange: EXCHANGE.into(), nowait: true, ..Default::default() });
            if self.random.percent(20) {
                self.consume(number, "", no_ack, false);
            }
        }
        self.channel_mut(number).has_last_queue = true;
    }

    fn consume_many(&mut self, number: u16) {
        if self.tags > CONSUMERS_MAX {
            return;
        }
        let prefetch_count = u16::try_from(self.random.between(1, 20)).expect("prefetches are small");
        self.say(number, basic::Qos { prefetch_octets: 0, prefetch_count, global: false });
        for _ in 0..100 + self.random.below(250) {
            self.consume(number, QUEUE, false, false);
        }
    }

    fn settle_all(&mut self, number: u16) {
        let last = self.channel_mut(number).unacked.last().copied();
        if let Some(last) = last {
            self.settle_up_to(number, last);
        }
    }

    pub(super) fn flood(&mut self) {
        let Some(number) = self.crowd_channel() else { return };
        match self.random.below(40) {
            0..4 if self.messages < MESSAGES_MAX => self.publish_many(number),
            6..9 if self.messages < MESSAGES_MAX => self.publish_to_all(number),
            9 if self.random.percent(30) => {
                self.say(number, queue::Purge { queue: QUEUE.into(), ..Default::default() });
            }
            10 | 11 => self.consume_flood(number),
            12 if self.random.percent(20) => self.end_channel(number),
            13 if self.channel_mut(number).mode == Mode::Plain => {
                self.channel_mut(number).mode = Mode::Confirm;
                self.say(number, leveret_wire::method::confirm::Select { nowait: true });
            }
            _ => self.settle_all(number),
        }
    }

    fn publish_many(&mut self, number: u16) {
        let count = *self.random.pick(&[300, 300, 3_000, 3_000, 22_000]);
        for _ in 0..count {
            self.publish_small(number, "", QUEUE);
        }
    }

    fn publish_to_all(&mut self, number: u16) {
        for _ in 0..10 + self.random.below(120) {
            self.publish_small(number, EXCHANGE, "");
        }
    }

    fn publish_small(&mut self, number: u16, exchange: &str, key: &str) {
        self.messages += 1;
        let timestamp = Some(u64::from(self.number) << 32 | u64::from(self.messages));
        let (exchange, routing_key) = (exchange.into(), key.into());
        self.say(number, basic::Publish { exchange, routing_key, ..Default::default() });
        let properties = leveret_wire::Properties { timestamp, ..Default::default() };
        self.content(number, &properties, 1);
    }

    fn consume_flood(&mut self, number: u16) {
        let prefetch_count = *self.random.pick(&[0, 0, 100, 1000]);
        self.say(number, basic::Qos { prefetch_octets: 0, prefetch_count, global: false });
        let no_ack = self.random.percent(50);
        self.consume(number, QUEUE, no_ack, false);
    }
}
