//! A broker on a folder in memory, whose workers work when they are told to.
#![allow(dead_code, reason = "each test uses its part of it")]

use std::sync::Arc;

use leveret_broker::{
    engine::{Config, Engine, Loader, Reading, Retirer, Store, SyncBell, Syncer},
    store::recovery::Damage,
};
use leveret_wire::{
    ContentHeader, FrameKind, Method, Properties, Value, decode_frame,
    method::{basic, queue},
    write_body_frames, write_frame,
};

use crate::{
    client::{Client, FRAME_OCTETS_MAX, Unheeded, Zeros, names},
    disk_tests::MemoryDisk,
};

impl SyncBell for Unheeded {
    fn appended(&self) {}
    fn awaited(&self) {}
}

/// A message that was taken and is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) number: u32,
    pub(crate) redelivered: bool,
    /// How often it came back, if its queue says so.
    pub(crate) delivery_count: Option<i64>,
}

/// A broker on a folder in memory.
pub(crate) struct Lab {
    pub(crate) client: Client,
    loader: Loader,
    pub(crate) syncer: Syncer,
    pub(crate) retirer: Retirer,
}

impl Lab {
    pub(crate) fn start(disk: &Arc<MemoryDisk>) -> (Self, Damage) {
        let store = Store::open(Arc::<MemoryDisk>::clone(disk)).expect("it always starts");
        let engine = Engine::open_with(Config::default(), Box::new(Zeros), Client::NOW, Some(&store))
            .expect("it always starts");
        let loader = Loader::new(&engine, Box::new(Unheeded));
        let syncer = Syncer::new(&engine, Box::new(Unheeded)).expect("there is a store");
        let retirer = Retirer::new(&engine, Box::new(Unheeded)).expect("there is a store");
        let damage = store.damage().clone();
        (
            Self { client: Client::on(&engine), loader, syncer: syncer.with_segments_of(64 * 1024), retirer },
            damage,
        )
    }

    pub(crate) fn sync(&mut self) -> Vec<u8> {
        self.syncer.advance().unwrap();
        self.retirer.advance().unwrap();
        self.client.send(&[])
    }

    pub(crate) fn call<'m>(&mut self, method: impl Into<Method<'m>>) -> Vec<u8> {
        let mut said = self.client.call(1, method);
        said.extend(self.sync());
        said
    }

    pub(crate) fn declare(&mut self, queue: &str) {
        let declare = queue::Declare { queue: queue.into(), durable: true, ..Default::default() };
        assert_eq!(names(&self.call(declare)), ["QueueDeclareOk"]);
    }

    pub(crate) fn publish(&mut self, queue: &str, numbers: std::ops::Range<u32>) {
        numbers.for_each(|number| self.send("", queue, number, 2));
        self.sync();
    }

    /// Publishes one message to an exchange.
    pub(crate) fn publish_to(&mut self, exchange: &str, routing_key: &str, number: u32) {
        self.send(exchange, routing_key, number, 2);
        self.sync();
    }

    /// Publishes one message that is not to last.
    pub(crate) fn publish_transient(&mut self, exchange: &str, routing_key: &str, number: u32) {
        self.send(exchange, routing_key, number, 1);
        self.sync();
    }

    fn send(&mut self, exchange: &str, routing_key: &str, number: u32, delivery_mode: u8) {
        let mut octets = Vec::new();
        let publish = basic::Publish {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            ..Default::default()
        };
        Method::from(publish).write_frame(1, &mut octets);
        let body = number.to_be_bytes();
        let mut property_octets = Vec::new();
        Properties { delivery_mode: Some(delivery_mode), ..Default::default() }.encode(&mut property_octets);
        let header =
            ContentHeader { class_id: basic::CLASS_ID, body_octets: 4, property_octets: &property_octets };
        write_frame(FrameKind::Header, 1, &mut octets, |out| header.encode(out));
        write_body_frames(1, &body, FRAME_OCTETS_MAX, &mut octets);
        assert_eq!(self.client.send(&octets), []);
    }

    /// A message's number; `None` when there is none.
    pub(crate) fn get(&mut self, queue: &str) -> Option<u32> {
        self.take(queue, true).map(|got| got.number)
    }

    /// A message that is held from then on.
    pub(crate) fn get_held(&mut self, queue: &str) -> Option<Got> {
        self.take(queue, false)
    }

    fn take(&mut self, queue: &str, no_ack: bool) -> Option<Got> {
        let get = basic::Get { queue: queue.into(), no_ack, ..Default::default() };
        let mut said = self.client.call(1, get);
        while said.is_empty() {
            assert_eq!(self.client.connection.reading(), Reading::Paused);
            while self.loader.advance(Client::NOW) {}
            said = self.client.send(&[]);
        }
        got(&said)
    }

    pub(crate) fn has(&mut self, queue: &str) -> bool {
        let passive = queue::Declare { queue: queue.into(), passive: true, ..Default::default() };
        let is_there = names(&self.client.call(1, passive)) == ["QueueDeclareOk"];
        if !is_there {
            self.client = Client::on(&self.client.engine);
        }
        is_there
    }

    pub(crate) fn drain(&mut self, queue: &str) -> Vec<u32> {
        if self.has(queue) { std::iter::from_fn(|| self.get(queue)).collect() } else { Vec::new() }
    }

    /// As a broker that is told to stop.
    pub(crate) fn stop(mut self) {
        self.syncer.finish().unwrap();
        self.retirer.finish().unwrap();
    }
}

fn got(said: &[u8]) -> Option<Got> {
    let (mut redelivered, mut delivery_count) = (None, None);
    let mut rest = said;
    while let Some((frame, octets)) = decode_frame(rest, FRAME_OCTETS_MAX).unwrap() {
        match frame.kind {
            FrameKind::Method => {
                if let Method::BasicGetOk(ok) = Method::decode(frame.payload).unwrap() {
                    redelivered = Some(ok.redelivered);
                }
            }
            FrameKind::Header => {
                let header = ContentHeader::decode(frame.payload).unwrap();
                let headers = Properties::decode(header.property_octets).unwrap().headers;
                let count = headers.and_then(|headers| headers.find("x-delivery-count"));
                delivery_count = count.map(|count| match count {
                    Value::I64(count) => count,
                    other => panic!("a count is no {other:?}"),
                });
            }
            FrameKind::Body => {
                let number = u32::from_be_bytes(frame.payload.try_into().expect("a body is as it was"));
                return Some(Got { number, redelivered: redelivered?, delivery_count });
            }
            FrameKind::Heartbeat => {}
        }
        rest = &rest[octets..];
    }
    None
}
