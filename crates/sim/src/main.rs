//! The command that runs seeds and tells what they showed.

use std::{
    fmt,
    io::{self, Write as _},
    num::{NonZeroU64, NonZeroUsize},
    process::ExitCode,
};

use clap::Parser;
use leveret_sim::{
    Counts, Settings,
    cuts::{CutReport, run_cuts},
    lab::{Event, LabFailure, LabReport, LabSettings, Tally},
    routing::run_routing,
    run,
    streams::run_streams,
};

/// Runs the broker's engine from seeds and holds it against a model of the messaging rules.
///
/// A seed decides all that happens in a run. Prints how often each thing happened, or, for a
/// seed that shows a fault, what was wrong, the last steps and the command that shows it again;
/// then the exit code is 1.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to run
    #[arg(long, value_name = "COUNT", default_value = "300")]
    seeds: NonZeroU64,
    /// The first of them; the others follow it
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    first: u64,
    /// Run this seed alone
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Go on with the next seed after one that shows a fault
    #[arg(long, conflicts_with = "seed")]
    keep_going: bool,
    /// Cut the power, kill and stop the broker, on a simulated disk, and hold what is there after each
    /// start against what clients were told
    #[arg(long, conflicts_with_all = ["steps", "clients", "story"])]
    power_cuts: bool,
    /// Exchanges that delay, share, remember and answer, and a small model of where each message has to be
    #[arg(long, conflicts_with_all = ["steps", "clients", "power_cuts", "streams"])]
    routing: bool,
    /// Streams: many readers from every kind of offset, retention, and a plain list as the model
    #[arg(long, conflicts_with_all = ["steps", "clients", "power_cuts"])]
    streams: bool,
    /// Steps of a run, before its end begins
    #[arg(long, value_name = "COUNT", default_value = "5000")]
    steps: NonZeroUsize,
    /// Clients at a time [default: 2 to 6, drawn from the seed]
    #[arg(long, value_name = "COUNT")]
    clients: Option<NonZeroUsize>,
    /// A mistake to plant in the engine, to see it found
    #[cfg(feature = "planted-bugs")]
    #[arg(long, value_name = "NAME", value_parser = bugs())]
    bug: Option<leveret_broker::planted::Bug>,
    /// Write every step and every frame to standard error
    #[arg(long, requires = "seed")]
    story: bool,
}

#[cfg(feature = "planted-bugs")]
fn bugs() -> impl clap::builder::TypedValueParser<Value = leveret_broker::planted::Bug> {
    use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
    use leveret_broker::planted::Bug;

    let value = |bug: &Bug| PossibleValue::new(bug.name()).help(bug.text());
    let named = |name: String| Bug::ALL.iter().copied().find(|bug| bug.name() == name);
    PossibleValuesParser::new(Bug::ALL.iter().map(value))
        .map(move |name| named(name).expect("only names of bugs are let through"))
}

impl Arguments {
    fn settings(&self) -> Settings {
        Settings {
            steps: self.steps.get(),
            clients: self.clients.map(NonZeroUsize::get),
            #[cfg(feature = "planted-bugs")]
            bug: self.bug,
            story: self.story,
        }
    }

    const fn lab_settings(&self) -> LabSettings {
        LabSettings {
            #[cfg(feature = "planted-bugs")]
            bug: self.bug,
            story: self.story,
        }
    }

    /// The first and the last seed.
    fn seeds(&self) -> (u64, u64) {
        let one = |seed| (seed, seed);
        self.seed.map_or_else(|| (self.first, self.first.saturating_add(self.seeds.get() - 1)), one)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.power_cuts {
        return cut_power(&arguments);
    }
    if arguments.routing {
        return run_in_lab(&arguments, run_routing);
    }
    if arguments.streams {
        return run_in_lab(&arguments, run_streams);
    }
    let (first, last) = arguments.seeds();
    let (mut counts, mut clean, mut faulty) = (Counts::default(), 0_u64, Vec::new());
    for seed in first..=last {
        match run(seed, arguments.settings()) {
            Ok(report) => {
                clean += 1;
                counts.add(&report.counts);
                if first == last {
                    print(format_args!("trace {:016x}\n", report.hash));
                }
            }
            Err(failure) => {
                eprintln!("{failure}");
                if !arguments.keep_going {
                    return ExitCode::FAILURE;
                }
                faulty.push(seed);
            }
        }
    }
    finish(clean, &counts, &faulty)
}

fn cut_power(arguments: &Arguments) -> ExitCode {
    let (first, last) = arguments.seeds();
    let (mut report, mut faulty) = (CutReport::default(), Vec::new());
    #[cfg(feature = "planted-bugs")]
    leveret_broker::planted::plant(arguments.bug);
    for seed in first..=last {
        match run_cuts(seed) {
            Ok(one) => report.add(&one),
            Err(violation) => {
                eprintln!("{violation}\nagain: cargo run -p leveret-sim -- --power-cuts --seed {seed}");
                if !arguments.keep_going {
                    return ExitCode::FAILURE;
                }
                faulty.push(seed);
            }
        }
    }
    print(format_args!("{report}\n"));
    if faulty.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("seeds with a fault: {faulty:?}");
    ExitCode::FAILURE
}

/// Runs of a kind that has a model of its own.
fn run_in_lab<E: Event>(
    arguments: &Arguments,
    run: impl Fn(u64, LabSettings) -> Result<LabReport<E>, Box<LabFailure>>,
) -> ExitCode {
    let (first, last) = arguments.seeds();
    let (mut counts, mut clean, mut faulty) = (Tally::default(), 0_u64, Vec::new());
    for seed in first..=last {
        match run(seed, arguments.lab_settings()) {
            Ok(report) => {
                clean += 1;
                counts.add(&report.counts);
                if first == last {
                    print(format_args!("trace {:016x}\n", report.hash));
                }
            }
            Err(failure) => {
                eprintln!("{failure}");
                if !arguments.keep_going {
                    return ExitCode::FAILURE;
                }
                faulty.push(seed);
            }
        }
    }
    finish(clean, &counts, &faulty)
}

fn finish(clean: u64, counts: &dyn fmt::Display, faulty: &[u64]) -> ExitCode {
    print(format_args!("seeds without a fault: {clean}\n{counts}"));
    if faulty.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("seeds with a fault: {faulty:?}");
    ExitCode::FAILURE
}

/// A reader that went away has read enough.
fn print(text: fmt::Arguments<'_>) {
    let _ = io::stdout().write_fmt(text);
}
