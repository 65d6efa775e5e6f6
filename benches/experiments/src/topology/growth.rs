//! The longest single insert while a table grows: doubling in one go is a step that no budget slices.
//!
//! Knows nothing of vhosts. Invariant: every table gets the same names, and its time is processor time.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;

use crate::measure::{median, thread_time};

const ROUNDS: usize = 5;
const SIZES: [usize; 3] = [20_000, 100_000, 1_000_000];
const SHARDS: usize = 256;

type Name = Arc<str>;

/// A kind of table, and the longest insert while it takes the names.
type Kind = (&'static str, fn(&[Name]) -> Duration);

const KINDS: [Kind; 3] = [("HashMap", hash_map), ("IndexMap", index_map), ("256 HashMaps", shards)];

/// Prints the table.
pub(super) fn run() {
    println!("\n### The longest single insert while a table grows, CPU ms (median of {ROUNDS})\n");
    println!("| | 20,000 names | 100,000 | 1,000,000 |\n|---|---:|---:|---:|");
    for (name, longest) in KINDS {
        let millis = SIZES.map(|size| {
            let names: Vec<Name> = (0..size).map(|index| format!("amq.gen-{index:022}").into()).collect();
            let rounds: Vec<f64> = (0..ROUNDS).map(|_| longest(&names).as_secs_f64() * 1e3).collect();
            format!("{:.3}", median(&rounds))
        });
        println!("| {name} | {} |", millis.join(" | "));
    }
}

fn longest_insert(names: &[Name], mut insert: impl FnMut(&Name)) -> Duration {
    let mut before = thread_time();
    let mut longest = Duration::ZERO;
    for name in names {
        insert(name);
        let after = thread_time();
        longest = longest.max(after - before);
        before = after;
    }
    longest
}

fn hash_map(names: &[Name]) -> Duration {
    let mut table = HashMap::new();
    longest_insert(names, |name| {
        table.insert(Arc::clone(name), ());
    })
}

fn index_map(names: &[Name]) -> Duration {
    let mut table = IndexMap::new();
    longest_insert(names, |name| {
        table.insert(Arc::clone(name), ());
    })
}

fn shards(names: &[Name]) -> Duration {
    let mut tables: Vec<HashMap<Name, ()>> = vec![HashMap::new(); SHARDS];
    longest_insert(names, |name| {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        tables[hasher.finish() as usize % SHARDS].insert(Arc::clone(name), ());
    })
}
