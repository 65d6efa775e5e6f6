//! What a restart keeps of messages that came back to a quorum queue: how often, and the mark; and that
//! it keeps the transient ones as well.

mod client;
#[path = "../src/store/disk_tests.rs"]
mod disk_tests;
mod store_lab;

use std::sync::Arc;

use client::names;
use disk_tests::MemoryDisk;
use leveret_broker::{
    engine::Store,
    store::{Disk, DiskFile, recovery::Damage},
};
use leveret_wire::{
    Method, TableBuf, Value,
    method::{basic, queue},
};
use store_lab::{Got, Lab};

/// A queue that counts and buries what came back more than twice in the queue `letters`.
fn declare(lab: &mut Lab) {
    lab.declare("letters");
    let arguments = TableBuf::new()
        .with("x-queue-type", Value::LongStr(b"quorum"))
        .with("x-delivery-limit", Value::I32(2))
        .with("x-dead-letter-exchange", Value::LongStr(b""))
        .with("x-dead-letter-routing-key", Value::LongStr(b"letters"));
    let arguments = arguments.as_table();
    let declare = queue::Declare { queue: "q".into(), durable: true, arguments, ..Default::default() };
    assert_eq!(names(&lab.call(declare)), ["QueueDeclareOk"]);
}

/// What is taken from the queue: number, count of returns, redelivered.
fn take(lab: &mut Lab) -> Option<(u32, i64, bool)> {
    let Got { number, delivery_count, redelivered, .. } = lab.get_held("q")?;
    Some((number, delivery_count.expect("a quorum queue counts"), redelivered))
}

fn requeue_all(lab: &mut Lab) {
    let nack = basic::Nack { delivery_tag: 0, multiple: true, requeue: true };
    assert_eq!(names(&lab.call(Method::from(nack))), [] as [&str; 0]);
}

/// A broker on what is on disk after a kill.
fn killed(disk: &MemoryDisk) -> (Lab, Arc<MemoryDisk>) {
    let disk = Arc::new(disk.copied());
    let (lab, damage) = Lab::start(&disk);
    assert_eq!(damage, Damage::default());
    (lab, disk)
}

fn started() -> (Lab, Arc<MemoryDisk>) {
    let (mut lab, disk) = killed(&MemoryDisk::default());
    declare(&mut lab);
    lab.publish("q", 0..3);
    (lab, disk)
}

#[test]
fn what_came_back_is_counted_and_marked_behind_a_kill() {
    let (mut lab, disk) = started();
    assert_eq!((take(&mut lab), take(&mut lab)), (Some((0, 0, false)), Some((1, 0, false))));
    requeue_all(&mut lab);
    assert_eq!(take(&mut lab), Some((0, 1, true)));
    requeue_all(&mut lab);
    lab.sync();
    // Once from the journal, and once from the snapshot that the start wrote.
    for _ in 0..2 {
        let (mut lab, _) = killed(&disk);
        assert_eq!([take(&mut lab), take(&mut lab)], [Some((0, 2, true)), Some((1, 1, true))]);
        assert_eq!([take(&mut lab), take(&mut lab)], [Some((2, 0, false)), None]);
        drop(Lab::start(&disk));
    }
}

#[test]
fn the_delivery_limit_goes_on_where_it_was() {
    let (mut lab, disk) = started();
    for _ in 0..2 {
        assert_eq!(take(&mut lab).map(|taken| taken.0), Some(0));
        requeue_all(&mut lab);
    }
    lab.sync();
    let (mut lab, disk) = killed(&disk);
    assert_eq!(take(&mut lab), Some((0, 2, true)));
    requeue_all(&mut lab);
    lab.sync();
    let (mut lab, _) = killed(&disk);
    assert_eq!((take(&mut lab), lab.drain("letters")), (Some((1, 0, false)), vec![0]));
}

#[test]
fn what_was_handed_out_at_a_stop_came_back() {
    let (mut lab, disk) = started();
    assert_eq!((take(&mut lab), take(&mut lab)), (Some((0, 0, false)), Some((1, 0, false))));
    lab.client.connection.disconnect(client::Client::NOW);
    while lab.client.connection.advance(client::Client::NOW) {}
    lab.stop();
    let (mut lab, _) = killed(&disk);
    let taken = [take(&mut lab), take(&mut lab), take(&mut lab)];
    assert_eq!(taken, [Some((0, 1, true)), Some((1, 1, true)), Some((2, 0, false))]);
}

#[test]
fn what_one_behind_was_taken_before_came_back_by_a_kill() {
    let (mut lab, disk) = started();
    assert_eq!(take(&mut lab), Some((0, 0, false)));
    assert_eq!(lab.get("q"), Some(1));
    lab.sync();
    let (mut lab, disk) = killed(&disk);
    assert_eq!([take(&mut lab), take(&mut lab)], [Some((0, 1, true)), Some((2, 0, false))]);
    requeue_all(&mut lab);
    lab.sync();
    let (mut lab, _) = killed(&disk);
    assert_eq!([take(&mut lab), take(&mut lab)], [Some((0, 2, true)), Some((2, 1, true))]);
}

#[test]
fn what_left_is_not_remembered() {
    let (mut lab, disk) = started();
    assert_eq!(take(&mut lab), Some((0, 0, false)));
    requeue_all(&mut lab);
    assert_eq!(lab.get("q"), Some(0));
    let purge = queue::Purge { queue: "q".into(), ..Default::default() };
    assert_eq!(names(&lab.call(purge)), ["QueuePurgeOk"]);
    lab.publish("q", 7..8);
    let (mut lab, _) = killed(&disk);
    assert_eq!([take(&mut lab), take(&mut lab)], [Some((7, 0, false)), None]);
}

#[test]
fn quorum_queues_and_streams_keep_transient_messages() {
    let (mut lab, disk) = started();
    let of_type = TableBuf::new().with("x-queue-type", Value::LongStr(b"stream"));
    let arguments = of_type.as_table();
    let declare = queue::Declare { queue: "stream".into(), durable: true, arguments, ..Default::default() };
    assert_eq!(names(&lab.call(declare)), ["QueueDeclareOk"]);
    lab.declare("classic");
    for queue in ["q", "stream", "classic"] {
        let bind = queue::Bind { queue: queue.into(), exchange: "amq.fanout".into(), ..Default::default() };
        assert_eq!(names(&lab.call(bind)), ["QueueBindOk"]);
    }
    // One message in all three, and one in each.
    lab.publish_transient("amq.fanout", "", 10);
    for (queue, number) in [("q", 11), ("stream", 12), ("classic", 13)] {
        lab.publish_transient("", queue, number);
    }
    let (mut lab, disk) = killed(&disk);
    assert_eq!(lab.drain("classic"), []);
    assert_eq!(lab.drain("q"), [0, 1, 2, 10, 11]);
    let report = Store::check(&*disk).unwrap();
    let count = |name: &str| report.queues.iter().find(|queue| queue.name == name).unwrap().messages.count;
    assert_eq!((count("stream"), count("classic")), (2, 0));
}
