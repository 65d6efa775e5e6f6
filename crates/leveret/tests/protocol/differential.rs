//! Random methods, given to our broker and to another one, are answered alike.
//!
//! After each method both are given time to come to rest, and what they said is compared channel
//! by channel: deliveries in their order, other methods in theirs. What differs for no reason of
//! the protocol's is left out of the draw: who of several consumers on one queue has his turn, and
//! which of several queues delivers first on one channel. A seed that differs is tried again,
//! because another broker's parts may be slow to hear of one another; it has to agree once.

use std::collections::BTreeMap;

use leveret_wire::{
    Method, Properties, TableBuf, Value,
    method::{basic, channel, confirm, exchange, queue, tx},
};

use crate::support::{Client, Message, Peer, Said, delete, delete_exchange, message, table};

const SEEDS: u64 = 60;
const STEPS: usize = 150;
const TRIES: usize = 4;
/// Steps before a difference that are shown.
const TRACE_SHOWN: usize = 200;

/// Channel 1 declares, publishes and gets; the others have a consumer on a queue each.
const CHANNELS: [u16; 4] = [1, 2, 3, 4];
const QUEUES: [&str; 3] = ["a", "b", "c"];

/// A small generator of random numbers (SplitMix64): the same seed draws the same methods.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let at = self.below(from.len() as u64);
        from[usize::try_from(at).expect("a short list")]
    }
}

/// What both brokers are given.
#[derive(Debug, Clone)]
struct Step {
    channel: u16,
    octets: Vec<u8>,
    closes: bool,
    shown: String,
}

struct Draw {
    random: Random,
    bodies: u64,
    /// Channels get a prefetch of their own, and then consumers acknowledge: RabbitMQ holds back
    /// from a full channel also what needs no acknowledgement.
    limits_channels: bool,
}

impl Draw {
    fn method<'m>(channel: u16, method: impl Into<Method<'m>>) -> Step {
        let method = method.into();
        let mut octets = Vec::new();
        method.write_frame(channel, &mut octets);
        let closes = matches!(method, Method::ChannelClose(_));
        Step { channel, octets, closes, shown: format!("{method:?}") }
    }

    fn queue_arguments(&mut self) -> TableBuf {
        let limit = |value| table(&[("x-max-length", value)]);
        match self.random.below(14) {
            0 => limit(Value::I32(2)),
            1 => limit(Value::U8(2)),
            2 => limit(Value::I64(3)),
            3 => limit(Value::I32(2)).with("x-overflow", Value::LongStr(b"reject-publish")),
            4 => table(&[("x-max-length-bytes", Value::I32(10))]),
            5 => limit(Value::I32(-1)),
            6 => table(&[("x-queue-type", Value::LongStr(b"classic"))]),
            7 => table(&[("x-overflow", Value::LongStr(b"drop-head"))]),
            8 => table(&[("x-unknown", Value::LongStr(b"kept"))]),
            _ => TableBuf::new(),
        }
    }

    fn binding_arguments(&mut self) -> TableBuf {
        match self.random.below(10) {
            0 => table(&[("x-match", Value::LongStr(b"any")), ("h", Value::I32(1))]),
            1 => table(&[("x-match", Value::LongStr(b"all")), ("h", Value::I32(1)), ("i", Value::Void)]),
            2 => table(&[("h", Value::LongStr(b"s"))]),
            3 if self.random.one_in(4) => table(&[("x-match", Value::LongStr(b"some"))]),
            _ => TableBuf::new(),
        }
    }

    fn queue(&mut self) -> &'static str {
        match self.random.below(20) {
            0 => "",
            1 => "gone",
            _ => self.random.pick(&QUEUES),
        }
    }

    fn exchange(&mut self) -> &'static str {
        self.random.pick(&[
            "x",
            "y",
            "x",
            "y",
            "amq.direct",
            "amq.topic",
            "amq.fanout",
            "amq.match",
            "gone",
            "",
        ])
    }

    fn key(&mut self) -> &'static str {
        self.random.pick(&["", "a", "b", "c", "k", "k.l", "k.*", "#", "*.l", "#.l.#"])
    }

    fn step(&mut self) -> Step {
        match self.random.below(100) {
            0..=15 => self.declare_or_delete_queue(),
            16..=25 => self.declare_or_delete_exchange(),
            26..=41 => self.bind(),
            42..=62 => self.publish(),
            63..=70 => {
                let no_ack = self.random.one_in(2);
                let queue = self.queue().into();
                Self::method(1, basic::Get { queue, no_ack, ..basic::Get::default() })
            }
            71..=79 => self.consumer(),
            80..=93 => self.settle(),
            94..=96 => {
                let method: Method<'static> =
                    self.random.pick(&[tx::Commit {}.into(), tx::Rollback {}.into()]);
                Self::method(1, method)
            }
            97 => {
                let select: Method<'static> =
                    self.random.pick(&[tx::Select {}.into(), confirm::Select { nowait: false }.into()]);
                Self::method(1, select)
            }
            _ => Self::method(self.random.pick(&CHANNELS), channel::Close::default()),
        }
    }

    fn declare_or_delete_queue(&mut self) -> Step {
        let queue = self.queue().into();
        match self.random.below(10) {
            0 => {
                let (if_unused, if_empty) = (self.random.one_in(2), self.random.one_in(2));
                Self::method(1, queue::Delete { queue, if_unused, if_empty, ..queue::Delete::default() })
            }
            1 => Self::method(1, queue::Purge { queue, ..queue::Purge::default() }),
            2 | 3 => Self::method(1, queue::Declare { queue, passive: true, ..queue::Declare::default() }),
            _ => {
                let arguments = self.queue_arguments();
                let declare = queue::Declare {
                    queue,
                    durable: self.random.one_in(4),
                    exclusive: queue.is_empty() || self.random.one_in(4),
                    auto_delete: self.random.one_in(4),
                    arguments: arguments.as_table(),
                    ..queue::Declare::default()
                };
                Self::method(1, declare)
            }
        }
    }

    fn declare_or_delete_exchange(&mut self) -> Step {
        let exchange = self.exchange().into();
        match self.random.below(10) {
            0 | 1 => {
                let if_unused = self.random.one_in(2);
                Self::method(1, exchange::Delete { exchange, if_unused, ..exchange::Delete::default() })
            }
            2 => {
                Self::method(1, exchange::Declare { exchange, passive: true, ..exchange::Declare::default() })
            }
            _ => {
                let declare = exchange::Declare {
                    exchange,
                    kind: self.random.pick(&["direct", "fanout", "topic", "headers"]).into(),
                    durable: self.random.one_in(4),
                    auto_delete: self.random.one_in(4),
                    internal: self.random.one_in(8),
                    ..exchange::Declare::default()
                };
                Self::method(1, declare)
            }
        }
    }

    fn bind(&mut self) -> Step {
        let arguments = self.binding_arguments();
        let arguments = arguments.as_table();
        let (queue, routing_key) = (self.queue().into(), self.key().into());
        // One of two exchanges goes with the seed, or what it left would stay on the other broker.
        let (one, other) = (self.exchange(), self.random.pick(&["x", "y", "gone"]));
        let (source, destination) = if self.random.one_in(2) { (one, other) } else { (other, one) };
        let (exchange, source, destination) = (one.into(), source.into(), destination.into());
        match self.random.below(12) {
            0 | 1 => Self::method(
                1,
                queue::Unbind { queue, exchange, routing_key, arguments, ..queue::Unbind::default() },
            ),
            2 | 3 => Self::method(
                1,
                exchange::Bind { source, destination, routing_key, arguments, ..exchange::Bind::default() },
            ),
            4 => Self::method(
                1,
                exchange::Unbind {
                    source,
                    destination,
                    routing_key,
                    arguments,
                    ..exchange::Unbind::default()
                },
            ),
            _ => Self::method(
                1,
                queue::Bind { queue, exchange, routing_key, arguments, ..queue::Bind::default() },
            ),
        }
    }

    fn publish(&mut self) -> Step {
        self.bodies += 1;
        let body = format!("m{}", self.bodies);
        let headers = match self.random.below(4) {
            0 => table(&[("h", Value::I64(1))]),
            1 => table(&[("i", Value::I32(1)), ("h", Value::LongStr(b"s"))]),
            _ => TableBuf::new(),
        };
        let properties = Properties { headers: Some(headers.as_table()), ..Properties::default() };
        let exchange = if self.random.one_in(2) { "" } else { self.exchange() };
        let mandatory = self.random.one_in(2);
        let message = Message { mandatory, properties, ..message(exchange, self.key(), &body) };
        let mut octets = Vec::new();
        crate::support::encode(&message, 131_072, &mut octets);
        Step { channel: 1, octets, closes: false, shown: format!("{message:?}") }
    }

    fn consumer(&mut self) -> Step {
        let channel = self.random.pick(&CHANNELS[1..]);
        let queue = QUEUES[usize::from(channel) - 2].into();
        let consumer_tag = self.random.pick(&["t", "t", "u"]).into();
        match self.random.below(10) {
            0..=2 => Self::method(channel, basic::Cancel { consumer_tag, nowait: false }),
            3..=5 => {
                let prefetch_count = self.random.pick(&[0, 1, 2, 3]);
                let global = self.limits_channels && self.random.one_in(3);
                Self::method(channel, basic::Qos { prefetch_octets: 0, prefetch_count, global })
            }
            _ => {
                let no_ack = !self.limits_channels && self.random.one_in(3);
                let exclusive = self.random.one_in(6);
                let consume =
                    basic::Consume { queue, consumer_tag, no_ack, exclusive, ..basic::Consume::default() };
                Self::method(channel, consume)
            }
        }
    }

    fn settle(&mut self) -> Step {
        let channel = self.random.pick(&CHANNELS);
        let delivery_tag = self.random.below(6);
        let multiple = delivery_tag == 0 || self.random.one_in(2);
        let requeue = self.random.one_in(2);
        match self.random.below(7) {
            0..=2 => Self::method(channel, basic::Ack { delivery_tag, multiple }),
            3 | 4 => Self::method(channel, basic::Nack { delivery_tag, multiple, requeue }),
            5 => Self::method(channel, basic::Reject { delivery_tag: delivery_tag.max(1), requeue }),
            _ if self.random.one_in(2) => Self::method(channel, basic::RecoverAsync { requeue: true }),
            _ => Self::method(channel, basic::Recover { requeue: true }),
        }
    }
}

/// One of the brokers, with what it said since the last step.
struct Side {
    client: Client,
    /// Names that the server gave, in the order in which they were heard of.
    names: Vec<String>,
    /// For each channel its deliveries, and what else was said on it.
    heard: BTreeMap<u16, (Vec<String>, Vec<String>)>,
    /// Channels that are closed.
    closed: Vec<u16>,
    ended: bool,
}

impl Side {
    fn new(peer: &Peer) -> Self {
        let mut client = peer.client();
        // What an earlier seed left on the other broker.
        for name in ["a", "b", "c", "x", "y", "gone"] {
            client.ask(delete_exchange(name), "ExchangeDeleteOk");
            client.send(delete(name));
            client.reopen_if_closed();
        }
        for channel in &CHANNELS[1..] {
            client.open(*channel);
        }
        Self { client, names: Vec::new(), heard: BTreeMap::new(), closed: Vec::new(), ended: false }
    }

    fn take(&mut self, step: &Step) {
        self.heard.clear();
        self.client.try_send_octets(&step.octets);
        while step.closes && !self.closed.contains(&step.channel) {
            let said = self.client.next();
            self.hear(&said);
        }
        self.rest();
    }

    /// Hears what is said until two round trips on each channel are over.
    fn rest(&mut self) {
        for _ in 0..2 {
            for channel in CHANNELS {
                if !self.ended && !self.closed.contains(&channel) {
                    self.round_trip(channel);
                }
            }
        }
    }

    fn round_trip(&mut self, channel: u16) {
        let mut octets = Vec::new();
        Method::from(channel::Flow { active: true }).write_frame(channel, &mut octets);
        self.client.try_send_octets(&octets);
        while !self.ended && !self.closed.contains(&channel) {
            let said = self.client.next();
            if matches!(said, Said::Dropped) {
                self.ended = true;
            } else if matches!(said.method(), Method::ChannelFlowOk(_)) {
                return;
            } else {
                self.hear(&said);
            }
        }
    }

    fn hear(&mut self, said: &Said) {
        let (channel, method) = (said.channel(), said.method());
        self.ended |= matches!(method, Method::ConnectionClose(_));
        if matches!(method, Method::ChannelClose(_) | Method::ChannelCloseOk(_)) {
            self.closed.push(channel);
        }
        let is_delivery = matches!(method, Method::BasicDeliver(_));
        let line = self.unnamed(&said.to_string());
        let heard = self.heard.entry(channel).or_default();
        if is_delivery { heard.0.push(line) } else { heard.1.push(line) }
    }

    /// The line with the server's random names numbered, and without what confirms leave open.
    fn unnamed(&mut self, line: &str) -> String {
        let mut words: Vec<String> = Vec::new();
        for word in line.split(' ').filter(|word| *word != "multiple") {
            let name = word.trim_matches('\'');
            let is_given = name.starts_with("amq.gen-");
            if is_given && !self.names.iter().any(|known| known == name) {
                self.names.push(name.to_owned());
            }
            let at = self.names.iter().position(|known| known == name);
            words.push(at.filter(|_| is_given).map_or_else(|| word.to_owned(), |at| format!("name {at}")));
        }
        words.join(" ")
    }

    /// Opens closed channels again. RabbitMQ may put back what a channel had only when its close
    /// is confirmed.
    fn reopen(&mut self) {
        for channel in std::mem::take(&mut self.closed) {
            let (_, other) = &self.heard[&channel];
            // After a close of the client's own there is nothing to confirm.
            if other.iter().any(|line| line.starts_with("channel ")) {
                self.client.send_on(channel, channel::CloseOk {});
            }
            self.client.send_on(channel, channel::Open::default());
            loop {
                let said = self.client.next();
                if matches!(said.method(), Method::ChannelOpenOk(_)) {
                    break;
                }
                self.hear(&said);
            }
        }
    }
}

/// Runs a seed; the steps up to a difference, and the difference.
fn differs(seed: u64) -> Option<String> {
    let (ours, other) = Peer::both()?;
    let mut sides = [Side::new(&ours), Side::new(&other)];
    let mut draw = Draw { random: Random(seed), bodies: 0, limits_channels: seed.is_multiple_of(2) };
    let mut trace = Vec::new();
    for _ in 0..STEPS {
        let step = draw.step();
        trace.push(format!("{} {}", step.channel, step.shown));
        for side in &mut sides {
            side.take(&step);
            if !side.ended {
                side.reopen();
                side.rest();
            }
        }
        for _ in 0..20 {
            if sides[0].heard == sides[1].heard {
                break;
            }
            sides[1].rest();
        }
        if sides[0].heard != sides[1].heard {
            let [ours, other] = &sides;
            trace.push(format!("ours:  {:?}\nother: {:?}", ours.heard, other.heard));
            return Some(trace[trace.len().saturating_sub(TRACE_SHOWN)..].join("\n"));
        }
        if sides[0].ended {
            return None;
        }
    }
    None
}

#[test]
fn random_methods_are_answered_alike() {
    if Peer::both().is_none() {
        return;
    }
    let given = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let first = given("AMQP_FIRST_SEED").unwrap_or(1);
    for seed in first..first + given("AMQP_SEEDS").unwrap_or(SEEDS) {
        let mut found = None;
        for _ in 0..TRIES {
            found = differs(seed);
            if found.is_none() {
                break;
            }
        }
        if let Some(trace) = found {
            panic!("seed {seed}, tried {TRIES} times:\n{trace}");
        }
    }
}
