//! Copies of what is published and delivered come beside everything else that is under way.

mod client;

use client::{Client, names};
use leveret_wire::{
    ContentHeader, FrameKind, Method, Properties, TABLE_DEPTH_MAX, TableBuf, Value,
    method::{basic, exchange, queue},
    write_frame,
};

/// More queues than one turn brings a message to.
const QUEUES: usize = 4_000;

fn bind<'a>(queue: &'a str, exchange: &'a str, routing_key: &'a str) -> queue::Bind<'a> {
    let (queue, exchange, routing_key) = (queue.into(), exchange.into(), routing_key.into());
    queue::Bind { queue, exchange, routing_key, ..Default::default() }
}

fn publish(octets: &mut Vec<u8>, exchange: &str, routing_key: &str) {
    publish_with(octets, exchange, routing_key, &[0, 0]);
}

fn publish_with(octets: &mut Vec<u8>, exchange: &str, routing_key: &str, property_octets: &[u8]) {
    let publish =
        basic::Publish { exchange: exchange.into(), routing_key: routing_key.into(), ..Default::default() };
    Method::from(publish).write_frame(1, octets);
    let header = ContentHeader { class_id: basic::CLASS_ID, body_octets: 0, property_octets };
    write_frame(FrameKind::Header, 1, octets, |out| header.encode(out));
}

#[test]
fn a_delivery_is_copied_while_a_publish_is_on_its_way() {
    let mut client = Client::opened();
    assert!(client.engine.set_tracing("/", true));
    client.call(1, queue::Declare { queue: "t".into(), ..Default::default() });
    client.call(1, bind("t", "amq.rabbitmq.trace", "deliver.#"));
    client.call(1, exchange::Declare { exchange: "x".into(), kind: "fanout".into(), ..Default::default() });
    client.call(1, bind("q", "x", ""));
    for number in 0..QUEUES {
        let name = format!("q{number}");
        client.call(1, queue::Declare { queue: (&*name).into(), ..Default::default() });
        client.call(1, bind(&name, "x", ""));
    }
    client.call(1, basic::Consume { queue: "q".into(), no_ack: true, ..Default::default() });
    let mut octets = Vec::new();
    publish(&mut octets, "x", "");
    assert_eq!(names(&client.send(&octets)), ["BasicDeliver"]);
    let mut get = |queue: &str| {
        let said = client.call(1, basic::Get { queue: queue.into(), no_ack: true, ..Default::default() });
        assert_eq!(names(&said), ["BasicGetOk"], "from {queue}");
        said
    };
    let copy = get("t");
    assert!(copy.windows(9).any(|octets| octets == b"deliver.q"), "it is a copy: {copy:?}");
    for number in 0..QUEUES {
        get(&format!("q{number}"));
    }
    client.call(1, queue::Purge { queue: "t".into(), ..Default::default() });
    assert_eq!(client.engine.memory_octets(), 0);
}

#[test]
fn what_is_nested_as_deep_as_may_be_is_copied() {
    let mut client = Client::opened();
    assert!(client.engine.set_tracing("/", true));
    let arguments = TableBuf::new().with("x-queue-type", Value::LongStr(b"stream"));
    let arguments = arguments.as_table();
    client.call(1, queue::Declare { queue: "t".into(), durable: true, arguments, ..Default::default() });
    client.call(1, bind("t", "amq.rabbitmq.trace", "publish.#"));
    client.call(1, basic::Qos { prefetch_octets: 0, prefetch_count: 10, global: false });
    client.call(1, basic::Consume { queue: "t".into(), ..Default::default() });
    let mut headers = TableBuf::new();
    for _ in 1..TABLE_DEPTH_MAX {
        headers = TableBuf::new().with("deeper", Value::Table(headers.as_table()));
    }
    let mut properties = Vec::new();
    Properties { headers: Some(headers.as_table()), ..Properties::default() }.encode(&mut properties);
    let mut octets = Vec::new();
    publish_with(&mut octets, "", "q", &properties);
    assert_eq!(names(&client.send(&octets)), ["BasicDeliver"]);
}
