//! What it costs to make octets for a socket of the messages in a connection's inbox.
//!
//! Messages are published outside of the time that counts; then all that the consumer is told is
//! taken, a write at a time. Giving the messages back is in it. Small bodies are copied, large
//! ones referred to. Invariant: the consumer is told every message.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leveret_broker::engine::{Config, Engine};
use leveret_path::client::{Client, Zeros, publish};
use leveret_wire::method::{basic, queue};

fn consumer(engine: &Arc<Engine>) -> Client {
    let mut client = Client::new(engine);
    client.call(1, queue::Declare { queue: "q".into(), ..Default::default() });
    client.call(1, basic::Consume { queue: "q".into(), no_ack: true, ..Default::default() });
    client.take_said();
    client
}

/// Deliveries of so many octets, as many at a time as lie in an inbox together.
fn encode_deliveries(c: &mut Criterion, name: &str, size: usize, count: usize) {
    let engine = Engine::new(Config::default(), Box::new(Zeros));
    let mut publisher = Client::new(&engine);
    let mut consumer = consumer(&engine);
    let octets = publish("", "q", size).repeat(count);
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let mut time = Duration::ZERO;
            for _ in 0..rounds {
                publisher.send(&octets);
                let began = Instant::now();
                let said = consumer.take_said();
                time += began.elapsed();
                assert!(said > count * size, "every message comes out");
            }
            time
        });
    });
    assert_eq!(engine.memory_octets(), 0, "every message was given back");
}

fn encode(c: &mut Criterion) {
    encode_deliveries(c, "deliver, 16 B", 16, 1000);
    encode_deliveries(c, "deliver, 1 KiB, copied", 1024, 500);
    encode_deliveries(c, "deliver, 64 KiB, referred to", 64 * 1024, 16);
}

criterion_group!(benches, encode);
criterion_main!(benches);
