//! Exchanges that delay, share, remember and answer: some hundred seeds without a fault, in which
//! everything happened that is to happen; and the same seed gives the same run.

use leveret_sim::{
    lab::{LabSettings, Tally},
    routing::run_routing,
};

/// Seeds of a test run.
const SEEDS: u64 = 1_000;

#[test]
fn every_message_is_where_it_has_to_be() {
    let mut counts = Tally::default();
    for seed in 1..=SEEDS {
        match run_routing(seed, LabSettings::default()) {
            Ok(report) => counts.add(&report.counts),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{SEEDS} seeds\n{counts}");
    let missing: Vec<_> = counts.missing().collect();
    assert!(missing.is_empty(), "these never happened: {missing:?}");
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    let hash = |seed| {
        let once = run_routing(seed, LabSettings::default()).expect("the seed shows no fault");
        let again = run_routing(seed, LabSettings::default()).expect("the seed shows no fault");
        assert_eq!(once, again, "seed {seed}");
        once.hash
    };
    let mut hashes: Vec<u64> = (1..=20).map(hash).collect();
    hashes.dedup();
    assert_eq!(hashes.len(), 20, "seeds differ");
}
