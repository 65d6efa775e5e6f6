//! What it costs to make calls of the octets that a socket brought.
//!
//! A read of 128 KiB full of the same frames goes through a session as the engine takes it.
//! Leaves out what the engine then does. Invariant: every frame becomes the call it should.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leveret_broker::session::{Call, Offer, Session};
use leveret_path::client::{ack, publish, read_of};
use leveret_wire::{
    Method, TableBuf,
    method::{LongStr, channel, connection},
};

const READ_OCTETS: usize = 128 * 1024;
const FRAME_OCTETS_MAX: u32 = 131_072;
const MESSAGE_OCTETS_MAX: u64 = 128 << 20;

type Open = Session<(), ()>;

/// A session in which channel 1 is open.
fn open_session() -> Open {
    let offer = Offer {
        channel_max: 2047,
        frame_max: FRAME_OCTETS_MAX,
        heartbeat_seconds: 0,
        server_properties: TableBuf::new(),
    };
    let mut session = Open::new(offer, MESSAGE_OCTETS_MAX);
    let mut said = Vec::new();
    assert_eq!(calls(&mut session, b"AMQP\0\0\x09\x01"), 0);
    let login = connection::StartOk {
        mechanism: "PLAIN".into(),
        response: LongStr(b"\0guest\0guest"),
        ..Default::default()
    };
    assert_eq!(calls(&mut session, &frame(0, login)), 1);
    session.accept_login(&mut said);
    let tune = connection::TuneOk { channel_max: 2047, frame_max: FRAME_OCTETS_MAX, heartbeat_seconds: 0 };
    assert_eq!(calls(&mut session, &frame(0, tune)), 0);
    let open = connection::Open { virtual_host: "/".into(), ..Default::default() };
    assert_eq!(calls(&mut session, &frame(0, open)), 1);
    session.accept_open(&mut said);
    assert_eq!(calls(&mut session, &frame(1, channel::Open::default())), 1);
    session
}

fn frame<'m>(channel: u16, method: impl Into<Method<'m>>) -> Vec<u8> {
    let mut octets = Vec::new();
    method.into().write_frame(channel, &mut octets);
    octets
}

/// How many calls are in these octets.
fn calls(session: &mut Open, octets: &[u8]) -> usize {
    let (mut at, mut calls) = (0, 0);
    let mut said = Vec::new();
    while let Some((taken, call)) = session.next(&octets[at..], &mut said).expect("the octets are right") {
        at += taken;
        calls += usize::from(call.is_some());
    }
    assert_eq!(at, octets.len(), "everything is taken");
    calls
}

/// How many messages are published, and with how many octets, in these octets.
fn published(session: &mut Open, octets: &[u8]) -> (usize, usize) {
    let (mut at, mut messages, mut body_octets) = (0, 0, 0);
    let mut said = Vec::new();
    while let Some((taken, call)) = session.next(&octets[at..], &mut said).expect("the octets are right") {
        at += taken;
        if let Some(Call::Publish(publish)) = call {
            messages += 1;
            body_octets += publish.body.len();
        }
    }
    (messages, body_octets)
}

fn decode_publishes(c: &mut Criterion, name: &str, size: usize) {
    let (octets, count) = read_of(&[publish("amq.topic", "host1.app1.error", size)], READ_OCTETS);
    let mut session = open_session();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let found = published(&mut session, &octets);
            assert_eq!(found, (count, count * size));
        });
    });
}

fn decode(c: &mut Criterion) {
    decode_publishes(c, "publish, 16 B", 16);
    decode_publishes(c, "publish, 1 KiB", 1024);
    let mut octets = Vec::new();
    (1..=1000).for_each(|delivery_tag| ack(delivery_tag, &mut octets));
    let mut session = open_session();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("ack", |bencher| bencher.iter(|| assert_eq!(calls(&mut session, &octets), 1000)));
}

criterion_group!(benches, decode);
criterion_main!(benches);
