//! Experiment 3: how long a steady publisher stalls while the topology of its vhost churns.
//!
//! Joins (a server-named queue bound to one fanout), publishes to 20,000 queues and dropped connections
//! run on two workers beside a publisher of 1,000 messages a second to another exchange, which comes in by
//! a real socket. This file holds the variants and the tables.

mod copied;
mod growth;
mod in_place;
mod phase;
mod routes;
mod steady;
mod turn;
mod vhost;

use std::sync::Arc;

use crate::measure::{Problem, median, percentile};
use phase::{Outcome, Phase};
use vhost::Vhost;

const ROUNDS: usize = 7;
/// Polls between two looks at the sockets, as tokio has it.
const EVENT_INTERVAL: u32 = 61;

/// How the tables change and how long a turn is.
#[derive(Clone, Copy)]
struct Variant {
    name: &'static str,
    new_vhost: fn() -> Arc<dyn Vhost>,
    /// Steps a turn: a declare, a bind, an append, a free.
    budget: usize,
    event_interval: u32,
}

const UNSLICED: usize = usize::MAX;

const VARIANTS: [Variant; 7] = [
    Variant {
        name: "copied, unsliced",
        new_vhost: copied::new,
        budget: UNSLICED,
        event_interval: EVENT_INTERVAL,
    },
    Variant {
        name: "in place, unsliced",
        new_vhost: in_place::new,
        budget: UNSLICED,
        event_interval: EVENT_INTERVAL,
    },
    Variant { name: "in place, 256", new_vhost: in_place::new, budget: 256, event_interval: EVENT_INTERVAL },
    Variant {
        name: "in place, 1024",
        new_vhost: in_place::new,
        budget: 1024,
        event_interval: EVENT_INTERVAL,
    },
    Variant {
        name: "in place, 4096",
        new_vhost: in_place::new,
        budget: 4096,
        event_interval: EVENT_INTERVAL,
    },
    Variant {
        name: "in place, 16384",
        new_vhost: in_place::new,
        budget: 16_384,
        event_interval: EVENT_INTERVAL,
    },
    Variant {
        name: "in place, 4096, events every 7",
        new_vhost: in_place::new,
        budget: 4096,
        event_interval: 7,
    },
];

/// Runs every phase with every variant, interleaved.
pub(crate) fn run() -> Result<(), Problem> {
    growth::run();
    routes::run();
    for phase in Phase::ALL {
        let mut outcomes: Vec<Vec<Outcome>> = VARIANTS.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (variant, outcomes) in VARIANTS.iter().zip(&mut outcomes) {
                outcomes.push(phase::run(phase, variant)?);
            }
        }
        println!("\n### {}\n", phase.title());
        println!(
            "| | stall p50, ms | p99 | longest, median of rounds | longest of all | longest turn, CPU ms | total, ms | CPU, ms |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|");
        for (variant, outcomes) in VARIANTS.iter().zip(&outcomes) {
            print_row(variant.name, outcomes);
        }
    }
    Ok(())
}

fn print_row(name: &str, outcomes: &[Outcome]) {
    let of = |value: fn(&Outcome) -> f64| median(&outcomes.iter().map(value).collect::<Vec<_>>());
    let stalls: Vec<f64> =
        outcomes.iter().flat_map(|outcome| outcome.stalls_millis.iter().copied()).collect();
    println!(
        "| {name} | {:.2} | {:.1} | {:.1} | {:.1} | {:.2} | {:.0} | {:.0} |",
        median(&stalls),
        percentile(&stalls, 99.0),
        of(|outcome| percentile(&outcome.stalls_millis, 100.0)),
        percentile(&stalls, 100.0),
        of(|outcome| outcome.longest_turn.as_secs_f64() * 1e3),
        of(|outcome| outcome.elapsed.as_secs_f64() * 1e3),
        of(|outcome| outcome.processor.as_secs_f64() * 1e3),
    );
}
