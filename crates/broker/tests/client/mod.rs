//! A client of an engine, without a socket between them.
#![allow(dead_code, reason = "each test uses its part of it")]

use std::sync::Arc;

use leveret_broker::Now;
use leveret_broker::engine::{Config, Connection, Engine, Entropy, Peer, Wake};
use leveret_wire::method::{LongStr, channel, connection, queue};
use leveret_wire::{FrameKind, Method, TableBuf, Value, decode_frame};

/// Octets of a frame that the client agrees to.
pub(crate) const FRAME_OCTETS_MAX: u32 = 131_072;

/// The same octets in every run.
pub(crate) struct Zeros;

impl Entropy for Zeros {
    fn fill(&mut self, octets: &mut [u8]) {
        octets.fill(0);
    }
}

/// Nobody waits for it.
pub(crate) struct Unheeded;

impl Wake for Unheeded {
    fn wake(&self) {}
}

/// A client whose octets go into the engine without a socket.
pub(crate) struct Client {
    pub(crate) engine: Arc<Engine>,
    pub(crate) connection: Connection,
}

impl Client {
    pub(crate) const NOW: Now = Now { monotonic_millis: 1, wall_millis: 1 };

    pub(crate) fn new() -> Self {
        Self::of(Config::default())
    }

    fn of(config: Config) -> Self {
        Self::at(&Engine::new(config, Box::new(Zeros)))
    }

    fn at(engine: &Arc<Engine>) -> Self {
        let peer = Peer { name: "127.0.0.1:1 -> 127.0.0.1:2".to_owned(), is_loopback: true };
        let connection = Connection::new(engine, peer, Box::new(Unheeded), Self::NOW);
        Self { engine: Arc::clone(engine), connection }
    }

    /// A client with channel 1 open and a queue `q`.
    pub(crate) fn opened() -> Self {
        Self::with_message_octets_max(Config::MESSAGE_OCTETS_MAX)
    }

    /// The same with another limit of a message.
    pub(crate) fn with_message_octets_max(message_octets_max: u64) -> Self {
        Self::of(Config { message_octets_max, ..Config::default() }).with_queue()
    }

    /// Clients of one engine, each with channel 1 open and all with the queue `q`.
    pub(crate) fn several<const N: usize>(config: Config) -> [Self; N] {
        let engine = Engine::new(config, Box::new(Zeros));
        std::array::from_fn(|_| Self::at(&engine).with_queue())
    }

    /// A client that wants to be told of alarms, with channel 1 open.
    pub(crate) fn told_of_alarms(config: Config) -> Self {
        let mut client = Self::of(config);
        let blocked = TableBuf::new().with("connection.blocked", Value::Bool(true));
        let properties = TableBuf::new().with("capabilities", Value::Table(blocked.as_table()));
        client.open_as(&properties, 0);
        client
    }

    /// Another client of the same engine, with such heartbeats.
    pub(crate) fn beside(&self, heartbeat_seconds: u16) -> Self {
        Self::at(&self.engine).with_heartbeat(heartbeat_seconds)
    }

    fn with_queue(self) -> Self {
        self.with_heartbeat(0)
    }

    fn with_heartbeat(mut self, heartbeat_seconds: u16) -> Self {
        self.open(heartbeat_seconds);
        self.call(1, queue::Declare { queue: "q".into(), ..Default::default() });
        assert_eq!(self.engine.queue_count(), 1);
        self
    }

    /// A client of that engine with channel 1 open.
    pub(crate) fn on(engine: &Arc<Engine>) -> Self {
        let mut client = Self::at(engine);
        client.open(0);
        client
    }

    fn open(&mut self, heartbeat_seconds: u16) {
        self.open_as(&TableBuf::new(), heartbeat_seconds);
    }

    fn open_as(&mut self, properties: &TableBuf, heartbeat_seconds: u16) {
        let start_ok = connection::StartOk {
            client_properties: properties.as_table(),
            mechanism: "PLAIN".into(),
            response: LongStr(b"\0guest\0guest"),
            ..Default::default()
        };
        let tune_ok =
            connection::TuneOk { channel_max: 2047, frame_max: FRAME_OCTETS_MAX, heartbeat_seconds };
        self.send(b"AMQP\0\0\x09\x01");
        self.call(0, start_ok);
        self.call(0, tune_ok);
        self.call(0, connection::Open { virtual_host: "/".into(), ..Default::default() });
        self.call(1, channel::Open::default());
    }

    /// Hands the octets in, and returns what is said until there is rest.
    pub(crate) fn send(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut taken = 0;
        let mut said = Vec::new();
        loop {
            let step = self.connection.receive(&octets[taken..], Self::NOW);
            taken += step;
            let more = self.connection.advance(Self::NOW);
            said.extend(self.take_said());
            if step == 0 && !more {
                return said;
            }
        }
    }

    /// What the engine has to say so far.
    pub(crate) fn take_said(&mut self) -> Vec<u8> {
        let said = self.connection.output().parts().collect::<Vec<_>>().concat();
        self.connection.sent(said.len(), Self::NOW);
        said
    }

    pub(crate) fn call<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) -> Vec<u8> {
        let mut octets = Vec::new();
        method.into().write_frame(channel, &mut octets);
        self.send(&octets)
    }
}

/// The methods that are said in answer, by their names.
pub(crate) fn names(said: &[u8]) -> Vec<&'static str> {
    let mut names = Vec::new();
    let mut rest = said;
    while let Some((frame, octets)) = decode_frame(rest, FRAME_OCTETS_MAX).unwrap() {
        if frame.kind == FrameKind::Method {
            names.push(Method::decode(frame.payload).unwrap().name());
        }
        rest = &rest[octets..];
    }
    names
}
