//! The command that runs seeds and tells what they showed.

use std::process::ExitCode;

use clap::Parser;
use leveret_sim::{Counts, Settings, run};

/// Runs the broker's engine from seeds and holds it against a model of the messaging rules.
#[derive(Debug, Parser)]
struct Arguments {
    /// The one seed to run.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// How many seeds to run.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Steps before the end of a run begins.
    #[arg(long, default_value_t = Settings::default().steps)]
    steps: usize,
    /// Clients at a time; drawn from the seed if not given.
    #[arg(long)]
    clients: Option<usize>,
    /// Write everything that happens to standard error.
    #[arg(long)]
    story: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = Settings { steps: arguments.steps, clients: arguments.clients, story: arguments.story };
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.first..arguments.first + arguments.seeds,
    };
    let mut counts = Counts::default();
    for seed in seeds.clone() {
        match run(seed, settings) {
            Ok(report) => {
                counts.add(&report.counts);
                if arguments.seed.is_some() {
                    println!("trace {:016x}", report.hash);
                }
            }
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{} seeds, no fault\n{counts}", seeds.count());
    ExitCode::SUCCESS
}
