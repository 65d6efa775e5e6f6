//! The comparison as lines on the terminal and as a page of the documentation, and whether it holds.
//!
//! Invariant: a requirement is judged by medians, and in one place.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::durable;
use super::load::Figures;
use super::scenario::{
    CONNECTIONS_PER_SECOND_MIN, DECLARING_SECONDS_MAX, IDLE_CORES_MAX, IDLE_OCTETS_MAX,
    LATENCY_P50_MICROS_MAX, LATENCY_P99_RATIO_MAX, Measure, RELAY_TIMES_MAX, Scenario, TIMES_FASTER,
};
use super::{Comparison, Row};
use crate::footprint::report::machine;

/// The middle one; of two in the middle the higher.
fn median(runs: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(of).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The last of these runs in one line.
pub(super) fn line(broker: &str, scenario: &Scenario, runs: &[Figures]) -> String {
    let Some(last) = runs.last() else { return String::new() };
    let text = match scenario.measure {
        Measure::Flow { .. } => format!(
            "{:.3} µs, {:.0}/s in {:.1} s, {:.2} cores; the generator takes {:.2} of it",
            last.micros, last.per_second, last.seconds, last.cores, last.generator_share
        ),
        Measure::Latency(_) => format!("p50 {:.0} µs, p99 {:.0} µs", last.p50_micros, last.p99_micros),
        Measure::Idle => format!(
            "{:.1} KiB each, {:.1} % of a core, {:.0} connections a second",
            last.octets_each / 1024.0,
            last.cores * 100.0,
            last.per_second
        ),
        Measure::Declaring => format!("{:.3} s", last.seconds),
    };
    format!("{}: {broker} {text}", scenario.name)
}

/// A requirement, what was found, and whether it is fulfilled.
struct Verdict {
    what: String,
    found: String,
    required: String,
    holds: bool,
}

fn at_most(what: &str, found: f64, most: f64, unit: &str, digits: usize) -> Verdict {
    Verdict {
        what: what.to_owned(),
        found: format!("{found:.digits$}{unit}"),
        required: format!("at most {most:.digits$}{unit}"),
        holds: found <= most,
    }
}

fn at_least(what: &str, found: f64, least: f64, unit: &str, digits: usize) -> Verdict {
    Verdict {
        what: what.to_owned(),
        found: format!("{found:.digits$}{unit}"),
        required: format!("at least {least:.digits$}{unit}"),
        holds: found >= least,
    }
}

fn verdicts(row: &Row) -> Vec<Verdict> {
    let of = |with: fn(&Figures) -> f64| median(&row.leveret, with);
    let peer = |with: fn(&Figures) -> f64| (!row.rabbitmq.is_empty()).then(|| median(&row.rabbitmq, with));
    let mut verdicts = Vec::new();
    match row.scenario.measure {
        Measure::Flow { times_less, .. } => {
            if let Some(rabbitmq) = peer(|figures| figures.micros) {
                let times = rabbitmq / of(|figures| figures.micros);
                verdicts.push(at_least("RabbitMQ's processor time is", times, times_less, " times ours", 1));
            }
            let is_broker_the_limit = !row.leveret.iter().any(|figures| figures.is_held_up_elsewhere);
            if let Some(rabbitmq) = peer(|figures| figures.per_second) {
                let times = of(|figures| figures.per_second) / rabbitmq;
                let what = "messages a second are";
                let mut verdict = at_least(what, times, TIMES_FASTER, " times RabbitMQ's", 1);
                if !verdict.holds && !is_broker_the_limit {
                    verdict.required += ", where generator and cores allow it; here they do not";
                    verdict.holds = true;
                }
                verdicts.push(verdict);
            }
            if let (Some(relay), true) = (row.relay, row.scenario.name.contains("1 KiB")) {
                let times = of(|figures| figures.micros) / relay;
                verdicts.push(at_most(
                    "the processor time is",
                    times,
                    RELAY_TIMES_MAX,
                    " times the relay's",
                    1,
                ));
            }
        }
        Measure::Latency(_) => {
            let p50 = of(|figures| figures.p50_micros);
            let mut verdict = at_most("p50 is", p50, LATENCY_P50_MICROS_MAX, " µs", 0);
            if !row.relay_latency.is_empty() {
                // Said beside it, for what the machine itself takes; the requirement stays what it is.
                let relay = median(&row.relay_latency, |figures| figures.p50_micros);
                let relay_p99 = median(&row.relay_latency, |figures| figures.p99_micros);
                let p99 = of(|figures| figures.p99_micros);
                verdict.found += &format!(
                    ", {:.2} times the relay's {relay:.0} µs, p99 {:.2} times its {relay_p99:.0} µs",
                    p50 / relay,
                    p99 / relay_p99
                );
            }
            verdicts.push(verdict);
            if let Some(rabbitmq) = peer(|figures| figures.p99_micros) {
                let times = of(|figures| figures.p99_micros) / rabbitmq;
                verdicts.push(at_most("p99 is", times, LATENCY_P99_RATIO_MAX, " times RabbitMQ's", 2));
            }
        }
        Measure::Idle => {
            let octets = of(|figures| figures.octets_each) / 1024.0;
            verdicts.push(at_most("a connection takes", octets, IDLE_OCTETS_MAX / 1024.0, " KiB", 1));
            let percent = of(|figures| figures.cores) * 100.0;
            verdicts.push(at_most("all take", percent, IDLE_CORES_MAX * 100.0, " % of a core", 1));
            let connections = of(|figures| figures.per_second);
            let what = "connecting with login:";
            verdicts.push(at_least(what, connections, CONNECTIONS_PER_SECOND_MIN, " a second", 0));
        }
        Measure::Declaring => {
            let seconds = of(|figures| figures.seconds);
            verdicts.push(at_most("it takes", seconds, DECLARING_SECONDS_MAX, " s", 3));
        }
    }
    verdicts
}

/// The medians and verdicts on the terminal; whether all hold.
pub(super) fn print(comparison: &Comparison) -> bool {
    println!("\n{}", table(comparison));
    let mut holds = true;
    let mut say = |name: &str, found: &str, required: &str, is_kept: bool| {
        println!("{} {name}: {found}, required: {required}", if is_kept { "ok    " } else { "FAILED" });
        holds &= is_kept;
    };
    for row in &comparison.rows {
        for verdict in verdicts(row) {
            let found = format!("{} {}", verdict.what, verdict.found);
            say(row.scenario.name, &found, &verdict.required, verdict.holds);
        }
    }
    for line in &comparison.growth {
        say(line.name, &line.found, &line.required, line.holds);
    }
    for line in &comparison.durable {
        say(line.name, &line.leveret, &line.required, line.holds);
    }
    holds
}

fn table(comparison: &Comparison) -> String {
    let mut table = String::from(
        "| scenario | leveret, µs | a second | RabbitMQ, µs | a second | NATS, µs | relay, µs | times less than RabbitMQ | required | goal | times as fast | times the relay |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for row in &comparison.rows {
        let Measure::Flow { micros: [reference, _, _, goal], times_less, .. } = row.scenario.measure else {
            continue;
        };
        let micros = |runs: &[Figures]| median(runs, |figures| figures.micros);
        let rate = |runs: &[Figures]| median(runs, |figures| figures.per_second);
        let (ours, theirs) = (micros(&row.leveret), micros(&row.rabbitmq));
        let relay = row.relay.unwrap_or(f64::NAN);
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {times_less:.0} | {:.0} | {} | {} |",
            row.scenario.name,
            shown(ours, 3),
            shown(rate(&row.leveret), 0),
            shown(theirs, 1),
            shown(rate(&row.rabbitmq), 0),
            shown(micros(&row.nats), 2),
            shown(relay, 3),
            shown(theirs / ours, 1),
            reference / goal,
            shown(rate(&row.leveret) / rate(&row.rabbitmq), 1),
            shown(ours / relay, 1),
        );
    }
    table
}

fn shown(figure: f64, digits: usize) -> String {
    if figure.is_nan() { "–".to_owned() } else { format!("{figure:.digits$}") }
}

pub(super) fn write(path: &Path, comparison: &Comparison, runs: u32) -> Result<()> {
    let kept = fs::read_to_string(path).ok();
    // What was tried and did not pay is written by hand, below this heading, and stays.
    let notes =
        kept.as_deref().and_then(|page| page.find(NOTES).map(|at| &page[at..])).unwrap_or(EMPTY_NOTES);
    fs::write(path, page(comparison, runs)? + notes)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

const NOTES: &str = "## Notes";
const EMPTY_NOTES: &str = "## Notes\n\nWhat was tried and did not pay is noted here by hand; the rest of the page is written by the command.\n";

fn page(comparison: &Comparison, runs: u32) -> Result<String> {
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let date = date.split_once('T').map_or(date.as_str(), |(day, _)| day);
    let mut page = format!(
        "# Speed\n\n\
         Written by `cargo xtask compare`, which fails when what is required is not reached.\n\n\
         {date}, {machine}. {names}. Medians of {runs} runs, in turn.\n\n\
         **µs** is the broker's processor time (user and system) for a message consumed; in a fan-out for a \
         delivery, in publish-only rows for a message published. Every run counts: everything published was \
         consumed, and checked, by its end. Load, latency and check are `leveret perf`'s (`docs/tools.md`), which runs on the same \
         cores, so rates are of broker and generator together; processor time is the broker's alone. The **relay** does no AMQP: it reads \
         the octets that publishers send and writes as many as consumers get, with the same buffers; in the row of latency at the same \
         rate, from a thread that waits by epoll. Core NATS is loaded by its own \
         client, `async-nats`.\n\n\
         Stock configurations: `leveret serve --listen 127.0.0.1:PORT`; RabbitMQ as Debian has it, without plugins, `rabbitmq.conf` with \
         `listeners.tcp.1 = 127.0.0.1:PORT` and no peers; `nats-server -a 127.0.0.1 -p PORT`. Each has its own ports and data folder.\n\n\
         {table}\n",
        machine = machine()?,
        names = comparison.names.join(", "),
        table = table(comparison),
    );
    page.push_str("| scenario | leveret | RabbitMQ | |\n|---|---|---|---|\n");
    for row in &comparison.rows {
        let verdicts = verdicts(row).iter().map(verdict_text).collect::<Vec<_>>().join("; ");
        let figures = |broker: &str, runs: &[Figures]| {
            let line = line(broker, row.scenario, &[middle(row.scenario, runs)?]);
            Some(line.split_once(&format!("{broker} "))?.1.to_owned())
        };
        let none = || "–".to_owned();
        let leveret = figures("leveret", &row.leveret).unwrap_or_else(none);
        let rabbitmq = figures("rabbitmq", &row.rabbitmq).unwrap_or_else(none);
        writeln!(page, "| {} | {leveret} | {rabbitmq} | {verdicts} |", row.scenario.name)?;
    }
    page.push_str("\n## Growth\n\n| | found | required | |\n|---|---|---|---|\n");
    for line in &comparison.growth {
        let verdict = if line.holds { "kept" } else { "**not kept**" };
        writeln!(page, "| {} | {} | {} | {verdict} |", line.name, line.found, line.required)?;
    }
    page.push_str(&durable::section(&comparison.durable)?);
    page.push('\n');
    Ok(page)
}

fn verdict_text(verdict: &Verdict) -> String {
    let Verdict { what, found, required, holds } = verdict;
    format!("{}{what} {found} ({required})", if *holds { "" } else { "**not kept**: " })
}

/// The run whose main figure is in the middle.
fn middle(scenario: &Scenario, runs: &[Figures]) -> Option<Figures> {
    let key = |figures: &Figures| match scenario.measure {
        Measure::Flow { .. } => figures.micros,
        Measure::Latency(_) => figures.p50_micros,
        Measure::Idle => figures.octets_each,
        Measure::Declaring => figures.seconds,
    };
    let mut runs = runs.to_vec();
    runs.sort_by(|one, other| key(one).total_cmp(&key(other)));
    runs.get(runs.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::scenario::SCENARIOS;

    fn runs(micros: &[f64], per_second: f64) -> Vec<Figures> {
        micros.iter().map(|micros| Figures { micros: *micros, per_second, ..Figures::default() }).collect()
    }

    /// Which verdicts hold for the second scenario: 10 times less, 6 times as fast, 3 times the relay.
    fn check(leveret: &[Figures], rabbitmq: &[Figures], relay: f64, holds: &[bool]) {
        let (leveret, rabbitmq) = (leveret.to_vec(), rabbitmq.to_vec());
        let row = Row { leveret, rabbitmq, ..Row::new(&SCENARIOS[1], Some(relay)) };
        let found: Vec<bool> = verdicts(&row).iter().map(|verdict| verdict.holds).collect();
        assert_eq!(found, holds);
    }

    #[test]
    fn medians_are_judged() {
        check(&runs(&[1.0, 9.0, 2.0], 600.0), &runs(&[20.0, 50.0, 1.0], 100.0), 1.0, &[true, true, true]);
        check(&runs(&[2.1], 500.0), &runs(&[20.0], 100.0), 0.5, &[false, false, false]);
        check(&runs(&[2.1], 500.0), &[], 1.0, &[true]);
    }

    #[test]
    fn the_relay_stands_beside_a_latency_and_does_not_excuse_it() {
        let scenario =
            SCENARIOS.iter().find(|scenario| matches!(scenario.measure, Measure::Latency(_))).unwrap();
        let at = |p50_micros| vec![Figures { p50_micros, p99_micros: 300.0, ..Figures::default() }];
        let judged = |p50| {
            let row = Row { leveret: at(p50), relay_latency: at(100.0), ..Row::new(scenario, None) };
            let verdict = verdicts(&row).remove(0);
            (verdict.found, verdict.holds)
        };
        let beside = "1.20 times the relay's 100 µs, p99 1.00 times its 300 µs";
        assert_eq!(judged(120.0), (format!("120 µs, {beside}"), false));
        assert!(judged(90.0).1);
    }

    #[test]
    fn a_rate_that_others_held_up_is_not_held_against_the_broker() {
        let mut leveret = runs(&[1.0], 500.0);
        leveret[0].is_held_up_elsewhere = true;
        check(&leveret, &runs(&[20.0], 100.0), 1.0, &[true, true, true]);
    }
}
