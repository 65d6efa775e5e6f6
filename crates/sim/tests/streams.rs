//! Runs about streams show no fault and try everything, and the same seed gives the same run.

use leveret_sim::{
    lab::{LabSettings, Tally},
    streams::{StreamEvent, run_streams},
};

/// Seeds of a test run.
const SEEDS: u64 = 400;

#[test]
fn hundreds_of_seeds_show_no_fault_and_try_everything() {
    let mut counts = Tally::<StreamEvent>::default();
    for seed in 1..=SEEDS {
        let report = run_streams(seed, LabSettings::default()).unwrap_or_else(|failure| panic!("{failure}"));
        counts.add(&report.counts);
    }
    println!("{SEEDS} seeds\n{counts}");
    let missing: Vec<_> = counts.missing().collect();
    assert!(missing.is_empty(), "these never happened: {missing:?}");
}

#[test]
fn a_seed_gives_the_same_run_twice_and_another_one_another() {
    let run = |seed| run_streams(seed, LabSettings::default()).expect("the seed shows no fault");
    for seed in 1..=20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1).hash, run(2).hash);
}
