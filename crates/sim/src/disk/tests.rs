//! Each thing that the simulated disk does to what was not synced, and that it does nothing to what was.

use std::{collections::BTreeSet, io, sync::Arc};

use leveret_broker::store::{Disk as _, DiskFile};

use super::{DiskCounts, Effect, Fault, Operation, SECTOR_OCTETS, SimDisk};
use crate::random::Random;

const ROOM: u64 = 1 << 20;

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(Random::new(seed), ROOM)
}

/// A file whose octets and name are synced.
fn synced(disk: &SimDisk, name: &str, octets: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create(name).unwrap();
    file.write_at(octets, 0).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    file
}

/// What is found after a power cut with each of some seeds, and how often each thing happened.
fn outcomes<T>(run: impl Fn(&SimDisk), found: impl Fn(&SimDisk) -> T) -> (Vec<T>, DiskCounts) {
    let mut counts = DiskCounts::default();
    let mut seen = Vec::new();
    for seed in 0..500 {
        let disk = disk(seed);
        run(&disk);
        disk.power_cut();
        seen.push(found(&disk));
        counts.add(&disk.counts());
    }
    (seen, counts)
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list().unwrap()
}

#[test]
fn what_was_synced_stays() {
    let run = |disk: &SimDisk| {
        let file = synced(disk, "a-1", &[1; 3000]);
        file.write_at(&[2; 100], 1000).unwrap();
        file.sync().unwrap();
        disk.rename("a-1", "a-2").unwrap();
        synced(disk, "b", b"").write_at(b"not synced", 0).unwrap();
    };
    let mut wanted = vec![1; 3000];
    wanted[1000..1100].fill(2);
    let (seen, _) = outcomes(run, |disk| (names(disk), disk.contents("a-2").unwrap()));
    assert!(seen.iter().all(|(names, octets)| *names == ["a-2", "b"] && *octets == wanted));
}

#[test]
fn octets_that_were_not_synced_are_kept_lost_and_torn() {
    let run = |disk: &SimDisk| {
        let file = synced(disk, "a", &[1; 2048]);
        file.write_at(&[2; 2048], 512).unwrap();
        file.write_at(&[3; 2000], 1024).unwrap();
    };
    let (seen, counts) = outcomes(run, |disk| disk.contents("a").unwrap());
    for octets in &seen {
        assert_eq!(octets[..512], [1; 512]);
        for sector in octets.chunks(SECTOR_OCTETS).take(4) {
            assert!(sector.iter().all(|octet| *octet == sector[0]), "a sector was torn");
        }
    }
    let sectors: BTreeSet<Vec<u8>> =
        seen.iter().map(|octets| octets.chunks(SECTOR_OCTETS).map(|sector| sector[0]).collect()).collect();
    for wanted in [&[1, 1, 1, 1][..], &[1, 2, 2, 2, 2], &[1, 2, 3, 3, 3, 3], &[1, 1, 3, 1]] {
        assert!(sectors.contains(wanted), "{wanted:?} is not among {sectors:?}");
    }
    let lengths: BTreeSet<usize> = seen.iter().map(Vec::len).collect();
    assert!(lengths.contains(&2048) && lengths.contains(&3024) && lengths.len() > 2, "{lengths:?}");
    use Effect::{LengthKept, LengthLost, SectorKept, SectorLost, SectorOld, SectorStale};
    for effect in [SectorKept, SectorLost, SectorOld, SectorStale, LengthLost, LengthKept] {
        assert!(counts.effects(effect) > 0, "{effect:?} never came up:\n{counts}");
    }
}

#[test]
fn a_name_is_lost_although_its_file_was_synced() {
    let run = |disk: &SimDisk| {
        let file = disk.create("a").unwrap();
        file.write_at(b"here", 0).unwrap();
        file.sync().unwrap();
    };
    let (seen, counts) = outcomes(run, |disk| disk.contents("a"));
    assert!(seen.contains(&None) && seen.contains(&Some(b"here".to_vec())));
    assert!(counts.effects(Effect::MadeLost) > 0);
}

#[test]
fn renames_are_lost_torn_and_kept() {
    let run = |disk: &SimDisk| {
        synced(disk, "old", b"old");
        synced(disk, "new", b"new");
        disk.rename("new", "old").unwrap();
    };
    let found = |disk: &SimDisk| (disk.contents("old").unwrap(), disk.contents("new"));
    let (seen, counts) = outcomes(run, found);
    let (old, new) = (b"old".to_vec(), b"new".to_vec());
    for wanted in [(old, Some(new.clone())), (new.clone(), None), (new.clone(), Some(new))] {
        assert!(seen.contains(&wanted), "{wanted:?}");
    }
    assert!(counts.effects(Effect::RenameLost) > 0 && counts.effects(Effect::RenameTorn) > 0);
}

#[test]
fn what_was_removed_comes_back_with_what_was_synced_of_it() {
    let run = |disk: &SimDisk| {
        synced(disk, "a", b"synced");
        disk.remove("a").unwrap();
        assert_eq!(disk.free_octets().unwrap(), ROOM);
    };
    let (seen, counts) = outcomes(run, |disk| disk.contents("a"));
    assert!(seen.contains(&None) && seen.contains(&Some(b"synced".to_vec())));
    assert!(counts.effects(Effect::RemovalLost) > 0);
}

#[test]
fn changes_of_names_are_reordered() {
    let run = |disk: &SimDisk| {
        for name in ["a", "b", "c"] {
            disk.create(name).unwrap();
        }
    };
    let (seen, counts) = outcomes(run, names);
    assert!(seen.contains(&vec!["a".to_owned()]) && seen.contains(&vec!["c".to_owned()]), "{seen:?}");
    assert!(counts.effects(Effect::NamesReordered) > 0);
}

#[test]
fn after_a_failed_sync_a_later_one_makes_up_for_nothing() {
    let run = |disk: &SimDisk| {
        let file = synced(disk, "a", &[0; 2048]);
        file.write_at(&[1; 1024], 0).unwrap();
        disk.fail_next(Operation::Sync, Fault::InputOutput);
        assert!(file.sync().is_err());
        assert_eq!(disk.contents("a").unwrap()[..1024], [1; 1024], "a reader sees no difference");
        file.write_at(&[2; 1024], 1024).unwrap();
        file.sync().unwrap();
    };
    let (seen, counts) = outcomes(run, |disk| disk.contents("a").unwrap());
    assert!(seen.iter().all(|octets| octets[1024..] == [2; 1024]));
    assert!(seen.iter().any(|octets| octets[..1024] == [0; 1024]), "it was never lost");
    assert!(seen.iter().any(|octets| octets[..1024] == [1; 1024]), "it was never kept");
    assert_eq!(counts.effects(Effect::SyncFailed), 500);
}

#[test]
fn a_sector_that_a_failed_sync_lost_is_not_mended_by_a_write_beside_it() {
    let run = |disk: &SimDisk| {
        let file = synced(disk, "a", &[0; 512]);
        file.write_at(&[1; 100], 0).unwrap();
        disk.fail_next(Operation::Sync, Fault::NoRoom);
        assert_eq!(file.sync().unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write_at(&[2; 100], 100).unwrap();
        file.sync().unwrap();
    };
    let (seen, _) = outcomes(run, |disk| disk.contents("a").unwrap());
    assert!(seen.iter().all(|octets| octets[100..200] == [2; 100]));
    assert!(seen.iter().any(|octets| octets[..100] == [0; 100]));
}

#[test]
fn a_later_sync_of_names_makes_up_for_a_failed_one() {
    let run = |disk: &SimDisk| {
        disk.create("a").unwrap();
        disk.fail_next(Operation::SyncNames, Fault::InputOutput);
        assert!(disk.sync_names().is_err());
        disk.sync_names().unwrap();
    };
    let (seen, _) = outcomes(run, names);
    assert!(seen.iter().all(|names| *names == ["a"]));
}

#[test]
fn a_full_disk_takes_what_fits_and_gives_room_back() {
    let disk = SimDisk::new(Random::new(1), 1000);
    let file = disk.create("a").unwrap();
    file.write_at(&[1; 600], 0).unwrap();
    assert_eq!(disk.free_octets().unwrap(), 400);
    let full = file.write_at(&[2; 600], 600).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.octets().unwrap(), 1000, "the beginning of it is there");
    file.write_at(&[3; 1000], 0).expect("what is there already takes no more room");
    disk.remove("a").unwrap();
    assert_eq!(disk.free_octets().unwrap(), 0, "it is open still");
    drop(file);
    assert_eq!(disk.free_octets().unwrap(), 1000);
    disk.set_capacity(2000);
    disk.create("b").unwrap().write_at(&[1; 2000], 0).expect("there is more room now");
}

#[test]
fn every_operation_fails_in_every_way_it_can() {
    for &operation in Operation::ALL {
        for &fault in operation.faults() {
            let disk = disk(7);
            let file = synced(&disk, "a", &[1; 100]);
            disk.fail_next(operation, fault);
            let outcome = || ask(&disk, &file, operation);
            assert!(outcome().is_err(), "{operation:?} {fault:?}");
            assert!(outcome().is_ok(), "{operation:?} goes well again");
            assert_eq!(disk.counts().faults(operation, fault), 1);
        }
    }
}

fn ask(disk: &SimDisk, file: &Arc<dyn DiskFile>, operation: Operation) -> io::Result<()> {
    match operation {
        Operation::List => disk.list().map(drop),
        Operation::Create => disk.create("b").map(drop),
        Operation::Open => disk.open("a").map(drop),
        Operation::Rename => disk.rename("a", "c"),
        Operation::Remove => disk.remove("a"),
        Operation::SyncNames => disk.sync_names(),
        Operation::FreeOctets => disk.free_octets().map(drop),
        Operation::Octets => file.octets().map(drop),
        Operation::Read => file.read_at(&mut [0; 10], 0),
        Operation::Write => file.write_at(&[2; 1000], 0),
        Operation::Sync => file.sync(),
    }
}

#[test]
fn a_short_write_leaves_its_beginning() {
    let mut lengths = BTreeSet::new();
    for seed in 0..50 {
        let disk = disk(seed);
        let file = disk.create("a").unwrap();
        disk.fail_next(Operation::Write, Fault::ShortWrite);
        file.write_at(&[1; 10], 0).unwrap_err();
        lengths.insert(file.octets().unwrap());
    }
    assert_eq!(lengths, (0..10).collect());
}

#[test]
fn operations_fail_by_chance() {
    let disk = disk(3);
    let file = disk.create("a").unwrap();
    disk.set_faults(Operation::Write, 500);
    let failed = (0..100).filter(|_| file.write_at(b"a", 0).is_err()).count();
    assert!((20..80).contains(&failed), "{failed} of 100");
    disk.set_faults(Operation::Write, 0);
    file.write_at(b"a", 0).unwrap();
}

#[test]
fn the_power_goes_at_every_operation() {
    for at in 1..=7 {
        let disk = disk(at);
        disk.power_off_at(at);
        let script = || -> io::Result<()> {
            let file = disk.create("a-1")?;
            file.write_at(&[1; 100], 0)?;
            file.sync()?;
            disk.sync_names()?;
            disk.rename("a-1", "a-2")?;
            disk.remove("a-2")?;
            disk.list().map(drop)
        };
        script().unwrap_err();
        assert!(disk.is_off());
        assert_eq!(disk.operations(), at, "nothing is done after it");
        disk.list().unwrap_err();
        disk.power_cut();
        if (5..7).contains(&at) {
            let named = ["a-1", "a-2"].iter().filter_map(|name| disk.contents(name));
            assert!(named.clone().count() > 0 || at == 6);
            named.for_each(|octets| assert_eq!(octets, [1; 100]));
        }
        let counts = disk.counts();
        let points = [
            (1, Operation::Create),
            (2, Operation::Write),
            (3, Operation::Sync),
            (5, Operation::Rename),
            (6, Operation::Remove),
        ];
        for (point, operation) in points {
            assert_eq!(counts.crash_points(operation, "a"), u64::from(point == at), "{at}");
        }
    }
}

#[test]
fn files_that_were_open_are_not_after_a_power_cut() {
    let disk = disk(1);
    let file = synced(&disk, "a", b"here");
    disk.power_cut();
    file.read_at(&mut [0; 4], 0).unwrap_err();
    file.write_at(b"late", 0).unwrap_err();
    file.sync().unwrap_err();
    assert_eq!(disk.contents("a").unwrap(), b"here");
    disk.open("a").unwrap().write_at(b"then", 0).unwrap();
}

#[test]
fn a_removed_file_is_read_on() {
    let disk = disk(1);
    let file = synced(&disk, "a", b"here");
    disk.remove("a").unwrap();
    disk.sync_names().unwrap();
    let mut octets = [0; 4];
    file.read_at(&mut octets, 0).unwrap();
    assert_eq!(&octets, b"here");
    assert_eq!(file.read_at(&mut octets, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_file_keeps_its_number_under_every_name() {
    let disk = disk(1);
    synced(&disk, "a", b"here");
    let number = disk.number_of("a").unwrap();
    disk.rename("a", "b").unwrap();
    assert_eq!((disk.number_of("a"), disk.number_of("b")), (None, Some(number)));
    assert_eq!(disk.octets_of(number), Some(4));
    disk.open_number(number).unwrap().write_at(b"then", 0).unwrap();
    assert_eq!(disk.contents("b").unwrap(), b"then");
    assert_eq!(disk.open_number(number + 1).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn names_that_are_there_or_not_are_told_apart() {
    let disk = disk(1);
    disk.create("a").unwrap();
    assert_eq!(disk.create("a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    for refused in [disk.open("b").map(drop), disk.rename("b", "c"), disk.remove("b")] {
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

#[test]
fn damage_is_on_the_platter() {
    let disk = disk(1);
    synced(&disk, "a", b"here");
    assert!(disk.damage("a", |octets| octets[0] ^= 1));
    assert!(!disk.damage("b", Vec::clear));
    disk.power_cut();
    assert_eq!(disk.contents("a").unwrap(), b"iere");
}

#[test]
fn one_seed_gives_one_outcome() {
    let run = |seed| {
        let disk = disk(seed);
        disk.set_faults(Operation::Write, 100);
        disk.set_faults(Operation::Sync, 100);
        for round in 0..20_u8 {
            let name = format!("a-{round}");
            let file = disk.create(&name).unwrap();
            for part in 0..20_u8 {
                let _ = file.write_at(&[part; 700], 350 * u64::from(part));
            }
            let _ = file.sync();
            let _ = file.write_at(&[round; 5000], 0);
            drop(file);
            if round % 3 == 0 {
                disk.power_cut();
            }
        }
        let contents: Vec<_> = names(&disk).iter().map(|name| disk.contents(name)).collect();
        (contents, disk.counts())
    };
    assert!(run(1) == run(1));
    assert_ne!(run(1), run(2));
}
