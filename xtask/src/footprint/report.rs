//! The figures as lines on the terminal and as a page of the documentation.
//!
//! Knows how figures are shown; not how they came about.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use procfs::Current;

use super::{Figures, MEMORY_OCTETS_MAX, Measured, START_UP_MAX, load};

/// A row of the table: what it is, how a run's figure is read and shown.
type Row = (&'static str, fn(&Measured<'_>, u64) -> String);

const ROWS: [Row; 8] = [
    ("start-up until `connection.open-ok`", |of, _| millis(of.start_up())),
    ("idle memory, RSS", |of, _| mib(of.median(|figures| figures.idle.rss_octets))),
    ("idle memory, PSS", |of, _| mib(of.median(|figures| figures.idle.pss_octets))),
    ("memory after the load, RSS", |of, _| mib(of.median(|figures| figures.after_load.rss_octets))),
    ("memory after the load, PSS", |of, _| mib(of.median(|figures| figures.after_load.pss_octets))),
    ("highest memory in the load, RSS", |of, _| mib(of.median(|figures| figures.peak_octets))),
    ("time for the load", |of, _| seconds(of.median(|figures| figures.load_time))),
    ("the broker's processor time for a message", |of, messages| {
        micros_each(of.median(|figures| figures.load_processor_time), messages)
    }),
];

/// One run in one line.
pub(super) fn line(name: &str, figures: &Figures) -> String {
    format!(
        "{name}: idle {}, after the load {} (at most {} in it), load {}, {} of processor time",
        mib(figures.idle.rss_octets),
        mib(figures.after_load.rss_octets),
        mib(figures.peak_octets),
        seconds(figures.load_time),
        seconds(figures.load_processor_time),
    )
}

/// The medians on the terminal.
pub(super) fn print(measured: &[Measured<'_>], messages: u64) {
    println!("\n{}", table(measured, messages));
}

/// The page of the documentation.
pub(super) fn write(path: &Path, measured: &[Measured<'_>], messages: u64) -> Result<()> {
    fs::write(path, page(measured, messages)?).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

fn page(measured: &[Measured<'_>], messages: u64) -> Result<String> {
    let runs =
        |of: &Measured<'_>| format!("{} runs ({} starts) of {}", of.runs.len(), of.starts.len(), of.name);
    let runs: Vec<String> = measured.iter().map(runs).collect();
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let date = date.split_once('T').map_or(date.as_str(), |(day, _)| day);
    let sizes = load::BODY_OCTETS.map(|octets| octets.to_string()).join(", ");
    let machine = machine()?;
    let mut page = format!(
        "# Start-up and memory\n\n\
         Written by `cargo xtask footprint`, which fails when leveret starts in more than {start_up} or takes \
         more than {memory} of resident memory, idle or after the load.\n\n\
         {date}, {machine}. Medians of {runs}; the runs take turns.\n\n\
         {table}\n\
         **Start-up** is from before the process is made until a client that tries all the time has \
         `connection.open-ok`. **Memory** is what `/proc/PID/smaps_rollup` says of the broker and its child \
         processes; idle one second after the start, after the load five seconds after its last connection was \
         closed. **The load** is {messages} messages over {connections} connections: {pairs} publishers, each to \
         the exclusive queue of one of {pairs} consumers; half of the publishers ask for confirms, half of the \
         consumers acknowledge (prefetch 500); bodies of {sizes} octets in turn; every message is checked. The \
         clients run on the same machine, so the time for the load is theirs as much as the broker's; processor \
         time is the broker's alone. RabbitMQ runs without plugins and with schedulers that do not spin.\n",
        start_up = millis(START_UP_MAX),
        memory = mib(MEMORY_OCTETS_MAX),
        runs = runs.join(" and "),
        table = table(measured, messages),
        connections = 2 * load::PAIRS,
        pairs = load::PAIRS,
    );
    page.push_str("\n| run | idle | after the load | highest | time | processor time |\n|---|---:|---:|---:|---:|---:|\n");
    for of in measured {
        for figures in &of.runs {
            writeln!(page, "{}", run_row(&of.name, figures))?;
        }
    }
    Ok(page)
}

fn run_row(name: &str, figures: &Figures) -> String {
    format!(
        "| {name} | {} | {} | {} | {} | {} |",
        mib(figures.idle.rss_octets),
        mib(figures.after_load.rss_octets),
        mib(figures.peak_octets),
        seconds(figures.load_time),
        seconds(figures.load_processor_time),
    )
}

fn table(measured: &[Measured<'_>], messages: u64) -> String {
    let names: Vec<&str> = measured.iter().map(|of| of.name.as_str()).collect();
    let mut table = format!("| median | {} |\n|---|{}\n", names.join(" | "), "---:|".repeat(names.len()));
    for (what, show) in ROWS {
        let cells: Vec<String> = measured.iter().map(|of| show(of, messages)).collect();
        table += &format!("| {what} | {} |\n", cells.join(" | "));
    }
    table
}

pub(crate) fn machine() -> Result<String> {
    let processors = procfs::CpuInfo::current()?;
    let memory_octets = procfs::Meminfo::current()?.mem_total;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = kernel.split(['-', '\n']).next().unwrap_or_default();
    Ok(format!(
        "{} cores {}, {:.0} GiB, Linux {kernel}, load average {:.1} at the end",
        processors.num_cores(),
        processors.model_name(0).unwrap_or("of an unknown model"),
        gib(memory_octets),
        procfs::LoadAverage::current()?.one,
    ))
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn gib(octets: u64) -> f64 {
    octets as f64 / f64::from(1 << 30)
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
pub(super) fn mib(octets: u64) -> String {
    format!("{:.1} MiB", octets as f64 / f64::from(1 << 20))
}

/// A short time in milliseconds, a long one in seconds.
pub(super) fn millis(time: Duration) -> String {
    if time >= Duration::from_secs(1) { seconds(time) } else { format!("{:.1} ms", time.as_secs_f64() * 1e3) }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
fn micros_each(time: Duration, count: u64) -> String {
    format!("{:.2} µs", time.as_secs_f64() * 1e6 / count as f64)
}
