//! `leveret perf`: a load generator, which measures a broker and checks what comes back.
//!
//! From the flags (`args`) comes a plan, from the plan a crew of threads (`crew`, `worker`), and `course` takes
//! them through the run. Messages are made by `batch` and `producer`, taken by `channel` and `consumer`, and
//! looked at by `check`. What came of it is an `outcome`, shown by `report`.
//! Invariant: a message costs no allocation, no call of the system and no look at the clock by itself.

mod args;
mod batch;
mod channel;
mod check;
mod connection;
mod consumer;
mod course;
mod crew;
mod fault;
mod handed;
mod handshake;
mod json;
mod link;
mod orders;
mod outcome;
mod plan;
mod process;
mod producer;
mod report;
mod scene;
mod seen;
mod stamp;
mod tally;
mod topology;
mod watch;
mod worker;

use std::{cell::Cell, time::Duration};

use super::{Failure, open_files};
use args::Format;
pub(crate) use args::PerfArgs;
use outcome::{Ending, Outcome};
use plan::Plan;
use tally::Counts;

/// Runs the load and prints the summary; whatever went wrong in it is the exit code.
pub(crate) fn run(args: &PerfArgs) -> Result<(), Failure> {
    if args.asks_for_help() {
        return super::print_help("perf");
    }
    open_files::raise_limit();
    let random = getrandom::u32()
        .map_err(|error| Failure::System { what: "name the run", source: std::io::Error::other(error) })?;
    let plan = Plan::new(args, random)?;
    let seconds = Cell::new(0.0);
    let live = |time: Duration, counts: Counts| {
        seconds.set(seconds.get() + time.as_secs_f64());
        if !args.quiet {
            eprintln!("{}", report::live(seconds.get(), time, &counts));
        }
    };
    let outcome = super::runtime()?.block_on(course::run(plan, &live))?;
    print(&outcome, args.output)?;
    verdict(outcome)
}

fn print(outcome: &Outcome, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Text => report::summary(outcome),
        Format::Json => format!("{}\n", json::summary(outcome)),
    };
    super::print(&text)
}

fn verdict(outcome: Outcome) -> Result<(), Failure> {
    let holds = outcome.check_holds();
    match outcome.ending {
        Ending::Failed(fault) => Err(fault.into()),
        Ending::Cancelled => Err(Failure::Refused("it ended all consumers (basic.cancel)".to_owned())),
        _ if !holds => Err(Failure::Check),
        _ => Ok(()),
    }
}
