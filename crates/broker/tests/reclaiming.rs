//! Old messages keep their own room on disk, and not that of those that went.

mod client;
#[path = "../src/store/disk_tests.rs"]
mod disk_tests;
mod store_lab;

use std::sync::Arc;

use disk_tests::MemoryDisk;
use leveret_broker::store::{Disk, DiskFile, recovery::Damage};
use store_lab::Lab;

const KIB: u64 = 1024;
const MESSAGES: u32 = 40_000;
/// One of so many stays.
const STAYING: u32 = 5000;

/// Octets of files of pages. What the journal takes is bounded by its segments.
fn octets(disk: &MemoryDisk) -> u64 {
    let names = disk.list().unwrap();
    let pages = names.iter().filter(|name| name.starts_with("pages-"));
    pages.map(|name| disk.open(name).unwrap().octets().unwrap()).sum()
}

/// Until nothing is left to do.
fn tidy(lab: &mut Lab) {
    while lab.retirer.tidy().unwrap() {
        lab.sync();
    }
    lab.sync();
}

#[test]
fn messages_that_stay_do_not_hold_the_files_of_those_that_went() {
    let disk = Arc::new(MemoryDisk::default());
    let (mut lab, _) = Lab::start(&disk);
    lab.retirer = lab.retirer.with_garbage_of(64 * KIB);
    for queue in ["old", "new"] {
        lab.declare(queue);
    }
    for first in (0..MESSAGES).step_by(1000) {
        let messages = first..first + 1000;
        let (stay, go): (Vec<_>, Vec<_>) = messages.partition(|number| number % STAYING == 0);
        stay.into_iter().for_each(|number| lab.publish("old", number..number + 1));
        lab.publish("new", go[0]..go[0] + 999);
    }
    assert!(octets(&disk) > 2000 * KIB, "{}", octets(&disk));
    tidy(&mut lab);
    assert!(octets(&disk) > 2000 * KIB, "what waits stays");
    assert_eq!(lab.drain("new").len(), 999 * 40);
    tidy(&mut lab);
    assert!(octets(&disk) < 10 * KIB, "{} of {:?}", octets(&disk), disk.list());
    // They are there still, and after a restart.
    drop(lab);
    let (mut lab, damage) = Lab::start(&disk);
    assert_eq!(damage, Damage::default());
    assert_eq!(lab.drain("old"), Vec::from_iter((0..MESSAGES).step_by(STAYING as usize)));
    assert_eq!(lab.drain("new"), []);
}

#[test]
fn pages_of_before_a_restart_are_read_after_they_were_rewritten() {
    let disk = Arc::new(MemoryDisk::default());
    let (mut lab, _) = Lab::start(&disk);
    for queue in ["old", "new"] {
        lab.declare(queue);
    }
    lab.publish("old", 0..10);
    lab.publish("new", 0..20_000);
    lab.stop();
    let (mut lab, _) = Lab::start(&disk);
    lab.retirer = lab.retirer.with_garbage_of(64 * KIB);
    assert_eq!(lab.drain("new").len(), 20_000);
    tidy(&mut lab);
    assert!(octets(&disk) < 10 * KIB, "{} of {:?}", octets(&disk), disk.list());
    assert_eq!(lab.drain("old"), Vec::from_iter(0..10), "the page was not read yet");
    tidy(&mut lab);
    lab.stop();
    let (mut lab, _) = Lab::start(&disk);
    assert_eq!(lab.drain("old"), []);
}
