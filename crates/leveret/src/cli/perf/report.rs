//! The rates while it runs, one line a second, and the summary for people.
//!
//! Invariant: what was not measured is said so or left out, never shown as zero.

use std::{fmt::Write as _, time::Duration};

use hdrhistogram::Histogram;

use super::{
    outcome::{Ending, Outcome, Saturated, Time, ratio},
    tally::Counts,
    topology::Took,
};

/// One line of rates.
pub(super) fn live(seconds: f64, time: Duration, counts: &Counts) -> String {
    let rate = |count| grouped(per_second(count, time));
    let mut line = format!("{seconds:6.1} s");
    for (count, what) in [
        (counts.published, "published"),
        (counts.confirmed, "confirmed"),
        (counts.consumed, "consumed"),
        (counts.refused, "refused"),
        (counts.returned, "returned"),
    ] {
        if count > 0 || what == "published" || what == "consumed" {
            let _ = write!(line, "  {what} {}/s", rate(count));
        }
    }
    if counts.blocked > 0 {
        line += "  the broker says it is blocked";
    }
    line
}

pub(super) fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("run", run(outcome)),
        ("made ready", setup(outcome)),
        ("published", outcome.has_producers.then(|| flow(outcome, outcome.counts.published))),
        ("confirmed", outcome.has_confirms.then(|| flow(outcome, outcome.counts.confirmed))),
        ("consumed", outcome.has_consumers.then(|| flow(outcome, outcome.counts.consumed))),
        ("rate", rate(outcome)),
        ("not taken", not_taken(&outcome.counts)),
        ("latency", latency(outcome)),
        ("confirms", quantiles(outcome.confirm_latency.as_ref())),
        ("check", outcome.has_consumers.then(|| check(outcome))),
        ("counts", Some(counts(outcome))),
        ("broker", broker(outcome)),
        ("generator", Some(generator(outcome))),
        ("producers", outcome.has_producers.then(|| waits(outcome, &outcome.producing))),
        ("consumers", outcome.has_consumers.then(|| waits(outcome, &outcome.consuming))),
        ("reads", reads(outcome)),
        ("saturated", Some(saturated(outcome))),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:>10}  {value}");
        }
    }
    text
}

fn run(outcome: &Outcome) -> Option<String> {
    let ending = match &outcome.ending {
        Ending::Time => "its time was over",
        Ending::Complete => "everything came",
        Ending::Silence => "nothing came any more",
        Ending::Cancelled => "the broker ended all consumers",
        Ending::Interrupted => "interrupted",
        Ending::Failed(_) => "broken off",
    };
    let (seconds, run) = (outcome.time.as_secs_f64(), outcome.run);
    Some(format!("{run:08x} on {}, {seconds:.3} s; {ending}", outcome.broker_name))
}

fn setup(outcome: &Outcome) -> Option<String> {
    let setup = &outcome.setup;
    let parts: Vec<String> = [
        (setup.connections, "connections"),
        (setup.queues, "queues"),
        (setup.bindings, "bindings"),
        (setup.consumers, "consumers"),
    ]
    .into_iter()
    .filter(|(took, _)| took.count > 0)
    .map(|(took, what)| took_text(took, what))
    .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn took_text(took: Took, what: &str) -> String {
    let rate = grouped(per_second(took.count, took.time));
    format!("{} {what} in {:.3} s ({rate}/s)", grouped_count(took.count), took.time.as_secs_f64())
}

fn flow(outcome: &Outcome, count: u64) -> String {
    format!("{}, {}/s", grouped_count(count), grouped(per_second(count, outcome.time)))
}

fn rate(outcome: &Outcome) -> Option<String> {
    let asked = outcome.asked_rate?;
    Some(format!("{asked}/s asked for; {} messages behind it at the end", grouped_count(outcome.behind)))
}

fn not_taken(counts: &Counts) -> Option<String> {
    let parts: Vec<String> = [
        (counts.refused, "refused by the broker"),
        (counts.returned, "returned"),
        (counts.cancelled, "consumers ended by the broker"),
        (counts.blocked, "times blocked"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{} {what}", grouped_count(count)))
    .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn latency(outcome: &Outcome) -> Option<String> {
    let quantiles = quantiles(outcome.latency.as_ref())?;
    let from = if outcome.asked_rate.is_some() { ", from when each message was due" } else { "" };
    Some(quantiles + from)
}

fn quantiles(latency: Option<&Histogram<u64>>) -> Option<String> {
    let latency = latency.filter(|latency| !latency.is_empty())?;
    let at = |quantile| micros(latency.value_at_quantile(quantile));
    Some(format!(
        "p50 {}, p95 {}, p99 {}, p99.9 {}, max {} µs",
        at(0.5),
        at(0.95),
        at(0.99),
        at(0.999),
        micros(latency.max()),
    ))
}

fn check(outcome: &Outcome) -> String {
    let findings = &outcome.findings;
    if !outcome.is_stamped {
        return "nothing is checked or timed: bodies below 16 octets have no room for a number".to_owned();
    }
    let mut text = format!(
        "{}: {} gaps, {} repeats, {} out of order, {} redelivered in {} messages",
        if outcome.check_holds() { "holds" } else { "FAILED" },
        grouped_count(findings.gaps),
        grouped_count(findings.repeats),
        grouped_count(findings.out_of_order),
        grouped_count(findings.redelivered),
        grouped_count(findings.checked),
    );
    if findings.of_other_runs > 0 {
        let _ = write!(text, ", {} of them of other runs", grouped_count(findings.of_other_runs));
    }
    if findings.unchecked > 0 {
        let _ = write!(text, "; {} without a number", grouped_count(findings.unchecked));
    }
    match outcome.missing {
        Some(0) => {}
        Some(missing) => {
            let _ = write!(text, "; {} did not come", grouped_count(missing));
        }
        None => text += "; what was still on its way at the end is not looked at",
    }
    text
}

fn counts(outcome: &Outcome) -> String {
    let verdict = if outcome.counts() { "yes" } else { "NO" };
    match outcome.consumed_share() {
        Some(share) => {
            format!("{verdict}: {:.1} % of what was published was consumed by the end", share * 100.0)
        }
        None if outcome.messages() == 0 => format!("{verdict}: no message was to flow, or none did"),
        None => verdict.to_owned(),
    }
}

fn broker(outcome: &Outcome) -> Option<String> {
    let (broker, processor) = (outcome.broker?, outcome.broker_processor()?);
    let mut text = format!("{:.2} cores", outcome.cores(processor));
    if let Some(each) = micros_each(processor, outcome.messages()) {
        let _ = write!(text, ", {each} µs a message {}", consumed_or_published(outcome));
    }
    let _ = write!(text, ", at most {:.1} MiB of memory", mib(broker.ended.peak_octets));
    let connections = outcome.setup.connections.count;
    if outcome.idle_connections > 0 && connections > 0 {
        let octets = broker.began.resident_octets.saturating_sub(broker.before_connections.resident_octets);
        let _ = write!(text, ", {:.1} KiB for each connection", ratio(octets, connections) / 1024.0);
    }
    Some(text)
}

fn generator(outcome: &Outcome) -> String {
    let mut text = format!("{:.2} cores", outcome.cores(outcome.own_processor));
    if let Some(each) = micros_each(outcome.own_processor, outcome.messages()) {
        let _ = write!(text, ", {each} µs a message {}", consumed_or_published(outcome));
    }
    if let Some(broker) = outcome.broker_processor().filter(|broker| !broker.is_zero()) {
        let share = outcome.own_processor.as_secs_f64() / broker.as_secs_f64();
        let _ = write!(text, ", {share:.2} of the broker's");
    }
    text
}

fn consumed_or_published(outcome: &Outcome) -> &'static str {
    if outcome.has_consumers { "consumed" } else { "published" }
}

fn waits(outcome: &Outcome, time: &Time) -> String {
    let percent = |spent| outcome.share(time, spent) * 100.0;
    let mut text = format!(
        "{} thread{}, {:.0} % busy",
        time.threads,
        if time.threads == 1 { "" } else { "s" },
        percent(time.spent.processor)
    );
    for (spent, why) in [
        (time.spent.on_socket, "for the socket"),
        (time.spent.on_confirms, "for confirms"),
        (time.spent.on_blocked, "because the broker is blocked"),
        (time.spent.idle, "for something to do"),
    ] {
        if !spent.is_zero() {
            let _ = write!(text, ", waited {:.0} % {why}", percent(spent));
        }
    }
    text
}

fn reads(outcome: &Outcome) -> Option<String> {
    let counts = &outcome.counts;
    let brought = |what, count| format!("{:.1} {what} a read", ratio(count, counts.reads));
    let parts: Vec<String> = [("messages", counts.consumed), ("confirms", counts.confirmed)]
        .into_iter()
        .filter(|(_, count)| *count > 0 && counts.reads > 0)
        .map(|(what, count)| brought(what, count))
        .collect();
    let octets = grouped(ratio(counts.read_octets, counts.reads.max(1)));
    (!parts.is_empty()).then(|| format!("{}, {octets} octets", parts.join(", ")))
}

fn saturated(outcome: &Outcome) -> String {
    match outcome.saturated() {
        Saturated::Nobody => "nobody",
        Saturated::Broker => "the broker",
        Saturated::Generator => "the generator: its thread is busy, try --threads",
        Saturated::Machine => "the machine: broker and generator together use all processors",
    }
    .to_owned()
}

#[allow(clippy::cast_precision_loss, reason = "shown with a few digits")]
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// Ticks as microseconds.
fn micros(ticks: u64) -> String {
    format!("{:.1}", ratio(ticks, 10))
}

fn micros_each(time: Duration, messages: u64) -> Option<String> {
    (messages > 0).then(|| format!("{:.3}", time.as_secs_f64() * 1e6 / ratio(messages, 1)))
}

fn mib(octets: u64) -> f64 {
    ratio(octets, 1 << 20)
}

fn grouped(rate: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is from 0 on")]
    grouped_count(rate.round() as u64)
}

/// A number with a comma between thousands.
fn grouped_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_kept_apart() {
        for (count, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped_count(count), shown);
        }
    }

    #[test]
    fn a_line_of_rates_shows_what_there_is() {
        let counts = Counts { published: 3000, consumed: 2000, returned: 1, ..Counts::default() };
        let line = live(1.5, Duration::from_secs(1), &counts);
        assert_eq!(line, "   1.5 s  published 3,000/s  consumed 2,000/s  returned 1/s");
    }
}
