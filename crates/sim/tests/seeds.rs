//! Some hundred seeds without a fault, in which everything happened that is to happen; and the
//! same seed gives the same run.

#![allow(clippy::disallowed_methods, reason = "each run is on one thread; the seeds are shared by several")]

use std::thread;

use leveret_sim::{Counts, Settings, run};

/// Seeds of a test run.
const SEEDS: u64 = 300;
/// Threads that share them. Each run is on one.
const THREADS: u64 = 2;

fn run_every(first: u64, step: u64) -> Counts {
    let mut counts = Counts::default();
    for seed in (first..=SEEDS).step_by(usize::try_from(step).unwrap()) {
        match run(seed, Settings::default()) {
            Ok(report) => counts.add(&report.counts),
            Err(failure) => panic!("{failure}"),
        }
    }
    counts
}

#[test]
fn hundreds_of_seeds_show_no_fault_and_try_everything() {
    let counts = thread::scope(|scope| {
        let threads: Vec<_> =
            (1..=THREADS).map(|first| scope.spawn(move || run_every(first, THREADS))).collect();
        let mut sum = Counts::default();
        for thread in threads {
            match thread.join() {
                Ok(counts) => sum.add(&counts),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        sum
    });
    println!("{SEEDS} seeds\n{counts}");
    let missing: Vec<_> = counts.missing().collect();
    assert!(missing.is_empty(), "these never happened: {missing:?}");
}

#[test]
fn a_crowd_of_clients_shows_no_fault() {
    let settings = Settings { clients: Some(20), ..Settings::default() };
    for seed in 1..=10 {
        run(seed, settings).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 1..=20 {
        let once = run(seed, Settings::default()).expect("the seed shows no fault");
        let again = run(seed, Settings::default()).expect("the seed shows no fault");
        assert_eq!(once, again, "seed {seed}");
    }
}

#[test]
fn seeds_differ() {
    let hash = |seed| run(seed, Settings::default()).expect("the seed shows no fault").hash;
    assert_ne!(hash(1), hash(2));
}
