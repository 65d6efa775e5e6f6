//! A data folder looked over, copied while its broker runs, and salvaged when it is damaged.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, options::*, types::FieldTable};
use leveret::Broker;
use serde_json::Value;

use crate::tool::{Ended, Tool};

/// Bodies are that long, so that a page has several sectors.
const BODY_OCTETS: usize = 1000;

fn store(command: &str, folders: &[&Path]) -> Ended {
    Tool::new("store").arg(command).args(folders).start().end()
}

fn check(folder: &Path) -> (i32, Value) {
    let ended = Tool::new("store").arg("check").arg(folder).args(["-o", "json"]).start().end();
    let report = serde_json::from_slice(&ended.stdout).expect("one JSON object");
    (ended.status.code().expect("it ended by itself"), report)
}

/// A broker on that folder, and a channel with confirms to it.
async fn start(folder: &Path) -> (Broker, Channel) {
    let broker = Broker::builder().data(folder).start().await.unwrap();
    let connection = Connection::connect(&broker.amqp_uri(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (broker, channel)
}

async fn declare(channel: &Channel, queue: &str) {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
}

async fn publish(channel: &Channel, queue: &str, numbers: std::ops::Range<u8>) {
    for number in numbers {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let body = vec![number; BODY_OCTETS];
        let confirm =
            channel.basic_publish("".into(), queue.into(), options, &body, properties).await.unwrap();
        assert!(confirm.await.unwrap().is_ack());
    }
}

async fn drain(channel: &Channel, queue: &str) -> Vec<u8> {
    let mut numbers = Vec::new();
    let options = BasicGetOptions { no_ack: true };
    while let Some(got) = channel.basic_get(queue.into(), options).await.unwrap() {
        numbers.push(got.delivery.data[0]);
    }
    numbers
}

fn pages(folder: &Path) -> PathBuf {
    let mut entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_pages = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("pages-");
    entries.find(is_pages).expect("messages were brought to pages")
}

#[tokio::test]
async fn a_folder_is_looked_over_and_copied_while_its_broker_runs() {
    let parent = tempfile::tempdir().unwrap();
    let [folder, copy] = ["data", "copy"].map(|name| parent.path().join(name));
    let (broker, channel) = start(&folder).await;
    declare(&channel, "one").await;
    publish(&channel, "one", 0..20).await;
    assert_eq!(drain_some(&channel, "one", 5).await, [0, 1, 2, 3, 4]);
    // What left is on disk with what is confirmed behind it.
    publish(&channel, "one", 20..30).await;
    let (code, report) = check(&folder);
    assert_eq!((code, &report["whole"]), (0, &Value::Bool(true)), "{report}");
    assert_eq!(report["in_use_by"], std::process::id());
    let queue = &report["queues"][0];
    assert_eq!((&queue["vhost"], &queue["name"]), (&"/".into(), &"one".into()));
    assert_eq!((&queue["messages"], &queue["message_bytes"]), (&25.into(), &25_000.into()));
    store("backup", &[&folder, &copy]).expect_code(0).said("1 queues with 25 messages");
    publish(&channel, "one", 30..31).await;
    broker.shutdown().await;
    let (broker, channel) = start(&copy).await;
    assert_eq!(drain(&channel, "one").await, Vec::from_iter(5..30));
    broker.shutdown().await;
    let (broker, channel) = start(&folder).await;
    assert_eq!(drain(&channel, "one").await, Vec::from_iter(5..31), "the folder is as it was");
    broker.shutdown().await;
}

async fn drain_some(channel: &Channel, queue: &str, count: usize) -> Vec<u8> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        let options = BasicGetOptions { no_ack: true };
        let got = channel.basic_get(queue.into(), options).await.unwrap();
        numbers.push(got.expect("it is there").delivery.data[0]);
    }
    numbers
}

#[tokio::test]
async fn what_is_whole_of_a_damaged_folder_is_salvaged() {
    let parent = tempfile::tempdir().unwrap();
    let [folder, salvaged] = ["data", "salvaged"].map(|name| parent.path().join(name));
    let (broker, channel) = start(&folder).await;
    for queue in ["one", "two"] {
        declare(&channel, queue).await;
        publish(&channel, queue, 0..20).await;
    }
    broker.shutdown().await;
    let damaged = pages(&folder);
    // Queues stand one behind the other in it, "one" first.
    let file = OpenOptions::new().write(true).open(&damaged).unwrap();
    file.write_all_at(b"changed", 5000).unwrap();
    let ended = store("check", &[&folder, "--salvage".as_ref(), &salvaged]).expect_code(14);
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(said.contains("damaged: 20 messages of 1 queue are lost"), "{said}");
    assert!(said.contains(damaged.file_name().unwrap().to_str().unwrap()), "{said}");
    let lines: Vec<Vec<_>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    for wanted in [["/", "one", "0", "0", "B", "20"], ["/", "two", "20", "19.5", "KiB", "0"]] {
        assert!(lines.iter().any(|line| line[..] == wanted), "{said}");
    }
    let (code, report) = check(&salvaged);
    assert_eq!((code, &report["whole"]), (0, &Value::Bool(true)), "{report}");
    let (broker, channel) = start(&salvaged).await;
    assert_eq!(drain(&channel, "two").await, Vec::from_iter(0..20));
    assert!(drain(&channel, "one").await.is_empty());
    broker.shutdown().await;
}

#[test]
fn folders_that_are_none_or_not_empty_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let missing = parent.path().join("missing");
    store("check", &[&missing]).expect_code(13).said("is it there");
    assert!(!missing.exists(), "looking makes nothing");
    store("check", &[parent.path()]).expect_code(13).said("no broker has kept anything there");
    fs::write(parent.path().join("journal-0000000000000001"), "").unwrap();
    let full = tempfile::tempdir().unwrap();
    fs::write(full.path().join("something"), "mine").unwrap();
    store("backup", &[parent.path(), full.path()]).expect_code(13).said("there is something in the folder");
    assert_eq!(fs::read(full.path().join("something")).unwrap(), b"mine");
}
