//! `cargo xtask interop`: the broker and the two programs against other people's clients and brokers.
//!
//! Holds what can be chosen and how cases are run and counted; each group of cases is a module.
//! Invariant: the exit code is 0 only if every chosen case passed, and at least one was chosen.

mod account;
pub(crate) mod apt;
mod bus;
mod clients;
mod cluster;
mod compare;
mod corpus;
mod kill;
mod lab;
pub(crate) mod leveret;
mod lines;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod rabbitmq;
mod round_trip;
mod sequence;
mod suites;
mod tutorials;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;

use lab::{Lab, Scene};

/// Which cases to run. Without names, all of the short set.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run only cases whose name contains one of these
    names: Vec<String>,
    /// Run only cases against this broker
    #[arg(long)]
    against: Option<Against>,
    /// Run the longer set too
    #[arg(long)]
    long: bool,
    /// Print the names of the chosen cases and run none
    #[arg(long)]
    list: bool,
    /// Run the chosen suites against RabbitMQ, and make what passes there the committed lists
    #[arg(long)]
    write_lists: bool,
    /// Use this leveret binary rather than building one
    #[arg(long, value_name = "PATH")]
    leveret: Option<PathBuf>,
    /// Keep the folder with the outputs of all processes even if every case passes
    #[arg(long)]
    keep: bool,
}

/// The broker that a case runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Against {
    /// leveret serve, built from this workspace
    Leveret,
    /// Debian's rabbitmq-server, or the one on the PATH
    #[value(name = "rabbitmq")]
    RabbitMq,
}

impl Against {
    const ALL: [Self; 2] = [Self::Leveret, Self::RabbitMq];

    fn name(self) -> &'static str {
        match self {
            Self::Leveret => "leveret",
            Self::RabbitMq => "rabbitmq",
        }
    }
}

/// What happens in a case; an error says what did not hold.
type Course = dyn Fn(&Scene) -> Result<()>;

/// One thing that must hold.
struct Case {
    name: String,
    against: Against,
    long: bool,
    run: Box<Course>,
}

impl Case {
    fn new(name: impl Into<String>, against: Against, run: impl Fn(&Scene) -> Result<()> + 'static) -> Self {
        Self { name: name.into(), against, long: false, run: Box::new(run) }
    }

    fn only_in_the_long_set(self) -> Self {
        Self { long: true, ..self }
    }

    fn is_chosen_by(&self, options: &Options) -> bool {
        let named = options.names.is_empty() || options.names.iter().any(|name| self.name.contains(name));
        let against = options.against.is_none_or(|broker| broker == self.against);
        named && against && (options.long || !self.long)
    }
}

fn all_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for against in Against::ALL {
        cases.extend(tutorials::cases(against));
        cases.extend(round_trip::cases(against));
        cases.extend(suites::cases(against));
    }
    cases.extend(kill::cases());
    cases.extend(cluster::cases());
    cases
}

/// Runs what was chosen; whether all of it passed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let all = if options.write_lists { suites::writers().collect() } else { all_cases() };
    let cases: Vec<Case> = all.into_iter().filter(|case| case.is_chosen_by(options)).collect();
    if options.list {
        for case in &cases {
            println!("{:8} {}", case.against.name(), case.name);
        }
        return Ok(true);
    }
    if cases.is_empty() {
        bail!("no case is called that; --list shows the names");
    }
    let lab = Lab::open(options.leveret.clone())?;
    let mut failed = run_cases(&cases, &lab)?;
    let passed = cases.len() - failed;
    if let Err(error) = lab.close(options.keep || failed > 0) {
        println!("FAILED to stop the brokers: {error:#}");
        failed += 1;
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

/// Runs the cases one after the other, and gives how many failed.
fn run_cases(cases: &[Case], lab: &Lab) -> Result<usize> {
    let started = Instant::now();
    let mut failed = 0;
    for (index, case) in cases.iter().enumerate() {
        failed += usize::from(!run_case(case, index, lab));
        lab.interrupt().check()?;
    }
    println!("{} cases in {:.1} s", cases.len(), started.elapsed().as_secs_f64());
    Ok(failed)
}

/// Runs a case and prints how it went; whether it passed.
fn run_case(case: &Case, index: usize, lab: &Lab) -> bool {
    let started = Instant::now();
    let outcome = guarded(case, index, lab);
    let verdict = if outcome.is_ok() { "ok    " } else { "FAILED" };
    let seconds = started.elapsed().as_secs_f64();
    println!("{verdict} {:8} {:48} {seconds:6.1} s", case.against.name(), case.name);
    if let Err(error) = &outcome {
        println!("       {error:#}");
    }
    outcome.is_ok()
}

/// A case that panics has failed; the others still run.
fn guarded(case: &Case, index: usize, lab: &Lab) -> Result<()> {
    let scene = lab.scene(case.against, &format!("{index:02}-{}", case.name.replace('/', "-")))?;
    std::panic::catch_unwind(AssertUnwindSafe(|| (case.run)(&scene)))
        .unwrap_or_else(|_| Err(anyhow!("the case panicked")))
}
