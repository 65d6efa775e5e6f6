//! Whatever is damaged in a data folder: the broker starts, serves the rest, and says what is lost.

mod client;
#[path = "../src/store/disk_tests.rs"]
mod disk_tests;
mod store_lab;

use std::{collections::BTreeMap, sync::Arc};

use client::names;
use disk_tests::MemoryDisk;
use leveret_broker::{
    engine::{Store, StoreReport},
    store::{Disk, DiskFile, recovery::Damage},
};
use leveret_wire::method::exchange;
use store_lab::Lab;

/// Numbers of messages, by their queues.
type Numbers = BTreeMap<String, Vec<u32>>;

/// A folder with pages, a snapshot and a journal, and which messages are to be there.
struct Sample {
    disk: MemoryDisk,
    living: Numbers,
    /// Those and the ones that left.
    published: Numbers,
}

impl Sample {
    /// Each queue has as many messages on pages as in the journal.
    fn new(queues: &[&str], messages: u32) -> Self {
        let disk = Arc::new(MemoryDisk::default());
        let (mut lab, _) = Lab::start(&disk);
        for queue in queues {
            lab.declare(queue);
            lab.publish(queue, 0..messages);
        }
        lab.stop();
        let (mut lab, damage) = Lab::start(&disk);
        assert_eq!(damage, Damage::default());
        let (mut living, mut published) = (Numbers::new(), Numbers::new());
        for queue in queues {
            lab.publish(queue, messages..2 * messages);
            let taken = messages / 4 + 1;
            let got: Vec<_> = (0..taken).map(|_| lab.get(queue).expect("it is there")).collect();
            assert_eq!(got, Vec::from_iter(0..taken));
            living.insert((*queue).to_owned(), (taken..2 * messages).collect());
            published.insert((*queue).to_owned(), (0..2 * messages).collect());
            lab.sync();
        }
        let exchange = exchange::Declare {
            exchange: "last".into(),
            kind: "fanout".into(),
            durable: true,
            ..Default::default()
        };
        assert_eq!(names(&lab.call(exchange)), ["ExchangeDeclareOk"]);
        Self { disk: disk.copied(), living, published }
    }

    fn files(&self) -> Vec<(String, usize)> {
        let octets =
            |name: &String| usize::try_from(self.disk.open(name).unwrap().octets().unwrap()).unwrap();
        self.disk.list().unwrap().into_iter().map(|name| (name.clone(), octets(&name))).collect()
    }

    /// What is there and what is lost is told, and nothing else comes out.
    fn check_damaged(&self, file: &str, what: &str, damage: impl FnOnce(&mut Vec<u8>)) {
        let disk = Arc::new(self.disk.copied());
        disk.damage_file(file, damage);
        // Between two entries nothing tells that there was more.
        let names = disk.list().unwrap();
        let last_segment = names.iter().rfind(|name| name.starts_with("journal-")).map(String::as_str);
        let is_tail_cut = Some(file) == last_segment && what.starts_with("cut");
        let before = Arc::new(disk.copied());
        let report = Store::check(&*disk).unwrap_or_else(|error| panic!("{file}, {what}: {error}"));
        assert_eq!(contents(&disk), contents(&before), "{file}, {what}: looking changes nothing");
        let copied = Arc::new(MemoryDisk::default());
        assert_eq!(Store::copy(&*disk, &*copied).unwrap(), report.damage, "{file}, {what}");
        let found = self.check_start(&disk, &report, is_tail_cut, &format!("{file}, {what}"));
        // What was found is told once; and a copy has the same as the folder itself.
        let (mut again, damage) = Lab::start(&copied);
        assert_eq!(damage, Damage::default(), "{file}, {what}");
        for (queue, numbers) in found {
            assert_eq!(again.drain(&queue), numbers, "{file}, {what}: a copy of '{queue}'");
        }
    }

    fn check_start(
        &self,
        disk: &Arc<MemoryDisk>,
        report: &StoreReport,
        is_tail_cut: bool,
        what: &str,
    ) -> Numbers {
        let (mut lab, _) = Lab::start(disk);
        let mut found = Numbers::new();
        let told = &report.damage;
        for (queue, living) in &self.living {
            let numbers = lab.drain(queue);
            assert!(numbers.is_sorted_by(|one, other| one < other), "{what}: '{queue}' has {numbers:?}");
            assert!(numbers.iter().all(|number| self.published[queue].contains(number)), "{what}");
            let missing = living.iter().filter(|number| !numbers.contains(number)).count() as u64;
            let of_queue = report.queues.iter().find(|of| of.name == *queue);
            let (count, lost) = of_queue.map_or((0, 0), |of| (of.messages.count, of.lost));
            assert_eq!(count, numbers.len() as u64, "{what}: '{queue}' has what was told");
            // Where the entry is lost that says what the journal has, nothing tells how many there were.
            let is_told = missing <= lost || *told != Damage::default();
            assert!(is_told || is_tail_cut, "{what}: {missing} of '{queue}' are missing, {told:?}");
            if *told == Damage::default() && !is_tail_cut {
                assert_eq!(numbers, *living, "{what}: '{queue}'");
            }
            found.insert(queue.clone(), numbers);
        }
        lab.stop();
        let names = disk.list().unwrap();
        for file in told.files.keys().filter(|file| !file.starts_with("snapshot-")) {
            let is_there = names.contains(file) || names.contains(&format!("aside-{file}"));
            assert!(is_there, "{what}: '{file}' is damaged and removed: {names:?}");
        }
        found
    }
}

fn contents(disk: &MemoryDisk) -> BTreeMap<String, Vec<u8>> {
    let read = |name: &String| {
        let file = disk.open(name).unwrap();
        let mut octets = vec![0; usize::try_from(file.octets().unwrap()).unwrap()];
        file.read_at(&mut octets, 0).unwrap();
        octets
    };
    disk.list().unwrap().into_iter().map(|name| (name.clone(), read(&name))).collect()
}

#[test]
fn every_flipped_bit_of_a_small_folder_is_found_and_costs_little() {
    let sample = Sample::new(&["one", "two"], 4);
    let kinds = ["journal-", "pages-", "snapshot-"];
    assert!(kinds.iter().all(|kind| sample.files().iter().any(|(name, _)| name.starts_with(kind))));
    for (file, octets) in sample.files() {
        for bit in 0..octets * 8 {
            let flip = |octets: &mut Vec<u8>| octets[bit / 8] ^= 1 << (bit % 8);
            sample.check_damaged(&file, &format!("bit {bit}"), flip);
        }
    }
}

#[test]
fn every_cut_of_a_small_folder_is_found_and_what_is_before_it_is_served() {
    let sample = Sample::new(&["one", "two"], 4);
    for (file, octets) in sample.files() {
        for length in 0..octets {
            sample.check_damaged(&file, &format!("cut at {length}"), |octets| octets.truncate(length));
        }
    }
}

#[test]
fn damage_here_and_there_in_a_larger_folder_costs_what_it_hit() {
    let sample = Sample::new(&["one", "two", "three"], 6000);
    let files = sample.files();
    let octets: usize = files.iter().map(|(_, octets)| octets).sum();
    assert!(files.len() > 8 && octets > 1024 * 1024, "{files:?}");
    let mut state = 20_u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((state >> 33) % end as u64).unwrap()
    };
    for round in 0..60 {
        let mut at = below(octets);
        let is_there = |(_, octets): &&(String, usize)| match at.checked_sub(*octets) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        };
        let (file, octets) = files.iter().find(is_there).unwrap();
        if round % 4 == 0 {
            sample.check_damaged(file, &format!("cut at {at}"), |octets| octets.truncate(at));
        } else {
            let length = (1 + below(3000)).min(octets - at);
            let flip =
                |octets: &mut Vec<u8>| octets[at..at + length].iter_mut().for_each(|octet| *octet ^= 0x55);
            sample.check_damaged(file, &format!("octets {at} to {}", at + length), flip);
        }
    }
}
