//! A producer with confirms and a consumer with acknowledgements, on one durable queue.
//!
//! Invariant: the disk's own time to sync is taken before each run of a broker, in the same folder.

use anyhow::Result;

use super::super::Lab;
use super::super::growth::middle;
use super::super::load::{Broker, number};
use super::disk::{self, SyncTimes};
use super::{Found, Fresh, load, rate, scaled};

/// A confirm may take this many times the disk's time to sync, since a message may come just after a sync
/// began, and the time below for the way there and back.
const SYNC_TIMES_GOAL: f64 = 2.0;
const WAY_MICROS_GOAL: f64 = 5000.0;

/// What is carried and what it may cost.
struct Shape {
    body_octets: u32,
    /// For leveret and for RabbitMQ.
    messages: [u64; 2],
    /// Processor time a message that is required, and the goal, where RabbitMQ is as fast as it was.
    micros: [f64; 2],
    /// How many times less than RabbitMQ in the same run is required.
    times_less: f64,
}

const SMALL: Shape =
    Shape { body_octets: 16, messages: [1_500_000, 60_000], micros: [1.4, 0.9], times_less: 29.0 };
const LARGE: Shape =
    Shape { body_octets: 1024, messages: [600_000, 50_000], micros: [3.5, 2.3], times_less: 20.0 };

pub(super) fn small(lab: &Lab<'_>) -> Result<Found> {
    measure(lab, &SMALL)
}

pub(super) fn large(lab: &Lab<'_>) -> Result<Found> {
    measure(lab, &LARGE)
}

/// What one run showed, and the disk before it.
#[derive(Clone, Copy, Debug)]
struct Run {
    micros: f64,
    per_second: f64,
    p50_micros: f64,
    p99_micros: f64,
    disk: SyncTimes,
}

fn measure(lab: &Lab<'_>, shape: &Shape) -> Result<Found> {
    let leveret = Fresh::leveret(lab)?;
    let rabbitmq = Fresh::rabbitmq(lab)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..lab.options.runs {
        ours.push(run(lab, &leveret.broker, shape)?);
        println!("leveret: {}", said(&ours[ours.len() - 1..]));
        if let Some(rabbitmq) = &rabbitmq {
            theirs.push(run(lab, &rabbitmq.broker, shape)?);
            println!("rabbitmq: {}", said(&theirs[theirs.len() - 1..]));
        }
    }
    rabbitmq.map_or(Ok(()), Fresh::end)?;
    leveret.end()?;
    Ok(judged(shape, &ours, &theirs))
}

fn run(lab: &Lab<'_>, broker: &Broker, shape: &Shape) -> Result<Run> {
    let disk = disk::sync_times(lab.folder)?;
    let flags = format!("-f persistent -c 1000 -q 1000 -s {} -u durable --delete", shape.body_octets);
    let [ours, theirs] = shape.messages;
    let messages = scaled(lab, if broker.is_leveret { ours } else { theirs });
    let summary = load(lab, broker, &flags, Some(messages))?;
    Ok(Run {
        micros: number(&summary, "/broker_process/cpu_microseconds_per_message")?,
        per_second: rate(&summary, "consumed")?,
        p50_micros: number(&summary, "/confirm_latency_microseconds/p50")?,
        p99_micros: number(&summary, "/confirm_latency_microseconds/p99")?,
        disk,
    })
}

fn of(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    middle(runs.iter().map(figure).collect())
}

/// Medians in words.
fn said(runs: &[Run]) -> String {
    let of = |figure: fn(&Run) -> f64| of(runs, figure);
    format!(
        "{:.2} µs a message, {:.0} a second, confirms p50 {:.1} ms, p99 {:.1} ms; the disk's `fdatasync` p50 {:.1} ms, p99 {:.1} ms",
        of(|run| run.micros),
        of(|run| run.per_second),
        of(|run| run.p50_micros) / 1000.0,
        of(|run| run.p99_micros) / 1000.0,
        of(|run| run.disk.p50_micros) / 1000.0,
        of(|run| run.disk.p99_micros) / 1000.0
    )
}

/// Judges the processor time; beside RabbitMQ by how many times less it is. Goals are told and judge nothing.
fn judged(shape: &Shape, ours: &[Run], theirs: &[Run]) -> Found {
    let [micros_max, micros_goal] = shape.micros;
    let micros = of(ours, |run| run.micros);
    let times = (!theirs.is_empty()).then(|| of(theirs, |run| run.micros) / micros);
    let p99_goal = SYNC_TIMES_GOAL.mul_add(of(ours, |run| run.disk.p99_micros), WAY_MICROS_GOAL);
    let reached = |is_reached: bool| if is_reached { "reached" } else { "not reached" };
    let holds = times.map_or(micros <= micros_max, |times| times >= shape.times_less);
    let mut leveret = said(ours);
    if let Some(times) = times {
        leveret += &format!("; {times:.1} times less than RabbitMQ");
    }
    let required = format!(
        "{} times less than RabbitMQ ({micros_max} µs where it takes {:.0}); goals: {micros_goal} µs ({}), confirms p99 within \
         2 x `fdatasync`'s + 5 ms = {:.1} ms ({})",
        shape.times_less,
        micros_max * shape.times_less,
        reached(micros <= micros_goal),
        p99_goal / 1000.0,
        reached(of(ours, |run| run.p99_micros) <= p99_goal)
    );
    Found { leveret, rabbitmq: (!theirs.is_empty()).then(|| said(theirs)), required, holds }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(micros: &[f64], p99_micros: f64) -> Vec<Run> {
        let disk = SyncTimes { p50_micros: 900.0, p99_micros: 3000.0 };
        let run = |micros: &f64| Run { micros: *micros, per_second: 5e5, p50_micros: 2e3, p99_micros, disk };
        micros.iter().map(run).collect()
    }

    #[test]
    fn medians_are_judged_beside_rabbitmq_and_alone() {
        let holds = |ours: &[f64], theirs: &[f64]| judged(&SMALL, &runs(ours, 1.0), &runs(theirs, 1.0)).holds;
        assert!(holds(&[1.0, 9.0, 2.0], &[58.0]) && !holds(&[2.0], &[57.0]));
        assert!(holds(&[1.4], &[]) && !holds(&[1.5], &[]));
    }

    #[test]
    fn a_goal_is_told_and_judges_nothing() {
        let found = |p99| judged(&SMALL, &runs(&[1.0], p99), &runs(&[40.0], 1.0));
        let (slow, fast) = (found(11_001.0), found(11_000.0));
        assert!(slow.holds && slow.required.ends_with("= 11.0 ms (not reached)"), "{}", slow.required);
        assert!(
            fast.required.ends_with("= 11.0 ms (reached)") && fast.required.contains("0.9 µs (not reached)")
        );
    }
}
