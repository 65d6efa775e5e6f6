//! The summary for programs: one JSON object.
//!
//! Invariant: a field is always there; what was not measured is null.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{
    outcome::{Ending, Outcome, Saturated, Time, ratio},
    report::per_second,
    topology::Took,
};

pub(super) fn summary(outcome: &Outcome) -> Value {
    let flow = |count| json!({ "count": count, "per_second": per_second(count, outcome.time) });
    let counts = &outcome.counts;
    json!({
        "run": format!("{:08x}", outcome.run),
        "broker": outcome.broker_name,
        "seconds": outcome.time.as_secs_f64(),
        "ended": ended(&outcome.ending),
        "fault": match &outcome.ending { Ending::Failed(fault) => Some(fault.to_string()), _ => None },
        "setup": setup(outcome),
        "published": flow(counts.published),
        "confirmed": outcome.has_confirms.then(|| flow(counts.confirmed)),
        "consumed": flow(counts.consumed),
        "refused": counts.refused,
        "returned": counts.returned,
        "cancelled": counts.cancelled,
        "blocked": counts.blocked,
        "copies": outcome.copies,
        "consumed_share": outcome.consumed_share(),
        "counts": outcome.counts(),
        "rate": outcome.asked_rate.map(|asked| json!({ "asked": asked, "behind": outcome.behind })),
        "latency_microseconds": latency(outcome.latency.as_ref()),
        "confirm_latency_microseconds": latency(outcome.confirm_latency.as_ref()),
        "check": check(outcome),
        "broker_process": broker(outcome),
        "generator": {
            "cores": outcome.cores(outcome.own_processor),
            "cpu_seconds": outcome.own_processor.as_secs_f64(),
            "cpu_microseconds_per_message": micros_each(outcome.own_processor, outcome.messages()),
            "producing": spent(outcome, &outcome.producing),
            "consuming": spent(outcome, &outcome.consuming),
        },
        "reads": {
            "count": counts.reads,
            "octets": counts.read_octets,
            "messages_per_read": (counts.reads > 0).then(|| ratio(counts.consumed, counts.reads)),
        },
        "saturated": match outcome.saturated() {
            Saturated::Nobody => "nobody",
            Saturated::Broker => "broker",
            Saturated::Generator => "generator",
            Saturated::Machine => "machine",
        },
    })
}

fn ended(ending: &Ending) -> &'static str {
    match ending {
        Ending::Time => "time",
        Ending::Complete => "complete",
        Ending::Silence => "silence",
        Ending::Cancelled => "cancelled",
        Ending::Interrupted => "interrupted",
        Ending::Failed(_) => "failed",
    }
}

fn setup(outcome: &Outcome) -> Value {
    let took = |took: Took| {
        json!({
            "count": took.count,
            "seconds": took.time.as_secs_f64(),
            "per_second": per_second(took.count, took.time),
        })
    };
    let setup = &outcome.setup;
    json!({
        "connections": took(setup.connections),
        "queues": took(setup.queues),
        "bindings": took(setup.bindings),
        "consumers": took(setup.consumers),
    })
}

fn latency(latency: Option<&Histogram<u64>>) -> Option<Value> {
    let latency = latency.filter(|latency| !latency.is_empty())?;
    let at = |quantile| ratio(latency.value_at_quantile(quantile), 10);
    Some(json!({
        "count": latency.len(),
        "p50": at(0.5),
        "p95": at(0.95),
        "p99": at(0.99),
        "p99_9": at(0.999),
        "max": ratio(latency.max(), 10),
    }))
}

fn check(outcome: &Outcome) -> Value {
    let findings = &outcome.findings;
    json!({
        "holds": outcome.check_holds(),
        "checked": findings.checked,
        "unchecked": findings.unchecked,
        "of_other_runs": findings.of_other_runs,
        "gaps": findings.gaps,
        "repeats": findings.repeats,
        "out_of_order": findings.out_of_order,
        "redelivered": findings.redelivered,
        "missing": outcome.missing,
    })
}

fn broker(outcome: &Outcome) -> Option<Value> {
    let (broker, processor) = (outcome.broker?, outcome.broker_processor()?);
    Some(json!({
        "cores": outcome.cores(processor),
        "cpu_seconds": processor.as_secs_f64(),
        "cpu_microseconds_per_message": micros_each(processor, outcome.messages()),
        "peak_octets": broker.ended.peak_octets,
        "resident_octets": {
            "before_connections": broker.before_connections.resident_octets,
            "began": broker.began.resident_octets,
            "ended": broker.ended.resident_octets,
        },
    }))
}

fn spent(outcome: &Outcome, time: &Time) -> Option<Value> {
    let share = |spent| outcome.share(time, spent);
    let Time { threads, spent } = time;
    (*threads > 0).then(|| {
        json!({
            "threads": threads,
            "busy": share(spent.processor),
            "waited_for_socket": share(spent.on_socket),
            "waited_for_confirms": share(spent.on_confirms),
            "waited_while_blocked": share(spent.on_blocked),
            "waited_otherwise": share(spent.idle),
        })
    })
}

fn micros_each(time: Duration, messages: u64) -> Option<f64> {
    (messages > 0).then(|| time.as_secs_f64() * 1e6 / ratio(messages, 1))
}
