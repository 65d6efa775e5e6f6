//! `cargo xtask footprint`: how fast the broker starts and how much memory it takes, with RabbitMQ beside it.
//!
//! Holds what can be chosen, the course of a run and the limits; each part of the measuring is a module.
//! Invariant: the exit code is 0 only if leveret was measured and kept within every limit.

pub(crate) mod client;
mod load;
pub(crate) mod peer;
pub(crate) mod report;
pub(crate) mod usage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::interop::process::Supervisor;
use crate::workplace::Workplace;
use peer::{Kind, Peer};
use usage::Memory;

/// From the start of the process until `connection.open-ok`.
const START_UP_MAX: Duration = Duration::from_millis(50);
/// Resident memory, idle and after the load.
const MEMORY_OCTETS_MAX: u64 = 15 * 1024 * 1024;

/// How long a broker rests before its memory is read. RabbitMQ collects its garbage meanwhile.
const REST_BEFORE_IDLE: Duration = Duration::from_secs(1);
const REST_AFTER_LOAD: Duration = Duration::from_secs(5);

/// How often to measure, and what
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Measure leveret alone; the report is left as it is
    #[arg(long)]
    without_rabbitmq: bool,
    /// Runs of leveret, each from its start to its end; RabbitMQ has at most three
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Messages in the load of a run; the report is written with the default only
    #[arg(long, value_name = "COUNT", default_value_t = MESSAGES, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Measure this leveret binary rather than building one
    #[arg(long, value_name = "PATH")]
    leveret: Option<PathBuf>,
}

const MESSAGES: u64 = 1_000_000;
const RABBITMQ_RUNS_MAX: u32 = 3;
/// Starts of leveret that nothing follows, beside those of the runs.
const STARTS_ALONE: u32 = 20;

/// What a run showed of a broker.
#[derive(Debug, Clone)]
struct Figures {
    idle: Memory,
    after_load: Memory,
    peak_octets: u64,
    load_time: Duration,
    /// Processor time of the broker in the load.
    load_processor_time: Duration,
}

/// A broker and its runs.
struct Measured<'a> {
    kind: Kind<'a>,
    supervisor: &'a Supervisor,
    folder: &'a Path,
    name: String,
    /// How long each start took, of the runs and of those that nothing followed.
    starts: Vec<Duration>,
    runs: Vec<Figures>,
}

/// Measures, prints, and writes the report; whether leveret keeps the limits.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let place = Workplace::set_up("footprint", options.leveret.as_deref())?;
    let measured = measure(options, &place.supervisor, &place.binary, place.folder())?;
    report::print(&measured, options.messages);
    if !options.without_rabbitmq && options.messages == MESSAGES {
        report::write(&place.workspace.join("docs/footprint.md"), &measured, options.messages)?;
    }
    Ok(keeps_limits(&measured[0]))
}

/// leveret first. The runs of both take turns, so that what else the machine does meets both.
fn measure<'a>(
    options: &Options,
    supervisor: &'a Supervisor,
    binary: &'a Path,
    folder: &'a Path,
) -> Result<Vec<Measured<'a>>> {
    let mut leveret = Measured::new(Kind::Leveret(binary), supervisor, folder);
    let mut rabbitmq = Measured::new(Kind::RabbitMq, supervisor, folder);
    for _ in 0..STARTS_ALONE {
        leveret.start()?.stop()?;
    }
    let rabbitmq_runs = if options.without_rabbitmq { 0 } else { options.runs.min(RABBITMQ_RUNS_MAX) };
    for number in 0..options.runs {
        leveret.run(options.messages)?;
        if number < rabbitmq_runs {
            rabbitmq.run(options.messages)?;
        }
    }
    let all = [leveret, rabbitmq];
    Ok(all.into_iter().filter(|measured| !measured.runs.is_empty()).collect())
}

/// Says for each limit whether the median keeps it.
fn keeps_limits(measured: &Measured) -> bool {
    let start_up = measured.start_up();
    let mut keeps = true;
    let mut check = |what: &str, found: String, limit: String, holds: bool| {
        println!("{} {what}: {found}, at most {limit}", if holds { "ok    " } else { "FAILED" });
        keeps &= holds;
    };
    check("start-up", report::millis(start_up), report::millis(START_UP_MAX), start_up < START_UP_MAX);
    for (what, found) in [
        ("idle memory", measured.median(|figures| figures.idle.rss_octets)),
        ("memory after the load", measured.median(|figures| figures.after_load.rss_octets)),
    ] {
        check(what, report::mib(found), report::mib(MEMORY_OCTETS_MAX), found < MEMORY_OCTETS_MAX);
    }
    keeps
}

impl<'a> Measured<'a> {
    fn new(kind: Kind<'a>, supervisor: &'a Supervisor, folder: &'a Path) -> Self {
        Self { kind, supervisor, folder, name: String::new(), starts: Vec::new(), runs: Vec::new() }
    }

    fn start(&mut self) -> Result<Peer> {
        let folder = self.folder.join(format!("{}-{}", self.kind.name(), self.starts.len()));
        let peer = Peer::start(self.supervisor, &self.kind, &folder)?;
        self.name.clone_from(&peer.name);
        self.starts.push(peer.start_up);
        Ok(peer)
    }

    /// From a fresh start to the end.
    fn run(&mut self, messages: u64) -> Result<()> {
        let mut peer = self.start()?;
        let figures = figures(&mut peer, messages)?;
        peer.stop()?;
        println!("{}", report::line(&self.name, &figures));
        self.runs.push(figures);
        Ok(())
    }

    fn start_up(&self) -> Duration {
        median(self.starts.iter().copied())
    }

    /// The middle run's figure.
    fn median<T: Ord>(&self, of: impl Fn(&Figures) -> T) -> T {
        median(self.runs.iter().map(of))
    }
}

fn figures(peer: &mut Peer, messages: u64) -> Result<Figures> {
    peer.rest(REST_BEFORE_IDLE)?;
    let idle = usage::memory(peer.pid)?;
    let before_load = usage::processor_time(peer.pid)?;
    let load_time = load::run(peer.port, messages).with_context(|| format!("the load on {}", peer.name))?;
    let load_processor_time = usage::processor_time(peer.pid)? - before_load;
    peer.rest(REST_AFTER_LOAD)?;
    let after_load = usage::memory(peer.pid)?;
    let peak_octets = usage::peak_octets(peer.pid)?;
    Ok(Figures { idle, after_load, peak_octets, load_time, load_processor_time })
}

/// The middle one; of two in the middle the higher.
fn median<T: Ord>(figures: impl Iterator<Item = T>) -> T {
    let mut figures: Vec<T> = figures.collect();
    figures.sort();
    figures.swap_remove(figures.len() / 2)
}
