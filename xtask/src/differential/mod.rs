//! `cargo xtask differential`: random scripts against RabbitMQ and leveret, and what differs.
//!
//! Holds what can be chosen, and how scripts are run side by side and counted. A script is drawn
//! ([`generator`]), run on both brokers in step ([`duel`]), compared ([`comparison`]), and shrunk
//! if the two differ ([`shrink`]).
//! Invariant: the exit code is 0 only if no difference was found that is not in [`allowed`], and
//! everything was tried often enough.

mod allowed;
mod brokers;
mod client;
mod comparison;
mod duel;
mod encode;
mod event;
mod features;
mod field;
mod generator;
mod histogram;
mod janitor;
mod ledger;
mod login;
mod names;
mod open;
mod operation;
mod random;
mod report;
mod shrink;
mod side;
mod wire;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use brokers::Running;
use duel::{Brokers, Found, Outcome};
use features::{Features, Group};
use histogram::Histogram;
use operation::Script;

/// A difference counts when it is there in each of so many runs; RabbitMQ's own parts race.
const RUNS_MAX: usize = 4;
/// How long two brokers may take to come to agree.
const PATIENCE: Duration = Duration::from_millis(2500);
const PATIENCE_WHEN_SHRINKING: Duration = Duration::from_millis(250);
/// Scripts at the same time: more than there are cores, because scripts mostly wait.
const SCRIPTS_AT_ONCE: usize = 10;

/// Which scripts to run, and on what.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The first script's seed; each script has the next one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run scripts until they have had so many steps
    #[arg(long, default_value_t = 100_000)]
    steps: usize,
    /// A running broker: the first is the reference in place of a private RabbitMQ, a second one
    /// is compared with it in place of leveret
    #[arg(long, value_name = "HOST:PORT")]
    peer: Vec<String>,
    /// Draw scripts of these groups only
    #[arg(long, value_name = "FEATURE")]
    only: Vec<Group>,
    /// Use what leveret does not do yet, too
    #[arg(long)]
    all_features: bool,
    /// Run this script rather than random ones
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Run so many scripts at a time
    #[arg(long, value_name = "N", default_value_t = SCRIPTS_AT_ONCE)]
    at_once: usize,
    /// Use this leveret binary rather than building one
    #[arg(long, value_name = "PATH")]
    leveret: Option<PathBuf>,
}

/// Runs the scripts; whether the brokers agreed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let running = Running::start(&options.peer, options.leveret.as_deref())?;
    let verdict = match &options.script {
        Some(path) => run_one(path, running.brokers),
        None => run_many(options, &running),
    };
    running.stop()?;
    verdict
}

fn run_one(path: &Path, brokers: Brokers) -> Result<bool> {
    let script = report::read(path)?;
    let (outcome, runs) = run_until_agreed(&script, brokers, &AtomicU64::new(1), PATIENCE, RUNS_MAX)?;
    match &outcome.difference {
        None => println!("the brokers agree in run {runs}"),
        Some(found) => println!("{}", report::tell(&script, &outcome.trace, found)),
    }
    Ok(outcome.difference.is_none())
}

/// Runs a script until the brokers agree once; the last run, and how many there were.
fn run_until_agreed(
    script: &Script,
    brokers: Brokers,
    run: &AtomicU64,
    patience: Duration,
    runs_max: usize,
) -> Result<(Outcome, usize)> {
    let mut runs = 0;
    loop {
        runs += 1;
        let number = run.fetch_add(1, Ordering::Relaxed) & 0xff_ffff;
        let outcome = duel::run(script, brokers, number, patience)?;
        if outcome.difference.is_none() || runs == runs_max {
            return Ok((outcome, runs));
        }
    }
}

/// What all threads of a run share.
struct Shared<'a> {
    options: &'a Options,
    running: &'a Running,
    groups: Vec<Group>,
    /// Scripts that differed once, which come first.
    kept: Mutex<Vec<Script>>,
    seed: AtomicU64,
    run: AtomicU64,
    steps: AtomicUsize,
    tally: Mutex<Tally>,
}

/// What came of the scripts so far.
#[derive(Default)]
struct Tally {
    histogram: Histogram,
    scripts: usize,
    /// Scripts on which the brokers did not agree at once.
    wavering: BTreeMap<String, usize>,
    allowed: BTreeMap<&'static str, usize>,
    left_out: usize,
    asked_again: usize,
    /// Scripts that ended early, by the order that is open.
    open_ends: BTreeMap<&'static str, usize>,
    /// For each difference how many scripts showed it.
    differences: BTreeMap<String, usize>,
    broken: Option<anyhow::Error>,
}

fn run_many(options: &Options, running: &Running) -> Result<bool> {
    let begun = Instant::now();
    let groups = if options.only.is_empty() { Group::ALL.to_vec() } else { options.only.clone() };
    let shared = Shared {
        options,
        running,
        groups,
        kept: Mutex::new(report::kept()?),
        seed: AtomicU64::new(options.seed),
        // Runs on a broker that goes on living must not meet the names of earlier ones.
        run: AtomicU64::new(options.seed.wrapping_mul(7919) ^ u64::from(std::process::id()) << 8),
        steps: AtomicUsize::new(0),
        tally: Mutex::default(),
    };
    thread::scope(|scope| {
        for _ in 0..options.at_once {
            scope.spawn(|| shared.work());
        }
    });
    let tally = shared.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let verdict = tally.conclude(begun.elapsed(), options.only.is_empty());
    running.interrupt().check()?;
    verdict
}

impl Shared<'_> {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs scripts until there were enough steps.
    fn work(&self) {
        while self.steps.load(Ordering::Relaxed) < self.options.steps
            && !self.running.interrupt().is_set()
            && self.tally().broken.is_none()
        {
            let (script, group) = self.next_script();
            if let Err(error) = self.try_script(&script, group) {
                self.tally().broken = Some(error.context(format!("seed {} ({})", script.seed, group.name())));
            }
        }
    }

    /// A script that was kept, and when there is none any more the next seed's.
    fn next_script(&self) -> (Script, Group) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let seed =
            kept.as_ref().map_or_else(|| self.seed.fetch_add(1, Ordering::Relaxed), |script| script.seed);
        let group = self.groups[usize::try_from(seed % self.groups.len() as u64).unwrap_or_default()];
        let draw = || generator::script(seed, group, Features { all: self.options.all_features });
        (kept.unwrap_or_else(draw), group)
    }

    fn try_script(&self, script: &Script, group: Group) -> Result<()> {
        let first = duel::run(script, self.running.brokers, self.next_run(), PATIENCE)?;
        let signature = |found: &Found| found.difference.signature(operation_at(script, found.step));
        let Some(found) = &first.difference else {
            self.agreed(&first);
            return Ok(());
        };
        let first_signature = signature(found);
        if self.is_known(&first_signature) {
            self.steps.fetch_add(first.trace.len(), Ordering::Relaxed);
            return Ok(());
        }
        let (outcome, _) = run_until_agreed(script, self.running.brokers, &self.run, PATIENCE, RUNS_MAX - 1)?;
        match &outcome.difference {
            None => {
                *self.tally().wavering.entry(first_signature).or_default() += 1;
                self.agreed(&outcome);
            }
            Some(found) => {
                // What comes behind the difference has no part in it.
                let mut script = script.clone();
                script.steps.truncate(found.step + 1);
                let whole = report::tell(&script, &outcome.trace, found);
                self.differed(&script, group, &signature(found), &whole)?;
            }
        }
        Ok(())
    }

    fn next_run(&self) -> u64 {
        self.run.fetch_add(1, Ordering::Relaxed) & 0xff_ffff
    }

    fn is_known(&self, signature: &str) -> bool {
        let mut tally = self.tally();
        let known = tally.differences.get_mut(signature);
        known.map(|count| *count += 1).is_some()
    }

    fn agreed(&self, outcome: &Outcome) {
        let mut histogram = Histogram::default();
        for (step, heard) in outcome.trace.iter().flatten() {
            histogram.count(step, heard);
        }
        self.steps.fetch_add(histogram.steps, Ordering::Relaxed);
        let mut tally = self.tally();
        tally.histogram.add(histogram);
        tally.scripts += 1;
        tally.left_out += outcome.left_out;
        tally.asked_again += outcome.asked_again;
        if let Some(name) = outcome.open_end {
            *tally.open_ends.entry(name).or_default() += 1;
        }
        for name in &outcome.allowed {
            *tally.allowed.entry(name).or_default() += 1;
        }
    }

    /// Shrinks a script on which the brokers differ, and keeps it; `whole` tells what they said to all
    /// of it.
    fn differed(&self, script: &Script, group: Group, signature: &str, whole: &str) -> Result<()> {
        let number = {
            let mut tally = self.tally();
            if let Some(count) = tally.differences.get_mut(signature) {
                *count += 1;
                return Ok(());
            }
            tally.differences.insert(signature.to_owned(), 1);
            tally.differences.len()
        };
        println!("seed {} ({}) differs: {signature}", script.seed, group.name());
        let is_same = |script: &Script, outcome: &Outcome| {
            let found = outcome.difference.as_ref();
            found.is_some_and(|found| {
                found.difference.signature(operation_at(script, found.step)) == signature
            })
        };
        let brokers = self.running.brokers;
        let smallest = shrink::shrink(script, |script| {
            let outcome = duel::run(script, brokers, self.next_run(), PATIENCE_WHEN_SHRINKING);
            !self.running.interrupt().is_set() && outcome.is_ok_and(|outcome| is_same(script, &outcome))
        });
        let outcome = duel::run(&smallest, brokers, self.next_run(), PATIENCE)?;
        let text = match &outcome.difference {
            Some(found) => report::tell(&smallest, &outcome.trace, found),
            None => format!("the shrunk script does not differ in every run; the whole one:\n{whole}"),
        };
        let path = report::keep(&self.running.failures(), &smallest, &text, number)?;
        println!(
            "--- {signature}\nseed {} ({}), kept as {}\n{text}",
            script.seed,
            group.name(),
            path.display()
        );
        Ok(())
    }
}

fn operation_at(script: &Script, step: usize) -> &'static str {
    script.steps.get(step).map_or("the end", |step| step.operation.name())
}

impl Tally {
    /// Prints what came out; whether it is as it should be.
    fn conclude(self, time: Duration, is_whole: bool) -> Result<bool> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        if self.histogram.steps == 0 && self.differences.is_empty() {
            bail!("no step was run");
        }
        print!("{}", self.histogram.table());
        let seconds = time.as_secs_f64();
        println!("{} scripts, {} steps in {seconds:.0} s", self.scripts, self.histogram.steps);
        println!("because an order is open: {} steps left out", self.left_out);
        self.open_ends.iter().for_each(|(name, count)| println!("ended early: {name} {count}"));
        println!("counts of a queue asked for once more: {}", self.asked_again);
        self.allowed.iter().for_each(|(name, count)| {
            println!("allowed: {name} {count} ({})", allowed::reason_of(name));
        });
        self.wavering.iter().for_each(|(name, count)| println!("agreed only when run again: {name} {count}"));
        self.differences.iter().for_each(|(name, count)| println!("DIFFERENCE in {count} scripts: {name}"));
        let missing = if is_whole { self.histogram.missing() } else { Vec::new() };
        missing.iter().for_each(|line| println!("TOO SELDOM: {line}"));
        Ok(self.differences.is_empty() && missing.is_empty())
    }
}
