//! Streams beside what they do not have.

mod client;

use client::{Client, names};
use leveret_wire::{
    ContentHeader, FrameKind, Method, TableBuf, Value,
    method::{basic, queue},
    write_frame,
};

fn publish(client: &mut Client) {
    let mut octets = Vec::new();
    let publish = basic::Publish { routing_key: "s".into(), ..Default::default() };
    Method::from(publish).write_frame(1, &mut octets);
    let header = ContentHeader { class_id: basic::CLASS_ID, body_octets: 0, property_octets: &[0, 0] };
    write_frame(FrameKind::Header, 1, &mut octets, |out| header.encode(out));
    client.send(&octets);
}

/// A client with a stream `s`, and a prefetch for consumers to come.
fn with_stream() -> Client {
    let mut client = Client::opened();
    let arguments = TableBuf::new().with("x-queue-type", Value::LongStr(b"stream"));
    let arguments = arguments.as_table();
    client.call(1, queue::Declare { queue: "s".into(), durable: true, arguments, ..Default::default() });
    client.call(1, basic::Qos { prefetch_octets: 0, prefetch_count: 10, global: false });
    client
}

const SHARED: basic::Qos = basic::Qos { prefetch_octets: 0, prefetch_count: 5, global: true };

#[test]
fn a_channel_with_a_shared_prefetch_reads_no_stream() {
    let mut client = with_stream();
    client.call(1, SHARED);
    let said = client.call(1, basic::Consume { queue: "s".into(), ..Default::default() });
    assert_eq!(names(&said), ["ConnectionClose"]);
}

#[test]
fn a_shared_prefetch_does_not_count_what_a_stream_hands_out() {
    let mut client = with_stream();
    client.call(1, basic::Consume { queue: "s".into(), ..Default::default() });
    client.call(1, SHARED);
    publish(&mut client);
    assert!(client.call(1, basic::Ack { delivery_tag: 1, multiple: false }).is_empty());
    publish(&mut client);
    client.call(1, basic::Ack { delivery_tag: 2, multiple: false });
    assert_eq!(names(&client.call(1, SHARED)), ["BasicQosOk"]);
}
