//! Experiment 2: what an index of 8-octet locations costs, and what draining one queue of many touches.
//!
//! Ten million messages of 100 octets in 1,000 queues, published in a random interleaving. Each variant
//! runs in a process of its own, so that resident memory is its own. This file holds the plan and tables.

mod append_only;
mod batched;
mod boxed;
mod trial;

use std::{collections::BTreeMap, process::Command};

use crate::measure::{Problem, median};

/// The hidden subcommand that is one variant's process.
pub(crate) const TRIAL: &str = "index-trial";

const ROUNDS: usize = 5;
const MESSAGES: usize = 10_000_000;
const QUEUES: usize = 1_000;
const BODY_OCTETS: usize = 100;
/// One message of so many survives in the mostly dead case.
const SURVIVOR_EVERY: u64 = 1_000;

/// Messages in queues; every variant is one.
trait Store {
    fn publish(&mut self, queue: usize, body: &[u8]);

    /// Ends what the last publishes left open.
    fn flush(&mut self) {}

    /// Octets that this holds, by its own count: capacities, headers and tables included, and what an
    /// allocator adds left out.
    fn octets(&self) -> usize;

    /// Chunks that exist; a message that stands alone is one.
    fn chunks(&self) -> usize;

    /// Calls `see` with each message's chunk and body, in the order of the queue.
    fn visit(&self, queue: usize, see: &mut dyn FnMut(usize, &[u8]));

    /// Consumes every message for which `survives` is false.
    fn consume(&mut self, survives: &mut dyn FnMut() -> bool);

    /// Frees chunks that only a few messages pin, and answers how many messages that moved.
    fn move_survivors(&mut self) -> usize;
}

/// Runs the three tables.
pub(crate) fn run() -> Result<(), Problem> {
    memory()?;
    grouped()?;
    mostly_dead()
}

/// One variant's process.
pub(crate) fn try_one(arguments: &[String]) -> Result<(), Problem> {
    trial::run(arguments)
}

/// Medians by name, for each variant.
type Figures = BTreeMap<String, f64>;

fn trials(case: &str, variants: &[&str]) -> Result<Vec<Figures>, Problem> {
    let mut runs: Vec<BTreeMap<String, Vec<f64>>> = vec![BTreeMap::new(); variants.len()];
    for _ in 0..ROUNDS {
        for (variant, figures) in variants.iter().zip(&mut runs) {
            for (name, value) in trial_once(case, variant)? {
                figures.entry(name).or_default().push(value);
            }
        }
    }
    let medians = |figures: BTreeMap<String, Vec<f64>>| {
        figures.into_iter().map(|(name, values)| (name, median(&values))).collect()
    };
    Ok(runs.into_iter().map(medians).collect())
}

fn trial_once(case: &str, variant: &str) -> Result<Figures, Problem> {
    let output = Command::new(std::env::current_exe()?).args([TRIAL, case, variant]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let lines = String::from_utf8(output.stdout)?;
    let figures = lines.lines().filter_map(|line| line.split_once(' '));
    figures.map(|(name, value)| Ok((name.to_owned(), value.parse()?))).collect()
}

const MEMORY_VARIANTS: [&str; 5] = ["append-only", "boxed", "batch-1", "batch-16", "batch-256"];

fn memory() -> Result<(), Problem> {
    println!("\n### {MESSAGES} messages of {BODY_OCTETS} B in {QUEUES} queues\n");
    println!(
        "| | own count, octets a message | VmRSS, octets a message | publish, ns | drain, ns a message | chunks touched by one queue | share | 4 KiB pages touched, share |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    print_all(&MEMORY_VARIANTS, &trials("memory", &MEMORY_VARIANTS)?);
    Ok(())
}

fn grouped() -> Result<(), Problem> {
    let variants = ["16", "64", "256", "2048"];
    println!("\n### The same after survivors were rewritten, grouped by queue within a segment (MiB)\n");
    println!(
        "| | own count, octets a message | VmRSS, octets a message | rewrite, ns | drain, ns a message | chunks touched by one queue | share | 4 KiB pages touched, share |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    print_all(&variants, &trials("grouped", &variants)?);
    Ok(())
}

fn print_all(variants: &[&str], all: &[Figures]) {
    for (variant, figures) in variants.iter().zip(all) {
        println!(
            "| {variant} | {:.1} | {:.1} | {:.0} | {:.1} | {:.0} of {:.0} | {:.2} % | {:.2} % |",
            figures["octets"] / MESSAGES as f64,
            figures["resident"] / MESSAGES as f64,
            figures["nanos"],
            figures["drain"],
            figures["touched"],
            figures["chunks"],
            100.0 * figures["touched"] / figures["chunks"],
            100.0 * figures["pages"] * 4096.0 / figures["resident"],
        );
    }
}

fn mostly_dead() -> Result<(), Problem> {
    println!("\n### One message of {SURVIVOR_EVERY} survives\n");
    println!(
        "| | survivors | MiB pinned before | MiB after | octets a survivor before, after | move, ns a survivor | VmRSS before, after, MiB |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (variant, figures) in MEMORY_VARIANTS.iter().zip(trials("dead", &MEMORY_VARIANTS)?) {
        let mib = |name: &str| figures[name] / f64::from(1 << 20);
        let survivors = figures["survivors"];
        println!(
            "| {variant} | {survivors:.0} | {:.1} | {:.1} | {:.0}, {:.0} | {:.0} | {:.0}, {:.0} |",
            mib("before"),
            mib("after"),
            figures["before"] / survivors,
            figures["after"] / survivors,
            figures["nanos"] / survivors,
            mib("resident-before"),
            mib("resident-after"),
        );
    }
    Ok(())
}
