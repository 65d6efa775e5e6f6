//! What came of a run, in numbers; how they are shown is `report`'s.
//!
//! Invariant: rates are of the time between the marks, the check of everything until the end.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{
    check::Findings,
    crew::Kind,
    fault::Fault,
    process::Usage,
    tally::Counts,
    topology::Took,
    worker::{Leavings, Spent},
};

/// Of what was published, what must have been consumed for a run to count.
const CONSUMED_SHARE_MIN: f64 = 0.95;
/// From this share of its processors on, something has no more to give.
const BUSY_MIN: f64 = 0.9;
/// From this share of their time on, producers are held up by the broker.
const HELD_UP_MIN: f64 = 0.1;

/// Why the time that is measured came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Time,
    /// Everything that was to be sent and taken was.
    Complete,
    /// What was still to come did not.
    Silence,
    /// The broker ended all consumers.
    Cancelled,
    Interrupted,
    Failed(Fault),
}

/// How long getting ready took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Setup {
    pub(super) queues: Took,
    pub(super) bindings: Took,
    pub(super) connections: Took,
    /// Queues of consumers' own, with bindings and consumers; or the consumers of shared queues.
    pub(super) consumers: Took,
}

/// The broker's process at three times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Broker {
    pub(super) before_connections: Usage,
    pub(super) began: Usage,
    pub(super) ended: Usage,
}

pub(super) struct Outcome {
    pub(super) run: u32,
    pub(super) broker_name: String,
    pub(super) ending: Ending,
    pub(super) setup: Setup,
    /// The time that is measured.
    pub(super) time: Duration,
    pub(super) counts: Counts,
    pub(super) copies: u64,
    pub(super) has_producers: bool,
    pub(super) has_consumers: bool,
    pub(super) has_confirms: bool,
    /// Messages a second of all producers together.
    pub(super) asked_rate: Option<f64>,
    pub(super) is_stamped: bool,
    pub(super) idle_connections: usize,
    /// Processor time of this process between the marks.
    pub(super) own_processor: Duration,
    pub(super) broker: Option<Broker>,
    pub(super) producing: Time,
    pub(super) consuming: Time,
    pub(super) behind: u64,
    pub(super) findings: Findings,
    /// Messages that should have come by the end and did not; `None` where they had not the time for it.
    pub(super) missing: Option<u64>,
    pub(super) latency: Option<Histogram<u64>>,
    pub(super) confirm_latency: Option<Histogram<u64>>,
}

/// How the threads of one kind spent the measured time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Time {
    pub(super) threads: u32,
    pub(super) spent: Spent,
}

/// Who had no more to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saturated {
    Nobody,
    Broker,
    Generator,
    /// Broker and generator together have all processors.
    Machine,
}

impl Outcome {
    /// Takes together what the workers left.
    pub(super) fn gather(&mut self, leavings: Vec<(Kind, Leavings)>) {
        for (kind, leavings) in leavings {
            if let [.., began, ended] = leavings.marks[..] {
                let time = match kind {
                    Kind::Producing => &mut self.producing,
                    Kind::Consuming => &mut self.consuming,
                    Kind::Idle => continue,
                };
                time.threads += 1;
                time.spent = time.spent.plus(ended.since(began));
            }
            self.behind += leavings.behind;
            self.findings.add(leavings.findings);
            add(&mut self.latency, leavings.latency);
            add(&mut self.confirm_latency, leavings.confirm_latency);
        }
    }

    /// Of what was published, the share that was consumed by the end of the measured time.
    pub(super) fn consumed_share(&self) -> Option<f64> {
        let expected = self.counts.published * self.copies;
        (self.has_consumers && expected > 0).then(|| ratio(self.counts.consumed, expected))
    }

    /// Whether the run says something about what the broker can keep up.
    pub(super) fn counts(&self) -> bool {
        let did_something = self.counts.published + self.counts.consumed > 0;
        let kept_up = self.consumed_share().is_none_or(|share| share >= CONSUMED_SHARE_MIN);
        did_something && kept_up && !matches!(self.ending, Ending::Failed(_) | Ending::Cancelled)
    }

    pub(super) fn check_holds(&self) -> bool {
        self.findings.is_clean() && self.missing.unwrap_or_default() == 0
    }

    /// What the broker's processor time is divided by: messages consumed, or published where nobody consumes.
    pub(super) fn messages(&self) -> u64 {
        if self.has_consumers { self.counts.consumed } else { self.counts.published }
    }

    pub(super) fn broker_processor(&self) -> Option<Duration> {
        self.broker.map(|broker| broker.ended.processor.saturating_sub(broker.began.processor))
    }

    /// Processors in use on average.
    pub(super) fn cores(&self, processor: Duration) -> f64 {
        if self.time.is_zero() { 0.0 } else { processor.as_secs_f64() / self.time.as_secs_f64() }
    }

    /// The share of a kind's time that is so spent.
    pub(super) fn share(&self, time: &Time, spent: Duration) -> f64 {
        self.cores(spent) / f64::from(time.threads.max(1))
    }

    pub(super) fn saturated(&self) -> Saturated {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        #[allow(clippy::cast_precision_loss, reason = "a few")]
        let processors = processors as f64;
        let broker = self.broker_processor().map_or(0.0, |processor| self.cores(processor));
        let busy = |time: &Time| self.share(time, time.spent.processor) >= BUSY_MIN;
        let held_up = self.producing.spent.on_socket + self.producing.spent.on_confirms;
        if self.messages() == 0 {
            Saturated::Nobody
        } else if broker + self.cores(self.own_processor) >= BUSY_MIN * processors {
            Saturated::Machine
        } else if busy(&self.producing) || busy(&self.consuming) {
            Saturated::Generator
        } else if self.asked_rate.is_some() && self.behind == 0 {
            Saturated::Nobody
        } else if self.share(&self.producing, held_up) >= HELD_UP_MIN || !self.has_producers {
            Saturated::Broker
        } else {
            Saturated::Nobody
        }
    }
}

fn add(all: &mut Option<Histogram<u64>>, one: Histogram<u64>) {
    match all {
        Some(all) => all.add(&one).expect("all have the same bounds"),
        None => *all = Some(one),
    }
}

impl Spent {
    fn zip(self, other: Self, with: impl Fn(Duration, Duration) -> Duration) -> Self {
        Self {
            processor: with(self.processor, other.processor),
            on_socket: with(self.on_socket, other.on_socket),
            on_confirms: with(self.on_confirms, other.on_confirms),
            on_blocked: with(self.on_blocked, other.on_blocked),
            idle: with(self.idle, other.idle),
        }
    }

    fn plus(self, other: Self) -> Self {
        self.zip(other, |one, other| one + other)
    }

    fn since(self, earlier: Self) -> Self {
        self.zip(earlier, Duration::saturating_sub)
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown with a few digits")]
pub(super) fn ratio(of: u64, by: u64) -> f64 {
    of as f64 / by as f64
}
