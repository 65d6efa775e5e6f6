//! The three experiments that the shape of the broker rests on: `dispatch`, `index` and `topology`.
//!
//! Each is a spike that measures variants of one decision and prints a table; the tables kept are in
//! `docs/decisions/`. Nothing here is used by the broker. Invariant: variants are run interleaved, so
//! that the noise of the machine falls on all of them alike.

#![forbid(unsafe_code)]
// Counts in here are constants of the experiments and fit every type that they are put into.
#![allow(clippy::cast_possible_truncation)]

mod dispatch;
mod index;
mod measure;
mod topology;

use std::process::ExitCode;

const USAGE: &str =
    "usage: leveret-experiments dispatch [designs|window|read|output|turn]... | index | topology";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((name, rest)) => run(name, rest),
        None => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, rest: &[String]) -> Result<(), measure::Problem> {
    match name {
        "dispatch" => dispatch::run(rest),
        dispatch::GENERATOR => dispatch::generate(rest),
        "index" => index::run(),
        "topology" => topology::run(),
        index::TRIAL => index::try_one(rest),
        _ => Err(USAGE.into()),
    }
}
