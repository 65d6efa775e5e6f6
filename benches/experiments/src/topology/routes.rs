//! Collecting a fanout's routes in one piece: as counted pointers, and as numbers.
//!
//! Knows nothing of vhosts. Invariant: between two rounds every queue is touched, as other work would.

use std::{hint::black_box, sync::Arc};

use super::vhost::{Owner, Queue};
use crate::measure::{median, thread_time};

const ROUNDS: usize = 15;
const SIZES: [usize; 3] = [20_000, 100_000, 1_000_000];

/// Prints the table.
pub(super) fn run() {
    println!("\n### Collecting all routes of a fanout, CPU ms (median of {ROUNDS})\n");
    println!("| | 20,000 routes | 100,000 | 1,000,000 |\n|---|---:|---:|---:|");
    let columns = SIZES.map(collect_both);
    println!(
        "| counted pointers | {} |",
        columns.each_ref().map(|(pointers, _)| pointers.as_str()).join(" | ")
    );
    println!("| numbers | {} |", columns.each_ref().map(|(_, numbers)| numbers.as_str()).join(" | "));
}

fn collect_both(size: usize) -> (String, String) {
    let owner = Arc::new(Owner::default());
    let queues: Vec<_> = (0..size).map(|index| Queue::new(format!("{index}").into(), &owner)).collect();
    let numbers: Vec<u32> = (0..size as u32).collect();
    let touch = || queues.iter().for_each(|queue| queue.append(&[0]));
    (median_millis(&queues, touch), median_millis(&numbers, touch))
}

fn median_millis<T: Clone>(table: &[T], touch: impl Fn()) -> String {
    let rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            touch();
            let before = thread_time();
            let routes = black_box(table.to_vec());
            let elapsed = thread_time() - before;
            drop(routes);
            elapsed.as_secs_f64() * 1e3
        })
        .collect();
    format!("{:.3}", median(&rounds))
}
