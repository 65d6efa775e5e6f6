//! One variant in its own process: fills it, measures it and prints `name value` lines.
//!
//! Leaves tables to the parent. Invariant: every variant sees the same messages in the same order.

use std::{collections::HashSet, hint::black_box, time::Instant};

use super::{
    BODY_OCTETS, MESSAGES, QUEUES, SURVIVOR_EVERY, Store, append_only::AppendOnly, batched::Batched,
    boxed::Boxed,
};
use crate::measure::{Problem, median, resident_octets};

/// Queues that are drained for the median time of one.
const DRAINS: usize = 50;

pub(super) fn run(arguments: &[String]) -> Result<(), Problem> {
    let [case, variant] = arguments else { return Err("a trial wants a case and a variant".into()) };
    match case.as_str() {
        "memory" => memory(new_store(variant)?.as_mut()),
        "grouped" => grouped(variant.parse::<usize>()? << 20),
        "dead" => mostly_dead(new_store(variant)?.as_mut()),
        other => return Err(format!("no case is called {other}").into()),
    }
    Ok(())
}

fn new_store(variant: &str) -> Result<Box<dyn Store>, Problem> {
    Ok(match variant {
        "append-only" => Box::new(AppendOnly::new()),
        "boxed" => Box::new(Boxed::new()),
        _ => {
            let batch =
                variant.strip_prefix("batch-").ok_or_else(|| format!("no variant is called {variant}"))?;
            Box::new(Batched::new(batch.parse()?))
        }
    })
}

/// The splitmix64 generator: small, and the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn fill(store: &mut dyn Store) -> f64 {
    let mut random = Random(1);
    let body = [b'x'; BODY_OCTETS];
    let start = Instant::now();
    for _ in 0..MESSAGES {
        store.publish(random.below(QUEUES as u64) as usize, &body);
    }
    store.flush();
    nanos_since(start)
}

fn nanos_since(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64
}

fn memory(store: &mut dyn Store) {
    let nanos = fill(store);
    print_memory(store, nanos);
}

fn grouped(segment_octets: usize) {
    let mut store = AppendOnly::new();
    fill(&mut store);
    let start = Instant::now();
    store.group_by_queue(segment_octets);
    let nanos = nanos_since(start);
    print_memory(&store, nanos);
}

fn print_memory(store: &dyn Store, nanos: f64) {
    println!("octets {}", store.octets());
    println!("resident {}", resident_octets());
    println!("nanos {}", nanos / MESSAGES as f64);
    println!("drain {}", drain_nanos(store));
    let (mut chunks, mut pages) = (HashSet::new(), HashSet::new());
    store.visit(0, &mut |chunk, body| {
        chunks.insert(chunk);
        pages.insert(body.as_ptr().addr() >> 12);
    });
    println!("touched {}\nchunks {}\npages {}", chunks.len(), store.chunks(), pages.len());
}

/// The median time to read one message when a queue is read from its head to its end.
fn drain_nanos(store: &dyn Store) -> f64 {
    let times: Vec<f64> = (0..DRAINS)
        .map(|drain| {
            let (mut count, mut sum) = (0u32, 0u64);
            let start = Instant::now();
            store.visit(drain * QUEUES / DRAINS, &mut |_, body| {
                count += 1;
                sum += body.iter().map(|&octet| u64::from(octet)).sum::<u64>();
            });
            black_box(sum);
            nanos_since(start) / f64::from(count)
        })
        .collect();
    median(&times)
}

fn mostly_dead(store: &mut dyn Store) {
    fill(store);
    let mut random = Random(2);
    let mut survivors = 0;
    store.consume(&mut || {
        let survives = random.below(SURVIVOR_EVERY) == 0;
        survivors += u64::from(survives);
        survives
    });
    println!("survivors {survivors}\nbefore {}\nresident-before {}", store.octets(), resident_octets());
    let start = Instant::now();
    let moved = store.move_survivors();
    println!("nanos {}\nmoved {moved}", nanos_since(start));
    println!("after {}\nresident-after {}", store.octets(), resident_octets());
}
