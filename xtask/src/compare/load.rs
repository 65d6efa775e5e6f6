//! One run of `leveret perf` against a broker, and the figures in its summary.
//!
//! Invariant: figures come from a run whose check held and which counts.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use procfs::process::Process;
use rustix::process::Pid;
use serde_json::Value;

use super::Lab;
use super::scenario::{Measure, Scenario};
use crate::footprint::peer::{Ending, Peer};
use crate::footprint::usage;
use crate::interop::process::Program;

const RUN_TIME_MAX: Duration = Duration::from_secs(600);

/// A broker that is loaded.
pub(super) struct Broker {
    pub(super) peer: Peer,
    /// The process that does the work, where the one that was started only looks after it.
    pub(super) pid: Pid,
    pub(super) is_leveret: bool,
}

impl Broker {
    pub(super) fn new(peer: Peer, is_leveret: bool) -> Result<Self> {
        let pid = worker_of(peer.pid)?;
        Ok(Self { peer, pid, is_leveret })
    }

    pub(super) fn name(&self) -> &str {
        &self.peer.name
    }

    pub(super) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.peer.port)
    }

    pub(super) fn stop(self) -> Result<()> {
        self.peer.stop()
    }

    /// Ends it and starts it again with what it had; how long it took from then on until a client was served.
    pub(super) fn restart(&mut self, lab: &Lab<'_>, ending: Ending) -> Result<Duration> {
        self.peer.restart(lab.supervisor, ending)?;
        self.pid = worker_of(self.peer.pid)?;
        Ok(self.peer.start_up)
    }
}

/// Erlang's emulator among the processes that a script started, or the process itself.
fn worker_of(pid: Pid) -> Result<Pid> {
    let is_emulator = |process: &Process| process.stat().is_ok_and(|stat| stat.comm.starts_with("beam"));
    let emulator = usage::family(pid)?.into_iter().find(is_emulator).map(|process| process.pid);
    Ok(emulator.and_then(Pid::from_raw).unwrap_or(pid))
}

/// What one run showed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// The broker's processor time a message.
    pub(super) micros: f64,
    pub(super) per_second: f64,
    pub(super) p50_micros: f64,
    pub(super) p99_micros: f64,
    pub(super) octets_each: f64,
    pub(super) cores: f64,
    pub(super) seconds: f64,
    /// The generator's processor time, as a share of the broker's.
    pub(super) generator_share: f64,
    /// Whether the broker was not what held the run up.
    pub(super) is_held_up_elsewhere: bool,
}

pub(super) fn run(lab: &Lab<'_>, scenario: &Scenario, broker: &Broker) -> Result<Figures> {
    let messages = scenario.messages(broker.is_leveret);
    let context = || format!("{} on {}", scenario.name, broker.name());
    if let Some(flags) = scenario.before {
        let fills = flags.contains("-y 0 -s");
        perf(lab, broker, flags, messages.filter(|_| fills)).with_context(context)?;
    }
    let consumes_only = scenario.flags.starts_with("-x 0");
    let summary =
        perf(lab, broker, scenario.flags, messages.filter(|_| !consumes_only)).with_context(context)?;
    figures(scenario, &summary).with_context(context)
}

/// Runs the load generator to its end; its summary.
pub(super) fn perf(lab: &Lab<'_>, broker: &Broker, flags: &str, messages: Option<u64>) -> Result<Value> {
    let lines = lab.supervisor.run(program(lab, broker, flags, messages), lab.folder, RUN_TIME_MAX)?;
    serde_json::from_str(&lines.concat()).context("the summary is no JSON")
}

/// The load generator with these flags.
pub(super) fn program(lab: &Lab<'_>, broker: &Broker, flags: &str, messages: Option<u64>) -> Program {
    let pid = broker.pid.as_raw_nonzero().to_string();
    let mut args: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    args.extend(messages.into_iter().flat_map(|count| ["-C".to_owned(), count.to_string()]));
    args.extend(["--drain-timeout", "120", "-o", "json", "--uri", &broker.url()].map(str::to_owned));
    args.extend(["--broker-pid".to_owned(), pid]);
    Program::new("leveret-perf", lab.binary).args(std::iter::once("perf".to_owned()).chain(args))
}

fn figures(scenario: &Scenario, summary: &Value) -> Result<Figures> {
    let number = |path: &str| number(summary, path);
    let cores = number("/broker_process/cores")?;
    Ok(match scenario.measure {
        Measure::Flow { .. } => {
            ensure!(summary["counts"] == true, "the run does not count: {summary}");
            let micros = number("/broker_process/cpu_microseconds_per_message")?;
            let consumed = number("/consumed/per_second")?;
            Figures {
                micros,
                per_second: if consumed > 0.0 { consumed } else { number("/published/per_second")? },
                cores,
                seconds: number("/seconds")?,
                generator_share: number("/generator/cpu_microseconds_per_message")? / micros,
                is_held_up_elsewhere: summary["saturated"] != "broker",
                ..Figures::default()
            }
        }
        Measure::Latency(_) => Figures {
            p50_micros: number("/latency_microseconds/p50")?,
            p99_micros: number("/latency_microseconds/p99")?,
            cores,
            ..Figures::default()
        },
        Measure::Idle => {
            let resident = |when| number(&format!("/broker_process/resident_octets/{when}"));
            let connections = number("/setup/connections/count")?;
            Figures {
                octets_each: (resident("began")? - resident("before_connections")?) / connections,
                per_second: number("/setup/connections/per_second")?,
                cores,
                ..Figures::default()
            }
        }
        Measure::Declaring => Figures {
            seconds: number("/setup/queues/seconds")? + number("/setup/bindings/seconds")?,
            ..Figures::default()
        },
    })
}

pub(super) fn number(summary: &Value, path: &str) -> Result<f64> {
    match summary.pointer(path).and_then(Value::as_f64) {
        Some(number) => Ok(number),
        None => bail!("the summary has no {path}: {summary}"),
    }
}
