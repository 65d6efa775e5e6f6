//! What queues that last cost: messages that are on disk before their confirm, and what a restart brings back.
//!
//! Each measurement has brokers of its own, leveret's and RabbitMQ's in turn on the same disk, whose folders are
//! removed when they were looked at. Invariant: a message counts only if it was confirmed, and where it is
//! consumed, acknowledged.

mod backlog;
mod cold;
mod disk;
mod flow;
mod reclaim;
mod restart;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::load::{self, Broker, number};
use super::{Lab, PeerName};
use crate::footprint::peer::Kind;

pub(super) const NAMES: [&str; 6] = [
    "durable, confirms and acknowledgements, 16 B",
    "durable, confirms and acknowledgements, 1 KiB",
    "restart with 1,000,000 persistent messages in 1,000 queues",
    "durable backlog of 5,000,000 x 1 KiB",
    "one old message while millions pass",
    "cold drain beside a ping-pong",
];

/// For the output of a generator that has ended.
const ENDED_TIME_MAX: Duration = Duration::from_secs(10);

/// Said above the table of the page.
const INTRODUCTION: &str = "Durable queues and persistent messages. **Which of them sync:** Leveret's confirm comes after `fdatasync` of the \
journal that has the message. RabbitMQ 3.10.8's classic queue syncs too: looked at with `strace`, \
60 persistent messages of 1 KiB published one after the other, each once the one before was confirmed, made it `fsync` its journal 60 times. Both write to the same disk in the same run; the disk's own \
`fdatasync` is that of 4 KiB appended to a file beside their folders. Latency of confirms is from when a publish was handed to the \
socket until its `basic.ack` came. Rows with fewer messages for RabbitMQ say so.\n\n";

/// One measurement, what was required, and whether it was kept.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) leveret: String,
    /// Empty without that peer.
    pub(super) rabbitmq: String,
    pub(super) required: String,
    pub(super) holds: bool,
}

/// What a measurement makes of a line; its name is known already.
struct Found {
    leveret: String,
    rabbitmq: Option<String>,
    required: String,
    holds: bool,
}

type Measurement = fn(&Lab<'_>) -> Result<Found>;

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Line>> {
    let measurements: [Measurement; 6] =
        [flow::small, flow::large, restart::measure, backlog::measure, reclaim::measure, cold::measure];
    let wanted: Vec<_> = NAMES.into_iter().zip(measurements).filter(|(name, _)| lab.wants(name)).collect();
    if !wanted.is_empty() {
        println!("{}", disk::check_room(lab)?);
    }
    let mut lines = Vec::new();
    for (name, measurement) in wanted {
        let Found { leveret, rabbitmq, required, holds } = measurement(lab).context(name)?;
        let rabbitmq = rabbitmq.unwrap_or_default();
        println!("{name}: leveret {leveret}; rabbitmq {rabbitmq}");
        lines.push(Line { name, leveret, rabbitmq, required, holds });
    }
    Ok(lines)
}

/// The section of the page.
pub(super) fn section(lines: &[Line]) -> Result<String> {
    let mut section = String::from("\n## What lasts\n\n");
    section.push_str(INTRODUCTION);
    section.push_str("| | leveret | RabbitMQ | required | |\n|---|---|---|---|---|\n");
    for Line { name, leveret, rabbitmq, required, holds } in lines {
        let rabbitmq = if rabbitmq.is_empty() { "–" } else { rabbitmq };
        let verdict = if *holds { "kept" } else { "**not kept**" };
        writeln!(section, "| {name} | {leveret} | {rabbitmq} | {required} | {verdict} |")?;
    }
    Ok(section)
}

/// A broker whose folder was empty.
struct Fresh {
    broker: Broker,
    folder: PathBuf,
}

impl Fresh {
    fn leveret(lab: &Lab<'_>) -> Result<Self> {
        Self::start(lab, &Kind::Leveret(lab.binary))
    }

    /// If it is among the peers.
    fn rabbitmq(lab: &Lab<'_>) -> Result<Option<Self>> {
        lab.has(PeerName::Rabbitmq).then(|| Self::start(lab, &Kind::StockRabbitMq)).transpose()
    }

    fn start(lab: &Lab<'_>, kind: &Kind<'_>) -> Result<Self> {
        let name = format!("durable-{}", kind.name());
        Ok(Self { broker: lab.start(kind, &name)?, folder: lab.folder.join(name) })
    }

    /// Stops the broker and removes what it wrote.
    fn end(self) -> Result<()> {
        self.broker.stop()?;
        let folder = self.folder;
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
    }
}

/// Runs the load generator; an error unless all it was to do was done, and checked.
fn load(lab: &Lab<'_>, broker: &Broker, flags: &str, messages: Option<u64>) -> Result<Value> {
    checked(load::perf(lab, broker, flags, messages)?)
}

/// Runs the load generator as `load` does, and again and again what is to be seen meanwhile.
fn load_beside(
    lab: &Lab<'_>,
    broker: &Broker,
    flags: &str,
    messages: Option<u64>,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<Value> {
    let mut generator = lab.supervisor.spawn(load::program(lab, broker, flags, messages), lab.folder)?;
    while generator.has_ended()?.is_none() {
        meanwhile()?;
        lab.supervisor.interrupt().check()?;
    }
    generator.succeed(ENDED_TIME_MAX)?;
    checked(serde_json::from_str(&generator.stdout.all().concat()).context("the summary is no JSON")?)
}

fn checked(summary: Value) -> Result<Value> {
    ensure!(summary["counts"] == true, "the run does not count: {summary}");
    ensure!(summary["check"]["holds"] == true, "the check failed: {summary}");
    Ok(summary)
}

/// That share of `messages` which was asked for.
fn scaled(lab: &Lab<'_>, messages: u64) -> u64 {
    (messages * u64::from(lab.options.durable_percent) / 100).max(1)
}

fn rate(summary: &Value, what: &str) -> Result<f64> {
    number(summary, &format!("/{what}/per_second"))
}

fn mib(octets: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown without digits")]
    let mib = octets as f64 / f64::from(1 << 20);
    format!("{mib:.0} MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_says_who_syncs_and_what_was_not_kept() {
        let line = |name, rabbitmq: &str, holds| Line {
            name,
            leveret: "1 s".to_owned(),
            rabbitmq: rabbitmq.to_owned(),
            required: "2 s".to_owned(),
            holds,
        };
        let section = section(&[line("one", "3 s", true), line("other", "", false)]).unwrap();
        assert!(section.contains("after `fdatasync`") && section.contains("classic queue syncs too"));
        assert!(section.contains("| one | 1 s | 3 s | 2 s | kept |\n"));
        assert!(section.ends_with("| other | 1 s | – | 2 s | **not kept** |\n"));
    }
}
