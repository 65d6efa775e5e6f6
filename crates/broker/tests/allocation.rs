//! A connection allocates in proportion to the octets it received, never to those announced.
//!
//! A binary of its own, because it counts allocations by taking the place of the allocator.

mod client;

use allocation_counter::{AllocationInfo, measure};
use client::{Client, FRAME_OCTETS_MAX};
use leveret_wire::method::{basic, channel, queue};
use leveret_wire::{
    ContentHeader, FrameKind, Method, TableBuf, Value, decode_frame, write_body_frames, write_frame,
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Measures what it costs to receive the octets, without what the test itself needs.
fn measured(client: &mut Client, octets: &[u8]) -> AllocationInfo {
    measure(|| assert_eq!(client.connection.receive(octets, Client::NOW), octets.len()))
}

fn publish(body_octets: u64) -> Vec<u8> {
    let mut octets = Vec::new();
    let publish = basic::Publish { routing_key: "q".into(), ..Default::default() };
    Method::from(publish).write_frame(1, &mut octets);
    let header = ContentHeader { class_id: 60, body_octets, property_octets: &[0, 0] };
    write_frame(FrameKind::Header, 1, &mut octets, |out| header.encode(out));
    octets
}

#[test]
fn a_header_that_announces_128_mib_costs_what_was_received() {
    let mut client = Client::opened();
    let cost = measured(&mut client, &publish(128 * MIB));
    assert!(cost.bytes_max < KIB, "{cost:?}");
}

#[test]
fn a_header_that_announces_more_than_is_taken_costs_no_more() {
    for body_octets in [128 * MIB + 1, u64::MAX] {
        let mut client = Client::opened();
        let cost = measured(&mut client, &publish(body_octets));
        assert!(cost.bytes_max < KIB, "{cost:?}");
        // A body that will be refused is not even kept.
        let mut body = Vec::new();
        write_body_frames(1, &vec![b'b'; 2 * 1024 * 1024], FRAME_OCTETS_MAX, &mut body);
        let cost = measured(&mut client, &body);
        assert!(cost.bytes_max < KIB, "{cost:?}");
    }
}

#[test]
fn a_body_under_way_costs_no_more_than_twice_what_came() {
    let mut client = Client::opened();
    client.send(&publish(128 * MIB));
    let piece = vec![b'b'; 100_000];
    let mut received = 0;
    let mut held = 0;
    for _ in 0..50 {
        let mut frames = Vec::new();
        write_body_frames(1, &piece, FRAME_OCTETS_MAX, &mut frames);
        let cost = measured(&mut client, &frames);
        received += piece.len() as u64;
        held += cost.bytes_current;
        assert!(u64::try_from(held).unwrap() <= 2 * received + KIB, "{held} for {received}: {cost:?}");
    }
}

#[test]
fn a_frame_that_is_announced_costs_nothing() {
    let mut client = Client::opened();
    let [_, s1, s2, s3] = FRAME_OCTETS_MAX.to_be_bytes();
    let part = [3, 0, 1, 0, s1, s2, s3, b'b', b'b'];
    let cost = measure(|| assert_eq!(client.connection.receive(&part, Client::NOW), 0));
    assert_eq!(cost, AllocationInfo::default());
}

#[test]
fn a_frame_that_is_too_large_costs_its_refusal() {
    let mut client = Client::opened();
    let cost = measure(|| {
        client.connection.receive(&[3, 0, 1, 0xff, 0xff, 0xff, 0xff], Client::NOW);
    });
    assert!(cost.bytes_max < 16 * KIB, "{cost:?}");
    let said = client.take_said();
    let (frame, _) = decode_frame(&said, u32::MAX).unwrap().expect("a whole frame");
    assert!(matches!(Method::decode(frame.payload), Ok(Method::ConnectionClose(_))));
}

#[test]
fn channels_cost_no_more_than_a_kib_each() {
    let mut client = Client::opened();
    let mut octets = Vec::new();
    for id in 2..=2047 {
        Method::from(channel::Open::default()).write_frame(id, &mut octets);
    }
    let cost = measured(&mut client, &octets);
    assert!(cost.bytes_max < 2047 * KIB, "{cost:?}");
}

#[test]
fn lengths_inside_arguments_cost_nothing() {
    let mut client = Client::opened();
    let mut declare = Vec::new();
    let arguments = TableBuf::new().with("x", Value::LongStr(b"announced below"));
    let method = queue::Declare { queue: "r".into(), arguments: arguments.as_table(), ..Default::default() };
    Method::from(method).write_frame(1, &mut declare);
    // The length of the string in the table becomes 4 GiB.
    let length = declare.windows(4).rposition(|window| window == [0, 0, 0, 15]).expect("it was written");
    declare[length..length + 4].fill(0xff);
    let cost = measured(&mut client, &declare);
    assert!(cost.bytes_max < 16 * KIB, "{cost:?}");
    assert_eq!(client.engine.queue_count(), 1);
}

#[test]
fn a_silent_handshake_costs_nothing_more() {
    let mut client = Client::new();
    client.send(b"AMQP\0\0\x09\x01");
    // A start-ok that announces 15 KiB and never comes.
    let cost = measure(|| {
        assert_eq!(client.connection.receive(&[1, 0, 0, 0, 0, 0x3c, 0, 0, 10, 0, 11], Client::NOW), 0);
    });
    assert_eq!(cost, AllocationInfo::default());
}
