//! A client whose octets go to the engine without a socket.

use std::sync::Arc;

use leveret_broker::{
    Now,
    engine::{Connection, Engine, Entropy, Peer, Wake},
};
use leveret_wire::{
    ContentHeader, FrameKind, Method,
    method::{LongStr, basic, channel, connection},
    write_body_frames, write_frame,
};

/// Octets of a frame that clients agree to, as most do.
const FRAME_OCTETS_MAX: u32 = 131_072;
const NOW: Now = Now { monotonic_millis: 1, wall_millis: 1 };

/// Randomness that is the same octets in every run.
#[derive(Debug)]
pub struct Zeros;

impl Entropy for Zeros {
    fn fill(&mut self, octets: &mut [u8]) {
        octets.fill(0);
    }
}

struct Unheeded;

impl Wake for Unheeded {
    fn wake(&self) {}
}

/// A client with channel 1 open.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Logs in and opens the channel.
    #[must_use]
    pub fn new(engine: &Arc<Engine>) -> Self {
        let peer = Peer { name: "127.0.0.1:1 -> 127.0.0.1:2".to_owned(), is_loopback: true };
        let mut client = Self { connection: Connection::new(engine, peer, Box::new(Unheeded), NOW) };
        client.send(b"AMQP\0\0\x09\x01");
        client.call(
            0,
            connection::StartOk {
                mechanism: "PLAIN".into(),
                response: LongStr(b"\0guest\0guest"),
                ..Default::default()
            },
        );
        client.call(
            0,
            connection::TuneOk { channel_max: 2047, frame_max: FRAME_OCTETS_MAX, heartbeat_seconds: 0 },
        );
        client.call(0, connection::Open { virtual_host: "/".into(), ..Default::default() });
        client.call(1, channel::Open::default());
        client
    }

    /// Hands octets in as a read brings them. What is said in answer waits.
    pub fn send(&mut self, octets: &[u8]) {
        let mut taken = 0;
        while taken < octets.len() {
            taken += self.connection.receive(&octets[taken..], NOW);
            self.connection.advance(NOW);
        }
    }

    /// Sends a method.
    pub fn call<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        let mut octets = Vec::new();
        method.into().write_frame(channel, &mut octets);
        self.send(&octets);
    }

    /// Takes all that is there to be said, a write at a time, and returns how many octets it was.
    pub fn take_said(&mut self) -> usize {
        let mut octets = 0;
        loop {
            let more = self.connection.advance(NOW);
            let written: usize = self.connection.output().parts().map(<[u8]>::len).sum();
            self.connection.sent(written, NOW);
            octets += written;
            if written == 0 && !more {
                return octets;
            }
        }
    }
}

/// The frames of a publish with no properties.
#[must_use]
pub fn publish(exchange: &str, routing_key: &str, body_octets: usize) -> Vec<u8> {
    publish_with(exchange, routing_key, &[0, 0], body_octets)
}

/// The frames of a publish with these properties.
#[must_use]
pub fn publish_with(
    exchange: &str,
    routing_key: &str,
    property_octets: &[u8],
    body_octets: usize,
) -> Vec<u8> {
    let mut octets = Vec::new();
    let publish =
        basic::Publish { exchange: exchange.into(), routing_key: routing_key.into(), ..Default::default() };
    Method::from(publish).write_frame(1, &mut octets);
    let header =
        ContentHeader { class_id: basic::CLASS_ID, body_octets: body_octets as u64, property_octets };
    write_frame(FrameKind::Header, 1, &mut octets, |out| header.encode(out));
    write_body_frames(1, &vec![b'b'; body_octets], FRAME_OCTETS_MAX, &mut octets);
    octets
}

/// The frame of an acknowledgement of one delivery.
pub fn ack(delivery_tag: u64, out: &mut Vec<u8>) {
    Method::from(basic::Ack { delivery_tag, multiple: false }).write_frame(1, out);
}

/// Publishes, one after the other, until a read of so many octets is full; and how many it holds.
#[must_use]
pub fn read_of(publishes: &[Vec<u8>], octets_max: usize) -> (Vec<u8>, usize) {
    let mut octets = Vec::new();
    let mut count = 0;
    for publish in publishes.iter().cycle() {
        if octets.len() + publish.len() > octets_max {
            break;
        }
        octets.extend_from_slice(publish);
        count += 1;
    }
    (octets, count)
}
