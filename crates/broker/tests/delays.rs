//! Delayed messages on a folder: what was confirmed waits on behind a restart.

mod client;
#[path = "../src/store/disk_tests.rs"]
mod disk_tests;
mod store_lab;

use std::sync::Arc;

use leveret_broker::{
    Now,
    engine::House,
    store::{Disk, DiskFile, recovery::Damage},
};
use leveret_wire::{
    ContentHeader, FrameKind, Method, Properties, TableBuf, Value,
    method::{basic, exchange, queue},
    write_body_frames, write_frame,
};

use client::{Client, FRAME_OCTETS_MAX, Unheeded, names};
use disk_tests::MemoryDisk;
use store_lab::Lab;

const DELAY_MILLIS: i32 = 5_000;

/// A durable exchange that delays, and a durable queue that it leads to.
fn declare(lab: &mut Lab) {
    declare_exchange(lab);
    lab.declare("q");
    let bind = queue::Bind { queue: "q".into(), exchange: "later".into(), ..Default::default() };
    assert_eq!(names(&lab.call(bind)), ["QueueBindOk"]);
}

fn declare_exchange(lab: &mut Lab) {
    let arguments = TableBuf::new().with("x-delayed-type", Value::LongStr(b"fanout"));
    let declare = exchange::Declare {
        exchange: "later".into(),
        kind: "x-delayed-message".into(),
        durable: true,
        arguments: arguments.as_table(),
        ..Default::default()
    };
    assert_eq!(names(&lab.call(declare)), ["ExchangeDeclareOk"]);
}

/// Publishes one message that waits.
fn publish(lab: &mut Lab, number: u32, delivery_mode: u8) {
    let mut octets = Vec::new();
    let publish = basic::Publish { exchange: "later".into(), ..Default::default() };
    Method::from(publish).write_frame(1, &mut octets);
    let headers = TableBuf::new().with("x-delay", Value::I32(DELAY_MILLIS));
    let mut property_octets = Vec::new();
    let headers = Some(headers.as_table());
    Properties { delivery_mode: Some(delivery_mode), headers, ..Default::default() }
        .encode(&mut property_octets);
    let header =
        ContentHeader { class_id: basic::CLASS_ID, body_octets: 4, property_octets: &property_octets };
    write_frame(FrameKind::Header, 1, &mut octets, |out| header.encode(out));
    write_body_frames(1, &number.to_be_bytes(), FRAME_OCTETS_MAX, &mut octets);
    assert_eq!(lab.client.send(&octets), []);
}

/// Lets so much time pass since the start, and what is due come.
fn pass(lab: &Lab, millis: i32) {
    let mut house = House::new(&lab.client.engine, Box::new(Unheeded));
    let millis = u64::from(millis.unsigned_abs());
    let now = Now {
        monotonic_millis: Client::NOW.monotonic_millis + millis,
        wall_millis: Client::NOW.wall_millis + millis,
    };
    while house.advance(now) {}
}

#[test]
fn a_message_waits_on_behind_a_crash_and_comes_once() {
    let disk = Arc::<MemoryDisk>::default();
    let (mut lab, _) = Lab::start(&disk);
    declare(&mut lab);
    publish(&mut lab, 1, 2);
    publish(&mut lab, 2, 1);
    publish(&mut lab, 3, 2);
    lab.sync();
    // Nothing is put in order, as after a crash.
    let (mut lab, damage) = Lab::start(&disk);
    assert_eq!(damage, Damage::default());
    pass(&lab, DELAY_MILLIS - 1);
    assert_eq!(lab.drain("q"), []);
    pass(&lab, DELAY_MILLIS);
    assert_eq!(lab.drain("q"), [1, 2, 3], "the second one is transient, and waited as the others did");
    lab.sync();
    let (mut lab, _) = Lab::start(&disk);
    pass(&lab, DELAY_MILLIS);
    assert_eq!(lab.drain("q"), []);
}

#[test]
fn it_waits_on_behind_several_restarts_and_retired_segments() {
    let disk = Arc::<MemoryDisk>::default();
    let (mut lab, _) = Lab::start(&disk);
    declare(&mut lab);
    lab.declare("other");
    let mut wanted = Vec::new();
    for round in 0..3 {
        publish(&mut lab, round, 2);
        wanted.push(round);
        // Segments fill up with what does not live, and are retired.
        lab.publish("other", 0..2_000);
        assert_eq!(lab.drain("other").len(), 2_000);
        lab.sync();
        if round == 1 {
            lab.stop();
        }
        lab = Lab::start(&disk).0;
    }
    pass(&lab, DELAY_MILLIS);
    assert_eq!(lab.drain("q"), wanted);
}

#[test]
fn what_waits_outlives_its_exchange_and_a_line_that_is_not_needed_goes() {
    let disk = Arc::<MemoryDisk>::default();
    let (mut lab, _) = Lab::start(&disk);
    declare(&mut lab);
    publish(&mut lab, 1, 2);
    let delete = || exchange::Delete { exchange: "later".into(), ..Default::default() };
    assert_eq!(names(&lab.call(delete())), ["ExchangeDeleteOk"]);
    let (mut lab, _) = Lab::start(&disk);
    declare(&mut lab);
    pass(&lab, DELAY_MILLIS);
    assert_eq!(lab.drain("q"), [1], "there is an exchange of that name again");
    assert_eq!(names(&lab.call(delete())), ["ExchangeDeleteOk"]);
    lab.stop();
    let report = || leveret_broker::engine::Store::check(&*disk).unwrap();
    let lines = || report().queues.iter().filter(|queue| queue.name.contains("later")).count();
    assert_eq!(lines(), 1);
    Lab::start(&disk).0.stop();
    assert_eq!(lines(), 0);
}

#[test]
fn a_confirm_waits_for_the_disk() {
    let disk = Arc::<MemoryDisk>::default();
    let (mut lab, _) = Lab::start(&disk);
    declare(&mut lab);
    assert_eq!(
        names(&lab.call(leveret_wire::method::confirm::Select { nowait: false })),
        ["ConfirmSelectOk"]
    );
    publish(&mut lab, 1, 2);
    assert_eq!(names(&lab.sync()), ["BasicAck"], "and not when it was published");
}
