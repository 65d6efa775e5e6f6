//! Data folders of every version of the format are read, from ones that were kept.
//!
//! `cargo test -p leveret-broker --test versions -- --ignored` writes the folder of the version that there
//! is; once it is kept, it is not written again.

#![allow(clippy::disallowed_methods, reason = "kept folders are files")]

mod client;
#[path = "../src/store/disk_tests.rs"]
mod disk_tests;
mod store_lab;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use client::names;
use disk_tests::MemoryDisk;
use leveret_broker::store::{Disk, DiskFile, recovery::Damage};
use leveret_wire::{
    Method, Table, TableBuf, Value,
    method::{basic, exchange, queue},
};
use store_lab::Lab;

/// Each queue and its arguments.
fn queues() -> [(&'static str, TableBuf); 4] {
    let arguments = |pairs: &[(&str, Value<'_>)]| {
        let mut table = TableBuf::new();
        pairs.iter().for_each(|(name, value)| table.push(name, *value));
        table
    };
    let of_type = |name: &'static str| arguments(&[("x-queue-type", Value::LongStr(name.as_bytes()))]);
    [
        ("classic", TableBuf::new()),
        ("limited", arguments(&[("x-max-length", Value::I32(100)), ("x-message-ttl", Value::I32(i32::MAX))])),
        ("priority", arguments(&[("x-max-priority", Value::I32(3))])),
        ("quorum", of_type("quorum")),
    ]
}

fn declare(lab: &mut Lab, name: &str, arguments: Table<'_>) {
    let declare = queue::Declare { queue: name.into(), durable: true, arguments, ..Default::default() };
    assert_eq!(names(&lab.call(declare)), ["QueueDeclareOk"], "{name}");
}

fn folder(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/store-{version}"))
}

/// Takes so many messages of the queue that counts it, and puts them back.
fn put_back(lab: &mut Lab, messages: u32) {
    (0..messages).for_each(|_| assert!(lab.get_held("quorum").is_some()));
    let nack = basic::Nack { delivery_tag: 0, multiple: true, requeue: true };
    assert_eq!(names(&lab.call(Method::from(nack))), [] as [&str; 0]);
}

/// What every kept folder has: messages 0 to 3 on pages and 4 to 7 in the journal, the first two gone.
/// From version 2 on, those on the quorum queue's pages came back once, and the first of them that is left
/// once more.
fn write_sample() -> MemoryDisk {
    let disk = Arc::new(MemoryDisk::default());
    let (mut lab, _) = Lab::start(&disk);
    let exchange = exchange::Declare {
        exchange: "logs".into(),
        kind: "topic".into(),
        durable: true,
        ..Default::default()
    };
    assert_eq!(names(&lab.call(exchange)), ["ExchangeDeclareOk"]);
    for (name, arguments) in queues() {
        declare(&mut lab, name, arguments.as_table());
        lab.publish(name, 0..4);
    }
    let (source, key) = ("logs".into(), "kern.*".into());
    let bind =
        queue::Bind { queue: "classic".into(), exchange: source, routing_key: key, ..Default::default() };
    assert_eq!(names(&lab.call(bind)), ["QueueBindOk"]);
    put_back(&mut lab, 4);
    lab.stop();
    let (mut lab, _) = Lab::start(&disk);
    for (name, _) in queues() {
        lab.publish(name, 4..8);
        assert_eq!([lab.get(name), lab.get(name)], [Some(0), Some(1)]);
    }
    put_back(&mut lab, 1);
    lab.sync();
    disk.copied()
}

fn read(version: u32) -> Arc<MemoryDisk> {
    let disk = MemoryDisk::default();
    for entry in fs::read_dir(folder(version)).unwrap() {
        let path = entry.unwrap().path();
        let file = disk.create(path.file_name().unwrap().to_str().unwrap()).unwrap();
        file.write_at(&fs::read(path).unwrap(), 0).unwrap();
    }
    Arc::new(disk)
}

/// `counts` is how often the first three messages of the quorum queue came back.
fn check(version: u32, counts: [i64; 3]) {
    let (mut lab, damage) = Lab::start(&read(version));
    let told = counts.map(|_| lab.get_held("quorum").and_then(|got| got.delivery_count));
    assert_eq!(told, counts.map(Some));
    let (mut lab, _) = Lab::start(&read(version));
    assert_eq!(damage, Damage::default());
    for (name, arguments) in queues() {
        // It is the same queue, or the declaration would be refused.
        declare(&mut lab, name, arguments.as_table());
        assert_eq!(lab.drain(name), Vec::from_iter(2..8), "{name}");
    }
    lab.publish_to("logs", "kern.info", 9);
    lab.publish_to("logs", "user.info", 10);
    assert_eq!(lab.drain("classic"), [9]);
}

#[test]
fn version_1_is_read() {
    check(1, [0, 0, 0]);
}

#[test]
fn version_2_is_read() {
    check(2, [2, 1, 0]);
}

#[test]
#[ignore = "it writes the folder that the others read"]
fn the_folder_of_this_version_is_written() {
    let folder = folder(2);
    fs::create_dir(&folder).expect("what is kept is not written again");
    let disk = write_sample();
    for name in disk.list().unwrap() {
        let file = disk.open(&name).unwrap();
        let mut octets = vec![0; usize::try_from(file.octets().unwrap()).unwrap()];
        file.read_at(&mut octets, 0).unwrap();
        fs::write(folder.join(name), octets).unwrap();
    }
}
