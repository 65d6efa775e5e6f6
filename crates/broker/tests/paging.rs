//! Messages of long queues go to disk and come back: in order, all of them, whatever fails.

mod client;
#[path = "../src/store/disk_tests.rs"]
mod disk_tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use client::{Client, FRAME_OCTETS_MAX, Unheeded, names};
use disk_tests::MemoryDisk;
use leveret_broker::{
    engine::{Config, Loader, Reading, Spiller},
    store::{Disk, DiskFile},
};
use leveret_wire::{
    ContentHeader, FrameKind, Method, decode_frame,
    method::{basic, queue},
    write_body_frames, write_frame,
};

const KIB: usize = 1024;
const PAGING_OCTETS: usize = 64 * KIB;

/// A broker with a disk, whose workers work when they are told to.
struct Lab<const N: usize> {
    clients: [Client; N],
    disk: Arc<MemoryDisk>,
    spiller: Spiller,
    loader: Loader,
}

impl<const N: usize> Lab<N> {
    fn new() -> Self {
        let paging_octets = Some(PAGING_OCTETS as u64);
        let clients: [Client; N] = Client::several(Config { paging_octets, ..Config::default() });
        let engine = &clients[0].engine;
        let disk = Arc::new(MemoryDisk::default());
        disk.create("spill-of-an-earlier-run").unwrap();
        let spiller = Spiller::new(engine, disk.clone(), Box::new(Unheeded)).unwrap();
        assert_eq!(disk.list().unwrap(), Vec::<String>::new());
        let loader = Loader::new(engine, Box::new(Unheeded));
        Self { clients, disk, spiller, loader }
    }

    fn spill(&mut self) {
        while self.spiller.advance(Client::NOW) {}
    }

    fn load(&mut self) {
        while self.loader.advance(Client::NOW) {}
    }

    fn memory(&self) -> usize {
        usize::try_from(self.clients[0].engine.memory_octets()).unwrap()
    }

    /// Publishes messages whose bodies begin with their numbers.
    fn publish(&mut self, queue: &str, numbers: std::ops::Range<u32>, body_octets: usize) {
        for number in numbers {
            let said = self.clients[0].send(&publish(queue, number, body_octets));
            assert_eq!(names(&said), Vec::<&str>::new());
        }
    }

    /// Gets a message's number, reading pages as they are asked for; `None` when there is none.
    fn get(&mut self, queue: &str) -> Option<u32> {
        // After a long answer the connection looks again whether it was read.
        assert_eq!(self.clients[0].send(&[]), []);
        let get = basic::Get { queue: queue.into(), no_ack: true, ..Default::default() };
        let mut said = self.clients[0].call(1, get);
        while said.is_empty() {
            assert_eq!(self.clients[0].connection.reading(), Reading::Paused);
            self.load();
            said = self.clients[0].send(&[]);
        }
        numbers(&said).pop()
    }

    fn declare(&mut self, queue: &str) {
        let declare = queue::Declare { queue: queue.into(), ..Default::default() };
        assert_eq!(names(&self.clients[0].call(1, declare)), ["QueueDeclareOk"]);
    }

    fn files(&self) -> usize {
        self.disk.list().unwrap().len()
    }

    /// Nothing is left of what was there.
    fn check_empty(&mut self) {
        self.spill();
        assert_eq!((self.memory(), self.files()), (0, 0));
    }
}

fn publish(queue: &str, number: u32, body_octets: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    let publish = basic::Publish { routing_key: queue.into(), ..Default::default() };
    Method::from(publish).write_frame(1, &mut octets);
    let mut body = vec![b'.'; body_octets.max(4)];
    body[..4].copy_from_slice(&number.to_be_bytes());
    let header =
        ContentHeader { class_id: basic::CLASS_ID, body_octets: body.len() as u64, property_octets: &[0, 0] };
    write_frame(FrameKind::Header, 1, &mut octets, |out| header.encode(out));
    write_body_frames(1, &body, FRAME_OCTETS_MAX, &mut octets);
    octets
}

/// The numbers of the messages that were said, which begin with them.
fn numbers(said: &[u8]) -> Vec<u32> {
    let mut numbers = Vec::new();
    let mut is_first = false;
    let mut rest = said;
    while let Some((frame, octets)) = decode_frame(rest, FRAME_OCTETS_MAX).unwrap() {
        match frame.kind {
            FrameKind::Header => is_first = true,
            FrameKind::Body if is_first => {
                numbers.push(u32::from_be_bytes(*frame.payload.first_chunk().unwrap()));
                is_first = false;
            }
            _ => {}
        }
        rest = &rest[octets..];
    }
    numbers
}

#[test]
fn messages_go_to_disk_and_come_back_in_order() {
    let mut lab = Lab::<1>::new();
    lab.publish("q", 0..5000, 500);
    let before = lab.memory();
    lab.spill();
    assert!(lab.memory() < before / 4, "{} of {before}", lab.memory());
    assert_eq!(lab.files(), 1);
    for number in 0..5000 {
        assert_eq!(lab.get("q"), Some(number));
    }
    assert_eq!(lab.get("q"), None);
    lab.check_empty();
}

#[test]
fn a_consumer_is_given_all_of_them() {
    let mut lab = Lab::<2>::new();
    lab.publish("q", 0..5000, 500);
    lab.spill();
    let consume = basic::Consume { queue: "q".into(), no_ack: true, ..Default::default() };
    let mut given = numbers(&lab.clients[1].call(1, consume));
    while given.len() < 5000 {
        let before = given.len();
        lab.load();
        given.extend(numbers(&lab.clients[1].send(&[])));
        assert!(given.len() > before, "{before} and no more");
    }
    assert!(given.iter().copied().eq(0..5000));
    lab.check_empty();
}

#[test]
fn what_is_on_disk_is_purged_and_deleted_without_being_read() {
    let mut lab = Lab::<1>::new();
    for deletes in [false, true] {
        lab.publish("q", 0..3000, 500);
        lab.spill();
        lab.disk.fail_reads(true);
        let said = if deletes {
            lab.clients[0].call(1, queue::Delete { queue: "q".into(), ..Default::default() })
        } else {
            lab.clients[0].call(1, queue::Purge { queue: "q".into(), ..Default::default() })
        };
        let (frame, _) = decode_frame(&said, FRAME_OCTETS_MAX).unwrap().unwrap();
        let count = match Method::decode(frame.payload).unwrap() {
            Method::QueuePurgeOk(ok) => ok.message_count,
            Method::QueueDeleteOk(ok) => ok.message_count,
            other => panic!("{other:?}"),
        };
        assert_eq!(count, 3000);
        lab.check_empty();
    }
}

#[test]
fn who_waits_for_a_message_of_a_deleted_queue_is_told_that_there_is_none() {
    let mut lab = Lab::<2>::new();
    lab.publish("q", 0..1000, 500);
    lab.spill();
    let get = basic::Get { queue: "q".into(), no_ack: true, ..Default::default() };
    let waiter = &mut lab.clients[1];
    while !waiter.call(1, get).is_empty() {}
    assert_eq!(waiter.connection.reading(), Reading::Paused);
    lab.clients[0].call(1, queue::Delete { queue: "q".into(), ..Default::default() });
    assert_eq!(names(&lab.clients[1].send(&[])), ["BasicGetEmpty"]);
    lab.load();
    lab.check_empty();
}

#[test]
fn a_connection_that_goes_while_it_waits_leaves_nothing_behind() {
    let mut lab = Lab::<2>::new();
    lab.publish("q", 0..1000, 500);
    lab.spill();
    let get = basic::Get { queue: "q".into(), no_ack: true, ..Default::default() };
    while !lab.clients[1].call(1, get).is_empty() {}
    lab.clients[1].connection.disconnect(Client::NOW);
    lab.clients[1].send(&[]);
    assert!(lab.clients[1].connection.is_finished());
    lab.load();
    let left = std::iter::from_fn(|| lab.get("q")).count();
    assert!(left > 500, "{left} are left for others");
    lab.check_empty();
}

#[test]
fn what_the_disk_does_not_take_stays_in_memory() {
    let mut lab = Lab::<1>::new();
    lab.disk.fail_writes(true);
    lab.publish("q", 0..3000, 500);
    let before = lab.memory();
    lab.spill();
    assert_eq!((lab.memory(), lab.files()), (before, 0));
    let again = lab.spiller.next_deadline_millis().expect("it tries again");
    for number in 0..100 {
        assert_eq!(lab.get("q"), Some(number));
    }
    lab.disk.fail_writes(false);
    lab.spill();
    assert!(lab.memory() > before / 2, "it rests for a while");
    let later = leveret_broker::Now { monotonic_millis: again, ..Client::NOW };
    while lab.spiller.advance(later) {}
    assert!(lab.memory() < before / 2);
    for number in 100..3000 {
        assert_eq!(lab.get("q"), Some(number));
    }
    lab.check_empty();
}

#[test]
fn a_page_that_cannot_be_read_is_left_out() {
    let mut lab = Lab::<1>::new();
    lab.publish("q", 0..3000, 500);
    lab.spill();
    // One page of several.
    lab.disk.damage(|octets| octets[1000] ^= 1);
    let left: Vec<_> = std::iter::from_fn(|| lab.get("q")).collect();
    assert!(left.is_sorted() && left.len() < 3000 && left.len() > 2000, "{} are left", left.len());
    lab.check_empty();
    lab.publish("q", 0..3000, 500);
    lab.spill();
    lab.disk.fail_reads(true);
    let left = std::iter::from_fn(|| lab.get("q")).count();
    assert!(left > 0 && left < 2000, "{left} are left");
    lab.disk.fail_reads(false);
    lab.publish("q", 7..8, 4);
    assert_eq!(lab.get("q"), Some(7), "the queue goes on");
    lab.check_empty();
}

#[test]
fn messages_larger_than_a_page_are_pages_alone() {
    let mut lab = Lab::<1>::new();
    lab.publish("q", 0..20, 600 * KIB);
    lab.spill();
    assert!(lab.memory() < 3 * 1024 * KIB, "{} octets", lab.memory());
    for number in 0..20 {
        assert_eq!(lab.get("q"), Some(number));
    }
    lab.check_empty();
}

#[test]
fn large_messages_of_several_queues_are_not_copied_for_each() {
    let mut lab = Lab::<1>::new();
    for name in ["one", "two"] {
        lab.declare(name);
        let bind = queue::Bind { queue: name.into(), exchange: "amq.fanout".into(), ..Default::default() };
        lab.clients[0].call(1, bind);
    }
    let broadcast = |number, octets| {
        let mut frames = Vec::new();
        let to_all = basic::Publish { exchange: "amq.fanout".into(), ..Default::default() };
        Method::from(to_all).write_frame(1, &mut frames);
        let content = publish("", number, octets);
        let method = decode_frame(&content, FRAME_OCTETS_MAX).unwrap().unwrap().1;
        frames.extend_from_slice(&content[method..]);
        frames
    };
    for number in 0..20 {
        lab.clients[0].send(&broadcast(number, 100 * KIB));
    }
    lab.spill();
    assert_eq!(lab.files(), 0);
    for number in 20..1000 {
        lab.clients[0].send(&broadcast(number, KIB));
    }
    lab.spill();
    assert_eq!(lab.files(), 1);
    for name in ["one", "two"] {
        for number in 0..1000 {
            assert_eq!(lab.get(name), Some(number));
        }
    }
    lab.check_empty();
}

/// Random publishes, gets and purges of several queues, with the workers at work in between.
#[test]
fn queues_do_not_mix() {
    const QUEUES: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut lab = Lab::<1>::new();
    QUEUES.iter().for_each(|name| lab.declare(name));
    let mut wanted: BTreeMap<&str, VecDeque<u32>> = BTreeMap::new();
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = |bound: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u32::try_from(state >> 33).unwrap() % bound
    };
    let mut next = 0;
    let mut files = 0;
    for _ in 0..3000 {
        let name = QUEUES[random(5) as usize];
        let queue = wanted.entry(name).or_default();
        match random(20) {
            0..9 => {
                let end = next + random(60);
                queue.extend(next..end);
                lab.publish(name, next..end, 100 + random(1500) as usize);
                next = end;
            }
            9..16 => {
                for _ in 0..random(60) {
                    assert_eq!(lab.get(name), queue.pop_front());
                }
            }
            16..18 => lab.spill(),
            18 => lab.load(),
            _ if random(10) == 0 => {
                queue.clear();
                lab.clients[0].call(1, queue::Purge { queue: name.into(), ..Default::default() });
            }
            _ => {}
        }
        files = files.max(lab.files());
    }
    assert!(files > 0, "nothing went to disk");
    for name in QUEUES {
        while let Some(number) = wanted.entry(name).or_default().pop_front() {
            assert_eq!(lab.get(name), Some(number));
        }
        assert_eq!(lab.get(name), None);
    }
    lab.check_empty();
}
