//! A connection allocates in proportion to the octets it received, never to those announced.
//!
//! A binary of its own, because it counts allocations by taking the place of the allocator.

use std::sync::Arc;

use allocation_counter::{AllocationInfo, measure};
use leveret_broker::Now;
use leveret_broker::engine::{Config, Connection, Engine, Entropy, Peer, Wake};
use leveret_wire::method::{basic, channel, connection, queue};
use leveret_wire::{
    ContentHeader, FrameKind, Method, TableBuf, Value, decode_frame, write_body_frames, write_frame,
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const FRAME_OCTETS_MAX: u32 = 131_072;

struct Zeros;

impl Entropy for Zeros {
    fn fill(&mut self, octets: &mut [u8]) {
        octets.fill(0);
    }
}

struct Unheeded;

impl Wake for Unheeded {
    fn wake(&self) {}
}

/// A client whose octets go into the engine without a socket.
struct Client {
    engine: Arc<Engine>,
    connection: Connection,
}

impl Client {
    const NOW: Now = Now { monotonic_millis: 1, wall_millis: 1 };

    fn new() -> Self {
        let engine = Engine::new(Config::default(), Box::new(Zeros));
        let peer = Peer { name: "127.0.0.1:1 -> 127.0.0.1:2".to_owned(), is_loopback: true };
        let connection = Connection::new(&engine, peer, Box::new(Unheeded), Self::NOW);
        Self { engine, connection }
    }

    /// A client with channel 1 open and a queue `q`.
    fn opened() -> Self {
        let mut client = Self::new();
        let start_ok = connection::StartOk {
            mechanism: "PLAIN".into(),
            response: leveret_wire::method::LongStr(b"\0guest\0guest"),
            ..Default::default()
        };
        let tune_ok =
            connection::TuneOk { channel_max: 2047, frame_max: FRAME_OCTETS_MAX, heartbeat_seconds: 0 };
        client.send(b"AMQP\0\0\x09\x01");
        client.call(0, start_ok);
        client.call(0, tune_ok);
        client.call(0, connection::Open { virtual_host: "/".into(), ..Default::default() });
        client.call(1, channel::Open::default());
        client.call(1, queue::Declare { queue: "q".into(), ..Default::default() });
        assert_eq!(client.engine.queue_count(), 1);
        client
    }

    /// Hands the octets in and takes what is answered; returns the ids of the methods answered.
    fn send(&mut self, octets: &[u8]) -> Vec<(u16, u16)> {
        let mut taken = 0;
        let mut answers = Vec::new();
        loop {
            let step = self.connection.receive(&octets[taken..], Self::NOW);
            taken += step;
            let more = self.connection.advance(Self::NOW);
            answers.extend(self.take_answers());
            if step == 0 && !more {
                return answers;
            }
        }
    }

    fn take_answers(&mut self) -> Vec<(u16, u16)> {
        let said = self.connection.output().parts().collect::<Vec<_>>().concat();
        self.connection.sent(said.len(), Self::NOW);
        let (mut rest, mut answers) = (&said[..], Vec::new());
        while let Some((frame, taken)) = decode_frame(rest, u32::MAX).unwrap() {
            answers.extend(Method::decode(frame.payload).map(|method| method.ids()));
            rest = &rest[taken..];
        }
        answers
    }

    fn call<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) -> Vec<(u16, u16)> {
        let mut octets = Vec::new();
        method.into().write_frame(channel, &mut octets);
        self.send(&octets)
    }

    /// Measures what it costs to receive the octets, without what the test itself needs.
    fn measure(&mut self, octets: &[u8]) -> AllocationInfo {
        measure(|| {
            assert_eq!(self.connection.receive(octets, Self::NOW), octets.len());
        })
    }
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
    let cost = client.measure(&publish(128 * MIB));
    assert!(cost.bytes_max < KIB, "{cost:?}");
}

#[test]
fn a_header_that_announces_more_than_is_taken_costs_no_more() {
    for body_octets in [128 * MIB + 1, u64::MAX] {
        let mut client = Client::opened();
        let cost = client.measure(&publish(body_octets));
        assert!(cost.bytes_max < KIB, "{cost:?}");
        // A body that will be refused is not even kept.
        let mut body = Vec::new();
        write_body_frames(1, &vec![b'b'; 2 * 1024 * 1024], FRAME_OCTETS_MAX, &mut body);
        let cost = client.measure(&body);
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
        let cost = client.measure(&frames);
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
    assert_eq!(client.take_answers(), [(10, 50)]);
}

#[test]
fn channels_cost_no_more_than_a_kib_each() {
    let mut client = Client::opened();
    let mut octets = Vec::new();
    for id in 2..=2047 {
        Method::from(channel::Open::default()).write_frame(id, &mut octets);
    }
    let cost = client.measure(&octets);
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
    let cost = client.measure(&declare);
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
