//! What it costs to find the queues of a message, with a fresh key and with one that is kept.
//!
//! `route` looks every key up in the model, as the engine does for a route that it has not kept.
//! `publish` goes through the engine: each message into queues that keep one, so that what two
//! rows of one exchange differ by is the route. Invariant: every message finds its queues.

use std::{hint::black_box, sync::Arc};

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use leveret_broker::{
    engine::{Config, Engine},
    model::topology::{ExchangeId, QueueId},
};
use leveret_micro::Map;
use leveret_path::client::{Client, Zeros, publish_with, read_of};
use leveret_wire::{Properties, Table, TableBuf, Value, method::queue};

/// Keys and bindings, more than routes are kept.
const KEYS: usize = 1000;
const FANOUT_QUEUES: usize = 10;
/// A headers exchange looks at each of them, so that there are few.
const HEADERS_BINDINGS: usize = 10;
const READ_OCTETS: usize = 128 * 1024;

/// An exchange with its bindings, and a message for each binding.
struct Case {
    name: &'static str,
    exchange: &'static str,
    /// Binding key, arguments, and which queue.
    bindings: Vec<(String, TableBuf, usize)>,
    /// Routing key and headers.
    messages: Vec<(String, TableBuf)>,
    /// Queues that each message goes to.
    queues: usize,
}

fn headers(n: usize) -> TableBuf {
    let number = i32::try_from(n).expect("a small number");
    TableBuf::new().with("format", Value::LongStr(b"pdf")).with("number", Value::I32(number))
}

fn cases() -> [Case; 4] {
    let none = TableBuf::new;
    let direct = (0..KEYS).map(|n| format!("key{n}"));
    [
        Case {
            name: "direct",
            exchange: "amq.direct",
            bindings: direct.clone().map(|key| (key, none(), 0)).collect(),
            messages: direct.map(|key| (key, none())).collect(),
            queues: 1,
        },
        Case {
            name: "fanout to 10",
            exchange: "amq.fanout",
            bindings: (0..FANOUT_QUEUES).map(|queue| (String::new(), none(), queue)).collect(),
            messages: (0..KEYS).map(|n| (format!("key{n}"), none())).collect(),
            queues: FANOUT_QUEUES,
        },
        Case {
            name: "topic",
            exchange: "amq.topic",
            bindings: (0..KEYS).map(|n| (format!("host{n}.*.error.#"), none(), 0)).collect(),
            messages: (0..KEYS).map(|n| (format!("host{n}.app{n}.error.disk.full"), none())).collect(),
            queues: 1,
        },
        Case {
            name: "headers",
            exchange: "amq.headers",
            bindings: (0..HEADERS_BINDINGS).map(|n| (String::new(), headers(n), 0)).collect(),
            messages: (0..KEYS).map(|n| (format!("key{n}"), headers(n % HEADERS_BINDINGS))).collect(),
            queues: 1,
        },
    ]
}

impl Case {
    fn map(&self) -> (Map, ExchangeId) {
        let (mut map, ids): (Map, Vec<QueueId>) = Map::with_queues(10);
        let exchange = map.exchange(self.exchange);
        for (key, arguments, queue) in &self.bindings {
            map.bind(exchange, key, arguments.clone(), ids[*queue]);
        }
        (map, exchange)
    }

    /// A publisher, with queues that keep one message each bound.
    fn publisher(&self, engine: &Arc<Engine>) -> Client {
        let mut client = Client::new(engine);
        let limit = TableBuf::new().with("x-max-length", Value::I32(1));
        for queue in 0..FANOUT_QUEUES {
            let name = format!("q{queue}");
            let arguments = limit.as_table();
            client.call(1, queue::Declare { queue: name.as_str().into(), arguments, ..Default::default() });
        }
        for (key, arguments, queue) in &self.bindings {
            let name = format!("q{queue}");
            let bind = queue::Bind {
                queue: name.as_str().into(),
                exchange: self.exchange.into(),
                routing_key: key.as_str().into(),
                arguments: arguments.as_table(),
                ..Default::default()
            };
            client.call(1, bind);
        }
        client.take_said();
        client
    }

    fn frames(&self, (key, headers): &(String, TableBuf)) -> Vec<u8> {
        let headers = Some(headers.as_table()).filter(|headers| !headers.is_empty());
        let mut octets = Vec::new();
        Properties { headers, ..Properties::default() }.encode(&mut octets);
        publish_with(self.exchange, key, &octets, 16)
    }
}

fn route(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for case in cases() {
        let (map, exchange) = case.map();
        group.throughput(Throughput::Elements(KEYS as u64));
        group.bench_function(case.name, |bencher| {
            bencher.iter(|| {
                for (key, headers) in &case.messages {
                    let queues = map.route(exchange, black_box(key), headers.as_table());
                    assert_eq!(queues, case.queues, "{key}");
                }
            });
        });
    }
    let (map, exchange) = cases()[0].map();
    assert_eq!(map.route(exchange, "another", Table::EMPTY), 0, "a key of no binding finds no queue");
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish");
    for case in cases() {
        let frames: Vec<_> = case.messages.iter().map(|message| case.frames(message)).collect();
        bench_publishes(&mut group, &case, "one key", &frames[..1]);
        bench_publishes(&mut group, &case, "a fresh key each", &frames);
    }
}

/// A read full of these publishes, over and over.
fn bench_publishes(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case, keys: &str, frames: &[Vec<u8>]) {
    let engine = Engine::new(Config::default(), Box::new(Zeros));
    let mut publisher = case.publisher(&engine);
    let (octets, count) = read_of(frames, READ_OCTETS);
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function(format!("{}, {keys}", case.name), |bencher| {
        bencher.iter(|| publisher.send(&octets));
    });
    assert!(engine.memory_octets() > 0, "messages found their queues");
}

criterion_group!(benches, route, publish);
criterion_main!(benches);
