//! A client's side of a connection, from the protocol header on, against the whole engine.
//!
//! The broker must say whole frames, come to rest, hold memory in proportion to what it heard,
//! and keep nothing of the connection once its socket is gone.

#![no_main]

use std::sync::Arc;

use leveret_broker::Now;
use leveret_broker::engine::{Config, Connection, Engine, Entropy, Peer, Reading, Wake};
use leveret_fuzz::{check_said, within};
use leveret_wire::{FRAME_END, FRAME_OVERHEAD_OCTETS, ProtocolHeader};
use libfuzzer_sys::fuzz_target;

/// An engine with a connection and a first chunk of messages, and a turn's output.
const ALLOCATED_OCTETS_MAX: u64 = 2 * 1024 * 1024;
/// A queue costs some hundred octets and is had for 20.
const ALLOCATED_FOR_EACH_OCTET_MAX: u64 = 256;

fuzz_target!(|octets: &[u8]| {
    let octets_max = ALLOCATED_OCTETS_MAX + ALLOCATED_FOR_EACH_OCTET_MAX * octets.len() as u64;
    within(octets_max, || talk(octets));
});

/// Counts up: names that the server gives are told apart.
struct Counting(u8);

impl Entropy for Counting {
    fn fill(&mut self, octets: &mut [u8]) {
        self.0 = self.0.wrapping_add(1);
        octets.fill(self.0);
    }
}

struct Unheeded;

impl Wake for Unheeded {
    fn wake(&self) {}
}

fn talk(octets: &[u8]) {
    let config = Config { message_octets_max: 4096, ..Config::default() };
    let engine = Engine::new(config, Box::new(Counting(0)));
    let mut client = Client::new(&engine);
    client.talk(octets);
    client.hang_up();
    drop(client);
    assert_eq!(engine.connection_count(), 0);
}

/// A stream that ends with a frame comes frame by frame, so that its acknowledgements find their
/// deliveries, and any other in pieces whose size is in its last octet.
fn next_piece_octets(rest: &[u8], last: Option<u8>) -> usize {
    let octets = match (last, rest) {
        (Some(FRAME_END), [b'A', ..]) => ProtocolHeader::OCTETS,
        (Some(FRAME_END), [_, _, _, s0, s1, s2, s3, ..]) => {
            u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize + FRAME_OVERHEAD_OCTETS
        }
        _ => 1 + 16 * usize::from(last.unwrap_or_default()),
    };
    octets.min(rest.len())
}

struct Client {
    connection: Connection,
    now: Now,
}

impl Client {
    fn new(engine: &Arc<Engine>) -> Self {
        let peer = Peer { name: "127.0.0.1:1 -> 127.0.0.1:2".to_owned(), is_loopback: true };
        let now = Now { monotonic_millis: 1, wall_millis: 1_700_000_000_000 };
        Self { connection: Connection::new(engine, peer, Box::new(Unheeded), now), now }
    }

    fn talk(&mut self, octets: &[u8]) {
        let (mut start, mut heard) = (0, 0);
        while !self.connection.is_finished() {
            self.wait_until_read();
            let taken = self.connection.receive(&octets[start..heard], self.now);
            assert!(taken <= heard - start);
            start += taken;
            if taken > 0 || self.go_on() {
                continue;
            }
            if heard == octets.len() {
                return;
            }
            heard += next_piece_octets(&octets[heard..], octets.last().copied());
        }
    }

    fn wait_until_read(&mut self) {
        if let Reading::From { monotonic_millis } = self.connection.reading() {
            self.now.monotonic_millis = monotonic_millis;
        }
    }

    /// A turn without input; false when nothing came of it.
    fn go_on(&mut self) -> bool {
        let more = self.connection.advance(self.now);
        let said: Vec<u8> = self.connection.output().parts().flatten().copied().collect();
        assert_eq!(said.len(), self.connection.output().len());
        check_said(&said);
        self.connection.sent(said.len(), self.now);
        if said == ProtocolHeader::SUPPORTED {
            assert!(self.connection.is_finished(), "a peer with another protocol was kept waiting");
        }
        more || !said.is_empty()
    }

    /// The socket goes, and what the connection had is given back in a bounded number of turns.
    fn hang_up(&mut self) {
        self.connection.disconnect(self.now);
        while self.go_on() {}
        assert!(self.connection.is_finished());
    }
}
