//! What is published, how it is routed, and who takes it.

use std::sync::Arc;

use clap::ValueEnum;
use leveret_broker::engine::{Config, Engine};
use leveret_path::client::{Client, Zeros, ack, publish, read_of};
use leveret_wire::method::{basic, confirm, queue};

/// Octets that a read brings under load.
const READ_OCTETS: usize = 128 * 1024;
/// Octets of `basic.deliver` for a message of one octet more than none, at least.
const DELIVERY_OCTETS_MIN: usize = 40;

/// A way for messages to go.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Scenario {
    /// One publisher, one queue, one consumer that need not acknowledge; 16 octets
    OneToOne,
    /// The same with 1,024 octets
    OneToOneKib,
    /// A fanout exchange with ten queues and consumers; 16 octets
    FanOut,
    /// The same with 1,024 octets
    FanOutKib,
    /// Every publish is confirmed and every delivery acknowledged; 16 octets
    Acknowledged,
    /// A topic exchange with a thousand bindings and another key each time; 16 octets
    Topic,
    /// Nobody takes them; 16 octets
    PublishOnly,
    /// They are there already, and are taken; 16 octets
    Drain,
}

impl Scenario {
    /// Sends so many messages through an engine of its own.
    pub(crate) fn run(self, messages: usize) {
        let engine = Engine::new(Config::default(), Box::new(Zeros));
        match self {
            Self::OneToOne => Flow::to_queues(&engine, 1, 16).run(messages),
            Self::OneToOneKib => Flow::to_queues(&engine, 1, 1024).run(messages),
            Self::FanOut => Flow::to_queues(&engine, 10, 16).run(messages),
            Self::FanOutKib => Flow::to_queues(&engine, 10, 1024).run(messages),
            Self::Acknowledged => acknowledged(&engine, messages),
            Self::Topic => Flow::by_topic(&engine).run(messages),
            Self::PublishOnly => Flow::without_consumers(&engine).run(messages),
            Self::Drain => drain(&engine, messages),
        }
    }
}

/// A publisher with reads of octets, and consumers.
struct Flow {
    publisher: Client,
    consumers: Vec<Client>,
    /// Reads of publishes, taken in turn, and how many each holds.
    reads: Vec<(Vec<u8>, usize)>,
}

impl Flow {
    /// One queue by the default exchange, or several by a fanout.
    fn to_queues(engine: &Arc<Engine>, queues: usize, body_octets: usize) -> Self {
        let consumers = (0..queues).map(|n| consumer(engine, &format!("q{n}"), true)).collect();
        let (exchange, routing_key) = if queues == 1 { ("", "q0") } else { ("amq.fanout", "") };
        let reads = vec![read(&[publish(exchange, routing_key, body_octets)])];
        Self { publisher: Client::new(engine), consumers, reads }
    }

    /// A thousand queues' worth of patterns on one queue; more keys than routes are kept.
    fn by_topic(engine: &Arc<Engine>) -> Self {
        let mut consumer = consumer(engine, "q0", true);
        for n in 0..1000 {
            let pattern = format!("host{n}.*.error.#");
            let bind = queue::Bind {
                queue: "q0".into(),
                exchange: "amq.topic".into(),
                routing_key: pattern.as_str().into(),
                nowait: true,
                ..Default::default()
            };
            consumer.call(1, bind);
        }
        let keys = (0..1000).map(|n| publish("amq.topic", &format!("host{n}.app{n}.error.disk.full"), 16));
        let keys: Vec<_> = keys.collect();
        let reads = keys.chunks(250).map(read).collect();
        Self { publisher: Client::new(engine), consumers: vec![consumer], reads }
    }

    fn without_consumers(engine: &Arc<Engine>) -> Self {
        let mut publisher = Client::new(engine);
        publisher.call(1, queue::Declare { queue: "q0".into(), ..Default::default() });
        Self { publisher, consumers: Vec::new(), reads: vec![read(&[publish("", "q0", 16)])] }
    }

    fn run(mut self, messages: usize) {
        let mut sent = 0;
        for (octets, count) in self.reads.iter().cycle() {
            if sent >= messages {
                break;
            }
            sent += count;
            self.publisher.send(octets);
            for consumer in &mut self.consumers {
                let said = consumer.take_said();
                assert!(said >= count * DELIVERY_OCTETS_MIN, "every message comes out");
            }
        }
    }
}

/// A read full of these publishes, and how many it holds.
fn read(publishes: &[Vec<u8>]) -> (Vec<u8>, usize) {
    read_of(publishes, READ_OCTETS)
}

/// A consumer of a queue that is declared, and for several queues bound to a fanout.
fn consumer(engine: &Arc<Engine>, name: &str, no_ack: bool) -> Client {
    let mut client = Client::new(engine);
    client.call(1, queue::Declare { queue: name.into(), ..Default::default() });
    let bind = queue::Bind { queue: name.into(), exchange: "amq.fanout".into(), ..Default::default() };
    client.call(1, bind);
    client.call(1, basic::Qos { prefetch_count: 1000, ..Default::default() });
    client.call(1, basic::Consume { queue: name.into(), no_ack, ..Default::default() });
    client.take_said();
    client
}

/// Batches of a hundred: published, confirmed, delivered, acknowledged one by one.
fn acknowledged(engine: &Arc<Engine>, messages: usize) {
    const BATCH: usize = 100;
    let mut publisher = Client::new(engine);
    publisher.call(1, confirm::Select::default());
    publisher.take_said();
    let mut consumer = consumer(engine, "q0", false);
    let octets = publish("", "q0", 16).repeat(BATCH);
    let mut acks = Vec::new();
    for batch in 0..messages.div_ceil(BATCH) {
        publisher.send(&octets);
        assert!(publisher.take_said() > 0, "publishes are confirmed");
        assert!(consumer.take_said() >= BATCH * DELIVERY_OCTETS_MIN, "every message comes out");
        acks.clear();
        for n in 1..=BATCH {
            ack((batch * BATCH + n) as u64, &mut acks);
        }
        consumer.send(&acks);
    }
    assert_eq!(engine.memory_octets(), 0, "every message was acknowledged");
}

/// Fills a queue and then takes all of it. Filling costs what publishing alone costs.
fn drain(engine: &Arc<Engine>, messages: usize) {
    Flow::without_consumers(engine).run(messages);
    let mut consumer = Client::new(engine);
    consumer.call(1, basic::Consume { queue: "q0".into(), no_ack: true, ..Default::default() });
    assert!(consumer.take_said() >= messages * DELIVERY_OCTETS_MIN, "every message comes out");
}
