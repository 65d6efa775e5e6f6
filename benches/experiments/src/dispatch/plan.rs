//! Which runs are made, interleaved, and the tables of their medians.
//!
//! Leaves running one to `broker`. Invariant: each round runs every column once, so that noise falls on
//! all columns alike; a ratio is the median of the rounds' own ratios.

use super::{
    broker::{self, Outcome},
    settings::{Design, Settings},
};
use crate::measure::{Problem, median, spread};

const ROUNDS: usize = 7;
const SWEEP_ROUNDS: usize = 5;

type Part = (&'static str, fn() -> Result<(), Problem>);

const PARTS: [Part; 5] =
    [("designs", designs), ("window", windows), ("read", reads), ("output", outputs), ("turn", turns)];

pub(super) fn run(names: &[String]) -> Result<(), Problem> {
    for name in names {
        if !PARTS.iter().any(|(part, _)| part == name) {
            return Err(format!("no part of this experiment is called {name}").into());
        }
    }
    for (name, part) in PARTS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            part()?;
        }
    }
    Ok(())
}

/// A scenario with its name; the design is set by who runs it.
fn scenarios() -> Vec<(&'static str, Settings)> {
    let base = Settings::default;
    let kib = |settings| Settings { body_octets: 1024, ..settings };
    let one = Settings { messages: 12_000_000, ..base() };
    let fan_out = Settings { queues: 10, messages: 1_500_000, ..base() };
    let many = Settings { publishers: 4, messages: 12_000_000, ..base() };
    let acks = Settings { consumers_per_queue: 3, prefetch: 256, messages: 4_000_000, ..base() };
    let paced = Settings { rate: 20_000, messages: 20_000, ..base() };
    vec![
        ("1 to 1, 16 B", one.clone()),
        ("1 to 1, 1 KiB", Settings { messages: 600_000, ..kib(one) }),
        ("fan-out to 10, 16 B", fan_out.clone()),
        ("fan-out to 10, 1 KiB", Settings { messages: 50_000, ..kib(fan_out) }),
        ("4 publishers to 1, 16 B", many),
        ("acks, 3 consumers, prefetch 256, 16 B", acks.clone()),
        ("acks, 3 consumers, prefetch 256, 1 KiB", Settings { messages: 400_000, ..kib(acks) }),
        ("1 to 1 at 20,000/s, 16 B", paced.clone()),
        ("fan-out to 10 at 20,000/s, 16 B", Settings { queues: 10, ..paced }),
    ]
}

fn designs() -> Result<(), Problem> {
    for (name, settings) in scenarios() {
        let columns =
            Design::ALL.map(|design| (format!("{design:?}"), Settings { design, ..settings.clone() }));
        table(name, &columns, ROUNDS)?;
    }
    Ok(())
}

/// The scenarios that every sweep has: those without acknowledgements and with one publisher.
const SWEPT: usize = 4;
/// The scenarios of [`SWEPT`], and those with several publishers and with acknowledgements.
const SWEPT_WITH_ACKS: usize = 7;

/// The first scenarios with one constant varied.
fn sweep<T: Copy>(
    what: &str,
    scenario_count: usize,
    values: &[T],
    label: fn(T) -> String,
    set: fn(&mut Settings, T),
) -> Result<(), Problem> {
    for (name, settings) in scenarios().into_iter().take(scenario_count) {
        let columns: Vec<_> = values
            .iter()
            .map(|&value| {
                let mut varied = settings.clone();
                set(&mut varied, value);
                (label(value), varied)
            })
            .collect();
        table(&format!("{what}: {name}"), &columns, SWEEP_ROUNDS)?;
    }
    Ok(())
}

fn kib(octets: usize) -> String {
    format!("{} KiB", octets >> 10)
}

fn windows() -> Result<(), Problem> {
    let values = [256, 512, 1024, 2048, 4096, 8192];
    sweep(
        "window",
        SWEPT,
        &values,
        |window: u32| window.to_string(),
        |settings, window| settings.window = window,
    )
}

fn reads() -> Result<(), Problem> {
    let values = [16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10];
    sweep("read buffer", SWEPT, &values, kib, |settings, octets| settings.read_octets = octets)
}

fn outputs() -> Result<(), Problem> {
    let values = [16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20];
    sweep("output cap", SWEPT, &values, kib, |settings, octets| settings.output_octets = octets)
}

fn turns() -> Result<(), Problem> {
    let values = [1, 4, 16, 0];
    sweep(
        "reads a turn",
        SWEPT_WITH_ACKS,
        &values,
        |reads: usize| reads.to_string(),
        |settings, reads| {
            settings.reads_per_turn = reads;
        },
    )
}

/// Runs every column in every round, and prints a row for each column.
fn table(name: &str, columns: &[(String, Settings)], rounds: usize) -> Result<(), Problem> {
    let mut outcomes: Vec<Vec<Outcome>> = columns.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((_, settings), outcomes) in columns.iter().zip(&mut outcomes) {
            outcomes.push(broker::run(settings)?);
        }
    }
    println!("\n### {name}\n");
    println!(
        "| | broker CPU, ns a delivery (min-max) | ratio | of it user | thousand deliveries/s | reads, writes for 1,000 |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    let first = nanos(&outcomes[0], columns[0].1.deliveries());
    for ((label, settings), outcomes) in columns.iter().zip(&outcomes) {
        print_row(label, settings.deliveries(), outcomes, &first);
    }
    Ok(())
}

fn nanos(outcomes: &[Outcome], deliveries: usize) -> Vec<f64> {
    outcomes.iter().map(|outcome| outcome.processor.as_nanos() as f64 / deliveries as f64).collect()
}

fn print_row(label: &str, deliveries: usize, outcomes: &[Outcome], first: &[f64]) {
    let of = |value: fn(&Outcome) -> f64| median(&outcomes.iter().map(value).collect::<Vec<_>>());
    let nanos = nanos(outcomes, deliveries);
    let ratios: Vec<f64> = nanos.iter().zip(first).map(|(mine, first)| mine / first).collect();
    let (low, high) = spread(&nanos);
    let user: f64 = outcomes.iter().map(|outcome| outcome.user.as_nanos() as f64).sum();
    let user = user / (deliveries * outcomes.len()) as f64;
    let thousands = deliveries as f64 / 1000.0;
    println!(
        "| {label} | {:.0} ({low:.0}-{high:.0}) | {:.2} | {user:.0} | {:.0} | {:.2}, {:.2} |",
        median(&nanos),
        median(&ratios),
        thousands / of(|outcome| outcome.elapsed.as_secs_f64()),
        of(|outcome| outcome.calls.reads as f64) / thousands,
        of(|outcome| outcome.calls.writes as f64) / thousands,
    );
}
